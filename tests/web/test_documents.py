"""What documents get where an instance has pages, and that everything else is as it was."""

from collections.abc import AsyncIterator

import pytest

from gateway.web import documents
from tests.fakes.clerk_api import FakeBackendApi, World
from tests.fakes.gateway import APP, CLERK, Running, gateway
from tests.fakes.pages import DEV, DOCUMENT, FETCH, KEY, SIGN_IN, SUFFIX, cookies, location, pages, session
from tests.fakes.upstream import Echo, ScriptedUpstream

HANDSHAKE = "https://clerk.example.com/v1/client/handshake"
ROUTES = [
    {"name": "public", "path": "/public/*", "upstream": "api", "auth": "public"},
    {"name": "staff", "path": "/staff/*", "upstream": "api", "auth": "optional", "require": {"org": True}},
    {"name": "optional", "path": "/optional/*", "upstream": "api", "auth": "optional"},
    {"name": "rest", "path": "/*", "upstream": "api"},
]


@pytest.fixture
async def api() -> AsyncIterator[FakeBackendApi]:
    async with FakeBackendApi(World()) as started:
        yield started


@pytest.fixture
async def echo() -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream(Echo()) as started:
        yield started


@pytest.fixture
async def running(echo: ScriptedUpstream, api: FakeBackendApi) -> AsyncIterator[Running]:
    async with pages(echo.port, api, sign_in_url=SIGN_IN, settings={"routes": ROUTES}) as started:
        yield started


async def test_nobody_goes_in_circles_between_here_and_the_sign_in_page(running: Running) -> None:
    elsewhere = running.token(azp="https://elsewhere.example")
    for fields in (cookies(**session(elsewhere, 5)), {"Authorization": f"Bearer {elsewhere}"}):
        answer = await running.get("/x", fields=DOCUMENT | fields)
        assert (answer.status, answer.json["reason"]) == (401, "token-invalid-authorized-parties")


async def test_a_document_that_stays_signed_out_goes_to_the_sign_in_page(running: Running) -> None:
    answer = await running.get("/x?a=1", fields=DOCUMENT)
    assert (answer.status, answer.value("cache-control")) == (302, "no-store")
    assert location(answer) == (SIGN_IN, {"redirect_url": f"{APP}/x?a=1"})
    assert answer.value("x-clerk-auth-status") == "signed-out"
    assert answer.value("x-clerk-auth-reason") == "session-token-and-uat-missing"
    answer = await running.get("/x", token=running.token(iss="https://other.example"), fields=DOCUMENT)
    assert answer.status == 302
    assert answer.value("x-clerk-auth-message") == (
        "Invalid JWT issuer claim (iss). (reason=token-invalid-issuer, token-carrier=header)"
    )


@pytest.mark.parametrize("method", ["GET", "POST", "HEAD"])
async def test_nothing_else_is_sent_anywhere(running: Running, method: str) -> None:
    for asked in (FETCH, {}, {"Accept": "application/json, text/html"}, DOCUMENT if method != "GET" else FETCH):
        answer = await running.ask(method, "/x", fields=asked | cookies(__client_uat=5))
        assert (answer.status, answer.value("location")) == (401, None)
        assert answer.value("x-clerk-auth-status") == "signed-out"
        assert answer.value("x-clerk-auth-reason") == "client-uat-but-no-session-token"


async def test_a_public_route_reads_nothing(running: Running, api: FakeBackendApi) -> None:
    came = cookies(__client_uat=5, __clerk_handshake_nonce="n1")
    answer = await running.get("/public/x?__clerk_handshake_nonce=n1", fields=DOCUMENT | came)
    assert (answer.status, api.requests) == (200, [])


async def test_an_optional_route_lets_nobody_in_only_where_clerk_knows_nobody(running: Running) -> None:
    answer = await running.get("/optional/x", fields=DOCUMENT)
    assert (answer.status, "X-User-Id" in dict(answer.json["headers"])) == (200, False)
    answer = await running.get("/optional/x", fields=DOCUMENT | cookies(__client_uat=5))
    assert (answer.status, location(answer)[0]) == (307, HANDSHAKE)
    answer = await running.get("/optional/x", fields=DOCUMENT | cookies(**session(running.token(), 5)))
    assert dict(answer.json["headers"])["X-User-Id"] == "user_1"
    answer = await running.get("/optional/x", token="garbage", fields=DOCUMENT)
    assert answer.status == 302


async def test_an_optional_route_that_requires_something_leads_to_the_sign_in_page(running: Running) -> None:
    assert (await running.get("/staff/x", fields=DOCUMENT)).status == 302
    answer = await running.get("/staff/x", fields=FETCH)
    assert (answer.status, answer.json["reason"]) == (401, "session-token-and-uat-missing")
    assert (await running.get("/staff/x", fields=DOCUMENT | cookies(**session(running.token(), 5)))).status == 403


async def test_a_link_from_another_site_is_looked_at_again(running: Running) -> None:
    good = cookies(**session(running.token(), 5))
    link = {"Referer": "https://sat.example/"}
    answer = await running.get("/x", fields=DOCUMENT | good | link)
    assert location(answer)[1]["__clerk_hs_reason"] == "primary-domain-cross-origin-sync"
    assert answer.value("x-clerk-auth-message") == "Cross-origin request from satellite domain requires handshake"
    for asked in (FETCH, {"Accept": "text/html"}, {"Sec-Fetch-Dest": "iframe"}):
        assert (await running.get("/x", fields=asked | good | link)).status == 200
    assert (await running.get("/x", fields=DOCUMENT | good | {"Referer": f"{APP}/y"})).status == 200
    counted = cookies(**session(running.token(), 5), __clerk_redirect_count=1)
    assert (await running.get("/x", fields=DOCUMENT | counted | link)).status == 200


