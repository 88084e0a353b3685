"""Slowloris in each of its forms: it costs a file descriptor for the time of a head or a body, and nobody else notices.

Slow reading is in `test_rude_clients`.
"""

import asyncio
import contextlib
import itertools
import json
import os
import socket
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from gateway.telemetry import LineWriter
from tests.fakes.gateway import Running, gateway, read_answer
from tests.fakes.upstream import Echo, ScriptedUpstream, read_request, response

POST = b"POST /public/slow HTTP/1.1\r\nHost: a\r\n"
GET = b"GET /public/x HTTP/1.1\r\nHost: a\r\n\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
STEP_S = 4.0
BLOCK = b"x" * 65_536


@pytest.fixture
def echo() -> Echo:
    return Echo()


@pytest.fixture
async def running(echo: Echo) -> AsyncIterator[Running]:
    async with ScriptedUpstream(echo) as upstream, gateway(upstream.port) as started:
        yield started


async def turns(number: int = 20) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


def byte_by_byte(data: bytes) -> Iterator[bytes]:
    return (bytes([byte]) for byte in data)


def fields_for_ever() -> Iterator[bytes]:
    return itertools.chain(
        [b"GET /public/slow HTTP/1.1\r\nHost: a\r\n"], (b"X-%d: 1\r\n" % n for n in itertools.count())
    )


HEAD_S, BODY_S = 10, 30


@pytest.mark.parametrize(("trickling", "allowed_s", "status"), [
    pytest.param(lambda: iter(()), HEAD_S, None, id="silent"),
    pytest.param(lambda: byte_by_byte(POST), HEAD_S, 408, id="head-byte-by-byte"),
    pytest.param(fields_for_ever, HEAD_S, 408, id="one-field-at-a-time"),
    pytest.param(lambda: itertools.repeat(b"\r\n"), HEAD_S, 408, id="empty-lines"),
    pytest.param(lambda: itertools.chain([GET + b"GET /pub"], itertools.repeat(b"x")), HEAD_S, 408, id="next-head"),
    pytest.param(lambda: iter([POST + b"Content-Length: 9\r\n\r\n"]), BODY_S, 408, id="no-body"),
    pytest.param(lambda: iter([CHUNKED]), BODY_S, 408, id="no-chunk"),
    pytest.param(lambda: itertools.chain([CHUNKED], itertools.repeat(b"0")), BODY_S, 408, id="chunk-size"),
    pytest.param(lambda: itertools.chain([CHUNKED + b"5;"], itertools.repeat(b"x")), BODY_S, 408, id="chunk-extension"),
    pytest.param(lambda: itertools.chain([CHUNKED + b"5\r\nhello\r\n0\r\n"], (b"T-%d: 1\r\n" % n for n in itertools.count())), BODY_S, 408,
                 id="trailers"),
])  # fmt: skip
async def test_a_slow_client_has_its_time_and_nobody_else_waits(
    running: Running, echo: Echo, trickling: Callable[[], Iterator[bytes]], allowed_s: float, status: int | None
) -> None:
    trickle = trickling()
    reader, writer = await running.connect()
    answer = asyncio.ensure_future(reader.read())
    await turns()
    passed = 0.0
    while not answer.done() and passed < 10 * allowed_s:
        piece = next(trickle, b"")
        if piece and not writer.is_closing():
            writer.write(piece)
        await turns()
        assert (await running.get("/public/good")).status == 200
        running.pass_time(STEP_S)
        passed += STEP_S
        await turns()
    assert passed <= allowed_s + 2 * STEP_S
    got = await answer
    writer.close()
    if status is None:
        assert got == b""
    else:
        assert b"HTTP/1.1 %d " % status in got
        assert got.count(b"\r\nConnection: close") == 1
    while running.app.listener._open:
        await asyncio.sleep(0)
    assert not [request for request in echo.requests if request.target == "/public/slow"]


async def test_a_hundred_silent_clients_cost_nothing_but_their_descriptors(running: Running) -> None:
    assert (await running.get("/public/good")).status == 200
    await turns()
    tasks = len(asyncio.all_tasks())
    silent = [await running.connect() for _ in range(100)]
    for _, writer in silent[50:]:
        writer.write(b"GET /public/slow HT")
    await turns()
    assert (await running.get("/public/good")).status == 200
    running.pass_time(11)
    for reader, writer in silent:
        await reader.read()
        writer.close()
    while running.app.listener._open:
        await asyncio.sleep(0)
    await turns()
    assert len(asyncio.all_tasks()) <= tasks


