"""The arithmetic of rates: what is promised holds in every window, whatever the rate, the times and the clock."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gateway.core.limits import (
    FULL,
    SECOND,
    Rate,
    RatePolicy,
    Told,
    counted_address,
    neighbourhood,
    retry_after_s,
    spend,
    tell,
)

BOOT = 10**6 * SECOND + 7  # a machine that has run for some days
rates = st.builds(
    Rate,
    count=st.one_of(st.integers(1, 1000), st.integers(1, 999_999_999)),
    period_s=st.sampled_from([1, 60, 3600]),
    burst=st.integers(1, 20),
)
# Steps of about what a call takes to come back are the ones that decide; others are there as well.
steps = st.lists(st.one_of(st.just(0), st.integers(0, 3), st.floats(0, 3), st.integers(0, 10**12)), max_size=80)


def times(rate: Rate, given_steps: list[float]) -> list[int]:
    """Moments that never go back; a float is so many times what one call takes."""
    now, told = BOOT, []
    for step in given_steps:
        now += int(step * rate.interval / rate.count) if isinstance(step, float) else step
        told.append(now)
    return told


def passed(rate: Rate, moments: list[int]) -> list[int]:
    """The moments at which a call was let through."""
    state, through = FULL, []
    for now in moments:
        state, wait = spend(rate, state, now)
        if not wait:
            through.append(now)
    return through


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("100/s", Rate(100, 1, 100)),
        ("1000/min burst 200", Rate(1000, 60, 200)),
        ("5/h", Rate(5, 3600, 5)),
        ("999999999/s burst 999999999", Rate(999_999_999, 1, 999_999_999)),
    ],
)
def test_a_rate_is_read(text: str, rate: Rate) -> None:
    assert Rate.read(text) == rate


@pytest.mark.parametrize(
    "text",
    ["", "fast", "0/s", "-1/s", "01/s", "1/d", "1.5/s", "1 / s", "1/s burst", "1/s burst 0", "1/s burst 1.5", "1/s\n",
     "1000000000/s", "1/s burst 1000000000", "1/S", "\u0661/s"],
)  # fmt: skip
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be a rate"):
        Rate.read(text)


def test_a_rate_names_itself_whole() -> None:
    assert str(Rate.read("1000/min")) == "1000/min burst 1000"
    assert RatePolicy() == RatePolicy(None, None, None, None, None)


def test_a_burst_passes_and_then_the_rate() -> None:
    rate = Rate.read("10/s burst 3")
    assert passed(rate, [BOOT] * 5) == [BOOT] * 3
    tenth = SECOND // 10
    moments = [BOOT] * 4 + [BOOT + tenth - 1, BOOT + tenth, BOOT + tenth, BOOT + 10 * tenth]
    assert passed(rate, moments) == [BOOT] * 3 + [BOOT + tenth, BOOT + 10 * tenth]


@given(rates, steps)
def test_no_window_lets_more_through_than_promised(rate: Rate, given_steps: list[float]) -> None:
    through = passed(rate, times(rate, given_steps))
    for first, start in enumerate(through):
        for last in range(first, len(through)):
            window = through[last] - start
            # In whole ticks, so that the test rounds nothing either: calls that come back in the window, and the burst.
            assert last - first + 1 <= rate.burst + window * rate.count // rate.interval


@given(rates, st.integers(1, 400))
def test_whoever_keeps_to_the_rate_is_never_refused(rate: Rate, calls: int) -> None:
    # However long, nothing adds up: each comes when its time has passed, on a clock of nanoseconds, whose error one
    # call of burst makes good.
    assume(rate.burst > 1)
    due = [BOOT - (-number * rate.interval // rate.count) for number in range(calls)]
    state = FULL
    for now in due:
        state, wait = spend(rate, state, now)
        assert wait == 0


@given(rates, steps)
def test_a_wait_is_enough_and_not_too_long(rate: Rate, given_steps: list[float]) -> None:
    state = FULL
    for now in times(rate, given_steps):
        state, wait = spend(rate, state, now)
        if wait:
            assert spend(rate, state, now + wait)[1] == 0
            assert spend(rate, state, now + wait - 1)[1] == 1


@given(rates, steps)
def test_a_bucket_never_goes_below_zero_nor_above_its_burst(rate: Rate, given_steps: list[float]) -> None:
    state = FULL
    for now in times(rate, given_steps):
        state, wait = spend(rate, state, now)
        told = tell(rate, state, now)
        assert state <= now * rate.count + rate.depth
        assert 0 <= told.remaining <= told.limit == rate.burst
        assert (told.remaining == 0) >= bool(wait)
        assert told.reset_s * SECOND >= wait


@given(rates, steps)
def test_a_refused_call_costs_nothing(rate: Rate, given_steps: list[float]) -> None:
    state = FULL
    for now in times(rate, given_steps):
        after, wait = spend(rate, state, now)
        assert after == state if wait else after > state
        state = after


@given(rates, st.lists(st.sampled_from("abc"), max_size=40), st.randoms(use_true_random=False))
def test_the_order_of_calls_at_one_time_does_not_matter(rate: Rate, callers: list[str], random: object) -> None:
    def outcome(order: list[str]) -> tuple[dict[str, int], dict[str, int]]:
        states, through = dict.fromkeys("abc", FULL), dict.fromkeys("abc", 0)
        for caller in order:
            states[caller], wait = spend(rate, states[caller], BOOT)
            through[caller] += not wait
        return states, through

    shuffled = list(callers)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert outcome(callers) == outcome(shuffled)


@given(rates, st.lists(st.integers(-(10**13), 10**12), max_size=60))
def test_a_clock_that_goes_back_opens_nothing(rate: Rate, moves: list[int]) -> None:
    now, state, through, forward = BOOT + 60 * 10**13, FULL, 0, 0
    state = now * rate.count  # full at this moment: what went before is no part of the sum
    for move in moves:
        now, forward = now + move, forward + max(0, move)
        state, wait = spend(rate, state, now)
        through += not wait
        assert through <= rate.burst + forward * rate.count // rate.interval + 1


@given(rates, st.integers(0, 20), st.integers(1, 10**15))
def test_a_clock_that_goes_back_locks_nobody_out_for_long(rate: Rate, calls: int, back: int) -> None:
    state, now = FULL, BOOT + 10**15
    for _ in range(calls):
        state, _ = spend(rate, state, now)
    state, wait = spend(rate, state, now - back)
    assert wait * rate.count < rate.interval + rate.count  # what one call takes, rounded up
    assert not wait or spend(rate, state, now - back + wait)[1] == 0


@given(rates, st.integers(1, 20), st.integers(0, 10**12))
def test_a_cost_is_that_many_calls(rate: Rate, cost: int, later: int) -> None:
    assume(cost <= rate.burst)
    state, wait = spend(rate, FULL, BOOT, cost=cost)
    assert wait == 0
    one_by_one = FULL
    for _ in range(cost):
        one_by_one, _ = spend(rate, one_by_one, BOOT)
    assert state == one_by_one
    assert tell(rate, state, BOOT).remaining == rate.burst - cost
    full = spend(rate, state, BOOT + later, cost=rate.burst)
    assert (full[1] == 0) == (later * rate.count >= cost * rate.interval)


def test_what_an_answer_tells() -> None:
    rate = Rate.read("2/min burst 3")
    assert tell(rate, FULL, BOOT) == Told(3, 3, 0)
    state, waits = FULL, []
    for _ in range(4):
        state, wait = spend(rate, state, BOOT)
        waits.append(wait)
    assert waits == [0, 0, 0, 30 * SECOND]
    assert tell(rate, state, BOOT) == Told(3, 0, 90)
    assert tell(rate, state, BOOT + 1) == Told(3, 0, 90)  # rounded up
    assert tell(rate, state, BOOT + 30 * SECOND) == Told(3, 1, 60)
    assert tell(rate, state, BOOT - 99 * SECOND) == Told(3, 0, 90)  # the clock went back


@pytest.mark.parametrize(
    ("wait", "seconds"), [(1, 1), (SECOND - 1, 1), (SECOND, 1), (SECOND + 1, 2), (3600 * SECOND, 3600), (0, 1)]
)
def test_retry_after_is_rounded_up_and_never_zero(wait: int, seconds: int) -> None:
    assert retry_after_s(wait) == seconds


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("203.0.113.7", "203.0.113.7", True),
        ("203.0.113.7", "203.0.113.8", False),
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff:ffff:ffff:ffff", True),
        ("2001:db8:1:2::1", "2001:DB8:0001:0002::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("203.0.113.7", "::ffff:203.0.113.7", True),
        ("203.0.113.7", "::ffff:cb00:7107", True),
        ("::ffff:203.0.113.7", "::ffff:203.0.113.8", False),
        ("fe80::1%eth0", "fe80::2%eth1", True),
        ("", "", True),
        ("", "0.0.0.0", False),
        ("unknown", "", False),
        ("\ud800", "?", True),
    ],
)
def test_by_what_an_address_is_counted(one: str, other: str, same: bool) -> None:
    assert (counted_address(one) == counted_address(other)) is same


@given(st.text(max_size=300))
def test_no_text_is_too_long_or_odd_to_be_counted(text: str) -> None:
    assert len(counted_address(text)) <= 300


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("203.0.113.7", "203.0.113.200", True),
        ("203.0.113.7", "203.0.114.7", False),
        ("2001:db8:1:2::", "2001:db8:ffff:3::", True),
        ("2001:db8::", "2001:db9::", False),
    ],
)
def test_neighbours(one: str, other: str, same: bool) -> None:
    assert (neighbourhood(counted_address(one)) == neighbourhood(counted_address(other))) is same


def test_ids_have_no_neighbours() -> None:
    assert neighbourhood("user_1") == "user_1"
