"""`gateway doctor`: the command. Reads the configuration and the evidence, asks, and writes what was found."""

import asyncio
import json
import shutil
import textwrap
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final, Protocol

from gateway.config import Config, Finding, load
from gateway.errors import ConfigError
from gateway.ops.doctor.asking import Asker
from gateway.ops.doctor.cookies import cookies
from gateway.ops.doctor.diagnosis import Diagnosis, clean, ok
from gateway.ops.doctor.evidence import Evidence
from gateway.ops.doctor.examine import examine
from gateway.ops.doctor.facts import Questions, gather
from gateway.ops.doctor.instances import Instance, instances_of
from gateway.ops.doctor.peeked import Peeked, peek

WELL: Final = 0
ILL: Final = 1
MARKS: Final = {"ok": "ok", "skipped": "-", "warning": "warn", "error": "ERROR"}
WIDTH: Final = 78  # of the line that says what is waited for
SUBJECT: Final = "configuration"
NARROW: Final = 30  # columns for text, below which breaking lines helps nobody


class Write(Protocol):
    """Where lines go (`click.echo`)."""

    def __call__(self, message: str, *, nl: bool = True) -> None:
        """Write a line, or what is no whole one."""


def doctor(
    path: str | None, environ: Mapping[str, str], evidence: Evidence, *, as_json: bool, terminal: bool, write: Write,
    clock: Callable[[], float] = time.time,
) -> int:  # fmt: skip
    """Examine what a configuration names, write what was found, and return the exit code: 1 where anything is wrong."""
    try:
        config = load(path, environ)
    except ConfigError as wrong:
        return _tell([_finding(each) for each in wrong.findings if isinstance(each, Finding)], write, as_json=as_json)
    progress = Progress(write if terminal and not as_json else None)
    found = [*_of_file(config), *_examined(config, evidence, progress, clock)]
    columns = shutil.get_terminal_size().columns if terminal else None
    return _tell(found, write, as_json=as_json, columns=columns)


def _of_file(config: Config) -> list[Diagnosis]:
    routes = f"{len(config.routes)} route{'s' if len(config.routes) != 1 else ''}"
    issuers = " and ".join(each.config.issuer for each in instances_of(config)) or "none"
    return [ok(SUBJECT, f"{config.source}: {routes}, issuer {issuers}"), *map(_finding, config.warnings)]


def _finding(finding: Finding) -> Diagnosis:
    """Take over what `gateway check` says."""
    place = finding.file if finding.line is None else f"{finding.file}:{finding.line}"
    found = ": ".join(part for part in (place, finding.key, finding.message) if part)
    return Diagnosis("error" if finding.level == "error" else "warning", SUBJECT, found, finding.remedy)


def _examined(config: Config, evidence: Evidence, progress: "Progress", clock: Callable[[], float]) -> list[Diagnosis]:
    instances = instances_of(config)

    async def ask() -> list[Diagnosis]:
        async with Asker(clock=clock) as asker:
            about = Questions(config, instances, _token(evidence, instances, clock()), asker, clock)
            facts = await gather(about, told=progress.told)
        return examine(config, instances, facts, evidence, now=clock())

    try:
        return asyncio.run(ask())
    finally:
        progress.end()


def _token(evidence: Evidence, instances: Sequence[Instance], now: float) -> Peeked | None:
    raw = evidence.token
    if raw is None and evidence.cookie is not None and instances:
        raw = cookies(evidence, instances, now=now).token
    return peek(raw) if raw is not None else None


class Progress:
    """Says on a terminal what is waited for, in a line that goes once nothing is."""

    def __init__(self, write: Write | None) -> None:
        self._write = write
        self._open: list[str] = []
        self._over = 0

    def told(self, label: str, is_over: bool) -> None:
        """Take it that a question has begun or is over."""
        if is_over:
            self._open.remove(label)
            self._over += 1
        else:
            self._open.append(label)
        if self._write is not None:
            waiting = ", ".join(dict.fromkeys(self._open))
            line = f"{self._over} answered, waiting for {waiting}" if waiting else f"{self._over} answered"
            self._write("\r" + clean(line)[:WIDTH].ljust(WIDTH), nl=False)

    def end(self) -> None:
        """Take the line away."""
        if self._write is not None:
            self._write("\r" + " " * WIDTH + "\r", nl=False)


# --- writing ----------------------------------------------------------------------------------------------------------


def _tell(found: Sequence[Diagnosis], write: Write, *, as_json: bool, columns: int | None = None) -> int:
    shown = [_cleaned(each) for each in found]
    if as_json:
        write(json.dumps([asdict(each) for each in shown]))
    else:
        for line in lines(shown, columns):
            write(line)
    return ILL if any(each.level == "error" for each in shown) else WELL


def _cleaned(each: Diagnosis) -> Diagnosis:
    return Diagnosis(each.level, clean(each.subject), clean(each.found), clean(each.remedy) if each.remedy else None)


def lines(found: Sequence[Diagnosis], columns: int | None = None) -> list[str]:
    """Write a line for each, its remedy beneath, and what it comes to; broken where a terminal has so many columns."""
    width = max((len(each.subject) for each in found), default=0)
    margin = " " * (width + 9)
    written: list[str] = []
    for each in found:
        written += _broken(f"{MARKS[each.level]:5}  {each.subject.ljust(width)}  {each.found}", margin, columns)
        if each.remedy:
            written += _broken(f"{margin}-> {each.remedy}", f"{margin}   ", columns)
    return [*written, _summary(found)]


def _broken(line: str, margin: str, columns: int | None) -> list[str]:
    if columns is None or len(line) <= columns or columns < len(margin) + NARROW:
        return [line]
    return textwrap.wrap(line, columns, subsequent_indent=margin, break_long_words=False, break_on_hyphens=False)


def _summary(found: Sequence[Diagnosis]) -> str:
    counts: dict[str, Any] = {level: sum(each.level == level for each in found) for level in ("error", "warning")}
    said = [f"{count} {level}{'s' if count != 1 else ''}" for level, count in counts.items() if count]
    return ", ".join(said) or "nothing is wrong"
