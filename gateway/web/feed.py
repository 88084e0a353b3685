"""What is in the store and not from here: of earlier runs, of other gateways on the same database, of `gateway sync`.

One question a second where nothing has changed; from it what is revoked, and of whom else something is known.
"""

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from gateway.core.directory import User
from gateway.errors import StoreDown
from gateway.store.sql import OnEvent, SqlStore
from gateway.web.people import People
from gateway.web.revocations import Revocations

if TYPE_CHECKING:
    from gateway.store.database import Database

LOOK_S: Final = 1.0
PAGE: Final = 5000


class Feed:
    """Looks every `LOOK_S`, and brings what is new to `people` and `revocations`; `start` it, `close` it."""

    def __init__(self, store: SqlStore, people: People, revocations: Revocations, *, on_event: OnEvent) -> None:
        self._store, self._people, self._revocations, self._on_event = store, people, revocations, on_event
        self._database: Database | None = None
        self._users = self._ends = 0  # the last changes brought of either, of those in that database
        self._tried = asyncio.Event()
        self._looking: asyncio.Task[None] | None = None
        self.is_whole = False  # whether all that is revoked is known
        self._waited_for = False  # and requests are served meanwhile

    def start(self) -> None:
        """Begin to look."""
        self._looking = asyncio.get_running_loop().create_task(self._look_on())

    async def close(self) -> None:
        """Stop looking."""
        if self._looking is not None:
            self._looking.cancel()
            with suppress(asyncio.CancelledError):
                await self._looking

    async def first(self, within_s: float) -> None:
        """Return once all that is revoked is known, or cannot be now; at the latest after so many seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._tried.wait()
        if not self.is_whole and not self._store.is_new:
            self._waited_for = True
            effect = "still waiting for the store: until it answers, what was revoked before this start is let through"
            self._on_event("revocations_unknown", level="warning", effect=effect)

    async def _look_on(self) -> None:
        await self._store.looked.wait()
        while True:
            try:
                await self.look()
            except StoreDown:
                pass  # the store says so itself; what is known stays known
            except Exception as error:  # a fault of our own must not end this for good
                self._on_event("feed_failed", level="error", exc_info=error)
            self._tried.set()
            await asyncio.sleep(LOOK_S)

    async def look(self) -> None:
        """Take in what has changed since the last look. Raises StoreDown."""
        database, last = await self._store.read(lambda database: (database, database.directory.last_change()))
        if database is not self._database or last < self._users:
            # Opened anew it may be another one, a backup in its place: its numbers begin where they like, and whoever
            # was met before this look may have changed since.
            self._database, self._users, self._ends = database, last, 0
            self._people.forget_all()
        while self._ends < last:
            self._ends = await self._take_ends(self._ends, last)
        self.is_whole = True
        if self._waited_for:
            self._waited_for = False
            self._on_event("revocations_known", effect="what was revoked before this start is refused")
        while self._users < last:
            self._users = await self._take_users(self._users, last)

    async def _take_ends(self, since: int, last: int) -> int:
        page = await self._store.read(lambda database: database.revocations.since(since))
        self._revocations.take(revocation for _, revocation in page)
        return page[-1][0] if page else last

    async def _take_users(self, since: int, last: int) -> int:
        page = await self._store.read(lambda database: database.directory.changed_users(since=since, limit=PAGE))
        for _, user_id, version in page:
            if self._people.notice(user_id, version) and (user := await self._read(user_id)) is not None:
                self._people.take(user)
        return page[-1][0] if page else last

    async def _read(self, user_id: str) -> User | None:
        try:
            return await self._store.user(user_id)
        except StoreDown as down:
            if down.is_fault:
                raise
            return None  # a row that nobody can read must not hide what changed behind it
