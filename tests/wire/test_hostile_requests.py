"""Raw bytes against a running gateway: what is malformed, ambiguous or too much is refused and goes nowhere."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.fakes.gateway import Running, gateway, read_answer
from tests.fakes.upstream import Echo, ScriptedUpstream

GET = b"GET /public/x HTTP/1.1\r\n"
POST = b"POST /public/x HTTP/1.1\r\nHost: a\r\n"
SMUGGLED = b"GET /public/smuggled HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture
def echo() -> Echo:
    return Echo()


@pytest.fixture
async def running(echo: Echo) -> AsyncIterator[Running]:
    limits = {"header_bytes": 8192, "headers": 20, "body_bytes": 1000}
    routes = [
        {"name": "unbounded", "path": "/unbounded/*", "upstream": "api", "auth": "public", "max_body_bytes": 0},
        {"name": "public", "path": "/public/*", "upstream": "api", "auth": "public"},
        {"name": "rest", "path": "/*", "upstream": "api"},
    ]
    async with ScriptedUpstream(echo) as upstream, gateway(upstream.port, limits=limits, routes=routes) as started:
        yield started


REFUSED = [
    pytest.param(b"garbage\r\n\r\n", 400, id="garbage"),
    pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\r\n\r\n", 400, id="tls"),
    pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, id="http-2"),
    pytest.param(b"GET /x HTTP/1.2\r\nHost: a\r\n\r\n", 400, id="http-1.2"),
    pytest.param(b"GET /public/x\r\n\r\n", 400, id="http-0.9"),
    pytest.param(GET + b"\r\n", 400, id="no-host"),
    pytest.param(GET + b"Host: \r\n\r\n", 400, id="empty-host"),
    pytest.param(GET + b"Host: a\r\nHost: b\r\n\r\n", 400, id="two-hosts"),
    pytest.param(GET + b"Host: a b\r\n\r\n", 400, id="host-with-a-blank"),
    pytest.param(GET + b"Host: user@a\r\n\r\n", 400, id="host-with-a-user"),
    pytest.param(GET + b"Host: a/../b\r\n\r\n", 400, id="host-with-a-path"),
    pytest.param(GET + b"Host: a, b\r\n\r\n", 400, id="host-list"),
    pytest.param(POST + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", 400, id="two-lengths"),
    pytest.param(POST + b"Content-Length: +5\r\n\r\nhello", 400, id="signed-length"),
    pytest.param(POST + b"Content-Length: \r\n\r\n", 400, id="empty-length"),
    pytest.param(b"POST /unbounded/x HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551615\r\n\r\n", 400, id="2^64-1"),
    pytest.param(POST + b"Content-Length: 5, 5\r\n\r\nhello", 400, id="length-list"),
    pytest.param(POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED, 400, id="cl-te"),
    pytest.param(POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + SMUGGLED, 400, id="te-cl"),
    pytest.param(POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400, id="xchunked"),
    pytest.param(POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400, id="two-codings"),
    pytest.param(POST + b"Transfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n", 400, id="identity-chunked"),
    pytest.param(POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, id="te-twice"),
    pytest.param(b"POST /public/x HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, id="te-on-1.0"),
    pytest.param(GET + b"Host: a\n\n", 400, id="bare-lf"),
    pytest.param(GET + b"Host: a\r\nX: 1\r\n folded\r\n\r\n", 400, id="obs-fold"),
    pytest.param(GET + b"Host: a\r\nX : 1\r\n\r\n", 400, id="space-before-colon"),
    pytest.param(GET + b"Host: a\r\nX: a\0b\r\n\r\n", 400, id="nul"),
    pytest.param(GET + b"Host: a\r\n: 1\r\n\r\n", 400, id="empty-name"),
    pytest.param(GET + b"Host: a\r\nX Y: 1\r\n\r\n", 400, id="blank-in-name"),
    pytest.param("GET /public/ä HTTP/1.1\r\nHost: a\r\n\r\n".encode(), 400, id="raw-utf-8"),
    pytest.param(b"GET /public/\x01 HTTP/1.1\r\nHost: a\r\n\r\n", 400, id="control-in-target"),
    pytest.param(b"GET public HTTP/1.1\r\nHost: a\r\n\r\n", 400, id="no-leading-slash"),
    pytest.param(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 400, id="options-star"),
    pytest.param(b"GET http://user@a/public/x HTTP/1.1\r\nHost: a\r\n\r\n", 400, id="absolute-with-user"),
    pytest.param(b"GET ftp://a/public/x HTTP/1.1\r\nHost: a\r\n\r\n", 400, id="absolute-other-scheme"),
    pytest.param(b"GET http:///public/x HTTP/1.1\r\nHost: a\r\n\r\n", 400, id="absolute-without-host"),
    pytest.param(b"GET http://a/public/x#y HTTP/1.1\r\nHost: a\r\n\r\n", 400, id="absolute-with-fragment"),
    pytest.param(b"get /public/x HTTP/1.1\r\nHost: a\r\n\r\n", 400, id="lower-case-method"),
    pytest.param(b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", 405, id="connect"),
    pytest.param(b"TRACE /public/x HTTP/1.1\r\nHost: a\r\n\r\n", 405, id="trace"),
    pytest.param(POST + b"Expect: a-miracle\r\nContent-Length: 5\r\n\r\n", 417, id="expect"),
    pytest.param(POST + b"Content-Length: 1001\r\n\r\n", 413, id="length-over-the-limit"),
    pytest.param(POST + b"Expect: 100-continue\r\nContent-Length: 1001\r\n\r\n", 413, id="no-100-for-too-much"),
    pytest.param(POST + b"Transfer-Encoding: chunked\r\n\r\n3ea\r\n" + b"x" * 1002 + b"\r\n0\r\n\r\n", 413, id="chunks-over"),
    pytest.param(GET + b"Host: a\r\nX: " + b"x" * 9000 + b"\r\n\r\n", 431, id="long-line"),
    pytest.param(b"GET /public/" + b"x" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 431, id="long-target"),
    pytest.param(GET + b"Host: a\r\n" + b"X: 1\r\n" * 30 + b"\r\n", 431, id="many-fields"),
    pytest.param(GET + b"Host: a\r\n" + (b"X: " + b"x" * 1000 + b"\r\n") * 9 + b"\r\n", 431, id="sum-of-fields"),
    pytest.param(GET + b"Host: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n\r\n" + SMUGGLED,
                 400, id="h2c"),
    pytest.param(GET + b"Host: a\r\nConnection: Upgrade\r\nUpgrade: tls/1.0\r\n\r\n", 400, id="other-upgrade"),
    pytest.param(POST + b"Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 42\r\n\r\n" + SMUGGLED, 400,
                 id="websocket-by-post"),
    pytest.param(GET + b"Host: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 42\r\n\r\n" + SMUGGLED, 400,
                 id="websocket-with-a-body"),
    pytest.param(GET + b"Host: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n" + SMUGGLED, 400, id="websocket-without-a-key"),
]  # fmt: skip


@pytest.mark.parametrize(("data", "status"), REFUSED)
async def test_it_is_refused_once_and_reaches_nobody(running: Running, echo: Echo, data: bytes, status: int) -> None:
    reader, writer = await running.connect()
    writer.write(data)
    answer = await read_answer(reader)
    assert answer.status == status
    assert answer.value("content-type") == "application/problem+json"
    assert answer.value("connection") == "close"
    assert answer.json["status"] == status
    assert len(answer.json["request_id"]) == 32
    assert await reader.read() == b""  # one answer, then the end: what stands behind is never a request
    writer.close()
    assert echo.requests == []
    logged = await running.logged()
    assert [line["status"] for line in logged if line["event"] == "request"] == [status]
    assert not [line for line in logged if "Traceback" in str(line) or line["event"] == "request_failed"]


async def test_a_request_of_another_version_is_refused(running: Running, echo: Echo) -> None:
    answer = await running.raw(b"GET /public/x HTTP/2.0\r\nHost: a\r\n\r\n")
    assert (answer.status, answer.value("connection")) == (400, "close")
    assert echo.requests == []


async def test_a_bad_chunk_in_mid_body_ends_the_exchange(running: Running, echo: Echo) -> None:
    reader, writer = await running.connect()
    writer.write(POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
    await asyncio.sleep(0)
    writer.write(b"zz\r\n")
    answer = await read_answer(reader)
    assert (answer.status, answer.value("connection")) == (400, "close")
    writer.close()
    assert echo.requests == []


async def test_absolute_form_counts_with_its_own_host(running: Running, echo: Echo) -> None:
    answer = await running.raw(b"GET http://other.example:81/public/x?y HTTP/1.1\r\nHost: a\r\n\r\n")
    assert answer.status == 200
    assert (echo.last.target, echo.last.value("Host")) == ("/public/x?y", "other.example:81")


async def test_100_continue_only_once_somebody_wants_the_body(running: Running, echo: Echo) -> None:
    head = b"POST /x HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n"
    refused = await running.raw(head + b"\r\n")
    assert refused.status == 401
    reader, writer = await running.connect()
    writer.write(head + b"Authorization: Bearer " + running.token().encode() + b"\r\n\r\n")
    assert (await read_answer(reader)).status == 100
    writer.write(b"hello")
    assert (await read_answer(reader)).status == 200
    writer.close()
    assert (echo.last.body, echo.last.value("Expect")) == (b"hello", None)


async def test_a_hundred_requests_in_one_go_are_answered_in_order(running: Running) -> None:
    reader, writer = await running.connect()
    for number in range(100):
        writer.write(b"GET /public/%d HTTP/1.1\r\nHost: a\r\n\r\n" % number)
    for number in range(100):
        assert (await read_answer(reader)).json["target"] == f"/public/{number}"
    writer.close()


async def test_local_forwarded_and_refused_requests_share_a_connection_in_order(running: Running) -> None:
    reader, writer = await running.connect()
    for target in (b"/healthz", b"/public/x", b"/x", b"/readyz", b"/public/y"):
        writer.write(b"GET " + target + b" HTTP/1.1\r\nHost: a\r\n\r\n")
    assert [(await read_answer(reader)).status for _ in range(5)] == [200, 200, 401, 200, 200]
    writer.close()


@pytest.mark.parametrize(
    ("head", "connection"),
    [
        (b"GET /public/x HTTP/1.0\r\nHost: a\r\n\r\n", "close"),
        (b"GET /public/x HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n", "keep-alive"),
        (b"GET /public/x HTTP/1.0\r\n\r\n", "close"),
        (b"GET /public/x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "close"),
        (b"GET /public/x HTTP/1.1\r\nHost: a\r\n\r\n", None),
    ],
    ids=["1.0", "1.0-keep-alive", "1.0-without-host", "1.1-close", "1.1"],
)
async def test_the_connection_lasts_as_long_as_the_client_asked(
    running: Running, head: bytes, connection: str | None
) -> None:
    reader, writer = await running.connect()
    writer.write(head)
    answer = await read_answer(reader)
    assert (answer.status, answer.value("connection")) == (200, connection)
    if connection == "close":
        assert await reader.read() == b""
    writer.close()


async def test_a_refused_upload_is_answered_readably_and_closed(running: Running) -> None:
    reader, writer = await running.connect()
    writer.write(b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 900\r\n\r\n")
    answer = await read_answer(reader)
    writer.write(b"x" * 900)
    await writer.drain()
    assert (answer.status, answer.value("connection")) == (401, "close")
    assert await reader.read() == b""
    writer.close()


async def test_two_requests_bytes_never_mix_at_any_split(running: Running, echo: Echo) -> None:
    data = POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    for at in range(1, len(data), 3):
        reader, writer = await running.connect()
        writer.write(data[:at])
        await asyncio.sleep(0)
        writer.write(data[at:])
        assert (await read_answer(reader)).json["body"] == "abc"
        writer.close()
