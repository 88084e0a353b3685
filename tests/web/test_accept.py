"""Who is let in: as many as there are places for, on either event loop; the rest waits outside."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

import pytest

from gateway.web.accept import MOST_AT_ONCE, CannotListen, listen
from gateway.web.listener import SPARE_PLACES
from tests.fakes.exhaustion import no_descriptors
from tests.fakes.gateway import Running, gateway, read_answer
from tests.fakes.upstream import Echo, ScriptedUpstream

HEALTH = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"
Side = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.fixture
async def running() -> AsyncIterator[Running]:
    async with ScriptedUpstream(Echo()) as upstream, gateway(upstream.port, limits={"connections": 2}) as started:
        yield started


async def opened(running: Running, count: int) -> None:
    """Wait until so many connections are open."""
    while len(running.app.listener._open) != count:
        await asyncio.sleep(0)


async def full(running: Running) -> list[Side]:
    """Take every place, the spare ones too, and ask for nothing."""
    taken = [await running.connect() for _ in range(2 + SPARE_PLACES)]
    await opened(running, 2 + SPARE_PLACES)
    return taken


async def test_where_all_places_are_taken_the_next_client_waits_outside(running: Running) -> None:
    taken = await full(running)
    reader, writer = await running.connect()
    writer.write(HEALTH)
    answer = asyncio.ensure_future(read_answer(reader))
    other, other_writer = await running.connect()
    for _ in range(50):
        await asyncio.sleep(0)
    assert len(running.app.listener._open) == 2 + SPARE_PLACES
    assert not answer.done()
    taken[0][1].close()
    assert (await answer).status == 200
    other_writer.write(HEALTH)
    assert (await read_answer(other)).status == 200
    for _, each in (*taken, (reader, writer), (other, other_writer)):
        each.close()


async def test_a_crowd_at_once_is_let_in_whole(running: Running) -> None:
    running.app.listener.limits = type(running.app.listener.limits)(connections=1000)
    sides = await asyncio.gather(*(running.connect() for _ in range(3 * MOST_AT_ONCE)))
    for _, writer in sides:
        writer.write(HEALTH)
    assert [(await read_answer(reader)).status for reader, _ in sides] == [200] * len(sides)
    for _, writer in sides:
        writer.close()


async def test_without_a_descriptor_left_it_waits_for_the_next_sweep_and_says_so_once(running: Running) -> None:
    client = socket.socket()
    client.setblocking(False)
    loop = asyncio.get_running_loop()
    with no_descriptors():
        await loop.sock_connect(client, ("127.0.0.1", running.port))
        await loop.sock_sendall(client, HEALTH)
        while not running.app._acceptor._resting:
            await asyncio.sleep(0)
        for _ in range(3):
            running.pass_time(0)
            while not running.app._acceptor._resting:
                await asyncio.sleep(0)
        assert not running.app.listener._open
    running.pass_time(0)
    assert b"200 OK" in await loop.sock_recv(client, 1000)
    client.close()
    (told,) = [line for line in await running.logged() if line["event"] == "accept_paused"]
    assert (told["level"], told["error"], "ulimit -n" in told["remedy"]) == ("warning", "Too many open files", True)


async def test_who_had_connected_when_it_stops_is_answered_and_nobody_else() -> None:
    async with ScriptedUpstream(Echo()) as upstream:
        starting = gateway(upstream.port)
        running = await starting.__aenter__()
        running.app._acceptor.pause()  # as while the loop is busy with something else
        sides = [await running.connect() for _ in range(3)]
        for _, writer in sides:
            writer.write(HEALTH)
        stopping = asyncio.ensure_future(starting.__aexit__(None, None, None))
        answers = [await read_answer(reader) for reader, _ in sides]
        assert [(answer.status, answer.value("connection")) for answer in answers] == [(200, "close")] * 3
        with pytest.raises(ConnectionRefusedError):
            await running.connect()
        await stopping
        for _, writer in sides:
            writer.close()


async def test_a_door_that_is_closed_does_not_open_again(running: Running) -> None:
    taken = await full(running)
    reader, writer = await running.connect()
    writer.write(b"x")
    await asyncio.sleep(0.01)
    assert running.app.listener.when_free is not None
    await running.app._acceptor.close()
    for _, each in taken:
        each.close()
    await opened(running, 0)
    with suppress(ConnectionError):
        assert await reader.read() == b""
    writer.close()


async def test_a_client_that_is_gone_at_once_takes_no_place(running: Running) -> None:
    for _ in range(5):
        _, writer = await running.connect()
        writer.transport.abort()
    await opened(running, 0)
    assert (await running.get("/healthz")).status == 200
    await opened(running, 0)


async def test_two_colons_are_both_kinds_of_address() -> None:
    (both,) = await listen("::", 0, "Take another")
    port = both.getsockname()[1]
    for address in ("127.0.0.1", "::1"):
        socket.create_connection((address, port)).close()
    both.close()


async def test_the_addresses_of_a_name_share_a_port() -> None:
    sockets = await listen("localhost", 0, "Take another")
    assert len({each.getsockname()[1] for each in sockets}) == 1
    for each in sockets:
        each.close()


async def test_an_address_of_another_machine_is_an_error() -> None:
    with pytest.raises(OSError, match="assign"):
        await listen("192.0.2.1", 0, "Take another")


async def test_an_address_of_the_name_that_is_not_here_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    async def getaddrinfo(*_: object, **__: object) -> list[tuple[object, ...]]:
        return [(socket.AF_INET, 0, 0, "", (address, 0)) for address in ("192.0.2.1", "127.0.0.1")]

    monkeypatch.setattr("gateway.web.accept.asyncio.get_running_loop", lambda: Resolver)
    Resolver.getaddrinfo = staticmethod(getaddrinfo)
    (found,) = await listen("gateway.internal", 0, "Take another")
    assert found.getsockname()[0] == "127.0.0.1"
    found.close()


class Resolver:
    """A loop that knows names as a test says."""

    getaddrinfo: Callable[..., object]


async def test_a_port_that_is_taken_is_an_error() -> None:
    (taken,) = await listen("127.0.0.1", 0, "Take another")
    with pytest.raises(CannotListen, match=r"127\.0\.0\.1:\d+: .*in use.*Take another"):
        await listen("127.0.0.1", taken.getsockname()[1], "Take another")
    taken.close()
