import pytest

from gateway.core.delivery import Answer, Subscription
from gateway.core.model import Endpoint, Upstream
from gateway.net.outlet import KNOCK_MOST_S, KNOCK_S, VAIN_MOST_S, Knocks, Outlet

NOBODY, BUSY, GOOD = Answer(None, "cannot be connected to"), Answer(503), Answer(200)


@pytest.fixture
def outlet() -> Outlet:
    end = Endpoint("127.0.0.1", 1, authority=b"127.0.0.1:1")
    return Outlet(Subscription(Upstream("api", (end,)), "/hooks", ("*",), b"key"))


def times(knocks: Knocks, *, until: int) -> list[int]:
    """Give the seconds at which it is time to look."""
    return [second for second in range(until) if knocks.is_time(second)]


def test_nobody_is_looked_for_who_was_not_missed(outlet: Outlet) -> None:
    outlet.note(GOOD, now=0)
    outlet.note(BUSY, now=0)
    assert times(outlet.knocks, until=1000) == []


def test_who_was_missed_is_looked_for_ever_more_seldom(outlet: Outlet) -> None:
    outlet.note(NOBODY, now=0)
    outlet.note(NOBODY, now=3)
    assert times(outlet.knocks, until=200) == [5, 15, 35, 75, 135, 195]
    assert (KNOCK_S, KNOCK_MOST_S) == (5, 60)


def test_an_answer_ends_it(outlet: Outlet) -> None:
    outlet.note(NOBODY, now=0)
    outlet.note(Answer(502), now=1)  # somebody is there, and what waits has its schedule
    assert times(outlet.knocks, until=1000) == []


def test_who_takes_connections_in_vain_is_looked_for_by_the_hour(outlet: Outlet) -> None:
    outlet.note(NOBODY, now=0)
    found = []
    for second in range(8 * 3600):
        if outlet.knocks.is_time(second):
            outlet.found()
            assert outlet.is_back
            outlet.note(NOBODY, now=second)
            assert not outlet.is_back
            found.append(second)
    assert found[:4] == [5, 15, 35, 75]
    assert found[-1] - found[-2] == VAIN_MOST_S
