"""How many connections there may be, in all and from one address."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gateway.web.listener import UNREAD_PER_SWEEP
from tests.fakes.gateway import APP, Running, gateway, read_answer
from tests.fakes.upstream import Echo, ScriptedUpstream

HEALTH = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"
PAGE = b"GET /public/x HTTP/1.1\r\nHost: a\r\nOrigin: " + APP.encode() + b"\r\n\r\n"
PREFLIGHT = PAGE.replace(b"GET", b"OPTIONS").replace(b"\r\n\r\n", b"\r\nAccess-Control-Request-Method: GET\r\n\r\n")
Side = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def crowded(**limits: float) -> AsyncIterator[Running]:
    """A gateway whose only two places are taken."""
    async with ScriptedUpstream(Echo()) as upstream:
        async with gateway(upstream.port, limits={"connections": 2, **limits}) as running:
            taken = [await running.connect() for _ in range(2)]
            await opened(running, 2)
            yield running
            for _, writer in taken:
                writer.close()


async def opened(running: Running, count: int) -> None:
    while len(running.app.listener._open) != count:
        await asyncio.sleep(0)


async def test_one_too_many_of_an_address_is_told_and_closed_and_room_comes_back() -> None:
    async with ScriptedUpstream(Echo()) as upstream:
        async with gateway(upstream.port, limits={"connections_per_ip": 2}) as running:
            kept = [await running.connect() for _ in range(2)]
            for reader, writer in kept:
                writer.write(HEALTH)
                assert (await read_answer(reader)).status == 200
            reader, writer = await running.connect()
            answer = await read_answer(reader)
            assert (answer.status, answer.json["code"], answer.value("retry-after")) == (503, "overloaded", "1")
            assert await reader.read() == b""
            writer.close()
            kept[0][1].close()
            await opened(running, 1)
            assert (await running.get("/healthz")).status == 200
            kept[1][1].close()


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_without_a_place_the_gateway_still_says_how_it_is_and_closes(path: str) -> None:
    async with crowded() as running:
        reader, writer = await running.connect()
        writer.write(HEALTH.replace(b"/healthz", path.encode()) + HEALTH)
        answer = await read_answer(reader)
        assert (answer.status, answer.value("connection")) == (200, "close")
        assert await reader.read() == b""
        writer.close()


@pytest.mark.parametrize("request_", [PAGE, PREFLIGHT, PAGE.replace(b"/x", b"/../x")], ids=["get", "preflight", "bad"])
async def test_without_a_place_nothing_else_is_answered(request_: bytes) -> None:
    async with crowded() as running:
        reader, writer = await running.connect()
        writer.write(request_ + HEALTH)
        answer = await read_answer(reader)
        expected = ("bad_request", None) if b".." in request_ else ("overloaded", "1")
        assert (answer.json["code"], answer.value("retry-after")) == expected
        assert (answer.value("connection"), answer.value("access-control-allow-origin")) == ("close", APP)
        assert await reader.read() == b""
        writer.close()


async def test_without_a_place_a_head_has_a_moment_only() -> None:
    async with crowded() as running:
        (half, half_writer), (silent, silent_writer) = await running.connect(), await running.connect()
        half_writer.write(HEALTH[:-2])
        await opened(running, 4)
        while not any(connection._phase == "head" for connection in running.app.listener._open):
            await asyncio.sleep(0)
        running.pass_time(1.6)
        assert await silent.read() == b""
        assert (await read_answer(half)).status == 408
        for each in (half_writer, silent_writer):
            each.close()


async def test_when_a_place_is_free_again_clients_are_served() -> None:
    async with crowded() as running:
        next(iter(running.app.listener._open)).abort()
        await opened(running, 1)
        assert (await running.get("/public/x")).status == 200


async def test_those_that_waited_longest_make_room() -> None:
    async with ScriptedUpstream(Echo()) as upstream:
        async with gateway(upstream.port, limits={"connections": 5}) as running:
            running.app.deadlines.stop()  # it sweeps when this test says so
            sides = list[Side]()
            for _ in range(4):
                reader, writer = await running.connect()
                writer.write(HEALTH)
                assert (await read_answer(reader)).status == 200
                sides.append((reader, writer))
                running.pass_time(1)
            sides.append(await running.connect())  # takes the last place
            assert await sides[0][0].read() == b""
            await opened(running, 4)
            sides.append(await running.connect())  # again, but they are looked at once in a sweep
            await opened(running, 5)
            running.pass_time(0)
            sides.append(await running.connect())  # has a spare place
            assert await sides[1][0].read() == b""
            await opened(running, 5)
            sides.append(await running.connect())
            await opened(running, 6)
            running.pass_time(0)
            assert await sides[2][0].read() == b""
            sides[3][1].write(HEALTH)
            assert (await read_answer(sides[3][0])).status == 200
            (told,) = [line for line in await running.logged() if line["event"] == "connections_full"]
            assert (told["level"], told["limit"]) == ("warning", 5)
            for _, writer in sides:
                writer.close()


async def test_addresses_without_connections_are_forgotten() -> None:
    async with ScriptedUpstream(Echo()) as upstream, gateway(upstream.port) as running:
        await running.get("/healthz")
        while running.app.listener._open:
            await asyncio.sleep(0)
        assert not running.app.listener._per_address


async def test_garbage_fills_no_log_and_is_counted() -> None:
    async with ScriptedUpstream(Echo()) as upstream, gateway(upstream.port) as running:
        running.pass_time(0)
        for _ in range(UNREAD_PER_SWEEP + 7):
            assert (await running.raw(b"garbage\r\n\r\n")).status == 400
        running.pass_time(0)
        await running.raw(b"garbage\r\n\r\n")
        running.pass_time(0)
        logged = await running.logged()
    lines = [line for line in logged if line["event"] == "request"]
    told = [line["count"] for line in logged if line["event"] == "unread_requests_not_logged"]
    assert (len(lines) + sum(told), len(lines) >= UNREAD_PER_SWEEP + 1) == (UNREAD_PER_SWEEP + 8, True)


async def test_a_flood_of_what_can_be_read_is_logged_whole() -> None:
    async with ScriptedUpstream(Echo()) as upstream, gateway(upstream.port) as running:
        for _ in range(UNREAD_PER_SWEEP + 7):
            assert (await running.get("/x")).status == 401
        lines = [line for line in await running.logged() if line["event"] == "request"]
    assert len(lines) == UNREAD_PER_SWEEP + 7
