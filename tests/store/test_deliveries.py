"""Deliveries as they are worked off, on both databases: order, leases, what comes back, what is given up."""

import re
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import event, text

from gateway.core.delivery import DEAD, DONE, ERASED, LONGEST_WAIT_MS, WAITING
from gateway.store import deliveries
from gateway.store.base import Claimed, Delivery, Settled
from gateway.store.database import Database
from gateway.store.deliveries import CLAIMED_BYTES, LEASE_MS, NOBODY
from gateway.store.retention import DAY_MS
from tests.fakes.clerk_events import NOW_MS, arrival, gone, membership, user
from tests.store.rows import count, forget_all

API = ("api",)


def put(database: Database, *names: str, key: str = "user_1", to: Iterable[str] = API, **more: Any) -> None:
    """Store webhooks about a user that are to be delivered."""
    made = [arrival(name, "user.updated", user(key, updated_at=number, **more)) for number, name in enumerate(names)]
    database.put([_to(each, tuple(to)) for each in made])


def _to(each: Any, upstreams: tuple[str, ...]) -> Any:
    from dataclasses import replace

    return replace(each, upstreams=upstreams)


def claim(database: Database, *, now: int = NOW_MS, most: int = 10, to: Iterable[str] = API) -> list[Claimed]:
    return database.deliveries.turn((), room=dict.fromkeys(to, most), now=now)


def settle(database: Database, *outcomes: Settled, now: int = NOW_MS) -> None:
    database.deliveries.turn(outcomes, room={}, now=now)


def done(claimed: Claimed) -> Settled:
    return Settled(claimed, DONE, NOW_MS, claimed.attempts + 1, status=200)


def failed(claimed: Claimed, *, pause: int, status: int | None = 500, at: int = NOW_MS) -> Settled:
    return Settled(claimed, WAITING, at, claimed.attempts + 1, due_at=at + pause, status=status, error="no")


def ids(claims: Iterable[Claimed]) -> list[str]:
    return [each.svix_id for each in claims]


def delivery(database: Database, svix_id: str, upstream: str = "api") -> Delivery:
    kept = database.webhooks.show(svix_id)
    assert kept is not None
    return next(each for each in kept.deliveries if each.upstream == upstream)


def test_a_webhook_is_stored_with_its_deliveries_and_they_are_claimed_with_its_payload(database: Database) -> None:
    put(database, "msg_1", to=("api", "mail"))
    kept = database.webhooks.show("msg_1")
    assert kept is not None
    assert [(each.upstream, each.state, each.due_at) for each in kept.deliveries] == [
        ("api", WAITING, NOW_MS), ("mail", WAITING, NOW_MS),
    ]  # fmt: skip
    (claimed,) = claim(database)
    assert (claimed.svix_id, claimed.type, claimed.upstream, claimed.lane, claimed.attempts) == (
        "msg_1", "user.updated", "api", "user_1", 0,
    )  # fmt: skip
    assert claimed.payload == kept.stored.payload


def test_a_repeated_webhook_is_not_delivered_again(database: Database) -> None:
    put(database, "msg_1")
    put(database, "msg_1", "msg_1", to=("api", "mail"))
    assert count(database, "gateway_deliveries") == 1


def test_what_is_claimed_is_nobody_else_s_until_the_lease_is_over(database: Database, url: str) -> None:
    other = Database(url)
    put(database, "msg_1")
    assert ids(claim(database)) == ["msg_1"]
    assert claim(other, now=NOW_MS + LEASE_MS - 1) == []
    assert ids(claim(other, now=NOW_MS + LEASE_MS)) == ["msg_1"]
    other.close()


def test_a_failure_counts_for_whose_turn_it_was_and_a_success_for_everybody(database: Database) -> None:
    put(database, "msg_1", "msg_2")
    (late,) = claim(database)
    (current,) = claim(database, now=NOW_MS + LEASE_MS)
    settle(database, failed(late, pause=1))
    assert delivery(database, "msg_1").attempts == 0
    assert claim(database, now=NOW_MS + LEASE_MS + 1) == []
    settle(database, done(late))
    assert delivery(database, "msg_1").state == DONE
    settle(database, failed(current, pause=1))
    assert delivery(database, "msg_1").state == DONE
    assert ids(claim(database)) == ["msg_2"]


