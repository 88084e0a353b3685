"""WebSockets through the gateway between a real client and a real server."""

import asyncio
from collections.abc import Mapping
from typing import Any

import aiohttp
import pytest
from aiohttp import WSMsgType, web

from gateway.web.streams import FEW, SPREAD_S
from tests.fakes.gateway import APP, Running
from tests.fakes.websocket import Server, behind

BIG = bytes(range(256)) * 20_480  # 5 MiB


def offered(token: str, *own: str) -> dict[str, Any]:
    return {"protocols": ["gateway.auth", f"gateway.bearer.{token}", *own]}


async def requests(running: Running, count: int = 1) -> list[dict[str, Any]]:
    """Give the access lines, once there are so many."""
    while True:
        lines = [line for line in await running.logged() if line["event"] == "request"]
        if len(lines) >= count:
            return lines


async def test_a_thousand_messages_come_back() -> None:
    async with behind(Server()) as (_, session), session.ws_connect("/public/x") as socket:
        for number in range(1000):
            await socket.send_str(f"message {number}")
            assert await socket.receive_str() == f"message {number}"


async def test_a_thousand_messages_at_once_come_back_in_order() -> None:
    async with behind(Server()) as (_, session), session.ws_connect("/public/x") as socket:
        for number in range(1000):
            await socket.send_str(f"message {number}")
        assert [await socket.receive_str() for _ in range(1000)] == [f"message {number}" for number in range(1000)]


@pytest.mark.parametrize("compress", [0, 15], ids=["plain", "permessage-deflate"])
async def test_frames_of_any_size_come_back(compress: int) -> None:
    async with behind(Server(compress=bool(compress))) as (_, session):
        async with session.ws_connect("/public/x", compress=compress, max_msg_size=0) as socket:
            assert bool(socket.compress) == bool(compress)
            for size in (0, 1, 125, 126, 65_535, 65_536, len(BIG)):
                await socket.send_bytes(BIG[:size])
                assert await socket.receive_bytes() == BIG[:size]


async def test_ping_and_pong_pass_both_ways() -> None:
    async def pings(socket: web.WebSocketResponse) -> None:
        await socket.ping(b"from the server")
        message = await socket.receive()
        assert (message.type, message.data) == (WSMsgType.PING, b"from the client")
        await socket.pong(message.data)
        message = await socket.receive()
        told.append((message.type, message.data))

    told: list[Any] = []
    async with behind(Server(pings, autoping=False)) as (_, session):
        async with session.ws_connect("/public/x", autoping=False) as socket:
            message = await socket.receive()
            assert (message.type, message.data) == (WSMsgType.PING, b"from the server")
            await socket.ping(b"from the client")
            message = await socket.receive()
            assert (message.type, message.data) == (WSMsgType.PONG, b"from the client")
            await socket.pong(b"from the server")
            await socket.receive()
    assert told == [(WSMsgType.PONG, b"from the server")]


async def test_close_codes_and_reasons_pass_both_ways() -> None:
    async def closes(socket: web.WebSocketResponse) -> None:
        message = await socket.receive()
        if message.type is WSMsgType.TEXT:
            await socket.close(code=4000, message=b"server's own")
        else:
            told.append((message.type, message.data, message.extra))

    told: list[Any] = []
    server = Server(closes)
    async with behind(server) as (running, session):
        async with session.ws_connect("/public/x") as socket:
            await socket.send_str("close, please")
            message = await socket.receive()
            assert (message.type, message.data, message.extra) == (WSMsgType.CLOSE, 4000, "server's own")
        async with session.ws_connect("/public/x") as socket:
            await socket.close(code=4001, message=b"client's own")
        lines = await requests(running, 2)
    assert server.codes == [1000, 4001]  # the first is the client's answer
    assert told == [(WSMsgType.CLOSE, 4001, "client's own")]
    assert [line["status"] for line in lines] == [101, 101]


# Sub-protocols and tokens


