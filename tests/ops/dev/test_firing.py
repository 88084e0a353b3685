"""What `gateway dev event` and `gateway dev users` do, against an issuer and against a handler of one's own."""

import json

import pytest
from aiohttp import web
from aiohttp.test_utils import unused_port
from svix.webhooks import Webhook

from gateway.ops.dev import DevError
from gateway.ops.dev.console import console_routes
from gateway.ops.dev.event_request import EventOptions
from gateway.ops.dev.firing import fire_at_gateway, fire_at_url, list_world, print_event
from gateway.ops.dev.issuer import LocalIssuer, issuer_app
from gateway.ops.dev.outbox import Outbox
from gateway.ops.dev.sending import new_secret
from gateway.ops.dev.world import World

SECRET = new_secret()
NOWHERE = f"http://127.0.0.1:{unused_port()}"


class Handler:
    """A handler of webhooks that verifies them, as one's own would."""

    def __init__(self):
        self.url = ""
        self.told = []

    async def receive(self, request):
        body = await request.read()
        try:
            Webhook(SECRET).verify(body, dict(request.headers))
        except Exception as error:
            return web.json_response({"code": "refused", "reason": str(error)}, status=400)
        self.told.append(json.loads(body) | {"svix_id": request.headers["svix-id"]})
        return web.Response(text="thank you")


@pytest.fixture
async def handler(aiohttp_server):
    made = Handler()
    app = web.Application()
    app.router.add_post("/webhooks/clerk", made.receive)
    made.url = str((await aiohttp_server(app)).make_url("/webhooks/clerk"))
    return made


@pytest.fixture
async def issuer(handler, aiohttp_server):
    """An issuer whose gateway is the handler."""
    world, outbox = World(), Outbox(handler.url, SECRET, instance="ins_dev1", pauses_s=())
    outbox.start()
    local = LocalIssuer("http://127.0.0.1:1", gateway_origin="http://127.0.0.1:2", world=world, tell=outbox.post)
    server = await aiohttp_server(issuer_app(local, routes=console_routes(world, outbox, gateway="http://127.0.0.1:2")))
    yield str(server.make_url("/")).rstrip("/")
    await outbox.close()


@pytest.fixture
def lines():
    return []


async def test_the_running_issuer_tells_its_gateway(issuer, handler, lines):
    options = EventOptions("user.updated", "bob", set={"first_name": "Robert"})
    assert await fire_at_gateway(issuer, options, write=lines.append)
    (told,) = handler.told
    assert (told["data"]["first_name"], told["instance_id"]) == ("Robert", "ins_dev1")
    assert lines == [f"{'user.updated':<28}  {told['svix_id']}  200  thank you"]


async def test_twice_is_two_lines(issuer, lines):
    assert await fire_at_gateway(issuer, EventOptions("user.updated", twice=True), write=lines.append)
    assert [line.split()[2] for line in lines] == ["200", "200"]


async def test_what_is_refused_is_no_success(issuer, handler, lines):
    assert not await fire_at_gateway(issuer, EventOptions("user.updated", bad_signature=True), write=lines.append)
    assert "400  refused" in lines[0]
    assert handler.told == []


async def test_what_is_held_back_is_no_failure(issuer, handler, lines):
    assert await fire_at_gateway(issuer, EventOptions("user.updated", hold=True), write=lines.append)
    assert "held" in lines[0]
    assert handler.told == []


@pytest.mark.parametrize("options", [EventOptions(), EventOptions("a", again="msg_1"), EventOptions("user.x y")])
async def test_what_cannot_be_is_said(issuer, options, lines):
    with pytest.raises(DevError, match=r"name a type|a type is like"):
        await fire_at_gateway(issuer, options, write=lines.append)


async def test_one_that_was_sent_is_sent_to_a_url(issuer, handler, lines):
    await fire_at_gateway(issuer, EventOptions("user.created", "user_eve"), write=lines.append)
    (first,) = handler.told
    assert await fire_at_url(handler.url, SECRET, issuer, EventOptions(again=first["svix_id"]), write=lines.append)
    assert handler.told[1] == first


async def test_a_url_gets_who_has_been_made_at_the_running_issuer(issuer, handler, lines):
    await fire_at_gateway(issuer, EventOptions("user.updated", "bob", set={"email": "b@x.example"}), write=lines.append)
    options = EventOptions("user.updated", "bob", set={"first_name": "B"})
    assert await fire_at_url(handler.url, SECRET, issuer, options, write=lines.append)
    assert handler.told[1]["data"]["email_addresses"][0]["email_address"] == "b@x.example"
    assert handler.told[1]["data"]["first_name"] == "B"
    await fire_at_gateway(issuer, EventOptions("user.updated", "bob"), write=lines.append)
    assert handler.told[2]["data"]["first_name"] == "Bob"  # what was only told elsewhere has not happened


