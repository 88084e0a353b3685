"""Documents that come back from Clerk's handshake, in production with a cookie, in development with a parameter."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.net import handshakes
from tests.fakes.clerk import TEMPLATE, FakeClerk, rsa_key
from tests.fakes.clerk_api import Canned, FakeBackendApi, World, errors
from tests.fakes.gateway import APP, CLERK, Running
from tests.fakes.pages import DEV, DOCUMENT, FETCH, SIGN_IN, SUFFIX, cookies, location, pages, session
from tests.fakes.upstream import Echo, ScriptedUpstream

BROUGHT = "__clerk_handshake_nonce"
OTHER = FakeClerk("https://clerk.other.example", kid="ins_test", key_name="other")


@pytest.fixture
async def api() -> AsyncIterator[FakeBackendApi]:
    async with FakeBackendApi(World()) as started:
        yield started


@pytest.fixture
async def echo() -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream(Echo()) as started:
        yield started


def directives(running: Running, clerk: FakeClerk = CLERK, **claims: Any) -> list[str]:
    token = clerk.session_token(running.clock(), **claims)
    return [f"__session={token}; Path=/; Secure", f"__client_uat={int(running.clock())}; Path=/; Domain=example.com"]


async def test_in_production_the_request_goes_on_with_the_cookies(echo: ScriptedUpstream, api: FakeBackendApi) -> None:
    async with pages(echo.port, api) as running:
        api.nonces["n1"] = [*directives(running), "sid=evil; Path=/"]
        came = cookies("theme=dark", __client_uat=5, **{BROUGHT: "n1"})
        answer = await running.get("/x?a=1", fields=DOCUMENT | came)
        assert answer.status == 200
        assert answer.values("set-cookie") == directives(running)
        assert answer.value("cache-control") == "no-store"
        assert answer.value("x-clerk-auth-status") is None
        received = dict(answer.json["headers"])
        assert received["X-User-Id"] == "user_1"
        assert received["Cookie"] == "theme=dark"


async def test_an_upstream_that_gets_tokens_gets_those_of_afterwards(
    echo: ScriptedUpstream, api: FakeBackendApi
) -> None:
    upstreams = {"api": {"url": f"http://127.0.0.1:{echo.port}", "forward_token": True}}
    async with pages(echo.port, api, settings={"upstreams": upstreams}) as running:
        api.nonces["n1"] = directives(running)
        came = cookies("theme=dark", __session="old", __client_uat=5, **{BROUGHT: "n1"}, __clerk_redirect_count=1)
        answer = await running.get("/x", fields=DOCUMENT | came)
        now = int(running.clock())
        sent = f"theme=dark; __session={running.token()}; __client_uat={now}"
        assert dict(answer.json["headers"])["Cookie"] == sent


async def test_in_development_the_document_is_asked_for_again_without_its_traces(
    echo: ScriptedUpstream, api: FakeBackendApi
) -> None:
    async with pages(echo.port, api, DEV) as running:
        api.nonces["n1"] = directives(running, DEV)
        target = f"/x?a=%20+&{BROUGHT}=n1&__clerk_db_jwt=dvb_1&__clerk_help&b"
        answer = await running.get(target, fields=DOCUMENT)
        assert (answer.status, answer.value("location")) == (307, f"{APP}/x?a=%20+&b")
        assert answer.values("set-cookie") == directives(running, DEV)
        assert answer.value("cache-control") == "no-store"
        assert answer.value("x-clerk-auth-status") is None
        # Asked for once more it is worth nothing.
        again = await running.get(target, fields=DOCUMENT)
        assert (again.status, again.value("location"), again.values("set-cookie")) == (307, f"{APP}/x?a=%20+&b", [])
        assert (again.value("x-clerk-auth-status"), again.value("x-clerk-auth-reason")) == (
            "signed-out",
            "session-token-missing",
        )


async def test_a_link_does_not_sign_anybody_in_in_production(echo: ScriptedUpstream, api: FakeBackendApi) -> None:
    async with pages(echo.port, api) as running:
        api.nonces["n1"] = directives(running)
        answer = await running.get(f"/x?{BROUGHT}=n1", fields=DOCUMENT)
        assert (answer.status, answer.values("set-cookie")) == (401, [])
        assert api.requests == []


async def test_only_a_document_is_signed_in_that_way(echo: ScriptedUpstream, api: FakeBackendApi) -> None:
    async with pages(echo.port, api) as running:
        api.nonces["n1"] = directives(running)
        came = cookies(**session(running.token(), 5), **{BROUGHT: "n1"})
        assert (await running.get("/x", fields=FETCH | came)).status == 200
        assert (await running.ask("POST", "/x", fields=DOCUMENT | came | {"Origin": APP})).status == 200
        assert api.requests == []


async def test_a_token_in_the_header_comes_first(echo: ScriptedUpstream, api: FakeBackendApi) -> None:
    async with pages(echo.port, api) as running:
        answer = await running.get("/x", token=running.token(), fields=DOCUMENT | cookies(**{BROUGHT: "n1"}))
        assert (answer.status, api.requests) == (200, [])


async def test_a_handshake_that_ends_signed_out(echo: ScriptedUpstream, api: FakeBackendApi) -> None:
    out = "__client_uat=0; Path=/"
    async with pages(echo.port, api, sign_in_url=SIGN_IN) as running:
        came = cookies(__client_uat=5, **{BROUGHT: "n1"})
        api.nonces["n1"] = [out]
        answer = await running.get("/x", fields=DOCUMENT | came)
        assert (answer.status, location(answer)) == (302, (SIGN_IN, {"redirect_url": f"{APP}/x"}))
        assert answer.values("set-cookie") == [out]
        assert answer.value("x-clerk-auth-reason") == "session-token-missing"
        api.nonces["n1"] = [out]
        answer = await running.get("/optional/x", fields=DOCUMENT | came)
        assert (answer.status, answer.values("set-cookie")) == (200, [out])
        assert "X-User-Id" not in dict(answer.json["headers"])
        api.nonces["n1"] = ["__session=; Path=/; Max-Age=0"]
        assert (await running.get("/x", fields=DOCUMENT | came)).status == 302


async def test_one_address_does_not_take_every_place(
    echo: ScriptedUpstream, api: FakeBackendApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handshakes, "EACH", 1)
    fields = {"Connection": "close"} | DOCUMENT
    async with pages(echo.port, api, settings={"trusted_proxies": ["127.0.0.1/32"]}) as running:
        api.nonces["n2"] = directives(running)
        api.hold = asyncio.Event()
        first = asyncio.create_task(running.get("/x", fields=fields | cookies(**{BROUGHT: "n0"})))
        while not api.requests:
            await asyncio.sleep(0)
        assert (await running.get("/x", fields=fields | cookies(**{BROUGHT: "n1"}))).status == 503
        came = cookies(**{BROUGHT: "n2"}) | {"X-Forwarded-For": "192.0.2.1"}
        other = asyncio.create_task(running.get("/x", fields=fields | came))
        while len(api.requests) < 2:
            await asyncio.sleep(0)
        api.hold.set()
        assert ((await first).status, (await other).status) == (401, 200)


async def test_a_used_up_nonce_takes_nothing_from_good_cookies(echo: ScriptedUpstream, api: FakeBackendApi) -> None:
    async with pages(echo.port, api) as running:
        good, used = session(running.token(), 5), {BROUGHT: "n1"}
        assert (await running.get("/x", fields=DOCUMENT | cookies(**good, **used))).status == 200
        answer = await running.get("/x", fields=DOCUMENT | cookies(__client_uat=5, **used))
        assert (answer.status, answer.json["reason"]) == (401, "session-token-missing")


@pytest.mark.parametrize("nonce", ["", "a b", "a" * 600, "ä"])
async def test_what_has_not_the_form_of_a_nonce_is_not_asked_for(
    echo: ScriptedUpstream, api: FakeBackendApi, nonce: str
) -> None:
    async with pages(echo.port, api) as running:
        answer = await running.get("/x", fields=DOCUMENT | cookies(**session(running.token(), 5), **{BROUGHT: nonce}))
        assert (answer.status, api.requests) == (200, [])


@pytest.mark.parametrize(
    "canned",
    [Canned(500), Canned(429, errors("too_many")), Canned(200, b"<html>"), Canned(401, errors("clerk_key_invalid"))],
)
async def test_what_clerk_does_not_say_is_never_refused(
    echo: ScriptedUpstream, api: FakeBackendApi, canned: Canned
) -> None:
    async with pages(echo.port, api, sign_in_url=SIGN_IN) as running:
        for target in ("/x", "/optional/x"):
            api.canned.append(canned)
            answer = await running.get(target, fields=DOCUMENT | cookies(__client_uat=5, **{BROUGHT: "n1"}))
            assert (answer.status, answer.json["code"]) == (503, "clerk_unavailable")
            assert answer.value("retry-after")
        api.canned.append(canned)
        good = cookies(**session(running.token(), 5), **{BROUGHT: "n1"})
        assert (await running.get("/x", fields=DOCUMENT | good)).status == 200
        assert "n1" not in str(await running.logged())


async def test_in_development_it_leaves_the_url_all_the_same(echo: ScriptedUpstream, api: FakeBackendApi) -> None:
    async with pages(echo.port, api, DEV) as running:
        api.canned.append(Canned(500))
        good = cookies(__session=DEV.session_token(running.clock()), __client_uat=5, __clerk_db_jwt="dvb")
        answer = await running.get(f"/x?{BROUGHT}=n1&__clerk_db_jwt=dvb", fields=DOCUMENT | good)
        assert (answer.status, answer.value("location")) == (307, f"{APP}/x")


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        pytest.param({"exp": 5}, "token-expired", id="clock-ahead"),
        pytest.param({"iat": 9_999_999_999, "exp": 9_999_999_999}, "token-iat-in-the-future", id="clock-behind"),
        pytest.param({"azp": ...}, "token-invalid-authorized-parties", id="no-party"),
    ],
)
@pytest.mark.parametrize("clerk", [CLERK, DEV], ids=["production", "development"])
async def test_a_fresh_session_that_is_not_good_goes_in_no_circles(
    echo: ScriptedUpstream, api: FakeBackendApi, clerk: FakeClerk, claims: dict[str, Any], reason: str
) -> None:
    async with pages(echo.port, api, clerk, sign_in_url=SIGN_IN) as running:
        for target, came in ((f"/x?{BROUGHT}=n1", {}), ("/x", {BROUGHT: "n1"})):
            api.nonces["n1"] = directives(running, clerk, **claims)
            if clerk is CLERK and not came:
                continue
            answer = await running.get(target, fields=DOCUMENT | cookies(__client_uat=5, __clerk_db_jwt="d", **came))
            assert (answer.status, answer.json["reason"], answer.value("location")) == (401, reason, None)


# --- the signed token, which older Frontend APIs send ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("minted", "is_good"),
    [
        pytest.param({}, True, id="session"),
        pytest.param({"drop_header": ["cat"]}, True, id="no-category"),
        pytest.param({"header": {"cat": TEMPLATE}}, False, id="template"),
        pytest.param({"header": {"typ": "at+jwt"}}, False, id="oauth"),
        pytest.param({"key": rsa_key("other")}, False, id="another-key"),
        pytest.param({"header": {"alg": "none"}}, False, id="not-signed"),
    ],
)
@pytest.mark.parametrize("clerk", [CLERK, DEV], ids=["production", "development"])
async def test_a_handshakes_token_has_to_be_the_instances_own(
    echo: ScriptedUpstream, api: FakeBackendApi, clerk: FakeClerk, minted: dict[str, Any], is_good: bool
) -> None:
    async with pages(echo.port, api, clerk, sign_in_url=SIGN_IN) as running:
        token = clerk.mint({"handshake": directives(running, clerk)}, **minted)
        if clerk is DEV:
            answer = await running.get(f"/x?__clerk_handshake={token}", fields=DOCUMENT)
            assert answer.status == (307 if is_good else 401)
        else:
            came = cookies(__client_uat=5, __clerk_handshake=token)
            answer = await running.get("/x", fields=DOCUMENT | came)
            # Another application's, perhaps: once more, as often as the guard allows.
            assert answer.status == (200 if is_good else 307)
            if not is_good:
                assert location(answer)[0] == "https://clerk.example.com/v1/client/handshake"
                count = cookies(__client_uat=5, __clerk_handshake=token, __clerk_redirect_count=3)
                assert (await running.get("/x", fields=DOCUMENT | count)).status == 401
        assert (len(answer.values("set-cookie")) == 2) is is_good


async def test_a_handshakes_token_without_cookies(echo: ScriptedUpstream, api: FakeBackendApi) -> None:
    async with pages(echo.port, api) as running:
        for said in ([], "__session=x", None):
            came = cookies(__client_uat=5, __clerk_handshake=CLERK.mint({"handshake": said}))
            answer = await running.get("/x", fields=DOCUMENT | came)
            assert (answer.status, answer.json["reason"]) == (401, "session-token-missing")


async def test_a_handshakes_token_of_an_unknown_key(echo: ScriptedUpstream, api: FakeBackendApi) -> None:
    async with pages(echo.port, api, jwt_key=None, jwks_url=f"{api.url}/.well-known/jwks.json") as running:
        mine, other = ({"handshake": directives(running)}, {"header": {"kid": "ins_other"}})
        good, bad = (CLERK.mint(mine, **more) for more in ({}, other))
        for token, status in ((good, 200), (bad, 307)):
            answer = await running.get("/x", fields=DOCUMENT | cookies(__client_uat=5, __clerk_handshake=token))
            assert answer.status == status


def test_the_suffix_is_that_of_the_key() -> None:
    assert SUFFIX == "naoXFJnI"
