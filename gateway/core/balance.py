"""Which endpoint of an upstream gets the next request, which is left alone for a while, and what may be tried again.

`Standing` is an endpoint's record. Who keeps it, sends and waits is `net/upstreams` and `net/exchange`.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

# Methods that may be repeated unasked: RFC 9110 §9.2.2; QUERY: RFC 10008.
IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE", "QUERY"})
SLOW_START_S = 10.0  # until an endpoint that is back has its full share again
SLOW_START_SHARE = 0.1  # with which it begins
LONGEST_OPEN = 6.0  # times `open_s`: failing probes double the pause up to here; an outage lasts so much longer at most
LONGEST_PROBE_S = 60.0  # a client that sends its body drop by drop must not keep an endpoint from all others
STEADY_S = 60.0  # well for so long, an endpoint's next pause is the first one again
WINDOW_S = 10.0  # over which retries are weighed against requests
LEAST_RETRIES_PER_S = 3.0
FIRST_PAUSE_S = 0.025  # before the same endpoint is tried again
LONGEST_PAUSE_S = 0.25


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """When an endpoint that keeps failing is left alone, and for how long."""

    failures: int = 5  # in a row; 0 = never
    open_s: float = 10.0


@dataclass(frozen=True, slots=True)
class HealthPolicy:
    """How endpoints are asked whether they are well; no path: they are not."""

    path: str | None = None
    interval_s: float = 5.0
    timeout_s: float = 2.0
    unhealthy_after: int = 3
    healthy_after: int = 1


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often one request may be tried again, and how many retries a hundred requests may cause."""

    attempts: int = 1  # beside the first
    budget_percent: int = 20


class Standing:
    """What is known of an endpoint: requests under way, failures in a row, whether and how it may be used.

    A breaker that is open closes by a single request, the probe, once `open_s` is over: its success gives the endpoint
    back, a failure doubles the pause. Where nobody listened, it is given back as soon as somebody does (`reached`).
    Times are seconds of one monotonic clock.
    """

    __slots__ = (
        "_opened", "_policy", "_streak", "back_at", "failures", "live", "open_until", "probe_until", "unreachable",
        "weight", "well",
    )  # fmt: skip

    def __init__(self, policy: BreakerPolicy, weight: int = 1) -> None:
        self._policy = policy
        self.weight = weight
        self.live = 0  # requests under way, open sockets and streams too
        self.failures = 0  # in a row
        self.open_until = 0.0  # 0: the breaker is closed
        self.unreachable = False  # nobody listened, when last somebody looked
        self.probe_until = 0.0  # until when the one request that a half-open breaker lets through keeps others out
        self.well = True  # as the health checks say
        self.back_at = float("-inf")  # when it was last given back
        self._opened = 0  # how many pauses in a row without a steady time between them
        self._streak = 0  # health checks in a row that contradict `well`

    def may_take(self, now: float) -> bool:
        """Say whether a request may go there."""
        return self.well and (not self.open_until or now >= max(self.open_until, self.probe_until))

    @property
    def is_up(self) -> bool:
        """Whether it is in use, as far as is known."""
        return self.well and not self.open_until

    def began(self, now: float) -> bool:
        """Note a request that goes there; say whether it is the probe of an open breaker."""
        self.live += 1
        if not self.open_until:
            return False
        self.probe_until = now + LONGEST_PROBE_S
        return True

    def ended(self, *, probe: bool) -> None:
        """Note that a request is over, whatever came of it; a probe that came to nothing makes room for the next."""
        self.live -= 1
        if probe:
            self.probe_until = 0.0

    def succeeded(self, now: float) -> bool:
        """Note an answer; say whether this gives the endpoint back. Only needed where `failures` is not 0."""
        self.failures = 0
        self.probe_until = 0.0  # what was the probe has told enough, and may go on for hours as a socket or stream
        was_open, self.open_until = bool(self.open_until), 0.0
        if was_open:
            self.back_at = now
        return was_open

    def failed(self, now: float, *, unreachable: bool = False) -> bool:
        """Note a request without an answer; say whether the endpoint is left alone from now on."""
        self.failures += 1
        if unreachable or not self.open_until:  # what a knock has found out stays true, whatever was under way
            self.unreachable = unreachable
        policy = self._policy
        if not policy.failures or self.failures < policy.failures or now < self.open_until:
            return False
        if now - self.back_at > STEADY_S and not self.open_until:
            self._opened = 0
        first, self.open_until = not self.open_until, now + policy.open_s * min(2.0**self._opened, LONGEST_OPEN)
        self._opened = min(self._opened + 1, 16)
        return first

    def reached(self, now: float) -> bool:
        """Note that somebody listens where nobody did; say whether this closes the breaker.

        One more failure opens it again.
        """
        if not self.open_until:
            return False
        self.open_until, self.back_at = 0.0, now
        self.failures = max(self._policy.failures - 1, 0)
        return True

    def checked(self, now: float, policy: HealthPolicy, *, good: bool) -> bool:
        """Note a health check's outcome; say whether it changed what is thought of the endpoint."""
        if good is self.well:
            self._streak = 0
            return False
        self._streak += 1
        if self._streak < (policy.healthy_after if good else policy.unhealthy_after):
            return False
        self.well, self._streak = good, 0
        if good:
            self.back_at = now
        return True

    def share(self, now: float) -> float:
        """Give its weight, less for a while after it came back: a cold endpoint takes a full load badly."""
        since = now - self.back_at
        return self.weight * (max(SLOW_START_SHARE, since / SLOW_START_S) if since < SLOW_START_S else 1.0)


