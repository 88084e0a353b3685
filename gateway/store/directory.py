"""The directory's statements: rows folded in and erased, read one by one or by change. Blocking, as `database`."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any, Final, TypeVar, cast

from sqlalchemy import Connection, RowMapping, Select, Table, Update, and_, bindparam, exists, not_, select, update

from gateway.core.delivery import WAITING
from gateway.core.directory import Membership, Organization, Row, User, fold
from gateway.store.base import Change
from gateway.store.tables import DELIVERIES, INBOX, MEMBERSHIPS, ORGANIZATIONS, SCHEMA, TABLES, USERS, inserting

R = TypeVar("R", User, Organization, Membership)
Transaction = Callable[[Callable[[Connection], Any]], Any]  # runs what it is given in one, and gives what it gives
DELETION: Final = "user.deleted"  # holds ids only, and has yet to be passed on
# Made once, as the upserts are.
_ONE: Final = {table: select(table).where(table.c.id == bindparam("key")) for table in TABLES.values()}


class DirectoryTables:
    """Users, organisations and memberships; `read` and `write` are the database's transactions."""

    def __init__(self, read: Transaction, write: Transaction, *, dialect: str) -> None:
        self._read, self._write = read, write
        # Made once: making one takes longer than SQLite takes to do what it says.
        self._upserts = {table: _upsert(inserting(table, dialect), table) for table in TABLES.values()}

    def merge(self, rows: Sequence[Row], *, now: int) -> None:
        """Fold rows in, each where it is newer than what is known, and erase what was kept of the deleted."""

        def write(connection: Connection) -> None:
            self.merge_in(connection, rows, now=now)
            erase(connection, {row.id for row in rows if isinstance(row, User) and row.deleted})

        self._write(write)

    def merge_in(self, connection: Connection, rows: Iterable[Row], *, now: int) -> None:
        """As `merge`, without erasing, within the caller's transaction."""
        newest: dict[type[Row], dict[str, Any]] = defaultdict(dict)
        for row in rows:
            known = newest[type(row)]
            known[row.id] = fold(known.get(row.id), cast("Any", row))
        number = next_change(connection, sum(map(len, newest.values())))
        for kind, table in TABLES.items():
            values = []
            for key in sorted(newest[kind]):
                values.append(_content(newest[kind][key]) | {"changed_at": now, "change": number})
                number += 1
            if values:
                connection.execute(self._upserts[table], values)

    # --- reading -----------------------------------------------------------------------------------------------------

    def user(self, user_id: str) -> User | None:
        """Give a user, a deleted one too."""
        return self._one(User, user_id)

    def users(self, asked: Mapping[str, str | None], *, after: str, limit: int) -> tuple[User, ...]:
        """Give living users by id, those behind `after`, that have in these columns what is asked for."""
        query = select(USERS).where(not_(USERS.c.deleted), USERS.c.id > after).order_by(USERS.c.id).limit(limit)
        named = (USERS.c[name] == value for name, value in asked.items() if value is not None)
        return self._all(query.where(*named), User)

    def organization(self, org_id: str) -> Organization | None:
        """Give an organisation, a deleted one too."""
        return self._one(Organization, org_id)

    def members(self, org_id: str, *, after: str, limit: int) -> tuple[Membership, ...]:
        """Give living memberships by id; a deleted user or organisation ends them all, in whatever order that came."""
        table, living = MEMBERSHIPS, and_(MEMBERSHIPS.c.org_id == org_id, not_(MEMBERSHIPS.c.deleted))
        gone_user = exists().where(USERS.c.id == table.c.user_id, USERS.c.deleted)
        gone_org = exists().where(ORGANIZATIONS.c.id == table.c.org_id, ORGANIZATIONS.c.deleted)
        query = select(table).where(living, table.c.id > after, ~gone_user, ~gone_org).order_by(table.c.id).limit(limit)
        return self._all(query, Membership)

    def last_change(self) -> int:
        """Give the number of the last change, of whatever table."""
        return int(self._read(lambda connection: connection.execute(select(SCHEMA.c.changes)).scalar_one()))

    def changes(self, *, since: int, limit: int) -> tuple[Change, ...]:
        """Give the rows that changed after change number `since`, in order: each once, as it is now."""

        def read(connection: Connection) -> list[Change]:
            found = []
            # What is committed while the tables are read one by one is for the next time: of two changes only the
            # later one might be seen.
            last = connection.execute(select(SCHEMA.c.changes)).scalar_one()
            for kind, table in TABLES.items():
                new = table.c.change > since, table.c.change <= last
                rows = connection.execute(select(table).where(*new).order_by(table.c.change).limit(limit)).mappings()
                found += [Change(each["change"], each["changed_at"], row_from(kind, each)) for each in rows]
            return sorted(found, key=lambda change: change.number)[:limit]

        return tuple(self._read(read))

    def changed_users(self, *, since: int, limit: int) -> list[tuple[int, str, bytes]]:
        """Give number, id and version of the users that changed after change number `since`, in order."""
        query = select(USERS.c.change, USERS.c.id, USERS.c.version).where(USERS.c.change > since)
        ordered = query.order_by(USERS.c.change).limit(limit)
        return [tuple(each) for each in self._read(lambda connection: connection.execute(ordered).all())]

    def _all(self, query: Select[Any], kind: type[R]) -> tuple[R, ...]:
        found = self._read(lambda connection: connection.execute(query).mappings().all())
        return tuple(row_from(kind, each) for each in found)

    def _one(self, kind: type[R], key: str) -> R | None:
        query = _ONE[TABLES[kind]]
        found = self._read(lambda connection: connection.execute(query, {"key": key}).mappings().one_or_none())
        return None if found is None else row_from(kind, found)


