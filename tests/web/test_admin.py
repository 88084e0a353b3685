"""The admin listener from outside: whom it answers, where, and how it stands bad clients."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.net.deadlines import SWEEP_S
from gateway.web.accept import CannotListen
from gateway.web.admin import LIMITS
from tests.fakes.gateway import APP, gateway, read_answer
from tests.fakes.operator import ADMIN, BEARER, TOKEN, Operator, is_problem, operated
from tests.fakes.upstream import ScriptedUpstream, read_request, response


@pytest.fixture
async def operator() -> AsyncIterator[Operator]:
    async with operated() as started:
        yield started


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_health_is_open(operator: Operator, path: str) -> None:
    answer = await operator.ask("GET", path)
    assert (answer.status, answer.json) == (200, {"status": "ok"})
    assert answer.value("cache-control") == "no-store"
    assert answer.value("server") is None
    assert (await operator.ask("HEAD", path)).status == 200


@pytest.mark.parametrize("path", ["/", "/metrics", "/openapi.json/", "/x", "/v1x", "/healthz/"])
async def test_nothing_else_is_there(operator: Operator, path: str) -> None:
    expected = (401, "missing_credential") if path.startswith("/v1") else (404, "no_route")
    assert is_problem(await operator.ask("GET", path), *expected)
    assert is_problem(await operator.ask("GET", path, BEARER), 404, "no_route")


async def test_another_method_is_refused_with_those_there_are(operator: Operator) -> None:
    for path, method, allow in (
        ("/healthz", "POST", "GET, HEAD"),
        ("/v1/routes", "DELETE", "GET, HEAD"),
        ("/v1/reload", "GET", "POST"),
    ):
        answer = await operator.ask(method, path, BEARER)
        assert is_problem(answer, 405, "method_not_allowed")
        assert answer.value("allow") == allow


async def test_the_routes_are_no_part_of_the_main_listener(operator: Operator) -> None:
    assert (await operator.running.get("/v1/routes", fields={"Authorization": f"Bearer {TOKEN}"})).status == 401


@pytest.mark.parametrize(
    "target", ["/v1/routes", "/%76%31/routes", "/v1/%72outes", "/v1/nothing", "http://localhost/v1/routes"]
)
async def test_v1_needs_the_token_however_it_is_spelt(operator: Operator, target: str) -> None:
    missing = await operator.ask("GET", target)
    assert is_problem(missing, 401, "missing_credential")
    assert missing.value("www-authenticate") == "Bearer"
    wrong = await operator.ask("GET", target, "Authorization: Bearer wrong")
    assert is_problem(wrong, 401, "invalid_token", "token-invalid")


@pytest.mark.parametrize(
    "line",
    [
        "Authorization: Bearer \udcff\udcfe", "Authorization: Bearer ключ", "Authorization: \udcff", "Authorization:",
        f"{BEARER}\r\n{BEARER}", f"{BEARER}x", f"Authorization: Basic {TOKEN}", f"Proxy-Authorization: Bearer {TOKEN}",
        f"Cookie: __session={TOKEN}",
    ],
)  # fmt: skip
async def test_whatever_stands_there_instead_is_401(operator: Operator, line: str) -> None:
    assert (await operator.ask("POST", "/v1/reload", line)).status == 401
    assert not [line for line in await operator.running.logged() if line["event"] in ("request_failed", "reloaded")]


async def test_without_a_configured_token_nobody_gets_in() -> None:
    async with operated(admin=ADMIN | {"token": None}) as operator:
        for line in ("X-Nothing: 1", "Authorization: Bearer ", "Authorization: Bearer None", BEARER):
            assert (await operator.ask("GET", "/v1/routes", line)).status == 401


@pytest.mark.parametrize("target", ["/v1/routes", "/healthz", "/nothing"])
@pytest.mark.parametrize("host", ["evil.example", "evil.example:9901", "localhost.evil.example", "0.0.0.0", "127.1"])
async def test_a_name_that_was_made_to_lead_here_is_not_answered(operator: Operator, target: str, host: str) -> None:
    assert is_problem(await operator.ask("GET", target, BEARER, host=host), 403, "forbidden", "host")


async def test_a_host_that_is_missing_or_double_is_not_answered(operator: Operator) -> None:
    assert (await operator.raw(f"GET /v1/routes HTTP/1.0\r\n{BEARER}\r\n\r\n".encode())).status == 403
    assert (await operator.ask("GET", "/v1/routes", BEARER, "Host: evil.example")).status == 400
    absolute = await operator.ask("GET", "http://localhost/v1/routes", BEARER, host="evil.example")
    assert absolute.status == 403


@pytest.mark.parametrize("origin", ["https://evil.example", "http://localhost:3000", "null", APP])
async def test_another_sites_page_may_not_even_look(operator: Operator, origin: str) -> None:
    for method, path in (("POST", "/v1/reload"), ("GET", "/healthz"), ("OPTIONS", "/v1/reload")):
        answer = await operator.ask(method, path, BEARER, f"Origin: {origin}")
        assert is_problem(answer, 403, "forbidden", "origin")
        assert answer.value("access-control-allow-origin") is None


async def test_its_own_page_may(operator: Operator) -> None:
    own = f"Origin: http://localhost:{operator.port}"
    assert (await operator.ask("GET", "/v1/routes", BEARER, own)).status == 200


async def test_off_loopback_any_name_is_good_and_nothing_is_open() -> None:
    async with operated(admin=ADMIN | {"host": "0.0.0.0"}) as operator:
        assert (await operator.ask("GET", "/healthz", host="gw.internal")).status == 401
        assert (await operator.ask("GET", "/healthz", BEARER, host="gw.internal")).status == 200
        assert (await operator.ask("GET", "/healthz", BEARER, "Origin: https://evil.example")).status == 403


async def test_it_believes_nobody_about_who_asks(operator: Operator) -> None:
    await operator.ask("GET", "/healthz", "X-Forwarded-For: 10.9.9.9", "X-Forwarded-Host: evil.example")
    (line,) = [line for line in await operator.running.logged() if line["event"] == "request"]
    assert (line["client"], line["path"], line["status"]) == ("127.0.0.1", "/healthz", 200)


async def test_the_token_is_exchanged_by_a_reload(operator: Operator) -> None:
    operator.running.file.write(1, admin=ADMIN | {"token": "another-horse-battery"})
    assert (await operator.ask("POST", "/v1/reload", BEARER)).json["changed"] == ["admin"]
    assert (await operator.ask("GET", "/v1/routes", BEARER)).status == 401
    assert (await operator.ask("GET", "/v1/routes", "Authorization: Bearer another-horse-battery")).status == 200


async def test_the_token_is_in_no_log(operator: Operator) -> None:
    await operator.ask("GET", "/v1/routes", BEARER)
    assert TOKEN not in str(await operator.running.logged())


async def test_what_cannot_be_read_is_answered_in_the_contracts_form(operator: Operator, capfd: Any) -> None:
    long = b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * LIMITS.header_bytes + b"\r\n\r\n"
    many = b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: a\r\n" * (LIMITS.headers + 1) + b"\r\n"
    for data, status, code in (
        (b"GARBAGE \xff\r\n\r\n", 400, "bad_request"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400, "bad_request"),
        (b"GET / HTTP/1.1\r\n\r\n", 400, "bad_request"),
        (b"GET /../v1/routes HTTP/1.1\r\nHost: localhost\r\n\r\n", 400, "bad_request"),
        (
            b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            400,
            "bad_request",
        ),
        (long, 431, "headers_too_large"),
        (many, 431, "headers_too_large"),
    ):
        answer = await operator.raw(data)
        assert (answer.status, answer.json["code"]) == (status, code)
        assert answer.value("server") is None
    written = capfd.readouterr()
    assert "Traceback" not in written.out + written.err
    assert "Traceback" not in str(await operator.running.logged())


async def test_a_body_nobody_asked_for_is_not_waited_for(operator: Operator) -> None:
    reader, writer = await operator.connect()
    writer.write(f"POST /v1/reload HTTP/1.1\r\nHost: localhost\r\n{BEARER}\r\nContent-Length: 99\r\n\r\nhalf".encode())
    answer = await read_answer(reader)
    assert (answer.status, answer.value("connection")) == (200, "close")
    assert await reader.read() == b""
    writer.close()


@pytest.mark.parametrize("sent", [b"", b"GET /healthz HTTP/1.1\r\nHost: loc"], ids=["nothing", "half-a-head"])
async def test_a_client_that_sends_nothing_more_is_let_go(operator: Operator, sent: bytes) -> None:
    reader, writer = await operator.connect()
    writer.write(sent)
    assert operator.running.app.admin_listener is not None
    while not operator.running.app.admin_listener._open:
        await asyncio.sleep(0)
    await operator.ask("GET", "/healthz")  # behind which what was sent has been read
    operator.running.pass_time(LIMITS.header_read_s + 2 * SWEEP_S + 0.1)
    assert (await reader.read())[:12] in (b"", b"HTTP/1.1 408")
    writer.close()


async def test_an_idle_connection_is_let_go(operator: Operator) -> None:
    reader, writer = await operator.connect()
    for _ in range(2):
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await read_answer(reader)).status == 200
    operator.running.pass_time(LIMITS.keepalive_s + 2 * SWEEP_S + 0.1)
    assert await reader.read() == b""
    writer.close()


async def test_a_taken_port_stops_the_start_and_says_what_to_change(operator: Operator) -> None:
    with pytest.raises(CannotListen, match=rf"127\.0\.0\.1:{operator.port}: .*admin\.port.*null"):
        async with operated(admin=ADMIN | {"port": operator.port}):
            pass


async def test_it_answers_until_the_very_end() -> None:
    arrived, release = asyncio.Event(), asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        arrived.set()
        await release.wait()
        writer.write(response(body=b"done"))

    async with ScriptedUpstream(slow) as upstream:
        starting = gateway(upstream.port, admin=ADMIN, drain_s=30)
        operator = Operator(await starting.__aenter__())
        assert (await operator.ask("GET", "/readyz")).status == 200
        asking = asyncio.ensure_future(operator.running.get("/public/x"))
        await arrived.wait()
        stopping = asyncio.ensure_future(starting.__aexit__(None, None, None))
        while not operator.running.app.draining:
            await asyncio.sleep(0)
        assert is_problem(await operator.ask("GET", "/readyz"), 503, "draining")
        assert is_problem(await operator.ask("POST", "/v1/reload", BEARER), 503, "draining")
        assert (await operator.ask("GET", "/healthz")).status == 200
        assert (await operator.ask("GET", "/v1/routes", BEARER)).status == 200
        release.set()
        assert (await asking).body == b"done"
        await stopping
        with pytest.raises(ConnectionRefusedError):
            await operator.connect()
