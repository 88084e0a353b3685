"""The signed assertion in a running gateway: what upstreams get, verified as they would; and the keys under it."""

import asyncio
import json
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jwt
import pytest

from gateway.core.assertion import MAX_BYTES
from gateway.core.rotation import AHEAD_S, KEPT_S
from gateway.errors import ConfigError
from gateway.ops.keys import rotate
from tests.fakes.clerk import FakeClerk
from tests.fakes.gateway import APP, CLERK, Running, gateway
from tests.fakes.keys import ISSUER, KEY_SET, asserted, kids, verified
from tests.fakes.upstream import Echo, ScriptedUpstream
from tests.fakes.websocket import SWITCHED, handshake

HEADER = "x-user-assertion"


@pytest.fixture
def echo() -> Echo:
    return Echo()


@pytest.fixture
async def upstream(echo: Echo) -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream(echo) as started:
        yield started


@pytest.fixture
def keys_dir(tmp_path: Path) -> str:
    return str(tmp_path / "keys")


@pytest.fixture
async def running(upstream: ScriptedUpstream, keys_dir: str) -> AsyncIterator[Running]:
    async with gateway(upstream.port, identity=asserted(keys_dir=keys_dir)) as started:
        yield started


async def assertion(running: Running, echo: Echo, token: str | None = None, target: str = "/x", **more: Any) -> str:
    assert (await running.get(target, token=token or running.token(), **more)).status == 200
    value = echo.last.value(HEADER)
    assert value is not None
    return value


def jti(token: str) -> str:
    return str(jwt.decode(token, options={"verify_signature": False})["jti"])


def long_token(running: Running, **overrides: Any) -> str:
    return running.token(**({"exp": int(running.clock()) + 3600} | overrides))


def write(file: str, text: str) -> None:
    Path(file).write_text(text)


async def reload(running: Running, upstream: ScriptedUpstream, **identity: Any) -> list[str]:
    running.file.write(upstream.port, identity=identity)
    return await running.app.reload()


async def looked(running: Running) -> None:
    """Let the gateway look at its keys now."""
    running.pass_time(10)
    looking = running.app._assertions._looking
    assert looking is not None
    await looking
    await asyncio.sleep(0)


# --- what an upstream gets --------------------------------------------------------------------------------------------


async def test_an_upstream_can_verify_who_calls(running: Running, echo: Echo) -> None:
    now = int(running.clock())
    o = {"id": "org_1", "slg": "acme", "rol": "admin", "per": "read", "fpm": "1"}
    token = running.token(v=2, o=o, fea="o:x", act={"sub": "user_9"})
    said = await verified(running, await assertion(running, echo, token))
    assert said.pop("jti")
    assert said == {
        "iss": ISSUER, "aud": "api", "sub": "user_1", "iat": now, "nbf": now - 5, "exp": now + 60, "sid": "sess_1",
        "org_id": "org_1", "org_slug": "acme", "org_role": "org:admin", "org_permissions": ["org:x:read"],
        "token_type": "session", "act": {"sub": "user_9"},
    }  # fmt: skip


async def test_each_upstream_gets_its_own_and_nobody_elses(
    upstream: ScriptedUpstream, echo: Echo, keys_dir: str
) -> None:
    url = f"http://127.0.0.1:{upstream.port}"
    upstreams = {"api": {"url": url}, "billing": {"url": url}, "plain": {"url": url, "identity": False}}
    routes = [{"path": f"/{name}/*", "upstream": name} for name in upstreams]
    async with gateway(
        upstream.port, upstreams=upstreams, routes=routes, identity=asserted(keys_dir=keys_dir)
    ) as running:
        token = running.token()
        first, second = [await assertion(running, echo, token, f"/{name}/x") for name in ("api", "billing")]
        assert (await running.get("/plain/x", token=token)).status == 200
        assert echo.last.values(HEADER) == []
        assert (await verified(running, second, audience="billing"))["aud"] == "billing"
        with pytest.raises(jwt.InvalidAudienceError):
            await verified(running, first, audience="billing")


@pytest.mark.parametrize("target", ["/public/x", "/optional/x"])
async def test_nobody_is_asserted_where_nobody_is_identified(running: Running, echo: Echo, target: str) -> None:
    assert (await running.get(target, token=None)).status == 200
    assert echo.last.values(HEADER) == []
    if target == "/public/x":
        assert (await running.get(target, token=running.token())).status == 200
        assert echo.last.values(HEADER) == []


