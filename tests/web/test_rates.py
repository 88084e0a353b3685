"""Buckets in memory: what is promised holds in any crowd, room is bounded, a flood locks out nobody but itself.

How the limits look from outside stands in `test_rate_limits.py`.
"""

import asyncio
from collections import defaultdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.limits import SECOND, Rate, RatePolicy, Who, counted_address
from gateway.core.model import Endpoint, Forwarding, Header, Peer, Principal, Upstream
from gateway.core.routing import PathPattern, Route
from gateway.errors import RateLimited
from gateway.web.rates import MOST, NAMES, Limit, MemoryBuckets, Rates, rates_of
from tests.fakes.gateway import Clock

HOURLY = Rate.read("1/h")


def limit(rate: str = "2/s", *, key: str = "ip", share: int = 5, reason: str = "ip") -> Limit:
    return Limit(f"{key} {rate}", Rate.read(rate), reason, share)


class Crowd:
    """Buckets, their clock, and who got through."""

    def __init__(self, most: int = MOST) -> None:
        self.clock = Clock(1000.0)
        self.buckets = MemoryBuckets(self.clock, most=most)

    def may(self, one: Limit, who: Who | None) -> bool:
        try:
            self.buckets.spend((one,), (who,))
        except RateLimited:
            return False
        return True

    def may_all(self, *asked: tuple[Limit, Who | None]) -> bool:
        try:
            self.buckets.spend([one for one, _ in asked], [who for _, who in asked])
        except RateLimited:
            return False
        return True


def address(number: int, net: int = 0x2001_0DB8) -> bytes:
    """One of the /64s of a /32."""
    return ((net << 32) + number).to_bytes(8, "big")


# --- one bucket, and several -----------------------------------------------------------------------------------------


def test_each_has_his_own_bucket_in_each_limit() -> None:
    crowd, one, other = Crowd(), limit("1/s"), limit("1/s", key="user")
    assert crowd.may(one, "a")
    assert not crowd.may(one, "a")
    assert crowd.may(one, "b")
    assert crowd.may(other, "a")
    assert crowd.may(one, None)  # nobody is counted
    assert crowd.may(one, None)


def test_a_bucket_fills_with_time() -> None:
    crowd, one = Crowd(), limit("2/s")
    assert [crowd.may(one, "a") for _ in range(3)] == [True, True, False]
    crowd.clock.seconds += 0.4
    assert not crowd.may(one, "a")
    crowd.clock.seconds += 0.1
    assert [crowd.may(one, "a") for _ in range(2)] == [True, False]


@pytest.mark.parametrize("order", [("user", "org"), ("org", "user")])
def test_who_is_refused_by_one_has_taken_from_none(order: tuple[str, str]) -> None:
    crowd = Crowd()
    limits = {"user": limit("1/h", key="user"), "org": limit("3/h", key="org")}

    def call(user: str) -> bool:
        return crowd.may_all(*((limits[name], {"user": user, "org": "acme"}[name]) for name in order))

    assert [call("a") for _ in range(9)] == [True] + [False] * 8
    assert [call("b"), call("c"), call("d")] == [True, True, False]  # a's colleagues have what a did not get
    assert crowd.may(limits["user"], "d")  # nor was d's own bucket touched


def test_the_longest_wait_is_told() -> None:
    crowd = Crowd()
    short, long = limit("1/s", key="user", reason="user"), limit("1/min", key="org", reason="org")
    assert crowd.may_all((short, "a"), (long, "o"))
    for asked in ([short, long], [long, short]):
        with pytest.raises(RateLimited) as refused:
            crowd.buckets.spend(asked, ["a" if each is short else "o" for each in asked])
        error = refused.value
        assert (error.reason, error.limit, error.remaining) == ("org", 1, 0)
        assert (error.reset_s, error.retry_after_s) == (60, 60)


def test_a_clock_that_goes_back_locks_nobody_out() -> None:
    crowd, one, other = Crowd(), limit("1/s"), limit("1/s", key="user")
    for asked in (((one, "a"),), ((one, "b"), (other, "b"))):
        assert crowd.may_all(*asked)
        crowd.clock.seconds -= 500
        assert not crowd.may_all(*asked)
        crowd.clock.seconds += 1
        assert crowd.may_all(*asked)


