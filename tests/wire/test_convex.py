"""Convex as an upstream, byte by byte: what it gets of requests and messages, and what it never gets."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.core.frames import close_frame
from tests.core.test_convex import ADMIN, NONE, USER, written
from tests.core.test_messages import MORE, PING, frame
from tests.fakes.clerk import FakeClerk, FakeIssuer
from tests.fakes.convex import settings
from tests.fakes.gateway import APP, CLERK, Running, gateway, read_answer
from tests.fakes.upstream import Echo, ScriptedUpstream
from tests.fakes.websocket import handshake
from tests.wire.test_tunnels import Side, Upstream, line_of, until

ALL_KINDS = [
    {"name": "public", "path": "/public/*", "upstream": "convex", "auth": "public"},
    {"name": "required", "path": "/required/*", "upstream": "convex", "auth": "required"},
    {"name": "rest", "path": "/*", "upstream": "convex"},
]


@asynccontextmanager
async def behind(echo: Echo, **more: Any) -> AsyncIterator[Running]:
    upstream = more.pop("upstream", {})
    async with ScriptedUpstream(echo) as listening:
        async with gateway(listening.port, **(settings(listening.port, **upstream) | more)) as running:
            yield running


def convex_token(running: Running, **overrides: Any) -> str:
    return running.token(**({"aud": "convex"} | overrides))


# Requests


async def test_convex_gets_its_own_host_the_token_and_no_identity() -> None:
    echo = Echo()
    async with behind(echo) as running:
        token = convex_token(running)
        fields = {"X-User-Id": "evil", "x_user_id": "evil", "X-Forwarded-Host": "evil.example", "Forwarded": "host=evil",
                  "Cookie": "__session=x; theme=dark; __client_uat=1", "Convex-Client": "npm-1.44.0"}  # fmt: skip
        assert (await running.ask("POST", "/api/query?a=1", token=token, fields=fields, body=b"{}")).status == 200
    sent = echo.last
    assert sent.value("Host") == f"127.0.0.1:{running_port(sent)}"
    assert sent.value("Authorization") == f"Bearer {token}"
    assert sent.value("Cookie") == "theme=dark"
    assert sent.value("Convex-Client") == "npm-1.44.0"
    assert sent.value("X-Forwarded-Proto") == "http"
    assert sent.value("X-Forwarded-For") == "127.0.0.1"
    assert sent.value("X-Forwarded-Port") is not None
    names = {name.lower().replace("_", "-") for name, _ in sent.fields}
    assert not names & {"x-forwarded-host", "forwarded", "x-user-id", "x-user-session-id", "x-user-token-type"}


def running_port(request: Any) -> str:
    return str(request.value("Host")).rpartition(":")[2]


async def test_an_http_action_gets_whatever_authorization_came() -> None:
    echo = Echo()
    async with behind(echo, routes=ALL_KINDS) as running:
        for value in ("Basic dXNlcjpwYXNz", f"Bearer {CLERK.session_token(0)}", "Bearer opaque", "ak_123"):
            assert (await running.get("/public/action", fields={"Authorization": value})).status == 200
            assert echo.last.value("Authorization") == value
        assert (await running.get("/other", fields={"Authorization": "Basic dXNlcjpwYXNz"})).status == 200
        assert echo.last.value("Authorization") == "Basic dXNlcjpwYXNz"


async def test_tokens_are_optional_but_have_to_be_good_and_for_convex() -> None:
    echo = Echo()
    async with behind(echo) as running:
        assert (await running.get("/x")).status == 200
        assert (await running.get("/x", token=convex_token(running))).status == 200
        template = CLERK.template_token(running.clock(), aud="convex", azp=APP)
        assert (await running.get("/x", token=template)).status == 200
        assert (await running.get("/x", token=running.token())).json["reason"] == "token-verification-failed"
        assert (await running.get("/x", token=convex_token(running, exp=1))).json["reason"] == "token-expired"
    assert len(echo.requests) == 3


@pytest.mark.parametrize("path", ["/public/x", "/required/x", "/x"])
@pytest.mark.parametrize("upgrade", [False, True], ids=["request", "upgrade"])
@pytest.mark.parametrize(("target", "lines", "reason"), [
    ("", ("Authorization: Convex otter|key",), "convex_admin"),
    ("", ("authorization:\tCONVEX   otter|key",), "convex_admin"),
    ("", ("Authorization: {bearer}, Convex key",), "convex_admin"),
    ("", ("Authorization: {bearer}", "Authorization: Convex key"), "convex_admin"),
    ("", ("Authorization: Convex key", "Authorization: {bearer}"), "convex_admin"),
    ("", ("Authorization: Convex key", "Cookie: __session={token}"), "convex_admin"),
    ("?adminKey=key", ("Authorization: {bearer}",), "convex_admin"),
    ("?a=1&%61dmin%4bey=key", (), "convex_admin"),
    ("", ("Authorization: {bearer}", "Authorization: {bearer}"), "two-credentials"),
])  # fmt: skip
async def test_admin_keys_are_refused_on_every_kind_of_route(
    path: str, upgrade: bool, target: str, lines: tuple[str, ...], reason: str
) -> None:
    echo = Echo()
    async with behind(echo, routes=ALL_KINDS) as running:
        token = convex_token(running)
        more = [line.format(token=token, bearer=f"Bearer {token}") for line in lines]
        if upgrade:
            answer = await running.raw(handshake(path + target, f"Origin: {APP}", *more))
        else:
            answer = await running.get(path + target, lines=(f"Origin: {APP}", *more))
        assert answer.json["reason"] == reason
        assert answer.status == (400 if reason == "two-credentials" else 403)
        assert answer.value("access-control-allow-origin") == APP
        assert (await line_of(running))["reason"] == reason
    assert echo.requests == []


async def test_an_authorization_that_connection_names_away_is_not_sent_either() -> None:
    echo = Echo()
    async with behind(echo) as running:
        lines = ("Connection: authorization", "Authorization: Convex key")
        await running.get("/x", lines=lines)
    assert [request.value("Authorization") for request in echo.requests] == [None]


async def test_admin_keys_pass_where_the_file_says_so() -> None:
    echo = Echo()
    async with behind(echo, upstream={"allow_convex_admin": True}) as running:
        answer = await running.get("/x?adminKey=key", fields={"Authorization": "Convex key"})
        assert answer.status == 200
    assert (echo.last.target, echo.last.value("Authorization")) == ("/x?adminKey=key", "Convex key")


async def test_other_upstreams_have_nothing_to_do_with_it() -> None:
    echo = Echo()
    async with ScriptedUpstream(echo) as listening, gateway(listening.port) as running:
        answer = await running.get("/public/x?adminKey=key", fields={"Authorization": "Convex key"})
        assert answer.status == 200
    assert echo.last.value("X-Forwarded-Host") == "gw.example.com"


async def test_the_gateways_cors_replaces_convexs() -> None:
    echo = Echo(fields=("Access-Control-Allow-Origin: https://evil.example", "Access-Control-Allow-Credentials: true"))
    async with behind(echo) as running:
        answer = await running.get("/x", fields={"Origin": APP})
        other = await running.get("/x", fields={"Origin": "https://evil.example"})
    assert answer.values("access-control-allow-origin") == [APP]
    assert other.values("access-control-allow-origin") == []


# Messages

SYNC = "/api/1.44.0/sync"


@asynccontextmanager
async def tunnel(*lines: str, **more: Any) -> AsyncIterator[tuple[Running, Side, Side, Upstream]]:
    script = Upstream()
    async with ScriptedUpstream(script) as listening:
        upstream = more.pop("upstream", {})
        async with gateway(listening.port, **(settings(listening.port, **upstream) | more)) as running:
            reader, writer = await running.connect()
            writer.write(handshake(SYNC, *(line.format(token=convex_token(running)) for line in lines)))
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
            try:
                yield running, (reader, writer), await script.sides.get(), script
            finally:
                writer.close()
                script.over.set()


async def closed(side: Side) -> tuple[int, bytes]:
    """Read the Close frame, which has to come next, and the end."""
    data = await side[0].read(2)
    masked, size = data[1] & 128, data[1] & 127
    assert data[0] == 0x88
    mask = await side[0].readexactly(4) if masked else bytes(4)
    body = bytes(byte ^ mask[at % 4] for at, byte in enumerate(await side[0].readexactly(size)))
    return int.from_bytes(body[:2], "big"), body[2:]


async def rest(side: Side) -> bytes:
    """Give what still comes until the connection ends, which may be cut."""
    try:
        return await side[0].read()
    except ConnectionResetError:
        return b""


@pytest.mark.parametrize("name", ["Sec-WebSocket-Extensions", "sec-websocket-extensions", "Sec_WebSocket_Extensions"])
async def test_no_extension_is_offered_to_convex(name: str) -> None:
    async with tunnel(f"{name}: permessage-deflate; client_max_window_bits") as (_, _, _, script):
        assert b"xtensions" not in script.heads[0]
        assert b"Sec-WebSocket-Key" in script.heads[0]
    async with tunnel(f"{name}: permessage-deflate", upstream={"allow_convex_admin": True}) as (_, _, _, script):
        assert b"xtensions: permessage-deflate" in script.heads[0]


async def test_messages_arrive_byte_for_byte() -> None:
    sent = b"".join((
        frame(b'{"type":"Connect"}'), frame(written(USER)), frame(b"?", PING), frame(b"one", final=False),
        frame(b"two", MORE), frame(b"x" * 5_000_000), frame(b"y" * 300, 2),
    ))  # fmt: skip
    async with tunnel() as (_, client, upstream, _):
        client[1].write(sent)
        ping = frame(b"?", PING)
        assert await upstream[0].readexactly(len(sent)) == sent
        upstream[1].write(b"\x81\x05hello")
        assert await client[0].readexactly(7) == b"\x81\x05hello"
        assert ping in sent


@pytest.mark.parametrize("pieces", [
    pytest.param((frame(written(ADMIN)),), id="plain"),
    pytest.param((frame(written(ADMIN), 2),), id="binary"),
    pytest.param(tuple(frame(written(ADMIN))[at : at + 1] for at in range(len(frame(written(ADMIN))))), id="bytewise"),
    pytest.param((frame(written(ADMIN)[:20], final=False), frame(b"?", PING), frame(written(ADMIN)[20:], MORE)), id="fragments"),
    pytest.param((frame(json.dumps(ADMIN).replace("Admin", "\\u0041dmin").encode()),), id="escaped"),
    pytest.param((frame(b'{"type":4,"tokenType":0,"value":"k","baseVersion":0}'),), id="by-number"),
    pytest.param((frame(b'{"type":"Authenticate","tokenType":"User","tokenType":"Admin","value":"k"}'),), id="twice"),
])  # fmt: skip
async def test_an_admins_message_closes_both_sides_and_never_arrives(pieces: tuple[bytes, ...]) -> None:
    async with tunnel() as (running, client, upstream, _):
        for piece in pieces:
            client[1].write(piece)
            await client[1].drain()
        code, reason = await closed(client)
        arrived = await upstream[0].readexactly(len(frame(b"?", PING))) if frame(b"?", PING) in pieces else b""
        assert await closed(upstream) == (code, reason)
        assert (code, reason[:7]) == (4403, b"convex-")
        assert arrived in (b"", frame(b"?", PING))
        client[1].write(frame(b"after"))
        running.pass_time(10)
        assert await rest(upstream) == await rest(client) == b""
        line = await line_of(running)
        assert (line["status"], line["reason"]) == (101, reason.decode())


@pytest.mark.parametrize(("sent", "code"), [
    (frame(b"x", reserved=0x40), 1002), (b"\x81\x05hello", 1002), (frame(b"x", MORE), 1002),
    (frame(b"\xff\xfe"), 1007), (b"\x81\xff" + (2**40).to_bytes(8, "big"), 1009),
])  # fmt: skip
async def test_what_breaks_the_protocol_closes_both_sides(sent: bytes, code: int) -> None:
    async with tunnel() as (_, client, upstream, _):
        client[1].write(frame(b"good") + sent)
        assert (await closed(client))[0] == code
        assert await upstream[0].readexactly(len(frame(b"good"))) == frame(b"good")
        assert (await closed(upstream))[0] == code


async def test_early_messages_are_read_too() -> None:
    script = Upstream()
    async with ScriptedUpstream(script) as listening, gateway(listening.port, **settings(listening.port)) as running:
        reader, writer = await running.connect()
        writer.write(handshake(SYNC) + frame(written(ADMIN)))
        assert (await read_answer(reader, is_head=True)).status == 101
        assert await closed((reader, writer)) == (4403, b"convex-admin")
        assert await closed(await script.sides.get()) == (4403, b"convex-admin")
        writer.close()
        script.over.set()


# Whose socket it is


async def settled(running: Running, user: str | None) -> None:
    """Wait until the one open socket is this user's."""
    opened = running.app.listener.streams._open
    await until(lambda: [each.principal and each.principal.user_id for each in opened] == [user])


