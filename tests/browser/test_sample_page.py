"""The page of `gateway dev`, used as a person would: sign in, call, see what the upstream saw."""

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


async def call(page: Any, path: str, status: int) -> str:
    """Press the button of a path; give the text of what happened, once it is this status."""
    await page.get_by_role("button", name=f"GET {path}").click()
    await page.locator("#status").get_by_text(str(status)).wait_for()
    return str(await page.locator("#result").inner_text())


async def test_sign_in_call_and_sign_out(page: Any, where: Addresses) -> None:
    await page.goto(where.gateway)
    await page.get_by_role("heading", name="signed out").wait_for()
    assert "dev-browser-missing" in await call(page, "/hello", 401)
    await page.get_by_role("button", name="admin of Acme").click()
    await page.get_by_role("heading", name="Alice").wait_for()
    assert "user_alice" in await call(page, "/admin/hello", 200)
    await page.get_by_label("in the cookie").check()
    await page.get_by_label("also claim").check()
    assert "user_mallory" not in (await call(page, "/hello", 200)).partition("The same in a terminal")[0]
    await page.get_by_role("button", name="Sign out").click()
    await page.get_by_role("heading", name="signed out").wait_for()


async def test_who_is_banned_is_told_so_and_marked(page: Any, where: Addresses) -> None:
    await page.goto(where.gateway)
    await page.get_by_role("button", name="admin of Acme").wait_for()
    change = {"type": "user.updated", "user": "user_alice", "set": {"banned": True}}
    await (await page.context.request.post(f"{where.issuer}/dev/event", data=change)).json()
    await page.get_by_role("button", name="admin of Acme").click()
    await page.get_by_role("alert").get_by_text("user_alice is banned").wait_for()
    assert "did not answer" not in await page.get_by_role("alert").inner_text()
    await page.get_by_role("button", name="banned, admin of Acme").wait_for()
    await page.get_by_role("heading", name="signed out").wait_for()
