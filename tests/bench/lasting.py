"""How the rows of what stays open are measured: WebSockets and server-sent events. Their upstream is `live`."""

import asyncio
import socket
import time
from collections.abc import Sequence
from contextlib import ExitStack
from statistics import median
from typing import cast

import uvloop

from tests.bench import BenchError
from tests.bench.accounting import cpu_s, forget_peak, peak_mib, rss_mib
from tests.bench.live import DOWN, END_OF_EVENT, UP
from tests.bench.loads import ANSWER_S, CONNECTIONS, end_at_once
from tests.bench.measures import IDLE_SETTLES_S, MICRO, WARM_UP_S, Sample
from tests.bench.proxies import PROXIES
from tests.bench.stage import Stage, authorised
from tests.bench.tokens import Tokens
from tests.fakes.websocket import handshake

OPEN_SOCKETS = 1_000
EVENTS = 100_000
EVENTS_S = 60.0  # within which they have to come
FIRST_EVENTS = 100  # through the proxy in each round, and as many without it
MILLI = 1e3


class Lasting(asyncio.Protocol):
    """A client's connection that stays open; `count` grows with what came back, of all of them."""

    count = 0

    def __init__(self, head: bytes, status: bytes) -> None:
        self._head, self._begins = head, b"HTTP/1.1 " + status
        self._got = b""
        self._begun = False
        self.first: asyncio.Future[None] = asyncio.get_running_loop().create_future()  # has come back

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.write = self.transport.write
        self.write(self._head)

    def connection_lost(self, _error: Exception | None) -> None:
        if not self.first.done():
            self.first.set_exception(BenchError(f"closed after {self._got[:200]!r}"))

    def data_received(self, data: bytes) -> None:
        if self._begun:
            return self.came(data)
        head, end, rest = (self._got + data).partition(b"\r\n\r\n")
        self._got = head + end
        if not head.startswith(self._begins[: len(head)]):
            self.transport.abort()
        elif end:
            self._begun = True
            self.begun()
            if rest:
                self.came(rest)
        return None

    def begun(self) -> None:
        """The head of the answer has come."""

    def came(self, data: bytes) -> None:
        """Something has come behind the head."""
        raise NotImplementedError

    def count_in(self, number: int) -> None:
        """Count what came back."""
        Lasting.count += number
        if number and not self.first.done():
            self.first.set_result(None)


class Echoed(Lasting):
    """A WebSocket that sends a message, waits until it is back, and sends the next one while `goes_on`."""

    def __init__(self, fields: Sequence[str], *, goes_on: bool) -> None:
        super().__init__(handshake("/live/echo", *fields), b"101")
        self._goes_on, self._bytes = goes_on, 0

    def begun(self) -> None:
        self.write(UP)

    def came(self, data: bytes) -> None:
        self._bytes += len(data)
        if self._bytes >= len(DOWN):
            self._bytes -= len(DOWN)
            self.count_in(1)
            if self._goes_on:
                self.write(UP)


class Events(Lasting):
    """An EventSource."""

    def __init__(self, fields: Sequence[str]) -> None:
        super().__init__(_ask("/live/events", fields), b"200")

    def came(self, data: bytes) -> None:
        self.count_in(data.count(END_OF_EVENT))


def _ask(target: str, fields: Sequence[str]) -> bytes:
    return "\r\n".join((f"GET {target} HTTP/1.1", "Host: gw", "Accept: text/event-stream", *fields, "", "")).encode()


def field_lines(tokens: Tokens) -> list[str]:
    """Write the header fields of a client that may pass."""
    return [f"{name}: {value}" for name, value in authorised(tokens.good).items()]


async def opened(port: int, clients: Sequence[Lasting]) -> None:
    """Connect them one by one, and wait until each has got something."""
    loop = asyncio.get_running_loop()
    for client in clients:
        await loop.create_connection(lambda client=client: client, "127.0.0.1", port)  # type: ignore[misc]
    async with asyncio.timeout(ANSWER_S):
        await asyncio.gather(*(client.first for client in clients))


