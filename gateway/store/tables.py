"""The tables as the statements see them; `migrations` makes them. Imports SQLAlchemy, so it is imported late itself.

Their names begin with `gateway_`: a PostgreSQL database may be shared with an application that has users of its own.
"""

from collections.abc import Mapping
from typing import Any, Final

import orjson
from sqlalchemy import BigInteger, Boolean, Column, ColumnElement, LargeBinary, MetaData, Table, Text, literal_column
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

from gateway.core.directory import Membership, Organization, Row, User

METADATA: Final = MetaData()
INSERTS: Final[Mapping[str, Any]] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


class Json(TypeDecorator[Mapping[str, Any]]):
    """JSON as text, alike in every database; nothing inside it is searched for."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Mapping[str, Any] | None, dialect: Dialect) -> str | None:
        """Write it."""
        return None if value is None else orjson.dumps(value).decode()

    def process_result_value(self, value: str | None, dialect: Dialect) -> Mapping[str, Any] | None:
        """Read it."""
        return None if value is None else orjson.loads(value)


def _text(*names: str) -> list[Column[Any]]:
    return [Column(name, Text) for name in names]


def _row_columns() -> list[Column[Any]]:
    """Give what every row of the directory has; `changed_at` is when we learnt of it, the other times are Clerk's.

    `change` numbers what was learnt, in the order of commits, over all tables together.
    """
    return [
        Column("id", Text, primary_key=True),
        Column("version", LargeBinary, nullable=False),
        Column("public_metadata", Json),
        Column("created_at", BigInteger),
        Column("updated_at", BigInteger),
        Column("deleted", Boolean, nullable=False),
        Column("changed_at", BigInteger, nullable=False),
        Column("change", BigInteger, nullable=False),
    ]


INBOX: Final = Table(
    "gateway_inbox",
    METADATA,
    Column("seq", BigInteger, primary_key=True, autoincrement=True),
    Column("svix_id", Text, nullable=False, unique=True),
    Column("type", Text, nullable=False),
    *_text("object_id", "user_id"),
    Column("happened_at", BigInteger, nullable=False),
    Column("received_at", BigInteger, nullable=False),
    Column("payload", LargeBinary),
)
USERS: Final = Table(
    "gateway_users",
    METADATA,
    *_row_columns(),
    *_text("email", "name", "given_name", "family_name", "nickname", "picture", "external_id"),
    Column("email_verified", Boolean),
    Column("banned", Boolean, nullable=False),
    Column("locked", Boolean, nullable=False),
)
ORGANIZATIONS: Final = Table("gateway_organizations", METADATA, *_row_columns(), *_text("name", "slug", "picture"))
MEMBERSHIPS: Final = Table("gateway_memberships", METADATA, *_row_columns(), *_text("org_id", "user_id", "role"))
DELIVERIES: Final = Table(
    "gateway_deliveries",
    METADATA,
    Column("seq", BigInteger, primary_key=True, autoincrement=True),  # their order, within a lane
    Column("svix_id", Text, nullable=False),
    Column("upstream", Text, nullable=False),
    Column("lane", Text, nullable=False),
    Column("state", Text, nullable=False),  # core.delivery
    Column("attempts", BigInteger, nullable=False),
    Column("since", BigInteger, nullable=False),  # when it began to wait
    Column("due_at", BigInteger),  # of the first that waits in its lane; None: it waits behind that one, or is over
    Column("claimed_until", BigInteger, nullable=False),  # until then somebody is at it
    Column("last_at", BigInteger),
    Column("last_status", BigInteger),
    *_text("last_error"),
)
SYNC: Final = Table(
    "gateway_sync",
    METADATA,
    Column("id", Text, primary_key=True),  # one row: two runs at once would only hinder each other
    Column("noticed_at", BigInteger, nullable=False),  # since when a run is waited for
    *_text("instance"),  # whose users are in this store
    Column("progress", Json),  # of the last run
    Column("finished_at", BigInteger),  # of the last run that came to its end
    *_text("holder"),  # who runs it now,
    Column("held_until", BigInteger, nullable=False),  # unless it died
)
# In the order of changes, like the rows above. Who fits all that is given is refused (`core.revocation`).
REVOCATIONS: Final = Table(
    "gateway_revocations",
    METADATA,
    Column("change", BigInteger, primary_key=True, autoincrement=False),
    *_text("user_id", "session_id", "org_id"),
    Column("issued_until", BigInteger, nullable=False),
    Column("void_at", BigInteger, nullable=False),
)
SCHEMA: Final = Table(
    "gateway_schema",
    METADATA,
    Column("version", BigInteger, nullable=False),
    Column("probed_at", BigInteger, nullable=False),
    Column("changes", BigInteger, nullable=False),  # the last number given to a change
)
# In the order in which they are written, everywhere: then no two writers wait for each other.
TABLES: Final[Mapping[type[Row], Table]] = {User: USERS, Organization: ORGANIZATIONS, Membership: MEMBERSHIPS}


def inserting(table: Table, dialect: str) -> Any:
    """Give an INSERT into a table, of the kind that can say what to do where the row is there already."""
    return INSERTS[dialect](table)


def is_deleted(table: Table) -> ColumnElement[Any]:
    """Say of a row of the directory that it is a tombstone, in the words of the indexes of those.

    SQLAlchemy would say `deleted = 1` to SQLite, which does not see that this is `deleted`, and would look at each row.
    """
    return literal_column(f"{table.name}.{table.c.deleted.name}")
