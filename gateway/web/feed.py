"""What other processes wrote into the store: a `gateway sync`, or another gateway on the same database."""

import asyncio
from contextlib import suppress
from typing import Final

from gateway.core.directory import User
from gateway.errors import StoreDown
from gateway.store.sql import OnEvent, SqlStore
from gateway.web.people import People

LOOK_S: Final = 1.0
PAGE: Final = 5000


class Feed:
    """Looks every `LOOK_S` at what has changed, and brings it to `people`; `start` it, `close` it."""

    def __init__(self, store: SqlStore, people: People, *, on_event: OnEvent) -> None:
        self._store, self._people, self._on_event = store, people, on_event
        self._seen: int | None = None  # the last change that was looked at
        self._looking: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look."""
        self._looking = asyncio.get_running_loop().create_task(self._look_on())

    async def close(self) -> None:
        """Stop looking."""
        if self._looking is not None:
            self._looking.cancel()
            with suppress(asyncio.CancelledError):
                await self._looking

    async def _look_on(self) -> None:
        while True:
            try:
                await self.look()
            except StoreDown:
                pass  # the store says so itself
            except Exception as error:  # a fault of our own must not end this for good
                self._on_event("feed_failed", level="error", exc_info=error)
            await asyncio.sleep(LOOK_S)

    async def look(self) -> None:
        """Take in what has changed since the last look. Raises StoreDown."""
        last = await self._store.last_change()
        if self._seen is None or last < self._seen:
            # Whoever was met before the first look may have changed since; and a backup counts from its own past.
            self._seen = last
            self._people.forget_all()
        while self._seen < last:
            self._seen = await self._take_page(self._seen, last)

    async def _take_page(self, since: int, last: int) -> int:
        page = await self._store.read(lambda database: database.directory.changed_users(since=since, limit=PAGE))
        for _, user_id, version in page:
            if self._people.notice(user_id, version) and (user := await self._read(user_id)) is not None:
                self._people.take(user)
        return page[-1][0] if len(page) == PAGE else max(last, page[-1][0] if page else 0)

    async def _read(self, user_id: str) -> User | None:
        try:
            return await self._store.user(user_id)
        except StoreDown as down:
            if down.is_fault:
                raise
            return None  # a row that nobody can read must not hide what changed behind it
