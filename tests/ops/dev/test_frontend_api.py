"""The Frontend API, as a browser meets it."""

from urllib.parse import parse_qs, urlsplit

import aiohttp
import jwt
import pytest

from gateway.ops.dev import frontend_api
from gateway.ops.dev.frontend_api import frontend_routes
from gateway.ops.dev.happenings import Wanted, happen
from gateway.ops.dev.issuer import LocalIssuer, issuer_app
from gateway.ops.dev.world import World

APP = "http://127.0.0.1:8080"
PAGE = APP + "/app/x?a=b%20c"


@pytest.fixture(params=[True, False], ids=["development", "production"])
def issuer(request):
    told = []
    made = LocalIssuer(
        "http://127.0.0.1:8081", gateway_origin=APP, world=World(), tell=told.extend, development=request.param
    )
    made.told = told
    return made


@pytest.fixture
async def client(issuer, aiohttp_client):
    app = issuer_app(issuer, routes=frontend_routes(issuer, home=f"{APP}/app"))
    return await aiohttp_client(app, cookie_jar=aiohttp.CookieJar(unsafe=True))


async def get(client, path, **query):
    return await client.get(path, params=query, allow_redirects=False)


async def sign_in(client, user="user_bob", url=PAGE):
    return await client.post("/sign-in", data={"user": user, "redirect_url": url}, allow_redirects=False)


def query_of(response):
    return {name: values[0] for name, values in parse_qs(urlsplit(response.headers["Location"]).query).items()}


def set_by(response):
    """Give the cookies of an answer."""
    return {
        field.partition("=")[0]: field.split(";")[0].partition("=")[2]
        for field in response.headers.getall("Set-Cookie")
    }


async def payload_of(issuer, client, url=PAGE, **query):
    """Go through the handshake; give the values of the application's cookies."""
    response = await get(client, "/v1/client/handshake", redirect_url=url, format="nonce", **query)
    assert response.status == 307
    assert response.headers["Cache-Control"] == "no-store"
    nonce = (query_of(response) if issuer.played.development else set_by(response))["__clerk_handshake_nonce"]
    directives = issuer.clients.take_payload(nonce)
    return {each.partition("=")[0]: each.split(";")[0].partition("=")[2] for each in directives}


def claims_of(token):
    return jwt.decode(token, options={"verify_signature": False})


async def test_nobody_is_signed_in_at_first(issuer, client):
    cookies = await payload_of(issuer, client)
    assert (cookies["__session"], cookies["__client_uat"]) == ("", "0")
    assert ("__clerk_db_jwt" in cookies) is issuer.played.development


async def test_signing_in_leads_back_and_the_next_handshake_knows_it(issuer, client):
    response = await sign_in(client)
    assert response.status == 303
    location = response.headers["Location"]
    if issuer.played.development:
        assert location.startswith(PAGE + "&__clerk_db_jwt=dvb_")
        assert set_by(response).keys() == {"__client"}
    else:
        assert location == PAGE
        suffixed = f"__client_uat_{issuer.played.suffix}"
        assert set_by(response).keys() == {"__client", "__client_uat", suffixed}
        assert int(set_by(response)[suffixed]) > 0
    cookies = await payload_of(issuer, client)
    claims = claims_of(cookies["__session"])
    assert (claims["sub"], claims["azp"]) == ("user_bob", APP)
    assert claims["iat"] >= int(cookies["__client_uat"])
    assert [each.type for each in issuer.told] == ["session.created"]


async def test_the_way_back_is_the_page_itself(issuer, client):
    await sign_in(client)
    response = await get(client, "/v1/client/handshake", redirect_url=PAGE, format="nonce")
    added = {"__clerk_handshake_nonce", "__clerk_db_jwt"} if issuer.played.development else set()
    assert query_of(response).keys() == {"a"} | added
    assert response.headers["Location"].startswith(PAGE)


@pytest.mark.parametrize("longest", [4096, 1000], ids=["fits-a-cookie", "does-not"])
async def test_without_nonces_the_payload_is_signed(issuer, client, monkeypatch, longest):
    monkeypatch.setattr(frontend_api, "LONGEST_COOKIE", longest)
    await sign_in(client)
    response = await get(client, "/v1/client/handshake", redirect_url=PAGE)
    by_cookie = not issuer.played.development and longest == 4096
    assert ("__clerk_handshake" in query_of(response)) is not by_cookie
    assert ("__clerk_handshake" in set_by(response)) is by_cookie
    carried = (set_by(response) if by_cookie else query_of(response))["__clerk_handshake"]
    assert any(each.startswith("__session=ey") for each in issuer.read_expired(carried)["handshake"])


