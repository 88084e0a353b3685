from typing import Any

import pytest

from gateway.core.directory import Membership, Organization, Row, User, row_of
from gateway.core.model import Principal
from gateway.core.revocation import (
    APART_MS,
    EVER,
    LIFE_MS,
    SESSION_LIFE_MS,
    Revocation,
    fits,
    is_barred,
    is_issued_by,
    of_session,
    of_user,
    revocations_of,
    revocations_of_row,
)
from tests.fakes.clerk_events import NOW_MS, event, gone, membership, organization, user

LATER = NOW_MS + 60_000  # when it came
SESSION = {"id": "sess_1", "user_id": "user_1", "status": "ended", "user": user()}


def ended(kind: str, data: dict[str, Any], *, at: int = NOW_MS, now_ms: int = LATER) -> tuple[Revocation, ...]:
    told = event(kind, data, at=at)
    return revocations_of(told, row_of(told), now_ms=now_ms)


def of(
    user: str | None = None, session: str | None = None, org: str | None = None, before: int = NOW_MS
) -> tuple[Revocation, ...]:
    return (Revocation(user, session, org, before, LATER + LIFE_MS),)


@pytest.mark.parametrize("kind", ["session.ended", "session.removed", "session.revoked"])
def test_a_session_that_ended_is_refused_for_a_day_whatever_the_tokens_age(kind: str) -> None:
    assert ended(kind, SESSION) == (Revocation("user_1", "sess_1", None, EVER, LATER + SESSION_LIFE_MS),)
    assert ended(kind, {"id": "sess_1"})[0].user is None


@pytest.mark.parametrize(
    ("kind", "data", "expected"),
    [
        pytest.param("user.deleted", gone("user_1"), of("user_1"), id="deleted"),
        pytest.param("user.updated", user(banned=True), of("user_1"), id="banned"),
        pytest.param("user.updated", user(locked=True), of("user_1"), id="locked"),
        pytest.param("user.created", user(banned=True), of("user_1"), id="created-banned"),
        pytest.param("organizationMembership.deleted", membership(), of("user_1", org="org_1"), id="left"),
        pytest.param("organization.deleted", gone("org_1", "organization"), of(org="org_1"), id="organisation"),
        pytest.param("user.updated", user(), (), id="an-ordinary-update"),
        pytest.param("user.updated", user(banned="true", locked=1), (), id="no-booleans"),
        pytest.param("organizationMembership.updated", membership(), (), id="another-role"),
        pytest.param("organizationMembership.deleted", membership(user_id=""), (), id="nobody-left"),
        pytest.param("organizationMembership.deleted", membership(org_id=""), (), id="left-nothing"),
        pytest.param("organization.updated", organization(), (), id="organisation-renamed"),
        pytest.param("session.created", SESSION, (), id="began"),
        pytest.param("session.ended", {"user_id": "user_1"}, (), id="no-session"),
        pytest.param("user.deleted", {"deleted": True}, (), id="no-user"),
        pytest.param("session.forgotten", SESSION, (), id="unknown"),
    ],
)
def test_what_an_event_ends(kind: str, data: dict[str, Any], expected: tuple[Revocation, ...]) -> None:
    assert ended(kind, data) == expected


@pytest.mark.parametrize(
    ("at", "before"),
    [
        pytest.param(NOW_MS - 86_400_000, NOW_MS - 86_400_000, id="late"),
        pytest.param(0, LATER, id="unsaid"),
        pytest.param(LATER + APART_MS, LATER + APART_MS, id="clocks-apart"),
        pytest.param(LATER + APART_MS + 1, LATER + APART_MS, id="from-the-future"),
    ],
)
def test_the_events_own_time_counts(at: int, before: int) -> None:
    assert ended("user.deleted", gone("user_1"), at=at) == of("user_1", before=before)


def row(**members: Any) -> User:
    made = row_of(event("user.updated", user(**members)))
    assert isinstance(made, User)
    return made


