"""Clients that are slow, do not read, leave, or say more than they should: none may cost more than its share."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fakes.gateway import Running, gateway, read_answer
from tests.fakes.upstream import Echo, ScriptedUpstream, read_request, response

REQUEST = b"GET /public/x HTTP/1.1\r\nHost: a\r\n\r\n"
CHUNKED = b"POST /public/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n"
MUCH = b"x" * 200_000


@pytest.fixture
def echo() -> Echo:
    return Echo()


@pytest.fixture
async def running(echo: Echo) -> AsyncIterator[Running]:
    async with ScriptedUpstream(echo) as upstream, gateway(upstream.port) as started:
        yield started


async def plenty(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer every request with more than the sockets between us hold."""
    while await read_request(reader) is not None:
        writer.write(response(body=MUCH))
        await writer.drain()


async def settled(running: Running, opened: int) -> None:
    """Wait until the gateway has seen this many connections open."""
    while len(running.app.listener._open) != opened:
        await asyncio.sleep(0)


async def deaf(running: Running, data: bytes) -> socket.socket:
    """Connect, send, and read nothing."""
    loop = asyncio.get_running_loop()
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.setblocking(False)
    await loop.sock_connect(client, ("127.0.0.1", running.port))
    await loop.sock_sendall(client, data)
    return client


async def stalled(running: Running) -> None:
    await settled(running, 1)
    (connection,) = running.app.listener._open
    while not connection.writing_paused:
        await asyncio.sleep(0)


