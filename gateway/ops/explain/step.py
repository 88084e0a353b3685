"""One check as it is told, and how values are written in it."""

from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from gateway.errors import GatewayError

GOOD: Final = "good"
BAD: Final = "bad"
NOTE: Final = "note"  # nothing was judged


class Step(NamedTuple):
    """What was looked at, how it went, and what there was to see."""

    stage: str
    outcome: str
    text: str


def good(stage: str, text: str) -> Step:
    """Tell of a check that was passed."""
    return Step(stage, GOOD, text)


def bad(stage: str, text: str) -> Step:
    """Tell of a check that was not."""
    return Step(stage, BAD, text)


def note(stage: str, text: str) -> Step:
    """Tell of what decides nothing by itself."""
    return Step(stage, NOTE, text)


def refusal_of(check: Callable[[], object]) -> GatewayError | None:
    """Ask one of the gateway's own checks; give what it refuses with, if it does."""
    try:
        check()
    except GatewayError as refused:
        return refused
    return None


def judged(stage: str, refused: GatewayError | None, text: str) -> Step:
    """Tell how a check went; a refusal's reason and detail are said too."""
    if refused is None:
        return good(stage, text)
    why = f"{refused.reason or refused.code}: {refused.detail}" if refused.detail else refused.reason or refused.code
    return bad(stage, f"{text} ({why})")


def listed(values: Iterable[object], *, none: str = "none") -> str:
    """Write values one after the other."""
    return ", ".join(str(value) for value in values) or none
