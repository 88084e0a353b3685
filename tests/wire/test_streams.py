"""Answers that take their time: event streams, long polls, downloads. What passes when, and what ends them."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest

from gateway.core.model import Principal
from gateway.errors import BadUpstreamResponse
from gateway.web.streams import FEW, Carried, Stream, Streams
from tests.fakes.events import CHUNKED, EVENT_STREAM, Exchange, Listening, Storyteller, line_of, listening, telling
from tests.fakes.gateway import APP, Running, gateway, read_answer
from tests.fakes.upstream import Echo, ScriptedUpstream, read_request

FRAMINGS = pytest.mark.parametrize(
    "framing", [(CHUNKED,), (), ("Content-Length: 1000",)], ids=["chunked", "until-close", "length"]
)
PIECE = bytes(65_536)


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0)


def route(**more: Any) -> dict[str, Any]:
    return {"routes": [{"name": "all", "path": "/*", "upstream": "api", "auth": "public"} | more]}


async def begun(teller: Storyteller, client: Listening, *framing: str) -> Exchange:
    """Answer with the head of an event stream and see it arrive."""
    exchange = await teller.asked()
    exchange.head(EVENT_STREAM, *(framing or (CHUNKED,)))
    assert (await client.head())[0] == "HTTP/1.1 200 OK"
    return exchange


# What passes when


@FRAMINGS
async def test_the_head_passes_before_the_first_event_and_each_event_at_once(framing: tuple[str, ...]) -> None:
    async with telling() as (running, teller), listening(running, "/public/events") as client:
        exchange = await begun(teller, client, *framing)
        for number in range(100):
            event = b"data: %d\n\n" % number
            exchange.say(event)
            passed = client.reader.readexactly(len(event)) if "Content-Length: 1000" in framing else client.chunk()
            assert await passed == event


async def test_a_streams_fields_pass_untouched_both_ways_and_cors_is_on_it() -> None:
    asked = ("Last-Event-ID: 41", "Accept: text/event-stream", "Cache-Control: no-cache", f"Origin: {APP}")
    answered = ("Cache-Control: no-cache, no-transform", "X-Accel-Buffering: no", "Access-Control-Allow-Origin: *")
    async with telling() as (running, teller), listening(running, "/events", *asked, token=running.token()) as client:
        exchange = await teller.asked()
        exchange.head(EVENT_STREAM, CHUNKED, *answered)
        head = await client.head()
    assert set(asked) < {f"{name}: {value}" for name, value in exchange.request.fields}
    assert exchange.request.value("x-user-id") == "user_1"
    assert {EVENT_STREAM, *answered[:2], f"Access-Control-Allow-Origin: {APP}", "Vary: Origin"} < set(head)
    assert answered[2] not in head
    assert not any(line.startswith("Content-Encoding") for line in head)


async def test_two_events_in_one_read_and_one_event_in_many_come_whole() -> None:
    async with telling() as (running, teller), listening(running) as client:
        exchange = await begun(teller, client)
        exchange.writer.write(b"3\r\na\n\n\r\n3\r\nb\n\n\r\n")
        assert await client.chunk() == b"a\n\nb\n\n"
        for byte in b"6\r\ndata:x\r\n":
            exchange.writer.write(bytes([byte]))
            await exchange.writer.drain()
            for _ in range(5):
                await asyncio.sleep(0)
        got = b""
        while got != b"data:x":
            got += await client.chunk()
        exchange.end()
        assert await client.chunk() == b""


async def test_a_client_of_http_1_0_gets_it_without_chunks() -> None:
    async with telling() as (running, teller), listening(running, version="1.0") as client:
        exchange = await teller.asked()
        exchange.head(EVENT_STREAM, CHUNKED)
        head = await client.head()
        assert "Connection: close" in head
        assert not any(line.startswith("Transfer-Encoding") for line in head)
        exchange.say(b"data: 1\n\n")
        assert await client.reader.readexactly(9) == b"data: 1\n\n"
        exchange.end()
        assert await client.reader.read() == b""


async def test_head_of_an_event_stream_is_over_with_its_head() -> None:
    async with telling() as (running, teller), listening(running, method="HEAD") as client:
        exchange = await teller.asked()
        exchange.head(EVENT_STREAM, CHUNKED)
        assert EVENT_STREAM in await client.head()
        await line_of(running)
        assert len(running.app.listener.streams) == 0
        client.writer.write(b"HEAD /public/x HTTP/1.1\r\nHost: a\r\n\r\n")  # its connection is free again
        await until(lambda: len(running.app.listener._open) == 1)


class Counting(Streams):
    """A registry that counts."""

    opened = 0

    def open(self, carried: Carried, principal: Principal | None, *, max_age_s: float) -> Stream:
        self.opened += 1
        return super().open(carried, principal, max_age_s=max_age_s)


async def test_an_answer_that_is_whole_when_its_head_leaves_is_no_stream() -> None:
    async with ScriptedUpstream(Echo()) as upstream, gateway(upstream.port) as running:
        listener = running.app.listener
        streams = listener.streams = Counting(listener.deadlines, listener.deps.random_bits)
        for method in ("GET", "HEAD", "PUT"):
            assert (await running.ask(method, "/public/x", body=b"x" if method == "PUT" else b"")).status == 200
        assert (await running.get("/healthz")).status == 200
        assert (await running.get("/x")).status == 401
        assert streams.opened == 0


@pytest.mark.parametrize("kind", ["chunked", "length", "until-close"])
async def test_a_download_is_a_stream_until_its_last_byte(kind: str) -> None:
    async with telling(**route(stream_max_age_s=60)) as (running, teller), listening(running) as client:
        exchange = await teller.asked()
        exchange.head(*{"chunked": (CHUNKED,), "length": ("Content-Length: 4",), "until-close": ()}[kind])
        await client.head()
        assert len(running.app.listener.streams) == 1
        exchange.say(b"last")
        exchange.end()
        line = await line_of(running)
        assert len(running.app.listener.streams) == 0
        assert not [each for each in running.app.deadlines._watched if isinstance(each, Stream)]
    assert (line["status"], line["code"]) == (200, None)


# Time


async def test_nothing_but_silence_ends_a_stream() -> None:
    async with telling() as (running, teller), listening(running) as client:
        exchange = await begun(teller, client)
        for _ in range(50):
            running.pass_time(299)
            exchange.say(b":\n\n")
            assert await client.chunk() == b":\n\n"
        running.pass_time(301)
        assert await client.cut()
        await exchange.left()
        line = await line_of(running)
    assert (line["status"], line["code"]) == (200, "upstream_timeout")


async def test_how_long_silence_may_last_is_said_by_the_route() -> None:
    async with telling(**route(timeouts={"idle_s": 20})) as (running, teller), listening(running) as client:
        await begun(teller, client)
        running.pass_time(19)
        running.pass_time(1)
        assert len(running.app.listener.streams) == 1
        running.pass_time(1)
        assert await client.cut()


async def test_a_long_poll_may_wait_as_long_as_its_route_says() -> None:
    settings = route(timeouts={"response_s": 120, "idle_s": 5})
    async with telling(**settings) as (running, teller), contextlib.AsyncExitStack() as stack:
        first = await stack.enter_async_context(listening(running))
        poll = await teller.asked()
        second = await stack.enter_async_context(listening(running))
        other = await teller.asked()
        running.pass_time(119)
        poll.head("Content-Length: 3")
        poll.say(b"now")
        assert (await read_answer(first.reader)).body == b"now"
        running.pass_time(2)
        late = await read_answer(second.reader)
        await other.left()
    assert (late.status, late.json["code"]) == (504, "upstream_timeout")


async def test_a_stream_outlives_its_token() -> None:
    async with telling() as (running, teller), listening(running, "/events", token=running.token()) as client:
        exchange = await begun(teller, client)
        for _ in range(15):
            running.clock.seconds += 240
            running.pass_time(240)
            exchange.say(b"data: still here\n\n")
            assert await client.chunk() == b"data: still here\n\n"
        exchange.end()
        assert await client.chunk() == b""
        refused = await running.get("/events", token=running.token(exp=int(running.clock()) - 3000))
    assert refused.status == 401


@FRAMINGS
async def test_a_stream_ends_at_the_age_its_route_says_and_not_before(framing: tuple[str, ...]) -> None:
    async with telling(**route(stream_max_age_s=60)) as (running, teller), listening(running) as client:
        exchange = await begun(teller, client, *framing)
        running.pass_time(30)
        running.pass_time(30)
        exchange.say(b"in time")
        if "Content-Length: 1000" in framing:
            assert await client.reader.readexactly(7) == b"in time"
        else:
            assert await client.chunk() == b"in time"
        running.pass_time(1)
        assert await client.cut()
        await exchange.left()
        line = await line_of(running)
    assert (line["status"], line["code"], line["reason"]) == (200, "stream_max_age", None)


@pytest.mark.parametrize("age", [0, None])
async def test_no_age_is_no_end(age: int | None) -> None:
    async with telling(**route(stream_max_age_s=age, timeouts={"idle_s": 80_000})) as (running, teller):
        async with listening(running) as client:
            exchange = await begun(teller, client)
            running.pass_time(79_000)
            exchange.say(b"x")
            assert await client.chunk() == b"x"


# Either side leaves


def resets(writer: asyncio.StreamWriter) -> None:
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


LEAVES = pytest.mark.parametrize("leaves", [resets, lambda writer: writer.close()], ids=["reset", "close"])


@LEAVES
async def test_a_client_that_leaves_a_stream_ends_it_for_the_upstream(leaves: Callable[[Any], None]) -> None:
    async with telling() as (running, teller), listening(running) as client:
        exchange = await begun(teller, client)
        leaves(client.writer)
        await exchange.left()
        line = await line_of(running)
        await until(lambda: not running.app.listener._open)
        assert len(running.app.listener.streams) == 0
    assert (line["status"], line["code"]) == (200, None)


@LEAVES
async def test_a_client_that_leaves_a_long_poll_ends_it_for_the_upstream(leaves: Callable[[Any], None]) -> None:
    async with telling() as (running, teller), listening(running) as client:
        exchange = await teller.asked()
        leaves(client.writer)
        await exchange.left()
        line = await line_of(running)
    assert line["status"] == 499


@pytest.mark.parametrize("dies", [resets, lambda writer: writer.close()], ids=["reset", "close"])
async def test_an_upstream_that_dies_is_a_truncation(dies: Callable[[Any], None]) -> None:
    async with telling() as (running, teller), listening(running) as client:
        exchange = await begun(teller, client)
        exchange.say(b"data: 1\n\n")
        assert await client.chunk() == b"data: 1\n\n"
        dies(exchange.writer)
        assert await client.cut()
        line = await line_of(running)
    assert (line["status"], line["code"]) == (200, "bad_upstream_response")


async def test_to_http_1_0_a_truncation_is_a_reset() -> None:
    async with telling() as (running, teller), listening(running, version="1.0") as client:
        exchange = await begun(teller, client)
        exchange.writer.close()
        assert await client.reset()


async def test_a_client_that_reads_slowly_holds_the_upstream_and_fills_no_memory() -> None:
    async with telling() as (running, teller), listening(running) as client:
        exchange = await begun(teller, client)
        client.writer.transport.pause_reading()
        exchange.writer.transport.set_write_buffer_limits(0)
        said = 0
        while said < 256 * 2**20:
            exchange.say(PIECE)
            said += len(PIECE)
            for _ in range(200):
                if not exchange.writer.transport.get_write_buffer_size():
                    break
                await asyncio.sleep(0)
            else:
                break
        assert said < 256 * 2**20
        (connection,) = running.app.listener._open
        assert connection.transport is not None
        # What was in its buffer when it said stop, and one read: 64 KiB and at most 256 KiB.
        assert connection.transport.get_write_buffer_size() <= 65_536 + 2 * 262_144
        client.writer.transport.resume_reading()
        got = 0
        while got < said:
            got += len(await client.chunk())
        exchange.say(b"data: at last\n\n")
        assert await client.chunk() == b"data: at last\n\n"


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


async def test_each_stream_of_many_reads_its_own() -> None:
    async def tells(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await read_request(reader)
        assert request is not None
        writer.write(f"HTTP/1.1 200 OK\r\n{EVENT_STREAM}\r\n{CHUNKED}\r\n\r\n".encode())
        for number in range(200):
            event = f"data: {request.target} {number}\n\n".encode()
            writer.write(b"%x\r\n%b\r\n" % (len(event), event))
            await asyncio.sleep(0)
        writer.write(b"0\r\n\r\n")
        await writer.drain()

    async def reads(running: Running, name: str) -> None:
        answer = await running.get(f"/public/{name}")
        assert answer.body == b"".join(f"data: /public/{name} {number}\n\n".encode() for number in range(200))

    async with ScriptedUpstream(tells) as upstream, gateway(upstream.port) as running:
        await asyncio.gather(*(reads(running, f"stream-{number}") for number in range(50)))
