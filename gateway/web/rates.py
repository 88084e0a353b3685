"""Who may call how often: which limits a request meets, and the buckets that count it, in this process's memory.

`MemoryBuckets` lives as long as the process, `Rates` as long as its configuration: a limit that a reload leaves as it
was keeps its buckets. Nothing is keyed by a token, only by addresses and by what a verified token says.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from operator import attrgetter
from typing import Final, NamedTuple, Protocol

from gateway.core.limits import (
    FULL,
    SECOND,
    Rate,
    RatePolicy,
    Who,
    counted_address,
    neighbourhood,
    retry_after_s,
    spend,
    tell,
)
from gateway.core.model import Header, Principal
from gateway.core.routing import Route
from gateway.errors import RateLimited

MOST: Final = 100_000  # buckets, some 20 MB; never twice as many
LONGEST_ID: Final = 64  # characters; Clerk's ids have about 32
SEEN_PER_SWEEP: Final = 2_000  # 0.2 ms
SEEN_PER_NEWCOMER: Final = 4  # more than one, so that room is found faster than it is asked for


def _machine(principal: Principal) -> Who | None:
    """Give what a machine is counted by: M2M tokens by machine, API keys each, OAuth tokens by whom they act for."""
    return (principal.machine_id or principal.key_id or principal.subject) if principal.is_machine else None


# By what of a principal each is counted; where it has none, it is not. The subject is the user's or machine's id.
NAMES: Final[dict[str, Callable[[Principal], Who | None]]] = {
    "by_user": attrgetter("user_id"),
    "by_org": attrgetter("org_id"),
    "by_machine": _machine,
    "by_caller": attrgetter("subject"),
}

Place = Who | int  # whose bucket; a number for one that a neighbourhood shares


@dataclass(frozen=True, slots=True)
class Limit:
    """A rate, and whom it counts. The same key means the same buckets, in this configuration and the next."""

    key: str
    rate: Rate
    reason: str  # what a client is told: "ip" | "user" | "org" | "machine" | "route"
    share: int  # buckets that there is room for, however many the others have


class Buckets(Protocol):
    """Where the buckets are kept: `MemoryBuckets`, or what several machines share."""

    def spend(self, limits: Sequence[Limit], whose: Sequence[Who | None]) -> None:
        """Take a call from whose bucket each limit says (None for nobody's), or from none. Raises RateLimited."""


class _Table:
    """The buckets of one limit; `shared` says how many of them are a neighbourhood's."""

    __slots__ = ("_count", "_round", "_slots", "shared", "states")

    def __init__(self, limit: Limit) -> None:
        self.states: dict[Place, int] = {}
        self.shared = 0
        self._count, self._slots = limit.rate.count, limit.share // 2 + 1
        self._round: list[Place] = []  # whose turn to be looked at is still to come

    def slot_of(self, who: Who) -> int:
        """Say which shared bucket is a newcomer's. By Python's seeded hash, so that nobody can aim at somebody."""
        return hash(neighbourhood(who)) % self._slots

    def forget_full(self, most: int, now: int) -> int:
        """Look at the next few buckets and drop the full ones, which are as good as none; say how many."""
        states, ticks = self.states, now * self._count
        if not self._round:
            self._round = list(reversed(states))  # taken from its end: the oldest first
        turn, self._round[-most:] = self._round[-most:], []
        full = [place for place in turn if states.get(place, ticks + 1) <= ticks]
        for place in full:
            del states[place]
            self.shared -= isinstance(place, int)
        return len(full)


class MemoryBuckets:
    """Buckets in this process's memory, of which there are never more than twice `most`.

    Once a flood of addresses has filled them with live ones, whoever has a bucket keeps it, and newcomers of one
    neighbourhood share one. So nobody ever gets more than was promised, and a flood locks out only newcomers from
    where it comes itself. Dropping live buckets would give those with many addresses a full one each time they come
    round; turning newcomers away would let one flood turn away everybody.
    """

    __slots__ = ("_clock", "_count", "_most", "_tables")

    def __init__(self, clock: Callable[[], float], *, most: int = MOST) -> None:
        self._clock = clock  # monotonic seconds
        self._tables: dict[str, _Table] = {}
        self._count, self._most = 0, most

    def __len__(self) -> int:
        return self._count

    def spend(self, limits: Sequence[Limit], whose: Sequence[Who | None]) -> None:
        """Take a call from each bucket, or from none. Raises RateLimited: the longest wait."""
        now = int(self._clock() * SECOND)
        if len(limits) == 1:  # as most are; half the price
            return None if (who := whose[0]) is None else self._spend_one(limits[0], who, now)
        taken: list[tuple[_Table, Place, int]] = []
        longest, refused = 0, None
        for limit, who in zip(limits, whose, strict=True):
            if who is None:
                continue
            table, place, before = self._find(limit, who, now)
            after, wait = spend(limit.rate, before, now)
            if not wait:
                taken.append((table, place, after))
                continue
            table.states[place] = after  # the same, unless the clock went back
            if wait > longest:
                longest, refused = wait, _refusal(limit, after, now, wait)
        if refused is not None:
            raise refused
        for table, place, after in taken:
            table.states[place] = after
        return None

    def _spend_one(self, limit: Limit, who: Who, now: int) -> None:
        table, place, before = self._find(limit, who, now)
        after, wait = spend(limit.rate, before, now)
        table.states[place] = after
        if wait:
            raise _refusal(limit, after, now, wait)

    def _find(self, limit: Limit, who: Who, now: int) -> tuple[_Table, Place, int]:
        table = self._tables.get(limit.key) or self._open(limit)
        state = table.states.get(who)
        return (table, who, state) if state is not None else (table, *self._newcomer(table, limit, who, now))

    def _open(self, limit: Limit) -> _Table:
        table = self._tables[limit.key] = _Table(limit)
        return table

    def _newcomer(self, table: _Table, limit: Limit, who: Who, now: int) -> tuple[Place, int]:
        """Give whoever has no bucket his own while there is room, else his neighbourhood's."""
        if len(who) > LONGEST_ID:
            who = _digest(who)
        if not self._has_room(table, limit):
            self._count -= table.forget_full(SEEN_PER_NEWCOMER, now)
        state = table.states.get(who)
        if state is not None:
            return who, state
        has_room = self._has_room(table, limit)
        if has_room and not table.shared:
            return self._put(table, who, FULL)
        slot = table.slot_of(who)
        state = table.states.get(slot, FULL)  # what was taken there is not given again with a bucket of one's own
        return self._put(table, who if has_room else slot, state)

    def _put(self, table: _Table, place: Place, state: int) -> tuple[Place, int]:
        if place not in table.states:
            self._count += 1
            table.shared += isinstance(place, int)
            table.states[place] = state
        return place, state

    def _has_room(self, table: _Table, limit: Limit) -> bool:
        return self._count < self._most or len(table.states) < limit.share

    def sweep(self) -> None:
        """Drop some of what nobody needs any more; called at each sweep of `net.deadlines`."""
        now = int(self._clock() * SECOND)
        for key, table in tuple(self._tables.items()):
            self._count -= table.forget_full(SEEN_PER_SWEEP, now)
            if not table.states:
                del self._tables[key]  # its limit may be gone; else it is opened again


def _refusal(limit: Limit, state: int, now: int, wait: int) -> RateLimited:
    told = tell(limit.rate, state, now)
    return RateLimited(
        limit.reason, limit=told.limit, remaining=told.remaining, reset_s=told.reset_s,
        retry_after_s=retry_after_s(wait),
    )  # fmt: skip


def _digest(who: Who) -> bytes:
    """Shorten an id, so that it takes no more room than foreseen; found so each time, since it is never kept whole."""
    return sha256(who if isinstance(who, bytes) else who.encode("utf-8", "surrogatepass")).digest()


class _Plan(NamedTuple):
    """The limits that the requests of a route meet."""

    address: tuple[Limit, ...]  # before verification
    principal: tuple[Limit, ...]  # after it; by what `names` read
    names: tuple[Callable[[Principal], Who | None], ...]
    unnamed: tuple[Limit, ...]  # after it, where nobody could be named; by address


class Rates:
    """The limits of one configuration: which of them a request meets, before and after it is known who sends it."""

    __slots__ = ("_buckets", "_plans")

    def __init__(self, general: RatePolicy, routes: Iterable[Route], buckets: Buckets) -> None:
        self._buckets = buckets
        named = {route.name: route.rates for route in routes}
        share = MOST // 2 // max(1, len(_limits(general)) + sum(len(_limits(policy)) for policy in named.values()))
        self._plans = {name: _plan(general, policy, name, share) for name, policy in named.items()}

    def spend_address(self, header: Header, route: Route) -> None:
        """Count a request by its client's address; before verification, which costs. Raises RateLimited."""
        if limits := self._plans[route.name].address:
            self._buckets.spend(limits, (_address(header),) * len(limits))

    def spend_principal(self, route: Route, principal: Principal) -> None:
        """Count a request by who was verified to send it. Raises RateLimited."""
        plan = self._plans[route.name]
        if plan.principal:
            self._buckets.spend(plan.principal, [name(principal) for name in plan.names])

    def spend_unnamed(self, header: Header, route: Route) -> None:
        """Count a request whose sender is anonymous or failed to prove himself. Raises RateLimited."""
        if limits := self._plans[route.name].unnamed:
            self._buckets.spend(limits, (_address(header),) * len(limits))


def rates_of(general: RatePolicy, routes: Sequence[Route], buckets: Buckets) -> Rates | None:
    """Give the limits of a configuration; None where it has none, so that they cost nothing."""
    if any(map(_limits, (general, *(route.rates for route in routes)))):
        return Rates(general, routes, buckets)
    return None


def _plan(general: RatePolicy, own: RatePolicy, route: str, share: int) -> _Plan:
    limits = [(name, Limit(f"{name} {rate}", rate, name.removeprefix("by_"), share)) for name, rate in _limits(general)]
    limits += [(name, Limit(f"{name} {rate} route {route}", rate, "route", share)) for name, rate in _limits(own)]
    principal = [(limit, NAMES[name]) for name, limit in limits if name != "by_ip"]
    return _Plan(
        address=tuple(limit for name, limit in limits if name == "by_ip"),
        principal=tuple(limit for limit, _ in principal),
        names=tuple(name for _, name in principal),
        unnamed=tuple(limit for name, limit in limits if name == "by_caller"),
    )


def _limits(policy: RatePolicy) -> list[tuple[str, Rate]]:
    rates = ((name, getattr(policy, name)) for name in ("by_ip", *NAMES))
    return [(name, rate) for name, rate in rates if rate is not None]


def _address(header: Header) -> bytes:
    assert header.forwarding is not None
    return counted_address(header.forwarding.client)
