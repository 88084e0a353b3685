"""Upstreams that fail at every point: 502 or 504 while that can be said, then a cut that the client sees, and no bytes
of one exchange in another."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable

import pytest

from tests.fakes.gateway import Running, gateway
from tests.fakes.upstream import ScriptedUpstream, read_request, response
from tests.wire.strict import Reading, answers

OK = b"HTTP/1.1 200 OK\r\n"
REQUEST = b"GET /public/x HTTP/1.1\r\nHost: a\r\n\r\n"


def reset(writer: asyncio.StreamWriter) -> None:
    """End a connection with RST."""
    linger = struct.pack("ii", 1, 0)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()


async def everything(reader: asyncio.StreamReader) -> tuple[bytes, bool]:
    """Read to the end; say too whether that was an end and no reset."""
    got = bytearray()
    try:
        while piece := await reader.read(65_536):
            got += piece
    except ConnectionError:
        return bytes(got), False
    return bytes(got), True


async def turns(number: int = 30) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


async def asked(running: Running, request: bytes = REQUEST) -> Reading:
    """Ask, with an own connection, and read what came as a strict client does."""
    reader, writer = await running.connect()
    writer.write(request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    got, cleanly = await everything(reader)
    writer.close()
    return answers(got, [request.split(b" ")[0]], closed=cleanly)


End = Callable[[asyncio.StreamWriter], None]
Said = tuple[bytes, ...]


@pytest.mark.parametrize("end", [reset, asyncio.StreamWriter.close], ids=["reset", "closed"])
@pytest.mark.parametrize(("said", "status"), [
    pytest.param((), 502, id="before-the-head"),
    pytest.param((OK + b"X: ",), 502, id="in-the-head"),
    pytest.param((OK + b"Content-Length: 5\r\n\r\n",), 200, id="after-the-head"),
    pytest.param((OK + b"Content-Length: 5\r\n\r\n", b"hel"), 200, id="in-mid-body"),
    pytest.param((OK + b"Transfer-Encoding: chunked\r\n\r\n", b"5\r\nhello\r\n"), 200, id="between-chunks"),
    pytest.param((OK + b"Transfer-Encoding: chunked\r\n\r\n", b"5\r\nhello\r\n0\r\n"), 200, id="before-the-last-line"),
    pytest.param((b"HTTP/1.1 103 Hints\r\n\r\n", ), 502, id="behind-an-interim-answer"),
])  # fmt: skip
async def test_an_upstream_that_breaks_off_is_never_a_whole_answer(said: Said, status: int, end: End) -> None:
    async def breaks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        for piece in said:
            writer.write(piece)
            await turns()  # so that it comes alone, and what is ready has been passed on
        end(writer)

    async with ScriptedUpstream(breaks) as upstream, gateway(upstream.port) as running:
        got = await asked(running)
    if status == 502:
        assert [answer.status for answer in got.messages] == [502]
    else:
        assert (got.messages, got.malformed) == ([], False)
        assert got.partial is not None
        assert got.partial.status == 200


@pytest.mark.parametrize("said", [
    pytest.param((OK + b"Content-Length: 2\r\n\r\nokEVIL",), id="with-the-head"),
    pytest.param((OK + b"Content-Length: 2\r\n\r\no", b"kEVIL"), id="with-the-end"),
    pytest.param((OK + b"Content-Length: 2\r\n\r\nok", b"EVIL"), id="later"),
    pytest.param((OK + b"Content-Length: 2\r\n\r\nok", OK + b"Content-Length: 4\r\n\r\nEVIL"), id="a-whole-answer-later"),
    pytest.param((OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", b"0\r\n\r\nEVIL"), id="behind-the-last-chunk"),
    pytest.param((b"HTTP/1.1 304 Not Modified\r\n\r\n", b"EVIL"), id="behind-304"),
])  # fmt: skip
async def test_bytes_behind_an_answer_reach_nobody(said: Said) -> None:
    asks, done = 0, asyncio.Event()

    async def overlong(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asks
        while await read_request(reader) is not None:
            asks += 1
            for piece in said if asks == 1 else (response(body=b"own"),):
                writer.write(piece)
                await turns()
            done.set()

    async with ScriptedUpstream(overlong) as upstream, gateway(upstream.port) as running:
        reader, writer = await running.connect()
        writer.write(REQUEST)
        await done.wait()  # had the next request been sent before, its answer could be told from nothing
        if not writer.is_closing():  # else the first answer was cut
            writer.write(REQUEST + REQUEST.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        got, cleanly = await everything(reader)
        writer.close()
        assert (await running.get("/public/y")).body == b"own"
    assert b"EVIL" not in got
    read = answers(got, [b"GET"] * 3, closed=cleanly)
    assert not read.malformed
    assert [answer.body for answer in read.messages[1:]] in ([b"own"] * 2, [])
    assert not read.messages or read.messages[0].status in (200, 304, 502)


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "QUERY", "POST", "PATCH"])
async def test_what_was_sent_on_a_dying_connection_is_repeated_once_if_that_is_safe(method: str) -> None:
    heads: list[str] = []

    async def dies(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await read_request(reader)
        assert request is not None
        if request.target.endswith("/first"):
            writer.write(response(body=b"ok"))
            await reader.read(1)  # and closes under the next request
        else:
            heads.append(request.method)  # and closes under this one too

    async with ScriptedUpstream(dies) as upstream, gateway(upstream.port, cors=None) as running:
        assert (await running.get("/public/first")).status == 200
        answer = await running.ask(method, "/public/x")
    assert answer.status == 502
    assert heads == ([] if method in ("POST", "PATCH") else [method])  # the first attempt was never read


async def test_a_connection_that_cannot_be_made_in_time_is_504() -> None:
    loop = asyncio.get_running_loop()
    with socket.socket() as full, contextlib.ExitStack() as kept:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):  # what the backlog holds; the next one's SYN is never answered
            filler = kept.enter_context(socket.socket())
            filler.setblocking(False)
            kept.callback(loop.create_task(loop.sock_connect(filler, full.getsockname())).cancel)
        await turns()
        api = {"api": {"url": f"http://127.0.0.1:{full.getsockname()[1]}", "timeouts": {"connect_s": 0.05}}}
        async with gateway(1, upstreams=api) as running:
            answer = await running.get("/public/x")
    assert (answer.status, answer.json["code"]) == (504, "upstream_timeout")


@pytest.mark.parametrize("leave", [reset, asyncio.StreamWriter.close], ids=["reset", "closed"])
@pytest.mark.parametrize("when", ["waiting", "reading", "sending"])
async def test_a_client_that_goes_away_ends_the_exchange_at_once(when: str, leave: End) -> None:
    began, ended = asyncio.Event(), asyncio.Event()

    async def works(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if when == "reading":
            writer.write(OK + b"Content-Length: 100\r\n\r\nbegin")
        began.set()
        try:
            await reader.read()
        finally:
            ended.set()

    async with ScriptedUpstream(works) as upstream, gateway(upstream.port) as running:
        reader, writer = await running.connect()
        length = b"Content-Length: 9\r\n" if when == "sending" else b""
        writer.write(b"POST /public/x HTTP/1.1\r\nHost: a\r\n" + length + b"\r\n")
        await began.wait()
        if when == "reading":
            await reader.readuntil(b"begin")
        leave(writer)
        await ended.wait()  # no clock was moved: at once
        while running.app.listener._open:
            await asyncio.sleep(0)
        lines = [line for line in await running.logged() if line["event"] == "request"]
    assert [line["status"] for line in lines] == [200 if when == "reading" else 499]


async def test_an_http_10_client_sees_a_truncation_too() -> None:
    async def breaks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        await began.wait()
        writer.write(b"zz\r\n")
        await turns()

    began = asyncio.Event()
    async with ScriptedUpstream(breaks) as upstream, gateway(upstream.port) as running:
        reader, writer = await running.connect()
        writer.write(b"GET /public/x HTTP/1.0\r\n\r\n")
        await reader.readuntil(b"hello")
        began.set()
        _, cleanly = await everything(reader)
        writer.close()
    assert not cleanly  # RFC 9112 §6.3: without a length or chunks a clean end is the body's


@pytest.mark.parametrize("version", [b"HTTP/0.9", b"HTTP/2.0"])
async def test_an_answer_of_another_version_is_502(version: bytes) -> None:
    async def says(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(version + b" 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await turns()

    async with ScriptedUpstream(says) as upstream, gateway(upstream.port) as running:
        got = await asked(running)
    assert [answer.status for answer in got.messages] == [502]


async def test_a_chunked_answer_of_http_10_is_its_connections_last() -> None:
    async def says(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await read_request(reader) is not None:
            head = b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n"
            writer.write(head + b"2\r\nok\r\n0\r\n\r\n")

    async with ScriptedUpstream(says) as upstream, gateway(upstream.port) as running:
        assert [(await running.get("/public/x")).body for _ in range(2)] == [b"ok"] * 2
        assert upstream.connections == 2
