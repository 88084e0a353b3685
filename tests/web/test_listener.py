"""How many connections there may be, in all and from one address."""

import asyncio

import pytest

from gateway.web.listener import UNREAD_PER_SWEEP
from tests.fakes.gateway import gateway, read_answer
from tests.fakes.upstream import Echo, ScriptedUpstream


@pytest.mark.parametrize("limit", ["connections", "connections_per_ip"])
async def test_one_too_many_is_told_and_closed_and_room_comes_back(limit: str) -> None:
    async with ScriptedUpstream(Echo()) as upstream, gateway(upstream.port, limits={limit: 2}) as running:
        kept = [await running.connect() for _ in range(2)]
        for reader, writer in kept:
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
            assert (await read_answer(reader)).status == 200
        reader, writer = await running.connect()
        answer = await read_answer(reader)
        assert (answer.status, answer.json["code"], answer.value("retry-after")) == (503, "overloaded", "1")
        assert await reader.read() == b""
        writer.close()
        kept[0][1].close()
        while len(running.app.listener._open) != 1:
            await asyncio.sleep(0)
        assert (await running.get("/healthz")).status == 200
        kept[1][1].close()


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
