"""What is wrong with a configuration, where, and what to do about it.

Collects every problem before anything is refused. No finding repeats a value that may be a secret.
"""

import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeVar

from gateway.core.redaction import without_secrets
from gateway.errors import ConfigError

Path = tuple[str | int, ...]
Given = TypeVar("Given")
Read = TypeVar("Read")
Level = Literal["error", "warning", "insecure"]


class Unreadable(ConfigError):
    """There is no configuration to judge: no such file, or not YAML."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One problem; `line` counts from 1 and is None where the file as a whole is meant."""

    file: str
    line: int | None
    key: str  # "routes[2].require.role"
    message: str
    remedy: str | None
    level: Level = "error"

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        level = "" if self.level == "error" else f"{self.level}: "
        remedy = f"{'' if self.message.endswith('?') else '.'} {self.remedy}" if self.remedy else ""
        return ": ".join(part for part in (place, level + self.key, self.message) if part) + remedy


class Place(NamedTuple):
    """Where a value stands, and which variables it names and really came from."""

    line: int
    named: tuple[str, ...] = ()
    came_from: tuple[str, ...] = ()


class Report:
    """Gathers the findings of one configuration; knows where each of its values stands."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.places: dict[Path, Place] = {}
        self.findings: list[Finding] = []
        self._broken: set[Path] = set()

    def error(self, path: Path, message: str, remedy: str | None = None) -> None:
        """Note what stops the start."""
        self._broken.add(path)
        self._add("error", path, message, remedy)

    def warning(self, path: Path, message: str, remedy: str | None = None) -> None:
        """Note what is probably not meant."""
        self._add("warning", path, message, remedy)

    def insecure(self, path: Path, message: str, remedy: str | None = None) -> None:
        """Note what works but weakens a protection."""
        self._add("insecure", path, message, remedy)

    def _add(self, level: Level, path: Path, message: str, remedy: str | None) -> None:
        came_from = self.place(path).came_from if path in self.places else ()
        origin = f" (it came from {', '.join(came_from)})" if came_from and level == "error" else ""
        line = self.place(path).line or None
        clean = (_harmless(text) if text else None for text in (message + origin, remedy))
        message_, remedy_ = next(clean) or "", next(clean)
        finding = Finding(self.file, line, _harmless(dotted(path)), message_, remedy_, level)
        if finding not in self.findings:
            self.findings.append(finding)

    def place(self, path: Path) -> Place:
        """Find where a value stands or, where it is missing, what encloses it; line 0 for the file as a whole."""
        for end in range(len(path), -1, -1):
            if path[:end] in self.places:
                return self.places[path[:end]]
        return Place(0)

    def variables(self, path: Path) -> tuple[str, ...]:
        """Name the variables that the file lets set this value, set or not."""
        return self.places[path].named if path in self.places else ()

    def is_broken(self, *paths: Path) -> bool:
        """Say whether an error was found at or below one of the paths: what follows from it need not be said too."""
        return any(broken[: len(path)] == path for path in paths for broken in self._broken)

    def is_broken_itself(self, path: Path) -> bool:
        """Say whether the value as a whole was refused."""
        return path in self._broken

    def spoil(self, path: Path) -> None:
        """Mark a value as broken by what was said elsewhere: the key it was meant to have is misspelt."""
        self._broken.add(path)

    def tried(
        self, path: Path, read: Callable[[Given], Read], value: Given, *, remedy: str | None = None
    ) -> Read | None:
        """Read a value; a `ValueError` becomes an error that says what it says."""
        try:
            return read(value)
        except ValueError as wrong:
            self.error(path, str(wrong), remedy)
            return None

    def has_errors(self) -> bool:
        """Say whether something stops the start."""
        return bool(self._broken)

    def sorted(self) -> tuple[Finding, ...]:
        """Give the findings in the order of the file."""
        return tuple(sorted(self.findings, key=lambda finding: finding.line or 0))


def dotted(path: Path) -> str:
    """Write a path as people do: `routes[2].require.role`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


def closest(word: str, known: Iterable[str]) -> str | None:
    """Find the known word that a misspelt one most resembles."""
    return next(iter(difflib.get_close_matches(word[:100], list(known), n=1)), None)


def did_you_mean(word: str | None) -> str | None:
    """Suggest a word, if there is one."""
    return f'Did you mean "{word}"?' if word else None


def _harmless(text: str) -> str:
    """Keep a finding on one line, free of secrets, and printable whatever the file contained."""
    visible = "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
    return without_secrets(visible)