async def test_a_socket_is_whose_last_good_token_it_said() -> None:
    async with tunnel() as (running, client, upstream, _):
        streams = running.app.listener.streams

        async def says(message: dict[str, Any]) -> None:
            client[1].write(frame(written(message)))
            assert await upstream[0].readexactly(len(frame(written(message)))) == frame(written(message))

        await settled(running, None)
        await says(USER | {"value": convex_token(running)})
        await settled(running, "user_1")
        await says(USER | {"value": convex_token(running, sub="user_2", sid="sess_2")})
        await settled(running, "user_2")
        assert streams.revoke(user="user_1") == 0
        await says(USER | {"value": convex_token(running, exp=1)})
        await settled(running, None)
        await says(USER | {"value": convex_token(running, sub="user_3", sid="sess_3")})
        await settled(running, "user_3")
        await says(NONE)
        await settled(running, None)
        assert streams.revoke(session="sess_3") == 0
        await says(USER | {"value": convex_token(running, sub="user_3", sid="sess_3")})
        await settled(running, "user_3")
        assert streams.revoke(session="sess_3") == 1
        assert await client[0].readexactly(len(REVOKED)) == REVOKED
        assert await closed(upstream) == (4401, b"session-revoked")


REVOKED = close_frame(4401, b"session-revoked")


