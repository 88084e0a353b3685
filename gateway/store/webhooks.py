"""Stored webhooks and their deliveries as people look at them, and sent again. Blocking, as `database`."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    RowMapping,
    bindparam,
    case,
    exists,
    func,
    insert,
    null,
    select,
    update,
)

from gateway.core.delivery import DEAD, WAITING
from gateway.store.base import Delivery, Kept, Replayed, Stored
from gateway.store.deliveries import is_in, waiting
from gateway.store.directory import Transaction, next_change, row_from
from gateway.store.tables import DELIVERIES, INBOX

AT_ONCE: Final = 500  # rows
LOOKED_AT: Final = 5000  # of the inbox, for one part of a list of some of them
D: Final = DELIVERIES
OTHER: Final = DELIVERIES.alias("other")

_HELD: Final = [column for column in INBOX.columns if column.name != "payload"]
_LISTED: Final = select(*_HELD, INBOX.c.payload.is_not(None).label("has_payload"))
_NOW: Final = bindparam("now", type_=BigInteger)
_LAST: Final = select(INBOX.c.seq).order_by(INBOX.c.seq.desc()).limit(1).offset(bindparam("before_it"))
# The first in its lane is due at once; where another one is, it waits for its turn.
_AGAIN: Final = (
    update(D)
    .where(D.c.seq == bindparam("of"))
    .values(
        # Another one than before, by which the outcome of an attempt under way is known to be of the time before.
        state=WAITING, attempts=0, since=case((D.c.since == _NOW, _NOW + 1), else_=_NOW),
        due_at=case(
            (
                exists().where(
                    OTHER.c.upstream == D.c.upstream, OTHER.c.lane == D.c.lane, waiting(OTHER),
                    OTHER.c.due_at.is_not(None), OTHER.c.seq != D.c.seq,
                ),
                null(),
            ),
            else_=_NOW,
        ),
    )
)  # fmt: skip


class WebhookTables:
    """The inbox with its deliveries; `read` and `write` are the database's transactions. Times in ms."""

    def __init__(self, read: Transaction, write: Transaction) -> None:
        self._read, self._write = read, write

    def latest(
        self, *, kind: str | None = None, state: str | None = None, before: int | None = None, limit: int = 100
    ) -> tuple[list[Kept], int | None]:
        """Give webhooks, the newest first and those before `before` (a `seq`), without payloads; and the next `before`.

        `kind` is a type or a pattern of types; with a `state`, those with a delivery in it. Of these only a part of the
        inbox is looked through, so that there may be few or none although more follow; None: nothing follows.
        """
        held = [] if before is None else [INBOX.c.seq < before]
        asked = [] if kind is None else [_is_of(kind)]
        asked += [] if state is None else [_has_delivery(state)]

        def read(connection: Connection) -> tuple[list[Kept], int | None]:
            last = None
            if asked:
                last = connection.execute(_LAST.where(*held), {"before_it": LOOKED_AT - 1}).scalar()
            looked = [] if last is None else [INBOX.c.seq >= last]
            query = _LISTED.where(*held, *looked, *asked).order_by(INBOX.c.seq.desc()).limit(limit + 1)
            rows = connection.execute(query).mappings().all()
            return _kept(connection, rows[:limit]), rows[limit - 1]["seq"] if len(rows) > limit else last

        found: tuple[list[Kept], int | None] = self._read(read)
        return found

    def show(self, svix_id: str) -> Kept | None:
        """Give a webhook with its payload."""
        query = select(INBOX, INBOX.c.payload.is_not(None).label("has_payload")).where(INBOX.c.svix_id == svix_id)
        found = self._read(lambda connection: _kept(connection, connection.execute(query).mappings().all()))
        return next(iter(found), None)

    def dead(self, *, limit: int = 100) -> list[tuple[str, Delivery]]:
        """Give dead deliveries with their types, those that died last first."""
        query = (
            select(INBOX.c.type, D).join(INBOX, INBOX.c.svix_id == D.c.svix_id).where(is_in(D, DEAD))
            .order_by(D.c.last_at.desc(), D.c.seq.desc()).limit(limit)
        )  # fmt: skip
        rows = self._read(lambda connection: connection.execute(query).mappings().all())
        return [(row["type"], row_from(Delivery, row)) for row in rows]

    def replay(self, svix_id: str, upstreams: Sequence[str], *, now: int) -> Replayed:
        """Deliver a webhook to these once more, or for the first time, with all its attempts before it."""

        def write(connection: Connection) -> Replayed:
            next_change(connection, 0)
            stored = connection.execute(select(INBOX).where(INBOX.c.svix_id == svix_id)).mappings().one_or_none()
            if stored is None or stored["payload"] is None:
                return Replayed(found=stored is not None, has_payload=False, upstreams=())
            known = connection.execute(select(D.c.upstream).where(D.c.svix_id == svix_id)).scalars().all()
            # As `core.delivery.lane_of`.
            lane = stored["user_id"] or stored["object_id"] or svix_id
            for upstream in set(upstreams).difference(known):
                values = {"svix_id": svix_id, "upstream": upstream, "lane": lane, "state": DEAD, "attempts": 0,
                          "since": now, "claimed_until": 0}  # fmt: skip
                connection.execute(insert(D).values(values))
            chosen = select(D.c.seq).where(D.c.svix_id == svix_id, D.c.upstream.in_(upstreams))
            _again(connection, connection.execute(chosen).scalars().all(), now=now)
            return Replayed(found=True, has_payload=True, upstreams=tuple(upstreams))

        replayed: Replayed = self._write(write)
        return replayed

    def replay_dead(self, upstreams: Collection[str], *, now: int, after: int = 0) -> tuple[int, int]:
        """Deliver some of what died at these upstreams once more, those behind `after` (a delivery's `seq`).

        Give how many, and the last one's `seq`; 0 where there are no more. What has lost its payload stays dead.
        """

        def write(connection: Connection) -> tuple[int, int]:
            next_change(connection, 0)
            query = (
                select(D.c.seq).join(INBOX, INBOX.c.svix_id == D.c.svix_id)
                .where(is_in(D, DEAD), D.c.upstream.in_(sorted(upstreams)), INBOX.c.payload.is_not(None))
                .where(D.c.seq > after).order_by(D.c.seq).limit(AT_ONCE)
            )  # fmt: skip
            chosen = connection.execute(query).scalars().all()
            _again(connection, chosen, now=now)
            return len(chosen), chosen[-1] if chosen else 0

        again: tuple[int, int] = self._write(write)
        return again


