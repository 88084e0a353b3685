"""What one process remembers, and how it hears of the rest. From webhook to refusal: `tests/wire/test_sessions_ended.py`."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.core.model import Principal
from gateway.core.revocation import LIFE_MS, SESSION_LIFE_MS, Revocation, of_session, of_user
from gateway.errors import StoreDown
from gateway.store.database import Database
from gateway.store.sql import SqlStore
from gateway.web import revocations as module
from gateway.web.revocations import RevocationFeed, Revocations
from tests.fakes.gateway import Clock

NOW_MS = 1_000_000


class Told(list[tuple[str, dict[str, Any]]]):
    """What was logged."""

    def __call__(self, event: str, **fields: Any) -> None:
        self.append((event, fields))


class Memory(Revocations):
    """One with a clock of its own, and a list of whom it ended."""

    def __init__(self, most: int = 100) -> None:
        self.clock, self.told = Clock(NOW_MS / 1000), Told()
        super().__init__(now=self.clock, on_event=self.told, most=most)
        self.ended: list[Revocation] = []
        self.when_ended = self._end

    def _end(self, what: Revocation) -> int:
        self.ended.append(what)
        return 3


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


# --- from the store --------------------------------------------------------------------------------------------------


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'gateway.db'}"


@pytest.fixture
def elsewhere(url: str) -> Iterator[Database]:
    """The same database in another process."""
    opened = Database(url)
    yield opened
    opened.close()


@pytest.fixture
async def feed(url: str, elsewhere: Database, memory: Memory) -> AsyncIterator[RevocationFeed]:
    """A feed that brings what it has to when the test says so."""
    store = SqlStore(url, on_event=memory.told)
    await store.look()
    yield RevocationFeed(store, memory, on_event=memory.told)
    await store.close()


async def test_all_is_brought_and_then_what_is_new(
    feed: RevocationFeed, elsewhere: Database, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere.revocations.add([of_session(f"sess_{number}", now_ms=NOW_MS) for number in range(1500)])
    elsewhere.revocations.add([of_user("gone", now_ms=NOW_MS - LIFE_MS)])
    assert not feed.is_whole
    await feed.catch_up()
    assert feed.is_whole
    assert (len(memory), len(memory.ended)) == (100, 1500)  # as many as it keeps; what is void is nothing
    elsewhere.revocations.add([of_user("user_2", now_ms=NOW_MS)])
    await feed.catch_up()
    await feed.catch_up()
    assert (memory.is_revoked(who("user_2")), len(memory.ended)) == (True, 1501)


async def test_another_database_in_its_place_is_read_from_its_beginning(
    feed: RevocationFeed, elsewhere: Database, memory: Memory
) -> None:
    elsewhere.revocations.add([of_user(f"user_{number}", now_ms=NOW_MS) for number in range(9)])
    await feed.catch_up()
    elsewhere.write(lambda connection: connection.exec_driver_sql("DELETE FROM gateway_revocations"))
    elsewhere.write(lambda connection: connection.exec_driver_sql("UPDATE gateway_schema SET changes = 0"))
    feed._store._tell(StoreDown())
    with pytest.raises(StoreDown):
        await feed.catch_up()
    elsewhere.revocations.add([of_user("user_new", now_ms=NOW_MS)])
    await feed._store.look()
    await feed.catch_up()
    assert memory.is_revoked(who("user_new"))
    assert memory.is_revoked(who("user_1"))  # what is known stays known


class Busy(StoreDown):
    is_fault = False


async def test_it_follows_by_itself_whatever_happens(
    feed: RevocationFeed, elsewhere: Database, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "POLL_S", 0.01)
    faults = [ZeroDivisionError(), Busy()]
    read = feed._read

    def failing(database: Database) -> Any:
        if faults:
            raise faults.pop()
        return read(database)

    monkeypatch.setattr(feed, "_read", failing)
    feed.start()
    await asyncio.sleep(0)
    feed._store.looked.set()
    await feed.first(10)
    assert not feed.is_whole
    elsewhere.revocations.add([of_user("user_1", now_ms=NOW_MS)])
    while not memory.is_revoked(who()):
        await asyncio.sleep(0.01)
    await feed.close()
    assert [name for name, _ in memory.told] == [
        "store_up", "revocations_unknown", "revocations_failed", "revocations_known",
    ]  # fmt: skip


async def test_nobody_waits_long_for_it(feed: RevocationFeed) -> None:
    await feed.first(0.01)  # it has not begun
    assert not feed.is_whole
    await feed.close()


async def test_that_it_goes_on_without_is_said_until_all_is_known(feed: RevocationFeed, memory: Memory) -> None:
    memory.told.clear()
    await feed.first(0.01)
    ((event, fields),) = memory.told
    assert (event, fields["level"]) == ("revocations_unknown", "warning")
    assert "still waiting for the store" in fields["effect"]
    for _ in range(2):
        await feed.catch_up()
    assert [name for name, _ in memory.told] == ["revocations_unknown", "revocations_known"]


async def test_a_store_that_is_being_made_has_nothing_to_be_known(
    feed: RevocationFeed, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory.told.clear()
    monkeypatch.setattr(feed._store, "is_new", True)
    await feed.first(0.01)
    await feed.catch_up()
    assert memory.told == []
