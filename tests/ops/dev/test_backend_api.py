"""As much of Clerk's Backend API as is served, asked over loopback."""

import pytest

from gateway.ops.dev.backend_api import backend_routes
from gateway.ops.dev.issuer import LocalIssuer, issuer_app
from gateway.ops.dev.people import Organisation, Person
from gateway.ops.dev.world import World

KEY = "sk_test_x"


@pytest.fixture
def told():
    return []


@pytest.fixture
def world():
    return World()


@pytest.fixture
async def client(world, told, aiohttp_client):
    issuer = LocalIssuer("http://127.0.0.1:1", gateway_origin="http://127.0.0.1:2", world=world)
    return await aiohttp_client(issuer_app(issuer, routes=backend_routes(issuer, told.extend, KEY)))


async def get(client, path, method="GET", key=KEY):
    response = await client.request(method, path, headers={"Authorization": f"Bearer {key}"} if key else {})
    return response.status, await response.json()


async def test_users_are_a_bare_array_the_newest_first(client, world):
    world.put_person(Person("user_new", created_at=2_000_000_000_000))
    status, users = await get(client, "/v1/users")
    assert status == 200
    assert users[0]["id"] == "user_new"
    assert {user["object"] for user in users} == {"user"}


async def test_users_come_in_pages(client, world):
    for number in range(30):
        world.put_person(Person(f"user_{number:02}", created_at=number))
    _, first = await get(client, "/v1/users?order_by=%2Bcreated_at&limit=20")
    _, second = await get(client, "/v1/users?order_by=%2Bcreated_at&limit=20&offset=20")
    assert [len(first), len(second)] == [20, 14]
    assert len({user["id"] for user in first + second}) == 34
    assert first[0]["id"] == "user_00"
    _, default = await get(client, "/v1/users")
    assert len(default) == 10
    assert (await get(client, "/v1/users/count"))[1] == {"object": "total_count", "total_count": 34}


@pytest.mark.parametrize(
    ("query", "found"),
    [
        pytest.param("user_id=user_bob", ["user_bob"], id="id"),
        pytest.param("user_id[]=user_bob&user_id[]=user_x", ["user_bob"], id="ids"),
        pytest.param("email_address=alice@acme.example", ["user_alice"], id="e-mail"),
        pytest.param("external_id=1003", ["user_carol"], id="external-id"),
        pytest.param("external_id=9", [], id="none"),
        pytest.param("created_at_after=1767225600000", [], id="created-later"),
        pytest.param("created_at_after=1767225599999&limit=1", ["user_dave"], id="created-then"),
    ],
)
async def test_users_are_found(client, query, found):
    assert [user["id"] for user in (await get(client, f"/v1/users?{query}"))[1]] == found


async def test_one_of_each(client):
    assert (await get(client, "/v1/users/user_bob"))[1]["email_addresses"][0]["email_address"] == "bob@acme.example"
    assert (await get(client, "/v1/organizations/org_acme"))[1]["members_count"] == 2
    assert (await get(client, "/v1/organizations/acme"))[1]["id"] == "org_acme"


async def test_organisations_and_memberships_are_counted_lists(client):
    _, organisations = await get(client, "/v1/organizations?limit=1")
    assert ([each["id"] for each in organisations["data"]], organisations["total_count"]) == (["org_acme"], 2)
    _, members = await get(client, "/v1/organizations/org_acme/memberships")
    assert [each["public_user_data"]["user_id"] for each in members["data"]] == ["user_alice", "user_bob"]
    assert members["total_count"] == 2
    _, held = await get(client, "/v1/users/user_alice/organization_memberships")
    assert [each["organization"]["id"] for each in held["data"]] == ["org_acme", "org_globex"]
    assert (await get(client, "/v1/organization_memberships"))[1]["total_count"] == 3
    _, own = await get(client, "/v1/organizations/acme/memberships?user_id=user_bob&user_id=user_x")
    assert [each["id"] for each in own["data"]] == ["orgmem_bob_acme"]


async def test_counted_lists_are_the_oldest_first(client, world):
    world.put_organisation(Organisation("org_old", "old", "Old", created_at=1))
    _, organisations = await get(client, "/v1/organizations")
    assert [each["id"] for each in organisations["data"]] == ["org_old", "org_acme", "org_globex"]


async def test_keys_are_the_issuers(client):
    assert (await get(client, "/v1/jwks"))[1] == await (await client.get("/.well-known/jwks.json")).json()


@pytest.mark.parametrize(
    ("deed", "member", "value"),
    [("ban", "banned", True), ("unban", "banned", False), ("lock", "locked", True), ("unlock", "locked", False)],
)
async def test_users_are_judged_and_it_is_told(client, told, deed, member, value):
    status, user = await get(client, f"/v1/users/user_bob/{deed}", "POST")
    assert (status, user[member]) == (200, value)
    assert [(each.type, each.data[member]) for each in told] == [("user.updated", value)]


async def test_a_session_is_revoked_and_it_is_told(client, world, told):
    session = world.begin_session("user_bob")
    status, answer = await get(client, f"/v1/sessions/{session.id}/revoke", "POST")
    assert (status, answer["id"], answer["status"]) == (200, session.id, "revoked")
    assert [(each.type, each.data["id"]) for each in told] == [("session.revoked", session.id)]
    assert (await get(client, f"/v1/sessions/{session.id}/revoke", "POST"))[0] == 404


PATHS = [
    ("GET", "/v1/jwks"), ("GET", "/v1/users"), ("GET", "/v1/users/count"), ("GET", "/v1/users/user_bob"),
    ("GET", "/v1/users/user_bob/organization_memberships"), ("POST", "/v1/users/user_bob/ban"),
    ("GET", "/v1/organizations"), ("GET", "/v1/organizations/acme"), ("GET", "/v1/organizations/acme/memberships"),
    ("GET", "/v1/organization_memberships"), ("POST", "/v1/sessions/sess_x/revoke"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path"), PATHS)
@pytest.mark.parametrize("key", [None, "", "sk_test_y", "sk_test_ä"])
async def test_without_its_key_nothing_is_answered_or_done(client, told, method, path, key):
    status, answer = await get(client, path, method, key and key.encode().decode("latin-1"))
    assert (status, answer["errors"][0]["code"]) == (401, "clerk_key_invalid")
    assert told == []


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/users/user_x", 404), ("/v1/organizations/org_x", 404), ("/v1/organizations/org_x/memberships", 404),
        ("/v1/users?limit=0", 422), ("/v1/users?limit=501", 422), ("/v1/users?limit=x", 422),
        ("/v1/users?offset=-1", 422), ("/v1/users?limit=%C2%B2", 422), ("/v1/users?order_by=name", 422),
    ],
)  # fmt: skip
async def test_errors_are_clerks(client, path, status):
    answered, answer = await get(client, path)
    assert answered == status
    assert answer["errors"][0].keys() == {"code", "message", "long_message", "meta"}


async def test_the_issuers_guard_stands_before_it(client):
    headers = {"Authorization": f"Bearer {KEY}", "Origin": "https://evil.example"}
    assert (await client.get("/v1/users", headers=headers)).status == 403
