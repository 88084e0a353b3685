"""The addresses of machine tokens, at Clerk's paths."""

import pytest

from gateway.ops.dev.issuer import LocalIssuer, issuer_app
from gateway.ops.dev.machines_api import machine_routes
from gateway.ops.dev.token_request import TokenOptions

KEY = "sk_test_1"
HEADERS = {"Authorization": f"Bearer {KEY}"}
PATHS = [
    ("api_key", "/api_keys/verify", "secret"),
    ("m2m", "/m2m_tokens/verify", "token"),
    ("oauth", "/oauth_applications/access_tokens/verify", "access_token"),
]


@pytest.fixture
def issuer():
    return LocalIssuer("http://127.0.0.1:8081", gateway_origin="http://127.0.0.1:8080")


@pytest.fixture
async def client(issuer, aiohttp_client):
    return await aiohttp_client(issuer_app(issuer, routes=machine_routes(issuer.machines, KEY)))


@pytest.mark.parametrize(("kind", "path", "member"), PATHS)
async def test_each_type_is_verified_at_its_own_address(client, issuer, kind, path, member):
    secret, told = issuer.machines.mint(TokenOptions(type=kind))
    response = await client.post(path, json={member: secret}, headers=HEADERS)
    assert (response.status, await response.json()) == (200, told)
    for _, other, name in PATHS:
        if other != path:
            assert (await client.post(other, json={name: secret}, headers=HEADERS)).status == 404
    assert (await client.post(path, json={member: secret})).status == 401
    assert (await client.post(path, json={}, headers=HEADERS)).status == 422
    assert (await client.post("/v1" + path, json={member: secret}, headers=HEADERS)).status == 404


@pytest.mark.parametrize("path", ["/api_keys/{}/revoke", "/m2m_tokens/{}/revoke"])
async def test_one_is_revoked_by_its_id(client, issuer, path):
    secret, told = issuer.machines.mint(TokenOptions(type="m2m"))
    assert (await client.post(path.format(told["id"]))).status == 401
    response = await client.post(path.format(told["id"]), headers=HEADERS)
    assert (await response.json())["revoked"]
    with pytest.raises(LookupError):
        issuer.machines.verify("m2m", secret)
    assert (await client.post(path.format("mt_x"), headers=HEADERS)).status == 404


async def test_the_command_revokes_by_the_token_itself(client, issuer):
    secret, told = issuer.machines.mint(TokenOptions(type="oauth"))
    body = await (await client.post("/dev/revoke", json={"token": secret})).json()
    assert (body["id"], body["revoked"]) == (told["id"], True)
    signed = issuer.answer(TokenOptions(type="oauth", jwt=True), now=0)["token"]
    for token, status in ((signed, 404), ("", 400)):
        response = await client.post("/dev/revoke", json={"token": token})
        assert response.status == status
        assert "error" in await response.json()