def tombstone(kind: str, data: dict[str, Any]) -> Any:
    return row_of(event(f"{kind}.deleted", data))


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        pytest.param(None, row(banned=True), (), id="unknown-and-banned"),
        pytest.param(None, row(locked=True), (), id="unknown-and-locked"),
        pytest.param(None, row(), (), id="unknown"),
        pytest.param(row(), row(banned=True, updated_at=3000), of("user_1", before=LATER), id="banned-since"),
        pytest.param(row(), row(locked=True, updated_at=3000), of("user_1", before=LATER), id="locked-since"),
        pytest.param(row(banned=True), row(banned=True, updated_at=3000), (), id="banned-before"),
        pytest.param(row(banned=True), row(updated_at=3000), (), id="free-again"),
        pytest.param(row(locked=True), row(locked=True, banned=True, updated_at=3000), of("user_1", before=LATER),
                     id="locked-then-banned"),
        pytest.param(row(updated_at=3000), row(banned=True, updated_at=2000), (), id="older-than-what-is-known"),
        pytest.param(row(), tombstone("user", gone("user_1")), of("user_1", before=LATER), id="deleted"),
        pytest.param(tombstone("user", gone("user_1")), row(banned=True, updated_at=2**50), (), id="deleted-stays"),
    ],
)  # fmt: skip
def test_what_ended_between_two_states_of_a_user(old: User | None, new: User, expected: tuple[Revocation, ...]) -> None:
    assert revocations_of_row(old, new, now_ms=LATER) == expected


def test_what_ended_between_two_states_of_the_rest() -> None:
    org, member = row_of(event("organization.created", organization())), row_of(
        event("organizationMembership.created", membership())
    )  # fmt: skip
    assert isinstance(org, Organization)
    assert isinstance(member, Membership)
    left, bare = (tombstone("organizationMembership", data) for data in (membership(), gone("orgmem_1")))
    expected = of("user_1", org="org_1", before=LATER)
    assert revocations_of_row(member, left, now_ms=LATER) == expected
    assert revocations_of_row(member, bare, now_ms=LATER) == expected  # whose it was is known
    assert revocations_of_row(None, bare, now_ms=LATER) == ()
    assert revocations_of_row(None, member, now_ms=LATER) == ()
    over = tombstone("organization", gone("org_1", "organization"))
    assert revocations_of_row(org, over, now_ms=LATER) == of(org="org_1", before=LATER)


def test_an_operators_word() -> None:
    assert of_user("user_1", now_ms=LATER) == of("user_1", before=LATER)[0]
    assert of_session("sess_1", now_ms=LATER) == Revocation(None, "sess_1", None, EVER, LATER + SESSION_LIFE_MS)


def principal(issued_at: float = 0.0, **members: Any) -> Principal:
    return Principal("user_1", "session", {}, frozenset(), issued_at, issued_at + 60, **members)


@pytest.mark.parametrize(
    ("issued_at", "before", "refused"),
    [(100, 100_000, True), (100, 100_999, True), (101, 100_999, False), (100, 99_999, False), (2**50, EVER, False),
     (4e9, EVER, True)],
)  # fmt: skip
def test_issued_up_to_then_in_whole_seconds(issued_at: float, before: int, refused: bool) -> None:
    assert is_issued_by(before, principal(issued_at)) is refused


@pytest.mark.parametrize(
    ("asked", "fitting"),
    [
        ({}, True), ({"user": "user_1"}, True), ({"user": "user_2"}, False), ({"session": "sess_1"}, True),
        ({"session": "sess_2"}, False), ({"org": "org_1"}, True), ({"org": "org_2"}, False),
        ({"user": "user_1", "session": "sess_2"}, False), ({"user": "user_1", "org": "org_1"}, True),
    ],
)  # fmt: skip
def test_who_fits_all_that_is_given(asked: dict[str, str], fitting: bool) -> None:
    who = principal(user_id="user_1", session_id="sess_1", org_id="org_1")
    assert fits(who, **({"user": None, "session": None, "org": None} | asked)) is fitting


@pytest.mark.parametrize(
    ("known", "barred"),
    [(None, False), (User("u"), False), (User("u", locked=True), False), (User("u", banned=True), True),
     (User("u", deleted=True), True)],
)  # fmt: skip
def test_who_is_barred_by_the_directory(known: Row | None, barred: bool) -> None:
    assert known is None or isinstance(known, User)
    assert is_barred(known) is barred
