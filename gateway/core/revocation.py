"""What ends before its tokens do: which events say so, whose tokens are refused from then on, and for how long.

Kept in memory by `web/revocations`, across restarts and processes by `store/revocations`.
"""

from dataclasses import dataclass
from typing import Final

from gateway.core.directory import Organization, R, Row, User
from gateway.core.events import MAX_MS, Event
from gateway.core.model import Principal

REASON: Final = "session-revoked"  # CONTRACT §8
DAY_MS: Final = 86_400_000
# Session tokens live a minute; the Backend API mints some that live longer, seldom for more than a day.
SESSION_LIFE_MS: Final = DAY_MS
# Tokens of JWT templates live as long as the application wants. Whoever is still deleted or banned after this time is
# refused by the directory (`is_barred`).
LIFE_MS: Final = 90 * DAY_MS
# What both clocks may be apart: what Clerk says of its own time is believed so far ahead of ours.
APART_MS: Final = 5_000
EVER: Final = MAX_MS  # as `before`: whenever the token was issued
SESSION_ENDS: Final = frozenset({"session.ended", "session.removed", "session.revoked"})


@dataclass(frozen=True, slots=True)
class Revocation:
    """Refuses the tokens that fit all that is given and were issued up to `before`; void from `until` on. Both in ms.

    Later tokens are good: Clerk mints none for a banned or deleted user, and none for an organisation that the user
    has left. To somebody who is locked out Clerk may; but then anybody who tries wrong passwords could lock anybody
    else out of every service behind the gateway. So a lock ends what was open, and what comes after it is Clerk's to
    judge.
    """

    user: str | None
    session: str | None
    org: str | None
    before: int
    until: int


def revocations_of(event: Event, row: Row | None, *, now_ms: int) -> tuple[Revocation, ...]:
    """Give what an event ends; `row` is the directory's row that it makes, `now_ms` when it came.

    The event's own time counts: one that comes late must not end what began after it.
    """
    if event.type in SESSION_ENDS:
        return () if event.object_id is None else (of_session(event.object_id, user=event.user_id, now_ms=now_ms),)
    if row is None or not _ends(row):
        return ()
    return _of_row(row, before=min(event.at or now_ms, now_ms + APART_MS), now_ms=now_ms)


def revocations_of_row(old: R | None, new: R, *, now_ms: int) -> tuple[Revocation, ...]:
    """Give what ended between two states of a row, the latter as Clerk's API had it at `now_ms`.

    Nothing ends for whom nobody knew: the directory has let none of those in, and who is banned is barred by it.
    """
    if old is None or new.version <= old.version or not _ends(new) - _ends(old):
        return ()
    # What is left of a membership need not say whose it was.
    return _of_row(new, before=now_ms, now_ms=now_ms) or _of_row(old, before=now_ms, now_ms=now_ms)


def of_session(session: str, *, user: str | None = None, now_ms: int) -> Revocation:
    """Refuse a session for good; with its `user`, where that is known, what it concerns is found sooner."""
    return Revocation(user, session, None, EVER, now_ms + SESSION_LIFE_MS)


def of_user(user: str, *, now_ms: int) -> Revocation:
    """Refuse whatever a user was given so far."""
    return Revocation(user, None, None, now_ms, now_ms + LIFE_MS)


def is_barred(user: User | None) -> bool:
    """Say whether the directory knows that a user is to be refused, whatever the token's age."""
    return user is not None and (user.deleted or user.banned)


def is_issued_by(before: int, principal: Principal) -> bool:
    """Say whether a principal's token was issued up to `before` (ms)."""
    # `iat` is in whole seconds, cut off: one of the same second is taken for an earlier one.
    return principal.issued_at * 1000 <= before


def fits(principal: Principal, *, user: str | None, session: str | None, org: str | None) -> bool:
    """Say whether a principal fits all that is given."""
    return (
        (user is None or user == principal.user_id)
        and (session is None or session == principal.session_id)
        and (org is None or org == principal.org_id)
    )


def _ends(row: Row) -> frozenset[str]:
    """Name what a row says that ends something."""
    ends = ("deleted", "banned", "locked") if isinstance(row, User) else ("deleted",)
    return frozenset(name for name in ends if getattr(row, name))


def _of_row(row: Row, *, before: int, now_ms: int) -> tuple[Revocation, ...]:
    user, org = _concerned(row)
    if user is None and org is None:
        return ()
    return (Revocation(user, None, org, before, now_ms + LIFE_MS),)


def _concerned(row: Row) -> tuple[str | None, str | None]:
    if isinstance(row, User):
        return row.id, None
    if isinstance(row, Organization):
        return None, row.id
    # One end alone would be all of an organisation, or of a user.
    return (row.user_id, row.org_id) if row.user_id and row.org_id else (None, None)
