"""The upstream of what stays open, on the loader's core: `python -m tests.bench.live PORT`.

`/live/echo` takes WebSockets and sends every message back. `/live/events` sends events of 100 bytes at a steady pace,
each in a packet of its own, `/live/first` one at once and no other.
"""

import asyncio
import sys
from collections.abc import Callable

import uvloop

from tests.fakes.websocket import SWITCHED

UP = b"\x82\xe4\x01\x02\x03\x04" + b"x" * 100  # a frame as a client sends it, and as a server does
DOWN = b"\x82\x64" + b"x" * 100
PACE_S = 0.002  # long enough for a proxy to pass on one event of each stream before the next
END_OF_EVENT = b"!"  # stands nowhere else, in no proxy's framing either
EVENT = b"data: " + b"x" * 91 + END_OF_EVENT + b"\n\n"
CHUNK = b"%x\r\n%b\r\n" % (len(EVENT), EVENT)
STREAM = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)
EMPTY = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


class Live(asyncio.Protocol):
    """One connection: what it becomes is decided by its first request."""

    streams: set["Live"] = set()  # noqa: RUF012  of the whole process

    def __init__(self) -> None:
        self._got = b""
        self._echoes = False
        self.write: Callable[[bytes], None]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.write = transport.write  # type: ignore[attr-defined]

    def connection_lost(self, _error: Exception | None) -> None:
        self.streams.discard(self)

    def data_received(self, data: bytes) -> None:
        self._got += data
        if self._echoes:
            return self._echo()
        head, end, rest = self._got.partition(b"\r\n\r\n")
        if end:
            self._got = rest
            self._begin(head)
        return None

    def _begin(self, head: bytes) -> None:
        target = head.split(b" ", 2)[1]
        if target == b"/live/echo" and b"websocket" in head:
            self._echoes = True
            self.write(SWITCHED)
        elif target == b"/live/events":
            self.write(STREAM)
            self.streams.add(self)
        elif target == b"/live/first":
            self.write(STREAM + CHUNK)
        else:
            self.write(EMPTY)

    def _echo(self) -> None:
        whole = len(self._got) // len(UP)
        self._got = self._got[whole * len(UP) :]
        if whole:
            self.write(DOWN * whole)


async def serve(port: int) -> None:
    """Listen, and send everybody's events, until killed."""
    loop = asyncio.get_running_loop()
    await loop.create_server(Live, "127.0.0.1", port, backlog=1024)
    while True:
        await asyncio.sleep(PACE_S)
        for stream in tuple(Live.streams):
            stream.write(CHUNK)


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
