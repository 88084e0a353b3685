import asyncio

import pytest

from gateway.ops.loop import run_on_best_loop


@pytest.mark.parametrize("installed", [True, False])
def test_uvloop_is_taken_where_it_is_installed(monkeypatch: pytest.MonkeyPatch, installed: bool) -> None:
    if not installed:
        monkeypatch.setitem(__import__("sys").modules, "uvloop", None)
    found = []

    async def look() -> None:
        found.append(type(asyncio.get_running_loop()).__module__.partition(".")[0])

    run_on_best_loop(look())
    assert found == ["uvloop" if installed else "asyncio"]