async def test_a_url_needs_no_running_issuer(handler, lines):
    options = EventOptions("user.created", set={"first_name": "Ada"}, twice=True)
    assert await fire_at_url(handler.url, SECRET, NOWHERE, options, write=lines.append)
    assert [told["data"]["first_name"] for told in handler.told] == ["Ada", "Ada"]
    assert handler.told[0] == handler.told[1]
    assert len(lines) == 2


@pytest.mark.parametrize("options", [{"bad_signature": True}, {"old_s": 301}])
async def test_a_url_gets_forged_ones_too(handler, lines, options):
    assert not await fire_at_url(
        handler.url, SECRET, NOWHERE, EventOptions("user.created", **options), write=lines.append
    )
    assert "400" in lines[0]


async def test_with_another_secret_a_handler_refuses(handler, lines):
    assert not await fire_at_url(handler.url, new_secret(), NOWHERE, EventOptions("user.created"), write=lines.append)


async def test_nobody_at_the_url_is_no_success(lines):
    assert not await fire_at_url(f"{NOWHERE}/x", SECRET, NOWHERE, EventOptions("user.created"), write=lines.append)
    assert lines[0].endswith("no answer  Connection refused")


@pytest.mark.parametrize(
    ("url", "secret", "options", "says"),
    [
        pytest.param("127.0.0.1:3000", SECRET, EventOptions("x"), "--url is", id="no-scheme"),
        pytest.param("file:///etc/passwd", SECRET, EventOptions("x"), "--url is", id="file"),
        pytest.param("http://", SECRET, EventOptions("x"), "--url is", id="no-host"),
        pytest.param("http://[", SECRET, EventOptions("x"), "--url is", id="no-url"),
        pytest.param("http://x.example", None, EventOptions("x"), "--secret", id="no-secret"),
        pytest.param("http://x.example", "geheim!", EventOptions("x"), "whsec_", id="bad-secret"),
        pytest.param("http://x.example", SECRET, EventOptions(), "name a type", id="no-type"),
        pytest.param("http://x.example", SECRET, EventOptions("x", hold=True), "held back", id="held-back"),
        pytest.param(NOWHERE, SECRET, EventOptions("user.updated", "mallory"), "no user", id="nobody"),
        pytest.param(NOWHERE, SECRET, EventOptions(again="msg_1"), "Start it with", id="again-of-nothing"),
    ],
)
async def test_a_url_is_not_called_with_what_cannot_be(url, secret, options, says, lines):
    with pytest.raises(DevError, match=says):
        await fire_at_url(url, secret, NOWHERE, options, write=lines.append)


async def test_an_event_is_printed_as_it_would_be_sent(issuer, handler, lines):
    await print_event(None, issuer, EventOptions("user.deleted", "alice"), write=lines.append)
    first, _, rest = lines[0].partition("\n\n")
    fields = dict(line.split(": ") for line in first.splitlines())
    body, *others = rest.split("\n\n")
    Webhook(SECRET).verify(body.encode(), fields)
    assert json.loads(body)["type"] == "user.deleted"
    assert len(others) == 4  # two memberships
    assert handler.told == []


async def test_an_event_is_printed_without_a_running_issuer_where_there_is_a_secret(lines):
    await print_event(SECRET, NOWHERE, EventOptions("user.created"), write=lines.append)
    first, _, body = lines[0].partition("\n\n")
    Webhook(SECRET).verify(body.encode(), dict(line.split(": ") for line in first.splitlines()))
    with pytest.raises(DevError, match="--secret"):
        await print_event(None, NOWHERE, EventOptions("user.created"), write=lines.append)
    with pytest.raises(DevError, match="whsec_"):
        await print_event("geheim!", NOWHERE, EventOptions("user.created"), write=lines.append)


async def test_who_there_is_is_listed(issuer, lines):
    await fire_at_gateway(issuer, EventOptions("user.updated", "bob", set={"banned": True}), write=[].append)
    await list_world(issuer, write=lines.append)
    bob = next(line for line in lines if line.startswith("user_bob"))
    assert bob.split("  ")[-1] == "banned"
    assert "acme (org:member)" in bob
    assert lines[-1].split() == ["org_globex", "globex", "Globex", "1"]


@pytest.mark.parametrize("answer", [[], {"events": 1}, {"users": []}])
async def test_what_is_no_issuer_is_said(aiohttp_server, lines, answer):
    async def other(_):
        return web.json_response(answer)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", other)
    url = str((await aiohttp_server(app)).make_url("/")).rstrip("/")
    for asking in (fire_at_gateway(url, EventOptions("x"), write=lines.append), list_world(url, write=lines.append)):
        with pytest.raises(DevError, match="is not `gateway dev`"):
            await asking
