"""Requests to explain, and the answers of a running gateway to the very same bytes."""

from dataclasses import dataclass, replace
from typing import Any

from gateway.config import Config
from gateway.ops.explain.command import story_of
from gateway.ops.explain.request import Asked, head_of
from gateway.ops.explain.story import Story
from tests.fakes.gateway import Answer, Running

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