@pytest.mark.parametrize("header", ["X-User-Assertion", "X-Gateway-Jwt"])
@pytest.mark.parametrize("target", ["/public/x", "/optional/x", "/x"])
async def test_a_client_cannot_bring_it_in_any_spelling(
    upstream: ScriptedUpstream, echo: Echo, keys_dir: str, header: str, target: str
) -> None:
    spellings = [header, header.lower(), header.upper(), header.replace("-", "_"), header.replace("-", ".")]
    lines = tuple(f"{name}: forged" for name in spellings)
    for identity in (asserted(keys_dir=keys_dir, header=header), {"assertion": {"header": header}}):
        async with gateway(upstream.port, identity=identity) as running:
            token = running.token() if target == "/x" else None
            for more in ((), (f"Connection: close, {header}",)):
                assert (await running.get(target, token=token, lines=lines + more)).status == 200
                assert "forged" not in echo.last.raw_head.decode()
                wanted = 1 if token and "enabled" in identity["assertion"] else 0
                assert len(echo.last.values(header)) == wanted


async def test_it_comes_under_the_prefix_where_it_has_no_name_of_its_own(
    upstream: ScriptedUpstream, echo: Echo, keys_dir: str
) -> None:
    identity = {"prefix": "X-Me-"} | asserted(keys_dir=keys_dir)
    async with gateway(upstream.port, identity=identity) as running:
        await running.get("/x", token=running.token(), fields={"X-Me-Assertion": "forged"})
        assert await verified(running, echo.last.value("x-me-assertion") or "")


async def test_a_socket_carries_it_too(keys_dir: str) -> None:
    heads: list[str] = []

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(SWITCHED)
        await reader.read()

    async with ScriptedUpstream(accept) as upstream:
        async with gateway(upstream.port, identity=asserted(keys_dir=keys_dir)) as running:
            reader, writer = await running.connect()
            writer.write(handshake("/ws", f"Authorization: Bearer {running.token()}"))
            assert (await reader.readline()).startswith(b"HTTP/1.1 101")
            lines = dict(line.split(": ", 1) for line in heads[0].split("\r\n")[1:-2])
            assert await verified(running, lines["X-User-Assertion"])
            writer.close()


async def test_nothing_is_said_or_served_where_it_is_off(upstream: ScriptedUpstream, echo: Echo) -> None:
    async with gateway(upstream.port) as running:
        assert (await running.get("/x", token=running.token())).status == 200
        assert echo.last.values(HEADER) == []
        assert (await running.get(KEY_SET)).status == 401  # a path of the route that leads everywhere


# --- how long it is good ----------------------------------------------------------------------------------------------


async def test_it_is_remembered_and_renewed_with_ten_seconds_left(running: Running, echo: Echo) -> None:
    token = long_token(running)
    first = await assertion(running, echo, token)
    running.clock.seconds += 49
    assert await assertion(running, echo, token) == first
    running.clock.seconds += 1
    second = await assertion(running, echo, token)
    assert jti(second) != jti(first)
    assert (await verified(running, second))["exp"] == running.clock() + 60


async def test_it_ends_with_its_token_and_is_not_signed_again_for_that(running: Running, echo: Echo) -> None:
    token = running.token(exp=int(running.clock()) + 20)
    first = await assertion(running, echo, token)
    assert (await verified(running, first))["exp"] == running.clock() + 25
    running.clock.seconds += 24
    assert await assertion(running, echo, token) == first
    running.clock.seconds += 1
    assert (await running.get("/x", token=token)).status == 401


async def test_a_life_shorter_than_the_margin_is_still_remembered(
    upstream: ScriptedUpstream, echo: Echo, keys_dir: str
) -> None:
    async with gateway(upstream.port, identity=asserted(keys_dir=keys_dir, ttl_s=6)) as running:
        token = long_token(running)
        first = await assertion(running, echo, token)
        running.clock.seconds += 2
        assert await assertion(running, echo, token) == first
        running.clock.seconds += 1
        assert jti(await assertion(running, echo, token)) != jti(first)


async def test_a_clock_set_back_gives_out_nothing_of_its_future(running: Running, echo: Echo) -> None:
    token = long_token(running, iat=int(running.clock()) - 600, nbf=int(running.clock()) - 600)
    await assertion(running, echo, token)
    running.clock.seconds -= 300
    assert (await verified(running, await assertion(running, echo, token)))["iat"] == running.clock()


async def test_it_is_forgotten_with_the_verdict(running: Running, echo: Echo) -> None:
    token = running.token()
    first = await assertion(running, echo, token)
    running.app._generations.forget(user="user_1")
    assert jti(await assertion(running, echo, token)) != jti(first)


async def test_two_tokens_never_share_one(running: Running, echo: Echo) -> None:
    tokens = [running.token(), running.token(sub="user_2", sid="sess_2")]
    both = [await verified(running, await assertion(running, echo, token)) for token in tokens]
    assert [said["sub"] for said in both] == ["user_1", "user_2"]
    assert both[0]["jti"] != both[1]["jti"]