async def test_the_applications_name_for_a_browser_counts_where_cookies_do_not(issuer, client):
    await sign_in(client)
    (known,) = issuer.clients._known.values()
    client.session.cookie_jar.clear()
    cookies = await payload_of(issuer, client, __clerk_db_jwt=known.browser)
    assert bool(cookies["__session"]) is issuer.played.development


async def test_organisations_are_switched_by_the_address(issuer, client):
    await sign_in(client, "user_alice")
    for wanted, active in (("org_globex", "org_globex"), ("acme", "org_acme"), ("org_x", "org_acme"), ("", None)):
        cookies = await payload_of(issuer, client, organization_id=wanted)
        assert claims_of(cookies["__session"]).get("o", {}).get("id") == active
    assert claims_of((await payload_of(issuer, client))["__session"]).get("o") is None


@pytest.mark.parametrize("path", ["/v1/client/handshake", "/sign-in", "/sign-out"])
@pytest.mark.parametrize("url", ["", "https://evil.example/", "/app", "http://127.0.0.1:8080@evil.example/"])
async def test_nobody_is_sent_off_this_machine(issuer, client, path, url):
    await sign_in(client)
    response = await get(client, path, redirect_url=url)
    assert response.status == 400
    assert "Location" not in response.headers
    assert issuer.world.session("user_bob") is not None
    assert (await sign_in(client, url=url)).status == 400


async def test_signing_out_ends_the_session(issuer, client):
    await sign_in(client)
    response = await get(client, "/sign-out", redirect_url=PAGE)
    assert response.status == 303
    assert issuer.world.session("user_bob") is None
    assert [each.type for each in issuer.told] == ["session.created", "session.removed"]
    if not issuer.played.development:
        assert set_by(response)["__client_uat"] == "0"
        assert set_by(response)[f"__client_uat_{issuer.played.suffix}"] == "0"
    assert (await payload_of(issuer, client))["__session"] == ""
    assert (await get(client, "/sign-out")).headers["Location"].startswith(issuer.url + "/sign-in")


async def test_another_user_takes_over(issuer, client):
    await sign_in(client)
    await sign_in(client, "user_carol")
    assert claims_of((await payload_of(issuer, client))["__session"])["sub"] == "user_carol"


async def test_who_is_banned_is_told_so(issuer, client):
    happen(issuer.world, Wanted("user.updated", "user_bob", changes={"banned": True}))
    response = await sign_in(client)
    assert response.status == 400
    assert "user_bob is banned" in await response.text()
    assert "no user" in await (await sign_in(client, "mallory")).text()
    assert issuer.told == []


async def test_the_page_says_who_is_signed_in(issuer, client):
    assert "is signed in" not in await (await get(client, "/sign-in")).text()
    await sign_in(client)
    text = await (await get(client, "/sign-in")).text()
    assert "Bob Brown is signed in" in text
    assert f'value="{APP}/app"' in text


async def test_foreign_pages_sign_nobody_in(issuer, client):
    for headers in ({"Origin": "https://evil.example"}, {"Origin": "null"}, {"Host": "evil.example"}):
        response = await client.post("/sign-in", data={"user": "user_bob", "redirect_url": PAGE}, headers=headers)
        assert response.status == 403
    assert issuer.world.session("user_bob") is None


async def test_a_page_gets_tokens_of_its_own_session_only(issuer, client):
    await sign_in(client)
    session_id = issuer.world.session("user_bob").id
    response = await client.post(f"/v1/client/sessions/{session_id}/tokens", headers={"Origin": APP})
    assert claims_of((await response.json())["jwt"])["azp"] == APP
    assert (await client.post("/v1/client/sessions/sess_other/tokens")).status == 404
    client.session.cookie_jar.clear()
    assert (await client.post(f"/v1/client/sessions/{session_id}/tokens")).status == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "HEAD"])
async def test_a_handshake_is_a_get(client, method):
    assert (await client.request(method, "/v1/client/handshake", params={"redirect_url": PAGE})).status == 405
