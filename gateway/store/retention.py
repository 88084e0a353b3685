"""What is forgotten when: webhooks, tombstones, revocations. Some at a time, for webhooks wait meanwhile."""

from typing import Any, Final

from sqlalchemy import Connection, Table, and_, delete, select, update

from gateway.core.delivery import LONGEST_WAIT_MS
from gateway.store.deliveries import waits
from gateway.store.directory import erasing, next_change
from gateway.store.tables import DELIVERIES, INBOX, MEMBERSHIPS, ORGANIZATIONS, REVOCATIONS, USERS, is_deleted

DAY_MS: Final = 86_400_000
IDS_DAYS: Final = 7  # Svix retries for 28 hours, and people replay by hand
TOMBSTONES_DAYS: Final = 90
FORGET_AT_ONCE: Final = 250  # rows: some 0.1 s where payloads are large


def forget(connection: Connection, *, now: int, retention_days: int) -> bool:
    """Erase some of what has been kept long enough; say whether there may be more. `now` in ms."""
    next_change(connection, 0)
    payloads_before = now - retention_days * DAY_MS
    ids_before = now - max(retention_days, IDS_DAYS) * DAY_MS
    gone_before = now - TOMBSTONES_DAYS * DAY_MS
    stale = and_(INBOX.c.received_at < payloads_before, INBOX.c.payload.is_not(None))
    # Days are needed to deliver it, however few it is to be kept.
    stale = and_(stale, ~waits(INBOX.c.svix_id, since=now - LONGEST_WAIT_MS))
    touched = _some(connection, INBOX, stale, update(INBOX).values(payload=None))
    touched += _forget_webhooks(connection, ids_before)
    touched += _some(connection, REVOCATIONS, REVOCATIONS.c.void_at <= now, delete(REVOCATIONS))
    touched += _forget_tombstones(connection, gone_before)
    if not touched:
        # What two processes wrote at the same moment can have missed each other. Once, when all the rest is done.
        connection.execute(erasing(select(USERS.c.id).where(is_deleted(USERS), USERS.c.changed_at > now - DAY_MS)))
    return touched > 0


def _forget_webhooks(connection: Connection, before: int) -> int:
    """Delete webhooks and what became of them; one that a delivery still waits for is finished by that first."""
    over = select(INBOX.c.svix_id).where(INBOX.c.received_at < before, ~waits(INBOX.c.svix_id)).limit(FORGET_AT_ONCE)
    chosen = connection.execute(over).scalars().all()
    for table in (DELIVERIES, INBOX):
        connection.execute(delete(table).where(table.c.svix_id.in_(chosen)))
    return len(chosen)


def _forget_tombstones(connection: Connection, before: int) -> int:
    def gone(table: Table) -> Any:
        return and_(is_deleted(table), table.c.changed_at < before)

    # Memberships first: the tombstone of a user or an organisation is what says that they are over. One after the
    # other, each by an index; joined by OR they would be looked for among all memberships.
    for over in (
        gone(MEMBERSHIPS),
        MEMBERSHIPS.c.user_id.in_(select(USERS.c.id).where(gone(USERS))),
        MEMBERSHIPS.c.org_id.in_(select(ORGANIZATIONS.c.id).where(gone(ORGANIZATIONS))),
    ):
        memberships = _some(connection, MEMBERSHIPS, over, delete(MEMBERSHIPS))
        if memberships:
            return memberships
    return sum(_some(connection, table, gone(table), delete(table)) for table in (USERS, ORGANIZATIONS))


def _some(connection: Connection, table: Table, condition: Any, change: Any) -> int:
    key = next(iter(table.primary_key.columns))
    chosen = select(key).where(condition).limit(FORGET_AT_ONCE)
    return int(connection.execute(change.where(key.in_(chosen))).rowcount)
