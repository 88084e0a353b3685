"""When a reload happens: one at a time, signals coalesced, whoever asked."""

import asyncio
import json
import os
import tempfile
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from gateway.config.findings import Finding
from gateway.errors import ConfigError, Draining, GatewayError
from gateway.telemetry import LineWriter, Log
from gateway.web.reload import Reloads


class Stage:
    """A reload that a test lets go on, and what was logged of it."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.log = Log(LineWriter(os.open(path, os.O_WRONLY)))
        self.reloads = Reloads(self.reload, self.log)
        self.begun = self.ended = self.running = self.most = 0
        self.go_on = asyncio.Event()
        self.fault: Exception | None = None

    async def reload(self) -> list[str]:
        self.begun += 1
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self.go_on.wait()
        finally:
            self.running -= 1
        if self.fault is not None:
            raise self.fault
        self.ended += 1
        return ["routes"]

    async def until_begun(self, times: int) -> None:
        while self.begun < times:
            await asyncio.sleep(0)

    def told(self) -> list[dict[str, Any]]:
        self.log.close()
        with open(self.path, encoding="utf-8") as log:
            return [json.loads(line) for line in log]


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    with tempfile.NamedTemporaryFile() as log:
        stage = Stage(log.name)
        yield stage
        await stage.reloads.close()


async def test_signals_during_a_reload_are_one_more(stage: Stage) -> None:
    stage.reloads.soon()
    await stage.until_begun(1)
    for _ in range(5):
        stage.reloads.soon()
    await asyncio.sleep(0)
    assert stage.begun == 1
    stage.go_on.set()
    await stage.until_begun(2)
    assert await stage.reloads.now() == ["routes"]  # behind all of them
    assert (stage.ended, stage.most) == (3, 1)


async def test_signals_before_it_began_are_one(stage: Stage) -> None:
    stage.go_on.set()
    for _ in range(5):
        stage.reloads.soon()
    await stage.reloads.now()
    assert stage.ended == 2


async def test_whoever_asked_may_leave(stage: Stage) -> None:
    asking = asyncio.ensure_future(stage.reloads.now())
    await stage.until_begun(1)
    asking.cancel()
    stage.go_on.set()
    await stage.reloads.now()
    assert stage.ended == 2


@pytest.mark.parametrize(
    ("fault", "event"),
    [
        pytest.param(ConfigError(("a: wrong", "b: too")), "reload_refused", id="configuration"),
        pytest.param(Draining(), "reload_refused", id="draining"),
        pytest.param(RuntimeError("ours"), "reload_failed", id="fault-of-ours"),
    ],
)
async def test_what_went_wrong_is_logged_and_raised_and_the_next_one_runs(
    stage: Stage, fault: Exception, event: str
) -> None:
    stage.fault = fault
    stage.go_on.set()
    stage.reloads.soon()
    with pytest.raises((ConfigError, GatewayError, RuntimeError)):
        await stage.reloads.now()
    stage.fault = None
    assert await stage.reloads.now() == ["routes"]
    told = stage.told()
    assert [line["event"] for line in told].count(event) == 2
    if isinstance(fault, ConfigError):
        assert [line["finding"] for line in told if "finding" in line] == ["a: wrong", "b: too"] * 2


async def test_what_is_only_a_warning_is_logged_as_one(stage: Stage) -> None:
    wrong = Finding("gateway.yaml", 1, "routes", "is wrong", None)
    stage.fault = ConfigError((wrong, replace(wrong, level="insecure")))
    stage.go_on.set()
    with pytest.raises(ConfigError):
        await stage.reloads.now()
    assert [line["level"] for line in stage.told() if "finding" in line] == ["error", "warning"]


async def test_close_ends_one_under_way(stage: Stage) -> None:
    stage.reloads.soon()
    await stage.until_begun(1)
    stage.reloads.soon()
    await stage.reloads.close()
    assert (stage.running, stage.ended, stage.begun) == (0, 0, 1)