async def test_the_sign_in_page_behind_the_gateway_is_not_sent_to_itself(
    echo: ScriptedUpstream, api: FakeBackendApi
) -> None:
    for sign_in_url in ("/sign-in", "https://www.example.com/sign-in"):
        routes = [{"name": "page", "path": "/sign-in", "upstream": "api", "auth": "public"}, *ROUTES[1:]]
        async with pages(echo.port, api, sign_in_url=sign_in_url, settings={"routes": routes}) as running:
            answer = await running.get("/x", fields=DOCUMENT)
            assert answer.status == 302
            assert (await running.get("/sign-in", fields=DOCUMENT)).status == 200
            # By another address than its own: it must not be led on and on.
            answer = await running.get("/sign-in/?redirect_url=x", fields=DOCUMENT)
            assert (answer.status, answer.value("location")) == (401, None)


async def test_a_location_has_a_length(running: Running) -> None:
    answer = await running.get("/x?" + "%" * 16_000, fields=DOCUMENT)
    assert (answer.status, answer.json["reason"]) == (401, "session-token-and-uat-missing")


async def test_without_handshake_only_the_sign_in_page_is_known(echo: ScriptedUpstream, api: FakeBackendApi) -> None:
    clerk = {"handshake": False, "secret_key": None, "sign_in_url": SIGN_IN}
    async with pages(echo.port, api, settings={"routes": ROUTES}, **clerk) as running:
        assert (await running.get("/staff/x", fields=DOCUMENT)).status == 302
        answer = await running.get("/x", fields=DOCUMENT | cookies(__client_uat=5))
        assert (answer.status, location(answer)[0]) == (302, SIGN_IN)
        assert answer.value("x-clerk-auth-reason") == "client-uat-but-no-session-token"
        good = cookies(**session(running.token(), 5))
        assert (await running.get("/x", fields=DOCUMENT | good)).status == 200
        old = session(running.token(exp=int(running.clock()) - 60), 5)
        answer = await running.get("/x", fields=FETCH | cookies(**old, __refresh_naoXFJnI="r1"))
        assert answer.json["reason"] == "session-token-expired-refresh-missing-api-client"
        assert (await running.get("/optional/x", fields=FETCH | cookies(**old, __refresh_naoXFJnI="r1"))).status == 200
        assert api.requests == []


async def test_without_pages_a_document_is_refused_as_any_request(echo: ScriptedUpstream) -> None:
    async with gateway(echo.port) as running:
        answer = await running.get("/x?__clerk_db_jwt=1", fields=DOCUMENT | cookies(__client_uat=5))
        assert (answer.status, answer.json["reason"]) == (401, "client-uat-but-no-session-token")


async def test_a_development_instance_wants_to_know_the_browser(echo: ScriptedUpstream, api: FakeBackendApi) -> None:
    async with pages(echo.port, api, DEV) as running:
        address = "https://happy-otter-1.clerk.accounts.dev/v1/client/handshake"
        answer = await running.get("/x", fields=DOCUMENT)
        assert location(answer)[0] == address
        assert location(answer)[1]["__clerk_hs_reason"] == "dev-browser-missing"
        answer = await running.get("/x?a=1&__clerk_db_jwt=dvb_2", fields=DOCUMENT | cookies(__clerk_db_jwt="dvb_1"))
        asked = location(answer)[1]
        assert (asked["__clerk_hs_reason"], asked["__clerk_db_jwt"]) == ("dev-browser-sync", "dvb_2")
        assert asked["redirect_url"] == f"{APP}/x?a=1"
        assert (await running.get("/x", fields=DOCUMENT | cookies(__clerk_db_jwt="dvb_1"))).status == 401


async def test_a_reload_turns_it_on_and_off(echo: ScriptedUpstream, api: FakeBackendApi) -> None:
    async with pages(echo.port, api) as running:
        came = DOCUMENT | cookies(__client_uat=5)
        assert (await running.get("/x", fields=came)).status == 307
        running.file.write(echo.port)
        await running.app.reload()
        assert (await running.get("/x", fields=came)).status == 401
        clerk = {"publishable_key": KEY, "sign_in_url": SIGN_IN, "authorized_parties": [APP], "jwks_url": None}
        running.file.write(echo.port, clerk=clerk | {"jwt_key": CLERK.pem()})
        await running.app.reload()
        assert (await running.get("/x", fields=came)).status == 302


async def test_no_query_and_no_token_is_ever_logged(running: Running) -> None:
    old = running.token(exp=int(running.clock()) - 60)
    await running.get("/x?secret=1&__clerk_handshake_nonce=n1", fields=DOCUMENT | cookies(**session(old, 5)))
    told = str(await running.logged())
    assert "secret" not in told
    assert old[-20:] not in told
    assert "n1" not in told


async def test_where_only_machines_are_let_in_no_document_comes_back(
    echo: ScriptedUpstream, api: FakeBackendApi
) -> None:
    routes = [{"name": "machines", "path": "/*", "upstream": "api", "token": "m2m"}]
    async with pages(echo.port, api, sign_in_url=SIGN_IN, settings={"routes": routes}) as running:
        for came in (cookies(__client_uat=5), cookies(__clerk_handshake_nonce="n1"), {}):
            answer = await running.get("/x", fields=DOCUMENT | came)
            assert (answer.status, answer.value("location"), api.requests) == (401, None, [])


async def test_a_good_token_in_the_header_needs_no_page(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "read_page", None)
    for asked in (DOCUMENT, FETCH | cookies(**session(running.token(), 5), **{f"__refresh_{SUFFIX}": "r1"})):
        assert (await running.get("/x", token=running.token(), fields=asked)).status == 200
