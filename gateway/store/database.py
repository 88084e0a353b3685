"""The store's statements, one code path for SQLite and PostgreSQL. Plain blocking calls: `sql` has them run in threads.

A webhook and what it does to the directory are one transaction: an acknowledged event is never half applied, and no
second cursor has to survive a crash. Raises `StoreDown` and nothing else.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, fields
from typing import Any, Final, TypeVar, cast

from sqlalchemy import (
    Connection,
    RowMapping,
    Select,
    Table,
    Update,
    and_,
    bindparam,
    delete,
    exists,
    not_,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from gateway.core.directory import Membership, Organization, Row, User, fold, row_of
from gateway.errors import StoreDown
from gateway.store.base import Arrival, Stored
from gateway.store.engine import WRITES, FileWatch, Refused, is_deadlock, open_engine, told
from gateway.store.migrations import LATEST, check_version, migrate, version_of
from gateway.store.tables import INBOX, MEMBERSHIPS, ORGANIZATIONS, SCHEMA, TABLES, USERS

T = TypeVar("T")
R = TypeVar("R", User, Organization, Membership)
INSERTS: Final = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
DAY_MS: Final = 86_400_000
IDS_DAYS: Final = 7  # Svix retries for 28 hours, and people replay by hand
TOMBSTONES_DAYS: Final = 90
FORGET_AT_ONCE: Final = 1000  # rows; webhooks wait meanwhile
DELETION: Final = "user.deleted"  # holds ids only, and has yet to be passed on


class Database:
    """An open database; thread-safe. `migrating` brings the schema up to date first, otherwise it must be."""

    def __init__(self, url: str, *, migrating: bool | None = None) -> None:
        self._engine = open_engine(url)
        self._is_sqlite = self._engine.dialect.name == "sqlite"
        # Made once: making one takes longer than SQLite takes to do what it says.
        insert: Any = INSERTS[self._engine.dialect.name]
        keep = insert(INBOX).on_conflict_do_nothing(index_elements=["svix_id"])
        self._keeping = keep.returning(INBOX.c.svix_id)
        self._upserts = {table: _upsert(insert(table), table) for table in TABLES.values()}
        self._file = FileWatch(str(self._engine.url.database)) if self._is_sqlite else None
        try:
            if self._is_sqlite if migrating is None else migrating:
                self.migrated = self._write(migrate)
            else:
                self.migrated = self._read(_checked_version)
        except StoreDown:
            self.close()
            raise

    def close(self) -> None:
        """Close every connection that is not in use."""
        with suppress(StoreDown), told():
            self._engine.dispose()

    # --- transactions ------------------------------------------------------------------------------------------------

    def _read(self, what: Callable[[Connection], T]) -> T:
        with told(), self._engine.connect() as connection:
            return what(connection)

    def _write(self, what: Callable[[Connection], T]) -> T:
        try:
            return self._write_once(what)
        except StoreDown as error:
            if not is_deadlock(error):
                raise
        return self._write_once(what)

    def _write_once(self, what: Callable[[Connection], T]) -> T:
        if self._file is not None:
            self._check_file(self._file)
        with told(), self._engine.connect().execution_options(**{WRITES: True}) as connection, connection.begin():
            return what(connection)

    def _check_file(self, file: FileWatch) -> None:
        try:
            file.check()
        except StoreDown:
            # SQLite itself would leave what is still in the log beside it, which whoever moved the file may not have.
            with told(), self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
            raise

    def probe(self, *, now: int, writing: bool) -> None:
        """See whether the database answers, and whether it takes a row."""
        if writing:
            self._write(lambda connection: connection.execute(update(SCHEMA).values(probed_at=now)))
        else:
            self._read(lambda connection: connection.execute(text("SELECT 1")))

    # --- writing -----------------------------------------------------------------------------------------------------

    def put(self, arrivals: Sequence[Arrival]) -> Sequence[bool | Exception]:
        """Store webhooks and fold them in, durably; for each whether it is new, or what the database has against it."""
        try:
            return self._write(lambda connection: self._put(connection, arrivals))
        except Refused as refused:
            if len(arrivals) == 1:
                return [refused]
        # One of them is what no database takes; it must not take the others along.
        return [result for arrival in arrivals for result in self.put([arrival])]

    def _put(self, connection: Connection, arrivals: Sequence[Arrival]) -> list[bool]:
        first = {arrival.svix_id: arrival for arrival in reversed(arrivals)}
        values = [_inbox_values(arrival) for arrival in arrivals if first[arrival.svix_id] is arrival]
        new = set(connection.execute(self._keeping, values).scalars())
        fresh = [first[svix_id] for svix_id in new]
        rows = [row for arrival in fresh if (row := row_of(arrival.event)) is not None]
        self._merge(connection, rows, now=max((arrival.received_at for arrival in fresh), default=0))
        _erase(connection, {arrival.event.user_id for arrival in fresh if arrival.event.user_id})
        return [arrival.svix_id in new and first[arrival.svix_id] is arrival for arrival in arrivals]

    def merge(self, rows: Sequence[Row], *, now: int) -> None:
        """Fold rows in, each where it is newer than what is known."""

        def write(connection: Connection) -> None:
            self._merge(connection, rows, now=now)
            _erase(connection, {row.id for row in rows if isinstance(row, User) and row.deleted})

        self._write(write)

    def _merge(self, connection: Connection, rows: Iterable[Row], *, now: int) -> None:
        newest: dict[type[Row], dict[str, Any]] = defaultdict(dict)
        for row in rows:
            known = newest[type(row)]
            known[row.id] = fold(known.get(row.id), cast("Any", row))
        for kind, table in TABLES.items():
            if newest[kind]:
                values = [asdict(newest[kind][key]) | {"changed_at": now} for key in sorted(newest[kind])]
                connection.execute(self._upserts[table], values)

    def forget(self, *, now: int, retention_days: int) -> bool:
        """Erase some of what has been kept long enough; say whether there may be more. `now` in ms."""
        return self._write(lambda connection: _forget(connection, now, retention_days))

    # --- reading -----------------------------------------------------------------------------------------------------

    def get(self, svix_id: str) -> Stored | None:
        """Give a stored webhook."""
        query = select(INBOX).where(INBOX.c.svix_id == svix_id)
        found = self._read(lambda connection: connection.execute(query).mappings().one_or_none())
        return None if found is None else Stored(**found)

    def user(self, user_id: str) -> User | None:
        """Give a user, a deleted one too."""
        return self._first(select(USERS).where(USERS.c.id == user_id), User)

    def organization(self, org_id: str) -> Organization | None:
        """Give an organisation, a deleted one too."""
        return self._first(select(ORGANIZATIONS).where(ORGANIZATIONS.c.id == org_id), Organization)

    def members(self, org_id: str, *, after: str, limit: int) -> tuple[Membership, ...]:
        """Give living memberships by id; a deleted user or organisation ends them all, in whatever order that came."""
        table, living = MEMBERSHIPS, and_(MEMBERSHIPS.c.org_id == org_id, not_(MEMBERSHIPS.c.deleted))
        gone_user = exists().where(USERS.c.id == table.c.user_id, USERS.c.deleted)
        gone_org = exists().where(ORGANIZATIONS.c.id == table.c.org_id, ORGANIZATIONS.c.deleted)
        query = select(table).where(living, table.c.id > after, ~gone_user, ~gone_org).order_by(table.c.id).limit(limit)
        return self._all(query, Membership)

    def _all(self, query: Select[Any], kind: type[R]) -> tuple[R, ...]:
        found = self._read(lambda connection: connection.execute(query).mappings().all())
        return tuple(_row(kind, each) for each in found)

    def _first(self, query: Select[Any], kind: type[R]) -> R | None:
        return next(iter(self._all(query, kind)), None)


def _row(kind: type[R], found: RowMapping) -> R:
    return kind(**{field.name: found[field.name] for field in fields(kind)})


def _upsert(statement: Any, table: Table) -> Any:
    changed = {column.name: statement.excluded[column.name] for column in table.c if column.name != "id"}
    return statement.on_conflict_do_update(
        index_elements=["id"], set_=changed, where=table.c.version < statement.excluded.version
    )


def _inbox_values(arrival: Arrival) -> dict[str, Any]:
    event = arrival.event
    return {
        "svix_id": arrival.svix_id, "type": event.type, "object_id": event.object_id, "user_id": event.user_id,
        "happened_at": event.at, "received_at": arrival.received_at, "payload": event.body,
    }  # fmt: skip


def _checked_version(connection: Connection) -> tuple[int, int]:
    version = version_of(connection)
    check_version(version)
    if version < LATEST:
        raise StoreDown(detail=f"its schema has version {version} of {LATEST}: run `gateway migrate`")
    return version, version


def _erasing(users: Select[Any]) -> Update:
    held = and_(INBOX.c.payload.is_not(None), INBOX.c.type != DELETION)
    return update(INBOX).where(INBOX.c.user_id.in_(users), held).values(payload=None)


_ERASING: Final = _erasing(
    select(USERS.c.id).where(USERS.c.deleted, USERS.c.id.in_(bindparam("users", expanding=True)))
)


def _erase(connection: Connection, users: set[str]) -> None:
    """Erase the stored payloads of these users, as far as they are deleted."""
    if users:
        connection.execute(_ERASING, {"users": sorted(users)})


def _forget(connection: Connection, now: int, retention_days: int) -> bool:
    payloads_before = now - retention_days * DAY_MS
    ids_before = now - max(retention_days, IDS_DAYS) * DAY_MS
    gone_before = now - TOMBSTONES_DAYS * DAY_MS
    # What two processes wrote at the same moment can have missed each other.
    connection.execute(_erasing(select(USERS.c.id).where(USERS.c.deleted, USERS.c.changed_at > now - DAY_MS)))
    stale = and_(INBOX.c.received_at < payloads_before, INBOX.c.payload.is_not(None))
    touched = _some(connection, INBOX, stale, update(INBOX).values(payload=None))
    touched += _some(connection, INBOX, INBOX.c.received_at < ids_before, delete(INBOX))
    return touched + _forget_tombstones(connection, gone_before) > 0


def _forget_tombstones(connection: Connection, before: int) -> int:
    def gone(table: Table) -> Any:
        return and_(table.c.deleted, table.c.changed_at < before)

    # Memberships first: the tombstone of a user or an organisation is what says that they are over.
    over = or_(
        gone(MEMBERSHIPS),
        MEMBERSHIPS.c.user_id.in_(select(USERS.c.id).where(gone(USERS))),
        MEMBERSHIPS.c.org_id.in_(select(ORGANIZATIONS.c.id).where(gone(ORGANIZATIONS))),
    )
    memberships = _some(connection, MEMBERSHIPS, over, delete(MEMBERSHIPS))
    if memberships:
        return memberships
    return sum(_some(connection, table, gone(table), delete(table)) for table in (USERS, ORGANIZATIONS))


def _some(connection: Connection, table: Table, condition: Any, change: Any) -> int:
    key = next(iter(table.primary_key.columns))
    chosen = select(key).where(condition).limit(FORGET_AT_ONCE)
    return int(connection.execute(change.where(key.in_(chosen))).rowcount)