def next_change(connection: Connection, count: int) -> int:
    """Take `count` numbers for changes, the first of which is given.

    Whoever has taken some holds the row until the commit, so that writers follow each other and what is numbered lower
    is seen earlier. Hence the first statement of everything that writes, also where it needs no number.
    """
    taking = update(SCHEMA).values(changes=SCHEMA.c.changes + count).returning(SCHEMA.c.changes)
    return int(connection.execute(taking).scalar_one()) - count + 1


def row_from(kind: type[Any], found: RowMapping) -> Any:
    """Make a row of the directory of a table's."""
    return kind(**{field.name: found[field.name] for field in fields(kind)})


# `asdict` copies all that a row holds, which takes a third of the time of writing it.
_NAMES: Final = {kind: tuple(field.name for field in fields(kind)) for kind in TABLES}


def _content(row: Row) -> dict[str, Any]:
    return {name: getattr(row, name) for name in _NAMES[type(row)]}


def _upsert(statement: Any, table: Table) -> Any:
    changed = {column.name: statement.excluded[column.name] for column in table.c if column.name != "id"}
    return statement.on_conflict_do_update(
        index_elements=["id"], set_=changed, where=table.c.version < statement.excluded.version
    )


# --- what is erased with a user ---------------------------------------------------------------------------------------


def erasing(users: Select[Any]) -> Update:
    """Give the statement that erases the stored payloads of these users."""
    held = and_(INBOX.c.payload.is_not(None), INBOX.c.type != DELETION)
    return update(INBOX).where(INBOX.c.user_id.in_(users), held).values(payload=None)


_ERASING: Final = erasing(select(USERS.c.id).where(USERS.c.deleted, USERS.c.id.in_(bindparam("users", expanding=True))))


# What has nothing left to say is over with its next turn, which is now: the deletion waits behind it.
_HURRYING: Final = (
    update(DELIVERIES)
    .where(
        DELIVERIES.c.state == WAITING, DELIVERIES.c.due_at.is_not(None),
        DELIVERIES.c.svix_id.in_(
            select(INBOX.c.svix_id).where(
                INBOX.c.user_id.in_(bindparam("users", expanding=True)), INBOX.c.payload.is_(None)
            )
        ),
    )
    .values(due_at=DELIVERIES.c.since)
)  # fmt: skip


def erase(connection: Connection, users: set[str]) -> None:
    """Erase the stored payloads of these users, as far as they are deleted."""
    if users and connection.execute(_ERASING, {"users": sorted(users)}).rowcount:
        connection.execute(_HURRYING, {"users": sorted(users)})