async def test_a_body_may_take_long_as_long_as_it_comes(running: Running, echo: Echo) -> None:
    reader, writer = await running.connect()
    writer.write(POST + b"Content-Length: 8\r\n\r\n")
    for _ in range(8):
        await turns()
        running.pass_time(25)
        writer.write(b"x")
    assert (await read_answer(reader)).status == 200
    writer.close()
    assert echo.last.body == b"x" * 8


async def test_a_connection_is_kept_for_its_time_behind_a_body_too(running: Running) -> None:
    reader, writer = await running.connect()
    with contextlib.closing(writer):
        writer.write(POST + b"Content-Length: 5\r\n\r\nhello")
        assert (await read_answer(reader)).status == 200
        await turns()
        running.pass_time(70)  # of keepalive_s 75
        await turns()
        writer.write(GET)
        assert (await read_answer(reader)).status == 200


async def slow_sink(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Take everything, but not at once."""
    await reader.readuntil(b"\r\n\r\n")
    while not (await reader.read(16_384)).endswith(b"0\r\n\r\n"):
        await turns(3)
    writer.write(response(body=b"ok"))


async def slow_source(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(400):
        writer.write(b"10000\r\n%b\r\n" % BLOCK)
        await writer.drain()
    writer.write(b"0\r\n\r\n")


def small_buffers(client: socket.socket) -> None:
    for buffer in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        client.setsockopt(socket.SOL_SOCKET, buffer, 65_536)
    client.setblocking(False)


@pytest.mark.parametrize("way", ["up", "down"])
async def test_memory_is_bounded_whatever_the_bodys_size(way: str) -> None:
    loop = asyncio.get_running_loop()
    script, limits = (slow_sink, {"body_bytes": 0}) if way == "up" else (slow_source, {})
    async with ScriptedUpstream(script) as upstream, gateway(upstream.port, limits=limits) as running:
        with socket.socket() as client:
            small_buffers(client)
            await loop.sock_connect(client, ("127.0.0.1", running.port))
            tracemalloc.start()
            try:
                moved = await (upload if way == "up" else download)(loop, client)
                _, peak = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
    assert moved >= 400 * len(BLOCK)  # 25 MiB
    assert peak < 6 * 2**20


async def upload(loop: asyncio.AbstractEventLoop, client: socket.socket) -> int:
    block = b"10000\r\n%b\r\n" % BLOCK
    await loop.sock_sendall(client, CHUNKED)
    for _ in range(400):
        await loop.sock_sendall(client, block)
    await loop.sock_sendall(client, b"0\r\n\r\n")
    assert (await loop.sock_recv(client, 1024)).startswith(b"HTTP/1.1 200 ")
    return 400 * len(BLOCK)


async def download(loop: asyncio.AbstractEventLoop, client: socket.socket) -> int:
    await loop.sock_sendall(client, GET)
    received, last = 0, b""
    while not last.endswith(b"0\r\n\r\n"):
        last = await loop.sock_recv(client, 16_384)
        received += len(last)
        await turns(3)
    return received


async def test_a_blocked_log_holds_up_no_request_and_its_losses_are_told(echo: Echo) -> None:
    reading, writing = os.pipe()
    log = LineWriter(writing)  # nobody reads: the thread that writes is stuck at the pipe's 64 KiB
    async with ScriptedUpstream(echo) as upstream, gateway(upstream.port, writer=log) as running:
        running.app.deadlines.stop()  # a sweep in between would tell of the losses so far, and that may be lost too
        client, sender = await running.connect()
        long = GET[:-2] + b"User-Agent: " + b"u" * 30_000 + b"\r\n\r\n"
        for _ in range(400):  # 12 MB of access lines, of which 8 MiB may wait
            sender.write(long)
            assert (await read_answer(client)).status == 200
        sender.close()
        lost = log.dropped
        with os.fdopen(reading, "rb") as pipe, ThreadPoolExecutor(1) as thread:
            lines = thread.submit(pipe.readlines)
            assert await asyncio.to_thread(log.settle)
            running.app.log.flush()
            await running.app.stop()
            os.close(writing)
            told = [json.loads(line) for line in lines.result()]
    assert 0 < lost < 400
    assert [line["in_all"] for line in told if line["event"] == "log_lines_dropped"] == [lost]
    assert len([line for line in told if line["event"] == "request"]) == 400 - lost
