"""Event streams and uploads from a page of another origin, through the gateway, in a real browser."""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.browser.test_cross_origin import site
from tests.fakes.events import CHUNKED, EVENT_STREAM, Exchange, Storyteller, telling
from tests.fakes.gateway import CLERK, Running, gateway
from tests.fakes.upstream import Echo, ScriptedUpstream, read_request, response

OPEN = """([url, options]) => {
  window.told = [];
  window.source = new EventSource(url, options);
  source.onopen = () => told.push("open");
  source.onerror = () => told.push("error " + source.readyState);
  source.onmessage = (event) => told.push(event.lastEventId + " " + event.data);
}"""
FETCH = """([url, options]) => {
  window.told = [];
  (async () => {
    try {
      const answer = await fetch(url, options), reader = answer.body.getReader(), text = new TextDecoder();
      told.push(answer.status + " " + answer.headers.get("Content-Type"));
      for (let piece; !(piece = await reader.read()).done;) told.push(text.decode(piece.value));
      told.push("end");
    } catch (error) { told.push("cut " + error.name); }
  })();
}"""
UPLOAD_BY_FETCH = """async ([url, token, size]) => {
  const body = new Uint8Array(size).map((_, at) => at * 7);
  const answer = await fetch(url, {method: "PUT", headers: {Authorization: "Bearer " + token}, body});
  return {status: answer.status, text: await answer.text()};
}"""
UPLOAD_WITH_PROGRESS = """([url, token, size]) => new Promise((done) => {
  const call = new XMLHttpRequest(), loaded = [];
  call.upload.onprogress = (event) => loaded.push(event.loaded);
  call.onloadend = () => done({status: call.status, text: call.responseText, loaded});
  call.open("POST", url);
  call.setRequestHeader("Authorization", "Bearer " + token);
  call.send(new Uint8Array(size).map((_, at) => at * 7));
})"""
SIZE = 5 * 2**20
CONTENT = bytes(at * 7 % 256 for at in range(256)) * (SIZE // 256)


def listing(origin: str) -> dict[str, Any]:
    clerk = {"issuer": CLERK.issuer, "jwt_key": CLERK.pem(), "authorized_parties": [origin]}
    return {"clerk": clerk, "cors": {"origins": [origin]}}


@asynccontextmanager
async def stage(page: Any) -> AsyncIterator[tuple[Running, Storyteller, str, str]]:
    """Open a page of another port, which is listed; give the gateway, its upstream, its address and the origin."""
    async with site() as origin, telling(**listing(origin)) as (running, teller):
        await page.goto(origin)
        yield running, teller, f"http://127.0.0.1:{running.port}", origin


async def signed_in(page: Any, running: Running, origin: str) -> None:
    """Give the browser the cookies of a session; they belong to the host, whatever the port."""
    now = int(running.clock())
    values = {"__session": running.token(azp=origin), "__client_uat": str(now - 10)}
    await page.context.add_cookies([{"name": name, "value": value, "url": origin} for name, value in values.items()])


async def begun(teller: Storyteller) -> Exchange:
    exchange = await teller.asked()
    exchange.head(EVENT_STREAM, CHUNKED, "Cache-Control: no-cache")
    return exchange


async def told(page: Any, count: int) -> list[str]:
    """Give what the page was told, once it is so much."""
    await page.wait_for_function(f"() => window.told.length >= {count}")
    return list(await page.evaluate("() => window.told"))


async def test_an_event_source_with_cookies_opens_before_the_first_event_and_comes_back_behind_the_last_one(
    page: Any,
) -> None:
    async with stage(page) as (running, teller, address, origin):
        await signed_in(page, running, origin)
        await page.evaluate(OPEN, [f"{address}/events", {"withCredentials": True}])
        first = await begun(teller)
        assert await told(page, 1) == ["open"]
        for number in range(1, 4):
            first.say(b"retry: 1\nid: %d\ndata: event %d\n\n" % (number, number))
            assert (await told(page, 1 + number))[-1] == f"{number} event {number}"
        first.end()
        second = await begun(teller)
        second.say(b"id: 4\ndata: event 4\n\n")
        assert (await told(page, 7))[4:] == ["error 0", "open", "4 event 4"]
        await page.evaluate("() => source.close()")
        await second.left()
    assert [each.request.value("last-event-id") for each in (first, second)] == [None, "3"]
    assert first.request.value("x-user-id") == second.request.value("x-user-id") == "user_1"
    assert first.request.value("accept") == EVENT_STREAM.partition(" ")[2]
    assert first.request.value("cookie") is None


async def test_an_event_source_without_credentials_is_nobody_on_an_optional_route(page: Any) -> None:
    async with stage(page) as (_, teller, address, _):
        await page.evaluate(OPEN, [f"{address}/optional/events", {}])
        exchange = await begun(teller)
        exchange.say(b"data: hello\n\n")
        assert await told(page, 2) == ["open", " hello"]
        await page.evaluate("() => source.close()")
        await exchange.left()
    assert exchange.request.value("x-user-id") is None


async def test_an_event_source_that_is_refused_gives_up(page: Any) -> None:
    async with stage(page) as (_, teller, address, _):
        await page.evaluate(OPEN, [f"{address}/events", {"withCredentials": True}])
        assert await told(page, 1) == ["error 2"]  # closed: it is not asked again and again
        assert teller.exchanges.empty()


async def test_an_event_source_whose_session_ends_comes_back_and_is_judged_anew(page: Any) -> None:
    async with stage(page) as (running, teller, address, origin):
        await signed_in(page, running, origin)
        await page.evaluate(OPEN, [f"{address}/events", {"withCredentials": True}])
        exchange = await begun(teller)
        exchange.say(b"retry: 1\nid: 1\ndata: x\n\n")
        await told(page, 2)
        running.clock.seconds += 120  # the token it came with is over: a stream outlives it, a new one does not begin
        assert running.app.listener.streams.revoke(session="sess_1") == 1
        await exchange.left()
        assert await told(page, 4) == ["open", "1 x", "error 0", "error 2"]
        assert teller.exchanges.empty()


async def test_an_event_source_is_not_told_of_an_end_when_the_gateway_stops(page: Any) -> None:
    async with stage(page) as (running, teller, address, _):
        await page.evaluate(OPEN, [f"{address}/public/events", {}])
        exchange = await begun(teller)
        exchange.say(b"retry: 100000\ndata: x\n\n")
        await told(page, 2)
        assert await running.app.listener.drain(30)
        await exchange.left()
        assert await told(page, 3) == ["open", " x", "error 0"]  # it will be back, elsewhere
        await page.evaluate("() => source.close()")


async def test_fetch_with_a_token_reads_a_stream_as_it_comes_and_knows_an_end_from_a_cut(page: Any) -> None:
    async with stage(page) as (running, teller, address, origin):
        options = {"headers": {"Authorization": f"Bearer {running.token(azp=origin)}"}}
        for ends in (True, False):
            await page.evaluate(FETCH, [f"{address}/events", options])
            exchange = await begun(teller)
            assert await told(page, 1) == ["200 text/event-stream"]
            for number in range(1, 4):
                exchange.say(b"data: %d\n\n" % number)
                assert (await told(page, 1 + number))[-1] == f"data: {number}\n\n"
            if ends:
                exchange.end()
            else:
                assert running.app.listener.streams.revoke(user="user_1") == 1
                await exchange.left()
            assert (await told(page, 5))[-1] == ("end" if ends else "cut TypeError")


async def test_a_page_that_leaves_ends_its_stream(page: Any) -> None:
    async with stage(page) as (running, teller, address, origin):
        await page.evaluate(OPEN, [f"{address}/public/events", {}])
        exchange = await begun(teller)
        await told(page, 1)
        await page.goto(origin)
        await exchange.left()
        while running.app.listener.streams:
            await asyncio.sleep(0)


@pytest.mark.parametrize("script", [UPLOAD_BY_FETCH, UPLOAD_WITH_PROGRESS], ids=["fetch", "xhr-with-progress"])
async def test_a_page_of_another_origin_uploads_five_megabytes(page: Any, script: str) -> None:
    async def takes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while (request := await read_request(reader)) is not None:
                digest = hashlib.sha256(request.body).hexdigest()
                writer.write(response(201, digest.encode(), fields=("Content-Type: text/plain",)))

    async with site() as origin, ScriptedUpstream(takes) as upstream:
        async with gateway(upstream.port, **listing(origin)) as running:
            await page.goto(origin)
            url = f"http://127.0.0.1:{running.port}/files"
            seen = await page.evaluate(script, [url, running.token(azp=origin), SIZE])
            lines = [line for line in await running.logged() if line["event"] == "request"]
    assert (seen["status"], seen["text"]) == (201, hashlib.sha256(CONTENT).hexdigest())
    assert (lines[0]["method"], lines[0]["status"]) == ("OPTIONS", 204)
    assert lines[-1]["bytes_in"] == SIZE
    if "loaded" in seen:
        assert seen["loaded"][-1] == SIZE
        assert seen["loaded"] == sorted(seen["loaded"])


async def test_an_upload_that_is_too_large_is_refused_where_the_page_can_read_it(page: Any) -> None:
    async with site() as origin, ScriptedUpstream(Echo()) as upstream:
        async with gateway(upstream.port, limits={"body_bytes": 1000}, **listing(origin)) as running:
            await page.goto(origin)
            url = f"http://127.0.0.1:{running.port}/files"
            seen = await page.evaluate(UPLOAD_BY_FETCH, [url, running.token(azp=origin), 2000])
    assert (seen["status"], '"body_too_large"' in seen["text"]) == (413, True)
    assert upstream.connections == 0
