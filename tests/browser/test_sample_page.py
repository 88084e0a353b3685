"""The page of `gateway dev`, used as a person would: sign in, call, see what the upstream saw."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.ops.dev.run import run_dev


@pytest.fixture
async def address() -> AsyncIterator[str]:
    """Run the whole of `gateway dev` on free ports; give the gateway's address."""
    ready: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    running = asyncio.ensure_future(run_dev(0, 0, 0, write=lambda _text: None, ready=ready.set_result))
    await asyncio.wait({running, ready}, return_when=asyncio.FIRST_COMPLETED)
    yield ready.result().gateway
    running.cancel()
    await asyncio.wait({running})


async def call(page: Any, path: str, status: int) -> str:
    """Press the button of a path; give the text of what happened, once it is this status."""
    await page.get_by_role("button", name=f"GET {path}").click()
    await page.locator("#status").get_by_text(str(status)).wait_for()
    return str(await page.locator("#result").inner_text())


async def test_sign_in_call_and_sign_out(page: Any, address: str) -> None:
    await page.goto(address)
    await page.get_by_role("heading", name="signed out").wait_for()
    assert "session-token-and-uat-missing" in await call(page, "/hello", 401)
    await page.get_by_role("button", name="admin of Acme").click()
    await page.get_by_role("heading", name="Alice").wait_for()
    assert "user_alice" in await call(page, "/admin/hello", 200)
    await page.get_by_label("in the cookie").check()
    await page.get_by_label("also claim").check()
    assert "user_mallory" not in (await call(page, "/hello", 200)).partition("The same in a terminal")[0]
    await page.get_by_role("button", name="Sign out").click()
    await page.get_by_role("heading", name="signed out").wait_for()
