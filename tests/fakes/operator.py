"""Someone who speaks raw HTTP to the admin listener of a running gateway, with its token at hand."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.fakes.gateway import Answer, Running, gateway, read_answer

TOKEN = "correct-horse-battery"
BEARER = f"Authorization: Bearer {TOKEN}"
ADMIN = {"host": "127.0.0.1", "port": 0, "token": TOKEN}


class Operator:
    """Speaks raw HTTP to the admin listener of a running gateway."""

    def __init__(self, running: Running) -> None:
        self.running = running
        assert running.app.admin_port is not None
        self.port = running.app.admin_port

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def raw(self, data: bytes, *, is_head: bool = False) -> Answer:
        reader, writer = await self.connect()
        try:
            writer.write(data)
            return await read_answer(reader, is_head=is_head)
        finally:
            writer.close()

    async def ask(self, method: str, target: str, *lines: str, host: str | None = None) -> Answer:
        head = [f"{method} {target} HTTP/1.1", f"Host: {host or f'localhost:{self.port}'}", *lines]
        data = "\r\n".join(head).encode("utf-8", "surrogateescape") + b"\r\n\r\n"
        return await self.raw(data, is_head=method == "HEAD")


@asynccontextmanager
async def operated(**overrides: Any) -> AsyncIterator[Operator]:
    async with gateway(1, **({"admin": ADMIN} | overrides)) as running:
        yield Operator(running)


def is_problem(answer: Answer, status: int, code: str, reason: str | None = None) -> bool:
    assert answer.value("content-type") == "application/problem+json"
    assert answer.value("cache-control") == "no-store"
    assert answer.value("server") is None
    assert answer.json["request_id"] == answer.value("x-request-id")
    return (answer.status, answer.json["code"], answer.json.get("reason")) == (status, code, reason)
