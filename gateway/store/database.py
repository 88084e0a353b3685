"""The store's database: its life, its transactions, the inbox. Plain blocking calls: `sql` has them run in threads.

A webhook and what it does to the directory are one transaction: an acknowledged event is never half applied, and no
second cursor has to survive a crash. One code path for SQLite and PostgreSQL; raises `StoreDown` and nothing else.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import compress
from typing import Any, TypeVar, cast

from sqlalchemy import Connection, select, text, update

from gateway.core.revocation import revocations_of, revocations_of_row
from gateway.errors import StoreDown
from gateway.store.base import Arrival, Position, Stored
from gateway.store.deliveries import DeliveryTables, add
from gateway.store.directory import DirectoryTables, erase, next_change
from gateway.store.engine import WRITES, FileWatch, Refused, is_deadlock, open_engine, told
from gateway.store.migrations import LATEST, check_version, migrate, version_of
from gateway.store.retention import forget
from gateway.store.revocations import RevocationTables
from gateway.store.syncing import Pairs, SyncTables
from gateway.store.tables import INBOX, SCHEMA, inserting
from gateway.store.webhooks import WebhookTables

T = TypeVar("T")


class Database:
    """An open database; thread-safe. `migrating` brings the schema up to date first, otherwise it must be."""

    def __init__(self, url: str, *, migrating: bool | None = None) -> None:
        self._engine = open_engine(url)
        dialect = self._engine.dialect.name
        is_sqlite = dialect == "sqlite"
        self._keeping = (
            inserting(INBOX, dialect).on_conflict_do_nothing(index_elements=["svix_id"]).returning(INBOX.c.svix_id)
        )
        self._file = FileWatch(str(self._engine.url.database)) if is_sqlite else None
        self.directory = DirectoryTables(self.read, self.write, dialect=dialect)
        self.deliveries = DeliveryTables(self.read, self.write)
        self.webhooks = WebhookTables(self.read, self.write)
        self.revocations = RevocationTables(self.read, self.write)
        self.syncing = SyncTables(self.read, self.write, self.directory, dialect=dialect, on_changed=self._end_changed)
        try:
            if is_sqlite if migrating is None else migrating:
                self.migrated = self.write(migrate)
            else:
                self.migrated = self.read(_checked_version)
        except StoreDown:
            self.close()
            raise

    def close(self) -> None:
        """Close every connection that is not in use."""
        with suppress(StoreDown), told():
            self._engine.dispose()

    # --- transactions ------------------------------------------------------------------------------------------------

    def read(self, what: Callable[[Connection], T]) -> T:
        """Run `what` in a reading transaction."""
        with told(), self._engine.connect() as connection:
            return what(connection)

    def write(self, what: Callable[[Connection], T]) -> T:
        """Run `what` in a writing transaction, durable once this returns; twice where two writers met."""
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
            self.write(lambda connection: connection.execute(update(SCHEMA).values(probed_at=now)))
        else:
            self.read(lambda connection: connection.execute(text("SELECT 1")))

    # --- the inbox ---------------------------------------------------------------------------------------------------

    def put(self, arrivals: Sequence[Arrival]) -> Sequence[bool | Exception]:
        """Store webhooks and fold them in, durably; for each whether it is new, or what the database has against it."""
        try:
            return self.write(lambda connection: self._put(connection, arrivals))
        except Refused as refused:
            if len(arrivals) == 1:
                return [refused]
        # One of them is what no database takes; it must not take the others along.
        return [result for arrival in arrivals for result in self.put([arrival])]

    def _put(self, connection: Connection, arrivals: Sequence[Arrival]) -> list[bool]:
        next_change(connection, 0)
        first = {arrival.svix_id: arrival for arrival in reversed(arrivals)}
        values = [_inbox_values(arrival) for arrival in arrivals if first[arrival.svix_id] is arrival]
        new = set(connection.execute(self._keeping, values).scalars())
        fresh = [first[svix_id] for svix_id in new]
        now = max((arrival.received_at for arrival in fresh), default=0)
        self.directory.merge_in(connection, [arrival.row for arrival in fresh if arrival.row is not None], now=now)
        ended = [revocations_of(came.event, came.row, now_ms=came.received_at) for came in fresh]
        self.revocations.add_in(connection, [each for several in ended for each in several])
        erase(connection, {arrival.event.user_id for arrival in fresh if arrival.event.user_id})
        is_new = [arrival.svix_id in new and first[arrival.svix_id] is arrival for arrival in arrivals]
        add(connection, compress(arrivals, is_new))  # in the order in which they came
        return is_new

    def _end_changed(self, connection: Connection, pairs: Pairs, now: int) -> None:
        """Refuse what ended without a webhook that said so: `pairs` of a row as it was and as it is."""
        ended = [revocations_of_row(cast("Any", old), cast("Any", new), now_ms=now) for old, new in pairs]
        self.revocations.add_in(connection, [each for several in ended for each in several])

    def get(self, svix_id: str) -> Stored | None:
        """Give a stored webhook."""
        query = select(INBOX).where(INBOX.c.svix_id == svix_id)
        found = self.read(lambda connection: connection.execute(query).mappings().one_or_none())
        return None if found is None else Stored(**found)

    def forget(self, *, now: int, retention_days: int, after: Position) -> Position | None:
        """Erase some of what has been kept long enough; say where to go on, None once that is all. `now` in ms."""
        return self.write(lambda connection: forget(connection, now=now, retention_days=retention_days, after=after))


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
