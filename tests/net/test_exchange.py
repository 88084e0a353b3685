"""Exchanges through a running gateway with upstreams that answer every way an upstream can."""

import asyncio
import contextlib
import socket
import struct
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import pytest

from gateway.core.headers import Outbound
from gateway.core.model import Endpoint, Upstream
from gateway.core.routing import PathPattern, Route
from gateway.net.deadlines import Deadlines
from gateway.net.exchange import Answer as Head
from gateway.net.exchange import forward
from gateway.net.tls import Contexts
from gateway.net.upstreams import Upstreams
from gateway.net.wire import Wire
from gateway.web.upload import NO_UPLOAD
from tests.fakes.gateway import Answer, Running, gateway, read_answer
from tests.fakes.upstream import Echo, Received, ScriptedUpstream, read_request, response

BIG = bytes(range(256)) * 8192  # 2 MiB


class Replies:
    """An upstream that sends these bytes for each request; None closes without a word."""

    def __init__(self, *pieces: bytes | None, close: bool = False, pause: bool = False) -> None:
        self.pieces, self.close, self.pause = pieces, close, pause
        self.requests: list[Received] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while (request := await read_request(reader)) is not None:
            self.requests.append(request)
            for piece in self.pieces:
                if piece is None:
                    return
                writer.write(piece)
                await writer.drain()
                if self.pause:
                    await asyncio.sleep(0)
            if self.close:
                return


@asynccontextmanager
async def behind(script: object, **overrides: object) -> AsyncIterator[Running]:
    async with ScriptedUpstream(script) as upstream, gateway(upstream.port, **overrides) as running:  # type: ignore[arg-type]
        yield running


async def answered(*pieces: bytes | None, method: str = "GET", close: bool = False) -> Answer:
    async with behind(Replies(*pieces, close=close)) as running:
        return await running.ask(method, "/public/x")


