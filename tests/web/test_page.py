"""How a document is read: under which URL its browser knows it, whose cookies count, where it may be sent."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.config.clerk import cookie_suffix
from gateway.net import handshakes
from gateway.web import returning
from tests.config.files import publishable_key
from tests.fakes.clerk import FakeClerk
from tests.fakes.clerk_api import FakeBackendApi, World
from tests.fakes.gateway import APP, CLERK, Running, gateway
from tests.fakes.pages import DEV, DOCUMENT, FETCH, SIGN_IN, SUFFIX, cookies, location, pages, session
from tests.fakes.upstream import Echo, ScriptedUpstream

TWO = FakeClerk("https://clerk.two.example", kid="ins_two", key_name="other")
TWO_KEY = publishable_key("clerk.two.example").rstrip("=")
HANDSHAKE = "https://clerk.example.com/v1/client/handshake"


@pytest.fixture
async def api() -> AsyncIterator[FakeBackendApi]:
    async with FakeBackendApi(World()) as started:
        yield started


@pytest.fixture
async def echo() -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream(Echo()) as started:
        yield started


async def asked_by(running: Running, **fields: str) -> str:
    """Give the URL that a handshake comes back to."""
    answer = await running.get("/x", fields=DOCUMENT | cookies(__client_uat=5) | fields)
    return location(answer)[1]["redirect_url"]


async def test_the_handshake_comes_back_to_the_public_url(echo: ScriptedUpstream, api: FakeBackendApi) -> None:
    proxies = {"trusted_proxies": ["127.0.0.0/8"]}
    forwarded = {"X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "https"}
    async with pages(echo.port, api, settings=proxies) as running:
        assert await asked_by(running) == await asked_by(running, **forwarded) == f"{APP}/x"
    async with pages(echo.port, api, public_url=None) as running:
        assert await asked_by(running) == await asked_by(running, **forwarded) == "http://gw.example.com/x"
    async with pages(echo.port, api, public_url=None, settings=proxies) as running:
        assert await asked_by(running, **forwarded) == "https://evil.example/x"
        assert await asked_by(running, **{"X-Forwarded-Host": "evil.example/?"}) == "http://gw.example.com/x"


async def test_who_says_no_host_is_sent_nowhere(echo: ScriptedUpstream, api: FakeBackendApi) -> None:
    async with pages(echo.port, api, public_url=None, sign_in_url=SIGN_IN) as running:
        for line in (b"GET /x HTTP/1.0\r\n", b"GET /x HTTP/1.1\r\nHost: gw.example.com:99999\r\n"):
            answer = await running.raw(line + b"Sec-Fetch-Dest: document\r\nCookie: __client_uat=5\r\n\r\n")
            assert (answer.status, answer.json["reason"]) == (401, "client-uat-but-no-session-token")


async def test_a_loop_ends_after_three(echo: ScriptedUpstream, api: FakeBackendApi) -> None:
    async with pages(echo.port, api, sign_in_url=SIGN_IN) as running:
        for made, count in ((0, 1), (1, 2), (2, 3)):
            answer = await running.get("/x", fields=DOCUMENT | cookies(__client_uat=5, __clerk_redirect_count=made))
            assert answer.status == 307
            assert answer.value("set-cookie") == f"__clerk_redirect_count={count}; SameSite=Lax; HttpOnly; Max-Age=2"
        for made in (3, 4, 999):
            answer = await running.get("/x", fields=DOCUMENT | cookies(__client_uat=5, __clerk_redirect_count=made))
            assert (answer.status, answer.json["reason"]) == (401, "client-uat-but-no-session-token")
            assert answer.value("set-cookie") is None
            answer = await running.get(
                "/optional/x", fields=DOCUMENT | cookies(__client_uat=5, __clerk_redirect_count=made)
            )
            assert answer.status == 200


async def test_a_location_has_a_length(echo: ScriptedUpstream, api: FakeBackendApi) -> None:
    async with pages(echo.port, api) as running:
        answer = await running.get("/x", fields=DOCUMENT | cookies(__session="%00" * 6000))
        assert (answer.status, answer.json["reason"]) == (401, "session-token-but-no-client-uat")


async def test_among_many_cookies_the_first_of_a_name_counts(echo: ScriptedUpstream, api: FakeBackendApi) -> None:
    async with pages(echo.port, api) as running:
        good = session(running.token(), 5)
        many = [f"other{number}={number}" for number in range(400)]
        copies = [f"__session={running.token(sub='user_2')}", "__client_uat=0"] * 10
        first = [f"{name}={value}" for name, value in good.items()]
        answer = await running.get("/x", fields=DOCUMENT | cookies(*many, *first, *copies))
        assert dict(answer.json["headers"])["X-User-Id"] == "user_1"


async def test_cookies_of_another_application_are_not_looked_at(echo: ScriptedUpstream, api: FakeBackendApi) -> None:
    async with pages(echo.port, api) as running:
        foreign = TWO.session_token(running.clock())
        suffix = cookie_suffix(TWO_KEY)
        theirs = {"__session": foreign, f"__session_{suffix}": foreign, f"__client_uat_{suffix}": 5}
        answer = await running.get("/x", fields=DOCUMENT | cookies(**theirs))
        assert (answer.status, answer.json["reason"]) == (401, "session-token-and-uat-missing")
        answer = await running.get("/x", fields=DOCUMENT | cookies(**(session(running.token(), 5) | theirs)))
        assert dict(answer.json["headers"])["X-User-Id"] == "user_1"


# --- satellites ------------------------------------------------------------------------------------------------------


async def test_a_satellite_in_production_asks_its_own_frontend_api(echo: ScriptedUpstream, api: FakeBackendApi) -> None:
    public = {"public_url": "https://www.sat.example"}
    async with pages(
        echo.port, api, satellite=True, domain="sat.example", sign_in_url=SIGN_IN, settings=public
    ) as running:
        answer = await running.get("/x", fields=DOCUMENT)
        assert location(answer) == (SIGN_IN, {"redirect_url": "https://www.sat.example/x?__clerk_synced=false"})
        answer = await running.get("/x?__clerk_synced=false", fields=DOCUMENT)
        address, asked = location(answer)
        assert address == "https://clerk.sat.example/v1/client/handshake"
        assert asked["__clerk_hs_reason"] == "satellite-needs-syncing"
        assert (await running.get("/x?__clerk_synced=true", fields=DOCUMENT)).status == 302
        for issuer in ("https://clerk.sat.example", CLERK.issuer):
            token = running.token(iss=issuer)
            assert (await running.get("/x", token=token)).status == 200
        own = session(running.token(iss="https://clerk.sat.example"), 5)
        elsewhere = {"Referer": "https://primary.example/"}
        assert (await running.get("/x", fields=DOCUMENT | cookies(**own) | elsewhere)).status == 200


async def test_a_satellite_in_development_asks_its_primary(echo: ScriptedUpstream, api: FakeBackendApi) -> None:
    more: dict[str, Any] = {"satellite": True, "domain": "sat.example", "sign_in_url": "http://localhost:3000/sign-in"}
    async with pages(echo.port, api, DEV, public_url="http://localhost:3001", **more) as running:
        answer = await running.get("/x?__clerk_synced=false", fields=DOCUMENT)
        assert (answer.status, answer.value("x-clerk-auth-reason")) == (307, "satellite-needs-syncing")
        asked = {"__clerk_redirect_url": "http://localhost:3001/x?__clerk_synced=false"}
        assert location(answer) == ("http://localhost:3000/sign-in", asked)


async def test_a_primary_in_development_answers_its_satellites(echo: ScriptedUpstream, api: FakeBackendApi) -> None:
    async with pages(echo.port, api, DEV) as running:
        came = DOCUMENT | cookies(__clerk_db_jwt="dvb_1")
        target = "/x?__clerk_redirect_url=http%3A%2F%2Flocalhost%3A3001%2Fy%3F__clerk_synced%3Dfalse"
        answer = await running.get(target, fields=came)
        assert answer.value("x-clerk-auth-reason") == "primary-responds-to-syncing"
        assert location(answer) == ("http://localhost:3001/y", {"__clerk_db_jwt": "dvb_1", "__clerk_synced": "true"})
        answer = await running.get("/x?__clerk_redirect_url=https%3A%2F%2Fevil.example%2Fy", fields=came)
        assert (answer.status, answer.json["reason"]) == (401, "session-token-and-uat-missing")


# --- several instances -----------------------------------------------------------------------------------------------


@pytest.fixture
async def both(echo: ScriptedUpstream, api: FakeBackendApi) -> AsyncIterator[tuple[Running, FakeBackendApi]]:
    async with FakeBackendApi(World(), secret_key="sk_live_twotwotwo", clerk=TWO) as other:
        issuers = [
            {"name": clerk.kid, "publishable_key": key, "jwks_url": f"{asked.url}/.well-known/jwks.json",
             "authorized_parties": [APP], "handshake": True, "secret_key": asked.secret_key, "api_url": asked.url}
            for clerk, key, asked in ((CLERK, publishable_key("clerk.example.com"), api), (TWO, TWO_KEY, other))
        ]  # fmt: skip
        routes = [
            {"name": "two", "path": "/two/*", "upstream": "api", "issuer": "ins_two"},
            {"name": "any", "path": "/*", "upstream": "api"},
        ]
        async with gateway(echo.port, clerk={}, issuers=issuers, routes=routes, public_url=APP) as running:
            yield running, other


def of_two(running: Running, **claims: Any) -> dict[str, str]:
    token, suffix = TWO.session_token(running.clock(), **claims), cookie_suffix(TWO_KEY)
    return {f"__session_{suffix}": token, f"__client_uat_{suffix}": "5"}


async def test_the_cookies_instance_is_asked(both: tuple[Running, FakeBackendApi]) -> None:
    running, _other = both
    old = of_two(running, exp=int(running.clock()) - 60)
    for fields in (cookies(**old), cookies(__client_uat=0, **old)):
        answer = await running.get("/x", fields=DOCUMENT | fields)
        assert location(answer)[0] == "https://clerk.two.example/v1/client/handshake"
    answer = await running.get("/x", token=TWO.session_token(running.clock(), exp=5), fields=DOCUMENT)
    assert location(answer)[0] == "https://clerk.two.example/v1/client/handshake"
    answer = await running.get("/x", token="garbage", fields=DOCUMENT)
    assert (answer.status, answer.json["reason"]) == (401, "token-invalid")
    answer = await running.get("/x", fields=DOCUMENT | cookies(__client_uat=5))
    assert location(answer)[0] == HANDSHAKE
    uat = f"__client_uat_{cookie_suffix(TWO_KEY)}"
    answer = await running.get("/x", fields=DOCUMENT | cookies(**{uat: 5}))
    assert answer.status == 307


async def test_the_routes_instance_is_asked(both: tuple[Running, FakeBackendApi]) -> None:
    running, _other = both
    mine = session(running.token(), 5)
    answer = await running.get("/two/x", fields=DOCUMENT | cookies(__client_uat=5))
    assert location(answer)[0] == "https://clerk.two.example/v1/client/handshake"
    answer = await running.get("/two/x", fields=DOCUMENT | cookies(**(mine | of_two(running))))
    assert dict(answer.json["headers"])["X-User-Id"] == "user_1"


async def test_a_nonce_is_exchanged_by_whose_it_is(both: tuple[Running, FakeBackendApi], api: FakeBackendApi) -> None:
    running, other = both
    token = TWO.session_token(running.clock(), sub="user_2")
    other.nonces["n1"] = [f"__session={token}; Path=/"]
    answer = await running.get("/x", fields=DOCUMENT | cookies(__clerk_handshake_nonce="n1"))
    assert dict(answer.json["headers"])["X-User-Id"] == "user_2"
    api.nonces["n2"] = [f"__session={running.token()}; Path=/"]
    answer = await running.get("/two/x", fields=DOCUMENT | cookies(__clerk_handshake_nonce="n2"))
    assert (answer.status, "n2" in api.nonces) == (401, True)  # the route's own alone is asked
    await api.stop()
    other.nonces["n3"] = [f"__session={token}; Path=/"]
    answer = await running.get("/x", fields=DOCUMENT | cookies(__clerk_handshake_nonce="n3"))
    assert answer.status == 200
    answer = await running.get("/x", fields=DOCUMENT | cookies(__clerk_handshake_nonce="n4"))
    assert answer.status == 503


async def test_a_handshakes_token_is_verified_by_whose_it_is(both: tuple[Running, FakeBackendApi]) -> None:
    running, _other = both
    token = TWO.session_token(running.clock(), sub="user_2")
    for signer, status in ((TWO, 200), (FakeClerk(kid="ins_two"), 307)):
        came = cookies(__client_uat=5, __clerk_handshake=signer.mint({"handshake": [f"__session={token}"]}))
        assert (await running.get("/x", fields=DOCUMENT | came)).status == status


async def test_what_one_instance_brings_is_not_the_others(
    both: tuple[Running, FakeBackendApi], api: FakeBackendApi
) -> None:
    running, _other = both
    token = TWO.session_token(running.clock(), sub="user_2", azp=APP)
    assert (await running.get("/x", token=token)).status == 200  # remembered from here on
    api.nonces["n1"] = [f"__session={token}; Path=/"]
    answer = await running.get("/x", fields=DOCUMENT | cookies(__clerk_handshake_nonce="n1"))
    assert (answer.status, answer.json["reason"]) == (401, "token-invalid-issuer")
    assert answer.values("set-cookie") == []
    api.refreshes["r1"] = [f"__session={token}; Path=/"]
    old = running.token(exp=int(running.clock()) - 60)
    answer = await running.get("/x", fields=FETCH | cookies(**session(old, 5), **{f"__refresh_{SUFFIX}": "r1"}))
    assert (answer.status, answer.json["reason"]) == (401, "session-token-expired-refresh-invalid-session-token")


async def test_a_token_in_anothers_cookie_refreshes_no_session(both: tuple[Running, FakeBackendApi]) -> None:
    running, other = both
    suffix = cookie_suffix(TWO_KEY)
    other.refreshes["r1"] = [f"__session={TWO.session_token(running.clock())}; Path=/"]
    old = TWO.session_token(running.clock(), exp=int(running.clock()) - 60)
    swapped = {f"__session_{SUFFIX}": old, f"__client_uat_{SUFFIX}": 5}
    out = {f"__client_uat_{suffix}": 0, f"__refresh_{suffix}": "r1"}
    for asked in (FETCH, DOCUMENT):
        answer = await running.get("/x", fields=asked | cookies(**swapped, **out))
        assert (answer.status, answer.json["reason"]) == (401, "token-invalid-issuer")
    assert not [asked for asked in other.requests if asked.startswith("POST")]


async def test_all_instances_together_are_waited_for_no_longer_than_one(
    both: tuple[Running, FakeBackendApi], api: FakeBackendApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    running, other = both
    monkeypatch.setattr(returning, "WAIT_S", 0.01)
    api.hold = other.hold = asyncio.Event()
    async with asyncio.timeout(handshakes.WAIT_S - 1):
        answer = await running.get("/x", fields=DOCUMENT | cookies(__clerk_handshake_nonce="n1"))
    assert answer.status == 503
