"""Connections that are given up, on either side: the client must see it, and nothing may be kept of them."""

import asyncio
import contextlib
import socket

import pytest

from tests.fakes.gateway import Running, gateway
from tests.fakes.upstream import Echo, ScriptedUpstream, read_request

OLD = b"GET /public/x HTTP/1.0\r\nHost: a\r\n\r\n"
PIECE = b"x" * 65_536


async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer in chunks, for ever: to an HTTP/1.0 client only the connection's end ends it."""
    await read_request(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"10000\r\n" + PIECE + b"\r\n")
        await writer.drain()


async def deaf(running: Running) -> socket.socket:
    """Ask as an HTTP/1.0 client that reads nothing, until the gateway has to wait for it."""
    loop = asyncio.get_running_loop()
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.setblocking(False)
    await loop.sock_connect(client, ("127.0.0.1", running.port))
    await loop.sock_sendall(client, OLD)
    while not any(connection._phase == "stalled" for connection in running.app.listener._open):
        await asyncio.sleep(0)
    return client


async def ends_cleanly(client: socket.socket) -> bool:
    """Read on, and say whether the end looks like the end of a body."""
    loop = asyncio.get_running_loop()
    with contextlib.suppress(ConnectionError):
        while await loop.sock_recv(client, 65_536):
            pass
        return True
    return False


@pytest.mark.parametrize("how", ["stalled", "drained"])
async def test_a_body_without_a_length_that_is_given_up_has_no_clean_end(how: str) -> None:
    async with ScriptedUpstream(endless) as upstream, gateway(upstream.port) as running:
        client = await deaf(running)
        if how == "stalled":
            running.pass_time(301)
        else:
            await running.app.listener.drain(0)
        while running.app.listener._open:
            await asyncio.sleep(0)
        with contextlib.closing(client):
            assert not await ends_cleanly(client)


async def test_a_client_that_leaves_while_the_upstream_is_dialled_leaves_nothing_behind() -> None:
    async with ScriptedUpstream(Echo()) as upstream, gateway(upstream.port) as running:
        for _ in range(20):
            _, writer = await running.connect()
            writer.write(b"GET /public/x HTTP/1.1\r\nHost: a\r\n\r\n")
            writer.transport.abort()
        while upstream.connections < 20 and len(await running.logged()) < 21:  # "listening", and one each
            await asyncio.sleep(0)
        while running.app.listener._open:
            await asyncio.sleep(0)
        running.pass_time(10)  # whatever was kept is over
        for _ in range(10):
            await asyncio.sleep(0)
        assert not running.app.deadlines._watched
