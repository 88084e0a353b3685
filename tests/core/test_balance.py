import random
from collections import Counter
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.balance import (
    LEAST_RETRIES_PER_S,
    LONGEST_OPEN,
    LONGEST_PROBE_S,
    SLOW_START_S,
    WINDOW_S,
    BreakerPolicy,
    Budget,
    HealthPolicy,
    RetryPolicy,
    Standing,
    choose,
    invites_retry,
    pause_s,
)

NOW = 1000.0
BREAKER = BreakerPolicy(failures=3, open_s=10)


def standing(weight: int = 1, policy: BreakerPolicy = BREAKER) -> Standing:
    return Standing(policy, weight)


def opened(policy: BreakerPolicy = BREAKER) -> Standing:
    failing = standing(policy=policy)
    for _ in range(policy.failures):
        failing.failed(NOW)
    return failing


# --- the breaker --------------------------------------------------------------------------------------------------


def test_the_breaker_opens_with_the_last_of_so_many_failures_in_a_row():
    failing = standing()
    assert [failing.failed(NOW) for _ in range(3)] == [False, False, True]
    assert not failing.may_take(NOW)
    assert not failing.is_up


def test_an_answer_in_between_begins_the_count_anew():
    failing = standing()
    failing.failed(NOW)
    failing.failed(NOW)
    assert not failing.succeeded(NOW)
    assert [failing.failed(NOW) for _ in range(3)] == [False, False, True]


def test_failures_0_never_opens_it():
    failing = standing(policy=BreakerPolicy(failures=0))
    assert not any(failing.failed(NOW) for _ in range(100))
    assert failing.may_take(NOW)


def test_after_the_pause_one_request_goes_through_as_a_probe():
    failing = opened()
    assert not failing.may_take(NOW + 9.9)
    assert failing.may_take(NOW + 10)
    probe = failing.began(NOW + 10)
    assert (probe, failing.live) == (True, 1)
    assert not failing.may_take(NOW + 10)


def test_a_probe_that_is_answered_gives_the_endpoint_back():
    failing = opened()
    probe = failing.began(NOW + 10)
    assert failing.succeeded(NOW + 10)
    failing.ended(probe=probe)
    assert (failing.is_up, failing.live, failing.failures) == (True, 0, 0)
    assert failing.may_take(NOW + 10)
    assert not failing.began(NOW + 10)


def test_each_probe_that_fails_doubles_the_pause_up_to_a_bound():
    failing, now = opened(), NOW
    pauses = []
    for _ in range(5):
        pauses.append(failing.open_until - now)
        now = failing.open_until
        probe = failing.began(now)
        assert not failing.failed(now)  # it was out already: no news
        failing.ended(probe=probe)
    assert pauses == [10, 20, 40, 10 * LONGEST_OPEN, 10 * LONGEST_OPEN]


def test_a_probe_that_came_to_nothing_makes_room_for_the_next():
    failing = opened()
    failing.ended(probe=failing.began(NOW + 10))
    assert failing.may_take(NOW + 10)


def test_a_probe_that_never_ends_keeps_the_others_out_for_a_while_only():
    failing = opened()
    failing.began(NOW + 10)
    assert not failing.may_take(NOW + 10 + LONGEST_PROBE_S - 0.1)
    assert failing.may_take(NOW + 10 + LONGEST_PROBE_S)


def test_a_probe_that_was_answered_and_still_runs_is_none_when_the_breaker_opens_again():
    failing = opened()
    failing.began(NOW + 10)  # a stream
    failing.succeeded(NOW + 10)
    for _ in range(3):
        failing.failed(NOW + 11)
    assert failing.may_take(failing.open_until)


def test_a_request_from_before_is_no_probe_and_its_failure_no_other_pause():
    failing = standing()
    old = failing.began(NOW)
    for _ in range(3):
        failing.failed(NOW)
    until, probe = failing.open_until, failing.began(NOW)
    failing.failed(NOW + 5)
    failing.ended(probe=old)
    assert failing.open_until == until
    assert not failing.may_take(NOW + 10)  # the probe is still under way
    failing.ended(probe=probe)
    assert failing.may_take(NOW + 10)


