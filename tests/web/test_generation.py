"""What a reload exchanges, what it takes over, and what it refuses; in a running gateway."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.core.routing import RouteTable
from gateway.errors import ConfigError, Draining
from gateway.web.generation import changed
from tests.fakes.clerk import FakeClerk, FakeIssuer
from tests.fakes.gateway import APP, CLERK, Running, gateway, read_answer
from tests.fakes.upstream import Echo, ScriptedUpstream, read_request, response

OTHER = FakeClerk(issuer="https://other.example.com", kid="ins_2", key_name="other")


@pytest.fixture
def echo() -> Echo:
    return Echo()


@pytest.fixture
async def upstream(echo: Echo) -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream(echo) as started:
        yield started


@pytest.fixture
async def running(upstream: ScriptedUpstream) -> AsyncIterator[Running]:
    async with gateway(upstream.port) as started:
        yield started


async def reload(running: Running, upstream_port: int, **overrides: Any) -> list[str]:
    running.file.write(upstream_port, **overrides)
    return await running.app.reload()


async def refused(running: Running, upstream_port: int, **overrides: Any) -> list[str]:
    """Reload what must be refused; give the keys it was refused for."""
    before = running.app.listener.deps
    with pytest.raises(ConfigError) as error:
        await reload(running, upstream_port, **overrides)
    assert running.app.listener.deps is before
    return [finding.key for finding in error.value.findings]


def own_clerk(clerk: FakeClerk, **more: Any) -> dict[str, Any]:
    return {"issuer": clerk.issuer, "jwt_key": clerk.pem(), "authorized_parties": [APP]} | more


def refreshers() -> list[str]:
    names = [getattr(task.get_coro(), "__qualname__", "") for task in asyncio.all_tasks()]
    return [name for name in names if name == "RemoteKeys._refresh"]


# --- what is exchanged -----------------------------------------------------------------------------------------------


async def test_routes(running: Running, upstream: ScriptedUpstream) -> None:
    routes = [{"path": "/new/*", "upstream": "api", "auth": "public"}]
    assert await reload(running, upstream.port, routes=routes) == ["routes"]
    assert [(await running.get(path)).status for path in ("/public/x", "/new/x")] == [404, 200]


async def test_what_a_route_requires_holds_for_a_token_seen_before(
    running: Running, upstream: ScriptedUpstream
) -> None:
    token = running.token()
    assert (await running.get("/x", token=token)).status == 200
    await reload(running, upstream.port, routes=[{"path": "/*", "upstream": "api", "require": {"role": "admin"}}])
    assert (await running.get("/x", token=token)).status == 403


async def test_cors(running: Running, upstream: ScriptedUpstream) -> None:
    other = "https://other.example.com"
    assert await reload(running, upstream.port, cors={"origins": [other]}) == ["routes", "cors"]
    for path in ("/public/x", "/../x"):
        fields = [
            (await running.get(path, fields={"Origin": o})).value("access-control-allow-origin") for o in (APP, other)
        ]
        assert fields == [None, other]


async def test_limits(running: Running, upstream: ScriptedUpstream) -> None:
    assert await reload(running, upstream.port, limits={"body_bytes": 3}) == ["routes", "limits"]
    assert (await running.ask("POST", "/public/x", body=b"four")).status == 413
    assert running.app.listener.limits.body_bytes == 3


async def test_identity(running: Running, upstream: ScriptedUpstream, echo: Echo) -> None:
    token = running.token()
    assert (await running.get("/x", token=token)).status == 200
    assert await reload(running, upstream.port, identity={"prefix": "X-Who-"}) == ["identity"]
    assert (await running.get("/x", token=token, fields={"X-Who-Id": "mallory"})).status == 200
    assert echo.last.values("X-Who-Id") == ["user_1"]
    assert echo.last.values("X-User-Id") == []


@pytest.mark.parametrize("path", ["/x", "/public/x"])
async def test_identity_on_a_connection_that_repeats_its_head(
    running: Running, upstream: ScriptedUpstream, echo: Echo, path: str
) -> None:
    ask = f"GET {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {running.token()}\r\nX-Who-Id: mallory\r\n\r\n".encode()
    reader, writer = await running.connect()
    for prefix in ("X-User-", "X-Who-", "X-User-", "X-Who-"):
        await reload(running, upstream.port, identity={"prefix": prefix})
        for _ in range(3):
            writer.write(ask)
            assert (await read_answer(reader)).status == 200
            said = echo.last.values("X-Who-Id")
            assert said == {"X-User-": ["mallory"], "X-Who-": [] if path == "/public/x" else ["user_1"]}[prefix]
    writer.close()


async def test_trusted_proxies_on_a_connection_that_is_open(
    running: Running, upstream: ScriptedUpstream, echo: Echo
) -> None:
    reader, writer = await running.connect()
    for trusted, came in (([], "127.0.0.1"), (["127.0.0.0/8"], "10.9.9.9, 127.0.0.1"), ([], "127.0.0.1")):
        await reload(running, upstream.port, trusted_proxies=trusted)
        for _ in range(3):
            writer.write(b"GET /public/x HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 10.9.9.9\r\n\r\n")
            await read_answer(reader)
            assert echo.last.value("x-forwarded-for") == came
    writer.close()


async def test_a_repeated_head_is_remembered_again_after_a_reload(running: Running, upstream: ScriptedUpstream) -> None:
    reader, writer = await running.connect()

    async def ask() -> object:
        writer.write(b"GET /public/x HTTP/1.1\r\nHost: a\r\n\r\n")
        await read_answer(reader)
        (connection,) = running.app.listener._open
        return connection._last

    first = await ask()
    assert first is not None
    assert await ask() is first
    await reload(running, upstream.port)
    assert await ask() is not first
    second = await ask()
    assert second is not None
    assert await ask() is second
    writer.close()


async def test_log(running: Running, upstream: ScriptedUpstream) -> None:
    await reload(running, upstream.port, logs={"access": False, "level": "error"})
    await running.news()
    await running.get("/public/x")
    running.app.log.event("unimportant")
    assert await running.news() == []
    await reload(running, upstream.port, logs={"access": True})
    await running.get("/public/x")
    assert [line["event"] for line in await running.news()] == ["reloaded", "request"]


async def test_drain_times() -> None:
    async def never(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        arrived.set()
        await asyncio.Event().wait()

    arrived = asyncio.Event()
    async with ScriptedUpstream(never) as upstream:
        async with gateway(upstream.port, drain_s=3600) as running:
            asking = asyncio.ensure_future(running.get("/public/x"))
            await arrived.wait()
            assert await reload(running, upstream.port, drain_s=0) == ["drain_s"]
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await asking


async def test_warnings_of_the_new_file_are_logged(running: Running, upstream: ScriptedUpstream) -> None:
    await running.news()
    await reload(running, upstream.port, clerk=own_clerk(CLERK, authorized_parties=[]))
    assert any("authorized_parties" in line.get("finding", "") for line in await running.news())


# --- tokens ----------------------------------------------------------------------------------------------------------


async def test_another_issuer_makes_old_tokens_refused_at_once(running: Running, upstream: ScriptedUpstream) -> None:
    old, new = running.token(), OTHER.session_token(running.clock())
    reader, writer = await running.connect()

    async def kept(token: str) -> int:
        writer.write(f"GET /x HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
        return (await read_answer(reader)).status

    assert [await kept(old), await kept(old), await kept(new)] == [200, 200, 401]
    await reload(running, upstream.port, clerk=own_clerk(OTHER))
    assert [await kept(old), await kept(new), await kept(new)] == [401, 200, 200]
    await reload(running, upstream.port)
    assert [await kept(new), await kept(old), await kept(old)] == [401, 200, 200]
    writer.close()


@pytest.mark.parametrize(
    ("change", "after"),
    [
        pytest.param({"authorized_parties": ["https://elsewhere.example.com"]}, 401, id="parties"),
        pytest.param({"audience": ["api"]}, 200, id="audience-of-tokens-that-have-one"),
        pytest.param({"issuer": "https://other.example.com"}, 401, id="issuer-with-the-same-key"),
        pytest.param({"jwt_key": OTHER.pem()}, 401, id="key-of-the-same-issuer"),
    ],
)
async def test_no_verdict_outlives_what_it_was_reached_under(
    running: Running, upstream: ScriptedUpstream, change: dict[str, Any], after: int
) -> None:
    token = running.token()
    assert (await running.get("/x", token=token)).status == 200
    verified = running.app.listener.deps.verified
    await reload(running, upstream.port, clerk=own_clerk(CLERK, **change))
    assert running.app.listener.deps.verified is not verified
    assert (await running.get("/x", token=token)).status == after


async def test_verdicts_live_on_where_nothing_they_depend_on_changed(
    running: Running, upstream: ScriptedUpstream
) -> None:
    assert (await running.get("/x", token=running.token())).status == 200
    verified = running.app.listener.deps.verified
    await reload(running, upstream.port, routes=[{"path": "/*", "upstream": "api"}], limits={"headers": 99})
    assert running.app.listener.deps.verified is verified
    assert len(verified) == 1


async def test_a_verdict_reached_meanwhile_stays_with_the_configuration_it_began_under(
    upstream: ScriptedUpstream,
) -> None:
    clerk = FakeClerk()
    async with FakeIssuer(clerk) as issuer, FakeIssuer(clerk) as moved:
        async with gateway(upstream.port, clerk={"issuer": clerk.issuer, "jwks_url": issuer.jwks_url}) as running:
            newer = FakeClerk(kid="ins_9", key_name="other")
            issuer.clerks = [clerk, newer]
            issuer.hold, issuer.arrived = asyncio.Event(), asyncio.Event()
            asking = asyncio.ensure_future(running.get("/x", token=newer.session_token(running.clock())))
            await issuer.arrived.wait()
            reloading = asyncio.ensure_future(
                reload(running, upstream.port, clerk={"issuer": clerk.issuer, "jwks_url": moved.jwks_url})
            )
            old = running.app.listener.deps
            while running.app.listener.deps is old:
                await asyncio.sleep(0.01)
            issuer.hold.set()
            assert (await asking).status == 200  # not cut off by the reload
            assert await reloading == ["issuers"]
            assert len(refreshers()) == 1
            assert len(running.app.listener.deps.verified) == 0
            assert (await running.get("/x", token=newer.session_token(running.clock()))).status == 401


async def test_keys_are_kept_where_their_address_is_the_same(upstream: ScriptedUpstream) -> None:
    clerk = FakeClerk()
    async with FakeIssuer(clerk) as issuer:
        at = {"issuer": clerk.issuer, "jwks_url": issuer.jwks_url}
        async with gateway(upstream.port, clerk=at) as running:
            fetched = issuer.requests
            await reload(running, upstream.port, clerk=at | {"clock_skew_s": 9})
            assert issuer.requests == fetched
            assert (await running.get("/x", token=running.token())).status == 200


async def test_a_new_key_address_is_asked_before_anything_changes(upstream: ScriptedUpstream) -> None:
    async with FakeIssuer(OTHER) as issuer, gateway(upstream.port) as running:
        issuer.hold = asyncio.Event()
        clerk = {"issuer": OTHER.issuer, "jwks_url": issuer.jwks_url}
        reloading = asyncio.ensure_future(reload(running, upstream.port, clerk=clerk))
        await issuer.arrived.wait()
        assert (await running.get("/x", token=running.token())).status == 200
        issuer.hold.set()
        assert await reloading == ["issuers"]
        assert (await running.get("/x", token=OTHER.session_token(running.clock()))).status == 200


async def test_keys_that_cannot_be_had_refuse_the_reload(upstream: ScriptedUpstream) -> None:
    issuer = FakeIssuer(OTHER)
    await issuer.start()
    await issuer.stop()
    async with gateway(upstream.port, first_keys_s=0.1) as running:
        clerk = {"issuer": OTHER.issuer, "jwks_url": issuer.jwks_url + "?secret=1"}
        assert await refused(running, upstream.port, clerk=clerk) == ["clerk"]
        assert (await running.get("/x", token=running.token())).status == 200
        assert (await running.get("/readyz")).status == 200
        assert "secret=1" not in str(await running.logged())
        assert refreshers() == []  # nobody goes on asking for what is not used


async def test_a_stop_ends_a_reload_that_waits_for_keys(upstream: ScriptedUpstream) -> None:
    async with FakeIssuer(OTHER) as issuer:
        issuer.hold = asyncio.Event()
        async with gateway(upstream.port) as running:
            clerk = {"issuer": OTHER.issuer, "jwks_url": issuer.jwks_url}
            reloading = asyncio.ensure_future(reload(running, upstream.port, clerk=clerk))
            await issuer.arrived.wait()
        with pytest.raises(asyncio.CancelledError):
            await reloading


async def test_no_reload_while_it_stops(running: Running, upstream: ScriptedUpstream) -> None:
    running.app.listener.draining = True
    before = running.app.listener.deps
    with pytest.raises(Draining):
        await reload(running, upstream.port, cors=None)
    assert running.app.listener.deps is before


# --- upstreams -------------------------------------------------------------------------------------------------------


async def test_connections_to_an_unchanged_upstream_live_on(running: Running, upstream: ScriptedUpstream) -> None:
    await running.get("/public/x")
    await reload(running, upstream.port, routes=[{"path": "/*", "upstream": "api", "auth": "public"}])
    await running.get("/public/x")
    assert upstream.connections == 1


async def test_another_upstream_of_the_same_name_gets_the_requests_at_once(
    running: Running, upstream: ScriptedUpstream
) -> None:
    await running.get("/public/x")
    other = Echo()
    async with ScriptedUpstream(other) as elsewhere:
        assert await reload(running, elsewhere.port) == ["routes"]
        assert (await running.get("/public/moved")).status == 200
        assert other.last.target == "/public/moved"
        await running.get("/public/again")
        assert elsewhere.connections == 1


async def test_idle_connections_to_an_upstream_that_is_gone_are_closed() -> None:
    ended = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await read_request(reader):
            writer.write(response(body=b"x"))
        ended.set()

    async with ScriptedUpstream(script) as upstream, gateway(upstream.port) as running:
        assert (await running.get("/public/x")).status == 200
        await reload(running, 1)
        await asyncio.wait_for(ended.wait(), 3)  # its own time, IDLE_S, is moved by the test alone


# --- what cannot be exchanged ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "keys"),
    [
        pytest.param({"listen": {"host": "127.0.0.1", "port": 1}}, ["listen.port"], id="port"),
        pytest.param({"listen": {"host": "127.0.0.2", "port": 0}}, ["listen.host"], id="host"),
        pytest.param({"admin": {"port": 0}}, ["admin.host", "admin.port"], id="admin-on"),
        pytest.param({"listen": {"host": "::1", "port": 2}}, ["listen.host", "listen.port"], id="both"),
    ],
)
async def test_what_needs_a_restart_is_refused_and_named(
    running: Running, upstream: ScriptedUpstream, overrides: dict[str, Any], keys: list[str]
) -> None:
    assert await refused(running, upstream.port, **overrides, routes=[{"path": "/n", "upstream": "api"}]) == keys
    assert (await running.get("/public/x")).status == 200
    assert any("Restart" in line.get("finding", "") for line in await running.logged())


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        pytest.param("routes: [", [""], id="not-yaml"),
        pytest.param("[]", [""], id="no-mapping"),
        pytest.param("", ["upstreams.api.url", "routes"], id="empty"),
        pytest.param("routes: [{path: /*, upstream: api}]", None, id="nothing-else"),
    ],
)
async def test_a_broken_file_leaves_the_old_in_force(running: Running, text: str, keys: list[str] | None) -> None:
    before = running.app.listener.deps
    running.file.text = text
    with pytest.raises(ConfigError) as error:
        await running.app.reload()
    assert error.value.findings
    assert running.app.listener.deps is before
    assert (await running.get("/public/x")).status == 200


async def test_a_fault_of_our_own_leaves_the_old_in_force(running: Running, upstream: ScriptedUpstream) -> None:
    running.file.environ = None  # type: ignore[assignment]
    running.file.text = "listen: {port: '${X}'}"
    with pytest.raises(AttributeError):
        await running.app.reload()
    assert (await running.get("/public/x")).status == 200
    assert "reload_failed" in [line["event"] for line in await running.logged()]


# --- one configuration at a time -------------------------------------------------------------------------------------


async def test_a_request_ends_under_the_configuration_it_began_under(echo: Echo) -> None:
    arrived, release = asyncio.Event(), asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await read_request(reader):
            arrived.set()
            await release.wait()
            writer.write(response(body=b"done"))

    async with ScriptedUpstream(slow) as upstream, gateway(upstream.port) as running:
        asking = asyncio.ensure_future(running.get("/public/x", fields={"Origin": APP}))
        await arrived.wait()
        await reload(
            running, upstream.port, cors={"origins": ["https://o.example"]}, routes=[{"path": "/n", "upstream": "api"}]
        )
        release.set()
        answer = await asking
        assert (answer.status, answer.body) == (200, b"done")
        assert answer.value("access-control-allow-origin") == APP
        assert (await running.get("/public/x")).status == 404


async def test_every_reload_voids_what_connections_remember(running: Running, upstream: ScriptedUpstream) -> None:
    before = running.app.listener.deps
    assert await reload(running, upstream.port) == []
    after = running.app.listener.deps
    assert after.fields is not before.fields
    assert after.random_bits is before.random_bits
    assert isinstance(after.routes, RouteTable)


def test_changed_names_what_differs(running: Running) -> None:
    one = running.file.load()
    running.file.write(1, cors=None)
    assert changed(one, running.file.load()) == ["routes", "cors"]
    assert changed(one, one) == []
