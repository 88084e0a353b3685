"""The local issuer: its tokens pass the gateway's own verification, and only this machine's pages may have them."""

import json

import aiohttp
import jwt
import pytest

from gateway.core.claims import principal_from
from gateway.core.verify import TokenPolicy, parse_jwks, read_token, verify_token
from gateway.errors import InvalidToken
from gateway.ops.dev.issuer import FOREIGN_ISSUER, LocalIssuer, issuer_app
from gateway.ops.dev.token_request import TokenOptions

URL = "http://127.0.0.1:8081"
GATEWAY = "http://127.0.0.1:8080"
NOW = 1_800_000_000
POLICY = TokenPolicy(issuers=frozenset({URL}), authorized_parties=frozenset({GATEWAY}))


@pytest.fixture(scope="module")
def issuer():
    return LocalIssuer(URL, gateway_origin=GATEWAY)


@pytest.fixture
async def client(issuer, aiohttp_client):
    return await aiohttp_client(issuer_app(issuer, now=lambda: NOW))


def accept(issuer, token, *, now=NOW, policy=POLICY):
    """Verify as the gateway does and give the principal."""
    signed = read_token(token.encode())
    key = parse_jwks(json.dumps(issuer.jwks()).encode()).find(signed.kid)
    assert key is not None, "kid is in the key set"
    return principal_from(verify_token(signed, key, policy, now=now), signed)


@pytest.mark.parametrize("version", [1, 2])
def test_session_token_is_good_for_a_minute(issuer, version):
    token = issuer.mint(NOW, version=version)
    principal = accept(issuer, token, now=NOW + 59)
    assert (principal.token_type, principal.user_id, principal.org_role) == ("session", "user_alice", "org:admin")
    with pytest.raises(InvalidToken, match="token-expired"):
        accept(issuer, token, now=NOW + 65)


def test_header_and_claims_are_clerks(issuer):
    token = issuer.mint(NOW, "user_carol")
    assert jwt.get_unverified_header(token) == {
        "alg": "RS256",
        "typ": "JWT",
        "cat": "cl_B7d4PD111AAA",
        "kid": issuer.jwks()["keys"][0]["kid"],
    }
    claims = jwt.decode(token, options={"verify_signature": False})
    assert claims.keys() == {"azp", "exp", "fea", "fva", "iat", "iss", "jti", "nbf", "pla", "sid", "sts", "sub", "v"}
    assert claims["sid"].startswith("sess_")


def test_version_1_has_neither_v_nor_jti(issuer):
    claims = jwt.decode(issuer.mint(NOW, version=1), options={"verify_signature": False})
    assert not claims.keys() & {"v", "jti", "o"}


def test_template_token_is_no_session(issuer):
    principal = accept(issuer, issuer.mint(NOW, template="convex"))
    assert (principal.token_type, principal.audience) == ("template", {"convex"})


def test_every_token_has_its_own_id_and_every_user_a_session(issuer):
    first, second = (jwt.decode(issuer.mint(NOW), options={"verify_signature": False}) for _ in range(2))
    assert first["jti"] != second["jti"]
    assert (
        first["sid"] == second["sid"] != jwt.decode(issuer.mint(NOW, "bob"), options={"verify_signature": False})["sid"]
    )


def test_expired_token_is_expired_at_once(issuer):
    with pytest.raises(InvalidToken, match="token-expired"):
        accept(issuer, issuer.mint(NOW, expires_in=-1))


def test_foreign_token_has_another_key_and_issuer(issuer):
    token = issuer.mint(NOW, foreign=True)
    assert jwt.get_unverified_header(token)["kid"] not in {key["kid"] for key in issuer.jwks()["keys"]}
    assert jwt.decode(token, options={"verify_signature": False})["iss"] == FOREIGN_ISSUER
    key = parse_jwks(json.dumps(issuer.jwks()).encode()).find(issuer.jwks()["keys"][0]["kid"])
    with pytest.raises(InvalidToken, match="token-invalid-signature"):
        verify_token(read_token(token.encode()), key, POLICY, now=NOW)


def test_key_is_new_at_each_start(issuer):
    assert LocalIssuer(URL, gateway_origin=GATEWAY).jwks() != issuer.jwks()


@pytest.mark.parametrize(
    ("asked", "pending"),
    [
        pytest.param({}, False, id="active"),
        pytest.param({"pending": True}, True, id="asked"),
        pytest.param({"user_id": "user_dave"}, True, id="user-who-is"),
    ],
)
def test_pending_session(issuer, asked, pending):
    assert accept(issuer, issuer.mint(NOW, **asked)).pending is pending


@pytest.mark.parametrize(
    ("asked", "origin", "azp"),
    [
        pytest.param(None, None, GATEWAY, id="gateway-by-default"),
        pytest.param(None, "http://localhost:5173", "http://localhost:5173", id="page-that-asks"),
        pytest.param("https://x.example", "http://localhost:5173", "https://x.example", id="asked"),
        pytest.param("", None, None, id="none"),
    ],
)
def test_azp(issuer, asked, origin, azp):
    answer = issuer.answer(TokenOptions(azp=asked), now=NOW, origin=origin)
    assert answer["claims"].get("azp") == azp


def test_cookies_are_those_of_clerks_sdk(issuer):
    answer = issuer.answer(TokenOptions(), now=NOW)
    browser = answer["cookies"].pop("__clerk_db_jwt")
    assert answer["cookies"] == {"__session": answer["token"], "__client_uat": str(NOW)}
    assert issuer.clients.find(browser=browser).session_id == answer["claims"]["sid"]
    assert issuer.answer(TokenOptions(template="convex"), now=NOW)["cookies"] == {}
    assert issuer.answer(TokenOptions(foreign=True), now=NOW)["cookies"]["__clerk_db_jwt"] == "dvb_stranger"


