"""When a reload happens: one at a time, and once more for signals that come during one. What it does is `web/app`'s."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from gateway.errors import ConfigError, GatewayError
from gateway.telemetry import Log

Task = asyncio.Task[list[str]]


class Reloads:
    """Runs a function that takes up what the file says now and names the parts that changed."""

    def __init__(self, reload: Callable[[], Awaitable[list[str]]], log: Log) -> None:
        self._reload, self._log = reload, log
        self._one_at_a_time = asyncio.Lock()
        self._waiting: Task | None = None  # for a signal, and has not looked at the file yet
        self._tasks: set[Task] = set()

    async def now(self) -> list[str]:
        """Reload; the parts that changed.

        Raises:
            ConfigError: what is wrong, which is logged too; the old configuration stays in force.
            GatewayError: it is no time for that.
        """
        # In a task of its own: whoever asked may be gone before it is over.
        return await asyncio.shield(self._begin(self._run()))

    def soon(self) -> None:
        """Reload for a signal: what is wrong is logged. However many come during a reload, one more follows."""
        if self._waiting is None:
            self._waiting = self._begin(self._run())

    def _begin(self, run: Coroutine[Any, Any, list[str]]) -> Task:
        task = asyncio.get_running_loop().create_task(run)
        self._tasks.add(task)
        task.add_done_callback(self._over)
        return task

    def _over(self, task: Task) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # logged where it arose

    async def _run(self) -> list[str]:
        async with self._one_at_a_time:
            if asyncio.current_task() is self._waiting:
                self._waiting = None  # a signal from now on may mean another content
            try:
                return await self._reload()
            except ConfigError as error:
                for finding in error.findings:
                    is_cause = getattr(finding, "level", "error") == "error"  # the others were known before
                    self._log.event("configuration", level="error" if is_cause else "warning", finding=str(finding))
                self._log.event("reload_refused", level="error", effect="the old configuration stays in force")
                raise
            except GatewayError as error:
                self._log.event("reload_refused", level="warning", why=error.code)
                raise
            except Exception as error:
                self._log.event("reload_failed", level="error", exc_info=error)
                raise

    async def close(self) -> None:
        """Reload no more."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
