"""Looking at a store without touching it: neither made nor migrated nor set up, whoever may be using it.

For `gateway doctor`, which may run as somebody else than the gateway, beside it, or before it was ever started.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import sqlalchemy
from sqlalchemy import Connection, Engine, func, select, text

from gateway.core.delivery import DEAD
from gateway.core.directory import User
from gateway.errors import StoreDown
from gateway.store.directory import DirectoryTables
from gateway.store.engine import is_missing, open_engine, told
from gateway.store.migrations import LATEST, check_version, version_of
from gateway.store.tables import DELIVERIES, INBOX

TABLES: Final = ("gateway_inbox", "gateway_users", "gateway_deliveries")


class Look(NamedTuple):
    """How it stands with a store; what needs the schema of now is None under another one."""

    missing: bool = False  # a SQLite file that is not there yet
    version: int = 0
    latest: int = LATEST
    writable: bool = True
    last_webhook_ms: int | None = None
    dead: int | None = None  # deliveries
    user: User | None = None  # the one that was asked for


def look_at(url: str, *, user_id: str | None = None) -> Look:
    """Look at the store of this URL, and for a user in it.

    Raises:
        StoreDown: it cannot be asked, or is of a later gateway.
    """
    if is_missing(url):
        return Look(missing=True, writable=_may_make(url))
    with _engine(url) as engine, told(), engine.connect() as connection:
        version = version_of(connection)
        check_version(version)
        if version != LATEST:
            return Look(version=version, writable=_may_write(connection, url, known=version > 0))
        last = connection.execute(select(func.max(INBOX.c.received_at))).scalar_one()
        dead = connection.execute(select(func.count()).where(DELIVERIES.c.state == DEAD)).scalar_one()
        return Look(
            version=version,
            writable=_may_write(connection, url, known=True),
            last_webhook_ms=last,
            dead=dead,
            user=_user(connection, user_id) if user_id is not None else None,
        )


@contextmanager
def _engine(url: str) -> Iterator[Engine]:
    with told():
        file = _file(url)
        engine = open_engine(url) if file is None else _read_only(file)
    try:
        yield engine
    finally:
        engine.dispose()


def _file(url: str) -> str | None:
    parsed = sqlalchemy.make_url(url)
    return parsed.database if parsed.get_backend_name() == "sqlite" else None


def _read_only(file: str) -> Engine:
    # Without a log beside it nobody has it open and all of it is in the file itself; `immutable` then makes no files
    # either. With one it is read as any reader does, through the shared memory that is there with it (sqlite.org/uri).
    mode = "mode=ro" if os.path.exists(f"{file}-wal") else "mode=ro&immutable=1"
    where = f"file:{quote(os.path.abspath(file))}?{mode}"
    return sqlalchemy.create_engine("sqlite+pysqlite://", creator=lambda: _connected(where), hide_parameters=True)


def _connected(where: str) -> Any:
    import sqlite3

    return sqlite3.connect(where, uri=True, timeout=2.0)


def _may_make(url: str) -> bool:
    return os.access(os.path.dirname(_file(url) or "") or ".", os.W_OK | os.X_OK)


def _may_write(connection: Connection, url: str, *, known: bool) -> bool:
    file = _file(url)
    if file is not None:
        return os.access(file, os.W_OK) and _may_make(url)  # SQLite writes files beside it
    if connection.execute(text("SELECT pg_is_in_recovery()")).scalar_one():
        return False
    if not known:
        return bool(connection.execute(text("SELECT has_schema_privilege(current_schema(), 'CREATE')")).scalar_one())
    query = text("SELECT has_table_privilege(:name, 'INSERT, UPDATE')")
    return all(connection.execute(query, {"name": name}).scalar_one() for name in TABLES)


def _user(connection: Connection, user_id: str) -> User | None:
    def read(what: Callable[[Connection], Any]) -> Any:
        return what(connection)

    return DirectoryTables(read, read, dialect=connection.dialect.name).user(user_id)


__all__ = ["Look", "StoreDown", "look_at"]
