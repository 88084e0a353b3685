"""The schema's versions, each made from the one before, in one transaction that only one process at a time is in.

A list of our own and no alembic: it is imported in milliseconds, and the few statements read the same for both
databases. A step that was released is never changed; what it makes must leave the version before it working.
"""

import time
from typing import Final

from sqlalchemy import Connection, inspect, text

from gateway.errors import StoreDown

ADVISORY_LOCK: Final = 0x_636C_6572_6B67_7779  # any number that nobody else locks: "clerkgwy"
WORDS: Final = {
    "sqlite": {"bytes": "BLOB", "sequence": "INTEGER PRIMARY KEY AUTOINCREMENT"},
    "postgresql": {"bytes": "BYTEA", "sequence": "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY"},
}
_ROW: Final = """id TEXT PRIMARY KEY, version {bytes} NOT NULL, public_metadata TEXT, created_at BIGINT,
    updated_at BIGINT, deleted BOOLEAN NOT NULL, changed_at BIGINT NOT NULL"""

STEPS: Final[tuple[tuple[str, ...], ...]] = (
    (
        """CREATE TABLE gateway_inbox (seq {sequence}, svix_id TEXT NOT NULL UNIQUE, type TEXT NOT NULL,
            object_id TEXT, user_id TEXT, happened_at BIGINT NOT NULL, received_at BIGINT NOT NULL, payload {bytes})""",
        "CREATE INDEX gateway_inbox_user ON gateway_inbox (user_id)",
        "CREATE INDEX gateway_inbox_received ON gateway_inbox (received_at)",
        f"""CREATE TABLE gateway_users ({_ROW}, email TEXT, name TEXT, given_name TEXT, family_name TEXT,
            nickname TEXT, picture TEXT, external_id TEXT,
            email_verified BOOLEAN, banned BOOLEAN NOT NULL, locked BOOLEAN NOT NULL)""",
        "CREATE INDEX gateway_users_email ON gateway_users (email)",
        "CREATE INDEX gateway_users_external ON gateway_users (external_id)",
        f"CREATE TABLE gateway_organizations ({_ROW}, name TEXT, slug TEXT, picture TEXT)",
        f"CREATE TABLE gateway_memberships ({_ROW}, org_id TEXT, user_id TEXT, role TEXT)",
        "CREATE INDEX gateway_memberships_org ON gateway_memberships (org_id, id)",
        "CREATE INDEX gateway_memberships_user ON gateway_memberships (user_id)",
        *(
            f"CREATE INDEX gateway_{table}_gone ON gateway_{table} (changed_at) WHERE deleted"
            for table in ("users", "organizations", "memberships")
        ),
    ),
    (
        "ALTER TABLE gateway_schema ADD COLUMN changes BIGINT NOT NULL DEFAULT 0",
        *(
            statement
            for table in ("users", "organizations", "memberships")
            for statement in (
                f"ALTER TABLE gateway_{table} ADD COLUMN change BIGINT NOT NULL DEFAULT 0",
                f"CREATE INDEX gateway_{table}_change ON gateway_{table} (change)",
            )
        ),
    ),
    (
        # With the id, by which lists are ordered: else PostgreSQL may think it cheaper to walk all users in that order.
        "CREATE INDEX gateway_users_email_id ON gateway_users (email, id)",
        "CREATE INDEX gateway_users_external_id ON gateway_users (external_id, id)",
        "DROP INDEX gateway_users_email",
        "DROP INDEX gateway_users_external",
    ),
    (
        """CREATE TABLE gateway_deliveries (seq {sequence}, svix_id TEXT NOT NULL, upstream TEXT NOT NULL,
            lane TEXT NOT NULL, state TEXT NOT NULL, attempts BIGINT NOT NULL, since BIGINT NOT NULL, due_at BIGINT,
            claimed_until BIGINT NOT NULL, last_at BIGINT, last_status BIGINT, last_error TEXT,
            UNIQUE (svix_id, upstream))""",
        "CREATE INDEX gateway_deliveries_lane ON gateway_deliveries (upstream, lane, seq) WHERE state = 'waiting'",
        """CREATE INDEX gateway_deliveries_due ON gateway_deliveries (upstream, due_at)
            WHERE state = 'waiting' AND due_at IS NOT NULL""",
        "CREATE INDEX gateway_deliveries_dead ON gateway_deliveries (seq) WHERE state = 'dead'",
    ),
    (
        """CREATE TABLE gateway_sync (id TEXT PRIMARY KEY, noticed_at BIGINT NOT NULL, instance TEXT, progress TEXT,
            finished_at BIGINT, holder TEXT, held_until BIGINT NOT NULL)""",
        # Clerk's lists come by creation, and each page is compared with what is known of its span.
        *(
            f"CREATE INDEX gateway_{table}_created ON gateway_{table} (created_at)"
            for table in ("users", "organizations", "memberships")
        ),
    ),
    (
        """CREATE TABLE gateway_revocations (change BIGINT PRIMARY KEY, user_id TEXT, session_id TEXT, org_id TEXT,
            issued_until BIGINT NOT NULL, void_at BIGINT NOT NULL)""",
        "CREATE INDEX gateway_revocations_void ON gateway_revocations (void_at)",
    ),
    (
        # Also by `seq`, in which order they are claimed: else PostgreSQL sorts all that are due, each time.
        """CREATE INDEX gateway_deliveries_next ON gateway_deliveries (upstream, due_at, seq)
            WHERE state = 'waiting' AND due_at IS NOT NULL""",
        # Whether one is due in a lane, be it long, or one of many.
        """CREATE INDEX gateway_deliveries_first ON gateway_deliveries (upstream, lane)
            WHERE state = 'waiting' AND due_at IS NOT NULL""",
        "DROP INDEX gateway_deliveries_due",
    ),
)
LATEST: Final = len(STEPS)


def version_of(connection: Connection) -> int:
    """Say which version the schema has; 0 for none."""
    if not inspect(connection).has_table("gateway_schema"):
        return 0
    return int(connection.execute(text("SELECT version FROM gateway_schema")).scalar_one())


def migrate(connection: Connection, *, steps: tuple[tuple[str, ...], ...] = STEPS) -> tuple[int, int]:
    """Bring the schema up to date within the caller's writing transaction; give the version before and after.

    Raises:
        StoreDown: the schema is of a later version than this gateway knows.
    """
    words = WORDS[connection.dialect.name]
    if connection.dialect.name == "postgresql":
        # SQLite's writers exclude each other already (BEGIN IMMEDIATE). Building an index may take its time.
        connection.execute(text("SET LOCAL statement_timeout = 0"))
        connection.execute(text("SET LOCAL lock_timeout = 0"))
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": ADVISORY_LOCK})
    before = version_of(connection)
    check_version(before, latest=len(steps))
    if before == 0:
        connection.execute(text("CREATE TABLE gateway_schema (version BIGINT NOT NULL, probed_at BIGINT NOT NULL)"))
        connection.execute(text("INSERT INTO gateway_schema VALUES (0, :now)"), {"now": int(time.time() * 1000)})
    for step in steps[before:]:
        for statement in step:
            connection.execute(text(statement.format(**words)))
    connection.execute(text("UPDATE gateway_schema SET version = :latest"), {"latest": len(steps)})
    return before, len(steps)


def check_version(version: int, *, latest: int = LATEST) -> None:
    """Check that a schema is not of a later gateway's. Raises StoreDown."""
    if version > latest:
        raise StoreDown(detail=f"its schema has version {version}, made by a later gateway; this one knows {latest}")