def test_what_is_given_back_is_due_at_once(database: Database) -> None:
    put(database, "msg_1")
    (claimed,) = claim(database)
    database.deliveries.turn((), given_back=[claimed], room={}, now=NOW_MS)
    (again,) = claim(database, now=NOW_MS + 1)
    database.deliveries.turn((), given_back=[claimed], room={}, now=NOW_MS)  # no longer its own
    assert claim(database, now=NOW_MS + 2) == []
    assert again.attempts == 0


def test_within_a_lane_one_waits_for_the_other(database: Database) -> None:
    put(database, "msg_1", "msg_2")
    put(database, "msg_3")
    put(database, "msg_4", key="user_2")
    first = claim(database)
    assert ids(first) == ["msg_1", "msg_4"]
    settle(database, failed(first[0], pause=5000), done(first[1]))
    assert claim(database, now=NOW_MS + 4999) == []
    (again,) = claim(database, now=NOW_MS + 5000)
    assert (again.svix_id, again.attempts) == ("msg_1", 1)
    settle(database, Settled(again, DEAD, NOW_MS, 2, status=410))
    (second,) = claim(database)
    assert second.svix_id == "msg_2"
    settle(database, done(second))
    assert ids(claim(database)) == ["msg_3"]


def test_what_concerns_a_user_is_one_lane_whatever_it_is_about(database: Database) -> None:
    came = [
        arrival("msg_1", "user.created", user()),
        arrival("msg_2", "organizationMembership.created", membership()),
        arrival("msg_3", "session.created", {"id": "sess_1", "user_id": "user_1"}),
    ]
    database.put([_to(each, API) for each in came])
    seen = []
    while claims := claim(database):
        assert len(claims) == 1
        seen += ids(claims)
        settle(database, done(claims[0]))
    assert seen == ["msg_1", "msg_2", "msg_3"]


def test_one_upstream_does_not_wait_for_another(database: Database) -> None:
    put(database, "msg_1", "msg_2", to=("slow", "fast"))
    slow = claim(database, to=("slow",))
    (fast,) = claim(database, to=("fast",))
    settle(database, done(fast))
    assert ids(claim(database, to=("slow", "fast"))) == ["msg_2"]
    assert ids(slow) == ["msg_1"]


