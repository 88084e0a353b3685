"""The gateway beside `@clerk/backend`'s own Frontend API proxy: the same requests, the same Clerk behind both."""

import asyncio
import json
import shutil
from typing import Any

import pytest

from gateway.web.frontend_api import FOR_NOW
from tests.clients.conftest import HERE, LONG_S
from tests.config.files import KEY
from tests.fakes.gateway import Running, gateway
from tests.fakes.upstream import Received, ScriptedUpstream, read_request, response
from tests.web.test_frontend_api import KEY as SECRET
from tests.web.test_frontend_api import NOBODY, clerk

CLIENT = {
    "x-forwarded-for": "203.0.113.7", "x-forwarded-proto": "https", "x-forwarded-host": "gw.example.com",
    "cookie": "__client=eyJ.a.b; __client_uat=1", "origin": "https://gw.example.com",
}  # fmt: skip
FORM = {"content-type": "application/x-www-form-urlencoded"}
VERSIONS = "__clerk_api_version=2025-11-10&_clerk_js_version=5.128.0"  # as clerk-js asks
CALLS: list[tuple[str, str, dict[str, str], str | None]] = [
    ("GET", f"/v1/environment?{VERSIONS}", {}, None),
    ("GET", f"/v1/client?{VERSIONS}&rotating_token_nonce=a%2Fb", {}, None),
    ("POST", f"/v1/client/sign_ins?{VERSIONS}", FORM, "identifier=me%40example.com&password=a+b%26c"),
    ("POST", f"/v1/me?{VERSIONS}&_method=PATCH&_clerk_session_id=sess_1", FORM, "first_name=Zo%C3%AB"),
    ("POST", f"/v1/client/sessions/sess_1/tokens/convex?{VERSIONS}", FORM, "organization_id="),
    (
        "POST",
        f"/v1/me/profile_image?{VERSIONS}",
        {"content-type": "multipart/form-data; boundary=b"},
        "--b\r\n\r\nx\r\n--b--",
    ),
    ("DELETE", "/v1/client", FORM, "a=1"),
    ("OPTIONS", "/v1/client", {"access-control-request-method": "POST"}, None),
    ("HEAD", "/npm/@clerk/clerk-js@5/dist/clerk.browser.js", {}, None),
    ("GET", "/v1/client", {"authorization": "eyJ.native.client"}, None),
    ("GET", "/v1/client/handshake?redirect_url=https%3A%2F%2Fapp.example.com%2F", {}, None),
    ("GET", "", {}, None),
    ("GET", "/redirects/whole", {}, None),
    ("GET", "/redirects/path", {}, None),
    ("GET", "/redirects/away", {}, None),
    ("POST", "/fails", FORM, "x=1"),
]
REDIRECTS = {"whole": "{fapi}/v1/next?a=%2F#top", "path": "/npm/clerk.js?x", "away": "https://app.example.com/in?a=1"}
COOKIES = (
    "Set-Cookie: __client=1; Path=/; HttpOnly",
    "Set-Cookie: __client_uat=2; Expires=Thu, 01 Jan 2099 00:00:00 GMT",
)
# Deliberate: Clerk's own would inflate the answer, so it asks for a plain one; the gateway passes bytes.
DIFFERENT = {"accept-encoding"}
NODES_OWN = {"host", "connection", "content-length", "transfer-encoding"}  # how Node puts the same request


class Fapi:
    """Clerk's place: answers by path, and keeps what it was asked."""

    def __init__(self) -> None:
        self.requests: list[Received] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until the client ends it."""
        while (request := await read_request(reader)) is not None:
            self.requests.append(request)
            kind, _, name = request.target[1:].partition("/")
            if kind == "redirects":
                where = REDIRECTS[name].format(fapi=f"http://{request.value('Host')}")
                writer.write(response(307, fields=(*COOKIES, f"Location: {where}")))
            elif kind == "fails":
                body = b'{"errors": [{"code": "form_password_incorrect", "message": "no"}]}'
                writer.write(response(422, body, fields=COOKIES))
            else:
                body = b"" if request.method == "HEAD" else b'{"response": null}'
                writer.write(response(200, body, fields=(*COOKIES, "Content-Type: application/json")))
            await writer.drain()


async def compare(running: Running, port: int, calls: list[tuple[str, str, dict[str, str], str | None]]) -> Any:
    if shutil.which("node") is None:
        pytest.skip("Node is not installed: apt-get install nodejs npm")
    if not (HERE / "node_modules" / "@clerk" / "backend").exists():
        pytest.skip("Clerk's npm package is not installed: npm ci --prefix tests/clients")
    asked = {
        "gateway": f"http://127.0.0.1:{running.port}/__clerk",
        "options": {"publishableKey": KEY, "secretKey": SECRET, "fapiUrl": f"http://127.0.0.1:{port}"},
        "calls": [{"method": method, "path": path, "headers": CLIENT | fields, "body": body}
                  for method, path, fields, body in calls],
    }  # fmt: skip
    pipes = {"stdin": asyncio.subprocess.PIPE, "stdout": asyncio.subprocess.PIPE}
    process = await asyncio.create_subprocess_exec("node", str(HERE / "proxy.mjs"), **pipes)
    async with asyncio.timeout(LONG_S):
        told, _ = await process.communicate(json.dumps(asked).encode())
    assert process.returncode == 0
    return json.loads(told)


def heard(request: Received) -> Any:
    besides = DIFFERENT | NODES_OWN
    fields = {name.lower(): value for name, value in request.fields if name.lower() not in besides}
    return request.method, request.target, fields, request.body


async def test_clerk_hears_and_says_the_same_through_either() -> None:
    fapi = Fapi()
    async with ScriptedUpstream(fapi) as there:
        async with gateway(NOBODY, clerk=clerk(there.port), trusted_proxies=["127.0.0.0/8"]) as running:
            answers = await compare(running, there.port, CALLS)
    assert len(answers) == len(CALLS)
    for answer in answers:
        assert answer["gateway"] == answer["clerk"]
    ours, theirs = fapi.requests[::2], fapi.requests[1::2]
    assert [request.target for request in ours] == [path or "/" for _, path, _, _ in CALLS]
    for one, other in zip(ours, theirs, strict=True):
        assert heard(one) == heard(other)
        assert one.value("Host") == other.value("Host")
        assert (one.value("Clerk-Secret-Key"), one.value("X-Forwarded-For")) == (SECRET, "203.0.113.7")


async def test_clerks_components_can_show_the_gateways_own_error() -> None:
    async with gateway(NOBODY, clerk=clerk(NOBODY)) as running:
        (answer,) = await compare(running, NOBODY, CALLS[:1])
    assert answer["gateway"]["status"] == answer["clerk"]["status"] == 502
    assert answer["gateway"]["shown"] == [["upstream_unreachable", FOR_NOW]]
    assert answer["clerk"]["shown"][0][0] == "proxy_request_failed"
