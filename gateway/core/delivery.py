"""Which upstream gets which event, how a delivery is signed, and what an answer to one means.

Who keeps deliveries is `store/deliveries`, who sends them `net/delivery`.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Final, NamedTuple

from gateway.core.events import Event
from gateway.core.model import Upstream

WAITING, DONE, DEAD, ERASED = "waiting", "done", "dead", "erased"  # a delivery's states; erased: its payload is gone
STATES: Final = (WAITING, DONE, DEAD, ERASED)
PATTERN: Final = re.compile(r"\*|[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*(?:\.\*)?")
# Seconds after the first, second, … attempt: as Svix has it up to 10 h, repeated for three days in all, so that a
# weekend's outage loses nothing.
PAUSES_S: Final = (5.0, 300.0, 1800.0, 7200.0, 18_000.0, *(36_000.0,) * 7)
ATTEMPTS: Final = len(PAUSES_S) + 1
SCHEDULE_S: Final = sum(PAUSES_S)
JITTER: Final = 0.1  # of a pause, either way: what failed together need not come back together
# For an upstream that nobody delivers to: the schedule's end with all jitter, and a little.
LONGEST_WAIT_MS: Final = 4 * 86_400_000
LONGEST_RETRY_AFTER_S: Final = 3600.0
GONE: Final = 410  # Standard Webhooks, "Responses": the consumer wants no more of it
SLOW_DOWN: Final = frozenset({429, 503})  # RFC 6585 §4, RFC 9110 §15.6.4: may say Retry-After
AWAY: Final = frozenset({502, 504})  # RFC 9110 §15.6.3, §15.6.5: who answered stands in for somebody who did not


@dataclass(frozen=True, slots=True)
class Subscription:
    """What an upstream wants to be told, where, and what it is signed with."""

    upstream: Upstream
    path: str  # its base path included
    events: tuple[str, ...]  # patterns
    key: bytes = field(repr=False)

    @property
    def name(self) -> str:
        """The upstream's name."""
        return self.upstream.name


class Answer(NamedTuple):
    """What came of an attempt."""

    status: int | None  # None: nothing that is an answer
    error: str | None = None  # why there is none
    retry_after: str | None = None


class Verdict(NamedTuple):
    """What becomes of a delivery after an attempt."""

    state: str
    pause_s: float = 0.0  # until the next attempt of one that waits


def is_wanted(patterns: Iterable[str], kind: str) -> bool:
    """Say whether an event's type is among these: exact, `user.*` for all that begins so, `*` for every one."""
    return any(_matches(pattern, kind) for pattern in patterns)


def _matches(pattern: str, kind: str) -> bool:
    return kind.startswith(pattern[:-1]) if pattern.endswith("*") else kind == pattern


def subscribers(subscriptions: Iterable[Subscription], kind: str) -> tuple[str, ...]:
    """Name the upstreams that want events of a type."""
    return tuple(each.name for each in subscriptions if is_wanted(each.events, kind))


def lane_of(event: Event, svix_id: str) -> str:
    """Name what an event has to keep its place behind: whatever came before about the same user, else object."""
    return event.user_id or event.object_id or svix_id


def sign(key: bytes, svix_id: str, body: bytes, *, now: float) -> tuple[tuple[str, str], ...]:
    """Give the header fields that prove an attempt at `now` (Unix seconds), in both of their spellings.

    Standard Webhooks 1.0.0, "Webhook signature": HMAC-SHA256 over id, seconds and body, joined by full stops.
    """
    seconds = str(int(now))
    digest = hmac.new(key, f"{svix_id}.{seconds}.".encode() + body, hashlib.sha256).digest()
    values = ("id", svix_id), ("timestamp", seconds), ("signature", f"v1,{base64.b64encode(digest).decode()}")
    return tuple((f"{spelling}-{name}", value) for spelling in ("svix", "webhook") for name, value in values)


def judge(answer: Answer, *, made: int, waited_s: float, now: float, rng: Callable[[], float]) -> Verdict:
    """Decide what becomes of a delivery after `made` attempts, `waited_s` since it was to be delivered.

    `rng` gives 0 to 1. What waited behind others for as long as they were tried is tried once: else each event of a
    user would take days more than the one before it, and the last would come after weeks.

    A redirect is a failure: where it leads has not been configured, and whoever answers there could be anybody.
    """
    if answer.status is not None and 200 <= answer.status < 300:
        return Verdict(DONE)
    if answer.status == GONE or made >= ATTEMPTS or waited_s >= SCHEDULE_S:
        return Verdict(DEAD)
    pause = PAUSES_S[made - 1] * (1 + JITTER * (2 * rng() - 1))
    # Never sooner than it would be: an upstream that always says 1 would have used up its attempts within seconds.
    return Verdict(WAITING, max(pause, _asked_pause_s(answer, now)))


def _asked_pause_s(answer: Answer, now: float) -> float:
    """Read Retry-After: seconds or a date (RFC 9110 §10.2.3), an hour at most."""
    text = (answer.retry_after or "").strip()
    if answer.status not in SLOW_DOWN or not text:
        return 0.0
    if text.isascii() and text.isdigit():
        return min(float(text[:9]), LONGEST_RETRY_AFTER_S)
    try:
        asked = parsedate_to_datetime(text).timestamp() - now
    except (ValueError, OverflowError, OSError):
        return 0.0
    return min(asked, LONGEST_RETRY_AFTER_S)


def is_away(status: int | None) -> bool:
    """Say whether an attempt met nobody, so that the next one met by anybody is news for all that wait."""
    return status is None or status in AWAY