def test_no_more_are_claimed_than_there_is_room_for(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(4):
        put(database, f"msg_{number}", key=f"user_{number}")
    assert ids(claim(database, most=1)) == ["msg_0"]
    monkeypatch.setattr(deliveries, "CLAIMED_BYTES", 1)
    assert ids(claim(database)) == ["msg_1"]  # one at least
    monkeypatch.setattr(deliveries, "CLAIMED_BYTES", CLAIMED_BYTES)
    assert ids(claim(database)) == ["msg_2", "msg_3"]


def test_only_states_there_are_can_be_asked_for() -> None:
    with pytest.raises(AssertionError):
        deliveries.is_in(deliveries.D, "x' OR 1 = 1 --")


def test_whether_anything_is_due(database: Database) -> None:
    put(database, "msg_1")
    assert not database.deliveries.is_due(API, now=NOW_MS - 1)
    assert database.deliveries.is_due(API, now=NOW_MS)
    assert not database.deliveries.is_due(["mail"], now=NOW_MS)
    claim(database)
    assert not database.deliveries.is_due(API, now=NOW_MS)


def test_a_deleted_user_s_payloads_are_gone_from_what_waits(database: Database) -> None:
    put(database, "msg_1", "msg_2")
    database.put([_to(arrival("msg_3", "user.deleted", gone("user_1")), API)])
    seen = []
    while claims := claim(database):
        seen.append((claims[0].svix_id, claims[0].payload is None))
        settle(database, Settled(claims[0], ERASED, NOW_MS, 0))
    assert seen == [("msg_1", True), ("msg_2", True), ("msg_3", False)]
    assert delivery(database, "msg_1").state == ERASED


@pytest.mark.parametrize(
    ("pause", "passed", "status", "due"),
    [
        pytest.param(300_000, 30_000, None, True, id="nobody-was-there"),
        pytest.param(300_000, 30_000, 502, True, id="bad-gateway"),
        pytest.param(300_000, 29_999, None, False, id="not-a-tenth-of-the-pause"),
        pytest.param(300_000, 30_000, 500, False, id="it-answered"),
        pytest.param(300_000, 30_000, 503, False, id="it-asked-for-a-pause"),
    ],
)
def test_what_waits_for_an_upstream_that_is_back_is_due(
    database: Database, pause: int, passed: int, status: int | None, due: bool
) -> None:
    put(database, "msg_1", to=("api", "mail"))
    first = claim(database, to=("api", "mail"))
    settle(database, *(failed(each, pause=pause, status=status) for each in first))
    now = NOW_MS + passed
    assert not database.deliveries.revive("api", now=now)
    assert ids(claim(database, now=now, to=("api", "mail"))) == (["msg_1"] if due else [])


def test_of_much_that_waits_for_an_upstream_that_is_back_some_is_due_at_a_time(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliveries, "REVIVE_AT_ONCE", 2)
    for number in range(3):
        put(database, f"msg_{number}", key=f"user_{number}")
    settle(database, *(failed(each, pause=300_000, status=None) for each in claim(database)))
    now = NOW_MS + 60_000
    assert database.deliveries.revive("api", now=now)
    assert ids(claim(database, now=now)) == ["msg_0", "msg_1"]
    assert not database.deliveries.revive("api", now=now)
    assert ids(claim(database, now=now)) == ["msg_2"]


def test_what_nobody_serves_is_given_up_after_days(database: Database) -> None:
    put(database, "msg_1", "msg_2", to=("api", "mail"))
    late = NOW_MS + LONGEST_WAIT_MS
    assert database.deliveries.expire(API, now=late) == 0
    while database.deliveries.expire(API, now=late + 1):
        pass
    for name in ("msg_1", "msg_2"):
        given_up = delivery(database, name, "mail")
        assert (given_up.state, given_up.last_error, given_up.last_at) == (DEAD, NOBODY, late + 1)
    assert ids(claim(database, now=late)) == ["msg_1"]
    assert delivery(database, "msg_2").state == WAITING


def test_a_whole_lane_is_given_up_at_once_but_for_what_came_later(database: Database) -> None:
    put(database, *(f"msg_{number}" for number in range(5)))
    late = NOW_MS + LONGEST_WAIT_MS + 1
    database.put([_to(arrival("msg_new", "user.updated", user(updated_at=9), received_at=late), API)])
    assert database.deliveries.expire((), now=late) == 5
    assert database.deliveries.expire((), now=late) == 0
    assert ids(claim(database, now=late)) == ["msg_new"]


def test_what_was_left_for_later_by_a_clock_that_was_wrong_is_due(database: Database) -> None:
    put(database, "msg_1", "msg_2")
    put(database, "msg_3", key="user_3")
    put(database, "msg_4", key="user_4")
    ahead = NOW_MS + 365 * DAY_MS
    (first, third, fourth) = claim(database, now=ahead)
    settle(database, failed(first, pause=5000, at=ahead), now=ahead)
    database.deliveries.turn((), given_back=[fourth], room={}, now=ahead)
    settle(database, failed(claim(database, now=NOW_MS)[0], pause=300_000, status=None))
    assert claim(database) == []
    assert database.deliveries.set_right(now=NOW_MS) == 2
    assert ids(claim(database)) == ["msg_1", "msg_3"]
    assert delivery(database, "msg_4").due_at == NOW_MS + 300_000
    assert third.svix_id == "msg_3"


def test_what_was_stored_while_the_clock_was_wrong_is_not_kept_waiting_for_it(database: Database) -> None:
    ahead = NOW_MS + 365 * DAY_MS
    put(database, "msg_1")
    database.put(
        [_to(arrival(name, "user.updated", user(updated_at=9), received_at=ahead), API) for name in ("msg_2", "msg_3")]
    )
    settle(database, done(claim(database)[0]))
    (second,) = claim(database)
    assert second.svix_id == "msg_2"
    settle(database, done(second))
    assert ids(claim(database)) == ["msg_3"]


@pytest.mark.parametrize("lanes", [pytest.param(4000, id="many-lanes"), pytest.param(1, id="one-long-lane")])
def test_a_turn_looks_at_what_it_takes_and_not_at_all_that_waits(database: Database, lanes: int) -> None:
    many = [arrival(f"msg_{number}", "user.updated", user(f"user_{number % lanes}")) for number in range(4000)]
    for begin in range(0, len(many), 500):
        database.put([_to(each, API) for each in many[begin : begin + 500]])
    claims = claim(database)
    asked: list[tuple[str, Any]] = []

    def note(_: Any, __: Any, statement: str, parameters: Any, *___: Any) -> None:
        asked.append((statement, parameters[0] if isinstance(parameters, list) else parameters))

    event.listen(database._engine, "before_cursor_execute", note)
    database.deliveries.turn(list(map(done, claims)), room={"api": 10}, now=NOW_MS)
    event.remove(database._engine, "before_cursor_execute", note)
    explain = "EXPLAIN QUERY PLAN" if database._engine.dialect.name == "sqlite" else "EXPLAIN"

    def planned(statement: str, parameters: Any) -> str:
        query = f"{explain} {statement}"
        rows = database.read(lambda connection: connection.exec_driver_sql(query, parameters).all())
        return "\n".join(map(str, rows))

    plans = [planned(*each) for each in asked if "gateway_deliveries" in each[0]]
    found = next(plan for plan in plans if "gateway_deliveries_next" in plan)
    assert not re.search("Sort|TEMP B-TREE", found)
    promoted = next(plan for plan in plans if "gateway_deliveries_first" in plan)
    assert "gateway_deliveries_lane" in promoted
    assert not any(re.search(r"Seq Scan|SCAN gateway|SCAN other", plan) for plan in plans)


def test_a_payload_is_kept_as_long_as_it_may_still_be_delivered(database: Database) -> None:
    put(database, "msg_1", to=("api", "mail"))
    put(database, "msg_2", key="user_2")
    settle(database, *map(done, claim(database)))
    forget_all(database, now=NOW_MS + 10 * DAY_MS, retention_days=1)
    stored = [database.get("msg_1"), database.get("msg_2")]
    assert [each is not None and each.payload is not None for each in stored] == [True, False]
    (claimed,) = claim(database, to=("mail",))
    assert claimed.payload is not None
    settle(database, done(claimed))
    forget_all(database, now=NOW_MS + 10 * DAY_MS, retention_days=1)
    assert (count(database, "gateway_inbox"), count(database, "gateway_deliveries")) == (0, 0)


def test_whether_a_payload_went_with_its_user_is_said(database: Database) -> None:
    put(database, "msg_1")
    put(database, "msg_2", key="user_2")
    put(database, "msg_3", key="user_3")
    database.put([arrival("msg_4", "user.deleted", gone("user_1"))])
    database.write(lambda c: c.execute(text("UPDATE gateway_inbox SET payload = NULL WHERE svix_id = 'msg_2'")))
    assert [(each.svix_id, each.payload is None, each.with_user) for each in claim(database)] == [
        ("msg_1", True, True), ("msg_2", True, False), ("msg_3", False, False),
    ]  # fmt: skip
    assert [database.deliveries.has_payload(f"msg_{number}") for number in (1, 2, 3, 9)] == [False, False, True, False]


def test_the_dead_are_forgotten_with_their_webhook(database: Database) -> None:
    put(database, "msg_1")
    (claimed,) = claim(database)
    settle(database, Settled(claimed, DEAD, NOW_MS, 13, status=500))
    forget_all(database, now=NOW_MS + 89 * DAY_MS)
    assert delivery(database, "msg_1").state == DEAD
    forget_all(database, now=NOW_MS + 91 * DAY_MS)
    assert count(database, "gateway_deliveries") == 0


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(1, 2)),
        st.tuples(st.just("claim"), st.integers(1, 3)),
        st.tuples(st.sampled_from(["done", "fail", "die", "replay", "lapse"]), st.integers(0, 30)),
    ),
    max_size=40,
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_whatever_happens_each_lane_has_one_that_is_due_and_no_two_are_under_way(
    database: Database, steps: list[tuple[str, int]]
) -> None:
    database.write(
        lambda connection: [connection.execute(text(f"DELETE FROM gateway_{t}")) for t in ("deliveries", "inbox")]
    )
    now, names, held = NOW_MS, list[str](), list[Claimed]()
    for what, number in steps:
        now += 1
        if what == "put":
            names.append(f"msg_{len(names)}")
            put(database, names[-1], key=f"user_{number}")
        elif what == "claim":
            held += claim(database, now=now, most=number)
        elif what == "lapse":
            now, held = now + LEASE_MS, []
        elif what == "replay" and names:
            database.webhooks.replay(names[number % len(names)], API, now=now)
        elif held:
            one = held.pop(number % len(held))
            outcome = {"done": done(one), "fail": failed(one, pause=1, at=now), "die": Settled(one, DEAD, now, 1)}
            settle(database, outcome.get(what, done(one)), now=now)
        heads = database.read(
            lambda connection: connection.execute(
                text(
                    "SELECT lane, sum(CASE WHEN due_at IS NULL THEN 0 ELSE 1 END) FROM gateway_deliveries"
                    " WHERE state = 'waiting' GROUP BY lane"
                )
            ).all()
        )
        assert all(count == 1 for _, count in heads)
        assert len({each.lane for each in held}) == len(held)