def test_the_pause_is_the_first_one_again_after_a_steady_time():
    failing = opened()
    failing.failed(NOW + 10)
    failing.succeeded(NOW + 30)
    for _ in range(3):
        failing.failed(NOW + 40)
    assert failing.open_until == NOW + 40 + 40
    failing.succeeded(NOW + 80)
    for _ in range(3):
        failing.failed(NOW + 80 + 61)
    assert failing.open_until == NOW + 80 + 61 + 10


def test_where_nobody_listened_it_is_given_back_when_somebody_does():
    failing = standing()
    for _ in range(3):
        failing.failed(NOW, unreachable=True)
    assert failing.reached(NOW + 1)
    assert failing.may_take(NOW + 1)
    assert (failing.is_up, failing.share(NOW + 1)) == (True, 0.1)
    assert not failing.reached(NOW + 1)  # no news
    assert failing.failed(NOW + 2)  # the very next failure counts


def test_it_is_given_back_too_where_the_pause_was_over_and_nobody_asked():
    failing = standing()
    for _ in range(3):
        failing.failed(NOW, unreachable=True)
    assert failing.reached(NOW + 1000)
    assert failing.is_up


def test_what_a_knock_has_found_out_stays_true_whatever_was_under_way():
    failing = opened()
    failing.unreachable = True
    failing.failed(NOW + 1)
    assert failing.unreachable
    failing.reached(NOW + 2)
    failing.failed(NOW + 3)
    assert not failing.unreachable


def test_one_whose_breaker_is_closed_is_not_given_back():
    closed = standing()
    closed.failed(NOW, unreachable=True)
    assert not closed.reached(NOW)
    assert closed.failures == 1


# --- health checks ------------------------------------------------------------------------------------------------

HEALTH = HealthPolicy("/health", unhealthy_after=3, healthy_after=2)


def test_so_many_bad_checks_in_a_row_take_it_out_and_so_many_good_ones_give_it_back():
    checked = standing()
    outcomes = [False, False, True, False, False, False, True, False, True, True]
    changes = [checked.checked(NOW, HEALTH, good=good) for good in outcomes]
    assert changes == [False, False, False, False, False, True, False, False, False, True]
    assert (checked.well, checked.back_at) == (True, NOW)


def test_one_that_is_not_well_gets_nothing():
    checked = standing()
    for _ in range(3):
        checked.checked(NOW, HEALTH, good=False)
    assert not checked.may_take(NOW)
    assert not checked.is_up


# --- the choice ---------------------------------------------------------------------------------------------------


@dataclass
class End:
    standing: Standing


def ends(*weights: int) -> list[End]:
    return [End(standing(weight)) for weight in weights]


def test_nobody_is_chosen_where_nobody_may_be_used():
    out = End(opened())
    assert choose([out], now=NOW, rng=lambda: 0) is None
    assert choose([], now=NOW, rng=lambda: 0) is None
    assert choose([*ends(1), out], now=NOW, rng=lambda: 0.99).standing.is_up


def test_a_weight_of_0_gets_nothing():
    none, one = ends(0, 1)
    assert all(choose([none, one], now=NOW, rng=random.Random(n).random) is one for n in range(50))


def test_of_two_that_were_drawn_the_one_with_less_to_do_is_chosen():
    idle, busy = ends(1, 1)
    busy.standing.live = 3
    draws = iter([0.9, 0.1])
    assert choose([idle, busy], now=NOW, rng=lambda: next(draws)) is idle
    draws = iter([0.1, 0.9])
    assert choose([idle, busy], now=NOW, rng=lambda: next(draws)) is idle
    draws = iter([0.9, 0.9])
    assert choose([idle, busy], now=NOW, rng=lambda: next(draws)) is idle  # two are drawn, not one twice


def test_load_counts_by_weight():
    large, small = ends(3, 1)
    large.standing.live, small.standing.live = 4, 2
    draws = iter([0.9, 0.1])
    assert choose([large, small], now=NOW, rng=lambda: next(draws)) is large
    large.standing.live = 5  # with one more it would have as much to do for its weight
    draws = iter([0.9, 0.1])
    assert choose([large, small], now=NOW, rng=lambda: next(draws)) is small


