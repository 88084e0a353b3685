"""Asking endpoints whether they are well, where that is configured, and whether they are there again.

Each question has a connection of its own: that also finds an endpoint that answers on open connections but accepts no
new ones.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from gateway.core.model import Upstream
from gateway.errors import GatewayError, Overloaded, UpstreamRefused
from gateway.net.deadlines import Deadlines
from gateway.net.pool import Pool

QUESTION = b"GET %b HTTP/1.1\r\nHost: %b\r\nUser-Agent: gateway-health\r\nAccept: */*\r\nConnection: close\r\n\r\n"
KNOCK_S = 1.0  # between two knocks, and for an answer to one


class Changed(Protocol):
    """Whoever wants to know."""

    def __call__(self, pool: Pool, *, up: bool, why: str) -> None:
        """Take the news that an endpoint is well again, or is not."""


class HealthChecks:
    """The checks of an upstream's endpoints; each endpoint counts as well until they say otherwise."""

    __slots__ = ("_changed", "_deadlines", "_pools", "_tasks", "_upstream", "deadline")

    def __init__(self, upstream: Upstream, pools: Sequence[Pool], deadlines: Deadlines, changed: Changed) -> None:
        self._upstream, self._pools, self._deadlines, self._changed = upstream, pools, deadlines, changed
        self._tasks: dict[Pool, asyncio.Task[None]] = {}
        self.deadline = 0.0
        deadlines.watch(self)
        self.expire()

    def expire(self) -> None:
        """Ask each endpoint once more (`net.deadlines`), unless it still owes the last answer."""
        self.deadline = self._deadlines.now + self._upstream.health.interval_s
        for pool in self._pools:
            self.ask(pool)

    def ask(self, pool: Pool) -> None:
        """Ask this one now."""
        if pool not in self._tasks:
            self._tasks[pool] = asyncio.get_running_loop().create_task(self._check(pool))

    async def _check(self, pool: Pool) -> None:
        try:
            why = await self._fault(pool)
        except Overloaded:
            return  # nobody was asked
        finally:
            del self._tasks[pool]
        if pool.standing.checked(self._deadlines.now, self._upstream.health, good=why is None):
            self._changed(pool, up=why is None, why=why or "its health check passes")

    async def _fault(self, pool: Pool) -> str | None:
        """Ask one endpoint; give what is wrong with it. Raises Overloaded: this machine cannot ask."""
        policy = self._upstream.health
        assert policy.path is not None
        try:
            wire = await pool.open_aside(policy.timeout_s)
        except Overloaded:
            raise
        except GatewayError as error:
            return error.detail or error.code
        try:
            question = QUESTION % (policy.path.encode(), pool.endpoint.authority)
            await wire.send(question, is_head=False, response_s=policy.timeout_s)
            if wire.fault is not None:
                return wire.fault.detail or wire.fault.code
            return None if 200 <= wire.status < 400 else f"its health check is answered {wire.status}"
        finally:
            wire.abort()

    def stop(self) -> None:
        """Ask no more."""
        self._deadlines.unwatch(self)
        for task in tuple(self._tasks.values()):
            task.cancel()


class Knocking:
    """Looks whether somebody listens at an endpoint that is left alone, and tells when one does where nobody did.

    A service that was restarted is back within a second or two, and not only when the breaker's pause, made for one
    that is there and fails, is over.
    """

    __slots__ = ("_deadlines", "_due", "_reached", "_tasks")

    def __init__(self, deadlines: Deadlines, reached: Callable[[Pool], None]) -> None:
        self._deadlines, self._reached = deadlines, reached
        self._due: dict[Pool, float] = {}
        self._tasks: dict[Pool, asyncio.Task[None]] = {}

    def at(self, pool: Pool) -> None:
        """Knock at this one, unless that was done just now."""
        now = self._deadlines.now
        if pool not in self._tasks and now >= self._due.get(pool, 0.0):
            self._due[pool] = now + KNOCK_S
            self._tasks[pool] = asyncio.get_running_loop().create_task(self._knock(pool))

    async def _knock(self, pool: Pool) -> None:
        try:
            wire = await pool.open_aside(KNOCK_S)
        except UpstreamRefused:
            pool.standing.unreachable = True
            return
        except GatewayError:
            return
        finally:
            del self._tasks[pool]
        wire.abort()
        if pool.standing.unreachable:  # else it was there all the time, and fails: a pause is what it needs
            pool.standing.unreachable = False
            self._reached(pool)

    def stop(self) -> None:
        """Knock no more."""
        for task in tuple(self._tasks.values()):
            task.cancel()
