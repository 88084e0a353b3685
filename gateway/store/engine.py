"""Connections to the database, set up so that a commit is durable; and every way in which it can fail, as `StoreDown`.

SQLite and PostgreSQL differ here, in two words of `migrations`, and nowhere else.
"""

import math
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import orjson
import sqlalchemy
from sqlalchemy import URL, Connection, Engine, event
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import ConnectionPoolEntry

from gateway.errors import StoreDown, StoreSlow

BUSY_S: Final = 5.0  # another process may be writing: a commit takes milliseconds, a migration longer
CONNECTIONS: Final = 5  # the writer's and the readers'
READ_S: Final = 10.0  # for what reads, after which its thread is free for others; as `statement_timeout` below
READS_UNTIL: Final = "gateway_reads_until"
LOOK_STEPS: Final = 100_000  # of SQLite's machine, about a millisecond, between two looks whether that is over
WRITES: Final = "gateway_writes"  # the execution option that says that a transaction will write
# Given to libpq unless the URL says otherwise. A database that does not answer must not hold the one writer for long.
LIBPQ: Final[dict[str, Any]] = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "tcp_user_timeout": 10_000,
    "application_name": "clerk-gateway",
    "options": "-c statement_timeout=10000 -c lock_timeout=5000",
}


class Refused(StoreDown):
    """The database works, but not with what it was given."""

    is_fault = False


def open_engine(url: str) -> Engine:
    """Make an engine for `sqlite:///FILE` or `postgresql://…`; connects to nothing yet.

    Raises:
        StoreDown: the URL or the file cannot be used.
    """
    with told():
        parsed = sqlalchemy.make_url(url)
        make = {"postgresql": _postgresql, "sqlite": _sqlite}.get(parsed.get_backend_name())
        if make is None:
            raise StoreDown(detail="neither SQLite nor PostgreSQL")
        return make(parsed)


def is_missing(url: str) -> bool:
    """Say whether the file of a SQLite URL is not there. Raises StoreDown."""
    with told():
        parsed = sqlalchemy.make_url(url)
        return parsed.get_backend_name() == "sqlite" and not os.path.exists(parsed.database or "")


@contextmanager
def told() -> Iterator[None]:
    """Turn whatever the database's side raises into ours; what was in a statement stays out of the log."""
    try:
        yield
    except DBAPIError as error:
        raise _kind(error)(detail=_described(error.orig or error)) from error
    except (SQLAlchemyError, sqlite3.Error, ArgumentError) as error:
        raise StoreDown(
            detail=type(error).__name__ if not isinstance(error, PoolTimeout) else "no connection"
        ) from error
    except OSError as error:
        raise StoreDown(detail=_described(error)) from error
    except (UnicodeError, orjson.JSONDecodeError) as error:  # one row that somebody else has written to
        raise Refused(detail=type(error).__name__) from error


def is_fault(error: DBAPIError) -> bool:
    """Tell a database that fails from one that only refuses what it was given (PEP 249's classes)."""
    return (
        error.connection_invalidated
        or isinstance(
            error, sqlalchemy.exc.OperationalError | sqlalchemy.exc.InterfaceError | sqlalchemy.exc.InternalError
        )
        or type(error) is sqlalchemy.exc.DatabaseError
    )  # SQLite's word for a file that is no database


def _kind(error: DBAPIError) -> type[StoreDown]:
    # PostgreSQL's query_canceled, what `statement_timeout` ends with, and SQLite's word for what we interrupt.
    if (
        getattr(error.orig, "sqlstate", None) == "57014"
        or getattr(error.orig, "sqlite_errorcode", None) == sqlite3.SQLITE_INTERRUPT
    ):
        return StoreSlow
    return StoreDown if is_fault(error) else Refused


def is_deadlock(error: StoreDown) -> bool:
    """Say whether two writers waited for each other, so that trying again helps (PostgreSQL: 40P01)."""
    cause = error.__cause__
    return isinstance(cause, DBAPIError) and getattr(cause.orig, "sqlstate", None) == "40P01"


def _described(error: BaseException) -> str:
    # Later lines of PostgreSQL's messages quote values of rows.
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"[:300]


def _postgresql(url: URL) -> Engine:
    arguments = {name: value for name, value in LIBPQ.items() if name not in url.query}
    return sqlalchemy.create_engine(
        url.set(drivername="postgresql+psycopg"), connect_args=arguments, hide_parameters=True, pool_size=CONNECTIONS,
        max_overflow=0, pool_timeout=BUSY_S, pool_pre_ping=True,
    )  # fmt: skip


def _sqlite(url: URL) -> Engine:
    path = url.database
    if not path or path == ":memory:":
        raise StoreDown(detail="a store in memory keeps nothing; write sqlite:///FILE")
    # Personal data: for nobody else on this machine. SQLite gives its files beside it the same rights.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    engine = sqlalchemy.create_engine(
        url.set(drivername="sqlite+pysqlite"), connect_args={"timeout": BUSY_S}, hide_parameters=True,
        pool_size=CONNECTIONS, max_overflow=0, pool_timeout=BUSY_S,
    )  # fmt: skip
    event.listen(engine, "connect", _set_up_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _set_up_sqlite(connection: sqlite3.Connection, record: ConnectionPoolEntry) -> None:
    connection.isolation_level = None  # transactions begin where we say so, not where the driver guesses
    for pragma in (
        "journal_mode=WAL",  # readers do not wait for the writer
        "synchronous=FULL",  # in WAL, NORMAL loses the last commits on power loss
        "secure_delete=ON",  # erased is overwritten
    ):
        connection.execute(f"PRAGMA {pragma}")
    known = record.info
    connection.set_progress_handler(lambda: time.monotonic() > known.get(READS_UNTIL, math.inf), LOOK_STEPS)


def _begin_sqlite(connection: Connection) -> None:
    # A transaction that begins by reading cannot become a writing one while another writes (SQLITE_BUSY_SNAPSHOT).
    writes = connection.get_execution_options().get(WRITES)
    connection.info[READS_UNTIL] = math.inf if writes else time.monotonic() + READ_S
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


class FileWatch:
    """Sees that a SQLite file is still the one that was opened.

    Whoever moves a backup into its place leaves us writing into a file without a name, lost with the last connection.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._opened = self._identity()

    def _identity(self) -> tuple[int, int] | None:
        try:
            found = os.stat(self._path)
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def check(self) -> None:
        """Raise StoreDown where it is gone or another one."""
        if self._identity() != self._opened:
            raise StoreDown(detail="the file was moved away or replaced")