@pytest.mark.parametrize("long", ["x" * 30_000, "\ud800" * 100, b"x" * 300], ids=["long", "surrogates", "bytes"])
def test_a_long_id_is_counted_as_any_but_not_kept(long: Who) -> None:
    crowd, one = Crowd(), limit("1/s")
    assert [crowd.may(one, long), crowd.may(one, long)] == [True, False]
    assert crowd.may(one, long[:-1])
    assert [crowd.may_all((one, long), (one, "a")), crowd.may(one, "a")] == [False, True]
    kept: Any = crowd.buckets._tables[one.key].states
    assert max(map(len, kept)) <= 64


# --- room ------------------------------------------------------------------------------------------------------------


def test_buckets_that_are_full_again_are_swept_out() -> None:
    crowd, one, other = Crowd(), limit("1/s"), limit("1/h", key="user")
    for number in range(5000):
        crowd.may(one, f"user_{number}")
    crowd.may(other, "a")
    assert len(crowd.buckets) == 5001
    crowd.buckets.sweep()
    assert len(crowd.buckets) == 5001
    crowd.clock.seconds += 1
    for _ in range(6):
        crowd.buckets.sweep()
    assert len(crowd.buckets) == 1  # and what still counts is kept
    assert not crowd.may(other, "a")
    crowd.clock.seconds += 3600
    crowd.buckets.sweep()
    assert len(crowd.buckets) == 0
    assert not crowd.buckets._tables


def test_a_flood_of_addresses_takes_bounded_room_and_throws_nobody_out() -> None:
    crowd, one = Crowd(most=100), limit("2/h", share=50)
    assert crowd.may(one, "regular")
    through = sum(crowd.may(one, address(number)) for number in range(20_000))
    assert len(crowd.buckets) <= 200
    # Whoever had a bucket before still has it, with what was taken from it.
    assert [crowd.may(one, "regular"), crowd.may(one, "regular")] == [True, False]
    # The flood got its buckets, and together one more: it comes from one neighbourhood.
    assert through == 99 + 2


def test_a_flood_locks_out_only_newcomers_from_where_it_comes() -> None:
    crowd, one = Crowd(most=1000), limit("2/h", share=1000)
    for number in range(5_000):
        crowd.may(one, address(number))
    assert not crowd.may(one, address(77_777))
    others = [counted_address(f"198.51.{number}.1") for number in range(100)]
    assert sum(crowd.may(one, who) for who in others) >= 80  # a few share a bucket by chance
    assert sum(crowd.may(one, address(1, net)) for net in range(100)) >= 60
    assert len(crowd.buckets) <= 2000


def test_a_flood_of_addresses_leaves_users_their_room() -> None:
    crowd, one, other = Crowd(most=100), limit("2/h", share=25), limit("2/h", key="user", share=25)
    for number in range(5_000):
        crowd.may(one, address(number))
    users = [f"user_{number}" for number in range(25)]
    assert all(crowd.may(other, user) for user in users * 2)
    assert not any(crowd.may(other, user) for user in users)
    assert len(crowd.buckets) <= 200


def test_room_is_found_again_while_the_flood_goes_on() -> None:
    crowd, one = Crowd(most=100), limit("1/s", share=50)
    for number in range(1000):
        crowd.may(one, address(number))
    crowd.clock.seconds += 1  # no sweep in between: newcomers look for room themselves
    assert sum(crowd.may(one, address(number)) for number in range(2000, 2100)) > 90


def test_what_was_taken_together_is_not_given_again_alone() -> None:
    crowd, one = Crowd(most=3), limit("1/h", share=1)
    short = limit("1/s", key="short", share=1)
    for number in range(3):
        crowd.may(short, address(number))
    assert crowd.may(one, address(0))  # its share
    assert crowd.may(one, address(1))  # shared
    assert not crowd.may(one, address(2))
    crowd.clock.seconds += 2
    crowd.buckets.sweep()  # now there is room
    assert not crowd.may(one, address(1))
    crowd.clock.seconds += 3600
    assert crowd.may(one, address(1))


names = st.one_of(
    st.sampled_from([address(1), address(2), address(3, 5), counted_address("10.0.0.1"), counted_address("10.0.0.2")]),
    st.sampled_from(["user_1", "user_2"]),
    st.integers(0, 30).map(address),
)
calls = st.lists(st.tuples(st.lists(names, min_size=1, max_size=3), st.floats(0, 2), st.booleans()), max_size=60)


