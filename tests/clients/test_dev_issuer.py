"""The local issuer of `gateway dev` against Clerk's own backend SDK in Node: what it takes for Clerk's, is Clerk's."""

import asyncio
import os
import shutil
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from yarl import URL

from gateway.ops.dev.backend_api import backend_routes
from gateway.ops.dev.frontend_api import frontend_routes
from gateway.ops.dev.happenings import Wanted, happen
from gateway.ops.dev.issuer import LocalIssuer, issuer_app
from gateway.ops.dev.machines_api import machine_routes
from gateway.ops.dev.sessions import session_routes
from gateway.ops.dev.token_request import TokenOptions

HERE = Path(__file__).parent
DOCUMENT = {"Sec-Fetch-Dest": "document", "Accept": "text/html"}
SECRET_KEY = "sk_test_1"


@dataclass
class Set:
    """An issuer, an application that the SDK guards, and a browser of sorts."""

    issuer: LocalIssuer
    app: str
    browser: aiohttp.ClientSession

    async def get(self, path: str = "/", **fields: str) -> tuple[int, Any, list[str]]:
        """Open a document; give status, body, and the ways there."""
        async with self.browser.get(self.app + path, headers=DOCUMENT | fields) as response:
            assert response.status != 500, await response.text()
            return response.status, await response.json(), [str(each.url) for each in response.history]

    async def sign_in(self, user: str, path: str = "/") -> Any:
        """Press a button of the sign-in page; give what the application says in the end."""
        form = {"user": user, "redirect_url": self.app + path}
        async with self.browser.post(f"{self.issuer.url}/sign-in", data=form, headers=DOCUMENT) as response:
            assert response.status == 200, await response.text()
            return await response.json()

    async def call(self, token: str, accepts: str) -> tuple[int, Any]:
        """Send a machine's token, to where `accepts` is taken."""
        fields = {"Authorization": f"Bearer {token}", "X-Accepts": accepts}
        async with self.browser.get(self.app, headers=fields) as response:
            return response.status, await response.json()

    def put(self, name: str, value: str) -> None:
        """Change a cookie of the browser's, under both of its names where it has two."""
        for each in (name, f"{name}_{self.issuer.played.suffix}"):
            if each in self.cookies():
                self.browser.cookie_jar.update_cookies({each: value}, URL(self.app))

    def grow_old(self) -> str:
        """Let two minutes pass, as far as the browser's cookies know; give the token that is over now."""
        now = time.time()
        self.put("__session", token := self.issuer.mint(now - 120, "user_bob", azp=self.app))
        self.put("__client_uat", str(int(now - 180)))
        return token

    def forget(self, name: str) -> None:
        """Take a cookie away."""
        self.browser.cookie_jar.clear(lambda cookie: cookie.key.startswith(name))

    def cookies(self) -> dict[str, str]:
        """Give what the browser keeps."""
        return {each.key: each.value for each in self.browser.cookie_jar}


@asynccontextmanager
async def running(*, development: bool) -> AsyncIterator[Set]:
    """Run all of it on loopback."""
    if shutil.which("node") is None:
        pytest.skip("Node is not installed: apt-get install nodejs npm")
    if not (HERE / "node_modules" / "@clerk").exists():
        pytest.skip("Clerk's npm package is not installed: npm ci --prefix tests/clients")
    issuer, runner = await serve(development=development)
    environ = os.environ | {
        "ISSUER": issuer.url, "PUBLISHABLE_KEY": issuer.played.publishable_key, "SECRET_KEY": SECRET_KEY,
    }  # fmt: skip
    pipe = asyncio.subprocess.PIPE
    node = await asyncio.create_subprocess_exec(
        "node", str(HERE / "sdk_app.mjs"), env=environ, stdin=pipe, stdout=pipe, stderr=None
    )
    assert node.stdout is not None
    assert node.stdin is not None
    try:
        app = f"http://127.0.0.1:{int(await node.stdout.readline())}"
        jar = aiohttp.CookieJar(unsafe=True)  # of addresses too
        async with aiohttp.ClientSession(cookie_jar=jar) as browser:
            yield Set(issuer, app, browser)
    finally:
        node.stdin.close()
        await node.stdout.read()
        await node.wait()
        await runner.cleanup()


