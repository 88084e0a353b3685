"""What is found: one `Diagnosis` for each thing looked at, with its remedy where it is not well.

Everything that is shown goes through `clean`: no secret, no whole token, one line, whatever somebody answered.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from gateway.core.redaction import without_secrets

Level = Literal["ok", "skipped", "warning", "error"]
MAX_TEXT: Final = 500  # characters of a sentence; what somebody else said in it is cut shorter by `quoted`
MAX_QUOTE: Final = 100


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """One thing that was looked at."""

    level: Level
    subject: str  # "keys", "upstream api"
    found: str
    remedy: str | None = None


def ok(subject: str, found: str) -> Diagnosis:
    """Say that something is as it should be."""
    return Diagnosis("ok", subject, found)


def skipped(subject: str, why: str) -> Diagnosis:
    """Say that something was not looked at."""
    return Diagnosis("skipped", subject, why)


def warning(subject: str, found: str, remedy: str) -> Diagnosis:
    """Say what works, but probably not as it is meant."""
    return Diagnosis("warning", subject, found, remedy)


def error(subject: str, found: str, remedy: str) -> Diagnosis:
    """Say what does not work."""
    return Diagnosis("error", subject, found, remedy)


def clean(text: str) -> str:
    """Keep a text on one line, printable, without a secret, and short."""
    visible = "".join(char if char.isprintable() else "?" for char in text)
    hidden = without_secrets(visible)
    return hidden if len(hidden) <= MAX_TEXT else hidden[:MAX_TEXT] + "…"


def quoted(value: object) -> str:
    """Quote what came from elsewhere, cut to what fits into a sentence."""
    text = value if isinstance(value, str) else repr(value)
    return f'"{text}"' if len(text) <= MAX_QUOTE else f'"{text[:MAX_QUOTE]}…"'


def listed(names: Iterable[str], most: int = 5) -> str:
    """List some names."""
    every = list(names)
    return ", ".join(every[:most]) + (f" and {len(every) - most} more" if len(every) > most else "")


def lasting(seconds: float) -> str:
    """Say how long that is, as people do."""
    rest = abs(seconds)
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if rest >= 2 * length:
            return f"{rest / length:.0f} {unit}"
    return f"{rest:.0f} s"
