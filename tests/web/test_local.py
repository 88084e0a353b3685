"""The gateway's own addresses: on every host, before every route, in the contract's form."""

from collections.abc import AsyncIterator

import pytest

from tests.fakes.gateway import APP, Running, gateway
from tests.fakes.upstream import Echo, ScriptedUpstream


@pytest.fixture
def echo() -> Echo:
    return Echo()


@pytest.fixture
async def running(echo: Echo) -> AsyncIterator[Running]:
    routes = [{"name": "all", "path": "/*", "upstream": "api", "auth": "public"}]
    async with ScriptedUpstream(echo) as upstream, gateway(upstream.port, routes=routes) as started:
        yield started


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/%68ealthz"])
async def test_they_win_over_every_route(running: Running, echo: Echo, path: str) -> None:
    answer = await running.get(path, fields={"Origin": APP})
    assert (answer.status, answer.json) == (200, {"status": "ok"})
    assert answer.value("cache-control") == "no-store"
    assert answer.value("x-request-id")
    assert answer.value("server") is None
    assert echo.requests == []


@pytest.mark.parametrize("path", ["/healthz/", "/healthzz", "/Healthz"])
async def test_only_their_exact_path_is_theirs(running: Running, echo: Echo, path: str) -> None:
    await running.get(path)
    assert echo.last.target == path


async def test_another_method_is_405_with_those_that_work(running: Running) -> None:
    answer = await running.ask("POST", "/healthz", body=b"x")
    assert (answer.status, answer.json["code"]) == (405, "method_not_allowed")
    assert set((answer.value("allow") or "").split(", ")) == {"GET", "HEAD"}
    assert (await running.ask("HEAD", "/healthz")).status == 200


async def test_a_draining_gateway_is_alive_and_not_ready(running: Running) -> None:
    running.app.listener.draining = True
    ready = await running.get("/readyz")
    assert (ready.status, ready.json["code"], ready.value("connection")) == (503, "draining", "close")
    assert (await running.get("/healthz")).status == 200


async def test_they_are_logged_as_what_they_were(running: Running) -> None:
    await running.ask("DELETE", "/readyz")
    lines = [line for line in await running.logged() if line["event"] == "request"]
    assert [(line["status"], line["code"], line["path"]) for line in lines] == [(405, "method_not_allowed", "/readyz")]
