"""A client connection's life: its timers, its end, and who is told. Malformed requests are in `tests/wire`."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.fakes.gateway import APP, Answer, Running, gateway, read_answer
from tests.fakes.upstream import Echo, ScriptedUpstream, read_request, response

REQUEST = b"GET /public/x HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture
async def running() -> AsyncIterator[Running]:
    async with ScriptedUpstream(Echo()) as upstream, gateway(upstream.port) as started:
        yield started


async def settled(running: Running, opened: int) -> None:
    """Wait until the gateway has seen this many connections open."""
    while len(running.app.listener._open) != opened:
        await asyncio.sleep(0)


async def test_who_says_nothing_is_let_go_after_the_time_for_a_head(running: Running) -> None:
    reader, writer = await running.connect()
    await settled(running, 1)
    running.pass_time(9)
    assert len(running.app.listener._open) == 1
    running.pass_time(2)
    assert await reader.read() == b""
    writer.close()


async def test_a_head_that_trickles_in_has_one_time_in_all(running: Running) -> None:
    reader, writer = await running.connect()
    await settled(running, 1)
    for byte in b"GET /pub":
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0)
        running.pass_time(1.2)
    running.pass_time(2)
    answer = await read_answer(reader)
    assert (answer.status, answer.json["code"], answer.value("connection")) == (408, "request_timeout", "close")
    assert await reader.read() == b""
    writer.close()
    logged = [(line["status"], line["request_id"]) for line in await running.logged() if line["event"] == "request"]
    assert logged == [(408, answer.value("x-request-id"))]


async def test_an_idle_connection_is_kept_for_its_time(running: Running) -> None:
    reader, writer = await running.connect()
    for passes in (74, 74):
        writer.write(REQUEST)
        assert (await read_answer(reader)).status == 200
        await asyncio.sleep(0)
        running.pass_time(passes)
    running.pass_time(2)
    assert await reader.read() == b""
    writer.close()


@pytest.mark.parametrize("pieces", [[bytes([byte]) for byte in REQUEST], [REQUEST[:-1], REQUEST[-1:]],
    [b"P", b"POST /public/x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"[1:]]],
    ids=["byte-by-byte", "last-byte-alone", "with-a-body"])  # fmt: skip
async def test_a_request_that_came_in_pieces_leaves_an_idle_connection(running: Running, pieces: list[bytes]) -> None:
    reader, writer = await running.connect()
    await settled(running, 1)
    (connection,) = running.app.listener._open
    for piece in pieces:
        connection.data_received(piece)
    assert (await read_answer(reader)).status == 200
    await asyncio.sleep(0)
    running.pass_time(70)
    writer.write(REQUEST)
    assert (await read_answer(reader)).status == 200
    writer.close()


async def test_half_a_next_request_has_only_the_time_for_a_head(running: Running) -> None:
    reader, writer = await running.connect()
    writer.write(REQUEST + REQUEST[:10])
    assert (await read_answer(reader)).status == 200
    await asyncio.sleep(0)
    running.pass_time(11)
    assert (await read_answer(reader)).status == 408
    writer.close()


async def test_a_body_that_stops_coming_is_408(running: Running) -> None:
    reader, writer = await running.connect()
    writer.write(b"POST /public/x HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf")
    while not running.app.listener._open or next(iter(running.app.listener._open))._phase != "upload":
        await asyncio.sleep(0)
    running.pass_time(31)
    answer = await read_answer(reader)
    assert (answer.status, answer.json["code"], answer.value("connection")) == (408, "request_timeout", "close")
    writer.close()


async def test_a_client_that_leaves_is_logged_once_as_gone() -> None:
    arrived = asyncio.Event()

    async def waits(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        arrived.set()
        await reader.read()

    async with ScriptedUpstream(waits) as upstream, gateway(upstream.port) as running:
        _, writer = await running.connect()
        writer.write(REQUEST)
        await arrived.wait()
        writer.close()
        await settled(running, 0)
        await asyncio.sleep(0)
        lines = [line for line in await running.logged() if line["event"] == "request"]
    assert [line["status"] for line in lines] == [499]


async def test_the_access_line_says_who_what_and_how_it_ended_and_no_secret(running: Running) -> None:
    token = running.token(o={"id": "org_1", "slg": "acme", "rol": "admin"})
    await running.get("/x?secret=1", token=token, fields={"User-Agent": "me", "Cookie": "c=hidden"})
    await running.get("/x?secret=1", token="a.b.c")
    logged = await running.logged()
    good, bad = (line for line in logged if line["event"] == "request")
    assert set(good) == {
        "ts", "level", "event", "request_id", "client", "method", "host", "route", "path", "status", "code", "reason",
        "user", "session", "org", "upstream", "endpoint", "duration_s", "upstream_s", "bytes_in", "bytes_out", "ua",
    }  # fmt: skip
    told = {
        name: good[name] for name in ("client", "method", "host", "route", "path", "status", "user", "session", "org")
    }
    assert told == {
        "client": "127.0.0.1", "method": "GET", "host": "gw.example.com", "route": "rest", "path": "/x", "status": 200,
        "user": "user_1", "session": "sess_1", "org": "org_1",
    }  # fmt: skip
    assert (bad["status"], bad["code"], bad["reason"], bad["user"]) == (401, "invalid_token", "token-invalid", None)
    assert not [secret for secret in (token, "secret", "hidden", "a.b.c") if secret in str(logged)]


async def test_a_fault_of_our_own_is_500_and_one_event_with_its_trace(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_args: object, **_more: object) -> None:
        raise ZeroDivisionError("ours")

    monkeypatch.setattr("gateway.web.pipeline.trace", broken)
    answer = await running.get("/public/x")
    assert (answer.status, answer.json["code"]) == (500, "internal_error")
    assert b"ours" not in answer.body
    events = [line for line in await running.logged() if line["event"] == "request_failed"]
    assert [event["request_id"] for event in events] == [answer.value("x-request-id")]
    assert "ZeroDivisionError" in str(events[0])


async def test_a_client_that_half_closes_is_gone(running: Running) -> None:
    reader, writer = await running.connect()
    writer.write_eof()
    assert await reader.read() == b""
    writer.close()


async def test_an_http_10_client_gets_a_body_of_unknown_length_until_close() -> None:
    async def chunks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(3):
            writer.write(b"5\r\nhello\r\n")
            await writer.drain()
            await asyncio.sleep(0)
        writer.write(b"0\r\n\r\n")

    async with ScriptedUpstream(chunks) as upstream, gateway(upstream.port) as running:
        answer = await running.raw(b"GET /public/x HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    assert answer.body == b"hello" * 3
    assert answer.value("transfer-encoding") is None


async def test_whoever_trusts_a_proxy_believes_its_fields_and_nobody_elses() -> None:
    echo = Echo()
    said = {"X-Forwarded-For": "203.0.113.7", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "app.example.com",
            "X-Request-Id": "theirs-1"}  # fmt: skip
    for trusted, seen, host, request_id in (
        (["127.0.0.0/8"], "203.0.113.7, 127.0.0.1", "app.example.com", True),
        ([], "127.0.0.1", "gw.example.com", False),
    ):
        async with ScriptedUpstream(echo) as upstream, gateway(upstream.port, trusted_proxies=trusted) as running:
            await running.get("/public/x", fields=said)
            client = [line["client"] for line in await running.logged() if line["event"] == "request"]
        assert (echo.last.value("X-Forwarded-For"), echo.last.value("X-Forwarded-Host")) == (seen, host)
        assert (echo.last.value("X-Request-Id") == "theirs-1") is request_id
        assert client == [seen.split(",")[0]]


async def test_an_answer_of_a_stopping_gateway_ends_its_connection() -> None:
    arrived, release = asyncio.Event(), asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        arrived.set()
        await release.wait()
        writer.write(response(body=b"done"))

    async with ScriptedUpstream(slow) as upstream, gateway(upstream.port) as running:
        idle, idle_writer = await running.connect()
        idle_writer.write(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await read_answer(idle)).status == 200
        reader, writer = await running.connect()
        writer.write(REQUEST)
        await arrived.wait()
        draining = asyncio.ensure_future(running.app.listener.drain(5))
        assert await idle.read() == b""
        release.set()
        answer = await read_answer(reader)
        assert (answer.body, answer.value("connection")) == (b"done", "close")
        assert await draining
        for each in (idle_writer, writer):
            each.close()


async def test_a_stopping_gateway_waits_a_moment_for_a_first_request_that_may_be_on_its_way(running: Running) -> None:
    (reader, writer), (silent, silent_writer) = await running.connect(), await running.connect()
    await settled(running, 2)
    draining = asyncio.ensure_future(running.app.listener.drain(5))
    await asyncio.sleep(0)
    writer.write(REQUEST)
    answer = await read_answer(reader)
    assert (answer.status, answer.value("connection")) == (200, "close")
    running.pass_time(2.1)
    assert await silent.read() == b""
    assert await draining
    for each in (writer, silent_writer):
        each.close()


# A client that repeats its header, which is then neither parsed nor judged again


async def test_a_repeated_header_is_held_to_every_rule_each_time() -> None:
    echo = Echo()
    async with ScriptedUpstream(echo) as upstream, gateway(upstream.port) as running:
        reader, writer = await running.connect()
        token = running.token(exp=int(running.clock()) + 60)
        said = f" HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\nX-User-Id: evil\r\nOrigin: {APP}\r\n\r\n"

        async def ask(line: str) -> Answer:
            writer.write((line + said).encode())
            return await read_answer(reader, is_head=line.startswith("HEAD"))

        first, second = await ask("GET /x?1"), await ask("GET /y/z?2")
        assert [request.target for request in echo.requests] == ["/x?1", "/y/z?2"]
        assert [request.value("X-User-Id") for request in echo.requests] == ["user_1", "user_1"]
        assert first.value("x-request-id") != second.value("x-request-id")
        assert [answer.value("access-control-allow-origin") for answer in (first, second)] == [APP, APP]
        statuses = [(await ask(line)).status for line in (
            "GET /admin/x", "GET /public/x", "HEAD /x", "GET /x", "POST /x", "GET /a/../admin", "GET /healthz", "GET /x%2f",
            "GET /x",
        )]  # fmt: skip
        assert statuses == [403, 200, 200, 200, 200, 400, 200, 400, 200]
        assert echo.requests[2].value("X-User-Id") is None  # the public route
        running.clock.seconds += 66
        late = await ask("GET /x")
        assert (late.status, late.json["reason"]) == (401, "token-expired")
        assert (await ask("GET /public/x")).status == 200
        writer.close()
        lines = [line for line in await running.logged() if line["event"] == "request"]
    assert [(line["path"], line["route"], line["user"]) for line in lines[:4]] == [
        ("/x", "rest", "user_1"), ("/y/z", "rest", "user_1"), ("/admin/x", "admin", "user_1"), ("/public/x", "public", None),
    ]  # fmt: skip


async def test_a_repeated_header_in_pieces_or_with_more_behind_it_is_parsed() -> None:
    echo = Echo()
    async with ScriptedUpstream(echo) as upstream, gateway(upstream.port) as running:
        reader, writer = await running.connect()
        for pieces in (
            [REQUEST],
            [REQUEST[:20], REQUEST[20:]],
            [REQUEST * 3],
            [REQUEST + REQUEST[:9], REQUEST[9:]],
            [REQUEST],
        ):
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)
            for _ in range(b"".join(pieces).count(b"GET")):
                assert (await read_answer(reader)).status == 200
        writer.close()
    assert len(echo.requests) == 8
    assert len({request.raw_head.split(b"X-Request-Id")[0] for request in echo.requests}) == 1


async def test_who_is_who_on_a_connection_that_many_share() -> None:
    """A proxy before us sends its clients' requests over one connection, the next one while this one is served."""
    arrived, release = asyncio.Event(), asyncio.Semaphore(0)
    users: list[str | None] = []

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while (request := await read_request(reader)) is not None:
            users.append(request.value("X-User-Id"))
            arrived.set()
            await release.acquire()
            writer.write(response())

    async with ScriptedUpstream(slow) as upstream, gateway(upstream.port) as running:
        reader, writer = await running.connect()
        heads = {
            user: f"GET /x HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {running.token(sub=user)}\r\n\r\n".encode()
            for user in ("user_alice", "user_bob")
        }
        alice, bob = heads.values()
        for first, second in ((alice, bob), (alice, alice), (bob, alice), (alice, bob)):
            arrived.clear()
            writer.write(first)
            await arrived.wait()
            writer.write(second)
            await writer.drain()
            await asyncio.sleep(0)
            for _ in range(2):
                release.release()
                assert (await read_answer(reader)).status == 200
        writer.close()
    told = [user and user.removeprefix("user_") for user in users]
    assert told == ["alice", "bob", "alice", "alice", "bob", "alice", "alice", "bob"]


async def test_a_body_that_comes_before_its_head_is_taken_up_is_a_body() -> None:
    echo = Echo()
    async with ScriptedUpstream(echo) as upstream, gateway(upstream.port) as running:
        reader, writer = await running.connect()
        await settled(running, 1)
        (connection,) = running.app.listener._open
        body = b"x" * 200_000
        connection.data_received(b"POST /public/x HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n")
        connection.data_received(body[:150_000])
        connection.data_received(body[150_000:])
        assert (await read_answer(reader)).status == 200
        assert echo.last.body == body
        writer.close()


async def test_a_body_that_breaks_before_its_head_is_taken_up_is_refused() -> None:
    async with ScriptedUpstream(Echo()) as upstream, gateway(upstream.port) as running:
        reader, writer = await running.connect()
        await settled(running, 1)
        (connection,) = running.app.listener._open
        connection.data_received(b"POST /public/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        connection.data_received(b"2\r\nok\r\n")
        connection.data_received(b"zz\r\n")
        assert (await read_answer(reader)).status == 400
        writer.close()
