"""Answers that take their time: event streams, long polls, downloads. What the gateway ends is in `test_revocations`."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable
from typing import Any

import pytest

from gateway.core.model import Principal
from gateway.web.streams import Carried, Stream, Streams
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
        streams = listener.streams = Counting(
            listener.deadlines, listener.deps.random_bits, listener.deps.revoked.is_revoked
        )
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
