"""Sockets and unfinished answers end with the machine token that they were opened with."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import WSMsgType

from tests.fakes.clerk_api import Canned, FakeBackendApi, World
from tests.fakes.events import CHUNKED, Storyteller, line_of, listening
from tests.fakes.gateway import APP, CLERK, Running, gateway
from tests.fakes.machine_tokens import api_key, m2m_token
from tests.fakes.upstream import ScriptedUpstream
from tests.fakes.websocket import Server, behind

KEY = "ak_mine"
ROUTES = [{"path": "/*", "upstream": "api", "token": "any"}]


def settings(api: FakeBackendApi, **more: Any) -> dict[str, Any]:
    api.machines.add(api_key(), KEY)
    own = {"issuer": CLERK.issuer, "jwt_key": CLERK.pem(), "authorized_parties": [APP], "api_url": api.url}
    return {"clerk": own | {"secret_key": api.secret_key}, "routes": ROUTES} | more


@asynccontextmanager
async def sockets(*tokens: str, **more: Any) -> AsyncIterator[tuple[Running, FakeBackendApi, list[Any]]]:
    """A gateway with a socket open by each of these tokens."""
    async with FakeBackendApi(World()) as api, behind(Server(), **settings(api, **more)) as (running, session):
        opened = []
        for token in tokens:
            given = token or running.token()
            opened.append(await session.ws_connect("/ws", headers={"Authorization": f"Bearer {given}"}))
        yield running, api, opened


async def pass_time(running: Running, seconds: float) -> None:
    """Move both clocks, and let a round that begins come to its end."""
    running.clock.seconds += seconds
    running.pass_time(seconds)
    renewals = running.app.listener.renewals
    while renewals.is_busy:
        await asyncio.sleep(0.005)


async def is_open(socket: aiohttp.ClientWebSocketResponse) -> bool:
    await socket.send_str("hello")
    message = await socket.receive(timeout=10)
    return message.type is WSMsgType.TEXT


async def closed(socket: aiohttp.ClientWebSocketResponse) -> tuple[Any, Any]:
    message = await socket.receive(timeout=10)
    assert message.type is WSMsgType.CLOSE
    return message.data, message.extra


async def test_a_socket_ends_when_its_key_is_revoked_and_a_sessions_goes_on() -> None:
    async with sockets(KEY, "") as (running, api, (mine, users)):
        await pass_time(running, 61)
        assert await is_open(mine)
        api.machines.known[KEY]["revoked"] = True
        await pass_time(running, 30)
        assert await is_open(mine)  # what Clerk said still counts
        await pass_time(running, 31)
        assert await closed(mine) == (4401, "token-invalid")
        assert await is_open(users)  # whose token has long expired: its session has not
        line = await line_of(running)
        assert (line["status"], line["code"], line["reason"]) == (101, "invalid_token", "token-invalid")
        assert line["user"] == "user_1"


async def test_a_socket_ends_when_its_key_loses_the_scope_that_its_route_asks_for() -> None:
    routes = [{"path": "/*", "upstream": "api", "token": "any", "require": {"scope": "write"}}]
    async with sockets(routes=routes) as (running, api, _none), aiohttp.ClientSession() as session:
        api.machines.add(api_key(scopes=["read", "write"]), KEY)
        url, header = f"http://127.0.0.1:{running.port}/ws", {"Authorization": f"Bearer {KEY}"}
        socket = await session.ws_connect(url, headers=header)
        api.machines.known[KEY]["scopes"] = ["read"]
        await pass_time(running, 61)
        assert await closed(socket) == (4403, "scope")


async def test_clerk_is_asked_no_oftener_than_for_requests() -> None:
    async with sockets(KEY, KEY, KEY) as (running, api, opened):
        for _ in range(13):
            await pass_time(running, 10)
        assert len(api.machines.asked) == 3  # in 130 s: when opened, after 60 and after 120
        assert all([await is_open(each) for each in opened])


async def test_a_round_over_many_lets_requests_in_between() -> None:
    async with sockets(*[KEY] * 20) as (running, _api, _opened):
        running.clock.seconds += 11
        turns, renewals = 0, running.app.listener.renewals
        running.pass_time(11)
        while renewals.is_busy:
            await asyncio.sleep(0)
            turns += 1
        assert turns >= 20


async def test_a_jwt_ends_with_its_time() -> None:
    async with sockets() as (running, _api, _none):
        token = CLERK.m2m_token(running.clock())
        async with aiohttp.ClientSession(f"http://127.0.0.1:{running.port}") as session:
            socket = await session.ws_connect("/ws", headers={"Authorization": f"Bearer {token}"})
            await pass_time(running, 299)
            assert await is_open(socket)
            await pass_time(running, 11)
            assert await closed(socket) == (4401, "token-expired")


async def test_what_clerk_cannot_say_ends_nothing() -> None:
    async with sockets(KEY) as (running, api, (mine,)):
        api.machines.known[KEY]["revoked"] = True
        for _ in range(3):
            api.canned.extend([Canned(500)] * 2)
            await pass_time(running, 61)
            assert await is_open(mine)
        await pass_time(running, 61)
        assert (await closed(mine))[0] == 4401


async def test_one_of_whom_clerk_says_nothing_keeps_no_other_from_its_end() -> None:
    async with sockets(KEY) as (running, api, (mine,)), aiohttp.ClientSession() as session:
        url = f"http://127.0.0.1:{running.port}/ws"
        other = api.machines.add(m2m_token(), "mt_other")
        for _ in range(4):
            api.machines.add(api_key(), key := f"ak_{_}")
            await session.ws_connect(url, headers={"Authorization": f"Bearer {key}"})
        stays = await session.ws_connect(url, headers={"Authorization": f"Bearer {other}"})
        api.machines.known[other] = {}  # an answer that says nothing
        for secret in api.machines.known.keys() - {other}:
            api.machines.known[secret]["revoked"] = True
        await pass_time(running, 61)
        assert (await closed(mine))[0] == 4401
        assert len(running.app.listener.streams.of_machines) == 1
        assert await is_open(stays)


async def test_a_configuration_that_takes_none_ends_them() -> None:
    async with sockets(KEY) as (running, api, (mine,)):
        port = int(running.file.load().routes[0].upstream.endpoints[0].port)
        running.file.write(port, **settings(api, routes=[{"path": "/*", "upstream": "api"}]))
        await running.app.reload()
        await pass_time(running, 10)
        assert (await closed(mine))[0] == 4401


@pytest.mark.parametrize("token", [KEY, ""])
async def test_an_unfinished_answer_is_cut(token: str) -> None:
    teller = Storyteller()
    async with (
        FakeBackendApi(World()) as api, ScriptedUpstream(teller) as upstream,
        gateway(upstream.port, **settings(api)) as running,
        listening(running, "/x", f"Authorization: Bearer {token or running.token()}") as heard,
    ):  # fmt: skip
        exchange = await teller.asked()
        exchange.head(CHUNKED)
        exchange.say(b"one")
        await heard.head()
        api.machines.known[KEY]["revoked"] = True
        await pass_time(running, 61)
        if token:
            await exchange.left()
        else:
            exchange.end()
            assert b"one" in await heard.reader.readuntil(b"0\r\n\r\n")


async def test_a_round_under_way_ends_with_the_gateway() -> None:
    async with sockets(KEY) as (running, api, _opened):
        api.hold = asyncio.Event()
        running.clock.seconds += 61
        running.pass_time(61)
        while len(api.requests) < 2:
            await asyncio.sleep(0.005)
        assert running.app.listener.renewals.is_busy
