"""The page of the local issuer, used as a person would: change people, sign in as them, see what was told."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.ops.dev.guide import Addresses
from gateway.ops.dev.run import run_dev


@pytest.fixture
async def where() -> AsyncIterator[Addresses]:
    """Run the whole of `gateway dev` on free ports."""
    ready: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    running = asyncio.ensure_future(run_dev(0, 0, 0, 0, write=lambda _text: None, ready=ready.set_result))
    await asyncio.wait({running, ready}, return_when=asyncio.FIRST_COMPLETED)
    yield ready.result()
    running.cancel()
    await asyncio.wait({running})


@pytest.fixture
def faults(page: Any) -> list[str]:
    """Gather what the browser complains of: errors of the script, and what the policy refuses."""
    found: list[str] = []
    page.on("pageerror", lambda error: found.append(str(error)))
    page.on("console", lambda message: found.append(message.text) if message.type == "error" else None)
    return found


def card(page: Any, name: str) -> Any:
    return page.get_by_role("article", name=name, exact=True)


def told(page: Any, *words: str) -> Any:
    """Give the newest event that has these words."""
    found = page.locator("#events li")
    for each in words:
        found = found.filter(has_text=each)
    return found.first


async def test_a_user_is_changed_signed_in_banned_and_deleted(page: Any, where: Addresses, faults: list[str]) -> None:
    await page.goto(where.issuer)
    bob = card(page, "Bob Brown")
    await bob.get_by_text("Change", exact=True).click()
    await bob.get_by_label("First name").fill("Robert")
    await bob.get_by_label("Public metadata").fill('{"tier": "gold"}')
    await bob.get_by_role("button", name="Save").press("Enter")
    await told(page, "user.updated", "user_bob", "200 stored").wait_for()
    robert = card(page, "Robert Brown")
    await robert.get_by_role("button", name="Sign in").click()
    await page.locator("#outcome").get_by_text("user_bob passed").wait_for()
    assert "X-User-Org-Role" in await page.locator("#outcome").inner_text()
    await told(page, "session.created", "user_bob", "200 stored").wait_for()
    names = {cookie["name"] for cookie in await page.context.cookies()}
    assert names == {"__session", "__client_uat", "__clerk_db_jwt"}
    await robert.get_by_role("button", name="Ban").click()
    await robert.get_by_text("banned").wait_for()
    await told(page, "session.revoked", "user_bob", "200 stored").wait_for()
    await page.locator("#outcome").get_by_text("user_bob was refused: 401 invalid_token, session-revoked").wait_for()
    assert [fault for fault in faults if "401" not in fault] == []  # the gateway was asked again with the old token
    await robert.get_by_role("button", name="Sign in").click()
    await page.get_by_role("alert").get_by_text("user_bob is banned").wait_for()
    await robert.get_by_role("button", name="Delete").click()
    await told(page, "user.deleted", "user_bob", "200 stored").wait_for()
    await robert.wait_for(state="detached")
    assert [
        fault for fault in faults if not {"400", "401"} & set(fault.split())
    ] == []  # the refused sign-in, which browsers log


async def test_an_organisation_is_made_and_peopled(page: Any, where: Addresses, faults: list[str]) -> None:
    await page.goto(where.issuer)
    await page.get_by_text("New organisation").click()
    await page.locator("#new-organization").get_by_label("Name").fill("Initech")
    await page.locator("#new-organization").get_by_label("Slug").fill("initech")
    await page.get_by_role("button", name="Create organisation").click()
    initech = card(page, "Initech")
    await initech.get_by_label("New member of Initech").select_option("user_carol")
    await initech.get_by_role("button", name="Add to Initech").click()
    await told(page, "organizationMembership.created", "user_carol", "200 stored").wait_for()
    await initech.get_by_label("Role of Carol Chen").select_option("org:admin")
    await told(page, "organizationMembership.updated", "user_carol", "200 stored").wait_for()
    await card(page, "Carol Chen").get_by_role("button", name="Sign in").click()
    await page.locator("#outcome").get_by_text("initech").wait_for()
    await initech.get_by_role("button", name="Remove Carol Chen from Initech").click()
    await told(page, "organizationMembership.deleted", "user_carol", "200 stored").wait_for()
    await initech.get_by_role("button", name="Delete Initech").click()
    await initech.wait_for(state="detached")
    assert [fault for fault in faults if "401" not in fault] == []  # once she was removed, the old token is refused


async def test_events_are_fired_by_hand_and_sent_again(page: Any, where: Addresses, faults: list[str]) -> None:
    await page.goto(where.issuer)
    form = page.locator("#fire")
    await form.get_by_label("Type").fill("subscription.created")
    await form.get_by_label("User").select_option("user_alice")
    await form.get_by_label("Changes").fill("plan=pro\ndata.n=1")
    await form.get_by_label("twice").check()
    await form.get_by_role("button", name="Fire").click()
    subscription = told(page, "subscription.created", "user_alice")
    await subscription.get_by_text("200 stored, then 200 repeated").wait_for()
    await form.get_by_label("twice").uncheck()
    await form.get_by_label("bad signature").check()
    await form.get_by_label("Type").fill("user.deleted")
    await form.get_by_label("Changes").fill("")
    await form.get_by_role("button", name="Fire").click()
    await told(page, "user.deleted", "400 bad_request, signature").wait_for()
    await card(page, "Alice Åberg").wait_for()  # nobody was deleted
    await subscription.get_by_role("button", name="Send again").press("Enter")
    await subscription.get_by_text("200 repeated, then 200 repeated").wait_for()
    again = page.locator("#events li").filter(has_text="subscription.created").get_by_role("button")
    assert await again.evaluate("button => button === document.activeElement"), "the focus stays where it was"
    assert faults == []


async def test_a_phone_shows_it_without_scrolling_sideways(page: Any, where: Addresses) -> None:
    await page.set_viewport_size({"width": 360, "height": 740})
    await page.goto(where.issuer)
    await card(page, "Alice Åberg").wait_for()
    assert await page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


async def test_the_gateways_own_page_knows_who_signed_in_here(page: Any, where: Addresses) -> None:
    await page.goto(where.issuer)
    await card(page, "Carol Chen").get_by_role("button", name="Sign in").click()
    await page.locator("#outcome").get_by_text("user_carol passed").wait_for()
    await page.get_by_role("link", name="Call the gateway").click()
    await page.get_by_role("heading", name="Carol Chen").wait_for()
    await page.get_by_role("link", name="Change them").click()
    await card(page, "Carol Chen").get_by_role("button", name="End session").wait_for()


async def test_what_the_upstream_receives_follows_what_is_changed(
    page: Any, where: Addresses, faults: list[str]
) -> None:
    await page.goto(where.issuer)
    alice, outcome = card(page, "Alice Åberg"), page.locator("#outcome")
    await alice.get_by_role("button", name="Sign in").click()
    await outcome.get_by_text("user_alice passed").wait_for()
    await alice.get_by_text("Change", exact=True).click()
    await alice.get_by_label("First name").fill("Alicia")
    await alice.get_by_role("button", name="Save").click()
    await outcome.get_by_text("Alicia").first.wait_for()
    assert faults == []
    await card(page, "Alicia Åberg").get_by_role("button", name="End session").click()
    await outcome.get_by_text("user_alice was refused: 401 invalid_token, session-revoked").wait_for()
    assert "passed" not in await outcome.inner_text()


async def test_why_an_event_was_not_fired_is_said_beside_the_button(page: Any, where: Addresses) -> None:
    await page.goto(where.issuer)
    form = page.locator("#fire")
    await form.get_by_label("Changes").fill("nonsense")
    await form.get_by_role("button", name="Fire").click()
    alert = form.get_by_role("alert")
    await alert.wait_for()
    assert "nonsense" in await alert.inner_text()
    inside = "box => { const {top, bottom} = box.getBoundingClientRect(); return top >= 0 && bottom <= innerHeight; }"
    assert await alert.evaluate(inside)
    assert await page.get_by_role("alert").count() == 1, "nor is it said anywhere else"
    await form.get_by_label("Changes").fill("first_name=Ada")
    await form.get_by_role("button", name="Fire").click()
    await alert.wait_for(state="hidden")


@pytest.mark.parametrize("width", [1280, 360])
async def test_the_form_of_events_has_no_holes(page: Any, where: Addresses, width: int) -> None:
    await page.set_viewport_size({"width": width, "height": 900})
    await page.goto(where.issuer)
    boxes = {}
    for words in ("Type", "User", "Organisation", "Signed seconds ago", "Changes"):
        boxes[words] = await page.locator("#fire").get_by_label(words).bounding_box()
    fire = await page.locator("#fire").get_by_role("button", name="Fire").bounding_box()
    ticks = [await page.locator("#fire").get_by_label(words).bounding_box() for words in ("twice", "bad signature")]
    assert fire["width"] == boxes["Changes"]["width"]
    if width == 1280:
        assert boxes["Type"]["y"] == boxes["User"]["y"]
        assert boxes["Organisation"]["y"] == boxes["Signed seconds ago"]["y"]
        assert ticks[0]["y"] == ticks[1]["y"]