async def never_tired(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer every request with more than the sockets and the gateway together would hold."""
    while await read_request(reader) is not None:
        writer.write(response(body=MUCH * 60))
        await writer.drain()


async def spin(times: int = 500) -> None:
    for _ in range(times):
        await asyncio.sleep(0)


def untaken(running: Running) -> int:
    """Bytes that the gateway holds for its one client."""
    (connection,) = running.app.listener._open
    return connection.transport.get_write_buffer_size() if connection.transport is not None else 0


@pytest.mark.parametrize("requests", [1, 50], ids=["one-answer", "pipelined"])
async def test_a_client_that_reads_nothing_is_cut_and_fills_no_memory(requests: int) -> None:
    async with ScriptedUpstream(never_tired) as upstream, gateway(upstream.port) as running:
        client = await deaf(running, REQUEST * requests)
        await stalled(running)
        await spin()
        assert untaken(running) < 1_000_000
        running.pass_time(299)
        assert len(running.app.listener._open) == 1
        running.pass_time(2)
        await settled(running, 0)
        client.close()


async def test_a_client_that_sends_all_and_then_reads_nothing_is_cut() -> None:
    async def early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"half")
        writer.write(response(body=MUCH * 60))
        await reader.read()

    async with ScriptedUpstream(early) as upstream, gateway(upstream.port) as running:
        client = await deaf(running, b"POST /public/x HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\nhalf")
        await stalled(running)
        (connection,) = running.app.listener._open
        await asyncio.get_running_loop().sock_sendall(client, b"rest")
        while not connection.visit.upload.finished:
            await asyncio.sleep(0)
        await spin()
        running.pass_time(299)
        assert len(running.app.listener._open) == 1
        running.pass_time(2)
        await settled(running, 0)
        client.close()


async def test_small_answers_wait_too_for_a_client_that_asks_and_never_reads() -> None:
    async with ScriptedUpstream(plenty) as upstream, gateway(upstream.port) as running:
        client = await deaf(running, REQUEST * 500)
        await stalled(running)
        await spin()
        assert untaken(running) < 1_000_000
        client.close()
        await settled(running, 0)


async def with_an_answer_left(running: Running) -> socket.socket:
    """Connect a client for which some of its last answer waits in the gateway, less than would stall it."""
    client = await deaf(running, b"")
    await settled(running, 1)
    (connection,) = running.app.listener._open
    while not untaken(running):
        await asyncio.get_running_loop().sock_sendall(client, REQUEST)
        while connection._phase in ("new", "idle"):
            await asyncio.sleep(0)
        while connection._phase != "idle":
            await asyncio.sleep(0)
    return client


async def forty(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while await read_request(reader) is not None:
        writer.write(response(body=b"x" * 40_000))
        await writer.drain()


@pytest.mark.parametrize("ending", ["idle", "last-answer", "drained"])
async def test_an_answer_that_nobody_takes_keeps_no_connection_for_ever(ending: str) -> None:
    async with ScriptedUpstream(forty) as upstream, gateway(upstream.port) as running:
        client = await with_an_answer_left(running)
        (connection,) = running.app.listener._open
        if ending == "last-answer":
            last = b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
            await asyncio.get_running_loop().sock_sendall(client, last)
        elif ending == "drained":
            connection.drain()
        while connection._phase != ("idle" if ending == "idle" else "ending"):
            await asyncio.sleep(0)
        assert len(running.app.listener._open) == 1
        running.pass_time(76)
        await settled(running, 0)
        client.close()


async def test_a_slow_reader_gets_all_of_it_in_the_end() -> None:
    async with ScriptedUpstream(never_tired) as upstream, gateway(upstream.port) as running:
        client = await deaf(running, REQUEST * 2)
        await stalled(running)
        reader, writer = await asyncio.open_connection(sock=client, limit=2**22)
        for _ in range(2):
            assert (await read_answer(reader)).body == MUCH * 60
        writer.close()


async def test_a_head_that_came_in_the_moment_its_time_was_over_is_served(running: Running) -> None:
    reader, writer = await running.connect()
    await settled(running, 1)
    (connection,) = running.app.listener._open
    connection.data_received(REQUEST)
    running.pass_time(11)
    assert (await read_answer(reader)).status == 200
    writer.close()


async def test_an_http_10_client_is_sent_no_100(running: Running, echo: Echo) -> None:
    reader, writer = await running.connect()
    writer.write(b"POST /public/x HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
    await spin(50)
    writer.write(b"hello")
    assert (await read_answer(reader)).status == 200
    writer.close()
    assert echo.last.body == b"hello"


async def test_a_trailer_never_becomes_a_field_of_the_next_request(running: Running, echo: Echo) -> None:
    reader, writer = await running.connect()
    writer.write(CHUNKED + b"X-First: 1\r\nX-Evil: 1\r\n\r\n" + REQUEST)
    answer = await read_answer(reader)
    assert (answer.status, answer.value("connection")) == (200, "close")
    assert await reader.read() == b""
    writer.close()
    assert len(echo.requests) == 1
    assert echo.last.value("X-Evil") is None


async def test_a_head_that_never_ends_is_refused_before_it_is_whole(running: Running) -> None:
    reader, writer = await running.connect()
    writer.write(b"GET /public/x HTTP/1.1\r\nHost: a\r\n")
    for number in range(10):
        writer.write(b"X-%d: %b\r\n" % (number, b"x" * 8000))
        await writer.drain()
        await asyncio.sleep(0.001)
        if reader.at_eof():
            break
    answer = await read_answer(reader)
    assert (answer.status, answer.json["code"]) == (431, "headers_too_large")
    writer.close()


async def test_garbage_behind_head_gets_its_whole_answer(running: Running) -> None:
    reader, writer = await running.connect()
    writer.write(b"HEAD /public/x HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (await read_answer(reader, is_head=True)).status == 200
    writer.write(b"garbage\r\n\r\n")
    answer = await read_answer(reader)
    assert (answer.status, answer.json["reason"]) == (400, "malformed")
    writer.close()


async def test_a_refusal_keeps_the_connection_where_the_body_was_whole(running: Running) -> None:
    reader, writer = await running.connect()
    writer.write(b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello" + REQUEST)
    refused, served = await read_answer(reader), await read_answer(reader)
    assert (refused.status, refused.value("connection"), served.status) == (401, None, 200)
    writer.close()


async def test_a_body_sent_to_an_own_address_ends_the_connection_if_it_is_not_whole(running: Running) -> None:
    reader, writer = await running.connect()
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello" + REQUEST)
    assert [(await read_answer(reader)).status for _ in range(2)] == [200, 200]
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 500\r\n\r\n")
    answer = await read_answer(reader)
    assert (answer.status, answer.value("connection")) == (200, "close")
    assert await reader.read() == b""
    writer.close()


async def test_a_refused_websocket_to_an_own_address_ends_the_connection(running: Running, echo: Echo) -> None:
    reader, writer = await running.connect()
    upgrade = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\n\r\n"
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: a\r\n" + upgrade + REQUEST)
    answer = await read_answer(reader)
    assert (answer.status, answer.value("connection")) == (200, "close")
    assert await reader.read() == b""
    writer.close()
    assert echo.requests == []


async def test_a_client_that_leaves_in_mid_upload_is_gone_for_the_upstream_too() -> None:
    cut = asyncio.Event()
    began = asyncio.Event()

    async def takes(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"half")
        began.set()
        assert await reader.read() == b""
        cut.set()

    async with ScriptedUpstream(takes) as upstream, gateway(upstream.port) as running:
        _, writer = await running.connect()
        writer.write(b"POST /public/x HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf")
        await began.wait()
        writer.transport.abort()
        await cut.wait()
        await settled(running, 0)
        await asyncio.sleep(0)
        lines = [line for line in await running.logged() if line["event"] == "request"]
    assert [line["status"] for line in lines] == [499]


async def test_a_chunk_that_cannot_be_read_behind_a_waiting_request_is_told_at_once() -> None:
    release = asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await read_request(reader) is not None:
            await release.wait()
            writer.write(response(body=b"done"))

    async with ScriptedUpstream(slow) as upstream, gateway(upstream.port) as running:
        reader, writer = await running.connect()
        writer.write(REQUEST)
        await settled(running, 1)
        for piece in (b"POST /public/y HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", b"zz\r\n"):
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.01)
        release.set()
        first, second = await read_answer(reader), await read_answer(reader)
        assert (first.status, second.status, second.value("connection")) == (200, 400, "close")
        writer.close()


async def test_an_upload_in_flight_is_finished_while_draining(echo: Echo) -> None:
    async with ScriptedUpstream(echo) as upstream, gateway(upstream.port) as running:
        reader, writer = await running.connect()
        writer.write(b"POST /public/x HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello")
        while not running.app.listener._open or next(iter(running.app.listener._open))._phase != "upload":
            await asyncio.sleep(0)
        draining = asyncio.ensure_future(running.app.listener.drain(5))
        await asyncio.sleep(0)
        writer.write(b"world")
        answer = await read_answer(reader)
        assert (answer.json["body"], answer.value("connection")) == ("helloworld", "close")
        assert await draining
        writer.close()


async def test_what_is_not_finished_in_time_is_cut_and_logged() -> None:
    arrived = asyncio.Event()

    async def never(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        arrived.set()
        await reader.read()

    async with ScriptedUpstream(never) as upstream, gateway(upstream.port) as running:
        reader, writer = await running.connect()
        writer.write(REQUEST)
        await arrived.wait()
        assert not await running.app.listener.drain(0)
        assert not running.app.listener._open
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await read_answer(reader)
        lines = [line for line in await running.logged() if line["event"] == "request"]
        assert [line["status"] for line in lines] == [499]
        writer.close()


async def test_a_stopped_gateway_takes_no_connection(echo: Echo) -> None:
    async with ScriptedUpstream(echo) as upstream, gateway(upstream.port) as running:
        port = running.port
    with pytest.raises(ConnectionError):
        await asyncio.open_connection("127.0.0.1", port)


@pytest.mark.parametrize("form", ["json", "console"])
async def test_an_unreadable_request_is_logged_in_either_format(echo: Echo, form: str) -> None:
    async with ScriptedUpstream(echo) as upstream, gateway(upstream.port, logs={"format": form}) as running:
        for _ in range(2):
            answer = await running.raw(b"garbage\r\n\r\n")
            assert answer.status == 400
        await running.get("/public/x", fields={"User-Agent": "a\x9b31m\x7f"})
        await settled(running, 0)
        running.app.log.flush()
        await asyncio.to_thread(running.app.log.settle)
        text = await asyncio.to_thread(Path(running._log_path).read_text)
    assert text.count("400") >= 2
    assert not [char for char in text if char != "\n" and not char.isprintable()]


async def test_an_answer_before_the_end_of_the_upload_ends_the_connection() -> None:
    async def early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"half")
        writer.write(response(403, b"no", reason="Forbidden"))
        await reader.read()

    async with ScriptedUpstream(early) as upstream, gateway(upstream.port) as running:
        reader, writer = await running.connect()
        writer.write(b"POST /public/x HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\nhalf")
        answer = await read_answer(reader)
        assert (answer.status, answer.body, answer.value("connection")) == (403, b"no", "close")
        assert await reader.read() == b""
        writer.close()


@pytest.mark.parametrize("framing", [b"Content-Length: 100", b"Transfer-Encoding: chunked"], ids=["length", "chunked"])
async def test_an_answer_that_breaks_off_is_cut_and_nothing_is_written_into_it(framing: bytes) -> None:
    async def dies(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n5\r\nhello\r\n")
        await writer.drain()
        await spin(50)

    async with ScriptedUpstream(dies) as upstream, gateway(upstream.port) as running:
        reader, writer = await running.connect()
        writer.write(REQUEST)
        got = bytearray()
        with contextlib.suppress(ConnectionError):  # a reset says it as well
            while piece := await reader.read(65_536):
                got += piece
        writer.close()
    assert got.startswith(b"HTTP/1.1 200 OK\r\n")
    assert got.count(b"HTTP/1.1") == 1
    assert not got.endswith(b"0\r\n\r\n")