@given(calls, st.integers(0, 4), st.integers(1, 3), st.integers(1, 3))
def test_nobody_ever_gets_more_than_was_promised(
    calls: list[tuple[list[Who], float, bool]], most: int, share: int, burst: int
) -> None:
    crowd = Crowd(most=most)
    limits = [limit(f"1/s burst {burst}", key=f"limit {number}", share=share) for number in range(3)]
    through: dict[tuple[str, Who], list[int]] = defaultdict(list)
    for whose, later, swept in calls:
        crowd.clock.seconds += later
        asked = list(zip(limits, whose, strict=False))
        if crowd.may_all(*asked):
            for one, who in asked:
                through[one.key, who].append(int(crowd.clock.seconds * SECOND))
        if swept:
            crowd.buckets.sweep()
        assert len(crowd.buckets) == sum(len(table.states) for table in crowd.buckets._tables.values())
        assert len(crowd.buckets) <= most + 3 * share + 3 * (share // 2 + 1)
        for table in crowd.buckets._tables.values():
            assert table.shared == sum(isinstance(place, int) for place in table.states)
    for moments in through.values():
        for first, start in enumerate(moments):
            for last in range(first, len(moments)):
                assert last - first + 1 <= burst + (moments[last] - start) // SECOND


# --- which limits a request meets ------------------------------------------------------------------------------------


UPSTREAM = Upstream("api", (Endpoint("127.0.0.1", 1),))
ONE = Rate.read("1/h")


def route(name: str = "rest", rates: RatePolicy = RatePolicy(), auth: str = "required") -> Route:  # noqa: B008
    return Route(name, PathPattern.read("/*"), UPSTREAM, auth=auth, rates=rates)


def header(client: str = "203.0.113.7") -> Header:
    made = Header([], {}, frozenset(), Peer(client, False, "http", 80), b"")
    made.forwarding = Forwarding(client, "http", b"", b"", b"")
    return made


def principal(user: str | None = "user_1", org: str | None = None, machine: str | None = None) -> Principal:
    subject = user or machine or "org_9"
    return Principal(subject, "session", {}, frozenset(), 0, 60, user_id=user, org_id=org, machine_id=machine)


MACHINE = principal(None, None, "mch_1")._replace(token_type="m2m")
API_KEY = principal("user_1")._replace(token_type="api_key", key_id="ak_1")
OAUTH = principal("user_1")._replace(token_type="oauth")


def reason(rates: Rates, where: Route, who: Principal | None, client: str = "203.0.113.7") -> str | None:
    """Send a request through both counts; why it was refused, None if it was not."""
    try:
        rates.spend_address(header(client), where)
        if who is None:
            rates.spend_unnamed(header(client), where)
        else:
            rates.spend_principal(where, who)
    except RateLimited as refused:
        return refused.reason
    return None


def made(general: RatePolicy, *routes: Route) -> Rates:
    rates = rates_of(general, routes, MemoryBuckets(Clock(1000.0)))
    assert rates is not None
    return rates


def test_where_nothing_is_limited_there_is_nothing() -> None:
    assert rates_of(RatePolicy(), [route()], MemoryBuckets(Clock())) is None
    assert rates_of(RatePolicy(), [route(rates=RatePolicy(by_org=ONE))], MemoryBuckets(Clock())) is not None
    assert rates_of(RatePolicy(by_ip=ONE), [], MemoryBuckets(Clock())) is not None


@pytest.mark.parametrize(
    ("policy", "first", "again", "reasons"),
    [
        pytest.param("by_ip", principal("user_1"), principal("user_2"), ("ip", "route"), id="address"),
        pytest.param("by_user", principal("user_1"), principal("user_1", "org_1"), ("user", "route"), id="user"),
        pytest.param("by_org", principal("user_1", "org_1"), principal("user_2", "org_1"), ("org", "route"), id="org"),
        pytest.param(
            "by_machine", MACHINE, MACHINE, ("machine", "route"),
            id="machine",
        ),
    ],
)  # fmt: skip
def test_each_is_counted_by_what_he_is(
    policy: str, first: Principal, again: Principal, reasons: tuple[str, str]
) -> None:
    where, limited = route(), route(rates=RatePolicy(**{policy: ONE}))
    general, own = made(RatePolicy(**{policy: ONE}), where), made(RatePolicy(), limited)
    assert [reason(general, where, first), reason(general, where, again)] == [None, reasons[0]]
    assert [reason(own, limited, first), reason(own, limited, again)] == [None, reasons[1]]


@pytest.mark.parametrize(
    ("who", "counted"),
    [
        pytest.param(MACHINE, "mch_1", id="m2m"),
        pytest.param(API_KEY, "ak_1", id="api-key"),
        pytest.param(OAUTH, "user_1", id="oauth"),
        pytest.param(principal("user_1"), None, id="session"),
    ],
)
def test_what_a_machine_is_counted_by(who: Principal, counted: str | None) -> None:
    assert NAMES["by_machine"](who) == counted


def test_who_is_not_that_is_not_counted_as_it() -> None:
    where = route()
    for policy in ("by_user", "by_org", "by_machine"):
        rates = made(RatePolicy(**{policy: ONE}), where)
        assert [reason(rates, where, None) for _ in range(3)] == [None] * 3
    rates = made(RatePolicy(by_org=ONE, by_machine=ONE), where)
    assert [reason(rates, where, principal()) for _ in range(3)] == [None] * 3


def test_a_caller_is_the_user_or_machine_else_the_address() -> None:
    where = route(rates=RatePolicy(by_caller=ONE))
    rates = made(RatePolicy(), where)
    for who in (principal("user_1"), principal("user_2"), principal(None, None, "mch_1"), principal(None), None):
        assert [reason(rates, where, who) for _ in range(2)] == [None, "route"]
    assert reason(rates, where, None, "203.0.113.8") is None
    # An id that reads like an address is not that address.
    assert reason(rates, where, principal("203.0.113.9")) is None
    assert reason(rates, where, None, "203.0.113.9") is None


def test_a_routes_buckets_are_its_own() -> None:
    one, other = (route(name, RatePolicy(by_caller=ONE, by_ip=Rate.read("3/h"))) for name in ("one", "other"))
    rates = made(RatePolicy(by_user=Rate.read("2/h")), one, other)
    assert [reason(rates, one, principal()), reason(rates, one, principal())] == [None, "route"]
    assert reason(rates, other, principal()) is None
    third = route("third")
    assert [reason(made(RatePolicy(by_ip=ONE), third), third, principal("a"))] == [None]


def test_limits_add_up_and_a_refused_user_takes_nothing_from_the_organisation() -> None:
    where = route()
    rates = made(RatePolicy(by_user=ONE, by_org=Rate.read("2/h")), where)
    calls = ["user_1", "user_1", "user_1", "user_2", "user_3"]
    assert [reason(rates, where, principal(user, "org_1")) for user in calls] == [None, "user", "user", None, "org"]


def test_what_is_refused_for_its_user_was_counted_for_its_address() -> None:
    where = route()
    rates = made(RatePolicy(by_ip=Rate.read("3/h"), by_user=ONE), where)
    assert [reason(rates, where, principal()) for _ in range(4)] == [None, "user", "user", "ip"]


def test_another_configuration_keeps_the_buckets_of_the_limits_it_keeps() -> None:
    buckets, where = MemoryBuckets(Clock(1000.0)), route(rates=RatePolicy(by_caller=ONE))
    before = rates_of(RatePolicy(by_ip=Rate.read("2/h")), [where], buckets)
    assert before is not None
    assert reason(before, where, principal()) is None
    more = route("more", RatePolicy(by_ip=ONE))
    after = rates_of(RatePolicy(by_ip=Rate.read("2/h"), by_org=ONE), [more, where], buckets)
    assert after is not None
    assert reason(after, where, principal()) == "route"
    assert reason(after, where, principal("user_2")) == "ip"  # of which both counted
    changed = rates_of(RatePolicy(by_ip=Rate.read("3/h")), [where], buckets)
    assert changed is not None
    assert reason(changed, where, principal("user_3")) is None  # another rate begins anew
    assert reason(before, where, principal("user_3")) == "ip"  # and what is still under way ends under the old one


def test_requests_at_one_time_share_nothing_but_the_buckets() -> None:
    where = route()
    rates = made(RatePolicy(by_ip=Rate.read("5/h")), where)

    async def call() -> str | None:
        await asyncio.sleep(0)
        return reason(rates, where, principal())

    async def all_at_once() -> list[str | None]:
        return await asyncio.gather(*(call() for _ in range(20)))

    assert asyncio.run(all_at_once()).count(None) == 5
