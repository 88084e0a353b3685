"""A run against the stand-in of Clerk's Backend API, with a clock that only waiting moves."""

import asyncio
import functools
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import select

from gateway.core.directory import Row
from gateway.core.reconcile import Progress
from gateway.net.clerk_api import ClerkApi
from gateway.net.clerk_client import open_session
from gateway.net.sync import Page, Run
from gateway.store.database import Database
from gateway.store.directory import row_from
from gateway.store.tables import MEMBERSHIPS, ORGANIZATIONS, TABLES, USERS
from tests.fakes.clerk_api import FakeBackendApi, World, ends

T = TypeVar("T")
NOW_MS = 1_800_000_000_000


class Time:
    """Milliseconds since 1970, and seconds that only waiting moves."""

    def __init__(self, at: int = NOW_MS) -> None:
        self.at = at
        self.waits: list[float] = []

    def ms(self) -> int:
        return self.at

    def s(self) -> float:
        return self.at / 1000

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.at += int(seconds * 1000) + 1


class Direct:
    """A database asked without a store around it."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def read(self, what: Callable[[Database], T]) -> T:
        return what(self.database)

    async def write(self, what: Callable[[Database], T]) -> T:
        return what(self.database)


async def run(
    database: Database, clerk: FakeBackendApi, time: Time, *, dry: bool = False, anew: bool = False, holder: str = "me",
    pages: list[Page] | None = None, limit: int = 500,
) -> Progress:  # fmt: skip
    """Run it as whoever is `holder`."""
    syncing = database.syncing
    progress = Progress(time.ms()) if dry else syncing.take(holder, instance=["ins_test"], now=time.ms(), anew=anew)
    on_page: Callable[[Page], None] = (lambda page: None) if pages is None else pages.append
    async with open_session() as session:
        api = ClerkApi(clerk.url, clerk.secret_key, session, now=time.s, sleep=time.sleep, rng=lambda: 0.0)
        begun = Run(
            api,
            Direct(database),
            progress,
            holder=None if dry else holder,
            now=time.ms,
            on_page=on_page,
            limit=limit,
            anew=anew,
            sleep=time.sleep,
        )
        try:
            done = await begun.all()
        except BaseException:
            if not dry:
                syncing.release(holder, finished_at=None)
            raise
    if not dry:
        syncing.release(holder, finished_at=time.ms())
    return done


def synced(
    database: Database, world: World, time: Time, *, before: Callable[[str], None] = lambda path: None, **more: Any
) -> Progress:
    """Serve this world and run it once; `before` is called with each request's path."""

    async def serve() -> Progress:
        async with FakeBackendApi(world) as clerk:
            clerk.before = before
            return await run(database, clerk, time, **more)

    return asyncio.run(serve())


@functools.cache
def _empty() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        Database(f"sqlite:///{folder}/empty.db").close()
        return Path(folder, "empty.db").read_bytes()


@contextmanager
def opened(folder: Path) -> Iterator[Database]:
    """Open a SQLite database that is empty: a copy of one, since making the tables takes longer than most tests."""
    (folder / "gateway.db").write_bytes(_empty())
    database = Database(f"sqlite:///{folder / 'gateway.db'}")
    try:
        yield database
    finally:
        database.close()


def living(database: Database) -> dict[str, Row]:
    """Everything the directory has as alive; a membership lives as long as both its ends."""

    def read(connection: Any) -> dict[str, Row]:
        found = {}
        for kind, table in TABLES.items():
            for each in connection.execute(select(table).where(~table.c.deleted)).mappings():
                found[each["id"]] = row_from(kind, each)
        gone = {
            key
            for table in (USERS, ORGANIZATIONS)
            for key in connection.execute(select(table.c.id).where(table.c.deleted)).scalars()
        }
        over = connection.execute(
            select(MEMBERSHIPS.c.id).where(MEMBERSHIPS.c.user_id.in_(gone) | MEMBERSHIPS.c.org_id.in_(gone))
        ).scalars()
        for key in over:
            found.pop(key, None)
        return found

    return database.read(read)


def source(world: World) -> dict[str, Any]:
    """Everything Clerk has."""
    return {key: each for members in world.members.values() for key, each in members.items()}


__all__ = ["Direct", "Time", "ends", "living", "opened", "run", "source", "synced"]
