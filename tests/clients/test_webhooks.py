"""Deliveries as Clerk's, Svix's and Standard Webhooks' own npm packages read them, each attempt of them."""

import asyncio
import json
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.core.delivery import PAUSES_S, WAITING
from tests.clients.conftest import HERE, LONG_S
from tests.fakes.clerk_events import organization, user
from tests.fakes.receiver import SECRET, subscribed
from tests.wire.test_deliveries import come_in, passing_on, standing


class NodeReceiver:
    """The Node process (`receiver.mjs`)."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def told(self) -> dict[str, Any]:
        """Give its next line."""
        assert self._process.stdout is not None
        async with asyncio.timeout(LONG_S):
            line: dict[str, Any] = json.loads(await self._process.stdout.readline())
        return line


@asynccontextmanager
async def node_receiver() -> AsyncIterator[tuple[NodeReceiver, int]]:
    if shutil.which("node") is None:
        pytest.skip("Node is not installed: apt-get install nodejs npm")
    if not (HERE / "node_modules" / "@clerk" / "backend").exists():
        pytest.skip("Clerk's npm package is not installed: npm ci --prefix tests/clients")
    pipes = {"stdin": asyncio.subprocess.PIPE, "stdout": asyncio.subprocess.PIPE}
    environ = os.environ | {"SECRET": SECRET}
    process = await asyncio.create_subprocess_exec("node", str(HERE / "receiver.mjs"), env=environ, **pipes)
    try:
        receiver = NodeReceiver(process)
        yield receiver, (await receiver.told())["port"]
    finally:
        process.kill()
        await process.wait()


async def test_every_library_accepts_every_attempt(tmp_path: Path) -> None:
    async with node_receiver() as (receiver, port):
        async with passing_on(tmp_path, {"hook": subscribed(port)}) as running:
            await come_in(running, "msg_1", "user.created", user(first_name="Zoë \u2028 漢字"))
            first = await receiver.told()
            async with asyncio.timeout(LONG_S):
                while not (await standing(running, "msg_1", "hook", WAITING)).attempts:
                    await asyncio.sleep(0.01)
            running.clock.seconds += PAUSES_S[0] + 1
            second = await receiver.told()
            await come_in(running, "msg_2", "organization.created", organization())
            third = await receiver.told()
    libraries = ("clerk", "svix", "unbranded", "standard")
    assert first["verdicts"] == second["verdicts"] == dict.fromkeys(libraries, "user.created")
    assert third["verdicts"] == dict.fromkeys(libraries, "organization.created")
    assert (first["id"], second["id"]) == ("msg_1", "msg_1")
    assert int(second["timestamp"]) == int(first["timestamp"]) + PAUSES_S[0] + 1