@pytest.mark.parametrize(
    ("own", "serves", "asked", "chosen"),
    [
        pytest.param((), (), None, "gateway.auth", id="none"),
        pytest.param(("chat",), (), "chat", "gateway.auth", id="not-chosen"),
        pytest.param(("chat", "v2"), ("v2",), "chat, v2", "v2", id="chosen"),
    ],
)
async def test_a_token_among_sub_protocols_opens_a_socket(
    own: tuple[str, ...], serves: tuple[str, ...], asked: str | None, chosen: str
) -> None:
    server = Server(protocols=serves)
    async with behind(server) as (running, session):
        token = running.token()
        async with session.ws_connect("/ws", **offered(token, *own)) as socket:
            await socket.send_str("hello")
            assert await socket.receive_str() == "hello"
            assert socket.protocol == chosen
        (line,) = await requests(running)
        log = str(await running.logged())
    (request,) = server.requests
    assert request.headers.get("Sec-WebSocket-Protocol") == asked
    assert request.headers["X-User-Id"] == "user_1"
    assert token not in str(request.headers)
    assert token not in log
    assert (line["user"], line["session"], line["status"]) == ("user_1", "sess_1", 101)


@pytest.mark.parametrize(
    ("change", "refused"),
    [
        pytest.param({}, (101, None), id="good"),
        pytest.param({"token": None}, (401, "session-token-and-uat-missing"), id="nothing-offered"),
        pytest.param({"token": ""}, (401, "token-invalid"), id="empty"),
        pytest.param({"exp": 1000}, (401, "token-expired"), id="expired"),
        pytest.param({"headers": {"Authorization": "Bearer x"}}, (400, "two-credentials"), id="two-tokens"),
        pytest.param({"own": ("gateway.bearer.x",)}, (400, "two-credentials"), id="two-in-the-list"),
        pytest.param({"path": "/admin/ws"}, (403, "role"), id="not-allowed"),
        pytest.param({"path": "/public/ws", "token": "x"}, (101, None), id="not-read-on-a-public-route"),
        pytest.param({"headers": {"Origin": "https://evil.example"}}, (101, None), id="any-origin-with-a-token"),
    ],
)
async def test_a_socket_is_judged_as_any_request(change: dict[str, Any], refused: tuple[int, str | None]) -> None:
    server = Server()
    async with behind(server) as (running, session):
        token = change.get("token", running.token(**{k: v for k, v in change.items() if k == "exp"}))
        protocols = [] if token is None else offered(token)["protocols"]
        status, reason = await attempt(
            session, change.get("path", "/ws"), (*protocols, *change.get("own", ())), change.get("headers", {})
        )
        lines = await requests(running)
    assert (status, lines[0]["reason"]) == refused
    assert reason in (None, "Invalid response status")
    assert all("gateway." not in str(request.headers) for request in server.requests)


async def attempt(
    session: aiohttp.ClientSession, path: str, protocols: tuple[str, ...], headers: Mapping[str, str]
) -> tuple[int, str | None]:
    try:
        async with session.ws_connect(path, protocols=protocols, headers=headers):
            return 101, None
    except aiohttp.WSServerHandshakeError as error:
        return error.status, error.message


@pytest.mark.parametrize(
    ("origin", "status"),
    [(APP, 101), ("https://evil.example", 403), (None, 403), ("null", 403)],
    ids=["listed", "unlisted", "none", "null"],
)
async def test_cookies_open_a_socket_for_listed_pages_alone(origin: str | None, status: int) -> None:
    async with behind(Server()) as (running, session):
        cookies = f"__session={running.token()}; __client_uat={int(running.clock()) - 10}"
        headers = {"Cookie": cookies} | ({"Origin": origin} if origin else {})
        assert (await attempt(session, "/ws", (), headers))[0] == status
        assert (await attempt(session, "/public/ws", (), headers))[0] == 101


# The gateway ends it


@pytest.mark.parametrize(
    ("whose", "count"),
    [
        pytest.param({"user": "user_1"}, 1, id="user"),
        pytest.param({"session": "sess_2"}, 1, id="session"),
        pytest.param({"org": "org_1"}, 1, id="organisation"),
        pytest.param({"user": "user_3"}, 0, id="nobody"),
        pytest.param({"user": "user_1", "session": "sess_2"}, 0, id="both-must-fit"),
        pytest.param({}, 0, id="nothing-said"),
    ],
)
async def test_revoking_closes_just_the_sockets_of_those(whose: dict[str, str], count: int) -> None:
    server = Server()
    async with behind(server) as (running, session):
        org = {"o": {"id": "org_1", "slg": "acme", "rol": "admin"}} if "org" in whose else {}
        first = await session.ws_connect("/ws", **offered(running.token(**org)))
        second = await session.ws_connect("/ws", **offered(running.token(sub="user_2", sid="sess_2")))
        nobody = await session.ws_connect("/public/ws")
        assert running.app.listener.streams.revoke(**whose) == count
        ended = second if whose.get("session") == "sess_2" else first
        if count:
            message = await ended.receive()
            assert (message.type, message.data, message.extra) == (WSMsgType.CLOSE, 4401, "session-revoked")
            await ended.close()
        for socket in {first, second, nobody} - ({ended} if count else set()):
            await socket.send_str("still here")
            assert await socket.receive_str() == "still here"
            await socket.close()
        await requests(running, 3)
    assert server.codes.count(4401) == count


