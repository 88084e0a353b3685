"""A 403 `max_age` as Clerk's own front-end package reads it: its hook asks the user again, then asks the gateway again."""

import asyncio
import json
import os
import shutil
from typing import Any

import pytest

from tests.clients.conftest import HERE, LONG_S
from tests.fakes.gateway import Running, gateway
from tests.fakes.upstream import Echo, ScriptedUpstream

ROUTES = [
    {"name": "first", "path": "/first", "upstream": "api", "require": {"max_age_min": 10}},
    {"name": "both", "path": "/both", "upstream": "api", "require": {"max_age_min": {"first": 60, "second": 5}}},
    {"name": "admin", "path": "/admin", "upstream": "api", "require": {"role": "admin"}},
]


async def page(running: Running, path: str, *fva: list[int]) -> dict[str, Any]:
    """Let the hook fetch a path, with a token of these ages, and another one after each dialog."""
    if shutil.which("node") is None:
        pytest.skip("Node is not installed: apt-get install nodejs npm")
    if not (HERE / "node_modules" / "@clerk" / "react").exists():
        pytest.skip("Clerk's npm packages are not installed: npm ci --prefix tests/clients")
    tokens = json.dumps([running.token(fva=ages) for ages in fva])
    environ = os.environ | {"URL": f"http://127.0.0.1:{running.port}{path}", "TOKENS": tokens}
    process = await asyncio.create_subprocess_exec(
        "node", str(HERE / "stepup.mjs"), env=environ, stdout=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(LONG_S):
            out, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    told: dict[str, Any] = json.loads(out)
    return told


@pytest.mark.parametrize(
    ("path", "before", "after", "level"),
    [
        pytest.param("/first", [10, -1], [0, -1], "first_factor", id="first"),
        pytest.param("/both", [3, -1], [3, 0], "second_factor", id="second"),
        pytest.param("/both", [60, 5], [0, 0], "multi_factor", id="both"),
    ],
)
async def test_the_hook_asks_for_the_factor_that_is_stale(
    path: str, before: list[int], after: list[int], level: str
) -> None:
    async with ScriptedUpstream(Echo()) as upstream, gateway(upstream.port, routes=ROUTES) as running:
        told = await page(running, path, before, after)
    assert (told["opened"], told["hints"]) == ([level], [True, False])
    assert told["got"]["target"] == path  # the upstream's answer, asked for by the same call of the page


async def test_whoever_stays_stale_gets_the_refusal_and_no_second_dialog() -> None:
    async with ScriptedUpstream(Echo()) as upstream, gateway(upstream.port, routes=ROUTES) as running:
        told = await page(running, "/both", [0, -1], [0, -1])
    assert (told["opened"], told["hints"]) == (["second_factor"], [True, True])
    assert (told["got"]["status"], told["got"]["reason"]) == (403, "max_age")


async def test_no_other_refusal_opens_the_dialog() -> None:
    async with ScriptedUpstream(Echo()) as upstream, gateway(upstream.port, routes=ROUTES) as running:
        told = await page(running, "/admin", [0, 0])
    assert (told["opened"], told["hints"]) == ([], [False])
    assert told["got"]["reason"] == "role"
