"""What is forgotten when: webhooks, tombstones, revocations. Some at a time, for webhooks wait meanwhile."""

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Connection, Table, and_, delete, func, or_, select, update

from gateway.core.delivery import DEAD
from gateway.store.base import Position
from gateway.store.deliveries import D, is_in, waiting
from gateway.store.directory import erasing, next_change
from gateway.store.tables import DELIVERIES, INBOX, MEMBERSHIPS, ORGANIZATIONS, REVOCATIONS, USERS, is_deleted

DAY_MS: Final = 86_400_000
IDS_DAYS: Final = 7  # Svix retries for 28 hours, and people replay by hand
TOMBSTONES_DAYS: Final = 90
DEAD_DAYS: Final = 90  # for who comes back to see what was given up, and sends it again
FORGET_AT_ONCE: Final = 250  # rows: some 0.1 s where payloads are large


def forget(connection: Connection, *, now: int, retention_days: int, after: Position) -> Position | None:
    """Erase some of what has been kept long enough, of webhooks what came behind `after`. `now` in ms.

    Give where to go on, None once that is all. One by one: what is kept for its deliveries may be much, and is not to
    be gone through again for each few that are not.
    """
    next_change(connection, 0)
    gone_before = now - TOMBSTONES_DAYS * DAY_MS
    seen, last = _forget_webhooks(connection, after, now=now, retention_days=retention_days)
    touched = _some(connection, REVOCATIONS, REVOCATIONS.c.void_at <= now, delete(REVOCATIONS))
    touched += _forget_tombstones(connection, gone_before)
    if seen == FORGET_AT_ONCE or touched:
        return last
    # What two processes wrote at the same moment can have missed each other. Once, when all the rest is done.
    connection.execute(erasing(select(USERS.c.id).where(is_deleted(USERS), USERS.c.changed_at > now - DAY_MS)))
    return None


def _forget_webhooks(connection: Connection, after: Position, *, now: int, retention_days: int) -> tuple[int, Position]:
    """Erase payloads, then ids with what became of them, of the next few that are old; say how many, and the last."""
    payloads_before = now - retention_days * DAY_MS
    ids_before = now - max(retention_days, IDS_DAYS) * DAY_MS
    old = connection.execute(
        select(INBOX.c.received_at, INBOX.c.seq, INBOX.c.svix_id)
        .where(INBOX.c.received_at < payloads_before, INBOX.c.received_at >= after.received_at)
        .where(or_(INBOX.c.received_at > after.received_at, INBOX.c.seq > after.seq))
        .order_by(INBOX.c.received_at, INBOX.c.seq).limit(FORGET_AT_ONCE)
    ).all()  # fmt: skip
    if not old:
        return 0, after
    kept = _needed(connection, [row.svix_id for row in old], now=now)
    over = [row for row in old if row.svix_id not in kept]
    payloads = and_(INBOX.c.seq.in_([row.seq for row in over]), INBOX.c.payload.is_not(None))
    connection.execute(update(INBOX).where(payloads).values(payload=None))
    chosen = [row.svix_id for row in over if row.received_at < ids_before]
    for table in (DELIVERIES, INBOX):
        connection.execute(delete(table).where(table.c.svix_id.in_(chosen)))
    return len(old), Position(old[-1].received_at, old[-1].seq)


def _needed(connection: Connection, svix_ids: Sequence[str], *, now: int) -> set[str]:
    """Give those of these that are kept for their deliveries, by name: a join may go through all deliveries."""
    # Days are needed to deliver it, however few it is to be kept; and dead is not done.
    died = and_(is_in(D, DEAD), func.coalesce(D.c.last_at, D.c.since) >= now - DEAD_DAYS * DAY_MS)
    query = select(D.c.svix_id).where(D.c.svix_id.in_(svix_ids), or_(waiting(D), died))
    return set(connection.execute(query).scalars())


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
