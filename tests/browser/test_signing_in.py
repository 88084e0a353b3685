"""A page in Chromium, signed in by cookies through the handshake with the local issuer, as in front of any service."""

import asyncio
import json
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.ops.dev.guide import Addresses
from gateway.ops.dev.run import run_dev

KINDS = pytest.mark.parametrize("production", [False, True], ids=["development", "production"])


@asynccontextmanager
async def dev(**options: Any) -> AsyncIterator[Addresses]:
    """Run the whole of `gateway dev` on free ports."""
    ready: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    starting = run_dev(0, 0, 0, 0, write=lambda _text: None, ready=ready.set_result, **options)
    running = asyncio.ensure_future(starting)
    await asyncio.wait({running, ready}, return_when=asyncio.FIRST_COMPLETED)
    try:
        yield ready.result()
    finally:
        running.cancel()
        await asyncio.wait({running})


class Documents:
    """Every document that a page asked for, by address without its query, in order."""

    def __init__(self, page: Any) -> None:
        self._seen: list[str] = []
        page.on("request", lambda request: self._note(request))

    def _note(self, request: Any) -> None:
        if request.is_navigation_request():
            self._seen.append(request.url.partition("?")[0])

    def taken(self) -> list[str]:
        """Give those since the last time."""
        seen, self._seen = self._seen, []
        return seen


async def cookies(page: Any) -> dict[str, str]:
    return {cookie["name"]: cookie["value"] for cookie in await page.context.cookies()}


async def put(page: Any, where: Addresses, value: str, name: str) -> None:
    """Change the cookies whose names begin so."""
    names = [each for each in await cookies(page) if each.startswith(name)]
    await page.context.add_cookies([{"name": each, "value": value, "url": where.gateway} for each in names])


async def grow_old(page: Any, where: Addresses) -> str:
    """Let two minutes pass, as far as the browser's cookies know; give the token that is over now."""
    answer = await page.context.request.post(f"{where.issuer}/dev/token", data={"user": "user_bob", "expires_in": -60})
    token = str((await answer.json())["token"])
    await put(page, where, token, "__session")
    await put(page, where, "1", "__client_uat")
    return token


async def sign_in(page: Any, where: Addresses, path: str = "/app") -> None:
    await page.goto(where.gateway + path)
    await page.get_by_role("heading", name="Sign in").wait_for()
    await page.get_by_role("button", name="Bob Brown").click()
    await page.get_by_role("heading", name="Signed in as Bob Brown").wait_for()


async def is_out(page: Any, where: Addresses) -> None:
    """Check that the next document is not served as signed in."""
    await page.goto(where.gateway + "/app")
    await page.get_by_role("heading", name="Sign in", exact=True).wait_for()
    assert page.url.startswith(where.issuer + "/sign-in?")


@KINDS
async def test_signed_in_refreshed_and_signed_out(page: Any, production: bool) -> None:
    async with dev(production=production) as where:
        documents = Documents(page)
        # Signing in leads back to the very page, and leaves nothing in its address.
        await sign_in(page, where, "/app/x?a=b%20c")
        assert page.url == where.gateway + "/app/x?a=b%20c"
        assert f"{where.issuer}/v1/client/handshake" in documents.taken()
        # From then on nobody is asked.
        await page.reload()
        assert documents.taken() == [f"{where.gateway}/app/x"]
        # Nor when the token has expired: the user sees one document, and no redirect.
        expired = await grow_old(page, where)
        response = await page.goto(where.gateway + "/app")
        assert (response.status, response.request.redirected_from) == (200, None)
        await page.get_by_role("heading", name="Signed in as Bob Brown").wait_for()
        assert documents.taken() == [f"{where.gateway}/app"]
        assert (await cookies(page))["__session"] not in ("", expired)
        # Once they have signed out, the next document is not theirs.
        await page.get_by_role("link", name="Sign out").click()
        await page.get_by_role("heading", name="Sign in", exact=True).wait_for()
        await is_out(page, where)
        left = await cookies(page)
        assert not [name for name in left if name.startswith(("__session", "__refresh"))]
        assert {value for name, value in left.items() if name.startswith("__client_uat")} == {"0"}


@KINDS
async def test_without_a_refresh_cookie_it_is_the_handshake_that_nobody_notices(page: Any, production: bool) -> None:
    async with dev(production=production) as where:
        await sign_in(page, where)
        await grow_old(page, where)
        await page.context.clear_cookies(name=re.compile("__refresh.*"))
        documents = Documents(page)
        await page.goto(where.gateway + "/app/x?a=b%20c")
        await page.get_by_role("heading", name="Signed in as Bob Brown").wait_for()
        assert page.url == where.gateway + "/app/x?a=b%20c"
        assert f"{where.issuer}/v1/client/handshake" in documents.taken()


@KINDS
async def test_signing_out_at_the_issuer_is_seen_at_once(page: Any, production: bool) -> None:
    async with dev(production=production) as where:
        await sign_in(page, where)
        other = await page.context.new_page()
        await other.goto(where.issuer + "/sign-out")
        await is_out(page, where)


async def test_another_browser_is_not_signed_in(page: Any) -> None:
    async with dev() as where:
        await sign_in(page, where)
        other = await (await page.context.browser.new_context()).new_page()
        await is_out(other, where)


def with_other_claims(token: str) -> str:
    """Give a token that says it is Alice's, under the signature of Bob's."""
    head, claims, signature = token.split(".")
    said = json.loads(urlsafe_b64decode(claims + "==")) | {"sub": "user_alice"}
    return ".".join([head, urlsafe_b64encode(json.dumps(said).encode()).decode().rstrip("="), signature])


@pytest.mark.parametrize("tampered", [with_other_claims, lambda token: token[:-8] + "AAAAAAAA", lambda _: "nonsense"])
async def test_tampered_cookies_are_nobodys(page: Any, tampered: Any) -> None:
    async with dev() as where:
        await sign_in(page, where)
        await put(page, where, tampered((await cookies(page))["__session"]), "__session")
        await is_out(page, where)


async def test_a_loop_of_redirects_ends(page: Any) -> None:
    # Tokens that are over before they are there, as where a clock is wrong: each handshake would lead to the next.
    async with dev(production=True, cookie_life_s=-60) as where:
        documents = Documents(page)
        await page.goto(where.gateway + "/app")
        await page.get_by_role("button", name="Bob Brown").click()
        await page.wait_for_load_state("networkidle")
        asked = documents.taken()
        assert asked.count(f"{where.issuer}/v1/client/handshake") == 3
        assert "Signed in as" not in await page.inner_text("body")
