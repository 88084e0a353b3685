"""The issuer's page and the addresses behind it."""

import json
import re

import pytest
from aiohttp import web

from gateway.ops.dev.console import FILES, console_routes, fire
from gateway.ops.dev.event_request import EventOptions
from gateway.ops.dev.issuer import LocalIssuer, issuer_app
from gateway.ops.dev.outbox import Outbox
from gateway.ops.dev.sending import new_secret
from gateway.ops.dev.world import World

GATEWAY = "http://127.0.0.1:8080"


@pytest.fixture
def world():
    return World()


@pytest.fixture
async def outbox(aiohttp_server):
    async def take(request):
        return web.json_response({"status": "stored", "type": (await request.json())["type"]})

    app = web.Application()
    app.router.add_post("/webhooks/clerk", take)
    url = str((await aiohttp_server(app)).make_url("/webhooks/clerk"))
    box = Outbox(url, new_secret(), instance="ins_dev", pauses_s=())
    box.start()
    yield box
    await box.close()


@pytest.fixture
async def client(world, outbox, aiohttp_client):
    issuer = LocalIssuer("http://127.0.0.1:8081", gateway_origin=GATEWAY, world=world, tell=outbox.post)
    return await aiohttp_client(issuer_app(issuer, routes=console_routes(world, outbox, gateway=GATEWAY)))


async def post(client, **body):
    response = await client.post("/dev/event", json=body)
    return response.status, await response.json()


async def test_page_and_its_files_are_served_with_a_strict_policy(client):
    page = await client.get("/")
    assert page.content_type == "text/html"
    assert f"connect-src 'self' {GATEWAY};" in page.headers["Content-Security-Policy"]
    assert "default-src 'self';" in page.headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in page.headers["Content-Security-Policy"]
    assert "unsafe" not in page.headers["Content-Security-Policy"]
    found = re.findall(r'(?:src|href)="(/[^"]+)"', await page.text())
    assert sorted(found) == ["/icon.svg", "/page.css", "/page.js"]
    for path in found:
        assert (await client.get(path)).status == 200


@pytest.mark.parametrize("name", sorted(path.name for path in FILES.iterdir()))
def test_page_needs_nothing_from_elsewhere_and_nothing_inline(name):
    text = (FILES / name).read_text()
    assert not re.search(r"(https?:)?//[a-z0-9]", text.replace('xmlns="http://www.w3.org/2000/svg"', ""), re.IGNORECASE)
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=\"|<script(?![^>]*src=)|innerHTML", text)


async def test_state_says_how_everything_stands(client):
    state = await (await client.get("/dev/state")).json()
    assert [user["id"] for user in state["users"]] == ["user_alice", "user_bob", "user_carol", "user_dave"]
    assert state["organizations"][0]["members"] == [
        {"user": "user_alice", "role": "org:admin"}, {"user": "user_bob", "role": "org:member"},
    ]  # fmt: skip
    assert (state["events"], state["gateway"]) == ([], GATEWAY)
    assert "user.updated" in state["types"]


async def test_what_is_asked_for_happens_and_is_told(client, world):
    status, answer = await post(client, type="user.updated", user="bob", set={"first_name": "Robert"})
    assert status == 200
    (event,) = answer["events"]
    assert (event["type"], event["about"], event["status"], event["answer"]) == (
        "user.updated", "user_bob", 200, "stored",
    )  # fmt: skip
    assert world.person("user_bob").given_name == "Robert"
    state = await (await client.get("/dev/state")).json()
    assert [each["svix_id"] for each in state["events"]] == [event["svix_id"]]


async def test_a_first_token_is_a_sign_in_that_is_told(client, outbox):
    await client.post("/dev/token", json={"user": "bob"})
    await client.post("/dev/token", json={"user": "bob"})
    await outbox.settle()
    assert [each.message.type for each in outbox.sent] == ["session.created"]


async def test_tokens_are_of_the_world_as_it_is_now(client):
    await post(client, type="user.created", user="user_eve", set={"first_name": "Eve"})
    await post(client, type="organizationMembership.created", user="user_eve", org="acme", set={"role": "admin"})
    claims = (await (await client.post("/dev/token", json={"user": "eve"})).json())["claims"]
    assert (claims["sub"], claims["o"]["id"], claims["o"]["rol"]) == ("user_eve", "org_acme", "admin")
    users = await (await client.get("/dev/users")).json()
    assert users[-1]["organisations"] == [{"id": "org_acme", "slug": "acme", "name": "Acme", "role": "org:admin"}]


@pytest.mark.parametrize(
    "change", [{"type": "user.deleted"}, {"type": "user.updated", "set": {"banned": True}}], ids=["deleted", "banned"]
)
async def test_who_is_gone_or_banned_gets_no_token(client, change):
    await post(client, user="bob", **change)
    response = await client.post("/dev/token", json={"user": "user_bob"})
    assert response.status == 400
    assert "user_bob" in (await response.json())["error"]
    assert (await client.post("/dev/token", json={"user": "user_bob", "template": "convex"})).status == 400


