"""The store as the event loop sees it: opened and kept open in the background, asked by threads of its own.

One thread writes, in groups; a few read. The rest of the gateway serves on while the database is away: then everything
here raises `StoreDown` at once, and says in the log when that began and ended. SQLAlchemy is imported by the thread.
"""

import asyncio
import math
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from gateway.core.directory import Membership, Organization, Row, User
from gateway.core.model import StoreAddress
from gateway.errors import StoreDown, StoreSlow
from gateway.store.base import Arrival, Change, Position, Stored
from gateway.store.group import GroupCommit

if TYPE_CHECKING:
    from gateway.store.database import Database

READERS: Final = 4
ANSWER_S: Final = 10.0  # Svix waits 15 s for its answer
LOOK_S: Final = 10.0  # between two looks at a database that works,
RETRY_S: Final = 1.0  # and at one that does not
FORGET_S: Final = 3600.0
SLOW_TOLD_S: Final = 60.0  # at most as often: much may wait for the same
JUMP_S: Final = 3600.0  # by which a clock that is merely set right does not go ahead
ROW_BYTES: Final = 2000  # of a row that waits to be written
REMEDY: Final = (
    "store.url (GATEWAY_STORE_URL) must name a file in a folder that this user may write and with room on its disk, "
    "or a PostgreSQL that is up; it is tried again by itself"
)

T = TypeVar("T")
Merge = tuple[Sequence[Row], int]  # rows, and when (ms)


class OnEvent(Protocol):
    """Where what happens is told (`telemetry.Log.event`)."""

    def __call__(self, event: str, *, level: str = "info", **fields: Any) -> None:
        """Log that something happened."""


