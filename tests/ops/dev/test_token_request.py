"""What may be asked of the local issuer, and what `gateway token` says when it cannot be had."""

import json
import re

import pytest
from aiohttp import web
from aiohttp.test_utils import unused_port

from gateway.ops.dev import DevError
from gateway.ops.dev.issuer import LocalIssuer, issuer_app
from gateway.ops.dev.token_request import TokenOptions, fetch_token, read_options


@pytest.fixture
async def serve(aiohttp_server):
    async def start(app):
        return str((await aiohttp_server(app)).make_url("/")).rstrip("/")

    return start


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(TokenOptions(), id="defaults"),
        pytest.param(TokenOptions(user="user_bob", org="none", expires_in=-60, foreign=True, v1=True), id="some"),
        pytest.param(TokenOptions(role="admin", permissions=("a:b", "a:c"), template="convex", azp=""), id="others"),
        pytest.param(TokenOptions(type="m2m", machine="mch_x", scopes=("a", "b:c"), jwt=True), id="machine"),
        pytest.param(TokenOptions(type="oauth", audience=("https://api.example",)), id="audience"),
    ],
)
def test_options_survive_the_wire(options):
    assert read_options(json.loads(json.dumps(options.to_json()))) == options


@pytest.mark.parametrize(
    ("body", "says"),
    [
        pytest.param([], "JSON object", id="list"),
        pytest.param(None, "JSON object", id="null"),
        pytest.param({"expires-in": 60}, "no such option: expires-in", id="unknown"),
        pytest.param({"expires_in": "60"}, "expires_in", id="text-for-number"),
        pytest.param({"expires_in": True}, "expires_in", id="bool-is-no-number"),
        pytest.param({"foreign": 1}, "foreign", id="number-for-bool"),
        pytest.param({"permissions": "org:a:b"}, "permissions", id="text-for-list"),
        pytest.param({"permissions": [1]}, "permissions", id="list-of-numbers"),
        pytest.param({"user": 7}, "user", id="number-for-text"),
        pytest.param({"type": None}, "type", id="null-for-type"),
        pytest.param({"type": "m2m_token"}, "there are session, api_key, m2m, oauth", id="no-such-type"),
        pytest.param({"scopes": ["a"]}, "scopes does not go with the type session", id="scopes-of-a-session"),
        pytest.param({"jwt": True}, "jwt does not go with the type session", id="signed-session"),
        pytest.param({"type": "api_key", "role": "admin"}, "role does not go with", id="role-of-a-key"),
        pytest.param({"type": "m2m", "template": "convex"}, "template does not go with", id="template-of-a-machine"),
        pytest.param({"type": "m2m", "user": "user_bob"}, "user does not go with the type m2m", id="user-of-a-machine"),
        pytest.param({"type": "m2m", "user": "bob", "org": "acme"}, "user, org do not go with", id="several"),
        pytest.param({"type": "oauth", "machine": "mch_x"}, "machine is for the type m2m", id="machine-of-oauth"),
        pytest.param({"type": "m2m", "machine": "reports"}, "begins with mch_", id="no-machine"),
        pytest.param({"type": "m2m", "scopes": ["a b"]}, "is no scope", id="scope-with-a-blank"),
    ],
)
def test_options_refused(body, says):
    with pytest.raises(ValueError, match=says):
        read_options(body)


async def test_token_is_fetched(serve):
    url = await serve(issuer_app(LocalIssuer("http://127.0.0.1:1", gateway_origin="http://127.0.0.1:2")))
    assert (await fetch_token(url, TokenOptions(permissions=("a:b",)))).count(".") == 2


async def test_nothing_listening_says_how_to_start_it():
    port = unused_port()
    said = f"no `gateway dev` on port {port - 1}: its local issuer would be on 127.0.0.1:{port}, where nothing listens"
    with pytest.raises(DevError, match=re.escape(said)):
        await fetch_token(f"http://127.0.0.1:{port}", TokenOptions())


async def test_refusal_is_told_in_the_issuers_words(serve):
    url = await serve(issuer_app(LocalIssuer("http://127.0.0.1:1", gateway_origin="http://127.0.0.1:2")))
    with pytest.raises(DevError, match="no user 'mallory'"):
        await fetch_token(url, TokenOptions(user="mallory"))


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(lambda: web.Response(text="<html>"), id="html"),
        pytest.param(lambda: web.Response(body=b"\xff", headers={"Content-Type": "application/json"}), id="no-text"),
        pytest.param(lambda: web.json_response({"token": 7}), id="no-token"),
        pytest.param(lambda: web.json_response([]), id="no-object"),
        pytest.param(lambda: web.Response(status=302, headers={"Location": "/elsewhere"}), id="redirect"),
    ],
)
async def test_something_else_listening_is_said_so(serve, answer):
    async def other(_):
        return answer()

    async def elsewhere(_):
        return web.json_response({"token": "a.b.c"})

    app = web.Application()
    app.router.add_post("/dev/token", other)
    app.router.add_get("/elsewhere", elsewhere)
    with pytest.raises(DevError, match="is not `gateway dev`"):
        await fetch_token(await serve(app), TokenOptions())
