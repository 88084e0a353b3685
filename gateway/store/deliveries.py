"""Deliveries as they are worked off: added with their webhook, claimed, settled. Blocking, as `database`.

What concerns the same user at the same upstream is a lane. Only the first that waits in a lane has a time at which it
is due; when it is over, the next one gets one. So finding what is due costs the same however much waits behind.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    ColumnElement,
    Connection,
    Text,
    and_,
    bindparam,
    case,
    exists,
    func,
    insert,
    literal_column,
    null,
    or_,
    select,
    update,
)

from gateway.core.delivery import AWAY, DEAD, DONE, LONGEST_WAIT_MS, STATES, WAITING, lane_of
from gateway.store.base import CLAIMED_BYTES, Arrival, Claimed, Settled
from gateway.store.directory import Transaction, next_change
from gateway.store.tables import DELIVERIES, INBOX, USERS

LEASE_MS: Final = 60_000  # for all attempts of a claim: what a killed process had is taken up by another after this
EXPIRE_AT_ONCE: Final = 1000  # rows
REVIVE_AT_ONCE: Final = 1000
FEW_SHARE: Final = 10  # of a pause has to be over, one in so many, before it may be cut short
NOBODY: Final = "its upstream is not configured"

D: Final = DELIVERIES
OTHER: Final = DELIVERIES.alias("other")


def is_in(table: Any, state: str) -> ColumnElement[bool]:
    """Say of a row that it is in a state, in the words of the indexes: with a parameter in it none would be used."""
    assert state in STATES
    compared: ColumnElement[bool] = table.c.state == literal_column(f"'{state}'")
    return compared


def waiting(table: Any) -> ColumnElement[bool]:
    """Say of a row that it waits."""
    return is_in(table, WAITING)


def _lane_waits(upstream: Any, lane: Any) -> ColumnElement[bool]:
    return exists().where(OTHER.c.upstream == upstream, OTHER.c.lane == lane, waiting(OTHER))


# Made once: making one takes longer than SQLite takes to do what it says.
_ADD: Final = insert(D).values(
    svix_id=bindparam("of_webhook"), upstream=bindparam("to"), lane=bindparam("in_lane"), state=WAITING, attempts=0,
    since=bindparam("now"), claimed_until=0,
    due_at=case((_lane_waits(bindparam("to"), bindparam("in_lane")), null()), else_=bindparam("now")),
)  # fmt: skip
# Otherwise it was replayed since it was claimed: then that attempt is over, and all the others are before it.
_SAME: Final = D.c.since == bindparam("claimed_since", type_=BigInteger)
_SETTLE: Final = (
    update(D)
    .where(D.c.seq == bindparam("of"), waiting(D))
    # A failure counts for whose turn it was; that it was received counts whoever says so.
    .where(or_(D.c.claimed_until == bindparam("until"), and_(bindparam("is_done", type_=Boolean), _SAME)))
    .values(
        state=case((_SAME, bindparam("now_is", type_=Text)), else_=D.c.state),
        attempts=case((_SAME, bindparam("made", type_=BigInteger)), else_=D.c.attempts),
        due_at=case((_SAME, bindparam("due", type_=BigInteger)), else_=D.c.due_at), claimed_until=0,
        last_at=bindparam("at"), last_status=bindparam("status"), last_error=bindparam("error"),
    )
)  # fmt: skip
_GIVE_BACK: Final = (
    update(D).where(D.c.seq == bindparam("of"), D.c.claimed_until == bindparam("until")).values(claimed_until=0)
)
_NEXT: Final = (
    select(func.min(OTHER.c.seq))
    .where(OTHER.c.upstream == bindparam("to"), OTHER.c.lane == bindparam("in_lane"), waiting(OTHER))
    .scalar_subquery()
)
_PROMOTE: Final = (
    update(D)
    .where(
        D.c.seq == _NEXT,
        ~exists().where(
            OTHER.c.upstream == bindparam("to"), OTHER.c.lane == bindparam("in_lane"), waiting(OTHER),
            OTHER.c.due_at.is_not(None),
        ),
    )
    # Not later than now: it may have been stored while the clock was wrong.
    .values(due_at=case((D.c.since > bindparam("now"), bindparam("now")), else_=D.c.since))
)  # fmt: skip
_DUE: Final = and_(waiting(D), D.c.due_at <= bindparam("now"), D.c.claimed_until <= bindparam("now"))
_FIND: Final = (
    select(D.c.seq, func.coalesce(func.length(INBOX.c.payload), 0))
    .select_from(D.outerjoin(INBOX, INBOX.c.svix_id == D.c.svix_id))
    .where(D.c.upstream == bindparam("to"), _DUE)
    .order_by(D.c.due_at, D.c.seq)
    .limit(bindparam("most"))
)
_TAKE: Final = update(D).where(D.c.seq.in_(bindparam("these", expanding=True))).values(claimed_until=bindparam("until"))
_READ: Final = (
    select(
        D.c.seq,
        D.c.svix_id,
        func.coalesce(INBOX.c.type, ""),
        D.c.upstream,
        D.c.lane,
        D.c.attempts,
        D.c.since,
        D.c.claimed_until,
        INBOX.c.payload,
        and_(INBOX.c.payload.is_(None), exists().where(USERS.c.id == D.c.lane, USERS.c.deleted)),
    )
    .select_from(D.outerjoin(INBOX, INBOX.c.svix_id == D.c.svix_id))
    .where(D.c.seq.in_(bindparam("these", expanding=True)))
    .order_by(D.c.due_at, D.c.seq)
)
_IS_DUE: Final = select(exists().where(D.c.upstream.in_(bindparam("those", expanding=True)), _DUE))
_REVIVABLE: Final = (
    select(D.c.seq)
    .where(
        D.c.upstream == bindparam("to"), waiting(D), D.c.due_at > bindparam("now"), D.c.attempts > 0,
        or_(D.c.last_status.is_(None), D.c.last_status.in_(sorted(AWAY))),
        (bindparam("now", type_=BigInteger) - D.c.last_at) * FEW_SHARE >= D.c.due_at - D.c.last_at,
    )
    .order_by(D.c.due_at, D.c.seq)
    .limit(bindparam("most"))
)  # fmt: skip
_HAS_PAYLOAD: Final = select(exists().where(INBOX.c.svix_id == bindparam("of_webhook"), INBOX.c.payload.is_not(None)))
# What began, was attempted or was claimed later than now is of a time when the clock was wrong.
_SET_RIGHT: Final = (
    update(D)
    .where(
        waiting(D), D.c.due_at.is_not(None),
        or_(D.c.since > bindparam("far"), D.c.last_at > bindparam("far"), D.c.claimed_until > bindparam("far")),
    )
    .values(
        due_at=bindparam("now"),
        since=case((D.c.since > bindparam("now"), bindparam("now")), else_=D.c.since),
        claimed_until=case((D.c.claimed_until > bindparam("far"), 0), else_=D.c.claimed_until),
    )
)  # fmt: skip


def add(connection: Connection, arrivals: Iterable[Arrival]) -> None:
    """Add the deliveries of webhooks that are new, within the transaction that stores them, in this order."""
    values = [
        {"of_webhook": arrival.svix_id, "to": upstream, "in_lane": lane_of(arrival.event, arrival.svix_id),
         "now": arrival.received_at}
        for arrival in arrivals
        for upstream in arrival.upstreams
    ]  # fmt: skip
    if values:
        connection.execute(_ADD, values)


class DeliveryTables:
    """The deliveries; `read` and `write` are the database's transactions. Times in ms."""

    def __init__(self, read: Transaction, write: Transaction) -> None:
        self._read, self._write = read, write

    def turn(
        self,
        settled: Sequence[Settled],
        *,
        given_back: Sequence[Claimed] = (),
        room: Mapping[str, int],
        now: int,
    ) -> list[Claimed]:
        """Write down what became of attempts, and claim as many as each upstream has room for, all in one commit.

        What was `given_back` is due as before.
        """

        def write(connection: Connection) -> list[Claimed]:
            next_change(connection, 0)
            _settle(connection, settled, now=now)
            if given_back:
                connection.execute(_GIVE_BACK, [{"of": each.seq, "until": each.until} for each in given_back])
            return [
                each for upstream, most in room.items() for each in _claim(connection, upstream, most=most, now=now)
            ]

        found: list[Claimed] = self._write(write)
        return found

    def is_due(self, upstreams: Collection[str], *, now: int) -> bool:
        """Say whether anything could be claimed."""
        asked = {"those": sorted(upstreams), "now": now}
        return bool(self._read(lambda connection: connection.execute(_IS_DUE, asked).scalar_one()))

    def has_payload(self, svix_id: str) -> bool:
        """Say whether what was claimed may still be sent."""
        asked = {"of_webhook": svix_id}
        return bool(self._read(lambda connection: connection.execute(_HAS_PAYLOAD, asked).scalar_one()))

    def revive(self, upstream: str, *, now: int) -> bool:
        """Let some of what found nobody at an upstream be due at once; say whether there may be more."""

        def write(connection: Connection) -> bool:
            next_change(connection, 0)
            asked = {"to": upstream, "now": now, "most": REVIVE_AT_ONCE}
            chosen = connection.execute(_REVIVABLE, asked).scalars().all()
            connection.execute(update(D).where(D.c.seq.in_(chosen)).values(due_at=now))
            return len(chosen) == REVIVE_AT_ONCE

        return bool(self._write(write))

    def set_right(self, *, now: int) -> int:
        """Let be due at once what a clock that has since been put back has left for later; say how many."""

        def write(connection: Connection) -> int:
            next_change(connection, 0)
            # Another machine's clock may go a little before ours.
            return connection.execute(_SET_RIGHT, {"now": now, "far": now + 2 * LEASE_MS}).rowcount

        return int(self._write(write))

    def expire(self, served: Collection[str], *, now: int) -> int:
        """Give up some of what has been due for days at upstreams that are not among these; say how many."""

        def write(connection: Connection) -> int:
            next_change(connection, 0)
            before = now - LONGEST_WAIT_MS
            # With what has waited behind it as long: one by one, a long lane would take as many commits.
            in_lane = and_(D.c.upstream == OTHER.c.upstream, D.c.lane == OTHER.c.lane, waiting(D), D.c.since < before)
            overdue = and_(waiting(OTHER), OTHER.c.due_at < before, OTHER.c.upstream.not_in(sorted(served)))
            query = select(D.c.seq, D.c.upstream, D.c.lane).select_from(OTHER.join(D, in_lane)).where(overdue)
            rows = connection.execute(query.limit(EXPIRE_AT_ONCE)).all()
            given_up = {"state": DEAD, "due_at": None, "last_at": now, "last_status": None, "last_error": NOBODY}
            connection.execute(update(D).where(D.c.seq.in_([row.seq for row in rows])).values(given_up))
            _promote(connection, ((row.upstream, row.lane) for row in rows), now=now)
            return len(rows)

        return int(self._write(write))