async def test_the_message_wins_over_the_upgrades_own_token() -> None:
    async with tunnel("Authorization: Bearer {token}") as (running, client, _, script):
        await settled(running, "user_1")
        assert b"Authorization: Bearer " in script.heads[0]
        client[1].write(frame(written(USER | {"value": convex_token(running, sub="user_2")})))
        await settled(running, "user_2")
        client[1].write(frame(written(NONE)))
        await settled(running, None)


async def test_a_message_does_not_wait_for_keys() -> None:
    """The issuer holds its next key back: the message has arrived, the socket is nobody's until it comes."""
    rotated = FakeClerk(CLERK.issuer, kid="ins_next", key_name="second")
    async with FakeIssuer(CLERK) as issuer:
        clerk = {"issuer": CLERK.issuer, "jwks_url": issuer.jwks_url, "authorized_parties": [APP]}
        async with tunnel(clerk=clerk) as (running, client, upstream, _):
            running.pass_time(120)
            issuer.clerks, issuer.hold = [rotated], asyncio.Event()
            issuer.arrived.clear()
            sent = frame(written(USER | {"value": rotated.session_token(running.clock(), aud="convex")}))
            client[1].write(sent)
            assert await upstream[0].readexactly(len(sent)) == sent
            await issuer.arrived.wait()
            await settled(running, None)
            issuer.hold.set()
            await settled(running, "user_1")
