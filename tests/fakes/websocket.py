"""WebSockets as bytes: a handshake to send, the 101 that belongs to it, and a server that speaks the protocol."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from aiohttp import web

from tests.fakes.gateway import Running, gateway

# RFC 6455 §1.3
KEY, ACCEPT = "dGhlIHNhbXBsZSBub25jZQ==", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
SWITCHED = (
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    f"Sec-WebSocket-Accept: {ACCEPT}\r\n\r\n"
).encode()

Talk = Callable[[web.WebSocketResponse], Awaitable[None]]


def handshake(target: str = "/public/ws", *lines: str) -> bytes:
    """Write the head of an opening handshake."""
    head = (f"GET {target} HTTP/1.1", "Host: gw.example.com", "Connection: keep-alive, Upgrade", "Upgrade: websocket",
            "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {KEY}", *lines)  # fmt: skip
    return "\r\n".join(head).encode() + b"\r\n\r\n"


async def echo(socket: web.WebSocketResponse) -> None:
    """Send every message back."""
    async for message in socket:
        if message.type is aiohttp.WSMsgType.TEXT:
            await socket.send_str(message.data)
        elif message.type is aiohttp.WSMsgType.BINARY:
            await socket.send_bytes(message.data)


class Server:
    """A WebSocket server; keeps the requests and the sockets it got, and how each ended."""

    def __init__(self, talk: Talk = echo, **options: Any) -> None:
        self.talk, self.options = talk, {"max_msg_size": 0} | options
        self.requests: list[web.Request] = []
        self.codes: list[int | None] = []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Carry one socket."""
        self.requests.append(request)
        socket = web.WebSocketResponse(**self.options)
        await socket.prepare(request)
        try:
            await self.talk(socket)
        finally:
            self.codes.append(socket.close_code)
        return socket


@asynccontextmanager
async def behind(server: Server, **overrides: Any) -> AsyncIterator[tuple[Running, aiohttp.ClientSession]]:
    """Run the server, a gateway in front of it, and a client of the gateway."""
    app = web.Application()
    app.router.add_get("/{path:.*}", server.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        async with gateway(runner.addresses[0][1], **overrides) as running:
            async with aiohttp.ClientSession(f"http://127.0.0.1:{running.port}") as session:
                yield running, session
    finally:
        await runner.cleanup()
