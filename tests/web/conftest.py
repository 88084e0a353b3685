"""What touches sockets itself runs on both loops: uvloop is what production runs on, asyncio what is there without it."""

import asyncio
from collections.abc import Callable

import pytest
import uvloop

SOCKETS = {"test_accept"}


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    both = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
    return both if item.path.stem in SOCKETS else {"asyncio": asyncio.new_event_loop}
