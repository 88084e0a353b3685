"""Clerk's Frontend API through the gateway, over real sockets, with a server of our own in Clerk's place."""

import asyncio
import gzip
import json
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import BodyTooLarge, NoHealthyEndpoint, RateLimited
from gateway.web.frontend_api import FOR_NOW, NEVER, as_clerk_says
from tests.fakes.certificates import Authority
from tests.fakes.gateway import APP, CLERK, Answer, Running, gateway, read_answer
from tests.fakes.upstream import Echo, Received, ScriptedUpstream, read_request, response

KEY = "sk_live_abcdef0123456789"
PROXY_URL = "https://gw.example.com/__clerk"
NOBODY = 9  # the discard port: nobody listens there


def clerk(port: int, **more: Any) -> dict[str, Any]:
    """Write the block of an instance whose Frontend API is had through the gateway."""
    return {
        "issuer": CLERK.issuer, "jwt_key": CLERK.pem(), "authorized_parties": [APP], "secret_key": KEY,
        "proxy_path": "/__clerk", "proxy_url": PROXY_URL, "frontend_api_url": f"http://127.0.0.1:{port}",
    } | more  # fmt: skip


class Fapi(Echo):
    """An echo that answers with what a test scripts, once that is there."""

    answers: Sequence[bytes] = ()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until the client ends it."""
        if not self.answers:
            return await super().__call__(reader, writer)
        while (request := await read_request(reader)) is not None:
            self.requests.append(request)
            for piece in self.answers:
                writer.write(piece)
                await writer.drain()
        return None


@pytest.fixture
def fapi() -> Fapi:
    return Fapi()


@asynccontextmanager
async def behind(
    fapi: Any, api: Any = None, *, instance: dict[str, Any] | None = None, **more: Any
) -> AsyncIterator[Running]:
    async with ScriptedUpstream(fapi) as there, ScriptedUpstream(api or Echo()) as upstream:
        block = clerk(there.port, **(instance or {}))
        async with gateway(upstream.port, clerk=block, **more) as running:
            yield running


def line_of(received: Received) -> str:
    return f"{received.method} {received.target}"


# --- what reaches Clerk -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "QUERY"])
async def test_every_method_reaches_clerk_with_the_three_fields(fapi: Fapi, method: str) -> None:
    async with behind(fapi) as running:
        answer = await running.ask(method, "/__clerk/v1/client?_clerk_js_version=5&x=%2F")
    assert answer.status == 200
    assert line_of(fapi.last) == f"{method} /v1/client?_clerk_js_version=5&x=%2F"
    assert (
        fapi.last.value("Host")
        == f"127.0.0.1:{running.file.load().frontend_api_proxies[0].route.upstream.endpoints[0].port}"
    )
    assert fapi.last.value("Clerk-Proxy-Url") == PROXY_URL
    assert fapi.last.value("Clerk-Secret-Key") == KEY
    assert fapi.last.value("X-Forwarded-For") == "127.0.0.1"
    assert (fapi.last.value("X-Forwarded-Host"), fapi.last.value("X-Forwarded-Proto")) == ("gw.example.com", "http")


async def test_cookies_and_authorization_pass_and_nobody_is_asked_who_he_is(fapi: Fapi) -> None:
    lines = ("Cookie: __client=a; __session=nonsense", "Cookie: b=2", "Authorization: Bearer nonsense",
             "Authorization: again", "Origin: https://elsewhere.example", "Clerk-API-Version: 2025-11-10")  # fmt: skip
    async with behind(fapi) as running:
        answer = await running.ask("POST", "/__clerk/v1/client/sign_ins", lines=lines, body=b"identifier=a")
    assert answer.status == 200
    assert fapi.last.values("Cookie") == ["__client=a; __session=nonsense", "b=2"]
    assert fapi.last.values("Authorization") == ["Bearer nonsense", "again"]
    assert fapi.last.value("Origin") == "https://elsewhere.example"
    assert fapi.last.value("Clerk-API-Version") == "2025-11-10"
    assert fapi.last.body == b"identifier=a"
    assert not [name for name, _ in fapi.last.fields if name.lower().startswith("x-user-")]


LIES = [
    "Clerk-Secret-Key", "clerk_secret_key", "Clerk.Secret.Key", "CLERK-PROXY-URL", "Clerk_Proxy_Url", "X-Forwarded-For",
    "x_forwarded_for", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Port", "Forwarded", "X-Real-IP",
    "X-Client-IP", "True-Client-IP", "CF-Connecting-IP", "X-Original-Forwarded-For", "X-User-Id", "x_user_id",
]  # fmt: skip


async def test_a_client_cannot_say_what_the_gateway_says(fapi: Fapi) -> None:
    async with behind(fapi) as running:
        await running.get("/__clerk/v1/client", lines=tuple(f"{name}: evil" for name in LIES for _ in range(2)))
    assert not [field for field in fapi.last.fields if "evil" in field[1]]
    assert fapi.last.value("Clerk-Secret-Key") == KEY
    assert fapi.last.value("Clerk-Proxy-Url") == PROXY_URL


async def test_connection_cannot_name_away_what_the_gateway_says(fapi: Fapi) -> None:
    named = "close, clerk-secret-key, clerk-proxy-url, x-forwarded-for, host, x-hop"
    async with behind(fapi) as running:
        await running.get("/__clerk/v1", lines=(f"Connection: {named}", "X-Hop: 1", "TE: trailers", "Keep-Alive: 5"))
    assert fapi.last.value("Clerk-Secret-Key") == KEY
    assert fapi.last.value("X-Forwarded-For") == "127.0.0.1"
    assert fapi.last.value("X-Hop") is None
    assert not {"connection", "te", "keep-alive"} & {name.lower() for name, _ in fapi.last.fields}


@pytest.mark.parametrize(
    ("trusted", "client", "host", "proto"),
    [([], "127.0.0.1", "gw.example.com", "http"), (["127.0.0.0/8"], "203.0.113.7", "app.example.com", "https")],
)
async def test_only_a_trusted_peer_says_whom_it_speaks_for(
    fapi: Fapi, trusted: list[str], client: str, host: str, proto: str
) -> None:
    lines = ("X-Forwarded-For: 198.51.100.1, 203.0.113.7", "X-Forwarded-Host: app.example.com",
             "X-Forwarded-Proto: https", "X-Real-IP: 198.51.100.9")  # fmt: skip
    async with behind(fapi, trusted_proxies=trusted) as running:
        await running.get("/__clerk/v1/client", lines=lines)
    assert fapi.last.value("X-Forwarded-For") == client
    assert (fapi.last.value("X-Forwarded-Host"), fapi.last.value("X-Forwarded-Proto")) == (host, proto)
    assert fapi.last.value("X-Real-IP") is None


async def test_a_request_like_the_last_one_goes_the_same_way(fapi: Fapi) -> None:
    """The connection does not parse it again (`read.LastHead`), and its fields are needed all the same."""
    async with behind(fapi) as running:
        reader, writer = await running.connect()
        for number in range(3):
            writer.write(
                b"GET /__clerk/v1/%d HTTP/1.1\r\nHost: a\r\nCookie: __client=c\r\nX-User-Id: 1\r\n\r\n" % number
            )
            await read_answer(reader)
        writer.close()
    assert [line_of(each) for each in fapi.requests] == ["GET /v1/0", "GET /v1/1", "GET /v1/2"]
    assert {each.raw_head.partition(b"\r\n")[2] for each in fapi.requests} == {fapi.last.raw_head.partition(b"\r\n")[2]}
    assert fapi.last.value("Cookie") == "__client=c"


# --- where it goes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "asked"),
    [
        ("/__clerk", "/"),
        ("/__clerk/", "/"),
        ("/%5F%5fclerk/v1", "/v1"),
        ("/__clerk/npm/@clerk/clerk-js@5/dist/clerk.browser.js", "/npm/@clerk/clerk-js@5/dist/clerk.browser.js"),
        ("/__clerk/@evil.example/x", "/@evil.example/x"),
        ("/__clerk/http:/evil.example", "/http:/evil.example"),
        ("/__clerk/v1?next=//evil.example\\..%2f..", "/v1?next=//evil.example\\..%2f.."),
        ("/__clerk/%zz", "/%zz"),
        ("http://evil.example/__clerk/v1", "/v1"),
        ("https://evil.example:99/__clerk?x", "/?x"),
    ],
)
async def test_every_target_below_the_path_goes_to_clerk_byte_for_byte(fapi: Fapi, target: str, asked: str) -> None:
    async with behind(fapi) as running:
        answer = await running.get(target)
    assert answer.status == 200
    assert fapi.last.target == asked
    assert fapi.last.value("Host").startswith("127.0.0.1:")  # type: ignore[union-attr]
    assert fapi.last.value("Clerk-Proxy-Url") == PROXY_URL


@pytest.mark.parametrize(
    "target",
    [
        "/__clerk//evil.example", "/__clerk/v1//x", "/__clerk/\\evil.example", "/__clerk/%5cevil", "/__clerk/../admin",
        "/__clerk/%2e%2e/admin", "/__clerk/.%2E/x", "/__clerk/.", "/__clerk/..;/x", "/__clerk/a;b", "/__clerk/%2fevil",
        "/__clerk/v1%2F..%2Fx", "/__clerk/%00", "/__clerk/%0d%0aX:1", "/__clerk/x#y", "//evil.example/__clerk/x",
        "/__clerk/%ff", "http:///__clerk/x", "http://a@b/__clerk/x",
    ],
)  # fmt: skip
async def test_what_servers_read_differently_goes_nowhere(fapi: Fapi, target: str) -> None:
    api = Echo()
    async with behind(fapi, api) as running:
        answer = await running.get(target)
    assert (answer.status, answer.json["code"]) == (400, "bad_request")
    assert not fapi.requests
    assert not api.requests


@pytest.mark.parametrize("target", ["/__clerkx", "/__clerk@evil.example", "/__CLERK/v1", "/x/__clerk", "/"])
async def test_what_is_not_below_the_path_is_not_clerks(fapi: Fapi, target: str) -> None:
    async with behind(fapi) as running:
        assert (await running.get(target)).status == 401
    assert not fapi.requests


async def test_it_wins_over_routes_on_every_host(fapi: Fapi) -> None:
    routes = [{"name": "all", "path": "/*", "upstream": "api", "auth": "public", "host": "a.example.com"},
              {"name": "here", "path": "/__clerk/*", "upstream": "api"}]  # fmt: skip
    async with behind(fapi, routes=routes) as running:
        assert (await running.raw(b"GET /__clerk/v1 HTTP/1.1\r\nHost: a.example.com\r\n\r\n")).status == 200
        assert (await running.raw(b"GET /__clerk/v1 HTTP/1.0\r\n\r\n")).status == 200
        assert (await running.raw(b"GET /__clerk/v1 HTTP/1.1\r\nHost: b.example.com\r\n\r\n")).status == 200
    assert [each.value("X-Forwarded-Host") for each in fapi.requests] == ["a.example.com", None, "b.example.com"]


async def test_without_it_the_path_is_a_routes() -> None:
    api = Echo()
    async with ScriptedUpstream(api) as upstream, gateway(upstream.port) as running:
        assert running.app.listener.deps.frontend_apis is None
        assert (await running.get("/__clerk/v1")).status == 401


async def test_an_upgrade_is_an_ordinary_request_to_clerk(fapi: Fapi) -> None:
    lines = ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
             "Sec-WebSocket-Version: 13")  # fmt: skip
    async with behind(fapi) as running:
        answer = await running.get("/__clerk/v1", lines=lines)
    assert (answer.status, answer.value("connection")) == (200, "close")
    assert (fapi.last.value("Upgrade"), fapi.last.value("Connection")) == (None, None)


# --- what comes back --------------------------------------------------------------------------------------------------


async def answered(fapi: Fapi, *pieces: bytes, target: str = "/__clerk/v1/here", method: str = "GET",
                   lines: tuple[str, ...] = (), **more: Any) -> Answer:  # fmt: skip
    fapi.answers = pieces
    async with behind(fapi, **more) as running:
        return await running.ask(method, target, lines=lines)


async def test_an_answer_passes_as_clerk_gave_it(fapi: Fapi) -> None:
    fields = (
        b"Set-Cookie: __client=1; Path=/; HttpOnly\r\nset-cookie: __session=2\r\nSet-Cookie: __session=2\r\n"
        b"Access-Control-Allow-Origin: https://x.example\r\nAccess-Control-Allow-Credentials: true\r\n"
        b"Vary: Origin\r\nCache-Control: public, max-age=9\r\nETag: \"e\"\r\nX-Clerk-Trace: t\r\nConnection: X-Hop\r\n"
        b"X-Hop: 1\r\nKeep-Alive: timeout=5\r\n"
    )  # fmt: skip
    body = gzip.compress(b'{"response": null}')
    head = (
        b"HTTP/1.1 422 Unprocessable\r\n" + fields + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body)
    )
    answer = await answered(fapi, head + body, lines=(f"Origin: {APP}", "Accept-Encoding: gzip"))
    assert (answer.status, answer.body) == (422, body)
    assert fapi.last.value("Accept-Encoding") == "gzip"
    assert answer.values("set-cookie") == ["__client=1; Path=/; HttpOnly", "__session=2", "__session=2"]
    assert answer.value("access-control-allow-origin") == "https://x.example"
    assert answer.value("cache-control") == "public, max-age=9"
    assert (answer.value("vary"), answer.value("etag"), answer.value("content-encoding")) == ("Origin", '"e"', "gzip")
    assert {"x-hop", "keep-alive", "connection"}.isdisjoint(name for name, _ in answer.fields)


async def test_a_preflight_is_clerks_to_answer(fapi: Fapi) -> None:
    preflight = ("Origin: https://evil.example", "Access-Control-Request-Method: POST")
    answer = await answered(fapi, b"HTTP/1.1 204 No Content\r\nAccess-Control-Allow-Origin: *\r\n\r\n", method="OPTIONS",
                            lines=preflight)  # fmt: skip
    assert (answer.status, answer.value("access-control-allow-origin"), answer.value("vary")) == (204, "*", None)
    assert fapi.last.value("Access-Control-Request-Method") == "POST"


@pytest.mark.parametrize(
    ("location", "led"),
    [
        ("{fapi}/v1/next?x=1", PROXY_URL + "/v1/next?x=1"),
        ("/npm/clerk.js", PROXY_URL + "/npm/clerk.js"),
        ("https://app.example.com/?next={fapi}/v1", "https://app.example.com/?next={fapi}/v1"),
        ("//evil.example/", "//evil.example/"),
    ],
)
@pytest.mark.parametrize("status", [201, 302, 307])
async def test_redirects_to_clerk_lead_through_the_gateway(fapi: Fapi, status: int, location: str, led: str) -> None:
    async with ScriptedUpstream(fapi) as there:
        address = f"http://127.0.0.1:{there.port}"
        fapi.answers = [response(status, fields=("Location: " + location.format(fapi=address), "X: 1"))]
        async with gateway(NOBODY, clerk=clerk(there.port)) as running:
            answer = await running.get("/__clerk/v1/here")
    assert (answer.status, answer.value("location")) == (status, led.format(fapi=address))
    assert len(fapi.requests) == 1  # it is the client that follows


async def test_head_and_not_modified_have_no_body_and_leave_the_connection_usable(fapi: Fapi) -> None:
    fapi.answers = [b'HTTP/1.1 304 Not Modified\r\nETag: "e"\r\n\r\n']
    async with behind(fapi) as running:
        reader, writer = await running.connect()
        for method in (b"GET", b"HEAD", b"GET"):
            writer.write(method + b' /__clerk/v1 HTTP/1.1\r\nHost: a\r\nIf-None-Match: "e"\r\n\r\n')
            assert (await read_answer(reader, is_head=method == b"HEAD")).status == 304
        fapi.answers = [b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n"]
        writer.write(b"HEAD /__clerk/v1 HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await read_answer(reader, is_head=True)).value("content-length") == "500"
        writer.close()


# --- bodies -----------------------------------------------------------------------------------------------------------

BIG = bytes(range(256)) * 16_384  # 4 MiB


@pytest.mark.parametrize("chunked", [False, True])
async def test_large_bodies_stream_both_ways(fapi: Fapi, chunked: bool) -> None:
    pieces = [BIG[at : at + 65_536] for at in range(0, len(BIG), 65_536)]
    fapi.answers = [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                    *(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces), b"0\r\n\r\n"]  # fmt: skip
    framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % len(BIG)
    async with behind(fapi) as running:
        reader, writer = await running.connect()
        writer.write(b"POST /__clerk/v1/me/profile_image HTTP/1.1\r\nHost: a\r\n%b\r\n\r\n" % framing)
        for piece in pieces:
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
            await writer.drain()
        writer.write(b"0\r\n\r\n" if chunked else b"")
        answer = await read_answer(reader)
        writer.close()
    assert (answer.status, answer.body, fapi.last.body) == (200, BIG, BIG)


@pytest.mark.parametrize("framing", [b"Content-Length: 1001\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n3e9\r\n"])
async def test_the_general_limit_of_bodies_holds(fapi: Fapi, framing: bytes) -> None:
    async with behind(fapi, limits={"body_bytes": 1000}) as running:
        answer = await running.raw(b"POST /__clerk/v1 HTTP/1.1\r\nHost: a\r\n" + framing + b"x" * 1001)
    assert (answer.status, answer.json["code"]) == (413, "body_too_large")
    assert answer.json["errors"] == [{"code": "body_too_large", "message": "Content Too Large", "long_message": NEVER}]
    assert not fapi.requests


async def test_a_client_that_stops_sending_is_given_up(fapi: Fapi) -> None:
    async with behind(fapi) as running:
        reader, writer = await running.connect()
        writer.write(b"POST /__clerk/v1 HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
        assert (await read_answer(reader)).status == 100
        running.pass_time(40)
        assert (await read_answer(reader)).status == 408
        writer.close()


# --- when Clerk is not there ------------------------------------------------------------------------------------------


async def test_clerk_that_cannot_be_reached_is_a_502_that_its_components_can_show() -> None:
    async with gateway(NOBODY, clerk=clerk(NOBODY)) as running:
        answer = await running.get("/__clerk/v1/client", fields={"Origin": APP})
        lines = await running.logged()
    assert (answer.status, answer.json["code"]) == (502, "upstream_unreachable")
    assert answer.value("content-type") == "application/problem+json"
    assert answer.value("cache-control") == "no-store"
    assert answer.json["errors"] == [
        {"code": "upstream_unreachable", "message": "Bad Gateway", "long_message": FOR_NOW}
    ]
    assert KEY not in json.dumps(lines)
    (told,) = [line for line in lines if line["event"] == "upstream_unreachable"]
    assert told["detail"].startswith(f"127.0.0.1:{NOBODY}")
    (request,) = [line for line in lines if line["event"] == "request"]
    assert (request["route"], request["upstream"], request["path"]) == (
        "clerk:frontend-api", "clerk:frontend-api", "/__clerk/v1/client",
    )  # fmt: skip


async def test_whoever_cannot_prove_to_be_clerk_gets_no_key(tmp_path: Path) -> None:
    pair = Authority().issue("127.0.0.1").write(tmp_path, "clerk")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)
    received: list[bytes] = []

    async def listens(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.append(await reader.read())
        writer.close()

    server = await asyncio.start_server(listens, "127.0.0.1", 0, ssl=context)
    async with server:
        address = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with gateway(NOBODY, clerk=clerk(NOBODY, frontend_api_url=address)) as running:
            answer = await running.get("/__clerk/v1")
    assert (answer.status, answer.json["code"]) == (502, "upstream_unreachable")
    assert not any(received)


async def test_clerk_that_hangs_is_a_504() -> None:
    async def hangs(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        asked.set()
        await reader.read()

    asked = asyncio.Event()
    async with behind(hangs) as running:
        answering = asyncio.ensure_future(running.get("/__clerk/v1"))
        await asked.wait()
        running.pass_time(31)
        answer = await answering
    assert (answer.status, answer.json["code"]) == (504, "upstream_timeout")


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_what_clerk_may_have_seen_is_not_sent_twice(fapi: Fapi, method: str) -> None:
    async def drops(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        seen.append(await read_request(reader))

    seen: list[Any] = []
    async with behind(drops) as running:
        answer = await running.ask(method, "/__clerk/v1/oauth_callback?code=once")
    assert (answer.status, answer.json["code"], len(seen)) == (502, "bad_upstream_response", 1)


async def test_an_answer_that_breaks_off_is_cut(fapi: Fapi) -> None:
    async def breaks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
        await writer.drain()

    async with behind(breaks) as running:
        with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
            await running.get("/__clerk/v1")
        (line,) = [line for line in await running.logged() if line["event"] == "request"]
    assert (line["status"], line["code"]) == (200, "bad_upstream_response")


async def test_readiness_says_degraded_once_clerk_is_known_to_be_away() -> None:
    async with gateway(NOBODY, clerk=clerk(NOBODY)) as running:
        assert (await running.get("/readyz")).json == {"status": "ok"}
        for _ in range(5):
            await running.get("/__clerk/v1")
        assert (await running.get("/readyz")).json == {"status": "degraded"}
        refused = await running.get("/__clerk/v1")
    assert (refused.status, refused.json["code"]) == (503, "no_healthy_endpoint")


# --- beside it --------------------------------------------------------------------------------------------------------


async def test_an_address_is_counted_as_on_any_route_and_a_429_says_when_to_come_again(fapi: Fapi) -> None:
    async with behind(fapi, rate_limits={"by_ip": "2/min"}) as running:
        assert (await running.get("/__clerk/v1")).status == 200
        assert (await running.get("/public/x")).status == 200
        refused = await running.get("/__clerk/v1")
    assert (refused.status, refused.value("retry-after")) == (429, "30")
    assert refused.json["errors"][0]["long_message"] == FOR_NOW
    assert len(fapi.requests) == 1


async def test_where_there_is_no_place_clerk_is_not_asked(fapi: Fapi) -> None:
    async with behind(fapi, limits={"connections": 1}) as running:
        _, writer = await running.connect()
        while not running.app.listener._open:
            await asyncio.sleep(0)
        assert (await running.get("/healthz")).status == 200
        answer = await running.get("/__clerk/v1")
        writer.close()
    assert (answer.status, answer.json["code"]) == (503, "overloaded")
    assert not fapi.requests


async def test_a_reload_brings_it_and_takes_it_away(fapi: Fapi) -> None:
    api = Echo()
    async with ScriptedUpstream(fapi) as there, ScriptedUpstream(api) as upstream, gateway(upstream.port) as running:
        reader, writer = await running.connect()
        asked = b"GET /__clerk/v1 HTTP/1.1\r\nHost: a\r\n\r\n"

        async def status() -> int:
            writer.write(asked)
            return (await read_answer(reader)).status

        assert await status() == 401
        running.file.write(upstream.port, clerk=clerk(there.port))
        await running.app.reload()
        assert await status() == 200
        running.file.write(upstream.port, clerk=clerk(there.port, secret_key="sk_live_another0123456789"))
        await running.app.reload()
        assert await status() == 200
        assert [each.value("Clerk-Secret-Key") for each in fapi.requests] == [KEY, "sk_live_another0123456789"]
        running.file.write(upstream.port)
        await running.app.reload()
        assert await status() == 401
        writer.close()


async def test_a_token_may_name_the_proxy_as_its_issuer(fapi: Fapi) -> None:
    async with behind(fapi) as running:
        assert (await running.get("/x", token=running.token(iss=PROXY_URL))).status == 200
        assert (await running.get("/x", token=running.token())).status == 200
        assert (await running.get("/x", token=running.token(iss=PROXY_URL + "/"))).status == 401


@pytest.mark.parametrize(
    ("error", "text"), [(NoHealthyEndpoint(), FOR_NOW), (RateLimited(), FOR_NOW), (BodyTooLarge(), NEVER)]
)
def test_an_error_is_said_as_clerk_says_its_own(error: Any, text: str) -> None:
    assert as_clerk_says(error) == {"errors": [{"code": error.code, "message": error.title, "long_message": text}]}
