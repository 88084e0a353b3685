"""What deliveries know of one upstream: what is claimed for it, whether it is there, and when to look for it again."""

from collections import deque
from typing import Final, NamedTuple

from gateway.core.delivery import Answer, Subscription, is_away
from gateway.store.base import CLAIMED_BYTES, Claimed

HELD: Final = 64  # claimed for one upstream, so that one commit does for many
KNOCK_S: Final = 5.0
KNOCK_MOST_S: Final = 60.0
VAIN_MOST_S: Final = 3600.0


class Held(NamedTuple):
    """What is claimed, until when it may be begun, and until when without asking again; in Unix seconds."""

    claimed: Claimed
    before: float
    fresh_until: float


class Knocks:
    """When an upstream that nobody could be reached at is to be looked for, so that what waits need not wait for hours.

    Each time after twice the pause, at most `KNOCK_MOST_S`; where it took a connection and then answered nothing, at
    most `VAIN_MOST_S`, for each time makes attempts of what waits.
    """

    def __init__(self) -> None:
        self.is_open = False  # somebody took a connection, and no attempt has shown yet what that is worth
        self._at: float | None = None  # Unix seconds; None: not at all
        self._pause_s, self._most_s = KNOCK_S, KNOCK_MOST_S

    def begin(self, *, now: float) -> None:
        """Look for it from now on: an attempt met nobody."""
        if self.is_open:
            self.is_open, self._most_s = False, VAIN_MOST_S
        if self._at is None:
            self._at = now + self._pause_s

    def is_time(self, now: float) -> bool:
        """Say whether to look now, and if so when the next time is."""
        if self._at is None or now < self._at:
            return False
        self._pause_s = min(self._pause_s * 2, self._most_s)
        self._at = now + self._pause_s
        return True


class Outlet:
    """What is claimed for one upstream, and how that fares."""

    def __init__(self, subscription: Subscription) -> None:
        self.subscription = subscription
        self.queue: deque[Held] = deque()
        self.live = 0  # attempts under way
        self.was_away = True  # for all that is known at the start
        self.is_back = False  # and what waits for that has yet to be told
        self.knocks = Knocks()

    @property
    def room(self) -> int:
        """How many more may be claimed; none while much is held, for a claim may bring as much again."""
        size = sum(len(held.claimed.payload or b"") for held in self.queue)
        return HELD - len(self.queue) - self.live if size < CLAIMED_BYTES else 0

    def note(self, answer: Answer, *, now: float) -> None:
        """Keep whether somebody is there."""
        if is_away(answer.status):
            self.was_away, self.is_back = True, False
        elif self.was_away:
            self.was_away, self.is_back = False, True
        if answer.status is None:
            self.knocks.begin(now=now)
        else:
            self.knocks = Knocks()

    def found(self) -> None:
        """Take it that somebody takes connections again."""
        self.knocks.is_open = self.is_back = True