def test_a_production_instance_names_no_browser():
    issuer = LocalIssuer(URL, gateway_origin=GATEWAY, development=False)
    assert issuer.answer(TokenOptions(), now=NOW)["cookies"].keys() == {"__session", "__client_uat"}


def test_only_its_own_tokens_are_read_when_they_are_old(issuer):
    assert issuer.read_expired(issuer.mint(NOW - 10_000_000))["sub"] == "user_alice"
    for token in (issuer.mint(NOW, foreign=True), LocalIssuer(URL, gateway_origin=GATEWAY).mint(NOW), "x"):
        with pytest.raises(ValueError, match="not a token of this instance"):
            issuer.read_expired(token)


async def test_well_known_addresses(client, issuer):
    assert await (await client.get("/.well-known/jwks.json")).json() == issuer.jwks()
    discovery = await (await client.get("/.well-known/openid-configuration")).json()
    assert (discovery["issuer"], discovery["jwks_uri"]) == (URL, URL + "/.well-known/jwks.json")


async def test_private_key_is_never_given_out(client):
    (key,) = (await (await client.get("/.well-known/jwks.json")).json())["keys"]
    assert key.keys() == {"use", "kty", "kid", "alg", "n", "e"}


async def test_users_are_listed_with_their_organisations(client):
    users = await (await client.get("/dev/users")).json()
    assert [user["id"] for user in users] == ["user_alice", "user_bob", "user_carol", "user_dave"]
    assert users[0]["organisations"][0] == {"id": "org_acme", "slug": "acme", "name": "Acme", "role": "org:admin"}


async def test_token_endpoint_gives_what_was_asked(client, issuer):
    response = await client.post(
        "/dev/token", json={"user": "user_bob", "org": "acme", "permissions": ["a:b"], "v1": True}
    )
    answer = await response.json()
    assert response.headers["Cache-Control"] == "no-store"
    principal = accept(issuer, answer["token"])
    assert (principal.user_id, principal.org_id, principal.org_permissions) == ("user_bob", "org_acme", ("org:a:b",))
    assert "v" not in answer["claims"]


async def test_token_endpoint_takes_an_empty_body_for_the_defaults(client):
    claims = (await (await client.post("/dev/token")).json())["claims"]
    assert (claims["sub"], claims["exp"] - claims["iat"]) == ("user_alice", 3600)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        pytest.param(b"{", "Expecting", id="not-json"),
        pytest.param(b"\xff", "decode", id="not-utf-8"),
        pytest.param(b'{"usr": "x"}', "usr", id="unknown-option"),
        pytest.param(b'{"user": "mallory"}', "user_alice", id="unknown-user"),
        pytest.param(b'{"user": "carol", "role": "admin"}', "organisation", id="role-without-organisation"),
    ],
)
async def test_token_endpoint_says_what_is_wrong(client, body, says):
    response = await client.post("/dev/token", data=body)
    assert response.status == 400
    assert says in (await response.json())["error"]


PATHS = ["/dev/token", "/dev/users", "/.well-known/jwks.json"]


def ask(client, path, headers):
    return client.request("POST" if path == "/dev/token" else "GET", path, headers=headers)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"Host": "evil.example:8081"}, id="rebound-name"),
        pytest.param({"Host": "127.0.0.1.evil.example"}, id="name-that-begins-like-loopback"),
        pytest.param({"Host": "localhost.evil.example:80"}, id="name-that-begins-like-localhost"),
        pytest.param({"Host": ""}, id="no-name"),
        pytest.param({"Origin": "https://evil.example"}, id="foreign-page"),
        pytest.param({"Origin": "http://localhost.evil.example"}, id="page-that-begins-like-localhost"),
        pytest.param({"Origin": "http://evil.example?http://localhost"}, id="page-that-ends-like-localhost"),
        pytest.param({"Origin": "null"}, id="null-origin"),
    ],
)
async def test_foreign_host_or_origin_is_refused(client, path, headers):
    response = await ask(client, path, headers)
    assert response.status == 403
    assert "Access-Control-Allow-Origin" not in response.headers
    assert "error" in await response.json()


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "origin", ["http://127.0.0.1:8080", "http://localhost:5173", "https://localhost", "http://[::1]:1"]
)
async def test_pages_of_this_machine_are_answered(client, path, origin):
    response = await ask(client, path, {"Origin": origin})
    assert response.status == 200
    assert response.headers["Access-Control-Allow-Origin"] == origin
    assert response.headers["Vary"] == "Origin"


@pytest.mark.parametrize("host", ["localhost:8081", "127.0.0.1:8081", "LOCALHOST", "[::1]:8081"])
async def test_every_loopback_name_is_answered(client, host):
    assert (await ask(client, "/dev/users", {"Host": host})).status == 200


async def test_preflight_is_granted_to_loopback_only(client):
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
    granted = await client.options("/dev/token", headers=asked | {"Origin": "http://localhost:3000"})
    refused = await client.options("/dev/token", headers=asked | {"Origin": "https://evil.example"})
    assert (granted.status, granted.headers["Access-Control-Allow-Headers"]) == (204, "Content-Type")
    assert granted.headers["Access-Control-Allow-Origin"] == "http://localhost:3000"
    assert (refused.status, refused.headers.get("Access-Control-Allow-Origin")) == (403, None)


async def test_answers_without_an_origin_are_for_no_page(client):
    response: aiohttp.ClientResponse = await client.get("/dev/users")
    assert "Access-Control-Allow-Origin" not in response.headers