class Candidate(Protocol):
    """Whatever has a standing."""

    @property
    def standing(self) -> Standing:
        """Its record."""


C = TypeVar("C", bound=Candidate)


def choose(candidates: Sequence[C], *, now: float, rng: Callable[[], float]) -> C | None:
    """Choose by the power of two choices: of two drawn by weight the first, unless it has more to do for its weight.

    None where nobody may be used. `rng` gives 0 to 1, exclusive.
    """
    able = [candidate for candidate in candidates if candidate.standing.weight and candidate.standing.may_take(now)]
    if len(able) < 2:
        return able[0] if able else None
    shares = [candidate.standing.share(now) for candidate in able]
    one = _drawn(shares, rng())
    share, shares[one] = shares[one], 0.0
    other = _drawn(shares, rng())  # never the same one: else of two endpoints a hung one would go on getting a quarter
    # Multiplied crosswise. More even with this request on the other one: weights count where there is little to do.
    busier = able[one].standing.live * shares[other] > (able[other].standing.live + 1) * share
    return able[other if busier else one]


def _drawn(shares: Sequence[float], chance: float) -> int:
    left = chance * sum(shares)
    for index, share in enumerate(shares):
        left -= share
        if left < 0:
            return index
    return len(shares) - 1


class Budget:
    """How many retries the requests of the last `WINDOW_S` allow, so that an outage is not answered with a flood.

    `requests` may be counted up by whoever sends one.
    """

    __slots__ = ("_began", "_percent", "_requests_before", "_retries", "_retries_before", "requests")

    def __init__(self, policy: RetryPolicy) -> None:
        self._percent = policy.budget_percent
        self._began = float("-inf")
        self.requests = self._retries = self._requests_before = self._retries_before = 0

    def turn(self, now: float) -> None:
        """Forget what is too old; to be called often enough, several times in a window."""
        if now - self._began < WINDOW_S / 2:
            return
        self._requests_before, self._retries_before = self.requests, self._retries
        self.requests = self._retries = 0
        self._began = now

    def spend(self) -> bool:
        """Take one retry, if there is one."""
        allowed = (self.requests + self._requests_before) * self._percent / 100
        if self._retries + self._retries_before >= max(allowed, LEAST_RETRIES_PER_S * WINDOW_S):
            return False
        self._retries += 1
        return True


def invites_retry(head: Iterable[bytes]) -> bool:
    """Say whether a 503 means "not now, but soon": it asks for no pause. `head` is of ready lines."""
    said = [line.partition(b":")[2].strip() for line in head if line[:14].lower() == b"\r\nretry-after:"]
    return all(value == b"0" for value in said)


def pause_s(made: int, chance: float) -> float:
    """Seconds before the same endpoint is tried again, `made` times already; `chance` is 0 to 1."""
    return min(FIRST_PAUSE_S * 2.0 ** (made - 1), LONGEST_PAUSE_S) * (0.5 + chance / 2)
