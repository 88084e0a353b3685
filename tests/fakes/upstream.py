"""Upstreams on loopback: one that says what it received, byte for byte, and one that answers what a test scripts."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Received:
    """One request as it came over the wire; field names in the case they came in."""

    method: str
    target: str
    fields: list[tuple[str, str]]
    body: bytes
    raw_head: bytes = b""

    def values(self, name: str) -> list[str]:
        """Every value of a field, in order; names compare in lower case."""
        return [value for have, value in self.fields if have.lower() == name.lower()]

    def value(self, name: str) -> str | None:
        """The only value of a field, None if there is none."""
        values = self.values(name)
        assert len(values) <= 1, f"{name} came {len(values)} times"
        return values[0] if values else None


async def read_request(reader: asyncio.StreamReader) -> Received | None:
    """Read one request the plain way; None at the end of the connection."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    lines = head.decode("latin-1").split("\r\n")[:-2]
    method, target, _ = lines[0].split(" ")
    fields = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines[1:])]
    request = Received(method, target, fields, b"", head)
    if request.value("transfer-encoding") == "chunked":
        request.body = await _chunked(reader)
    elif length := request.value("content-length"):
        request.body = await reader.readexactly(int(length))
    return request


async def _chunked(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while size := int((await reader.readline()).split(b";")[0], 16):
        body += await reader.readexactly(size)
        await reader.readexactly(2)
    await reader.readline()
    return body


def response(status: int = 200, body: bytes = b"", *, fields: tuple[str, ...] = (), reason: str = "OK") -> bytes:
    """Write a whole answer with Content-Length."""
    head = [f"HTTP/1.1 {status} {reason}", *fields, f"Content-Length: {len(body)}"]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


class ScriptedUpstream:
    """A server on 127.0.0.1 whose every connection is carried by a script; ends with the `async with`."""

    def __init__(self, script: Script, *, port: int = 0) -> None:
        self._script = script
        self._tasks: set[asyncio.Task[None]] = set()
        self.connections = 0
        self.port = port  # 0 until it listens: any that is free

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            await self._script(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port, limit=2**20)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@dataclass
class Echo:
    """The script of an upstream that answers every request with what it received, and keeps it."""

    requests: list[Received] = field(default_factory=list)
    fields: tuple[str, ...] = ("Content-Type: application/json",)

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until the client ends it."""
        while (request := await read_request(reader)) is not None:
            self.requests.append(request)
            seen: dict[str, Any] = {"method": request.method, "target": request.target, "headers": request.fields}
            body = json.dumps(seen | {"body": request.body.decode("latin-1")}).encode()
            writer.write(response(body=b"" if request.method == "HEAD" else body, fields=self.fields))
            await writer.drain()

    @property
    def last(self) -> Received:
        """The request that came last."""
        return self.requests[-1]