async def test_no_token_is_of_an_organisation_that_was_deleted(client):
    await post(client, type="organization.deleted", org="acme")
    assert (await client.post("/dev/token", json={"user": "user_alice", "org": "org_acme"})).status == 400
    claims = (await (await client.post("/dev/token", json={"user": "user_alice"})).json())["claims"]
    assert claims["o"]["id"] == "org_globex"


async def test_after_its_end_a_session_is_another_one(client):
    first = (await (await client.post("/dev/token", json={})).json())["claims"]["sid"]
    await post(client, type="session.revoked", user="alice")
    assert (await (await client.post("/dev/token", json={})).json())["claims"]["sid"] != first


async def test_a_strangers_token_begins_no_session(client, outbox):
    await client.post("/dev/token", json={"user": "bob", "foreign": True})
    await outbox.settle()
    assert outbox.sent == []


@pytest.mark.parametrize("options", [{"bad_signature": True}, {"old_s": 600}, {"send": False}])
async def test_what_is_not_truly_told_does_not_happen(client, world, options):
    before = world.people
    status, _ = await post(client, type="user.updated", user="bob", set={"first_name": "Mallory"}, **options)
    assert (status, world.people) == (200, before)


async def test_what_is_only_composed_is_not_sent(client, outbox):
    (event,) = (await post(client, type="user.created", user="user_eve", send=False))[1]["events"]
    assert json.loads(event["body"])["data"]["id"] == event["about"] == "user_eve"
    assert event["headers"].keys() == {"svix-id", "svix-timestamp", "svix-signature"}
    assert outbox.sent == []


async def test_one_that_was_sent_is_sent_again_or_given_back(world, outbox):
    (event,) = await fire(world, outbox, EventOptions("user.updated", "bob"))
    (again,) = await fire(world, outbox, EventOptions(again=event["svix_id"]))
    assert (again["svix_id"], again["times"]) == (event["svix_id"], 2)
    (again,) = await fire(world, outbox, EventOptions(again=event["svix_id"], twice=True))
    assert again["times"] == 4
    (given,) = await fire(world, outbox, EventOptions(again=event["svix_id"], send=False))
    assert given["svix_id"] == event["svix_id"]
    assert outbox.sent[0].times == 4


async def test_what_is_held_back_happens_and_is_told_later(client, world):
    (event,) = (await post(client, type="user.updated", user="bob", set={"first_name": "B"}, hold=True))[1]["events"]
    assert (event["held"], event["status"]) == (True, None)
    assert world.person("user_bob").given_name == "B"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        pytest.param(b"{", "Expecting", id="not-json"),
        pytest.param(b"\xff", "decode", id="not-utf-8"),
        pytest.param(b"", "name a type", id="nothing"),
        pytest.param(b'{"type": "user.updated", "url": "http://x.example"}', "no such option: url", id="url"),
        pytest.param(b'{"type": "user.updated", "user": "mallory"}', "no user", id="nobody"),
        pytest.param(b'{"type": "user.updated", "set": {"first_name": "\\ud800"}}', "surrogates", id="half-a-character"),
        pytest.param(b'{"type": "user.updated", "set": {"data.x": NaN}}', "NaN is no JSON", id="no-number"),
        pytest.param(b'{"again": "msg_x"}', "no event", id="no-such-event"),
        pytest.param(
            b'{"type": "user.updated", "set": {"public_metadata": {"a": ' + b"[" * 600 + b"]" * 600 + b"}}}",
            "at most 500", id="nested-beyond-reason",
        ),
    ],
)  # fmt: skip
async def test_what_cannot_be_is_said(client, outbox, body, says):
    response = await client.post("/dev/event", data=body)
    assert response.status == 400
    assert says in (await response.json())["error"]
    assert outbox.sent == []


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"Host": "evil.example"}, id="rebound-name"),
        pytest.param({"Origin": "https://evil.example"}, id="foreign-page"),
        pytest.param({"Origin": "null"}, id="null-origin"),
    ],
)
@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/"), ("GET", "/page.js"), ("GET", "/dev/state"), ("POST", "/dev/event")]
)
async def test_only_this_machines_pages_are_answered(client, world, outbox, headers, method, path):
    body = b'{"type": "user.deleted", "user": "user_bob"}' if method == "POST" else None
    assert (await client.request(method, path, headers=headers, data=body)).status == 403
    assert world.is_known("user_bob")
    assert outbox.sent == []


async def test_a_link_changes_nothing(client, world):
    assert (await client.get("/dev/event?type=user.deleted&user=user_bob")).status == 405
    assert world.is_known("user_bob")
