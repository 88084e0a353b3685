"""Convex's own clients through the gateway: over HTTP, over a WebSocket, and in a page."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.browser.test_cross_origin import site
from tests.clients.conftest import Driver, Starter
from tests.fakes.convex import BIG, FakeConvex, settings
from tests.fakes.gateway import CLERK, Running, gateway


@asynccontextmanager
async def behind(
    start: Starter, *, prefix: str = "", **upstream: Any
) -> AsyncIterator[tuple[FakeConvex, Running, Driver]]:
    async with FakeConvex() as convex:
        async with gateway(convex.port, **settings(convex.port, prefix=prefix, **upstream)) as running:
            yield convex, running, await start(f"http://127.0.0.1:{running.port}{prefix}", convex)


@pytest.mark.parametrize("prefix", ["", "/convex"], ids=["at-the-root", "below-a-prefix"])
async def test_the_http_client_calls_functions_with_and_without_a_token(start: Starter, prefix: str) -> None:
    async with behind(start, prefix=prefix) as (convex, _, driver):
        assert await driver.do("http", kind="query", path="whoami") is None
        assert await driver.do("http", kind="query", path="whoami", token=convex.token()) == "user_1"
        assert await driver.do("http", kind="action", path="shout", args={"text": "hello"}) == "HELLO"
        assert await driver.do("http", kind="mutation", path="messages:send", args={"body": "hi"}) == 1
        request = convex.requests[-1]
    assert request.path == "/api/mutation"
    assert request.headers["Host"] == f"127.0.0.1:{convex.port}"
    assert "X-Forwarded-Host" not in request.headers
    assert request.headers["Convex-Client"].startswith("npm-")


async def test_a_bad_token_is_refused_at_the_gateway(start: Starter) -> None:
    async with behind(start) as (convex, _, driver):
        answer = await driver.ask("http", kind="query", path="whoami", token=convex.token(exp=1, iat=0, nbf=0))
        assert "token-expired" in answer["error"]
        answer = await driver.ask("http", kind="query", path="whoami", token=convex.token(aud="another"))
        assert "token-verification-failed" in answer["error"]
        assert [request for request in convex.requests if request.path.startswith("/api")] == []


@pytest.mark.parametrize("prefix", ["", "/convex"], ids=["at-the-root", "below-a-prefix"])
async def test_the_live_client_subscribes_and_mutates(start: Starter, prefix: str) -> None:
    async with behind(start, prefix=prefix) as (_, _, driver):
        await driver.do("open")
        await driver.do("subscribe", path="messages:list")
        await driver.until("update", [], path="messages:list")
        assert await driver.do("mutation", path="messages:send", args={"body": "one"}) == 1
        await driver.until("update", ["None: one"])
        assert await driver.do("action", path="shout", args={"text": "hello"}) == "HELLO"
        await driver.do("length", path="big")
        await driver.until("length", len(BIG), path="big")
        assert await driver.do("mutation", path="messages:send", args={"body": "y" * 3_000_000}) == 2
        await driver.do("close")


async def test_the_live_client_logs_in_again_and_again_and_out(start: Starter) -> None:
    async with behind(start) as (convex, running, driver):
        await driver.do("open", options={"authRefreshTokenLeewaySeconds": 59})
        await driver.do("subscribe", path="whoami")
        await driver.until("update", None, path="whoami")
        await driver.do("login")
        await driver.until("auth", True)
        await driver.until("update", "user_1", path="whoami")
        convex.user = "user_2"  # the next fresh token is another's, which never happens, so that it shows
        await driver.until("update", "user_2", path="whoami")
        assert running.app.listener.streams.revoke(user="user_1") == 0
        await driver.do("logout")
        await driver.until("update", None, path="whoami")
        assert running.app.listener.streams.revoke(user="user_2") == 0
        assert {said["tokenType"] for said in convex.received if said["type"] == "Authenticate"} == {"User", "None"}


async def test_revoking_closes_the_socket_and_the_client_comes_back(start: Starter) -> None:
    async with behind(start) as (convex, running, driver):
        await driver.do("open")
        await driver.do("subscribe", path="whoami")
        await driver.do("login")
        await driver.until("update", "user_1", path="whoami")
        assert running.app.listener.streams.revoke(session="sess_1") == 1
        assert "4401: session-revoked" in await driver.disconnected()
        await driver.until("update", "user_1", path="whoami")
        assert await driver.do("connection") == 2
    assert convex.closes[0] == 4401


async def test_admin_keys_are_refused_both_ways(start: Starter) -> None:
    async with behind(start) as (convex, _, driver):
        answer = await driver.ask("http", kind="query", path="whoami", admin="deployment|key")
        assert '"reason":"convex_admin"' in answer["error"]
        await driver.do("open")
        await driver.do("admin", key="deployment|key")
        assert "4403: convex-admin" in await driver.disconnected()
        assert "Authenticate" not in {said["type"] for said in convex.received}
        assert [request for request in convex.requests if request.method == "POST"] == []


async def test_admin_keys_pass_where_the_file_says_so(start: Starter) -> None:
    async with behind(start, allow_convex_admin=True) as (convex, _, driver):
        assert await driver.do("http", kind="query", path="whoami", admin="deployment|key") is None
        assert convex.requests[-1].headers["Authorization"] == "Convex deployment|key"
        await driver.do("open")
        await driver.do("admin", key="deployment|key")
        await driver.do("subscribe", path="whoami")
        await driver.until("update", None, path="whoami")
        assert "Admin" in {said.get("tokenType") for said in convex.received}


PAGE = """async ([url, tokens]) => {
  const fresh = async () => (await fetch(tokens)).text();
  const http = new convex.ConvexHttpClient(url);
  const asked = [await http.query("whoami", {})];
  http.setAuth(await fresh());
  asked.push(await http.query("whoami", {}), await http.mutation("messages:send", {body: "over HTTP"}));
  const live = new convex.ConvexClient(url);
  const seen = await new Promise((done) => {
    live.onUpdate("whoami", {}, (who) => who && live.onUpdate("messages:list", {}, (list) => list.length > 1 && done([who, list])));
    live.setAuth(fresh, (is) => is && live.mutation("messages:send", {body: "over a WebSocket"}));
  });
  await live.close();
  return {asked, seen};
}"""


async def test_a_page_of_another_origin_uses_both_clients(page: Any, bundle: Path) -> None:
    async with FakeConvex() as convex, site() as origin:
        convex.azp = origin
        more = settings(convex.port, prefix="/convex")
        more["cors"] |= {"origins": [origin]}
        clerk = {"issuer": CLERK.issuer, "jwt_key": CLERK.pem(), "authorized_parties": [origin]}
        async with gateway(convex.port, **more, clerk=clerk) as running:
            await page.goto(origin)
            await page.add_script_tag(path=bundle)
            told = await page.evaluate(PAGE, [f"http://127.0.0.1:{running.port}/convex", f"{convex.url}/tokens"])
    assert told == {"asked": [None, "user_1", 1], "seen": ["user_1", ["user_1: over HTTP", "user_1: over a WebSocket"]]}
    assert "OPTIONS" not in {request.method for request in convex.requests}  # the gateway answered
