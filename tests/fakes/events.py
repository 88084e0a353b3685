"""An upstream whose answers a test writes piece by piece, and what a raw client reads of them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from tests.fakes.gateway import Running, gateway
from tests.fakes.upstream import Received, ScriptedUpstream, read_request

Reader, Writer = asyncio.StreamReader, asyncio.StreamWriter

EVENT_STREAM = "Content-Type: text/event-stream"
CHUNKED = "Transfer-Encoding: chunked"


class Exchange:
    """One request as the upstream got it; it answers what the test says."""

    def __init__(self, request: Received, reader: Reader, writer: Writer) -> None:
        self.request, self._reader, self.writer = request, reader, writer
        self.chunked = False
        self.ended = asyncio.Event()

    def head(self, *fields: str, status: int = 200) -> None:
        """Begin an answer."""
        self.chunked = CHUNKED in fields
        self.writer.write("\r\n".join((f"HTTP/1.1 {status} OK", *fields)).encode() + b"\r\n\r\n")

    def say(self, data: bytes) -> None:
        """Go on with it."""
        self.writer.write(b"%x\r\n%b\r\n" % (len(data), data) if self.chunked else data)

    def end(self) -> None:
        """End it cleanly; without chunks the connection's end does."""
        if self.chunked:
            self.writer.write(b"0\r\n\r\n")
        else:
            self.writer.close()
        self.ended.set()

    async def left(self) -> None:
        """Return once the gateway has left."""
        with suppress(ConnectionResetError):
            assert await self._reader.read() == b""


class Storyteller:
    """The script of an upstream that hands every exchange to the test."""

    def __init__(self) -> None:
        self.exchanges: asyncio.Queue[Exchange] = asyncio.Queue()

    async def __call__(self, reader: Reader, writer: Writer) -> None:
        """Serve one request after the other, each as long as it lasts."""
        while (request := await read_request(reader)) is not None:
            exchange = Exchange(request, reader, writer)
            await self.exchanges.put(exchange)
            await exchange.ended.wait()

    async def asked(self) -> Exchange:
        """Give the next exchange."""
        return await self.exchanges.get()


@asynccontextmanager
async def telling(**overrides: Any) -> AsyncIterator[tuple[Running, Storyteller]]:
    """Run one and a gateway in front of it."""
    teller = Storyteller()
    async with ScriptedUpstream(teller) as upstream, gateway(upstream.port, **overrides) as running:
        yield running, teller


class Listening:
    """A raw client that reads an answer as it comes."""

    def __init__(self, reader: Reader, writer: Writer) -> None:
        self.reader, self.writer = reader, writer

    async def head(self) -> list[str]:
        """Give the head's lines."""
        return (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[:-2]

    async def chunk(self) -> bytes:
        """Give the next chunk, b"" for the last one."""
        size = int(await self.reader.readuntil(b"\r\n"), 16)
        return (await self.reader.readexactly(size + 2))[:-2]

    async def cut(self) -> bool:
        """Whether it ends now, and as nothing that was whole could."""
        try:
            return await self.reader.readexactly(1) == b"never"
        except asyncio.IncompleteReadError:
            return True  # at the place of a chunk that is not the last one, or of bytes that were announced
        except ConnectionResetError:
            return True

    async def reset(self) -> bool:
        """Whether it ends now with a reset, the only cut where the connection's end ends the body."""
        try:
            await self.reader.read()
        except ConnectionResetError:
            return True
        return False


@asynccontextmanager
async def listening(
    running: Running, target: str = "/public/events", *lines: str, token: str | None = None, method: str = "GET",
    version: str = "1.1",
) -> AsyncIterator[Listening]:  # fmt: skip
    """Ask for a stream."""
    reader, writer = await running.connect()
    head = [f"{method} {target} HTTP/{version}", "Host: gw.example.com", *lines]
    head += [f"Authorization: Bearer {token}"] if token else []
    writer.write("\r\n".join(head).encode() + b"\r\n\r\n")
    try:
        yield Listening(reader, writer)
    finally:
        writer.close()


async def line_of(running: Running, count: int = 1) -> dict[str, Any]:
    """Give the last access line, once there are so many."""
    while True:
        lines = [line for line in await running.logged() if line["event"] == "request"]
        if len(lines) >= count:
            return lines[-1]
