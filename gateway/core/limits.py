"""How often somebody may call: rates, the arithmetic of their buckets (GCRA), and by what an address is counted.

A bucket holds `burst` calls and refills evenly; all its state is one number, the moment at which it is full again. Who
is counted where, and where the numbers are kept, is `web.rates`'s.
"""

import re
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import ip_address
from typing import Final, NamedTuple

SECOND: Final = 1_000_000_000  # nanoseconds, in which all times here are told
PERIODS: Final = {"s": 1, "min": 60, "h": 3600}
UNITS: Final = {seconds: unit for unit, seconds in PERIODS.items()}
RATE = re.compile(r"([1-9][0-9]{0,8})/(s|min|h)(?: burst ([1-9][0-9]{0,8}))?")
FULL: Final = 0  # the state of a bucket nobody has taken from

Who = str | bytes  # a verified id; an address as `counted_address` gives it


@dataclass(frozen=True, slots=True)
class Rate:
    """So many calls in so many seconds, and `burst` of them at once.

    Time is measured in ticks, of which a nanosecond has `count`: so the time of one call is a whole number, whatever
    the rate, and no rounding ever adds up to a call too many or too few.
    """

    count: int
    period_s: int
    burst: int
    interval: int = field(init=False, compare=False, repr=False)  # ticks in which one call comes back
    depth: int = field(init=False, compare=False, repr=False)  # ticks in which an empty bucket is full again

    def __post_init__(self) -> None:
        interval = self.period_s * SECOND
        object.__setattr__(self, "interval", interval)
        object.__setattr__(self, "depth", interval * self.burst)

    def __str__(self) -> str:
        return f"{self.count}/{UNITS[self.period_s]} burst {self.burst}"

    @classmethod
    def read(cls, text: str) -> "Rate":
        """Read `100/s` or `1000/min burst 200`; without a burst it is the count. Raises ValueError."""
        found = RATE.fullmatch(text)
        if found is None:
            raise ValueError('must be a rate, such as "100/s" or "1000/min burst 200"')
        count = int(found[1])
        # Whoever writes 1000/min lets 1000 calls of one minute through, however they are spread over it.
        return cls(count, PERIODS[found[2]], int(found[3] or count))


@dataclass(frozen=True, slots=True)
class RatePolicy:
    """How often each may call; None for any number.

    `by_caller` counts whoever can be named: the verified user or machine, else the client's address.
    """

    by_ip: Rate | None = None
    by_user: Rate | None = None
    by_org: Rate | None = None
    by_machine: Rate | None = None
    by_caller: Rate | None = None


class Told(NamedTuple):
    """What an answer says about a bucket."""

    limit: int  # calls it holds
    remaining: int  # calls that may still be made at once
    reset_s: int  # until it is full again, rounded up


def spend(rate: Rate, state: int, now: int, *, cost: int = 1) -> tuple[int, int]:
    """Take from a bucket: give its new state, and 0 or the nanoseconds to wait until as much can be taken.

    In no window more passes than `burst` and what comes back in it. `cost` is at most `burst`, else no wait is enough.
    """
    ticks = now * rate.count
    emptiest = ticks + rate.depth
    if state > emptiest:
        # Only a clock that went back makes a bucket owe more than it holds. It counts as empty: neither is anybody
        # locked out until the clock is where it was, nor does going back give anything.
        state = emptiest
    taken = (state if state > ticks else ticks) + cost * rate.interval
    if taken <= emptiest:
        return taken, 0
    return state, -((emptiest - taken) // rate.count)  # rounded up: waiting that long is enough


def tell(rate: Rate, state: int, now: int) -> Told:
    """Say what an answer tells about a bucket."""
    owed = max(0, min(state - now * rate.count, rate.depth))
    return Told(rate.burst, (rate.depth - owed) // rate.interval, -(-owed // (rate.count * SECOND)))


def retry_after_s(wait: int) -> int:
    """Give the whole seconds of a wait, rounded up; never 0, which would say "at once"."""
    return max(1, -(-wait // SECOND))


@lru_cache(maxsize=16_384)
def counted_address(client: str) -> bytes:
    """Give what a client's address is counted by: IPv4 whole, IPv6 by /64, of which any customer has one at least."""
    try:
        address = ip_address(client)
    except ValueError:
        return b"no address " + client[:64].encode("utf-8", "replace")  # a socket file has none
    mapped = getattr(address, "ipv4_mapped", None) or address
    return mapped.packed[:8]


def neighbourhood(who: Who) -> Who:
    """Give what is counted together where there is no room for each: IPv4 by /24, IPv6 by /32; an id stays itself.

    A flood of addresses comes out of few networks, most cheaply out of one IPv6 allocation (/32 or smaller).
    """
    if isinstance(who, str):
        return who
    return who[:4] if len(who) == 8 else who[:3]
