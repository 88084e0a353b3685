"""A gateway between a client and an upstream that are all ours, kept up for many examples, on an event loop of its own.

with Stage(uvloop.new_event_loop) as stage: told = stage.run(stage.converse(stream))
"""

import asyncio
import re
import socket
import struct
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, Self

from tests.fakes.gateway import Running, gateway
from tests.fakes.upstream import ScriptedUpstream
from tests.wire.fuzz import ADMIN, EXPIRED, MEMBER, Reply, Stream
from tests.wire.strict import Message, requests

QUIET = 60  # turns of the loop without a byte on either side: on loopback everybody has had his say
FOR_EVER = 400  # seconds; longer than any of the gateway's time-outs
ROUTES: list[dict[str, Any]] = [
    {"name": "public", "path": "/public/*", "upstream": "api", "auth": "public"},
    {"name": "optional", "path": "/optional/*", "upstream": "api", "auth": "optional"},
    {"name": "admin", "path": "/admin/*", "upstream": "api", "require": {"role": "org:admin"}},
    {"name": "api", "path": "/api/v1/*", "upstream": "api", "strip_prefix": "/api/v1", "auth": "optional"},
    {"name": "odd", "path": "/odd/*", "upstream": "api", "auth": "public", "allow_encoded": ["%2f", ";", "//"]},
    {"name": "rest", "path": "/*", "upstream": "api"},
]
LIMITS = {"header_bytes": 8192, "headers": 60, "body_bytes": 60_000}


@dataclass
class Seen:
    """A request that the upstream took for whole, and the number of its answer."""

    serial: int
    message: Message


@dataclass
class Link:
    """A connection to the upstream: all that came on it in this example."""

    data: bytearray = field(default_factory=bytearray)
    answered: int = 0
    ended: bool = False


class Witness:
    """The upstream: keeps what comes, answers in good form, or once with the reply it is armed with."""

    def __init__(self) -> None:
        self.links: list[Link] = []
        self.seen: list[Seen] = []
        self.armed: Reply | None = None
        self.moves = self._serial = 0

    def forget(self) -> None:
        """Make ready for the next example."""
        self.links = [link for link in self.links if not link.ended]
        for link in self.links:
            link.data.clear()
            link.answered = 0
        self.seen.clear()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection."""
        link = Link()
        self.links.append(link)
        try:
            while data := await reader.read(65_536):
                self.moves += 1
                link.data += data
                if not await self._answer(link, writer):
                    return
        finally:
            self.moves += 1
            link.ended = True

    async def _answer(self, link: Link, writer: asyncio.StreamWriter) -> bool:
        for message in requests(bytes(link.data)).messages[link.answered :]:
            link.answered += 1
            self._serial += 1
            self.seen.append(Seen(self._serial, message))
            if self.armed is None:
                writer.write(good_answer(self._serial, message.method))
                continue
            reply, self.armed = self.armed, None
            for piece in reply.stream.pieces:
                if writer.transport.is_closing():  # the gateway has seen enough
                    return False
                writer.write(piece)
                self.moves += 1
                for _ in range(3):
                    await asyncio.sleep(0)
            if reply.ending == "reset" and not writer.transport.is_closing():
                linger = struct.pack("ii", 1, 0)
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                writer.transport.abort()
            if reply.ending != "keep":
                return False
        return True


def good_answer(serial: int, method: bytes) -> bytes:
    """Write the answer of this number, framed this way or that."""
    body = b"answer %d" % serial
    framing = b"Transfer-Encoding: chunked" if serial % 3 == 1 else b"Content-Length: %d" % len(body)
    head = b"HTTP/1.1 200 OK\r\nX-Serial: %d\r\n%b\r\n\r\n" % (serial, framing)
    if method == b"HEAD":
        return head
    return head + (
        b"3\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (body[:3], len(body) - 3, body[3:]) if serial % 3 == 1 else body
    )


class Caller(asyncio.Protocol):
    """A client that keeps what comes, and how it ended: "eof", "reset", or "" while it lasts."""

    def __init__(self, witness: Witness) -> None:
        self.got = bytearray()
        self.ended = ""
        self._witness = witness

    def data_received(self, data: bytes) -> None:
        """Take bytes."""
        self._witness.moves += 1
        self.got += data

    def eof_received(self) -> None:
        """Note a clean end."""
        self.ended = self.ended or "eof"

    def connection_lost(self, exc: Exception | None) -> None:
        """Note an end."""
        self._witness.moves += 1
        self.ended = self.ended or ("eof" if exc is None else "reset")


@dataclass
class Told:
    """What became of one client's stream."""

    sent: bytes
    got: bytes
    ended: str
    seen: list[Seen]
    links: list[bytes]
    lines: list[dict[str, Any]]


