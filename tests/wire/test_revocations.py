"""Streams that the gateway ends: their session is over, or it stops. Sockets are in `test_websockets.py`."""

import asyncio
import contextlib

import aiohttp
import pytest

from gateway.errors import BadUpstreamResponse
from gateway.web.streams import FEW
from tests.fakes.events import CHUNKED, EVENT_STREAM, Listening, line_of, listening, telling
from tests.fakes.gateway import gateway
from tests.fakes.upstream import ScriptedUpstream
from tests.wire.test_streams import FRAMINGS, PIECE, begun, until

# A session ends


@FRAMINGS
async def test_revoking_cuts_the_stream_for_both_sides_and_says_so(framing: tuple[str, ...]) -> None:
    async with telling() as (running, teller), listening(running, "/events", token=running.token()) as client:
        exchange = await begun(teller, client, *framing)
        assert running.app.listener.streams.revoke(session="sess_1") == 1
        assert await client.cut()
        await exchange.left()
        line = await line_of(running)
        assert len(running.app.listener.streams) == 0
    assert (line["status"], line["code"], line["reason"]) == (200, "invalid_token", "session-revoked")
    assert (line["user"], line["path"]) == ("user_1", "/events")
    assert 0 < line["upstream_s"] <= line["duration_s"]


async def test_to_http_1_0_a_revocation_is_a_reset() -> None:
    async with telling() as (running, teller):
        async with listening(running, "/events", token=running.token(), version="1.0") as client:
            exchange = await begun(teller, client)
            exchange.say(b"data: 1\n\n")
            assert await client.reader.readexactly(9) == b"data: 1\n\n"
            assert running.app.listener.streams.revoke(user="user_1") == 1
            assert await client.reset()


async def test_revoking_leaves_everybody_else_alone() -> None:
    async with telling() as (running, teller), contextlib.AsyncExitStack() as stack:
        org = {"o": {"id": "org_1", "slg": "acme", "rol": "admin"}}
        tokens = [running.token(), running.token(sub="user_2", sid="sess_2"), running.token(sid="sess_3", **org), None]
        clients, exchanges = [], []
        for token in tokens:
            target = "/events" if token else "/public/events"
            clients.append(await stack.enter_async_context(listening(running, target, token=token)))
            exchanges.append(await begun(teller, clients[-1]))
        revoke = running.app.listener.streams.revoke
        assert revoke(user="user_3") == revoke() == revoke(user="user_2", session="sess_1") == 0
        assert revoke(org="org_1") == 1
        assert await clients[2].cut()
        assert revoke(user="user_1") == 1  # the other one has ended
        assert await clients[0].cut()
        for at in (1, 3):
            exchanges[at].say(b"data: still here\n\n")
            assert await clients[at].chunk() == b"data: still here\n\n"


async def test_who_does_not_read_is_revoked_all_the_same() -> None:
    async with telling() as (running, teller), listening(running, "/events", token=running.token()) as client:
        exchange = await begun(teller, client)
        client.writer.transport.pause_reading()
        (connection,) = running.app.listener._open
        while not connection.writing_paused:
            exchange.say(PIECE)
            await asyncio.sleep(0)
        assert running.app.listener.streams.revoke(user="user_1") == 1
        await exchange.left()
        await until(lambda: not running.app.listener._open)
        line = await line_of(running)
        client.writer.transport.abort()
    assert line["reason"] == "session-revoked"


async def test_an_answer_that_began_while_its_request_was_still_coming_is_revoked() -> None:
    async def answers_early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"half")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n")
        with contextlib.suppress(ConnectionResetError):
            await reader.read()
        left.set()

    left = asyncio.Event()
    async with ScriptedUpstream(answers_early) as upstream, gateway(upstream.port) as running:
        reader, writer = await running.connect()
        head = (
            f"POST /x HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {running.token()}\r\nContent-Length: 8\r\n\r\nhalf"
        )
        writer.write(head.encode())
        client = Listening(reader, writer)
        await client.head()
        assert await client.chunk() == b"x"
        assert running.app.listener.streams.revoke(user="user_1") == 1
        assert await client.cut()
        await left.wait()
        line = await line_of(running)
        writer.close()
    assert (line["status"], line["reason"]) == (200, "session-revoked")


async def test_of_two_ends_in_one_moment_the_access_line_tells_the_gateways_own() -> None:
    async with telling() as (running, teller), listening(running, "/events", token=running.token()) as client:
        await begun(teller, client)
        (connection,) = running.app.listener._open
        assert connection.visit is not None
        assert connection.visit.wire is not None
        connection.visit.wire.fail(BadUpstreamResponse())  # whoever waits for it has not heard of it yet
        assert running.app.listener.streams.revoke(user="user_1") == 1
        assert await client.cut()
        line = await line_of(running)
    assert line["reason"] == "session-revoked"