async def test_another_instances_skew_counts_for_its_tokens(
    upstream: ScriptedUpstream, echo: Echo, keys_dir: str
) -> None:
    other = FakeClerk(issuer="https://other.example.com", kid="ins_2", key_name="other")
    issuers = [
        {"name": one, "issuer": clerk.issuer, "jwt_key": clerk.pem(), "authorized_parties": [APP], "clock_skew_s": skew}
        for one, clerk, skew in (("one", CLERK, 5), ("two", other, 30))
    ]
    async with gateway(upstream.port, clerk={}, issuers=issuers, identity=asserted(keys_dir=keys_dir)) as running:
        now = running.clock()
        token = other.session_token(now, exp=int(now) + 20)
        said = await verified(running, await assertion(running, echo, token))
        assert (said["nbf"], said["exp"]) == (now - 30, now + 50)


# --- what does not fit ------------------------------------------------------------------------------------------------


async def test_permissions_that_do_not_fit_are_left_out_and_said_once(running: Running, echo: Echo) -> None:
    permissions = [f"org:feature:{n}" for n in range(500)]
    token = long_token(running, v=..., org_id="org_1", org_role="org:admin", org_permissions=permissions)
    value = await assertion(running, echo, token)
    said = await verified(running, value)
    assert len(value) < MAX_BYTES
    assert ("org_permissions" in said, said["org_role"]) == (False, "org:admin")
    running.clock.seconds += 50
    await assertion(running, echo, token)
    told = [line for line in await running.logged() if line["event"] == "assertion_truncated"]
    assert [(line["upstream"], line["user"]) for line in told] == [("api", "user_1")]


async def test_what_cannot_be_made_to_fit_is_a_fault_and_goes_nowhere(
    upstream: ScriptedUpstream, echo: Echo, keys_dir: str
) -> None:
    identity = asserted(keys_dir=keys_dir) | {"max_bytes": 65_536}
    async with gateway(upstream.port, identity=identity) as running:
        token = running.token(v=..., org_id="org_1", org_slug="a" * 7000)
        assert (await running.get("/x", token=token)).status == 500
        assert echo.requests == []


# --- the key set ------------------------------------------------------------------------------------------------------


async def test_the_key_set_is_public_and_may_be_kept_for_some_minutes(running: Running) -> None:
    answer = await running.get(KEY_SET)
    (key,) = answer.json["keys"]
    assert set(key) == {"kty", "crv", "x", "y", "use", "alg", "kid"}
    assert answer.value("cache-control") == "public, max-age=600"
    assert answer.value("content-type") == "application/json"
    assert (await running.ask("HEAD", KEY_SET)).status == 200
    assert (await running.ask("POST", KEY_SET)).status == 405


async def test_eddsa(upstream: ScriptedUpstream, echo: Echo, keys_dir: str) -> None:
    async with gateway(upstream.port, identity=asserted(keys_dir=keys_dir, algorithm="EdDSA")) as running:
        value = await assertion(running, echo)
        assert jwt.get_unverified_header(value)["alg"] == "EdDSA"
        assert await verified(running, value)


async def test_a_rotation_while_it_runs(running: Running, echo: Echo, tmp_path: Path, keys_dir: str) -> None:
    old = await kids(running)
    command(running, tmp_path)
    await looked(running)
    both = await kids(running)
    assert (len(both), both[:1]) == (2, old)
    token = long_token(running, exp=int(running.clock() + 3 * AHEAD_S))
    before = await assertion(running, echo, token)
    running.clock.seconds += AHEAD_S - 11
    assert jwt.get_unverified_header(await assertion(running, echo, token))["kid"] == old[0]
    running.clock.seconds += 11
    await looked(running)
    after = await assertion(running, echo, token)
    assert jwt.get_unverified_header(after)["kid"] == both[1]
    assert await verified(running, after)
    assert await verified(running, before, at=running.clock() - AHEAD_S)  # an old one is verified still
    running.clock.seconds += KEPT_S
    await looked(running)
    assert await kids(running) == both[1:]
    assert os.listdir(keys_dir) == ["signing-key-000002.json"]


async def test_a_key_that_leaked_is_replaced_at_once(running: Running, echo: Echo, tmp_path: Path) -> None:
    token, old = long_token(running), await kids(running)
    await assertion(running, echo, token)
    command(running, tmp_path, at_once=True)
    await looked(running)
    value = await assertion(running, echo, token)
    assert jwt.get_unverified_header(value)["kid"] not in old
    assert not set(await kids(running)) & set(old)
    assert await verified(running, value)


