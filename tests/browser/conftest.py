"""A real Chromium, where there is one. Skipped with the reason elsewhere; CI installs it."""

import shutil
from collections.abc import AsyncIterator
from typing import Any

import pytest

FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


@pytest.fixture
async def page() -> AsyncIterator[Any]:
    """A fresh page in a browser without any history."""
    playwright = pytest.importorskip("playwright.async_api", reason="playwright is not installed: uv sync --group e2e")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("Chromium is not installed: apt-get install chromium")
    async with playwright.async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=chromium, args=FLAGS)
        yield await browser.new_page()
        await browser.close()