async def test_a_pipelined_request_behind_a_revoked_stream_is_not_served() -> None:
    async with telling() as (running, teller), listening(running, "/events", token=running.token()) as client:
        exchange = await begun(teller, client)
        client.writer.write(b"GET /public/second HTTP/1.1\r\nHost: a\r\n\r\n")
        running.app.listener.streams.revoke(user="user_1")
        assert await client.cut()
        await exchange.left()
        await until(lambda: not running.app.listener._open)
        assert teller.exchanges.empty()


async def test_many_are_ended_one_after_the_other() -> None:
    async with telling() as (running, teller), contextlib.AsyncExitStack() as stack:
        clients = []
        for _ in range(FEW + 1):
            opened = listening(running, "/events", token=running.token())
            clients.append(await stack.enter_async_context(opened))
            await begun(teller, clients[-1])
        assert running.app.listener.streams.revoke(user="user_1") == FEW + 1
        assert len(running.app.listener.streams) == FEW + 1
        for _ in range(12):
            running.pass_time(0.5)
        for client in clients:
            assert await client.cut()


async def test_a_real_client_sees_that_it_was_cut() -> None:
    async with telling() as (running, teller), aiohttp.ClientSession() as session:
        headers = {"Authorization": f"Bearer {running.token()}"}
        answering = asyncio.ensure_future(session.get(f"http://127.0.0.1:{running.port}/events", headers=headers))
        exchange = await teller.asked()
        exchange.head(EVENT_STREAM, CHUNKED)
        async with await answering as answer:
            for number in range(1000):
                exchange.say(b"data: %d\n\n" % number)
                assert await answer.content.readuntil(b"\n\n") == b"data: %d\n\n" % number
            assert running.app.listener.streams.revoke(session="sess_1") == 1
            with pytest.raises(aiohttp.ClientError):
                await answer.content.read()


# The gateway stops


async def test_stopping_ends_event_streams_early_and_lets_the_rest_finish() -> None:
    async with telling() as (running, teller), contextlib.AsyncExitStack() as stack:
        events = await stack.enter_async_context(listening(running))
        event = await begun(teller, events)
        posted = await stack.enter_async_context(listening(running, "/public/x", "Content-Length: 0", method="POST"))
        completion = await begun(teller, posted)
        download = await stack.enter_async_context(listening(running))
        file = await teller.asked()
        file.head("Content-Type: application/zip", CHUNKED)
        await download.head()
        stopping = asyncio.ensure_future(running.app.listener.drain(30))
        assert await events.cut()
        await event.left()
        for exchange, client in ((completion, posted), (file, download)):
            exchange.say(b"the rest")
            assert await client.chunk() == b"the rest"
            exchange.end()
            assert await client.chunk() == b""
            assert await client.reader.read() == b""
        assert await stopping
        lines = [line for line in await running.logged() if line["event"] == "request"]
    assert [line["code"] for line in lines] == ["draining", None, None]


@pytest.mark.parametrize("version", ["1.1", "1.0"])
async def test_what_has_not_finished_in_time_is_cut_and_its_line_says_why(version: str) -> None:
    async with telling() as (running, teller), listening(running, version=version) as client:
        exchange = await teller.asked()
        exchange.head(CHUNKED)
        await client.head()
        assert not await running.app.listener.drain(0)
        assert await client.reset() if version == "1.0" else await client.cut()
        await exchange.left()
        line = await line_of(running)
    assert (line["status"], line["code"]) == (200, "draining")


async def test_an_event_stream_that_begins_while_stopping_is_cut_at_once() -> None:
    async with telling() as (running, teller), listening(running) as client:
        exchange = await teller.asked()
        stopping = asyncio.ensure_future(running.app.listener.drain(30))
        await asyncio.sleep(0)
        exchange.head(EVENT_STREAM, CHUNKED)
        assert await stopping
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionResetError):
            await client.head()
        assert await client.cut()


async def test_many_event_streams_are_ended_one_after_the_other() -> None:
    async with telling() as (running, teller), contextlib.AsyncExitStack() as stack:
        for _ in range(FEW + 1):
            client = await stack.enter_async_context(listening(running))
            await begun(teller, client)
        stopping = asyncio.ensure_future(running.app.listener.drain(30))
        await asyncio.sleep(0)
        assert len(running.app.listener.streams) == FEW + 1
        counts = []
        for _ in range(12):
            running.pass_time(0.5)
            for _ in range(50):
                await asyncio.sleep(0)
            counts.append(len(running.app.listener.streams))
        assert await stopping
    assert counts[-1] == 0
    assert len(set(counts)) > 2