class Stage:
    """See the module; one per event loop."""

    def __init__(self, loop_factory: Callable[[], asyncio.AbstractEventLoop]) -> None:
        self._runner = asyncio.Runner(loop_factory=loop_factory)
        self._exits = AsyncExitStack()
        self.run = self._runner.run
        self.witness = Witness()
        self.running: Running
        self.tokens: dict[bytes, bytes] = {}

    async def _open(self) -> None:
        upstream = await self._exits.enter_async_context(ScriptedUpstream(self.witness))
        started = gateway(upstream.port, routes=ROUTES, limits=LIMITS)
        running = self.running = await self._exits.enter_async_context(started)
        running.app.listener.unread_per_sweep = sys.maxsize  # every answer is held against its line
        admin = running.token(sub="user_2", o={"id": "org_1", "slg": "acme", "rol": "admin"})
        expired = running.token(exp=int(running.clock()) - 100)
        self.tokens = {MEMBER: running.token().encode(), ADMIN: admin.encode(), EXPIRED: expired.encode()}

    def filled(self, stream: Stream) -> list[bytes]:
        """Put the tokens in, and keep the cuts where they were."""
        data, pieces = stream.data, []
        ends = [sum(map(len, stream.pieces[: count + 1])) for count in range(len(stream.pieces))]
        places = {found.start(): found[0] for found in re.finditer(b"|".join(self.tokens), data)}
        at = 0
        for end in ends:
            piece = b""
            while at < end:
                name = places.get(at)  # a cut within it falls behind the token
                piece += data[at : at + 1] if name is None else self.tokens[name]
                at += 1 if name is None else len(name)
            pieces.append(piece)
        return [piece for piece in pieces if piece]

    async def converse(self, stream: Stream, reply: Reply | None = None) -> Told:
        """Send a client's stream, wait until nobody has anything to say, and tell what happened."""
        self.witness.forget()
        self.witness.armed = reply
        pieces = self.filled(stream)
        port = self.running.port
        transport, caller = await asyncio.get_running_loop().create_connection(
            lambda: Caller(self.witness), "127.0.0.1", port
        )
        for piece in pieces:
            if not transport.is_closing():
                transport.write(piece)
            for _ in range(4):
                await asyncio.sleep(0)
        await self.quiet()
        if stream.patient and not caller.ended:
            self.running.pass_time(FOR_EVER)
            await self.quiet()
        ended = caller.ended
        transport.close()
        await self._all_gone()
        self.witness.armed = None
        links = [bytes(link.data) for link in self.witness.links]
        lines = await self.running.news()
        return Told(b"".join(pieces), bytes(caller.got), ended, list(self.witness.seen), links, lines)

    async def quiet(self) -> None:
        """Wait until no byte has moved for a while."""
        turns, moves = 0, self.witness.moves
        while turns < QUIET:
            await asyncio.sleep(0)
            turns = turns + 1 if moves == self.witness.moves else 0
            moves = self.witness.moves

    async def _all_gone(self) -> None:
        for _ in range(5000):
            if not self.running.app.listener._open:
                break
            await asyncio.sleep(0)
        assert not self.running.app.listener._open, "a connection outlives its client"
        await self.quiet()

    def __enter__(self) -> Self:
        """Start everything."""
        self._runner.__enter__()
        self.run(self._open())
        return self

    def __exit__(self, *_: object) -> None:
        """Stop it."""
        try:
            self.run(self._exits.aclose())
        finally:
            self._runner.close()