async def serve(*, development: bool) -> tuple[LocalIssuer, web.AppRunner]:
    """Start the issuer on a free port."""
    listener = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    issuer = LocalIssuer(url, gateway_origin=url, development=development)
    routes = [
        *backend_routes(issuer, lambda _: None, SECRET_KEY),
        *session_routes(issuer, SECRET_KEY),
        *machine_routes(issuer.machines, SECRET_KEY),
        *frontend_routes(issuer, home=url),
    ]
    runner = web.AppRunner(issuer_app(issuer, routes=routes), access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.SockSite(runner, listener).start()
    return issuer, runner


@pytest.fixture(params=[pytest.param(True, id="development"), pytest.param(False, id="production")])
async def run(request: pytest.FixtureRequest) -> AsyncIterator[Set]:
    """Give an issuer that plays either kind of instance."""
    async with running(development=request.param) as made:
        yield made


async def test_signing_in_comes_back_signed_in(run: Set) -> None:
    status, told, _ = await run.get()
    assert (status, told["reason"]) == (401, "session-token-and-uat-missing")
    told = await run.sign_in("user_bob", "/page?a=b%20c")
    assert (told["status"], told["userId"], told["orgId"]) == ("signed-in", "user_bob", "org_acme")
    status, told, history = await run.get()
    assert (status, told["userId"], history) == (200, "user_bob", [])


async def test_an_expired_session_is_refreshed_without_a_redirect(run: Set) -> None:
    await run.sign_in("user_bob")
    expired = run.grow_old()
    status, told, history = await run.get()
    assert (status, told["userId"], history) == (200, "user_bob", [])
    assert run.cookies()["__session"] not in ("", expired)


async def test_without_a_refresh_cookie_it_goes_through_the_handshake(run: Set) -> None:
    await run.sign_in("user_bob")
    run.grow_old()
    run.forget("__refresh")
    status, told, history = await run.get("/page?a=b%20c")
    assert (status, told["userId"], told["status"]) == (200, "user_bob", "signed-in")
    assert any("/v1/client/handshake" in each for each in history)
    assert any("refresh-non-eligible-no-refresh-cookie" in each for each in history)


@pytest.mark.parametrize("kept", ["__refresh", "__nothing"])
async def test_a_session_that_ended_is_over_once_its_token_is(run: Set, kept: str) -> None:
    await run.sign_in("user_bob")
    run.grow_old()
    happen(run.issuer.world, Wanted("session.revoked", "user_bob"))
    if kept != "__refresh":
        run.forget("__refresh")
    status, told, _ = await run.get()
    assert (status, told["userId"]) == (401, None)
    assert run.cookies()["__client_uat"] == "0"
    assert not {"__session", f"__refresh_{run.issuer.played.suffix}"} & run.cookies().keys()


async def test_signing_out_is_seen_by_the_next_document(run: Set) -> None:
    await run.sign_in("user_bob")
    out = {"redirect_url": run.app + "/"}
    async with run.browser.get(f"{run.issuer.url}/sign-out", params=out, headers=DOCUMENT) as response:
        assert (await response.json())["status"] == "signed-out"
    status, told, history = await run.get()
    assert (status, told["reason"], history) == (401, "session-token-and-uat-missing", [])


async def test_another_user_takes_the_place_of_the_first(run: Set) -> None:
    await run.sign_in("user_bob")
    run.grow_old()  # else both have signed in within the same second
    assert (await run.sign_in("user_carol"))["userId"] == "user_carol"


async def test_a_handshake_without_a_nonce_is_taken_too(run: Set) -> None:
    await run.sign_in("user_bob")
    run.forget("__session")
    asked = {"redirect_url": run.app + "/page", "__clerk_db_jwt": run.cookies().get("__clerk_db_jwt", "")}
    url = f"{run.issuer.url}/v1/client/handshake"
    async with run.browser.get(url, params=asked, headers=DOCUMENT) as response:
        assert (await response.json())["userId"] == "user_bob"
        assert len(response.history) == (2 if run.issuer.played.development else 1)
    assert run.cookies()["__session"]


async def test_a_tampered_session_is_nobodys(run: Set) -> None:
    await run.sign_in("user_bob")
    token = run.cookies()["__session"]
    run.put("__session", token[:-8] + ("A" * 8))
    status, told, _ = await run.get()
    assert (status, told["reason"]) == (401, "token-invalid-signature")


TYPES = {"api_key": "api_key", "m2m": "m2m_token", "oauth": "oauth_token"}


DEVELOPMENT = pytest.mark.parametrize("run", [True], indirect=True, ids=["development"])


@DEVELOPMENT
@pytest.mark.parametrize(
    ("options", "subject"),
    [
        pytest.param({"type": "api_key"}, "user_alice", id="api-key"),
        pytest.param({"type": "api_key", "org": "acme"}, "org_acme", id="api-key-of-organisation"),
        pytest.param({"type": "m2m"}, "mch_reports", id="m2m"),
        pytest.param({"type": "m2m", "machine": "mch_x", "jwt": True}, "mch_x", id="m2m-signed"),
        pytest.param({"type": "oauth", "user": "bob"}, "user_bob", id="oauth"),
        pytest.param({"type": "oauth", "user": "bob", "jwt": True}, "user_bob", id="oauth-signed"),
    ],
)
async def test_machine_tokens_are_verified(run: Set, options: dict[str, Any], subject: str) -> None:
    asked = TokenOptions(scopes=("reports:read", "x"), **options)
    token = run.issuer.answer(asked, now=time.time())["token"]
    status, told = await run.call(token, TYPES[asked.type])
    assert (status, told["subject"], told["scopes"]) == (200, subject, ["reports:read", "x"])


@DEVELOPMENT
@pytest.mark.parametrize("kind", TYPES)
async def test_machine_tokens_are_refused(run: Set, kind: str) -> None:
    def made(**options: Any) -> str:
        return str(run.issuer.answer(TokenOptions(type=kind, **options), now=time.time())["token"])

    good = made()
    assert (await run.call(good, TYPES[kind]))[0] == 200
    run.issuer.machines.revoke(good)
    for token in (good, made(expires_in=-60), made(foreign=True)):
        status, told = await run.call(token, TYPES[kind])
        assert (status, told["reason"]) == (401, "token-invalid")
    if kind != "api_key":
        for options in ({"expires_in": -60}, {"foreign": True}):
            assert (await run.call(made(jwt=True, **options), TYPES[kind]))[0] == 401
