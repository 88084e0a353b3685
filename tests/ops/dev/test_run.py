"""`gateway dev` as a whole: real HTTP through the gateway, with tokens of the local issuer."""

import asyncio
import contextlib
import re
import socket

import aiohttp
import pytest

from gateway.ops.dev import DevError
from gateway.ops.dev.guide import Addresses
from gateway.ops.dev.run import run_dev
from gateway.ops.dev.token_request import TokenOptions, fetch_token, issuer_url


class Running:
    """A running `gateway dev` with a client of its own."""

    def __init__(self, where: Addresses, session: aiohttp.ClientSession, printed: list[str]) -> None:
        self.where = where
        self.session = session
        self.printed = printed

    async def get(self, path, headers=None, **options):
        """GET `path` through the gateway, with the token of these options; give status and body."""
        fields = dict(headers or {})
        if options:
            fields["Authorization"] = f"Bearer {await fetch_token(self.where.issuer, TokenOptions(**options))}"
        async with self.session.get(self.where.gateway + path, headers=fields) as response:
            return response.status, await response.json(content_type=None)


@contextlib.asynccontextmanager
async def started(printed):
    """Run `gateway dev` on free ports until the block ends, as Ctrl-C ends it."""
    addresses = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(run_dev(0, write=printed.append, ready=addresses.set_result, environ={}))
    try:
        await asyncio.wait([task, addresses], return_when=asyncio.FIRST_COMPLETED, timeout=20)
        yield addresses.result() if addresses.done() else task.result()
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@pytest.fixture
async def dev():
    printed: list[str] = []
    async with started(printed) as where, aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
        yield Running(where, session, printed)


async def test_page_and_its_files_come_through_the_gateway(dev):
    async with dev.session.get(dev.where.gateway + "/") as response:
        assert (response.status, response.content_type) == (200, "text/html")
        files = re.findall(r'(?:src|href)="([^"]+)"', await response.text())
    for path in [*files, "/public/config.json"]:
        async with dev.session.get(dev.where.gateway + path) as response:
            assert response.status == 200, path


@pytest.mark.parametrize(
    ("path", "options", "status", "reason"),
    [
        pytest.param("/public/hello", {}, 200, None, id="public"),
        pytest.param("/optional/hello", {}, 200, None, id="optional-anonymous"),
        pytest.param("/hello", {}, 401, "session-token-and-uat-missing", id="nothing-sent"),
        pytest.param("/hello", {"user": "alice"}, 200, None, id="signed-in"),
        pytest.param("/hello", {"user": "alice", "v1": True}, 200, None, id="signed-in-v1"),
        pytest.param("/admin/hello", {"user": "alice"}, 200, None, id="admin"),
        pytest.param("/admin/hello", {"user": "bob"}, 403, "role", id="member-is-no-admin"),
        pytest.param("/admin/hello", {"user": "alice", "org": "none"}, 403, "role", id="no-organisation"),
        pytest.param("/admin/hello", {"user": "carol", "org": "org_x", "role": "admin"}, 200, None, id="role-asked"),
        pytest.param("/template/hello", {"user": "alice", "template": "convex"}, 200, None, id="template"),
        pytest.param("/template/hello", {"user": "alice"}, 401, "token-type-mismatch", id="session-for-template"),
        pytest.param(
            "/hello", {"user": "alice", "template": "convex"}, 401, "token-type-mismatch", id="template-alone"
        ),
        pytest.param("/hello", {"expires_in": -1}, 401, "token-expired", id="expired"),
        pytest.param("/hello", {"foreign": True}, 401, "jwk-kid-mismatch", id="foreign"),
        pytest.param("/hello", {"user": "dave"}, 401, "session-pending", id="pending"),
        pytest.param(
            "/hello", {"azp": "http://evil.example"}, 401, "token-invalid-authorized-parties", id="other-page"
        ),
    ],
)
async def test_what_the_gateway_lets_through(dev, path, options, status, reason):
    answered, body = await dev.get(path, **options)
    assert (answered, body.get("reason")) == (status, reason), body


async def test_upstream_is_told_who_it_is_and_not_what_the_client_claims(dev):
    claimed = {"X-User-Id": "user_mallory", "X_User_Org_Role": "org:admin", "X-User-Email": "m@evil.example"}
    _, seen = await dev.get("/hello", headers=claimed, user="bob")
    user = seen["user"]
    assert (user["id"], user["org_id"], user["org_slug"], user["org_role"]) == (
        "user_bob",
        "org_acme",
        "acme",
        "org:member",
    )
    assert user["session_id"].startswith("sess_")
    assert sorted(user["org_permissions"]) == ["org:dashboard:read", "org:teams:read"]
    assert "mallory" not in str(seen)
    assert "evil" not in str(seen)
    assert "authorization" not in {name.lower() for name, _ in seen["headers"]}


async def test_template_brings_the_profile(dev):
    _, seen = await dev.get("/template/hello", user="alice", template="convex")
    assert seen["user"]["email"] == "alice@acme.example"
    assert seen["user"]["name"] == "Alice Åberg"


@pytest.mark.parametrize("path", ["/public/hello", "/optional/hello"])
async def test_nobody_has_no_identity(dev, path):
    _, seen = await dev.get(path, headers={"X-User-Id": "user_mallory"})
    assert seen["user"] is None


async def test_cookies_of_the_page_are_a_session(dev):
    async with dev.session.post(dev.where.issuer + "/dev/token", json={"user": "user_bob"}) as response:
        cookies = (await response.json())["cookies"]
    signed_in = "; ".join(f"{name}={value}" for name, value in cookies.items())
    status, seen = await dev.get("/hello", headers={"Cookie": signed_in + "; theme=dark"})
    assert (status, seen["user"]["id"]) == (200, "user_bob")
    assert ["Cookie", "theme=dark"] in seen["headers"]
    status, body = await dev.get("/hello", headers={"Cookie": f"__session={cookies['__session']}; __client_uat=0"})
    assert (status, body["reason"]) == (401, "session-token-but-no-client-uat")


async def test_printed_addresses_are_those_in_use(dev):
    (text,) = dev.printed
    assert f"curl {dev.where.gateway}/hello" in text
    (port,) = {int(port) for port in re.findall(r"token --port (\d+)", text)}
    assert issuer_url(port) == dev.where.issuer


async def test_all_ports_are_free_again_after_the_end():
    async with started([]) as where:
        pass
    for url in (where.gateway, where.issuer, where.upstream):
        socket.create_server(("127.0.0.1", int(url.rpartition(":")[2]))).close()


async def test_a_stream_does_not_hold_up_the_end():
    async with asyncio.timeout(20), aiohttp.ClientSession() as session:  # by default it would be held up for 30 s
        async with started([]) as where:
            response = await session.get(where.gateway + "/public/stream?events=2&every_s=60")
            assert await response.content.readline() == b"id: 1\n"
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()


@pytest.mark.parametrize("taken", [0, 1, 2], ids=["gateway", "issuer", "upstream"])
async def test_port_in_use_is_named_with_the_option(taken):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        ports = [0, 0, 0]
        ports[taken] = port
        with pytest.raises(DevError, match=rf"127\.0\.0\.1:{port} for .* --port"):
            await run_dev(*ports, write=lambda _: None, environ={})


@pytest.mark.parametrize("port", [-1, 65_534, 65_535, 70_000])
async def test_port_out_of_range_is_refused(port):
    with pytest.raises(DevError, match="--port is a number"):
        await run_dev(port, write=lambda _: None, environ={})
