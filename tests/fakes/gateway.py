"""A running gateway on loopback in front of a fake upstream, with a fake Clerk's key; and a raw client to speak to it.

async with gateway(upstream.port) as running: answer = await running.get("/hello", token=CLERK.session_token(running.now))
"""

import asyncio
import json
import os
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import yaml

from gateway.config import Config, load_text
from gateway.telemetry import LineWriter
from gateway.web.app import Gateway
from tests.fakes.clerk import FakeClerk

CLERK = FakeClerk()
APP = "https://app.example.com"


def settings(upstream_port: int, **overrides: Any) -> dict[str, Any]:
    """Write the configuration most tests start from; an override replaces a top-level block."""
    return {
        "listen": {"host": "127.0.0.1", "port": 0},
        "admin": {"port": None},
        "clerk": {"issuer": CLERK.issuer, "jwt_key": CLERK.pem(), "authorized_parties": [APP]},
        "upstreams": {"api": {"url": f"http://127.0.0.1:{upstream_port}"}},
        "routes": [
            {"name": "public", "path": "/public/*", "upstream": "api", "auth": "public"},
            {"name": "optional", "path": "/optional/*", "upstream": "api", "auth": "optional"},
            {"name": "admin", "path": "/admin/*", "upstream": "api", "require": {"role": "org:admin"}},
            {"name": "rest", "path": "/*", "upstream": "api"},
        ],
        "cors": {"origins": [APP]},
        "store": {"url": None},
        "drain_s": 1,
    } | overrides


@dataclass
class Answer:
    """What a client received; field names in lower case."""

    status: int
    fields: list[tuple[str, str]]
    body: bytes

    def values(self, name: str) -> list[str]:
        """Every value of a field, in order."""
        return [value for have, value in self.fields if have == name]

    def value(self, name: str) -> str | None:
        """The only value of a field, None if there is none."""
        values = self.values(name)
        assert len(values) <= 1, f"{name} came {len(values)} times"
        return values[0] if values else None

    @property
    def json(self) -> Any:
        """The body, parsed."""
        return json.loads(self.body)


async def read_answer(reader: asyncio.StreamReader, *, is_head: bool = False) -> Answer:
    """Read one answer the plain way. Raises IncompleteReadError where it was cut."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[:-2]
    status = int(head[0].split(" ")[1])
    fields = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in head[1:])]
    answer = Answer(status, fields, b"")
    if status in (100, 204, 304) or is_head:
        return answer
    if answer.value("transfer-encoding") == "chunked":
        answer.body = await _chunks(reader)
    elif (length := answer.value("content-length")) is not None:
        answer.body = await reader.readexactly(int(length))
    else:
        answer.body = await reader.read()
    return answer


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while size := int(await reader.readuntil(b"\r\n"), 16):
        body += (await reader.readexactly(size + 2))[:-2]
    await reader.readuntil(b"\r\n")
    return body


@dataclass
class File:
    """The configuration file, as far as a gateway can tell."""

    text: str
    environ: Mapping[str, str]

    def write(self, upstream_port: int, **overrides: Any) -> None:
        """Write it anew; overrides as `settings` takes them."""
        self.text = yaml.safe_dump(settings(upstream_port, **overrides))

    def load(self) -> Config:
        """Load it."""
        return load_text(self.text, self.environ, name="test.yaml")


@dataclass
class Clock:
    """Unix seconds that a test moves."""

    seconds: float = field(default_factory=lambda: float(int(time.time())))

    def __call__(self) -> float:
        """Give the time."""
        return self.seconds


class Running:
    """A started gateway, with ways to ask it; `monotonic` is the clock of its time-outs."""

    def __init__(self, app: Gateway, clock: Clock, monotonic: Clock, log_path: str, file: "File") -> None:
        self.app, self.clock, self.monotonic, self.file = app, clock, monotonic, file
        self._log_path, self._told = log_path, 0
        self.secured: dict[str, Any] = {}  # what `asyncio.open_connection` needs for TLS: `ssl`, `server_hostname`

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self.app.port

    def token(self, **overrides: Any) -> str:
        """Sign a session token that is good now."""
        return CLERK.session_token(self.clock(), **overrides)

    def pass_time(self, seconds: float) -> None:
        """Move the clock of the time-outs and let what is over expire."""
        self.monotonic.seconds += seconds
        self.app.deadlines.sweep()

    async def connect(self, **secured: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a raw connection; what is given stands in for `secured`."""
        return await asyncio.open_connection("127.0.0.1", self.port, limit=2**22, **(secured or self.secured))

    async def raw(self, data: bytes, *, is_head: bool = False) -> Answer:
        """Send bytes on a connection of their own and read one answer."""
        reader, writer = await self.connect()
        try:
            writer.write(data)
            return await read_answer(reader, is_head=is_head)
        finally:
            writer.close()

    async def ask(
        self, method: str, target: str, *, token: str | None = None, fields: Mapping[str, str] | None = None,
        lines: tuple[str, ...] = (), body: bytes = b"",
    ) -> Answer:  # fmt: skip
        """Send one request; `lines` are header lines as they stand."""
        head = [f"{method} {target} HTTP/1.1", "Host: gw.example.com"]
        head += [f"Authorization: Bearer {token}"] if token else []
        head += [f"{name}: {value}" for name, value in (fields or {}).items()] + list(lines)
        head += [f"Content-Length: {len(body)}"] if body else []
        return await self.raw("\r\n".join(head).encode("latin-1") + b"\r\n\r\n" + body, is_head=method == "HEAD")

    async def get(self, target: str, **more: Any) -> Answer:
        """Send a GET."""
        return await self.ask("GET", target, **more)

    async def logged(self) -> list[dict[str, Any]]:
        """Give the log's lines so far, parsed."""
        self.app.log.flush()
        await asyncio.get_running_loop().run_in_executor(None, self.app.log.settle)
        with open(self._log_path, encoding="utf-8") as log:
            return [json.loads(line) for line in log]

    async def news(self) -> list[dict[str, Any]]:
        """Give the log's lines since the last time, parsed."""
        self.app.log.flush()
        await asyncio.get_running_loop().run_in_executor(None, self.app.log.settle)
        with open(self._log_path, "rb") as log:
            log.seek(self._told)
            lines = log.readlines()
        self._told += sum(map(len, lines))
        return [json.loads(line) for line in lines]


@asynccontextmanager
async def gateway(
    upstream_port: int, *, environ: Mapping[str, str] | None = None, first_keys_s: float = 5.0,
    writer: LineWriter | None = None, **overrides: Any,
) -> AsyncIterator[Running]:  # fmt: skip
    """Start a gateway, stop it at the end; overrides as `settings` takes them; `writer` takes the log elsewhere."""
    file = File(yaml.safe_dump(settings(upstream_port, **overrides)), environ or {})
    with tempfile.NamedTemporaryFile() as log:
        clock, monotonic = Clock(), Clock()
        writer = writer or LineWriter(os.dup(log.fileno()))
        app = Gateway(
            file.load(), reread=lambda: file.load(), writer=writer, now=clock, monotonic=monotonic,
            first_keys_s=first_keys_s,
        )  # fmt: skip
        await app.start()
        app.listener.farewell_s = 0.0  # for clients that could still ask: these tests' own have done so
        try:
            yield Running(app, clock, monotonic, log.name, file)
        finally:
            await app.stop()