class SqlStore:
    """An `Inbox` and a `Directory` in the database at `url`; `start` it, `close` it."""

    def __init__(
        self, url: str, *, on_event: OnEvent, retention_days: Callable[[], int] = lambda: 30,
        now: Callable[[], float] = time.time, ticks: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._url, self._on_event, self._retention_days = url, on_event, retention_days
        self._now, self._ticks = now, ticks
        self._writer = ThreadPoolExecutor(1, "store-writer")
        self._readers = ThreadPoolExecutor(READERS, "store-reader")
        self._group: GroupCommit[Arrival, bool] = GroupCommit(self._put, self._writer)
        # Many users may come for the first time at once: one transaction each would keep webhooks waiting for seconds.
        self._merging: GroupCommit[Merge, None] = GroupCommit(self._merge, self._writer)
        self._database: Database | None = None
        self._up: bool | None = None  # None: not tried yet
        self.looked = asyncio.Event()  # once it was tried
        self._forgot_at = 0.0
        self._looked_at = now(), ticks()
        self._slow_at = -math.inf  # when that was told last
        self.is_new = False  # no database was there when it was opened first, so nothing can be in it from before
        self._watching: asyncio.Task[None] | None = None

    @property
    def is_up(self) -> bool:
        """Whether the database works, as far as is known."""
        return self._up is True

    # --- its life ----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to open it, and to look after it."""
        self._watching = asyncio.get_running_loop().create_task(self._watch())

    async def close(self) -> None:
        """Commit what waits, then close."""
        if self._watching is not None:
            self._watching.cancel()
            with suppress(asyncio.CancelledError):
                await self._watching
        await self._group.settle()
        await self._merging.settle()
        with suppress(StoreDown):
            await self._asked(self._writer, self._drop)
        self._writer.shutdown(wait=False)
        self._readers.shutdown(wait=False)

    async def _watch(self) -> None:
        while True:
            try:
                await self.look()
            except Exception as error:  # a fault of our own: webhooks are refused, and it is tried again
                self._up = False
                self._on_event("store_failed", level="error", exc_info=error)
            self.looked.set()
            await asyncio.sleep(LOOK_S if self.is_up else RETRY_S)

    async def look(self) -> None:
        """See whether it works, open it anew if it did not, and forget what is old."""
        with suppress(StoreDown):
            if not self.is_up:
                await self._asked(self._writer, self._reopen)
                self._tell(None)
                return
            database = self._open_database()
            # By the thread that writes: those that read may all be busy with what takes long, which is no fault.
            await self._asked(self._writer, lambda: database.probe(now=self._now_ms(), writing=False))
            await self._forget(database)

    async def _forget(self, database: "Database") -> None:
        ahead_s = self._jumped_s()
        if ahead_s > JUMP_S:
            # What it says may be wrong, and what is erased stays erased: an hour to set it right.
            effect = f"nothing is erased as too old within the next {FORGET_S / 60:g} min"
            self._on_event("clock_jumped", level="warning", ahead_s=round(ahead_s), effect=effect)
            self._forgot_at = self._now()
        if abs(self._now() - self._forgot_at) < FORGET_S:
            return
        self._forgot_at = self._now()
        days, now = self._retention_days(), self._now_ms()
        after: Position | None = Position(0, 0)
        while after is not None:  # some at a time: webhooks come between
            after = await self._asked(self._writer, partial(database.forget, now=now, retention_days=days, after=after))

    def _jumped_s(self) -> float:
        """Say by how much the clock has gone further than time since the last look."""
        (then, since), (now, ticks) = self._looked_at, (self._now(), self._ticks())
        self._looked_at = now, ticks
        return (now - then) - (ticks - since)

    def _reopen(self) -> None:
        """Open the database from nothing: whatever was wrong with the last one, its file may be another now."""
        if self._up is None:
            self.is_new = _is_to_be_made(self._url)  # before SQLAlchemy is imported, which takes its time
        from gateway.store.database import Database

        self._drop()
        database = Database(self._url)
        try:
            database.probe(now=self._now_ms(), writing=True)
        except StoreDown:
            database.close()
            raise
        self._database = database

    def _drop(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None

    def _now_ms(self) -> int:
        return int(self._now() * 1000)

    # --- asking it ---------------------------------------------------------------------------------------------------

    async def put(self, arrival: Arrival) -> bool:
        """Store a webhook and what it says about the directory, durably; False where its id has come before."""
        self._open_database()
        return await self._answer(self._group.add(arrival, size=len(arrival.event.body)))

    def _put(self, arrivals: Sequence[Arrival]) -> Sequence[bool | Exception]:
        return self._open_database().put(arrivals)

    async def get(self, svix_id: str) -> Stored | None:
        """Give a stored webhook."""
        return await self.read(lambda database: database.get(svix_id))

    async def merge(self, rows: Sequence[Row], *, now: int) -> None:
        """Fold rows in, each where it is newer than what is known; `now` in ms."""
        self._open_database()
        await self._answer(self._merging.add((rows, now), size=ROW_BYTES * len(rows)))

    def _merge(self, merges: Sequence[Merge]) -> Sequence[StoreDown | None]:
        rows = [row for some, _ in merges for row in some]
        try:
            self._open_database().directory.merge(rows, now=max(now for _, now in merges))
        except StoreDown as down:
            if down.is_fault or len(merges) == 1:
                return [down] * len(merges)
            # One of them is what no database takes; it must not take the others along.
            return [result for each in merges for result in self._merge([each])]
        return [None] * len(merges)

    async def user(self, user_id: str) -> User | None:
        """Give a user."""
        return await self.read(lambda database: database.directory.user(user_id))

    async def users(
        self, *, email: str | None = None, external_id: str | None = None, after: str = "", limit: int = 100
    ) -> tuple[User, ...]:
        """Give living users by id, those behind `after`; only those with this e-mail address or external id, if any."""
        asked = {"email": email, "external_id": external_id}
        return await self.read(lambda database: database.directory.users(asked, after=after, limit=limit))

    async def organization(self, org_id: str) -> Organization | None:
        """Give an organisation."""
        return await self.read(lambda database: database.directory.organization(org_id))

    async def members(self, org_id: str, *, after: str = "", limit: int = 100) -> tuple[Membership, ...]:
        """Give an organisation's living memberships by id, those behind `after`."""
        return await self.read(lambda database: database.directory.members(org_id, after=after, limit=limit))

    async def last_change(self) -> int:
        """Give the number of the last change."""
        return await self.read(lambda database: database.directory.last_change())

    async def changes(self, *, since: int, limit: int = 500) -> tuple[Change, ...]:
        """Give what changed after change number `since`, in order: each row once, as it is now."""
        return await self.read(lambda database: database.directory.changes(since=since, limit=limit))

    async def read(self, what: "Callable[[Database], T]") -> T:
        """Have a thread ask the database, beside the one that writes. Raises StoreSlow for what takes too long."""
        database = self._open_database()
        return await self._asked(self._readers, lambda: what(database), speaks_for_all=False)

    async def write(self, what: "Callable[[Database], T]") -> T:
        """Have the thread that writes do this, in its turn."""
        database = self._open_database()
        return await self._asked(self._writer, lambda: what(database))

    def _open_database(self) -> "Database":
        if self._database is None or not self._up:
            raise StoreDown
        return self._database

    async def _asked(self, executor: Executor, what: Callable[[], T], *, speaks_for_all: bool = True) -> T:
        answer = asyncio.get_running_loop().run_in_executor(executor, what)
        return await self._answer(answer, speaks_for_all=speaks_for_all)

    async def _answer(self, answer: "asyncio.Future[T] | Any", *, speaks_for_all: bool = True) -> T:
        """Wait for an answer, for so long; and keep in mind how the database fares.

        One of many readers that takes its time does not speak for all: the probe says whether nothing goes any more.
        """
        try:
            async with asyncio.timeout(ANSWER_S):
                result: T = await answer
        except TimeoutError as error:
            slow = StoreSlow(detail=f"no answer within {ANSWER_S:g} s")
            self._failed(slow, speaks_for_all=speaks_for_all)
            raise slow from error
        except StoreDown as down:
            self._failed(down, speaks_for_all=speaks_for_all)
            raise
        return result

    def _failed(self, down: StoreDown, *, speaks_for_all: bool) -> None:
        if speaks_for_all or not isinstance(down, StoreSlow):
            self._tell(down)
        elif self._ticks() - self._slow_at > SLOW_TOLD_S:
            self._slow_at = self._ticks()
            self._on_event("store_slow", level="warning", detail=down.detail, effect="who asked gets 503")

    def _tell(self, down: StoreDown | None) -> None:
        """Keep whether it works, and log where that changes. What it only refuses says nothing about it."""
        if down is not None and not down.is_fault:
            return
        if down is None and not self._up:
            self._on_event("store_up")
        elif down is not None and self._up is not False:
            self._on_event(
                "store_down", level="error", key="store.url", detail=down.detail, remedy=REMEDY,
                effect="requests go on with what is known; webhooks are answered with 503",
            )  # fmt: skip
        self._up = down is None


def _is_to_be_made(url: str) -> bool:
    """Say whether a database is a file that is not there yet; where its folder is missing too, it may be elsewhere."""
    file = StoreAddress(url).file
    if file is None or not os.path.isdir(os.path.dirname(file) or "."):
        return False
    return not os.path.exists(file) or os.path.getsize(file) == 0
