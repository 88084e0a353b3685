"""A page on another port calls the gateway from a real browser: what it may read, and what it may not."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from tests.fakes.gateway import CLERK, gateway
from tests.fakes.upstream import Echo, ScriptedUpstream

CALL = """async ([url, options]) => {
  try {
    const answer = await fetch(url, options);
    return {status: answer.status, id: answer.headers.get("X-Request-Id"), body: await answer.json()};
  } catch (error) { return {blocked: error.name}; }
}"""


@asynccontextmanager
async def site() -> AsyncIterator[str]:
    """Serve an empty page on a port of its own; give its origin."""

    async def empty(_request: web.Request) -> web.Response:
        return web.Response(text="<!doctype html><title>page</title>", content_type="text/html")

    app = web.Application()
    app.router.add_get("/", empty)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


@asynccontextmanager
async def gateway_for(origin: str, echo: Echo) -> AsyncIterator[Any]:
    """Start a gateway whose CORS lists this origin."""
    cors = {"origins": [origin], "expose": ["X-Request-Id"], "headers": ["Authorization", "Content-Type", "X-Trace"]}
    clerk = {"issuer": CLERK.issuer, "jwt_key": CLERK.pem(), "authorized_parties": [origin]}
    async with ScriptedUpstream(echo) as upstream, gateway(upstream.port, cors=cors, clerk=clerk) as running:
        yield running


async def test_a_listed_page_calls_with_preflight_and_reads_the_answer(page: Any) -> None:
    echo = Echo()
    async with site() as origin, gateway_for(origin, echo) as running:
        await page.goto(origin)
        url = f"http://127.0.0.1:{running.port}/hello"
        headers = {"Authorization": f"Bearer {running.token(azp=origin)}", "X-Trace": "1"}
        seen = await page.evaluate(CALL, [url, {"method": "PUT", "headers": headers, "body": "hi"}])
    assert seen["status"] == 200
    assert seen["id"] == echo.last.value("X-Request-Id")
    assert (echo.last.method, echo.last.body, echo.last.value("X-User-Id")) == ("PUT", b"hi", "user_1")
    assert [request.method for request in echo.requests] == ["PUT"]  # the preflight stayed at the gateway


async def test_a_listed_page_reads_why_it_was_refused(page: Any) -> None:
    async with site() as origin, gateway_for(origin, Echo()) as running:
        await page.goto(origin)
        base = f"http://127.0.0.1:{running.port}"
        expired = running.token(azp=origin, exp=int(running.clock()) - 60)
        bearer = {"headers": {"Authorization": f"Bearer {expired}"}}
        late = await page.evaluate(CALL, [f"{base}/hello", bearer])
        without = await page.evaluate(CALL, [f"{base}/hello", {"credentials": "include"}])
        forbidden = {"headers": {"Authorization": f"Bearer {running.token(azp=origin)}"}}
        not_admin = await page.evaluate(CALL, [f"{base}/admin/hello", forbidden])
    assert (late["status"], late["body"]["reason"]) == (401, "token-expired")
    assert (without["status"], without["body"]["code"]) == (401, "missing_credential")
    assert (not_admin["status"], not_admin["body"]["reason"]) == (403, "role")


async def test_an_unlisted_page_reads_nothing_and_sends_no_preflighted_request(page: Any) -> None:
    echo = Echo()
    async with site() as origin, gateway_for("https://app.example.com", echo) as running:
        await page.goto(origin)
        base = f"http://127.0.0.1:{running.port}"
        bearer = {"Authorization": f"Bearer {running.token()}"}
        answers = [
            await page.evaluate(CALL, [f"{base}/hello", {"headers": bearer}]),
            await page.evaluate(CALL, [f"{base}/public/hello", {}]),
        ]
    assert answers == [{"blocked": "TypeError"}] * 2
    assert [request.target for request in echo.requests] == ["/public/hello"]  # a simple GET is sent, but not read