HEAD = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    ("pieces", "close"),
    [
        pytest.param((HEAD + b"Content-Length: 5\r\n\r\nhello",), False, id="length"),
        pytest.param((HEAD + b"Content-Length: 5\r\n\r\n", b"hel", b"lo"), False, id="length-in-pieces"),
        pytest.param((HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",), False, id="chunked"),
        pytest.param((HEAD + b"Transfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nT: 1\r\n\r\n",), False, id="trailers"),
        pytest.param((HEAD + b"\r\nhel", b"lo"), True, id="until-close"),
        pytest.param((b"HTTP/1.0 200 OK\r\n\r\nhello",), True, id="http-1.0"),
        pytest.param((b"HTTP/1.1 100 Continue\r\n\r\n", HEAD + b"Content-Length: 5\r\n\r\nhello"), False, id="behind-100"),
        pytest.param((b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + HEAD + b"Content-Length: 5\r\n\r\nhello",), False,
                     id="behind-103"),
        pytest.param(tuple(bytes([byte]) for byte in HEAD + b"Content-Length: 5\r\n\r\nhello"), False, id="byte-by-byte"),
    ],
)  # fmt: skip
async def test_every_framing_arrives_as_the_same_body(pieces: tuple[bytes, ...], close: bool) -> None:
    answer = await answered(*pieces, close=close)
    assert (answer.status, answer.body) == (200, b"hello")
    assert answer.values("link") == []


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
async def test_a_large_body_streams_through_whole(framing: str) -> None:
    chunks = [BIG[at : at + 65_536] for at in range(0, len(BIG), 65_536)]
    if framing == "length":
        pieces = (HEAD + b"Content-Length: %d\r\n\r\n" % len(BIG), *chunks)
    elif framing == "chunked":
        pieces = (
            HEAD + b"Transfer-Encoding: chunked\r\n\r\n",
            *(b"%x\r\n%b\r\n" % (len(c), c) for c in chunks),
            b"0\r\n\r\n",
        )
    else:
        pieces = (HEAD + b"\r\n", *chunks)
    assert (await answered(*pieces, close=framing == "close")).body == BIG


async def test_heads_fields_pass_in_order_without_what_belongs_to_one_connection() -> None:
    fields = (
        b"Set-Cookie: a=1\r\nset-cookie: b=2\r\nConnection: X-Hop, keep-alive\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\n"
        b"Content-Encoding: gzip\r\nX-Request-Id: theirs\r\nProxy-Authenticate: x\r\nServer: own\r\nContent-Length: 2\r\n\r\nxy"
    )
    answer = await answered(b"HTTP/1.1 299 Odd Indeed\r\n" + fields)
    names = [name for name, _ in answer.fields]
    assert answer.status == 299
    assert answer.values("set-cookie") == ["a=1", "b=2"]
    assert (answer.value("content-encoding"), answer.value("server"), answer.body) == ("gzip", "own", b"xy")
    assert not {"connection", "x-hop", "keep-alive", "proxy-authenticate"} & set(names)
    assert answer.value("x-request-id") != "theirs"


@pytest.mark.parametrize(
    ("head", "length"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "5"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", None),
        (b"HTTP/1.1 200 OK\r\n\r\n", None),
    ],
    ids=["length", "chunked", "neither"],
)
async def test_head_is_answered_without_a_body_and_the_connection_stays_usable(head: bytes, length: str | None) -> None:
    replies = Replies(head)
    async with behind(replies) as running:
        reader, writer = await running.connect()
        for _ in range(2):
            writer.write(b"HEAD /public/x HTTP/1.1\r\nHost: a\r\n\r\n")
            answer = await read_answer(reader, is_head=True)
            assert (answer.status, answer.value("content-length")) == (200, length)
        writer.close()


@pytest.mark.parametrize("status", [204, 304])
async def test_a_status_without_a_body_has_none(status: int) -> None:
    replies = Replies(b"HTTP/1.1 %d Fine\r\nETag: x\r\n\r\n" % status)
    async with behind(replies) as running:
        answers = [await running.get("/public/x") for _ in range(2)]
    assert [(answer.status, answer.value("etag")) for answer in answers] == [(status, "x")] * 2


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param((None,), id="closed-before-the-head"),
        pytest.param((b"HTTP/1.1 200 OK\r\nContent-", None), id="closed-in-the-head"),
        pytest.param((b"garbage\r\n\r\n",), id="garbage"),
        pytest.param((HEAD + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",), id="two-lengths"),
        pytest.param((HEAD + b"Content-Length: -5\r\n\r\nhello",), id="negative-length"),
        pytest.param((HEAD + b"Content-Length: 99999999999999999999\r\n\r\nhello",), id="huge-length"),
        pytest.param(
            (HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",), id="length-and-chunked"
        ),
        pytest.param(
            (HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",), id="chunked-and-length"
        ),
        pytest.param((HEAD + b"Transfer-Encoding: gzip\r\n\r\nxx",), id="other-coding"),
        pytest.param((HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",), id="two-codings"),
        pytest.param((HEAD + b"X: a\0b\r\nContent-Length: 0\r\n\r\n",), id="nul"),
        pytest.param((HEAD + b"X: " + b"a" * 300_000,), id="endless-head"),
        pytest.param(
            (HEAD + b"Content-Length: 2\r\n\r\nhi" + HEAD + b"Content-Length: 2\r\n\r\nho",), id="second-answer"
        ),
        pytest.param(
            (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",), id="unasked-101"
        ),
        pytest.param((b"HTTP/1.1 101 Switching Protocols\r\n\r\n",), id="bare-101"),
        pytest.param((HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",), id="bad-chunk-with-the-head"),
    ],
)
async def test_a_broken_answer_is_502(pieces: tuple[bytes | None, ...]) -> None:
    answer = await answered(*pieces)
    assert (answer.status, answer.json["code"]) == (502, "bad_upstream_response")


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param((HEAD + b"Content-Length: 400000\r\n\r\n" + b"x" * 100_000, None), id="length"),
        pytest.param(
            (HEAD + b"Transfer-Encoding: chunked\r\n\r\n186a0\r\n" + b"x" * 100_000 + b"\r\n", None), id="chunked"
        ),
        pytest.param(
            (HEAD + b"Transfer-Encoding: chunked\r\n\r\n186a0\r\n" + b"x" * 100_000 + b"\r\n", b"zz\r\n"),
            id="bad-chunk",
        ),
    ],
)
async def test_an_answer_cut_in_mid_body_is_seen_as_cut(pieces: tuple[bytes | None, ...]) -> None:
    try:
        status = (await answered(*pieces)).status
    except (asyncio.IncompleteReadError, ConnectionResetError):
        status = 502  # where all of it came in one read, nothing had been sent yet and it could still be said
    assert status == 502


async def test_nobody_listening_is_502_and_says_nothing_of_the_inside() -> None:
    async with gateway(1) as running:
        answer = await running.get("/public/x")
        told = [line for line in await running.logged() if line["event"] == "upstream_unreachable"]
    assert (answer.status, answer.json["code"]) == (502, "upstream_unreachable")
    assert b"127.0.0.1" not in answer.body
    assert "127.0.0.1:1" in told[0]["detail"]


async def test_no_answer_in_time_is_504() -> None:
    arrived = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        arrived.set()
        await reader.read()

    async with behind(silent) as running:
        asking = asyncio.ensure_future(running.get("/public/x"))
        await arrived.wait()
        running.pass_time(29)
        running.pass_time(2)
        answer = await asking
    assert (answer.status, answer.json["code"]) == (504, "upstream_timeout")


async def test_a_body_that_stops_coming_is_cut() -> None:
    async def stops(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(HEAD + b"Content-Length: 10\r\n\r\nhal")
        await reader.read()

    async with behind(stops) as running:
        reader, writer = await running.connect()
        writer.write(b"GET /public/x HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await reader.readuntil(b"hal")).endswith(b"hal")
        running.pass_time(301)
        with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
            await reader.readexactly(1)
        writer.close()


async def test_connections_are_reused_and_dropped_when_idle() -> None:
    echo = Echo()
    async with ScriptedUpstream(echo) as upstream, gateway(upstream.port) as running:
        for _ in range(3):
            await running.get("/public/x")
        assert upstream.connections == 1
        running.pass_time(5)
        await running.get("/public/x")
        assert upstream.connections == 2


@pytest.mark.parametrize(("method", "status"), [("GET", 200), ("PUT", 200), ("POST", 502)])
async def test_a_connection_closed_under_the_request_is_tried_again_where_that_is_safe(
    method: str, status: int
) -> None:
    bodies: list[bytes] = []

    async def one_each(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = await read_request(reader)
        assert first is not None
        bodies.append(first.body)
        writer.write(response(body=b"ok"))
        await writer.drain()
        await reader.readexactly(1)  # the next request makes it close

    async with behind(one_each) as running:
        assert (await running.get("/public/x")).status == 200
        answer = await running.ask(method, "/public/x", body=b"payload")
    assert answer.status == status
    assert bodies == [b"", b"payload"][: 2 if status == 200 else 1]


async def test_an_answer_that_had_begun_is_never_asked_for_again() -> None:
    asked = 0

    async def begins(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        while await read_request(reader):
            asked += 1
            if asked > 1:
                writer.write(b"HTTP/1.1 2")
                await writer.drain()
                return
            writer.write(response(body=b"ok"))

    async with behind(begins) as running:
        assert [(await running.get("/public/x")).status for _ in range(2)] == [200, 502]
    assert asked == 2


async def test_bytes_on_an_idle_connection_never_become_somebodys_answer() -> None:
    served, poisoned = asyncio.Event(), asyncio.Event()

    async def poisons(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await read_request(reader):
            writer.write(response(body=b"good"))
            await writer.drain()
            if poisoned.is_set():
                continue
            await served.wait()
            writer.write(response(body=b"poison"))
            try:
                await reader.read()
            finally:
                poisoned.set()

    async with behind(poisons) as running:
        assert (await running.get("/public/x")).body == b"good"
        served.set()
        await poisoned.wait()
        assert (await running.get("/public/x")).body == b"good"


async def test_a_client_that_leaves_ends_the_upstream_exchange() -> None:
    arrived, ended = asyncio.Event(), asyncio.Event()

    async def waits(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        arrived.set()
        try:
            await reader.read()
        finally:
            ended.set()

    async with behind(waits) as running:
        _, writer = await running.connect()
        writer.write(b"GET /public/x HTTP/1.1\r\nHost: a\r\n\r\n")
        await arrived.wait()
        writer.close()
        await asyncio.wait_for(ended.wait(), 10)


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_an_upload_streams_through_whole(framing: str) -> None:
    echo = Echo()
    async with behind(echo, limits={"body_bytes": 0}) as running:
        reader, writer = await running.connect()
        line = b"Content-Length: %d" % len(BIG) if framing == "length" else b"Transfer-Encoding: chunked"
        writer.write(b"POST /public/x HTTP/1.1\r\nHost: a\r\n" + line + b"\r\n\r\n")
        for at in range(0, len(BIG), 50_000):
            piece = BIG[at : at + 50_000]
            writer.write(piece if framing == "length" else b"%x\r\n%b\r\n" % (len(piece), piece))
            await writer.drain()
        writer.write(b"" if framing == "length" else b"0\r\n\r\n")
        assert (await read_answer(reader)).status == 200
        writer.close()
    assert echo.last.body == BIG
    assert (echo.last.value("content-length") is None) == (framing == "chunked")


async def test_an_early_answer_is_passed_on_and_the_connections_are_not_used_again() -> None:
    async def refuses(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(response(403, b"no", reason="Forbidden"))
        await writer.drain()
        await reader.read()

    async with ScriptedUpstream(refuses) as upstream, gateway(upstream.port) as running:
        reader, writer = await running.connect()
        writer.write(b"POST /public/x HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nbegin")
        answer = await read_answer(reader)
        assert (answer.status, answer.body, answer.value("connection")) == (403, b"no", "close")
        assert await reader.read() == b""
        writer.close()
        await running.ask("POST", "/public/x", body=b"xxx")
        assert upstream.connections == 2


@contextmanager
def refusing_bodies() -> Iterator[int]:
    """An upstream that answers a head and is gone, whatever may still come; in a thread, as elsewhere as can be."""

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = server.accept()
                head = b""
                while not head.endswith(b"\r\n\r\n") and (data := connection.recv(1)):
                    head += data
                connection.sendall(response(413, b"no", fields=("Connection: close",)))
                connection.close()

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


async def test_who_refuses_a_body_and_is_gone_is_heard_all_the_same() -> None:
    with refusing_bodies() as port:
        async with gateway(port, limits={"body_bytes": 0}) as running:
            for _ in range(10):
                reader, writer = await running.connect()
                writer.write(b"POST /public/x HTTP/1.1\r\nHost: a\r\nContent-Length: 5000000\r\n\r\n")
                with contextlib.suppress(ConnectionError):
                    for _ in range(50):
                        writer.write(b"x" * 100_000)
                        await writer.drain()
                answer = await read_answer(reader)
                assert (answer.status, answer.body) == (413, b"no")
                writer.close()


async def test_who_goes_away_in_mid_upload_is_not_left_alone() -> None:
    async def refuses(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")

    async with ScriptedUpstream(refuses) as upstream:
        api = {"url": f"http://127.0.0.1:{upstream.port}", "breaker": {"failures": 1}}
        async with gateway(0, upstreams={"api": api}) as running:
            for _ in range(3):  # else five who send what is too large would take it away from everybody
                reader, writer = await running.connect()
                writer.write(b"POST /public/x HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nbegin")
                assert (await read_answer(reader)).status == 502
                writer.close()
            assert [(await running.get("/public/x")).status for _ in range(2)] == [502, 503]  # nothing was left to send


async def test_an_upstream_that_does_not_read_holds_the_client_back() -> None:
    arrived, release = asyncio.Event(), asyncio.Event()

    async def stuck(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        arrived.set()
        await release.wait()

    async with behind(stuck, limits={"body_bytes": 0}) as running:
        reader, writer = await running.connect()
        writer.write(b"POST /public/x HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\n")
        await arrived.wait()

        async def pour() -> int:
            sent = 0
            while sent < 200_000_000:
                writer.write(b"x" * 1_000_000)
                sent += 1_000_000
                await writer.drain()
            return sent

        pouring = asyncio.ensure_future(pour())
        done, _ = await asyncio.wait({pouring}, timeout=1.0)
        assert not done  # 200 MB would have gone into somebody's memory
        running.pass_time(301)  # and an upstream that never reads is given up
        assert (await read_answer(reader)).status == 504
        pouring.cancel()
        writer.transport.abort()  # type: ignore[attr-defined]
        release.set()


async def test_a_client_that_does_not_read_holds_the_upstream_back() -> None:
    sent = 0

    async def pours(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await read_request(reader)
        writer.write(HEAD + b"Content-Length: 200000000\r\n\r\n")
        while sent < 200_000_000:
            writer.write(b"x" * 1_000_000)
            await writer.drain()
            sent += 1_000_000

    async with behind(pours) as running:
        reader, writer = await running.connect()
        writer.write(b"GET /public/x HTTP/1.1\r\nHost: a\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        before = -1
        while before != sent:
            before = sent
            await asyncio.sleep(0.3)
        assert sent < 100_000_000
        running.pass_time(301)  # and a client that never reads is cut
        with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
            await reader.readexactly(200_000_000)
        writer.close()


async def test_a_time_out_on_a_kept_connection_is_not_asked_for_twice() -> None:
    requests: list[Received] = []
    arrived = asyncio.Event()

    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while (request := await read_request(reader)) is not None:
            requests.append(request)
            if len(requests) > 1:
                arrived.set()
                await reader.read()
                return
            writer.write(response(body=b"ok"))

    async with behind(once) as running:
        assert (await running.get("/public/x")).status == 200
        asking = asyncio.ensure_future(running.get("/public/x"))
        await arrived.wait()
        running.pass_time(31)
        assert (await asking).status == 504
    assert len(requests) == 2


async def test_an_upload_that_grows_too_large_on_a_kept_connection_is_413() -> None:
    echo = Echo()
    async with behind(echo, limits={"body_bytes": 1000}) as running:
        assert (await running.get("/public/x")).status == 200
        reader, writer = await running.connect()
        writer.write(b"POST /public/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbegin\r\n")
        writer.write(b"3e9\r\n" + b"x" * 1001 + b"\r\n")
        assert (await read_answer(reader)).status == 413
        writer.close()


async def test_the_upstreams_time_only_begins_once_it_has_the_whole_request() -> None:
    arrived = asyncio.Event()

    async def upstream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        arrived.set()
        await reader.readexactly(5)
        writer.write(response(body=b"ok"))
        await reader.read()

    places = {"timeouts": {"response_s": 3}}
    async with ScriptedUpstream(upstream) as started:
        api = {"api": {"url": f"http://127.0.0.1:{started.port}", **places}}
        async with gateway(started.port, upstreams=api) as running:
            reader, writer = await running.connect()
            writer.write(b"POST /public/x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n")
            await arrived.wait()
            running.pass_time(10)  # the client's to lose: body_idle_s is 30
            writer.write(b"hello")
            assert (await read_answer(reader)).status == 200
            writer.close()


async def test_a_reset_in_mid_body_is_seen_as_cut() -> None:
    async def resets(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(HEAD + b"\r\nhalf")
        await seen.wait()
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    seen = asyncio.Event()
    async with behind(resets) as running:
        reader, writer = await running.connect()
        writer.write(b"GET /public/x HTTP/1.1\r\nHost: a\r\n\r\n")
        await reader.readuntil(b"half")
        seen.set()
        with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
            await reader.readuntil(b"0\r\n\r\n")
        writer.close()


async def test_an_upload_under_a_streaming_answer_keeps_both_alive() -> None:
    async def echoes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(HEAD + b"Content-Length: 4\r\n\r\n")
        for _ in range(3):
            await reader.readexactly(1)
            got.release()
        await reader.readexactly(1)
        writer.write(b"done")
        await reader.read()

    got = asyncio.Semaphore(0)
    async with behind(echoes, limits={"body_idle_s": 1000}) as running:
        reader, writer = await running.connect()
        writer.write(b"POST /public/x HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        for _ in range(3):
            running.pass_time(200)  # of idle_s 300, without a byte of the answer: the upload counts too
            writer.write(b"x")
            await got.acquire()
        writer.write(b"x")
        assert await reader.readexactly(4) == b"done"
        writer.close()


@pytest.mark.parametrize(
    ("method", "size", "bodies"),
    [("PUT", 2, 2), ("PUT", 100_000, 1), ("POST", 2, 1)],
    ids=["little-of-an-idempotent-one", "more-than-is-kept", "not-idempotent"],
)
async def test_an_upload_in_pieces_is_repeated_only_while_all_of_it_is_at_hand(
    method: str, size: int, bodies: int
) -> None:
    seen: list[bytes] = []

    async def goes_away(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if len(seen) == 0:
            seen.append(b"")
            writer.write(response(body=b"ok"))
            await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(size)
            return
        seen.append(await reader.readexactly(size + 1))
        writer.write(response(body=b"ok"))

    async with behind(goes_away) as running:
        assert (await running.get("/public/x")).status == 200
        reader, writer = await running.connect()
        writer.write(f"{method} /public/x HTTP/1.1\r\nHost: a\r\nContent-Length: {size + 1}\r\n\r\n".encode())
        writer.write(b"x" * size)
        if bodies == 2:
            writer.write(b"y")
        answer = await read_answer(reader)
        writer.close()
    assert (answer.status, len(seen)) == (200 if bodies == 2 else 502, bodies)
    assert seen[-1] in (b"", b"xxy")


@pytest.mark.parametrize("fails", [None, response(503, b"busy")], ids=["goes-away", "busy"])
async def test_an_upload_in_chunks_ends_once_however_often_it_is_sent(fails: bytes | None) -> None:
    bodies: list[bytes] = []

    async def upstream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while (request := await read_request(reader)) is not None:
            bodies.append(request.body)
            if len(bodies) != 2:
                writer.write(response(body=b"ok"))
            elif fails is None:
                return
            else:
                writer.write(fails)

    async with ScriptedUpstream(upstream) as started, gateway(started.port) as running:
        assert (await running.get("/public/x")).status == 200
        reader, writer = await running.connect()
        writer.write(b"PUT /public/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        while running.app.listener.deps.upstreams["api"].pools[0].standing.live == 0:
            await asyncio.sleep(0)
        writer.write(b"0\r\n\r\n")
        assert (await read_answer(reader)).status == 200
        writer.close()
        assert (await running.get("/public/x")).status == 200
        assert started.connections == 2  # nothing stood before it on the same connection
    assert bodies == [b"", b"hello", b"hello", b""]


async def test_no_answer_in_time_behind_an_upload_is_504() -> None:
    arrived = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        arrived.set()
        assert await read_chunk(reader) == b"hello"
        whole.set()
        await reader.read()

    async def read_chunk(reader: asyncio.StreamReader) -> bytes:
        return (await reader.readuntil(b"0\r\n\r\n"))[3:8]

    whole = asyncio.Event()
    async with behind(silent) as running:
        reader, writer = await running.connect()
        writer.write(b"POST /public/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        await arrived.wait()
        writer.write(b"5\r\nhello\r\n0\r\n\r\n")
        await whole.wait()
        running.pass_time(31)
        answer = await read_answer(reader)
        assert (answer.status, answer.json["code"]) == (504, "upstream_timeout")
        writer.close()


class Visitor:
    """A client that only looks which wire it may hold."""

    upload, wire, endpoint, upstream_s = NO_UPLOAD, None, "", 0.0
    may_hold: Wire | None = None

    def head(self, answer: Head, body: bytes) -> None:
        assert answer.complete
        assert body
        self.may_hold = self.wire

    def body(self, data: bytes) -> None: ...

    def end(self) -> None: ...

    def clock(self) -> float:
        return 0.0


async def test_a_client_holds_the_upstream_only_during_its_exchange() -> None:
    async with ScriptedUpstream(Echo()) as upstream:
        endpoint, visitor = Endpoint("127.0.0.1", upstream.port), Visitor()
        upstreams = Upstreams(Deadlines(time.monotonic), Contexts(print), on_event=print)
        route = Route("only", PathPattern.read("/*"), Upstream("api", (endpoint,)))
        balancer = upstreams.adopt([route.upstream])["api"]
        await forward(balancer, visitor, Outbound("GET", b"GET / HTTP/1.1", route))
        assert (visitor.may_hold, visitor.wire) == (balancer.pools[0].take(), None)
        upstreams.close()


async def test_a_fault_of_our_own_in_mid_upload_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(_self: object) -> bytes:
        raise ZeroDivisionError

    monkeypatch.setattr("gateway.web.upload.Upload.read", broken)
    async with behind(Echo()) as running:
        reader, writer = await running.connect()
        writer.write(b"POST /public/x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n")
        answer = await read_answer(reader)
        assert (answer.status, answer.json["code"]) == (500, "internal_error")
        writer.close()
