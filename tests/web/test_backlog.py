"""The end of listening: nobody who is connected already is reset, whatever has been sent."""

import asyncio
import socket
import sys

import pytest

from gateway.web.backlog import seal
from tests.fakes.gateway import Running, gateway, read_answer
from tests.fakes.upstream import Echo, ScriptedUpstream

ASKING = b"GET /public/x HTTP/1.1\r\nHost: a\r\n\r\n"


def connected(port: int) -> socket.socket:
    """Connect without the event loop: nobody accepts meanwhile."""
    return socket.create_connection(("127.0.0.1", port))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can let no further connection begin")
def test_whoever_is_connected_is_let_in_and_nobody_else_begins() -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    clients = [connected(port) for _ in range(20)]
    assert seal(listening)
    late = socket.socket()
    late.settimeout(0.05)
    with pytest.raises(TimeoutError):  # neither let in, to be reset in a moment, nor turned away yet
        late.connect(("127.0.0.1", port))
    accepted = [listening.accept()[0] for _ in clients]
    listening.setblocking(False)
    with pytest.raises(BlockingIOError):
        listening.accept()
    listening.close()
    with pytest.raises(ConnectionRefusedError):
        connected(port)
    for client, server in zip(clients, accepted, strict=True):  # what they say still comes through
        client.sendall(b"hello")
        server.setblocking(True)
        assert server.recv(9) == b"hello"
    for each in (*clients, *accepted, late):
        each.close()


async def asked(running: Running, client: socket.socket) -> bytes:
    reader, writer = await asyncio.open_connection(sock=client)
    answer = await read_answer(reader)
    writer.close()
    assert answer.value("connection") == "close"
    return b"%d" % answer.status


async def test_stop_serves_who_connected_before_it() -> None:
    async with ScriptedUpstream(Echo()) as upstream:
        starting = gateway(upstream.port)
        running = await starting.__aenter__()
        clients = [connected(running.port) for _ in range(50)]
        for client in clients:
            client.sendall(ASKING)
        # Not one turn of the loop in between: all of them wait in the system's queue.
        stopping = asyncio.ensure_future(starting.__aexit__(None, None, None))
        assert await asyncio.gather(*(asked(running, client) for client in clients)) == [b"200"] * len(clients)
        await stopping
        with pytest.raises(ConnectionRefusedError):
            connected(running.port)


async def test_who_has_connected_and_asks_a_moment_later_is_served() -> None:
    async with ScriptedUpstream(Echo()) as upstream:
        starting = gateway(upstream.port)
        running = await starting.__aenter__()
        running.app.listener.farewell_s = 30.0  # ends early, with the last connection
        new = await running.connect()
        used = await running.connect()
        used[1].write(ASKING)
        assert (await read_answer(used[0])).value("connection") is None
        stopping = asyncio.ensure_future(starting.__aexit__(None, None, None))
        while not running.app.draining:
            await asyncio.sleep(0)
        for reader, writer in (new, used):
            writer.write(ASKING)
            answer = await read_answer(reader)
            assert (answer.status, answer.value("connection")) == (200, "close")
            assert await reader.read() == b""
            writer.close()
        await stopping


async def test_an_idle_connection_is_closed_after_the_farewell() -> None:
    async with ScriptedUpstream(Echo()) as upstream:
        async with gateway(upstream.port, drain_s=30) as running:
            reader, writer = await running.connect()
            writer.write(ASKING)
            await read_answer(reader)
        assert await reader.read() == b""
        writer.close()
