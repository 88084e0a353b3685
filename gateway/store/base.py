"""What the store can do, without a word about how: the inbox of webhooks and the directory of users.

Everything here raises `StoreDown` where the store cannot be asked; nothing else.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

from gateway.core.directory import Membership, Organization, Row, User, row_of
from gateway.core.events import Event

CLAIMED_BYTES: Final = 4 * 1_048_576  # of payloads that are claimed at once, for one upstream


@dataclass(frozen=True, slots=True)
class Arrival:
    """A verified webhook as it came in."""

    svix_id: str  # the same for every retry of one message
    event: Event
    received_at: int  # ms
    upstreams: tuple[str, ...] = ()  # that it is to be delivered to
    row: Row | None = field(init=False, compare=False)  # what it says of the directory, made once

    def __post_init__(self) -> None:
        object.__setattr__(self, "row", row_of(self.event))


@dataclass(frozen=True, slots=True)
class Stored:
    """A webhook as the inbox has it."""

    seq: int  # grows from one to the next, in the order of commits
    svix_id: str
    type: str
    object_id: str | None
    user_id: str | None  # whose personal data it holds
    happened_at: int  # ms, as Clerk says; 0 where it does not
    received_at: int  # ms
    payload: bytes | None  # None once erased


@dataclass(frozen=True, slots=True)
class Delivery:
    """How it stands with one webhook and one upstream."""

    svix_id: str
    upstream: str
    state: str  # core.delivery
    attempts: int
    since: int  # ms: when it began to wait, last
    due_at: int | None  # ms; None: over, or waiting behind another one of its lane
    last_at: int | None  # ms: when it was attempted last or given up, and what came of that
    last_status: int | None
    last_error: str | None


@dataclass(frozen=True, slots=True)
class Kept:
    """A stored webhook as people look at it; in lists without its payload."""

    stored: Stored
    has_payload: bool
    deliveries: tuple[Delivery, ...]


@dataclass(frozen=True, slots=True)
class Replayed:
    """What came of sending a webhook again."""

    found: bool
    has_payload: bool
    upstreams: tuple[str, ...] = ()  # that it waits for now


@dataclass(frozen=True, slots=True)
class Claimed:
    """A delivery that is ours to attempt for a while."""

    seq: int
    svix_id: str
    type: str
    upstream: str
    lane: str
    attempts: int  # made so far
    since: int  # ms: when it began to wait; another one after each replay
    until: int  # ms
    payload: bytes | None  # None: erased,
    with_user: bool  # with the user it was about


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of an attempt."""

    claimed: Claimed
    state: str  # core.delivery
    at: int  # ms
    attempts: int
    due_at: int | None = None  # ms; of one that is attempted again
    status: int | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """A row of the directory as it is now, and where its last change stands among all changes."""

    number: int  # grows in the order of commits, over users, organisations and memberships together
    changed_at: int  # ms, when we learnt of it
    row: Row


class Position(NamedTuple):
    """How far webhooks have been gone through, the oldest first."""

    received_at: int  # ms
    seq: int


class Inbox(Protocol):
    """Where webhooks are kept."""

    async def put(self, arrival: Arrival) -> bool:
        """Store a webhook and what it says about the directory, durably; False where its id has come before."""

    async def get(self, svix_id: str) -> Stored | None:
        """Give a stored webhook."""


class Directory(Protocol):
    """The users, organisations and memberships that are known. What was deleted is known as deleted."""

    async def user(self, user_id: str) -> User | None:
        """Give a user."""

    async def users(
        self, *, email: str | None = None, external_id: str | None = None, after: str = "", limit: int = 100
    ) -> tuple[User, ...]:
        """Give living users by id, those behind `after`; only those with this e-mail address or external id, if any."""

    async def organization(self, org_id: str) -> Organization | None:
        """Give an organisation."""

    async def members(self, org_id: str, *, after: str = "", limit: int = 100) -> tuple[Membership, ...]:
        """Give an organisation's living memberships by id, those behind `after`."""

    async def last_change(self) -> int:
        """Give the number of the last change."""

    async def changes(self, *, since: int, limit: int = 500) -> tuple[Change, ...]:
        """Give what changed after change number `since`, in order: each row once, as it is now."""

    async def merge(self, rows: Sequence[Row], *, now: int) -> None:
        """Fold rows in, each where it is newer than what is known; `now` in ms."""
