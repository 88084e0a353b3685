"""The sweep finds what is over, once, and nothing else."""

import asyncio

import pytest

from gateway.net.deadlines import Deadlines
from tests.fakes.gateway import Clock


class Waiting:
    def __init__(self, deadline: float) -> None:
        self.deadline, self.expired = deadline, 0

    def expire(self) -> None:
        self.expired += 1


def test_only_what_is_over_expires_and_only_once() -> None:
    clock = Clock(100.0)
    deadlines = Deadlines(clock)
    over, later, never = Waiting(101.0), Waiting(200.0), Waiting(0.0)
    for waiting in (over, later, never):
        deadlines.watch(waiting)
    deadlines.sweep()
    assert over.expired == 0
    clock.seconds = 101.5
    deadlines.sweep()
    deadlines.sweep()
    assert (over.expired, later.expired, never.expired) == (1, 0, 0)
    assert deadlines.now == 101.5


def test_what_is_no_longer_watched_is_left_alone() -> None:
    clock = Clock(100.0)
    deadlines, gone = Deadlines(clock), Waiting(101.0)
    deadlines.watch(gone)
    deadlines.unwatch(gone)
    clock.seconds = 200.0
    deadlines.sweep()
    assert gone.expired == 0


def test_expiring_may_end_other_watches() -> None:
    clock = Clock(100.0)
    deadlines, other = Deadlines(clock), Waiting(500.0)

    class Ending(Waiting):
        def expire(self) -> None:
            super().expire()
            deadlines.unwatch(other)

    ending = Ending(101.0)
    deadlines.watch(ending)
    deadlines.watch(other)
    clock.seconds = 102.0
    deadlines.sweep()
    clock.seconds = 600.0
    deadlines.sweep()
    assert (ending.expired, other.expired) == (1, 0)


async def test_it_sweeps_by_itself_once_started_and_calls_who_asked() -> None:
    clock, called = Clock(100.0), []
    deadlines = Deadlines(clock)
    deadlines.on_sweep(lambda: called.append(deadlines.now))
    deadlines.start()
    deadlines.stop()
    assert called == [100.0]


async def test_a_sweep_that_goes_wrong_is_not_the_last_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.net.deadlines.SWEEP_S", 0)
    swept = asyncio.Event()

    def wrong_at_first() -> None:
        if not calls:
            calls.append(1)
            raise RuntimeError
        swept.set()

    calls: list[int] = []
    deadlines = Deadlines(Clock(100.0))
    deadlines.on_sweep(wrong_at_first)
    with pytest.raises(RuntimeError):
        deadlines.start()
    await swept.wait()
    deadlines.stop()


async def test_after_stop_it_sweeps_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.net.deadlines.SWEEP_S", 0)
    called: list[int] = []
    deadlines = Deadlines(Clock(100.0))
    deadlines.on_sweep(lambda: called.append(1))
    deadlines.start()
    deadlines.stop()
    for _ in range(5):
        await asyncio.sleep(0)
    assert called == [1]