def _again(connection: Connection, chosen: Sequence[int], *, now: int) -> None:
    """Make these wait from the start. One by one: each has to see whether one before it is the first of its lane."""
    if chosen:
        connection.execute(_AGAIN, [{"of": seq, "now": now} for seq in sorted(chosen)])


def _has_delivery(state: str) -> ColumnElement[bool]:
    return exists().where(D.c.svix_id == INBOX.c.svix_id, is_in(D, state))


def _is_of(kind: str) -> ColumnElement[bool]:
    if kind.endswith("*"):
        return (
            func.substr(INBOX.c.type, 1, len(kind) - 1) == kind[:-1]
        )  # SQLite's LIKE takes capitals for small letters
    return INBOX.c.type == kind


def _kept(connection: Connection, rows: Iterable[RowMapping]) -> list[Kept]:
    found = list(rows)
    deliveries = defaultdict(list)
    query = select(D).where(D.c.svix_id.in_([row["svix_id"] for row in found])).order_by(D.c.upstream)
    for each in connection.execute(query).mappings():
        deliveries[each["svix_id"]].append(row_from(Delivery, each))
    return [Kept(_stored(row), row["has_payload"], tuple(deliveries[row["svix_id"]])) for row in found]


def _stored(row: RowMapping) -> Stored:
    values: dict[str, Any] = {"payload": None} | dict(row)
    del values["has_payload"]
    return Stored(**values)
