"""The listening side: makes connections, knows which are open, and holds what they all share."""

import asyncio
import heapq
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

from aiohttp import web

from gateway.core.model import Limits
from gateway.errors import GatewayError
from gateway.net.convex import Room
from gateway.net.deadlines import SWEEP_S, Deadlines
from gateway.telemetry import Log
from gateway.web.access import access_line
from gateway.web.connection import Connection
from gateway.web.deps import Deps
from gateway.web.renewals import Renewals
from gateway.web.streams import Streams
from gateway.web.visit import Visit

# Garbage costs its sender nothing, so it must not fill a disk or push what matters out of sight.
UNREAD_PER_SWEEP = 20
FAREWELL_S = 1.0
# Beyond the cap so many more are let in, so that whoever watches over the gateway can still ask how it is: only its own
# addresses answer them, and only for a moment each.
SPARE_PLACES = 16
BRIEF_S = 1.0
FREED_SHARE = 16  # at the cap, one in so many connections is freed in a sweep, if so many are idle


async def _unused(_request: web.BaseRequest) -> NoReturn:
    raise AssertionError("Connection.start answers every request")


class Listener(web.Server):
    """Makes a `Connection` per client; `deps` may be exchanged while it runs."""

    def __init__(
        self, deps: Deps, own: web.Server, *, limits: Limits, deadlines: Deadlines, log: Log, clock: Callable[[], float]
    ) -> None:
        super().__init__(_unused)
        self.deps, self.own, self.limits, self.log, self.clock = deps, own, limits, log, clock
        self.draining = False
        self.port = 0
        self.deadlines = deadlines
        self.streams = Streams(deadlines, deps.random_bits, deps.revoked.is_revoked)
        self.renewals = Renewals(self.streams, lambda: self.deps, lambda: deadlines.now)
        self.room = Room(deadlines)
        self.unread_per_sweep, self._unread = UNREAD_PER_SWEEP, 0
        self.farewell_s = FAREWELL_S
        self._open: set[Connection] = set()
        self._per_address: Counter[str] = Counter()
        self._empty = asyncio.Event()
        self._empty.set()
        self.when_free: Callable[[], None] | None = None  # whom to tell of the next place that becomes free
        self._freed = self._told_full = False

    def __call__(self) -> Connection:
        """Make a connection; the event loop asks for one per client."""
        # A gzip body is forwarded as it came, so it must not be inflated; keep-alive is our own timer's business.
        limits = self.limits
        return Connection(
            self, loop=asyncio.get_running_loop(), access_log=None, auto_decompress=False, keepalive_timeout=0,
            max_line_size=limits.header_bytes, max_field_size=limits.header_bytes, max_headers=limits.headers,
        )  # fmt: skip

    def after(self, seconds: float) -> float:
        """Give the deadline so many seconds from now: at most `SWEEP_S` too late, but never too early."""
        return self.deadlines.now + SWEEP_S + seconds

    @property
    def places(self) -> int:
        """How many more connections may be opened, the spare ones included."""
        return self.limits.connections + SPARE_PLACES - len(self._open)

    @property
    def is_crowded(self) -> bool:
        """Whether the next connection gets a spare place only."""
        return len(self._open) >= self.limits.connections

    def opened(self, connection: Connection, address: str) -> bool:
        """Count a new connection and start its time; say whether its address may have another one."""
        read_s = self.limits.header_read_s
        if self.is_crowded:
            connection.spare = connection.closing = True
            read_s = min(read_s, BRIEF_S)
        connection.deadline = self.after(read_s)
        self._open.add(connection)
        self._per_address[address] += 1
        self.deadlines.watch(connection)
        self._empty.clear()
        if self.is_crowded and not self._freed:
            self._make_room()
        per_address = self.limits.connections_per_ip
        return not per_address or self._per_address[address] <= per_address

    def _make_room(self) -> None:
        """End the connections that have waited longest for another request; looks at all of them, once a sweep."""
        self._freed = True
        if not self._told_full:
            self._told_full = True
            self.log.event("connections_full", level="warning", limit=self.limits.connections)
        idle = (connection for connection in self._open if connection.is_idle)
        most = max(1, self.limits.connections // FREED_SHARE)
        for connection in heapq.nsmallest(most, idle, key=lambda each: each.deadline):
            connection.drain()

    def free_places(self) -> None:
        """Make room where it is still missing, each sweep."""
        if len(self._open) > self.limits.connections:
            self._make_room()
        self._freed = False
        if len(self._open) < self.limits.connections * (FREED_SHARE - 1) // FREED_SHARE:
            self._told_full = False

    def closed(self, connection: Connection, address: str) -> None:
        """Count it out again."""
        self.deadlines.unwatch(connection)
        self._open.discard(connection)
        self._per_address[address] -= 1
        if self._per_address[address] <= 0:
            del self._per_address[address]
        if not self._open:
            self._empty.set()
        if self.when_free is not None:
            self.when_free()

    def log_request(self, visit: Visit) -> None:
        """Write the access line of a request that was just answered; of what could not be read, only so many."""
        log = self.log
        if visit.inbound is None:
            self._unread += 1
            if self._unread > self.unread_per_sweep:
                return
        if log.wants_access:
            log.access(access_line(visit, log.stamp(), self.clock()))

    def count_unread(self) -> None:
        """Tell how many requests that could not be read were left out of the log since the last time."""
        left_out, self._unread = self._unread - self.unread_per_sweep, 0
        if left_out > 0:
            self.log.event("unread_requests_not_logged", level="warning", count=left_out)

    def log_fault(self, visit: Visit, error: Exception) -> None:
        """Tell what the client is not told: an error's detail, or where a fault of our own came from."""
        request_id = visit.request_id.decode()
        if not isinstance(error, GatewayError):
            self.log.event("request_failed", level="error", request_id=request_id, exc_info=error)
        elif error.status >= 500 and error.detail:
            self.log.event(error.code, level="warning", detail=error.detail, request_id=request_id)

    async def _part(self) -> None:
        """Let clients whose connection is idle send what they were about to; the answer tells them to close it."""
        # RFC 9112 §9.3.1: who closes an idle connection may meet a request on its way, which is lost then. A client
        # that asks one thing after the other asks the next one within this time, if it can be told at all.
        with suppress(TimeoutError):
            async with asyncio.timeout(self.farewell_s):
                await self._empty.wait()
        await asyncio.sleep(0)
        await asyncio.sleep(0)  # what has come by now is read

    async def drain(self, within_s: float) -> bool:
        """Let what runs finish; say whether all did in time."""
        self.draining = True
        self.streams.drain(within_s)
        finished = True
        try:
            async with asyncio.timeout(within_s):
                await self._part()
                for connection in tuple(self._open):
                    connection.drain()
                await self._empty.wait()
        except TimeoutError:
            finished = False
            self.streams.cut_all()  # first, so that their access lines say why
            for connection in tuple(self._open):
                connection.abort()
        await asyncio.sleep(0)  # each is told that it is lost,
        await asyncio.sleep(0)  # and ends what it was doing, its access line included
        return finished