async def test_gateways_on_one_directory_verify_each_other(
    running: Running, upstream: ScriptedUpstream, echo: Echo, keys_dir: str
) -> None:
    async with gateway(upstream.port, identity=asserted(keys_dir=keys_dir)) as other:
        assert await verified(other, await assertion(running, echo))
        assert await verified(running, await assertion(other, echo))


async def test_a_directory_that_vanishes_stops_nobody(running: Running, echo: Echo, keys_dir: str) -> None:
    before = await kids(running)
    shutil.rmtree(keys_dir)
    write(keys_dir, "")
    for _ in range(2):
        await looked(running)
    assert await kids(running) == before
    assert await verified(running, await assertion(running, echo))
    told = [line for line in await running.logged() if line["event"] == "signing_keys_trouble"]
    assert len(told) == 1
    os.unlink(keys_dir)
    await looked(running)
    assert os.listdir(keys_dir) == ["signing-key-000001.json"]


async def test_nothing_of_a_key_is_logged(running: Running, echo: Echo) -> None:
    value = await assertion(running, echo)
    text = json.dumps(await running.logged())
    assert "signing_key_made" in text
    assert "PRIVATE" not in text
    assert value.rpartition(".")[2] not in text


def command(running: Running, tmp_path: Path, *, at_once: bool = False) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text(running.file.text)
    lines: list[str] = []
    assert rotate(str(file), {}, at_once=at_once, now=running.clock(), write=lines.append) == 0, lines


# --- starting and reloading -------------------------------------------------------------------------------------------


async def test_it_can_be_turned_on_and_off_while_the_gateway_runs(
    upstream: ScriptedUpstream, echo: Echo, keys_dir: str
) -> None:
    async with gateway(upstream.port) as running:
        token = running.token()
        await running.get("/x", token=token)
        assert echo.last.values(HEADER) == []
        assert await reload(running, upstream, **asserted(keys_dir=keys_dir)) == ["assertion"]
        assert await verified(running, await assertion(running, echo, token))
        first = await kids(running)
        assert await reload(running, upstream) == ["assertion"]
        await running.get("/x", token=token)
        assert echo.last.values(HEADER) == []
        assert (await running.get(KEY_SET)).status == 401
        running.pass_time(20)
        assert running.app._assertions._looking is None
        await reload(running, upstream, **asserted(keys_dir=keys_dir))
        assert await kids(running) == first


@pytest.mark.parametrize(
    ("change", "claim", "value"),
    [
        pytest.param({"ttl_s": 30}, "exp", 30, id="ttl"),
        pytest.param({"issuer": "https://other.example.com"}, "iss", "https://other.example.com", id="issuer"),
    ],
)
async def test_a_reload_changes_what_is_said_to_a_token_seen_before(
    running: Running, upstream: ScriptedUpstream, echo: Echo, keys_dir: str, change: dict[str, Any], claim: str,
    value: Any,
) -> None:  # fmt: skip
    token = running.token()
    await assertion(running, echo, token)
    await reload(running, upstream, **asserted(keys_dir=keys_dir, **change))
    said = jwt.decode(await assertion(running, echo, token), options={"verify_signature": False})
    assert said[claim] == (running.clock() + value if claim == "exp" else value)


async def test_a_reload_to_a_directory_that_is_no_use_changes_nothing(
    running: Running, upstream: ScriptedUpstream, echo: Echo, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    os.makedirs(other, mode=0o700)
    write(f"{other}/signing-key-000001.json", "{}")
    before = await kids(running)
    with pytest.raises(ConfigError) as refused:
        await reload(running, upstream, **asserted(keys_dir=str(other)))
    assert [finding.key for finding in refused.value.findings] == ["identity.assertion.keys_dir"]  # type: ignore[attr-defined]
    assert await kids(running) == before
    await looked(running)
    assert await verified(running, await assertion(running, echo))


async def test_a_reload_to_another_directory_signs_with_its_keys(
    running: Running, upstream: ScriptedUpstream, echo: Echo, tmp_path: Path
) -> None:
    token, before = running.token(), await kids(running)
    await assertion(running, echo, token)
    await reload(running, upstream, **asserted(keys_dir=str(tmp_path / "other")))
    assert await kids(running) != before
    assert await verified(running, await assertion(running, echo, token))


async def test_a_gateway_without_keys_does_not_start(upstream: ScriptedUpstream, keys_dir: str) -> None:
    os.makedirs(keys_dir, mode=0o700)
    write(f"{keys_dir}/signing-key-000001.json", "{}")
    with pytest.raises(ConfigError, match="is not a signing key"):
        async with gateway(upstream.port, identity=asserted(keys_dir=keys_dir)):
            pass
