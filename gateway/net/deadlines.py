"""One coarse clock and one sweep for everything that may run out of time.

A timer per request would cost more than the request's parsing; moving a number costs nothing. So whoever waits sets its
`deadline` and is found by the next sweep, at most `SWEEP_S` late.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

SWEEP_S = 0.5


class Expiring(Protocol):
    """Something with a deadline in the clock's seconds, 0.0 for none."""

    deadline: float

    def expire(self) -> None:
        """Act on a deadline that has passed. Called outside any task: set a field, wake, never write an answer."""


class Deadlines:
    """The clock, and the set of what it watches; `now` lags by up to `SWEEP_S`."""

    __slots__ = ("_clock", "_each_sweep", "_handle", "_watched", "now")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._watched: set[Expiring] = set()
        self._each_sweep: list[Callable[[], None]] = []
        self._handle: asyncio.TimerHandle | None = None
        self.now = clock()

    def start(self) -> None:
        """Sweep from now on, until `stop`."""
        self._handle = asyncio.get_running_loop().call_later(SWEEP_S, self.start)
        self.sweep()  # last: whatever goes wrong in it, the next one comes

    def stop(self) -> None:
        """Sweep no more."""
        if self._handle is not None:
            self._handle.cancel()

    def sweep(self) -> None:
        """Move the clock on and expire what is over."""
        self.now = now = self._clock()
        for each in [each for each in self._watched if 0.0 < each.deadline < now]:
            each.deadline = 0.0
            each.expire()
        for call in self._each_sweep:
            call()

    def on_sweep(self, call: Callable[[], None]) -> None:
        """Call this too at each sweep."""
        self._each_sweep.append(call)

    def watch(self, expiring: Expiring) -> None:
        """Look at this one from now on."""
        self._watched.add(expiring)

    def unwatch(self, expiring: Expiring) -> None:
        """Forget it."""
        self._watched.discard(expiring)
