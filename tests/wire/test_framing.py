"""Framing is made anew for each side, never copied; everything else of a message goes on as it came."""

import asyncio
import gzip
from collections.abc import AsyncIterator

import pytest

from tests.fakes.gateway import Running, gateway, read_answer
from tests.fakes.upstream import Echo, ScriptedUpstream, read_request, response
from tests.wire.strict import answers, requests

POST = b"POST /public/x HTTP/1.1\r\nHost: a\r\n"
FRAMING = {b"content-length", b"transfer-encoding", b"trailer", b"te", b"connection", b"expect"}


class Recorder:
    """An upstream that keeps every byte and answers each whole request with `reply`."""

    def __init__(self, reply: bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok") -> None:
        self.reply = reply
        self.raw = b""

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answered, mine = 0, b""
        while data := await reader.read(65_536):
            mine += data
            self.raw += data
            whole = len(requests(mine).messages)
            writer.write(self.reply * (whole - answered))
            answered = whole


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
async def running(recorder: Recorder) -> AsyncIterator[Running]:
    async with ScriptedUpstream(recorder) as upstream, gateway(upstream.port) as started:
        yield started


LENGTH, CHUNKED = (b"Content-Length", b"5"), (b"Transfer-Encoding", b"chunked")


@pytest.mark.parametrize(("pieces", "framing", "body"), [
    pytest.param((POST + b"\r\n",), None, b"", id="none"),
    pytest.param((POST + b"content-length:5\r\n\r\nhello",), LENGTH, b"hello", id="length"),
    pytest.param((POST + b"Content-Length: 005 \r\n\r\nhello",), LENGTH, b"hello", id="length-oddly-written"),
    pytest.param((POST + b"Content-Length: 0\r\n\r\n",), (b"Content-Length", b"0"), b"", id="length-0"),
    pytest.param((POST + b"Content-Length: 5\r\n\r\n", b"hel", b"lo"), LENGTH, b"hello", id="length-in-pieces"),
    pytest.param((POST + b"TRANSFER-ENCODING:Chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",), LENGTH, b"hello",
                 id="chunked-whole"),
    pytest.param((POST + b"Transfer-Encoding: chunked\r\n\r\n", b"2;x=y\r\nhe\r", b"\n03\r\nllo\r\n", b"000\r\n\r\n"), CHUNKED, b"hello",
                 id="chunked-in-pieces"),
    pytest.param((POST + b"Transfer-Encoding: chunked\r\nTrailer: X-User-Id\r\n\r\n", b"5\r\nhello\r\n", b"0\r\nX-User-Id: evil\r\n\r\n"),
                 CHUNKED, b"hello", id="trailers"),
    pytest.param((b"POST /public/x HTTP/1.0\r\nContent-Length: 5\r\n\r\nhello",), LENGTH, b"hello", id="http-1.0"),
    pytest.param((b"GET /public/x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",), LENGTH, b"hello", id="get-with-a-body"),
])  # fmt: skip
async def test_a_requests_framing_is_made_anew(
    running: Running, recorder: Recorder, pieces: tuple[bytes, ...], framing: tuple[bytes, bytes] | None, body: bytes
) -> None:
    reader, writer = await running.connect()
    for piece in pieces:
        writer.write(piece)
        for _ in range(20):
            await asyncio.sleep(0)
    assert (await read_answer(reader)).status == 200
    writer.close()
    (sent,) = requests(recorder.raw).messages
    assert (sent.body, sent.minor) == (body, 1)
    assert [field for field in sent.fields if field[0].lower() in FRAMING] == ([framing] if framing else [])
    assert b"evil" not in recorder.raw
    assert b"x=y" not in recorder.raw


async def test_fields_go_up_in_order_spelling_and_number(running: Running, recorder: Recorder) -> None:
    fields = [
        (b"X-One", b"1"),
        (b"x-one", b"2"),
        (b"X-ONE", b"1"),
        (b"Accept", b"a"),
        (b"X-One", b""),
        (b"accept", b"b, c"),
    ]
    await running.raw(
        b"GET /public/x HTTP/1.1\r\nHost: a\r\n" + b"".join(b"%b:\t%b \r\n" % each for each in fields) + b"\r\n"
    )
    (sent,) = requests(recorder.raw).messages
    assert [field for field in sent.fields if field[0].lower() in (b"x-one", b"accept")] == fields


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
async def test_a_compressed_body_is_untouched_both_ways(chunked: bool) -> None:
    packed = gzip.compress(b"hello " * 1000)
    framing, body = b"Content-Length: %d" % len(packed), packed
    if chunked:
        framing, body = b"Transfer-Encoding: chunked", b"%x\r\n%b\r\n0\r\n\r\n" % (len(packed), packed)
    message = b"Content-Encoding: gzip\r\n" + framing + b"\r\n\r\n" + body
    recorder = Recorder(b"HTTP/1.1 200 OK\r\n" + message)
    async with ScriptedUpstream(recorder) as upstream, gateway(upstream.port) as running:
        answer = await running.raw(POST + b"Accept-Encoding: gzip;q=0.5\r\n" + message)
    (sent,) = requests(recorder.raw).messages
    assert (sent.body, answer.body) == (packed, packed)
    assert (sent.values(b"content-encoding"), answer.value("content-encoding")) == ([b"gzip"], "gzip")
    assert sent.values(b"accept-encoding") == [b"gzip;q=0.5"]


async def test_an_answers_fields_come_down_in_order_spelling_and_number() -> None:
    fields = (
        b"Set-Cookie: a=1; Path=/\r\nVary: x\r\nset-cookie: b=2\r\nVARY: y\r\nSET-COOKIE: a=1; Path=/\r\nX-Empty:\r\n"
    )
    recorder = Recorder(b"HTTP/1.1 200 OK\r\n" + fields + b"Content-Length: 0\r\n\r\n")
    async with ScriptedUpstream(recorder) as upstream, gateway(upstream.port, cors=None) as running:
        reader, writer = await running.connect()
        writer.write(b"GET /public/x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        got = await reader.read()
        writer.close()
    assert got.startswith(b"HTTP/1.1 200 OK\r\n" + fields.replace(b"X-Empty:", b"X-Empty: "))


@pytest.mark.parametrize(("reply", "ends", "framing"), [
    pytest.param(b"Content-Length: 5\r\n\r\nhello", False, b"content-length", id="length"),
    pytest.param(b"content-length:0005\r\n\r\nhello", False, b"content-length", id="length-oddly-written"),
    pytest.param(b"Transfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nT: 1\r\n\r\n", False, b"content-length", id="chunked"),
    pytest.param(b"\r\nhello", True, b"transfer-encoding", id="until-close"),
])  # fmt: skip
async def test_an_answers_framing_is_made_anew(reply: bytes, ends: bool, framing: bytes) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await read_request(reader) is not None:
            writer.write(b"HTTP/1.1 200 OK\r\n" + reply)
            if ends:
                await writer.drain()
                for _ in range(20):
                    await asyncio.sleep(0)
                return

    async with ScriptedUpstream(answer) as upstream, gateway(upstream.port) as running:
        reader, writer = await running.connect()
        writer.write(b"GET /public/x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        (got,) = answers(await reader.read(), [b"GET"], closed=True).messages
        writer.close()
    assert got.body == b"hello"
    assert [name.lower() for name, _ in got.fields if name.lower() in FRAMING - {b"connection"}] == [framing]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("status", [204, 304])
@pytest.mark.parametrize("length", [b"", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n"], ids=["none", "length", "chunked"])  # fmt: skip
async def test_what_has_no_body_has_none_and_the_next_answer_is_its_own(
    method: str, status: int, length: bytes
) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while (request := await read_request(reader)) is not None:
            bare = b"HTTP/1.1 %d Fine\r\n" % status + length + b"\r\n"
            writer.write(response(body=b"own") if request.target.endswith("second") else bare)

    async with ScriptedUpstream(answer) as upstream, gateway(upstream.port) as running:
        reader, writer = await running.connect()
        writer.write(b"%b /public/first HTTP/1.1\r\nHost: a\r\n\r\n" % method.encode())
        first = await read_answer(reader, is_head=True)
        writer.write(b"GET /public/second HTTP/1.1\r\nHost: a\r\n\r\n")
        second = await read_answer(reader)
        writer.close()
    assert (first.status, first.values("transfer-encoding"), second.body) == (status, [], b"own")
    assert first.values("content-length") == (["5"] if status == 304 and b"Length" in length else [])


@pytest.mark.parametrize("framing", [b"Content-Length: 5", b"Transfer-Encoding: chunked"], ids=["length", "chunked"])
async def test_100_continue_comes_before_the_body_and_only_from_us(framing: bytes) -> None:
    heads: list[bytes] = []

    async def eager(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        await reader.readuntil(b"hello")
        writer.write(response(body=b"ok"))
        await reader.read()

    async with ScriptedUpstream(eager) as upstream, gateway(upstream.port) as running:
        reader, writer = await running.connect()
        writer.write(POST + framing + b"\r\nExpect: 100-Continue\r\n\r\n")
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"hello" if b"Length" in framing else b"5\r\nhello\r\n0\r\n\r\n")
        answer = await read_answer(reader)
        writer.close()
    assert (answer.status, answer.body) == (200, b"ok")
    assert b"expect" not in heads[0].lower()


async def test_a_body_that_came_unasked_needs_no_100(running: Running) -> None:
    answer = await running.raw(POST + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\nhello")
    assert answer.status == 200


async def test_pipelined_requests_with_bodies_of_both_framings_stay_in_order() -> None:
    echo = Echo()
    async with ScriptedUpstream(echo) as upstream, gateway(upstream.port) as running:
        reader, writer = await running.connect()
        for number in range(20):
            writer.write(b"PUT /public/%d HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n%02d" % (number, number))
            writer.write(b"HEAD /public/h%d HTTP/1.1\r\nHost: a\r\n\r\n" % number)
        writer.write(POST + b"Transfer-Encoding: chunked\r\n\r\n4\r\nlast\r\n0\r\n\r\n")
        for number in range(20):
            answer = await read_answer(reader)
            assert (answer.json["target"], answer.json["body"]) == (f"/public/{number}", f"{number:02}")
            assert (await read_answer(reader, is_head=True)).status == 200
        assert (await read_answer(reader)).json["body"] == "last"
        writer.close()
    assert [request.target for request in echo.requests[:4]] == ["/public/0", "/public/h0", "/public/1", "/public/h1"]
