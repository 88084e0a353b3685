"""What is forgotten when: webhooks, tombstones, revocations. Some at a time, for webhooks wait meanwhile."""

from typing import Any, Final

from sqlalchemy import Connection, Table, and_, delete, or_, select, update

from gateway.core.delivery import LONGEST_WAIT_MS
from gateway.store.deliveries import waits
from gateway.store.directory import erasing, next_change
from gateway.store.tables import DELIVERIES, INBOX, MEMBERSHIPS, ORGANIZATIONS, REVOCATIONS, USERS

DAY_MS: Final = 86_400_000
IDS_DAYS: Final = 7  # Svix retries for 28 hours, and people replay by hand
TOMBSTONES_DAYS: Final = 90
FORGET_AT_ONCE: Final = 1000  # rows


def forget(connection: Connection, *, now: int, retention_days: int) -> bool:
    """Erase some of what has been kept long enough; say whether there may be more. `now` in ms."""
    next_change(connection, 0)
    payloads_before = now - retention_days * DAY_MS
    ids_before = now - max(retention_days, IDS_DAYS) * DAY_MS
    gone_before = now - TOMBSTONES_DAYS * DAY_MS
    # What two processes wrote at the same moment can have missed each other.
    connection.execute(erasing(select(USERS.c.id).where(USERS.c.deleted, USERS.c.changed_at > now - DAY_MS)))
    stale = and_(INBOX.c.received_at < payloads_before, INBOX.c.payload.is_not(None))
    # Days are needed to deliver it, however few it is to be kept.
    stale = and_(stale, ~waits(INBOX.c.svix_id, since=now - LONGEST_WAIT_MS))
    touched = _some(connection, INBOX, stale, update(INBOX).values(payload=None))
    touched += _forget_webhooks(connection, ids_before)
    touched += _some(connection, REVOCATIONS, REVOCATIONS.c.void_at <= now, delete(REVOCATIONS))
    return touched + _forget_tombstones(connection, gone_before) > 0


def _forget_webhooks(connection: Connection, before: int) -> int:
    """Delete webhooks and what became of them; one that a delivery still waits for is finished by that first."""
    over = select(INBOX.c.svix_id).where(INBOX.c.received_at < before, ~waits(INBOX.c.svix_id)).limit(FORGET_AT_ONCE)
    chosen = connection.execute(over).scalars().all()
    for table in (DELIVERIES, INBOX):
        connection.execute(delete(table).where(table.c.svix_id.in_(chosen)))
    return len(chosen)


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
