"""The lives of the assertion's keys: which signs, which are published, which may go, and when the next is due.

A key is published a day before it signs, and stays until nothing it signed can live. So whoever has read the key set
within the last hour, from whichever machine, never meets a key it does not know. Clocks of machines may differ by up to
an hour. The first key is the exception, having nobody before it, and one that withdraws the others because they leaked.
"""

from collections.abc import Sequence
from typing import NamedTuple

from gateway.core.assertion import MAX_TTL_S

AHEAD_S = 24 * 3600.0  # CONTRACT §6
CACHED_S = 3600.0  # for so long a verifier may go by a set it has read
CLOCKS_S = 3600.0  # by which the clocks of two machines may differ
KEPT_S = MAX_TTL_S + CACHED_S + CLOCKS_S  # after the next one has begun to sign
MIN_ROTATION_S = AHEAD_S  # below it there would be several next keys at a time


class KeyLife(NamedTuple):
    """What is to be known of a key besides the key. Never changes once it is made; Unix seconds of its maker."""

    number: int  # from 1 on; those of later keys are higher
    made_at: float
    signs_from: float
    kid: str
    algorithm: str
    withdraws: bool = False  # all keys before it


def in_order(keys: Sequence[KeyLife]) -> list[KeyLife]:
    """Give the keys that are not withdrawn, in the order in which they sign."""
    ordered = sorted(keys)
    start = max((at for at, key in enumerate(ordered) if key.withdraws), default=0)
    return ordered[start:]


def signing_key(keys: Sequence[KeyLife], now: float) -> KeyLife | None:
    """Name the key that signs: the last whose time has come, or the first there is, where clocks went back."""
    alive = in_order(keys)
    begun = [key for key in alive if key.signs_from <= now]
    return begun[-1] if begun else next(iter(alive), None)


def published_keys(keys: Sequence[KeyLife], now: float) -> list[KeyLife]:
    """Name the keys that verifiers are told: those that sign, will sign, or have signed what may still live."""
    alive = in_order(keys)
    ends = [after.signs_from + KEPT_S for after in alive[1:]]
    return [key for key, end in zip(alive, [*ends, float("inf")], strict=False) if now < end]


def spent_keys(keys: Sequence[KeyLife], now: float) -> list[KeyLife]:
    """Name the keys of which nothing is needed any more, not even here: withdrawn ones too."""
    needed = published_keys(keys, now)
    return [key for key in keys if key not in needed]


def waiting_key(keys: Sequence[KeyLife], now: float) -> KeyLife | None:
    """Name the next key, if it is there already."""
    alive = in_order(keys)
    return alive[-1] if len(alive) > 1 and alive[-1].signs_from > now else None


def is_due(keys: Sequence[KeyLife], now: float, *, algorithm: str, rotate_after_s: float) -> bool:
    """Say whether the next key is to be made now: by age (0: never), or because another algorithm is asked for."""
    alive = in_order(keys)
    if not alive:
        return True
    newest = alive[-1]
    if newest.signs_from > now:
        return False  # one at a time, else machines that ask for different algorithms would take turns without end
    is_old = rotate_after_s > 0 and now >= newest.signs_from + rotate_after_s - AHEAD_S
    return is_old or newest.algorithm != algorithm


def next_life(
    keys: Sequence[KeyLife], now: float, *, kid: str, algorithm: str, number: int, at_once: bool = False
) -> KeyLife:
    """Say how the next key lives: a day ahead, the first one and (`at_once`) one that withdraws the others from now."""
    signs_from = now if at_once or not keys else now + AHEAD_S
    return KeyLife(number, now, signs_from, kid, algorithm, withdraws=at_once)
