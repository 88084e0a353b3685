import pytest

from gateway.core.revocation import EVER, LIFE_MS, SESSION_LIFE_MS, Revocation, of_session, of_user
from gateway.store.database import Database
from tests.fakes.clerk_events import NOW_MS, arrival, gone, membership, user
from tests.fakes.ending import ENDED, hearing, tell
from tests.fakes.upstream import Echo, ScriptedUpstream
from tests.store.rows import count, forget_all


def all_of(database: Database) -> list[Revocation]:
    return [each for _, each in database.revocations.since(0)]


def test_a_webhook_is_stored_with_what_it_ends(database: Database) -> None:
    database.put([
        arrival("msg_1", "session.ended", ENDED, received_at=NOW_MS + 5),
        arrival("msg_2", "user.updated", user(banned=True), at=NOW_MS - 7),
        arrival("msg_3", "user.updated", user("user_2")),
        arrival("msg_4", "organizationMembership.deleted", membership()),
    ])  # fmt: skip
    expected = {
        Revocation("user_1", "sess_1", None, EVER, NOW_MS + 5 + SESSION_LIFE_MS),
        Revocation("user_1", None, None, NOW_MS - 7, NOW_MS + LIFE_MS),
        Revocation("user_1", None, "org_1", NOW_MS, NOW_MS + LIFE_MS),
    }
    assert set(all_of(database)) == expected


def test_an_id_that_came_before_ends_nothing(database: Database) -> None:
    database.put([arrival("msg_1", "session.created", ENDED)])
    database.put([arrival("msg_1", "session.ended", ENDED)])
    assert all_of(database) == []


def test_a_webhook_the_database_refuses_ends_nothing(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(database.revocations, "add_in", fail)
    with pytest.raises(ZeroDivisionError):
        database.put([arrival("msg_1", "user.deleted", gone("user_1"))])
    assert database.get("msg_1") is None  # nor is it stored: both or neither
    assert database.directory.user("user_1") is None


def test_they_are_numbered_among_all_changes_and_read_in_pages(database: Database, url: str) -> None:
    database.put([arrival("msg_1", "user.updated", user(banned=True))])
    database.revocations.add([of_session(f"sess_{number}", now_ms=NOW_MS) for number in range(3)])
    other = Database(url)
    other.revocations.add([of_user("user_2", now_ms=NOW_MS)])
    other.close()
    numbers = [number for number, _ in database.revocations.since(0)]
    assert numbers == sorted(set(numbers))
    assert numbers[-1] == database.directory.last_change()
    (change,) = database.directory.changes(since=0, limit=9)
    assert change.number not in numbers
    first = database.revocations.since(0, limit=2)
    assert [each.session for _, each in first] == [None, "sess_0"]
    rest = database.revocations.since(first[-1][0])
    assert [each.session or each.user for _, each in rest] == ["sess_1", "sess_2", "user_2"]
    assert database.revocations.since(rest[-1][0]) == ()


def test_adding_none_takes_no_number(database: Database) -> None:
    had = database.directory.last_change()
    database.revocations.add([])
    assert database.directory.last_change() == had


@pytest.mark.parametrize(("after_ms", "left"), [(SESSION_LIFE_MS - 1, 2), (SESSION_LIFE_MS, 1), (LIFE_MS, 0)])
def test_they_are_deleted_once_they_are_void(database: Database, after_ms: int, left: int) -> None:
    database.revocations.add([of_session("sess_1", now_ms=NOW_MS), of_user("user_1", now_ms=NOW_MS)])
    forget_all(database, now=NOW_MS + after_ms)
    assert count(database, "gateway_revocations") == left


async def test_a_restart_forgets_nothing(url: str) -> None:
    """Of the same gateway on the same store; the first request it answers knows already."""
    Database(url, migrating=True).close()
    async with ScriptedUpstream(Echo()) as upstream:
        async with hearing(upstream.port, url) as running:
            token, other = running.token(), running.token(sid="sess_2")
            assert (await running.get("/x", token=token)).status == 200
            assert (await tell(running, "session.ended", ENDED)).status == 200
        async with hearing(upstream.port, url) as running:
            answer = await running.get("/x", token=token)
            assert (answer.status, answer.json["reason"]) == (401, "session-revoked")
            assert (await running.get("/x", token=other)).status == 200
