"""Heads that a client repeats are not parsed again. Nobody may make one head be read for another by where reads end."""

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from gateway.core.headers import FieldRules
from gateway.core.routing import Route
from gateway.web.connection import Connection
from tests.fakes.gateway import Running, gateway, read_answer
from tests.fakes.upstream import Echo, ScriptedUpstream

Client = tuple[asyncio.StreamReader, asyncio.StreamWriter]
GET = b"GET /public/1 HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST /public/2 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"


@pytest.fixture
def echo() -> Echo:
    return Echo()


@pytest.fixture
async def running(echo: Echo) -> AsyncIterator[Running]:
    async with ScriptedUpstream(echo) as upstream, gateway(upstream.port) as started:
        yield started


@pytest.fixture
async def client(running: Running) -> AsyncIterator[Client]:
    reader, writer = await running.connect()
    yield reader, writer
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


async def waiting(running: Running) -> Connection:
    """Give the only connection once it waits for its next request."""
    while True:
        for connection in running.app.listener._open:
            if connection.visit is None and connection._waiter is not None and not connection._messages:
                return connection
        await asyncio.sleep(0)


async def test_what_stood_before_the_end_of_a_read_is_not_taken_for_part_of_the_next_head(
    running: Running, client: Client, echo: Echo
) -> None:
    # The second request's head begins in the read that ends the first one's body, and ends in another.
    bearer = b"Authorization: Bearer " + running.token().encode()
    reader, writer = client
    writer.write(POST + b"GET /optional/hers HTTP/1.1\r\n" + bearer)
    assert (await read_answer(reader)).status == 200
    await waiting(running)
    writer.write(b"\r\nHost: a\r\n\r\n")
    assert (await read_answer(reader)).status == 200
    assert echo.last.value("x-user-id") == "user_1"
    await waiting(running)
    writer.write(b"GET /optional/anybodys HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (await read_answer(reader)).status == 200
    assert (echo.last.target, echo.last.value("x-user-id")) == ("/optional/anybodys", None)


async def test_a_head_of_two_reads_is_measured_whole(running: Running, client: Client, echo: Echo) -> None:
    reader, writer = client
    writer.write(POST + GET[:-2] + b"X-A: " + b"a" * 20_000 + b"\r\n")
    assert (await read_answer(reader)).status == 200
    await waiting(running)
    writer.write(b"X-B: " + b"b" * 20_000 + b"\r\n\r\n")
    assert (await read_answer(reader)).status == 431
    assert len(echo.requests) == 1


async def test_the_end_of_a_head_is_no_request_of_its_own(running: Running, client: Client, echo: Echo) -> None:
    # The parser holds half a head, in whose field the bytes of the next read belong.
    reader, writer = client
    writer.write(GET)
    assert (await read_answer(reader)).status == 200
    await waiting(running)
    writer.write(POST.replace(b"/public/2", b"http://a/public/2") + b"GET /public/3 HTTP/1.1\r\nX-Pass: ")
    assert (await read_answer(reader)).status == 200
    await waiting(running)
    writer.write(b"GET /public/smuggled HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (await read_answer(reader)).status == 200
    assert (echo.last.target, echo.last.value("x-pass")) == ("/public/3", "GET /public/smuggled HTTP/1.1")


async def test_an_empty_line_before_a_head_makes_no_line_of_it_a_field(
    running: Running, client: Client, echo: Echo
) -> None:
    reader, writer = client
    writer.write(b"\r\n" + GET)
    assert (await read_answer(reader)).status == 200
    await waiting(running)
    writer.write(b"GET /public/2 HTTP/1.1\r\n" + GET)  # a line without a colon among the fields
    answer = await read_answer(reader)
    assert (answer.status, answer.json["reason"]) == (400, "malformed")
    assert len(echo.requests) == 1


async def test_a_repeated_head_is_judged_by_the_rules_it_is_served_by(
    running: Running, client: Client, echo: Echo
) -> None:
    named = GET[:-2] + b"X-Who-Id: evil\r\n\r\n"
    reader, writer = client
    writer.write(named)
    assert (await read_answer(reader)).status == 200
    connection = await waiting(running)
    connection.data_received(named)
    listener = running.app.listener
    listener.deps = replace(listener.deps, fields=FieldRules("X-Who-"))  # as a reload may, before it is taken up
    assert (await read_answer(reader)).status == 200
    assert echo.last.value("x-who-id") is None


async def test_a_request_of_two_reads_leaves_its_connection_the_time_of_an_idle_one(
    running: Running, client: Client
) -> None:
    reader, writer = client
    writer.write(GET)
    assert (await read_answer(reader)).status == 200
    connection = await waiting(running)
    writer.write(POST[:20])
    while connection._phase != "head":
        await asyncio.sleep(0)
    writer.write(POST[20:])
    assert (await read_answer(reader)).status == 200
    await waiting(running)
    running.pass_time(15)  # longer than `header_read_s`, shorter than `keepalive_s`
    writer.write(GET)
    assert (await read_answer(reader)).status == 200


async def test_half_a_head_behind_a_body_has_only_the_time_for_a_head(running: Running, client: Client) -> None:
    reader, writer = client
    writer.write(POST + GET[:10])
    assert (await read_answer(reader)).status == 200
    await waiting(running)
    running.pass_time(11)
    async with asyncio.timeout(2):
        assert (await read_answer(reader)).status == 408


def kept_bytes(root: object) -> int:
    """Count the text that hangs on an object and on nothing that others share."""
    found: dict[int, int] = {}
    todo = [root]
    while todo:
        for each in gc.get_referents(todo.pop()):
            if id(each) not in found and not isinstance(each, (type, FieldRules, Route)):
                found[id(each)] = len(each) if isinstance(each, (bytes, str)) else 0
                todo.append(each)
    return sum(found.values())


async def test_an_idle_connection_keeps_no_large_head(running: Running, client: Client) -> None:
    # `limits.connections` of them would: 10,000 times 30 KB, four times over.
    reader, writer = client
    writer.write(GET[:-2] + b"".join(b"X-%d: %b\r\n" % (at, b"%d" % (at % 10) * 300) for at in range(100)) + b"\r\n")
    assert (await read_answer(reader)).status == 200
    connection = await waiting(running)
    assert kept_bytes(connection._last) < 16_384


@pytest.mark.parametrize(
    "first",
    [
        pytest.param(b"GET /public/1 HTTP/1.0\r\nConnection: keep-alive\r\nHost: a\r\n\r\n", id="http-1.0"),
        pytest.param(b"GET http://b/public/1 HTTP/1.1\r\nConnection: keep-alive\r\nHost: a\r\n\r\n", id="absolute-form"),
        pytest.param(b"GET /public/1 HTTP/1.1\r\nConnection: keep-alive\r\nHost: a\r\nContent-Length: 0\r\n\r\n", id="length"),
        pytest.param(POST, id="body"),
    ],
)  # fmt: skip
async def test_what_is_more_than_a_plain_head_is_not_remembered(running: Running, client: Client, first: bytes) -> None:
    reader, writer = client
    writer.write(first)
    assert (await read_answer(reader)).status == 200
    assert (await waiting(running))._last is None
