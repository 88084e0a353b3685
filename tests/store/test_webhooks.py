"""The inbox as people look at it, and what they send again, on both databases."""

from dataclasses import replace

import pytest

from gateway.core.delivery import DEAD, DONE, WAITING
from gateway.store import webhooks
from gateway.store.base import Replayed, Settled
from gateway.store.database import Database
from gateway.store.deliveries import LEASE_MS
from tests.fakes.clerk_events import NOW_MS, arrival, gone, user
from tests.store.rows import forget_all
from tests.store.test_deliveries import API, claim, delivery, done, failed, ids, put, settle


def die(database: Database, *, at: int = NOW_MS) -> list[str]:
    claims = claim(database)
    settle(database, *(Settled(each, DEAD, at, 13, status=500) for each in claims))
    return ids(claims)


def test_lists_are_by_age_in_parts_and_without_payloads(database: Database) -> None:
    database.put(
        [arrival(f"msg_{number}", "user.created" if number % 2 else "x.y", {"id": "o"}) for number in range(5)]
    )
    first, following = database.webhooks.latest(limit=2)
    assert [kept.stored.svix_id for kept in first] == ["msg_4", "msg_3"]
    assert all(kept.has_payload and kept.stored.payload is None for kept in first)
    rest, end = database.webhooks.latest(before=following)
    assert ([kept.stored.svix_id for kept in rest], end) == (["msg_2", "msg_1", "msg_0"], None)


@pytest.mark.parametrize("asked", [{"kind": "user.created"}, {"state": WAITING}], ids=["type", "state"])
def test_a_list_of_some_looks_through_a_part_of_the_inbox(
    database: Database, monkeypatch: pytest.MonkeyPatch, asked: dict[str, str]
) -> None:
    monkeypatch.setattr(webhooks, "LOOKED_AT", 2)
    for number in range(7):
        kind, to = ("user.created", API) if number in (0, 4, 5) else ("x.y", ())
        database.put([replace(arrival(f"msg_{number}", kind, user(f"user_{number}")), upstreams=to)])
    before, parts = None, []
    while not parts or before is not None:
        found, before = database.webhooks.latest(before=before, limit=1, **asked)
        parts.append([kept.stored.svix_id for kept in found])
    assert parts == [["msg_5"], ["msg_4"], [], ["msg_0"]]


@pytest.mark.parametrize(
    ("kind", "found"),
    [
        ("user.created", ["a"]), ("user.*", ["b", "a"]), ("*", ["d", "c", "b", "a"]), ("User.*", ["d"]), ("user", []),
        ("user_.*", []), ("%", []),
    ],
)  # fmt: skip
def test_lists_by_type(database: Database, kind: str, found: list[str]) -> None:
    kinds = {"a": "user.created", "b": "user.updated", "c": "userx.created", "d": "User.created"}
    database.put([arrival(name, each, {}) for name, each in kinds.items()])
    assert [kept.stored.svix_id for kept in database.webhooks.latest(kind=kind)[0]] == found


def test_lists_by_the_state_of_a_delivery(database: Database) -> None:
    put(database, "msg_1", to=("api", "mail"))
    put(database, "msg_2", key="user_2")
    assert die(database) == ["msg_1", "msg_2"]
    put(database, "msg_3")
    for state, found in {DEAD: ["msg_2", "msg_1"], WAITING: ["msg_3", "msg_1"], DONE: []}.items():
        assert [kept.stored.svix_id for kept in database.webhooks.latest(state=state)[0]] == found
    both = database.webhooks.latest(state=DEAD)[0][1]
    assert [(each.upstream, each.state) for each in both.deliveries] == [("api", DEAD), ("mail", WAITING)]


def test_one_is_shown_with_its_payload(database: Database) -> None:
    put(database, "msg_1")
    kept = database.webhooks.show("msg_1")
    assert kept is not None
    assert kept.stored == database.get("msg_1")
    database.put([arrival("msg_2", "user.deleted", gone("user_1"))])
    erased = database.webhooks.show("msg_1")
    assert erased is not None
    assert not erased.has_payload
    assert database.webhooks.show("msg_3") is None


def test_the_dead_are_listed_with_their_types(database: Database) -> None:
    put(database, "msg_1")
    put(database, "msg_2", key="user_2")
    (first, second) = claim(database)
    settle(database, Settled(second, DEAD, NOW_MS, 13, status=500), Settled(first, DEAD, NOW_MS + 1, 13, error="no"))
    assert [(kind, each.svix_id, each.last_status, each.last_error) for kind, each in database.webhooks.dead()] == [
        ("user.updated", "msg_1", None, "no"), ("user.updated", "msg_2", 500, None),
    ]  # fmt: skip
    assert len(database.webhooks.dead(limit=1)) == 1


