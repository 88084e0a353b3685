"""Whose a Convex client's socket is, by what it says on it. Real frames through a gateway are in `tests/wire`."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.core.model import Endpoint, Upstream
from gateway.core.policy import Admission
from gateway.core.routing import PathPattern, Route
from gateway.net.convex import JudgedHalf
from gateway.net.tunnel import Half
from gateway.web.convex import Binding, client_half
from gateway.web.streams import Ending
from tests.fakes.gateway import APP, CLERK, Running, gateway
from tests.fakes.upstream import Echo, ScriptedUpstream

HTTP = Upstream("api", (Endpoint("127.0.0.1", 1),))
CONVEX = Upstream("convex", (Endpoint("127.0.0.1", 1),), convex=True)
OPEN = Upstream("convex", (Endpoint("127.0.0.1", 1),), convex=True, allow_convex_admin=True)
ADMISSION = Admission(frozenset({"session", "template"}), frozenset({"convex"}))


def route(upstream: Upstream = CONVEX, auth: str = "optional") -> Route:
    return Route("convex", PathPattern.read("/*"), upstream, auth=auth, admission=ADMISSION)


@pytest.mark.parametrize(
    ("made", "reads"), [(None, False), (route(HTTP), False), (route(OPEN), False), (route(), True)]
)
def test_only_convexs_clients_are_read(made: Route | None, reads: bool) -> None:
    listener: Any = SimpleNamespace(room=object())
    half: Any = client_half(SimpleNamespace(route=made), object(), listener)  # type: ignore[arg-type]
    assert (half is Half) is not reads
    assert reads is (getattr(half, "func", None) is JudgedHalf)


class Socket:
    """Keeps who was bound, and how it was ended."""

    def __init__(self) -> None:
        self.bound: list[str | None] = []
        self.ended: list[Ending] = []

    def bind(self, principal: Any) -> None:
        self.bound.append(principal and principal.user_id)

    def end(self, ending: Ending) -> None:
        self.ended.append(ending)


class Stand:
    """A binding in a running gateway."""

    def __init__(self, running: Running, auth: str = "optional") -> None:
        self.socket: Any = Socket()
        self.visit: Any = SimpleNamespace(identified=None)
        listener: Any = SimpleNamespace(deps=running.app.listener.deps)
        self.binding = Binding(self.visit, route(auth=auth), self.socket, listener)

    async def says(self, token: str | None) -> None:
        self.binding.authenticate(None if token is None else token.encode())
        if self.binding._verifying is not None:
            await asyncio.wait({self.binding._verifying})


@pytest.fixture
async def running() -> Any:
    async with ScriptedUpstream(Echo()) as upstream, gateway(upstream.port) as made:
        yield made


def token(running: Running, **overrides: Any) -> str:
    return running.token(**({"aud": "convex"} | overrides))


async def test_the_last_word_counts(running: Running) -> None:
    stand = Stand(running)
    await stand.says(token(running))
    await stand.says(token(running, sub="user_2"))
    await stand.says(None)
    await stand.says(CLERK.template_token(running.clock(), sub="user_3", aud="convex", azp=APP))
    assert stand.socket.bound == ["user_1", "user_2", None, "user_3"]
    assert stand.visit.identified.principal.user_id == "user_3"


@pytest.mark.parametrize("bad", [
    {"aud": "other"}, {"exp": 1}, {"iss": "https://evil.example"}, {"azp": "https://evil.example"}, {"sts": "pending"},
])  # fmt: skip
async def test_a_token_that_is_not_good_is_nobodys(running: Running, bad: dict[str, Any]) -> None:
    stand = Stand(running)
    await stand.says(token(running))
    await stand.says(token(running, **bad))
    assert stand.socket.bound == ["user_1", None]


async def test_nonsense_is_nobodys(running: Running) -> None:
    stand = Stand(running)
    await stand.says("")
    await stand.says("nonsense")
    assert stand.socket.bound == [None, None]


async def test_a_later_word_overtakes_one_that_waits(running: Running) -> None:
    stand = Stand(running)
    stand.binding.authenticate(token(running).encode())
    await stand.says(None)
    await asyncio.sleep(0)
    assert stand.socket.bound == [None]


async def test_who_has_left_is_not_looked_for(running: Running) -> None:
    stand = Stand(running)
    stand.binding.authenticate(token(running).encode())
    stand.binding.gone()
    await asyncio.sleep(0)
    assert stand.socket.bound == []


async def test_on_a_public_route_no_token_is_read(running: Running) -> None:
    stand = Stand(running, auth="public")
    await stand.says(token(running))
    assert stand.socket.bound == []


async def test_where_no_issuer_is_configured_every_token_is_nobodys() -> None:
    public = [{"name": "all", "path": "/*", "upstream": "api", "auth": "public"}]
    async with ScriptedUpstream(Echo()) as upstream, gateway(upstream.port, routes=public, clerk={}) as running:
        stand = Stand(running)
        await stand.says(token(running))
        assert stand.socket.bound == [None]


async def test_whoever_is_refused_is_closed_and_not_verified_any_more(running: Running) -> None:
    stand = Stand(running)
    stand.binding.authenticate(token(running).encode())
    stand.binding.refuse(4403, b"convex-admin")
    await asyncio.sleep(0)
    assert stand.socket.ended == [Ending(4403, b"convex-admin", "forbidden", "convex-admin")]
    assert stand.socket.bound == []
