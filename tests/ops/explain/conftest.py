"""Requests to explain, and the answers of a running gateway to the very same bytes."""

from dataclasses import dataclass, replace
from typing import Any

import yaml

from gateway.config import Config, load_text
from gateway.ops.explain.command import story_of
from gateway.ops.explain.request import Asked, head_of
from gateway.ops.explain.story import Story
from tests.fakes.gateway import Answer, Running, settings

NOW = 1_795_000_000.0
HOST = "Host: gw.example.com"


def config_of(running: Running) -> Config:
    """Give the configuration of a running gateway, with the port that it really has."""
    return replace(running.file.load(), port=running.port)


@dataclass
class Both:
    """What explain says of a request, and what the gateway answered to it."""

    story: Story
    answer: Answer


async def both(running: Running, method: str, target: str, **more: Any) -> Both:
    """Explain a request, then send it."""
    headers = more.pop("headers", ())
    hosted = headers if any(line.lower().startswith("host:") for line in headers) else (HOST, *headers)
    asked = Asked(method, target, headers=hosted, **more)
    config = config_of(running)
    story = await story_of(asked, config, now=running.clock)
    return Both(story, await running.raw(head_of(asked, config), is_head=method == "HEAD"))


def explained(story: Story, stage: str) -> list[tuple[str, str]]:
    """Give the outcomes and texts of a stage's steps."""
    return [(step.outcome, step.text) for step in story.steps if step.stage == stage]


def loaded(**overrides: Any) -> Config:
    """Load a configuration of these settings."""
    return load_text(yaml.safe_dump(settings(3000, **overrides)), {}, name="test.yaml")


async def story(*, asked: Asked | None = None, now: float = NOW, **overrides: Any) -> Story:
    """Explain a request (GET /x) by a configuration of these settings, at `now`; nothing runs."""
    return await story_of(asked or Asked("GET", "/x"), loaded(**overrides), now=lambda: now)