async def test_a_socket_outlives_its_token_by_an_hour() -> None:
    async with behind(Server()) as (running, session):
        token = running.token()
        async with session.ws_connect("/ws", **offered(token)) as socket:
            for _ in range(6):
                running.clock.seconds += 600
                running.pass_time(600)
                await socket.send_str("still here")
                assert await socket.receive_str() == "still here"
            assert (await attempt(session, "/ws", ("gateway.auth", f"gateway.bearer.{token}"), {}))[0] == 401


async def test_a_socket_is_closed_at_the_age_its_route_says_and_not_before() -> None:
    server = Server()
    routes = [
        {"name": "aged", "path": "/aged/*", "upstream": "api", "auth": "public", "stream_max_age_s": 60},
        {"name": "rest", "path": "/*", "upstream": "api", "auth": "public"},
    ]
    async with behind(server, routes=routes) as (running, session):
        socket, other = await session.ws_connect("/aged/x"), await session.ws_connect("/x")
        running.pass_time(30)
        running.pass_time(30)
        await socket.send_str("in time")
        assert await socket.receive_str() == "in time"
        running.pass_time(1)
        message = await socket.receive()
        assert (message.type, message.data, message.extra) == (WSMsgType.CLOSE, 1001, "stream too old")
        await socket.close()
        (line,) = await requests(running)
        running.pass_time(100_000)
        await other.send_str("still here")
        assert await other.receive_str() == "still here"
        await other.close()
    assert (line["status"], line["code"], line["reason"], line["route"]) == (101, "stream_max_age", None, "aged")
    assert server.codes == [1001, 1000]


async def test_many_sockets_are_closed_one_after_the_other_and_each_close_is_answered() -> None:
    server = Server()
    async with behind(server) as (running, session):
        sockets = [await session.ws_connect("/public/x") for _ in range(3 * FEW)]
        stopping = asyncio.ensure_future(running.app.listener.drain(30))
        ended = [asyncio.ensure_future(socket.receive()) for socket in sockets]
        counts = []
        while not all(each.done() for each in ended):
            running.pass_time(0.5)
            for _ in range(200):
                await asyncio.sleep(0)
            counts.append(sum(each.done() for each in ended))
        assert await stopping
        assert {(await each).data for each in ended} == {1001}
        for socket in sockets:
            await socket.close()
    assert server.codes == [1001] * len(sockets)
    assert len(counts) <= SPREAD_S / 0.5 + 2
    assert len(set(counts)) > 3


async def test_stopping_closes_every_socket_with_1001() -> None:
    server = Server()
    async with behind(server) as (running, session):
        sockets = [await session.ws_connect(path) for path in ("/public/a", "/public/b")]
        stopping = asyncio.ensure_future(running.app.listener.drain(30))
        for socket in sockets:
            message = await socket.receive()
            assert (message.type, message.data, message.extra) == (WSMsgType.CLOSE, 1001, "going away")
            await socket.close()
        assert await stopping
    assert server.codes == [1001, 1001]


async def test_a_socket_outlives_every_timeout_and_is_logged_at_its_end() -> None:
    async with behind(Server()) as (running, session):
        socket = await session.ws_connect("/public/x")
        for _ in range(3):
            running.pass_time(100_000)
            await socket.send_str("hello")
            assert await socket.receive_str() == "hello"
        assert [line for line in await running.logged() if line["event"] == "request"] == []
        assert len(running.app.listener.streams) == 1
        await socket.close()
        (line,) = await requests(running)
        assert len(running.app.listener.streams) == 0
    assert (line["status"], line["path"], line["code"]) == (101, "/public/x", None)
    assert line["bytes_in"] == 3 * (6 + 5) + 8
    assert line["bytes_out"] > 3 * (2 + 5) + 4
    assert 0 < line["upstream_s"] <= line["duration_s"]
