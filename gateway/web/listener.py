"""The listening side: makes connections, knows which are open, and holds what they all share."""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import NoReturn

from aiohttp import web

from gateway.core.model import Limits
from gateway.errors import GatewayError
from gateway.net.deadlines import SWEEP_S, Deadlines
from gateway.telemetry import Log
from gateway.web.access import access_line
from gateway.web.connection import Connection
from gateway.web.deps import Deps
from gateway.web.streams import Streams
from gateway.web.visit import Visit

# Garbage costs its sender nothing, so it must not fill a disk or push what matters out of sight.
UNREAD_PER_SWEEP = 20


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
        self.streams = Streams(deadlines, deps.random_bits)
        self.unread_per_sweep, self._unread = UNREAD_PER_SWEEP, 0
        self._open: set[Connection] = set()
        self._per_address: Counter[str] = Counter()
        self._empty = asyncio.Event()
        self._empty.set()

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

    def opened(self, connection: Connection, address: str) -> bool:
        """Count a new connection; say whether there is room for it."""
        self._open.add(connection)
        self._per_address[address] += 1
        self.deadlines.watch(connection)
        self._empty.clear()
        per_address = self.limits.connections_per_ip
        return len(self._open) <= self.limits.connections and (
            not per_address or self._per_address[address] <= per_address
        )

    def closed(self, connection: Connection, address: str) -> None:
        """Count it out again."""
        self.deadlines.unwatch(connection)
        self._open.discard(connection)
        self._per_address[address] -= 1
        if self._per_address[address] <= 0:
            del self._per_address[address]
        if not self._open:
            self._empty.set()

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

    async def drain(self, within_s: float) -> bool:
        """Let what runs finish; say whether all did in time. Idle connections are closed at once."""
        self.draining = True
        for connection in tuple(self._open):
            connection.drain()
        self.streams.drain(within_s)
        finished = True
        try:
            async with asyncio.timeout(within_s):
                await self._empty.wait()
        except TimeoutError:
            finished = False
            self.streams.cut_all()  # first, so that their access lines say why
            for connection in tuple(self._open):
                connection.abort()
        await asyncio.sleep(0)  # each is told that it is lost,
        await asyncio.sleep(0)  # and ends what it was doing, its access line included
        return finished
