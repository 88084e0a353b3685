"""Somebody acting for a user, over a running gateway: what the upstream is told, and routes that refuse it."""

from typing import Any

import aiohttp
import pytest

from tests.fakes.gateway import Running, gateway
from tests.fakes.upstream import Echo, ScriptedUpstream
from tests.fakes.websocket import Server, behind
from tests.wire.test_websockets import offered

ROUTES = [
    {"name": "themselves", "path": "/own/*", "upstream": "api", "allow_impersonation": False},
    {"name": "guest", "path": "/guest/*", "upstream": "api", "auth": "optional", "allow_impersonation": False},
    {"name": "rest", "path": "/*", "upstream": "api"},
]
SUPPORT = {"iss": "https://clerk.example.com", "sid": "sess_9", "sub": "user_support"}
ACTORS = [
    pytest.param(SUPPORT, "user_support", id="person"),
    pytest.param({"sub": "agent_1", "type": "agent"}, "agent_1", id="agent"),
    pytest.param({"sub": "user_b", "act": {"sub": "user_c"}}, "user_b", id="chain"),
    pytest.param({"iss": "https://clerk.example.com"}, None, id="without-sub"),
    pytest.param({}, None, id="empty"),
]


async def refused(running: Running, path: str, **claims: Any) -> str:
    answer = await running.get(path, token=running.token(**claims))
    assert (answer.status, answer.json["code"]) == (403, "forbidden")
    assert "clerk_error" not in answer.json  # proving again who one is would not help
    return str(answer.json["reason"])


@pytest.mark.parametrize(("act", "said"), ACTORS)
async def test_the_upstream_is_told_who_acts_and_for_whom(act: Any, said: str | None) -> None:
    echo = Echo()
    async with ScriptedUpstream(echo) as upstream, gateway(upstream.port, routes=ROUTES) as running:
        evil = {"X-User-Actor": "user_evil", "X_User_Actor": "user_evil"}
        assert (await running.get("/x", token=running.token(act=act), fields=evil)).status == 200
    assert (echo.last.value("X-User-Actor"), echo.last.value("X-User-Id")) == (said, "user_1")
    assert b"evil" not in echo.last.raw_head


@pytest.mark.parametrize(("act", "said"), ACTORS)
async def test_a_route_may_take_nobody_but_the_user(act: Any, said: str | None) -> None:
    echo = Echo()
    async with ScriptedUpstream(echo) as upstream, gateway(upstream.port, routes=ROUTES) as running:
        # The second time the verdict on the token is remembered; what the route asks for is checked all the same.
        assert [await refused(running, path, act=act) for path in ("/own/x", "/own/x", "/guest/x")] == 3 * [
            "impersonation"
        ]
        assert (await running.get("/own/x", token=running.token())).status == 200
        assert (await running.get("/guest/x")).status == 200
    assert [request.target for request in echo.requests] == ["/own/x", "/guest/x"]


async def test_a_socket_tells_and_refuses_as_a_request_does() -> None:
    server = Server()
    async with behind(server, routes=ROUTES) as (running, session):
        token = running.token(act=SUPPORT)
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await session.ws_connect("/own/x", **offered(token))
        async with session.ws_connect("/x", **offered(token)) as socket:
            await socket.send_str("hello")
            assert await socket.receive_str() == "hello"
    assert refused.value.status == 403
    assert [request.headers.get("X-User-Actor") for request in server.requests] == ["user_support"]


async def test_a_socket_asks_for_step_up_as_a_request_does() -> None:
    server = Server()
    routes = [{"name": "rest", "path": "/*", "upstream": "api", "require": {"max_age_min": 10}}]
    async with behind(server, routes=routes) as (running, session):
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await session.ws_connect("/x", **offered(running.token(fva=[10, -1])))
        async with session.ws_connect("/x", **offered(running.token(fva=[9, -1]))) as socket:
            await socket.close()
    assert refused.value.status == 403


@pytest.mark.parametrize(
    ("rule", "fva", "asked"),
    [
        pytest.param(10, [10, 0], {"level": "first_factor", "afterMinutes": 10}, id="first"),
        pytest.param({"second": 5}, [0, -1], {"level": "second_factor", "afterMinutes": 5}, id="second"),
        pytest.param({"first": 60, "second": 5}, [60, 5], {"level": "multi_factor", "afterMinutes": 5}, id="both"),
    ],
)
async def test_a_stale_session_is_told_what_to_prove_again(rule: Any, fva: list[int], asked: dict[str, Any]) -> None:
    routes = [{"name": "rest", "path": "/*", "upstream": "api", "require": {"max_age_min": rule}}]
    async with ScriptedUpstream(Echo()) as upstream, gateway(upstream.port, routes=routes) as running:
        answer = await running.get("/x", token=running.token(fva=fva))
    told = answer.json
    assert (answer.status, told["type"], told["code"], told["reason"]) == (403, "about:blank", "forbidden", "max_age")
    assert told["clerk_error"] == {
        "type": "forbidden", "reason": "reverification-error", "metadata": {"reverification": asked},
    }  # fmt: skip


async def test_a_token_that_lives_for_hours_does_not_stay_fresh_for_hours() -> None:
    routes = [{"name": "rest", "path": "/*", "upstream": "api", "require": {"max_age_min": 10}}]
    async with ScriptedUpstream(Echo()) as upstream, gateway(upstream.port, routes=routes) as running:
        token = running.token(fva=[0, -1], exp=int(running.clock()) + 86_400)
        assert (await running.get("/x", token=token)).status == 200
        running.clock.seconds += 600
        assert (await running.get("/x", token=token)).json["reason"] == "max_age"
