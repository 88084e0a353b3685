"""A page in Chromium, signed in by cookies through the handshake with the local issuer, as in front of any service."""

import asyncio
import json
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.ops.dev import frontend_api
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


async def take_time(page: Any) -> None:
    """Let the two seconds pass in which Clerk counts handshakes: nobody signs in and out as fast as a test."""
    await page.context.clear_cookies(name="__clerk_redirect_count")


async def sign_in(page: Any, where: Addresses, path: str = "/app") -> None:
    await take_time(page)
    await page.goto(where.gateway + path)
    await page.get_by_role("heading", name="Sign in").wait_for()
    await page.get_by_role("button", name="Bob Brown").click()
    await is_in(page)


async def is_in(page: Any) -> None:
    """Wait for the service's own page; it may know a name only after a moment, which the directory takes."""
    await page.get_by_role("heading", name="Signed in as").wait_for()
    assert "user_bob" in await page.inner_text("table")


async def is_out(page: Any, where: Addresses) -> None:
    """Check that the next document is not served as signed in."""
    await take_time(page)
    await page.goto(where.gateway + "/app")
    await page.get_by_role("heading", name="Sign in", exact=True).wait_for()
    assert page.url.startswith(where.issuer + "/sign-in?")


async def told(page: Any, where: Addresses, kind: str, times: int) -> None:
    """Wait until the gateway has taken so many webhooks of a kind."""
    async with asyncio.timeout(20):
        while True:
            state = await (await page.context.request.get(where.issuer + "/dev/state")).json()
            if sum(each["type"] == kind and each["status"] == 200 for each in state["events"]) == times:
                return
            await asyncio.sleep(0.05)


@KINDS
async def test_signed_in_kept_in_and_signed_out(page: Any, production: bool) -> None:
    async with dev(production=production) as where:
        documents = Documents(page)
        await leads_back_to_the_very_page(page, where, documents)
        await is_refreshed_without_a_redirect(page, where, documents)
        await goes_unnoticed_through_the_handshake(page, where, documents)
        await is_out_once_they_have_signed_out(page, where)
        await is_out_once_they_have_signed_out_elsewhere(page, where, production=production)


async def leads_back_to_the_very_page(page: Any, where: Addresses, documents: Documents) -> None:
    await sign_in(page, where, "/app/x?a=b%20c")
    assert page.url == where.gateway + "/app/x?a=b%20c"  # nothing of Clerk's is left in the address
    assert f"{where.issuer}/v1/client/handshake" in documents.taken()
    await page.reload()
    assert documents.taken() == [f"{where.gateway}/app/x"]  # from then on nobody is asked


async def is_refreshed_without_a_redirect(page: Any, where: Addresses, documents: Documents) -> None:
    expired = await grow_old(page, where)
    response = await page.goto(where.gateway + "/app")
    assert (response.status, response.request.redirected_from) == (200, None)
    await is_in(page)
    assert documents.taken() == [f"{where.gateway}/app"]
    assert (await cookies(page))["__session"] not in ("", expired)


async def goes_unnoticed_through_the_handshake(page: Any, where: Addresses, documents: Documents) -> None:
    await grow_old(page, where)
    await take_time(page)
    await page.context.clear_cookies(name=re.compile("__refresh.*"))
    await page.goto(where.gateway + "/app/x?a=b%20c")
    await is_in(page)
    assert page.url == where.gateway + "/app/x?a=b%20c"
    assert f"{where.issuer}/v1/client/handshake" in documents.taken()


async def is_out_once_they_have_signed_out(page: Any, where: Addresses) -> None:
    await take_time(page)
    await page.get_by_role("link", name="Sign out").click()
    await page.get_by_role("heading", name="Sign in", exact=True).wait_for()
    await is_out(page, where)
    left = await cookies(page)
    assert not [name for name in left if name.startswith(("__session", "__refresh"))]
    assert {value for name, value in left.items() if name.startswith("__client_uat")} == {"0"}


async def is_out_once_they_have_signed_out_elsewhere(page: Any, where: Addresses, *, production: bool) -> None:
    await sign_in(page, where)
    await page.context.request.get(where.issuer + "/sign-out")  # as in another tab: this page hears nothing of it
    if not production:  # then its cookies do not hear of it either, and the gateway by a webhook
        await told(page, where, "session.removed", 2)
    await is_out(page, where)


def with_other_claims(token: str) -> str:
    """Give a token that says it is Alice's, under the signature of Bob's."""
    head, claims, signature = token.split(".")
    said = json.loads(urlsafe_b64decode(claims + "==")) | {"sub": "user_alice"}
    return ".".join([head, urlsafe_b64encode(json.dumps(said).encode()).decode().rstrip("="), signature])


async def test_tampered_cookies_and_other_browsers_are_nobodys(page: Any) -> None:
    async with dev() as where:
        for tampered in (with_other_claims, lambda token: token[:-8] + "AAAAAAAA", lambda _: "nonsense"):
            await sign_in(page, where)
            await put(page, where, tampered((await cookies(page))["__session"]), "__session")
            await is_out(page, where)
        other = await (await page.context.browser.new_context()).new_page()
        await is_out(other, where)


async def test_a_handshake_that_brings_nothing_is_not_tried_for_ever(
    page: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frontend_api._Api, "_back", lambda api, url, client, *_: api._redirect(url, client, 307))
    async with dev(production=True) as where:
        documents = Documents(page)
        await page.goto(where.gateway + "/app")
        await page.get_by_role("button", name="Bob Brown").click()
        await page.get_by_text("client-uat-but-no-session-token").wait_for()
        assert documents.taken().count(f"{where.issuer}/v1/client/handshake") == 3


async def test_a_session_that_is_over_when_it_comes_leads_to_no_other(page: Any) -> None:
    # As where a clock is wrong: the next handshake would bring the same again.
    async with dev(production=True, cookie_life_s=-60) as where:
        documents = Documents(page)
        await page.goto(where.gateway + "/app")
        await page.get_by_role("button", name="Bob Brown").click()
        await page.get_by_text("token-expired").wait_for()
        assert documents.taken().count(f"{where.issuer}/v1/client/handshake") == 1
