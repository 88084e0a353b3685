"""Group commit: what arrives within a few milliseconds is written together, by one thread, and told apart afterwards.

A commit that survives power loss waits for the disk; one for many costs hardly more than one for one.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Final, Generic, NamedTuple, TypeVar

from gateway.errors import StoreDown

WINDOW_S: Final = 0.005
MOST: Final = 500  # in one commit
HELD_BYTES: Final = 64 * 1_048_576  # waiting; beyond this the database is too slow, and senders try again later

T = TypeVar("T")
R = TypeVar("R")


class _Waiting(NamedTuple, Generic[T, R]):
    item: T
    size: int
    done: "asyncio.Future[R]"


class GroupCommit(Generic[T, R]):
    """Gathers items for `WINDOW_S` and has `commit` called with them on `executor`, one group at a time.

    `commit` gives one result for each item, in order; a result that is an exception is raised to that item's sender.
    """

    def __init__(self, commit: Callable[[Sequence[T]], Sequence[R | Exception]], executor: Executor) -> None:
        self._commit, self._executor = commit, executor
        self._waiting: list[_Waiting[T, R]] = []
        self._held = 0
        self._timer: asyncio.TimerHandle | None = None
        self._running: asyncio.Task[None] | None = None

    async def add(self, item: T, *, size: int) -> R:
        """Give the item's result once it is committed. Who stops waiting has it committed all the same.

        Raises:
            StoreDown: too much waits already; or what `commit` raises.
        """
        if self._held + size > HELD_BYTES:
            raise StoreDown(detail="it takes too long, and too much waits for it")
        loop = asyncio.get_running_loop()
        done: asyncio.Future[R] = loop.create_future()
        self._waiting.append(_Waiting(item, size, done))
        self._held += size
        if self._timer is None and self._running is None:
            self._timer = loop.call_later(WINDOW_S, self._begin)
        return await done

    async def settle(self) -> None:
        """Return once nothing waits any more."""
        while self._timer is not None or self._running is not None:
            if self._running is None:
                self._begin()
            assert self._running is not None
            await asyncio.wait((self._running,))

    def _begin(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._running = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        """Commit group after group: what came during one has waited long enough."""
        try:
            while self._waiting:
                group, self._waiting = self._waiting[:MOST], self._waiting[MOST:]
                results = await self._committed([waiting.item for waiting in group])
                for waiting, result in zip(group, results, strict=True):
                    self._held -= waiting.size
                    _tell(waiting.done, result)
        finally:
            self._running = None

    async def _committed(self, items: Sequence[T]) -> Sequence[R | Exception]:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, self._commit, items)
        except Exception as error:  # whatever it is, nobody may be left waiting
            return [error] * len(items)


def _tell(done: "asyncio.Future[R]", result: R | Exception) -> None:
    if done.done():
        return  # its sender is gone
    if isinstance(result, Exception):
        done.set_exception(result)
    else:
        done.set_result(result)
