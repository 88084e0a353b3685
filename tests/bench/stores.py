"""The databases of rows and scenes that are about the store: on a disk, as durable as they are in earnest."""

import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path

from sqlalchemy import Table, func, select

from gateway.core.directory import User, user_row
from gateway.store.database import Database
from gateway.store.tables import INBOX, USERS
from tests.bench import BenchError
from tests.fakes.clerk_api import Crowd
from tests.fakes.postgres import DISK, Postgres, binaries, running_postgres

AT_ONCE = 1_000
PROGRESS_EVERY = 100_000


class Stores:
    """Makes databases; whatever was begun ends with the stack."""

    def __init__(self, until: ExitStack) -> None:
        self._until = until
        self._peopled: dict[int, str] = {}

    @cached_property
    def _folder(self) -> Path:
        return Path(self._until.enter_context(tempfile.TemporaryDirectory(prefix="bench-", dir=DISK)))

    @cached_property
    def _postgres(self) -> Postgres:
        if binaries() is None:
            raise BenchError("no PostgreSQL here: apt-get install postgresql")
        return self._until.enter_context(running_postgres(durable=True))

    def sqlite(self, name: str) -> str:
        """Give the URL of a database that is not there yet."""
        return f"sqlite:///{self._folder / name}.db"

    def postgresql(self) -> str:
        """Give the URL of an empty database, on a server of our own, its schema up to date."""
        url = self._postgres.database()
        Database(url, migrating=True).close()
        return url

    def peopled(self, users: int) -> str:
        """Give the URL of an SQLite database in which there are so many users, the `Crowd`'s."""
        if users not in self._peopled:
            url = self.sqlite(f"users-{users}")
            fill(url, users)
            self._peopled[users] = url
        return self._peopled[users]


def fill(url: str, users: int) -> None:
    """Write so many users into a database, and tell how far it is."""
    database = Database(url, migrating=True)
    now, batch = int(time.time() * 1000), list[User]()
    for number, user in enumerate(people(users), start=1):
        batch.append(user)
        if len(batch) == AT_ONCE or number == users:
            database.directory.merge(batch, now=now)
            batch = []
        if number % PROGRESS_EVERY == 0:
            print(f"  wrote {number:,} of {users:,} users", file=sys.stderr)
    database.close()


def count_users(url: str) -> int:
    """Count who is in a database."""
    return _count(url, USERS)


def count_webhooks(url: str) -> int:
    """Count what is in its inbox."""
    return _count(url, INBOX)


def _count(url: str, table: Table) -> int:
    database, counting = Database(url), select(func.count()).select_from(table)
    try:
        return int(database.read(lambda connection: connection.execute(counting).scalar_one()))
    finally:
        database.close()


def people(users: int) -> Iterator[User]:
    """Give the rows of a `Crowd` of so many."""
    crowd = Crowd(users)
    for number in range(users):
        row = user_row(crowd.numbered(number), at=0)
        assert row is not None
        yield row


def id_of(number: int) -> str:
    """Give the id of a user of the `Crowd`; `tokens` gives a token's user the same."""
    return f"user_{number:027d}"
