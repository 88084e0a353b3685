"""The command: from what was typed to what is written, and the exit code."""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from gateway.config import Config, load
from gateway.errors import ConfigError
from gateway.ops.explain.request import Asked
from gateway.ops.explain.run import carry, stage
from gateway.ops.explain.story import Story, tell
from gateway.ops.explain.written import as_json as written_json
from gateway.ops.explain.written import as_lines

DONE: Final = 0
BAD_CONFIGURATION: Final = 2


def explain(
    path: str | None, environ: Mapping[str, str], asked: Asked, *, as_json: bool, write: Callable[[str], Any]
) -> int:
    """Say what the gateway of this configuration would make of a request; return the exit code."""
    try:
        config = load(path, environ)
        story = asyncio.run(story_of(asked, config))
    except ConfigError as error:
        for finding in error.findings:
            write(str(finding))
        write("gateway: nothing to explain by. `gateway check` explains every problem.")
        return BAD_CONFIGURATION
    for line in [written_json(story)] if as_json else as_lines(story):
        write(line)
    return DONE


async def story_of(asked: Asked, config: Config, *, now: Callable[[], float] = time.time) -> Story:
    """Carry a request as far as it gets, and tell of it. `now` in Unix seconds."""
    async with stage(config, now=now) as given:
        return tell(await carry(asked, config, given))
