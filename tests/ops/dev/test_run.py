"""`gateway dev` as a whole: real HTTP through the gateway, with tokens of the local issuer."""

import asyncio
import contextlib
import re
import socket
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import jwt
import psycopg
import pytest
from svix.webhooks import Webhook

from gateway.ops.dev import DevError
from gateway.ops.dev.asking import issuer_url
from gateway.ops.dev.event_request import EventOptions
from gateway.ops.dev.firing import fire_at_gateway
from gateway.ops.dev.guide import Addresses
from gateway.ops.dev.run import run_dev
from gateway.ops.dev.token_request import TokenOptions, fetch_token, revoke_token
from tests.fakes.postgres import binaries, running_postgres


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
async def started(printed, **options):
    """Run `gateway dev` on free ports until the block ends, as Ctrl-C ends it."""
    addresses = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(run_dev(0, write=printed.append, ready=addresses.set_result, environ={}, **options))
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
    files.remove("/app")  # which wants a session
    for path in [*files, "/public/config.json"]:
        async with dev.session.get(dev.where.gateway + path) as response:
            assert response.status == 200, path


@pytest.mark.parametrize(
    ("path", "options", "status", "reason"),
    [
        pytest.param("/public/hello", {}, 200, None, id="public"),
        pytest.param("/optional/hello", {}, 200, None, id="optional-anonymous"),
        pytest.param("/hello", {}, 401, "dev-browser-missing", id="nothing-sent"),
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

    def field(**other):
        return {"Cookie": "; ".join(f"{name}={value}" for name, value in (cookies | other).items())}

    status, seen = await dev.get("/hello", headers=field(theme="dark"))
    assert (status, seen["user"]["id"]) == (200, "user_bob")
    assert ["Cookie", "theme=dark"] in seen["headers"]
    status, body = await dev.get("/hello", headers=field(__client_uat="0"))
    assert (status, body["reason"]) == (401, "session-token-but-no-client-uat")


async def test_printed_addresses_are_those_in_use(dev):
    (text,) = dev.printed
    assert f"curl {dev.where.gateway}/hello" in text
    (port,) = {int(port) for port in re.findall(r"(?:token|dev) --port (\d+)", text)}
    assert issuer_url(port) == dev.where.issuer


async def test_all_ports_are_free_again_after_the_end():
    async with started([]) as where:
        pass
    for url in (where.gateway, where.issuer, where.upstream, where.admin):
        socket.create_server(("127.0.0.1", int(url.rpartition(":")[2]))).close()


async def test_a_stream_does_not_hold_up_the_end():
    async with asyncio.timeout(20), aiohttp.ClientSession() as session:  # by default it would be held up for 30 s
        async with started([]) as where:
            response = await session.get(where.gateway + "/public/stream?events=2&every_s=60")
            assert await response.content.readline() == b"id: 1\n"
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()


@pytest.mark.parametrize("taken", [0, 1, 2, 3], ids=["gateway", "issuer", "upstream", "admin"])
async def test_port_in_use_is_named_with_the_option(taken):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        ports = [0, 0, 0, 0]
        ports[taken] = port
        with pytest.raises(DevError, match=rf"127\.0\.0\.1:{port} for .* --port"):
            await run_dev(*ports, write=lambda _: None, environ={})


@pytest.mark.parametrize("port", [-1, 65_533, 65_534, 65_535, 70_000])
async def test_port_out_of_range_is_refused(port):
    with pytest.raises(DevError, match="--port is a number"):
        await run_dev(port, write=lambda _: None, environ={})


def printed_file(printed):
    return Path(re.search(r"^  file +(\S+)", printed[0], re.MULTILINE)[1])


async def told(dev, kind, user=None, **more):
    """Fire an event; say whether the gateway took it, and how."""
    lines = []
    good = await fire_at_gateway(dev.where.issuer, EventOptions(kind, user, **more), write=lines.append)
    return good, [" ".join(line.split()[2:]) for line in lines]


async def directory(dev):
    """Give what the gateway's own store says, past its API: every user's name by id."""
    with contextlib.closing(sqlite3.connect(printed_file(dev.printed).with_name("gateway-dev.db"))) as database:
        return dict(database.execute("SELECT id, name FROM gateway_users WHERE NOT deleted").fetchall())


async def test_events_come_into_the_gateways_directory(dev):
    assert await told(dev, "user.updated", "bob", set={"first_name": "Robert"}) == (True, ["200 stored"])
    assert (await directory(dev))["user_bob"] == "Robert Brown"
    assert await told(dev, "user.updated", "bob", twice=True) == (True, ["200 stored", "200 repeated"])
    assert await told(dev, "user.created", "user_eve", set={"first_name": "Eve"}) == (True, ["200 stored"])
    assert (await directory(dev))["user_eve"] == "Eve"
    good, answers = await told(dev, "user.deleted", "bob")
    assert (good, answers) == (True, ["200 stored"] * 2)
    assert "user_bob" not in await directory(dev)


async def test_out_of_order_the_newer_one_stays(dev):
    assert await told(dev, "user.updated", "bob", set={"first_name": "Older"}, hold=True) == (True, ["held held back"])
    assert await told(dev, "user.updated", "bob", set={"first_name": "Newer"}) == (True, ["200 stored"])
    async with dev.session.get(dev.where.issuer + "/dev/state") as response:
        events = (await response.json())["events"]
    assert [each["answer"] for each in events] == ["stored", "stored"]
    assert (await directory(dev))["user_bob"] == "Newer Brown"


@pytest.mark.parametrize(
    ("options", "answer"),
    [({"bad_signature": True}, "400 bad_request, signature"), ({"old_s": 600}, "400 bad_request, timestamp")],
)
async def test_forged_and_old_events_are_refused(dev, options, answer):
    assert await told(dev, "user.updated", "bob", set={"first_name": "Mallory"}, **options) == (False, [answer])
    assert "user_bob" not in await directory(dev)


async def test_signing_in_and_out_is_told_to_the_gateway(dev):
    assert (await dev.get("/hello", user="bob"))[0] == 200
    assert await told(dev, "session.ended", "bob") == (True, ["200 stored"])
    async with dev.session.get(dev.where.issuer + "/dev/state") as response:
        events = (await response.json())["events"]
    assert [(each["type"], each["answer"]) for each in events] == [
        ("session.ended", "stored"), ("session.created", "stored"),
    ]  # fmt: skip


async def test_another_runs_secret_is_not_taken(dev):
    secret = re.search(r"whsec_[A-Za-z0-9+/]{32}", dev.printed[0])[0]
    async with started(other := []) as where:
        assert secret not in other[0]
        body = b'{"data": {"id": "user_1"}, "type": "user.created"}'
        for url, status in ((dev.where.gateway, 200), (where.gateway, 400)):
            at = datetime.now(UTC)
            headers = {
                "svix-id": "msg_1", "svix-timestamp": str(int(at.timestamp())),
                "svix-signature": Webhook(secret).sign("msg_1", at, body.decode()),
            }  # fmt: skip
            async with dev.session.post(url + "/webhooks/clerk", data=body, headers=headers) as response:
                assert response.status == status


async def test_admin_listener_wants_the_printed_token(dev):
    token = re.search(r"token ([0-9a-f]{32})\)", dev.printed[0])[1]
    for given, status in ((token, 200), ("x", 401)):
        headers = {"Authorization": f"Bearer {given}"}
        async with dev.session.get(dev.where.admin + "/v1/routes", headers=headers) as response:
            assert response.status == status


async def test_backend_api_is_at_the_issuer(dev):
    key = re.search(r"CLERK_SECRET_KEY=(sk_test_[0-9a-f]{40})", dev.printed[0])[1]
    for given, status in ((key, 200), ("sk_test_x", 401)):
        headers = {"Authorization": f"Bearer {given}"}
        async with dev.session.get(dev.where.issuer + "/v1/users/count", headers=headers) as response:
            assert response.status == status


async def test_files_go_with_the_run_and_are_ones_own():
    printed = []
    async with started(printed):
        file = printed_file(printed)
        assert file.stat().st_mode & 0o077 == 0
        assert file.parent.stat().st_mode & 0o077 == 0
    assert not file.parent.exists()


async def test_a_store_that_is_kept_is_there_at_the_next_start(tmp_path):
    for name in (None, "Robert Brown"):
        printed = []
        async with started(printed, keep=str(tmp_path / "kept")) as where, aiohttp.ClientSession() as session:
            dev = Running(where, session, printed)
            assert (await directory(dev)).get("user_bob") == name
            await told(dev, "user.updated", "bob", set={"first_name": "Robert"})


@pytest.mark.parametrize(
    ("options", "says"),
    [
        pytest.param({"store": "mysql://x"}, "store.url", id="no-such-kind"),
        pytest.param({"store": "sqlite:////nowhere/at/all.db"}, "--store", id="cannot-be-opened"),
        pytest.param({"keep": "/dev/null/x"}, "--keep", id="no-folder"),
    ],
)
async def test_a_store_there_cannot_be_is_said(options, says):
    with pytest.raises(DevError, match=says):
        await run_dev(0, write=lambda _: None, environ={}, **options)


async def test_what_is_told_of_a_user_is_signed_too(dev):
    _, seen = await dev.get("/hello", user="user_alice")
    async with dev.session.get(f"{dev.where.gateway}/.well-known/gateway/jwks.json") as answer:
        keys = jwt.PyJWKSet.from_dict(await answer.json())
    token = seen["user"]["assertion"]
    said = jwt.decode(
        token, keys[jwt.get_unverified_header(token)["kid"]].key, algorithms=["ES256"], audience="sample",
        issuer=dev.where.gateway, leeway=5,
    )  # fmt: skip
    assert said["sub"] == "user_alice"


async def test_keys_kept_that_are_none_are_said(tmp_path):
    (tmp_path / "gateway-dev-keys").mkdir(mode=0o700)
    (tmp_path / "gateway-dev-keys" / "signing-key-000001.json").write_text("{}")
    with pytest.raises(DevError, match="is not a signing key"):
        await run_dev(0, 0, 0, 0, keep=str(tmp_path), write=lambda _: None, environ={})


async def test_another_store_is_brought_up_to_date_and_used():
    if binaries() is None:
        pytest.skip("no PostgreSQL here: apt-get install postgresql")
    with running_postgres() as server:
        url, printed = server.database(), []
        async with started(printed, store=url) as where, aiohttp.ClientSession() as session:
            dev = Running(where, session, printed)
            assert await told(dev, "user.updated", "bob", set={"first_name": "Robert"}) == (True, ["200 stored"])
        with psycopg.connect(url) as connection:
            assert connection.execute("SELECT name FROM gateway_users").fetchall() == [("Robert Brown",)]


async def test_a_changed_user_is_seen_in_the_headers_and_in_the_directory(dev):
    token = re.search(r"token ([0-9a-f]{32})\)", dev.printed[0])[1]
    await told(dev, "user.created", "bob")
    _, seen = await dev.get("/hello", user="bob")
    assert (seen["user"]["name"], seen["user"]["email"]) == ("Bob Brown", "bob@acme.example")
    await told(dev, "user.updated", "bob", set={"first_name": "Robert", "email": "robert@x.example"})
    _, seen = await dev.get("/hello", user="bob")
    assert (seen["user"]["name"], seen["user"]["email"]) == ("Robert Brown", "robert@x.example")
    headers = {"Authorization": f"Bearer {token}"}
    async with dev.session.get(dev.where.admin + "/v1/users/user_bob", headers=headers) as response:
        assert (await response.json())["email"] == "robert@x.example"


async def test_machine_tokens_are_made_and_taken_back(dev):
    token = await fetch_token(dev.where.issuer, TokenOptions(type="api_key", org="acme", scopes=("a",)))
    assert token.startswith("ak_")
    assert re.fullmatch("ak_[^ ]+ of org_acme is revoked", await revoke_token(dev.where.issuer, token))
    for wrong in ("ak_unknown", await fetch_token(dev.where.issuer, TokenOptions(type="m2m", jwt=True))):
        with pytest.raises(DevError, match="no opaque token that was made here"):
            await revoke_token(dev.where.issuer, wrong)


async def test_a_production_instance_has_a_live_key():
    async with started(printed := [], production=True):
        assert "CLERK_SECRET_KEY=sk_live_" in printed[0]
        assert "CLERK_PUBLISHABLE_KEY=pk_live_" in printed[0]


@pytest.mark.parametrize("options", [{"type": "api_key"}, {"type": "m2m"}, {"type": "oauth", "jwt": True}])
async def test_machines_pass_with_their_scopes(dev, options):
    status, seen = await dev.get("/reports", **options, scopes=("reports:read", "x"))
    assert (status, seen["user"]["scopes"]) == (200, ["reports:read", "x"])
    assert (await dev.get("/reports", **options))[1]["reason"] == "scope"
    assert (await dev.get("/machines/hello", **options))[0] == 200
    assert (await dev.get("/machines/hello", **options, foreign=True))[0] == 401
    assert (await dev.get("/machines/hello", user="bob"))[0] == 401
    assert (await dev.get("/hello", **options))[0] == 401
    assert (await dev.get("/machines/hello", {"Accept": "text/html"}))[0] == 401  # a document, but there is no session


async def test_a_machine_token_that_was_taken_back_is_refused(dev):
    token = await fetch_token(dev.where.issuer, TokenOptions(type="api_key"))
    await revoke_token(dev.where.issuer, token)
    status, body = await dev.get("/machines/hello", {"Authorization": f"Bearer {token}"})
    assert (status, body["reason"]) == (401, "token-invalid")
