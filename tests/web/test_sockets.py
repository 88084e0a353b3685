"""WebSockets through a running gateway, with a real client and a real server."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from aiohttp import web

from tests.fakes.gateway import Running, gateway

Talk = Callable[[web.WebSocketResponse], Awaitable[None]]


async def echo(socket: web.WebSocketResponse) -> None:
    async for message in socket:
        if message.type is aiohttp.WSMsgType.TEXT:
            await socket.send_str(message.data)
        elif message.type is aiohttp.WSMsgType.BINARY:
            await socket.send_bytes(message.data)


class Server:
    """A WebSocket server on loopback; keeps the requests it got."""

    def __init__(self, talk: Talk, **options: Any) -> None:
        self.talk, self.options = talk, {"max_msg_size": 0} | options
        self.requests: list[web.Request] = []
        self.sockets: list[web.WebSocketResponse] = []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        socket = web.WebSocketResponse(**self.options)
        self.sockets.append(socket)
        await socket.prepare(request)
        await self.talk(socket)
        return socket


@asynccontextmanager
async def behind(server: Server, **overrides: Any) -> AsyncIterator[tuple[Running, aiohttp.ClientSession]]:
    app = web.Application()
    app.router.add_get("/{path:.*}", server.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        async with gateway(runner.addresses[0][1], **overrides) as running:
            async with aiohttp.ClientSession(f"http://127.0.0.1:{running.port}") as session:
                yield running, session
    finally:
        await runner.cleanup()


async def test_a_thousand_messages_come_back() -> None:
    server = Server(echo)
    async with behind(server) as (_, session):
        async with session.ws_connect("/public/x") as socket:
            for number in range(1000):
                await socket.send_str(f"message {number}")
                assert (await socket.receive_str()) == f"message {number}"
        assert socket.close_code == 1000