@pytest.mark.parametrize(("busy", "share"), [(False, 0.75), (True, 0.75)], ids=["idle", "busy"])
def test_requests_go_by_weight(busy: bool, share: float):
    rng = random.Random(1)
    both = ends(3, 1)
    taken: Counter[int] = Counter()
    under_way: list[End] = []
    for _ in range(4000):
        chosen = choose(both, now=NOW, rng=rng.random)
        assert chosen is not None
        taken[chosen.standing.weight] += 1
        if busy:
            chosen.standing.live += 1
            under_way.append(chosen)
            if len(under_way) > 40:
                under_way.pop(rng.randrange(40)).standing.live -= 1
    assert taken[3] / 4000 == pytest.approx(share, abs=0.05)


@pytest.mark.parametrize("others", [1, 2])
def test_one_that_hangs_soon_gets_no_more(others: int):
    rng = random.Random(1)
    hung, *rest = ends(*[1] * (1 + others))
    for _ in range(1000):
        chosen = choose([hung, *rest], now=NOW, rng=rng.random)
        assert chosen is not None
        if chosen is hung:
            hung.standing.live += 1
    assert hung.standing.live <= 2


def test_one_that_is_back_gets_its_share_by_and_by():
    back = opened()
    back.succeeded(NOW)
    times = (0, SLOW_START_S / 2, SLOW_START_S, SLOW_START_S * 10)
    assert [back.share(NOW + since) for since in times] == [0.1, 0.5, 1, 1]


def test_the_last_one_is_drawn_whatever_floats_add_up_to():
    three = ends(1, 1, 1)
    assert choose(three, now=NOW, rng=lambda: 1.0) is three[2]


# --- trying again -------------------------------------------------------------------------------------------------


def test_a_few_retries_are_always_allowed():
    budget = Budget(RetryPolicy(budget_percent=20))
    allowed = sum(budget.spend() for _ in range(1000))
    assert allowed == LEAST_RETRIES_PER_S * WINDOW_S


def test_beyond_them_it_is_a_part_of_the_requests():
    budget = Budget(RetryPolicy(budget_percent=20))
    budget.requests = 1000
    assert sum(budget.spend() for _ in range(1000)) == 200


def test_what_is_too_old_counts_no_more():
    budget = Budget(RetryPolicy(budget_percent=20))
    budget.turn(NOW)
    budget.requests = 1000
    assert sum(budget.spend() for _ in range(1000)) == 200
    budget.turn(NOW + 1)
    assert not budget.spend()
    budget.turn(NOW + 5)
    assert not budget.spend()  # both still count
    budget.turn(NOW + 10)
    assert budget.spend()


@given(st.lists(st.tuples(st.floats(0, 3), st.integers(0, 50), st.integers(0, 20)), max_size=60))
def test_retries_never_exceed_what_two_windows_of_requests_allow(steps):
    budget, now, spent, asked = Budget(RetryPolicy(budget_percent=20)), 0.0, 0, 0
    for later, requests, retries in steps:
        now += later
        budget.turn(now)
        budget.requests += requests
        asked += requests
        spent += sum(budget.spend() for _ in range(retries))
    assert spent <= asked * 0.2 + LEAST_RETRIES_PER_S * WINDOW_S * (now / (WINDOW_S / 2) + 1)


@pytest.mark.parametrize(
    ("head", "invites"),
    [
        ([], True),
        ([b"\r\nContent-Type: text/plain"], True),
        ([b"\r\nRetry-After: 0"], True),
        ([b"\r\nretry-after:  0 "], True),
        ([b"\r\nRetry-After: 1"], False),
        ([b"\r\nRetry-After: 0", b"\r\nRetry-After: 60"], False),
        ([b"\r\nRetry-After: Wed, 25 Nov 2026 13:00:00 GMT"], False),
        ([b"\r\nRetry-After: "], False),
    ],
)
def test_a_503_invites_another_try_unless_it_asks_for_a_pause(head: list[bytes], invites: bool):
    assert invites_retry(head) is invites


def test_pauses_double_up_to_a_bound():
    assert [pause_s(made, 1.0) for made in (1, 2, 3, 4, 5, 50)] == [0.025, 0.05, 0.1, 0.2, 0.25, 0.25]
    assert pause_s(1, 0.0) == 0.0125
