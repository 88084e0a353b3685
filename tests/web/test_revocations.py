"""What one process remembers, and how it hears of the rest. From webhook to refusal: `tests/wire/test_sessions_ended.py`."""

from typing import Any

import pytest

from gateway.core.model import Principal
from gateway.core.revocation import LIFE_MS, SESSION_LIFE_MS, Revocation, of_session
from tests.fakes.revoked import NOW_MS, Memory


@pytest.fixture
def memory() -> Memory:
    return Memory()


def who(user: str | None = "user_1", session: str | None = "sess_1", org: str | None = None, at: float = 900.0) -> Any:
    return Principal("s", "session", {}, frozenset(), at, at + 60, user_id=user, session_id=session, org_id=org)


def what(user: str | None = None, org: str | None = None, *, before: int = NOW_MS, life: int = LIFE_MS) -> Revocation:
    return Revocation(user, None, org, before, NOW_MS + life)


SESSION = of_session("sess_1", user="user_1", now_ms=NOW_MS)


@pytest.mark.parametrize(
    ("revocation", "principal", "refused"),
    [
        pytest.param(SESSION, who(), True, id="the-session"),
        pytest.param(SESSION, who(at=2e9), True, id="the-session-whatever-its-age"),
        pytest.param(SESSION, who(session="sess_2"), False, id="another-session"),
        pytest.param(SESSION, who(session=None), False, id="a-template"),
        pytest.param(what("user_1"), who(session=None), True, id="the-user"),
        pytest.param(what("user_1"), who(at=1000), True, id="the-users-of-the-same-second"),
        pytest.param(what("user_1"), who(at=1001), False, id="the-users-later"),
        pytest.param(what("user_1"), who("user_2"), False, id="another-user"),
        pytest.param(what("user_1"), who(None, None), False, id="a-machine"),
        pytest.param(what("user_1", "org_1"), who(org="org_1"), True, id="the-membership"),
        pytest.param(what("user_1", "org_1"), who(org="org_2"), False, id="another-membership"),
        pytest.param(what("user_1", "org_1"), who(), False, id="no-organisation-active"),
        pytest.param(what("user_1", "org_1"), who("user_2", org="org_1"), False, id="another-member"),
        pytest.param(what("user_1", "org_1"), who(at=1001, org="org_1"), False, id="back-again"),
        pytest.param(what(org="org_1"), who("user_2", org="org_1"), True, id="the-organisation"),
        pytest.param(what(org="org_1"), who(), False, id="not-the-organisation"),
        pytest.param(what(), who(None, None), False, id="nothing-said"),
    ],
)
def test_who_is_refused(memory: Memory, revocation: Revocation, principal: Principal, refused: bool) -> None:
    assert not memory.is_revoked(principal)
    memory.add(revocation)
    assert memory.is_revoked(principal) is refused


def test_what_is_new_is_told_and_what_is_known_is_not(memory: Memory) -> None:
    assert memory.add(what("user_1")) == 3
    assert memory.add(what("user_1")) == memory.add(what("user_1", before=NOW_MS - 1)) == 0
    assert memory.add(what("user_1", before=NOW_MS + 1)) == memory.add(what("user_1", life=LIFE_MS + 1)) == 3
    assert memory.is_revoked(who(at=1000.001))  # what came last has not taken back what was said before
    memory.take([what(org="org_1"), what("user_1"), what("user_1", "org_1")])
    assert [(each.user, each.org) for each in memory.ended[3:]] == [(None, "org_1"), ("user_1", "org_1")]


def test_what_is_void_refuses_nobody_and_is_forgotten(memory: Memory) -> None:
    memory.take([SESSION, what("user_1"), what("user_1", "org_1"), what(org="org_1")])
    memory.clock.seconds += SESSION_LIFE_MS / 1000 - 0.5
    memory.sweep()
    assert len(memory) == 4
    memory.clock.seconds += 0.5
    assert not memory.is_revoked(who("user_2"))
    assert memory.is_revoked(who())  # by the user's
    memory.sweep()
    assert len(memory) == 3
    memory.clock.seconds = (NOW_MS + LIFE_MS) / 1000
    assert not memory.is_revoked(who(org="org_1"))
    memory.sweep()
    assert len(memory) == 0
    assert memory.add(SESSION) == 0
    assert len(memory) == 0


def test_it_is_bounded_and_the_oldest_go_first_with_one_word_about_it() -> None:
    memory = Memory(most=2)
    for number in range(4):
        memory.add(of_session(f"sess_{number}", now_ms=NOW_MS + number))
        memory.add(what(f"user_{number}"))
        if number == 1:
            assert memory.told == []
            memory.add(of_session("sess_0", now_ms=NOW_MS + 10))  # becomes the youngest
    assert len(memory) == 4
    assert [memory.is_revoked(who(None, f"sess_{number}")) for number in range(4)] == [False, False, True, True]
    assert [name for name, _ in memory.told] == ["revocations_full"]