def _end(clients: Sequence[Lasting]) -> None:
    lost = sum(client.transport.is_closing() for client in clients)
    for client in clients:
        client.transport.abort()
    if lost:
        raise BenchError(f"{lost} of {len(clients)} were closed")


def websocket(stage: Stage, proxy: str) -> Sample:
    """Send messages of 100 bytes through 64 sockets; each waits until its message is back."""

    async def measure() -> Sample:
        process, fields = stage.running[proxy], field_lines(stage.tokens)
        clients = [Echoed(fields, goes_on=True) for _ in range(CONNECTIONS)]
        await opened(process.port, clients)
        await asyncio.sleep(WARM_UP_S)
        spent, count, began = cpu_s(process.pid), Lasting.count, time.monotonic()
        await asyncio.sleep(stage.seconds)
        spent, count, took = cpu_s(process.pid) - spent, Lasting.count - count, time.monotonic() - began
        _end(clients)
        if not count:
            raise BenchError("nothing came back")
        return Sample(MICRO * spent / count, per_s=count / took)

    return uvloop.run(measure())


def sockets(stage: Stage, proxy: str) -> Sample:
    """Start anew, and see what many open sockets take that have sent a message each and now rest."""

    async def measure() -> Sample:
        rest = rss_mib(process.pid)
        clients = [Echoed(field_lines(stage.tokens), goes_on=False) for _ in range(OPEN_SOCKETS)]
        await opened(process.port, clients)
        await asyncio.sleep(IDLE_SETTLES_S)
        memory = rss_mib(process.pid)
        _end(clients)
        return Sample(memory - rest)

    with ExitStack() as until:
        process = stage.start(PROXIES[proxy], until, f"{proxy}-sockets")
        return uvloop.run(measure())


def events(stage: Stage, proxy: str) -> Sample:
    """Start anew, and pass on 100,000 events to 64 clients."""

    async def measure() -> Sample:
        clients = [Events(field_lines(stage.tokens)) for _ in range(CONNECTIONS)]
        await opened(process.port, clients)
        forget_peak(process.pid)
        memory, spent, count, began = rss_mib(process.pid), cpu_s(process.pid), Lasting.count, time.monotonic()
        async with asyncio.timeout(EVENTS_S):
            while Lasting.count - count < EVENTS:
                await asyncio.sleep(WARM_UP_S)
        spent, count, took = cpu_s(process.pid) - spent, Lasting.count - count, time.monotonic() - began
        grown = peak_mib(process.pid) - memory
        _end(clients)
        return Sample(MICRO * spent / count, per_s=count / took, growth_mib=grown)

    with ExitStack() as until:
        process = stage.start(PROXIES[proxy], until, f"{proxy}-events")
        return uvloop.run(measure())


def first_event(stage: Stage, proxy: str) -> Sample:
    """Take turns: one stream through the proxy, one from the upstream itself; compare the medians of their first bytes."""
    fields = field_lines(stage.tokens)
    ports = (stage.around.upstream.live_port, stage.running[proxy].port)
    waits = [[_first_event_s(port, fields) for port in ports] for _ in range(FIRST_EVENTS)]
    direct, through = (median(each) for each in zip(*waits, strict=True))
    return Sample(MILLI * (through - direct))


def _first_event_s(port: int, fields: Sequence[str]) -> float:
    with socket.create_connection(("127.0.0.1", port), timeout=ANSWER_S) as client:
        began = time.perf_counter()
        client.sendall(_ask("/live/first", fields))
        got = b""
        while END_OF_EVENT not in got:
            data = client.recv(4096)
            if not data:
                raise BenchError(f"closed after {got[:200]!r}")
            got += data
        took = time.perf_counter() - began
        end_at_once(client)
    return took
