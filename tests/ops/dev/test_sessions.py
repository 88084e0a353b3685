"""What a browser's session comes to, and the two addresses of the Backend API that give it away."""

import jwt
import pytest

from gateway.ops.dev.happenings import Wanted, happen
from gateway.ops.dev.issuer import LocalIssuer, issuer_app
from gateway.ops.dev.sessions import cookies_for, handshake_token, mint_for, session_routes
from gateway.ops.dev.world import World

KEY = "sk_test_1"
HEADERS = {"Authorization": f"Bearer {KEY}"}
ORIGIN = "http://127.0.0.1:8080"


class Clock:
    seconds = 1_800_000_000.0

    def __call__(self):
        return self.seconds


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def issuer(clock):
    return LocalIssuer("http://127.0.0.1:8081", gateway_origin=ORIGIN, world=World(now=clock), cookie_life_s=30)


@pytest.fixture
def bob(issuer):
    """Bob's browser, signed in."""
    client = issuer.clients.make()
    issuer.clients.sign_in(client, issuer.world.begin_session("user_bob"))
    return client


@pytest.fixture
async def client(issuer, aiohttp_client):
    return await aiohttp_client(issuer_app(issuer, routes=session_routes(issuer, KEY)), headers=HEADERS)


def claims_of(token):
    return jwt.decode(token, options={"verify_signature": False})


def test_a_token_for_who_is_signed_in(issuer, bob, clock):
    signed_in = mint_for(issuer, bob, origin=ORIGIN)
    claims = claims_of(signed_in.token)
    assert (claims["sub"], claims["sid"], claims["azp"]) == ("user_bob", bob.session_id, ORIGIN)
    assert claims["exp"] - claims["iat"] == 30
    assert claims["iat"] >= signed_in.changed_at == clock.seconds
    assert signed_in.refresh == bob.refresh


@pytest.mark.parametrize(
    "wanted",
    [
        pytest.param(Wanted("session.ended", "user_bob"), id="session-ended"),
        pytest.param(Wanted("user.updated", "user_bob", changes={"banned": True}), id="banned"),
        pytest.param(Wanted("user.updated", "user_bob", changes={"locked": True}), id="locked"),
        pytest.param(Wanted("user.deleted", "user_bob"), id="deleted"),
    ],
)
def test_none_for_who_is_not_any_more(issuer, bob, wanted):
    happen(issuer.world, wanted)
    assert mint_for(issuer, bob, origin=ORIGIN) is None
    assert "__client_uat=0;" in " ".join(cookies_for(issuer, bob, origin=ORIGIN))


@pytest.mark.parametrize(
    ("org", "active"),
    [(None, "org_acme"), ("none", None), ("org_acme", "org_acme"), ("org_globex", "org_acme")],
)
def test_the_active_organisation_is_one_of_the_users(issuer, bob, org, active):
    bob.org = org
    assert claims_of(mint_for(issuer, bob, origin=ORIGIN).token).get("o", {}).get("id") == active


def test_a_payload_is_signed_as_a_session_is(issuer):
    token = handshake_token(issuer, ["a=b"])
    assert jwt.get_unverified_header(token)["cat"] == "cl_B7d4PD111AAA"
    assert issuer.read_expired(token)["handshake"] == ["a=b"]


async def test_a_payload_is_had_once_by_its_nonce(issuer, client):
    nonce = issuer.clients.put_payload(["a=b; Path=/"])
    assert (
        await client.get(f"/v1/clients/handshake_payload?nonce={nonce}", headers={"Authorization": ""})
    ).status == 401
    response = await client.get(f"/v1/clients/handshake_payload?nonce={nonce}")
    assert await response.json() == {"directives": ["a=b; Path=/"]}
    for again in (nonce, ""):
        assert (await client.get(f"/v1/clients/handshake_payload?nonce={again}")).status == 404


def body(bob, expired, **more):
    return {
        "format": "cookie", "expired_token": expired, "refresh_token": bob.refresh, "request_origin": ORIGIN,
        "request_headers": {"host": ["127.0.0.1:8080"]},
    } | more  # fmt: skip


async def test_an_expired_session_is_refreshed(issuer, client, bob, clock):
    expired = mint_for(issuer, bob, origin=ORIGIN).token
    clock.seconds += 3600
    path = f"/v1/sessions/{bob.session_id}/refresh"
    response = await client.post(path + "?suffixed_cookies=true", json=body(bob, expired))
    fields = (await response.json())["cookies"]
    (fresh,) = (field.split(";")[0].partition("=")[2] for field in fields if field.startswith("__session="))
    assert claims_of(fresh)["iat"] == clock.seconds
    assert any(field.startswith(f"__refresh_{issuer.played.suffix}={bob.refresh};") for field in fields)
    token = await (await client.post(path, json=body(bob, expired, format="token"))).json()
    assert claims_of(token["jwt"])["sid"] == bob.session_id
    assert (await client.post(path, json=body(bob, expired), headers={"Authorization": ""})).status == 401


@pytest.mark.parametrize("wrong", ["refresh_token", "expired_token", "session", "ended", "locked", "missing"])
async def test_what_is_not_its_own_is_not_refreshed(issuer, client, bob, wrong):
    session_id, sent = bob.session_id, body(bob, mint_for(issuer, bob, origin=ORIGIN).token)
    if wrong == "refresh_token":
        sent["refresh_token"] = "rt_other"
    elif wrong == "expired_token":
        sent["expired_token"] = issuer.mint(0, "user_carol")
    elif wrong == "session":
        session_id = "sess_other"
    elif wrong == "ended":
        happen(issuer.world, Wanted("session.revoked", "user_bob"))
    elif wrong == "locked":
        happen(issuer.world, Wanted("user.updated", "user_bob", changes={"locked": True}))
    else:
        del sent["refresh_token"]
    response = await client.post(f"/v1/sessions/{session_id}/refresh", json=sent)
    assert response.status == (422 if wrong == "missing" else 400)
    assert (await response.json())["errors"][0]["code"]


async def test_a_strangers_token_is_not_refreshed(issuer, client, bob):
    sent = body(bob, issuer.mint(1, "user_bob", foreign=True))
    response = await client.post(f"/v1/sessions/{bob.session_id}/refresh", json=sent)
    assert (await response.json())["errors"][0]["code"] == "session_token_invalid"
