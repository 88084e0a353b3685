"""What the store says of users and of what has ended, read and never written: a running gateway may be using it."""

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple, cast

from gateway.config import Config
from gateway.core.directory import Row, User
from gateway.errors import StoreDown
from gateway.web.deps import Revoked
from gateway.web.people import People
from gateway.web.revocations import Revocations

if TYPE_CHECKING:
    from gateway.store.base import Directory
    from gateway.store.database import Database

WAIT_S: Final = 5.0  # for a user; a running gateway serves without after a tenth of a second


class Records(NamedTuple):
    """What stands behind a request's user, and what there is to say of it; `close` it."""

    people: People | None
    revoked: Revoked
    words: str  # "" where all is known
    close: Callable[[], None]


def _nothing() -> None:
    """Close nothing."""


async def open_records(config: Config, *, now: Callable[[], float], on_event: Callable[..., None]) -> Records:
    """Read what has ended, and be ready to read users; without them where the store cannot be read."""
    revoked = Revocations(now=now, on_event=on_event)
    if not config.needs_store or config.store is None:
        return Records(None, revoked, "no store is kept, so only the running gateway knows", _nothing)
    from gateway.store.engine import is_missing

    url, name = config.store.url, str(config.store)
    try:
        if is_missing(url):
            return Records(None, revoked, f"{name} is not there yet, so nothing is known", _nothing)
        database = await asyncio.to_thread(_opened, url, revoked)
    except StoreDown as error:
        return Records(None, revoked, f"{name} cannot be read ({error.detail or error.code})", _nothing)
    directory = cast("Directory", ReadOnly(database))
    people = People(directory, now=now, changed=lambda _user: None, wait_s=WAIT_S)
    return Records(people, revoked, "", database.close)


def _opened(url: str, revoked: Revocations) -> "Database":
    from gateway.store.database import Database

    database = Database(url, migrating=False)
    try:
        since = 0
        while page := database.revocations.since(since):
            revoked.take(each for _, each in page)
            since = page[-1][0]
    except StoreDown:
        database.close()
        raise
    return database


class ReadOnly:
    """The part of `store.base.Directory` that `People` uses, which keeps nothing."""

    def __init__(self, database: "Database") -> None:
        self._database = database

    async def user(self, user_id: str) -> User | None:
        """Give a user."""
        return await asyncio.to_thread(self._database.directory.user, user_id)

    async def merge(self, rows: Sequence[Row], *, now: int) -> None:
        """Keep nothing: what a token says of its user the running gateway writes down."""