def _settle(connection: Connection, settled: Sequence[Settled], *, now: int) -> None:
    if not settled:
        return
    values = [
        {"of": each.claimed.seq, "until": each.claimed.until, "claimed_since": each.claimed.since,
         "is_done": each.state == DONE, "now_is": each.state, "made": each.attempts, "due": each.due_at,
         "at": each.at, "status": each.status, "error": each.error}
        for each in settled
    ]  # fmt: skip
    connection.execute(_SETTLE, values)
    over = ((each.claimed.upstream, each.claimed.lane) for each in settled if each.state != WAITING)
    _promote(connection, over, now=now)


def _promote(connection: Connection, lanes: Iterable[tuple[str, str]], *, now: int) -> None:
    """Let the next one of these lanes be due, where none is."""
    values = [{"to": upstream, "in_lane": lane, "now": now} for upstream, lane in dict.fromkeys(lanes)]
    if values:
        connection.execute(_PROMOTE, values)


def _claim(connection: Connection, upstream: str, *, most: int, now: int) -> list[Claimed]:
    found = connection.execute(_FIND, {"to": upstream, "now": now, "most": most}).all()
    chosen: list[int] = []
    size = 0
    for seq, length in found:
        size += length
        if chosen and size > CLAIMED_BYTES:
            break
        chosen.append(seq)
    if not chosen:
        return []
    connection.execute(_TAKE, {"these": chosen, "until": now + LEASE_MS})
    return [Claimed(*row) for row in connection.execute(_READ, {"these": chosen})]