def test_what_is_replayed_has_all_its_attempts_before_it(database: Database) -> None:
    put(database, "msg_1", to=("api", "mail"))
    die(database)
    assert database.webhooks.replay("msg_1", API, now=NOW_MS + 9) == Replayed(True, True, API)
    again = delivery(database, "msg_1")
    assert (again.state, again.attempts, again.due_at, again.since) == (WAITING, 0, NOW_MS + 9, NOW_MS + 9)
    assert delivery(database, "msg_1", "mail").since == NOW_MS
    assert ids(claim(database, now=NOW_MS + 9)) == ["msg_1"]


def test_what_was_delivered_may_be_replayed_and_what_waits_is_due_at_once(database: Database) -> None:
    put(database, "msg_1")
    settle(database, *map(done, claim(database)))
    database.webhooks.replay("msg_1", API, now=NOW_MS)
    (claimed,) = claim(database)
    settle(database, failed(claimed, pause=1_000_000))
    assert claim(database) == []
    database.webhooks.replay("msg_1", API, now=NOW_MS)
    assert [each.attempts for each in claim(database)] == [0]


def test_an_upstream_that_came_later_may_be_sent_what_was_before_it(database: Database) -> None:
    put(database, "msg_1", to=())
    put(database, "msg_2", to=("new",))
    assert database.webhooks.replay("msg_1", ["new"], now=NOW_MS).upstreams == ("new",)
    assert ids(claim(database, to=("new",))) == ["msg_2"]  # of the same user, and waiting already
    assert delivery(database, "msg_1", "new").due_at is None


def test_what_is_under_way_is_not_begun_a_second_time_by_a_replay(database: Database) -> None:
    put(database, "msg_1")
    claim(database)
    database.webhooks.replay("msg_1", API, now=NOW_MS)
    assert claim(database) == []


@pytest.mark.parametrize("came_of_it", [DONE, DEAD, WAITING])
def test_what_is_replayed_during_an_attempt_is_delivered_once_that_is_over(database: Database, came_of_it: str) -> None:
    put(database, "msg_1", "msg_2")
    (claimed,) = claim(database)
    database.webhooks.replay("msg_1", API, now=NOW_MS)  # of the very moment in which it was stored
    due_at = NOW_MS + 36_000_000 if came_of_it == WAITING else None
    settle(database, Settled(claimed, came_of_it, NOW_MS, 13, due_at=due_at, status=500))
    (again,) = claim(database)
    assert (again.svix_id, again.attempts) == ("msg_1", 0)
    settle(database, done(again))
    assert delivery(database, "msg_1").state == DONE
    assert ids(claim(database)) == ["msg_2"]


def test_what_came_of_an_attempt_before_a_replay_ends_no_attempt_after_it(database: Database) -> None:
    put(database, "msg_1")
    (late,) = claim(database)
    database.webhooks.replay("msg_1", API, now=NOW_MS)
    later = NOW_MS + LEASE_MS
    (current,) = claim(database, now=later)
    settle(database, done(late), now=later)
    assert claim(database, now=later) == []
    settle(database, Settled(current, DEAD, later, 1, status=410), now=later)
    assert delivery(database, "msg_1").state == DEAD


def test_what_cannot_be_replayed(database: Database) -> None:
    assert database.webhooks.replay("msg_1", API, now=NOW_MS) == Replayed(False, False)
    put(database, "msg_1")
    die(database)
    database.put([arrival("msg_2", "user.deleted", gone("user_1"))])
    assert database.webhooks.replay("msg_1", API, now=NOW_MS) == Replayed(True, False)
    assert delivery(database, "msg_1").state == DEAD
    assert database.webhooks.replay_dead(API, now=NOW_MS) == (0, 0)


def test_all_that_died_is_replayed_in_parts_and_in_order(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "AT_ONCE", 2)
    put(database, "msg_1", "msg_2", "msg_3", to=("api", "other"))
    while die(database):
        pass
    count, after = database.webhooks.replay_dead(API, now=NOW_MS)
    assert count == 2
    count, after = database.webhooks.replay_dead(API, now=NOW_MS, after=after)
    assert count == 1
    assert database.webhooks.replay_dead(API, now=NOW_MS, after=after) == (0, 0)
    seen = []
    while claims := claim(database):
        seen += ids(claims)
        settle(database, *map(done, claims))
    assert seen == ["msg_1", "msg_2", "msg_3"]


def test_a_replayed_payload_is_kept_until_it_is_delivered(database: Database) -> None:
    from gateway.store.retention import DAY_MS

    late = NOW_MS + 29 * DAY_MS
    put(database, "msg_1")
    die(database)
    database.webhooks.replay("msg_1", API, now=late)
    forget_all(database, now=late + 2 * DAY_MS)
    (claimed,) = claim(database, now=late)
    assert claimed.payload is not None


def test_a_lane_without_a_user_is_the_object_s(database: Database) -> None:
    came = [
        arrival("msg_1", "organization.created", {"id": "org_1"}),
        arrival("msg_2", "x.y", {}),
        arrival("msg_3", "user.created", user()),
    ]
    database.put([replace(each, upstreams=()) for each in came])
    for each in came:
        database.webhooks.replay(each.svix_id, API, now=NOW_MS)
    assert [claimed.lane for claimed in claim(database)] == ["org_1", "msg_2", "user_1"]
