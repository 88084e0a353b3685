"""Convex's own npm package in front of the gateway. Skipped with the reason where Node or the package is missing."""

import asyncio
import json
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser.conftest import page
from tests.fakes.convex import FakeConvex

__all__ = ["page"]

HERE = Path(__file__).parent
LONG_S = 20.0  # for what takes milliseconds: a test that hangs shall say where
PACKAGE = HERE / "node_modules" / "convex"


@pytest.fixture
def bundle() -> Path:
    """Give the package's bundle for pages."""
    if not PACKAGE.exists():
        pytest.skip("Convex's npm package is not installed: npm ci --prefix tests/clients")
    return PACKAGE / "dist" / "browser.bundle.js"


class Driver:
    """A Node process with Convex's clients in it (`driver.mjs`)."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._reading = asyncio.get_running_loop().create_task(self._read())

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            told = json.loads(line)
            if "event" in told:
                self._events.put_nowait(told)
            else:
                self._answers.pop(told["id"]).set_result(told)

    async def ask(self, op: str, **rest: Any) -> dict[str, Any]:
        """Give a command; `value` or `error` is how it went."""
        assert self._process.stdin is not None
        number = len(self._answers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        self._process.stdin.write(json.dumps({"id": number, "op": op} | rest).encode() + b"\n")
        async with asyncio.timeout(LONG_S):
            return await answer

    async def do(self, op: str, **rest: Any) -> Any:
        """Give a command that has to go well."""
        answer = await self.ask(op, **rest)
        assert "error" not in answer, answer
        return answer["value"]

    async def until(self, event: str, value: Any, **rest: Any) -> None:
        """Wait for an event with this value."""
        wanted, seen = {"event": event, "value": value} | rest, []
        try:
            async with asyncio.timeout(LONG_S):
                while not seen or not wanted.items() <= seen[-1].items():
                    seen.append(await self._events.get())
        except TimeoutError:
            raise AssertionError(f"waited for {wanted}, saw {seen}") from None

    async def disconnected(self) -> str:
        """Wait until the server ended the socket with a reason; give what the client says of it."""
        async with asyncio.timeout(LONG_S):
            while (told := await self._events.get())["event"] != "disconnected":
                pass
        return str(told["message"])

    async def stop(self) -> None:
        """End the process."""
        self._process.kill()
        await self._process.wait()
        await self._reading


class Starter:
    """Starts drivers and stops them."""

    def __init__(self) -> None:
        self._drivers: list[Driver] = []

    async def __call__(self, url: str, convex: FakeConvex) -> Driver:
        """Start one whose deployment is at `url`."""
        environ = os.environ | {"CONVEX_URL": url, "TOKENS": f"{convex.url}/tokens"}
        pipes = {"stdin": asyncio.subprocess.PIPE, "stdout": asyncio.subprocess.PIPE}
        command = ("node", str(HERE / "driver.mjs"))
        process = await asyncio.create_subprocess_exec(*command, env=environ, limit=2**24, **pipes)
        driver = Driver(process)
        self._drivers.append(driver)
        return driver

    async def stop(self) -> None:
        """Stop them all."""
        for driver in self._drivers:
            await driver.stop()


@pytest.fixture
async def start() -> AsyncIterator[Starter]:
    """Give what starts Node with Convex's clients in it."""
    if shutil.which("node") is None:
        pytest.skip("Node is not installed: apt-get install nodejs npm")
    if not PACKAGE.exists():
        pytest.skip("Convex's npm package is not installed: npm ci --prefix tests/clients")
    starter = Starter()
    yield starter
    await starter.stop()
