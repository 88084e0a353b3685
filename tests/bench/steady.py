"""Clients that ask one thing after the other on kept connections, and know the one right answer to each.

No two requests are the same, so an answer that belongs to another one is found. What a client may put up with is its
scene's business: here it is only counted.
"""

import asyncio
import random
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from tests.bench.crowd import GONE, PATIENCE_S, head_of, read_answer
from tests.bench.ledger import reply
from tests.bench.loads import SOURCES

AGAIN_S = 0.05  # before a connection is tried again
BODY = b"x" * 200
BIND_ADDRESS_NO_PORT = 24  # ip(7): let connect choose the port, which may then serve several destinations


class Failure(NamedTuple):
    """A request that was sent, or could not be, and was not answered as it should be."""

    target: bytes
    began: float
    ended: float
    why: str


@dataclass
class Tally:
    """What became of everything."""

    answered: int = 0
    refused: int = 0  # connects that found nobody listening
    announced: int = 0  # connections closed behind a `Connection: close`
    lost: int = 0  # connections closed between two requests without one
    failures: list[Failure] = field(default_factory=list)


async def connect(port: int, number: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect; the number chooses the address to come from. None of them is the gateway's own: on loopback a client
    that tries a closed port for long is at last given that very port, and meets itself (RFC 9293 §3.5)."""
    client = socket.socket()
    client.setblocking(False)
    client.setsockopt(socket.IPPROTO_IP, BIND_ADDRESS_NO_PORT, 1)
    client.bind((f"127.0.0.{2 + number % SOURCES}", 0))
    try:
        await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", port))
        return await asyncio.open_connection(sock=client)
    except BaseException:
        client.close()
        raise


class Steady:
    """So many clients of one port."""

    def __init__(
        self, port: int, clients: int, tally: Tally, *, fields: Mapping[str, str], method: str = "GET",
        prefix: str = "/api", pause_s: float = 0.0,
    ) -> None:  # fmt: skip
        self._port, self._tally, self._pause_s = port, tally, pause_s
        self._body = BODY if method == "POST" else b""
        framing = {"Content-Length": str(len(BODY))} if self._body else {}
        self._head = head_of(method, "{}", {**fields, **framing}).decode()
        self._prefix = f"{prefix}/{random.getrandbits(32):08x}"
        self._number = 0
        self._over = False
        self.tasks = [asyncio.create_task(self._client(number)) for number in range(clients)]

    async def stop(self) -> None:
        """Let every client finish what it is doing."""
        self._over = True
        await asyncio.gather(*self.tasks)

    async def _client(self, number: int) -> None:
        while not self._over:
            began = time.monotonic()
            try:
                reader, writer = await connect(self._port, number)
            except ConnectionRefusedError:
                self._tally.refused += 1
                await asyncio.sleep(AGAIN_S)
                continue
            except OSError as error:
                self._fail(b"connect", began, repr(error))
                await asyncio.sleep(AGAIN_S)
                continue
            try:
                kind = "new"
                while not self._over and await self._one(reader, writer, kind):
                    kind = "kept"
                    await self._pause()
            finally:
                writer.close()

    async def _pause(self) -> None:
        if self._pause_s:
            await asyncio.sleep(random.random() * self._pause_s)

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, kind: str) -> bool:
        """Ask once; say whether the connection is good for more."""
        if reader.at_eof() or reader.exception() is not None:
            self._tally.lost += 1
            return False
        self._number += 1
        target = f"{self._prefix}/{self._number}"
        began, wanted = time.monotonic(), reply(target.encode(), self._body)
        writer.write(self._head.format(target).encode() + b"\r\n\r\n" + self._body)
        try:
            async with asyncio.timeout(PATIENCE_S):
                answer = await read_answer(reader)
        except (*GONE, TimeoutError) as error:
            self._fail(target.encode(), began, f"{error!r} on a {kind} connection")
            return False
        if answer.status != 200 or answer.begun != wanted:
            self._fail(target.encode(), began, f"{answer.status} {answer.begun!r}")
            return False
        self._tally.answered += 1
        self._tally.announced += answer.last
        return not answer.last

    def _fail(self, target: bytes, began: float, why: str) -> None:
        self._tally.failures.append(Failure(target, began, time.monotonic(), why))
