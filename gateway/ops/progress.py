"""What `gateway sync` shows while it runs and says at the end; of people it names ids and fields, never values."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

from gateway.core.directory import Row
from gateway.core.reconcile import STAGES, Progress, Tally, differing

if TYPE_CHECKING:
    from gateway.net.sync import Page

WIDTH: Final = 30  # of the bar
LINE_S: Final = 5.0  # between two lines where there is no terminal,
BAR_S: Final = 0.1  # and between two bars where there is one
SHOWN: Final = 20  # differences


class Write(Protocol):
    """Where lines go (`click.echo`)."""

    def __call__(self, message: str, *, nl: bool = True) -> None:
        """Write a line, or what is no whole one."""


class Report:
    """Shows how far a run has come: a bar on a terminal, else a line now and then. `now` in seconds."""

    def __init__(self, write: Write, *, terminal: bool, dry_run: bool, now: Callable[[], float]) -> None:
        self.write, self._terminal, self._dry_run, self._now = write, terminal, dry_run, now
        self._users = 0
        self._began = self._told = now()
        self._before: int | None = None  # seen before this process took it up
        self._shown = 0
        self._open = ""  # the line that is not ended

    def expect(self, users: int) -> None:
        """Say how many users Clerk has."""
        self._users = users

    def page(self, page: "Page") -> None:
        """Take in what a page brought."""
        if self._before is None:
            self._before = page.progress.of("users").seen
        if self._dry_run:
            self._differences(page)
        if self._now() - self._told < (BAR_S if self._terminal else LINE_S):
            return
        self._told = self._now()
        self._show(page.progress)

    def end_line(self) -> None:
        """Begin a new line, unless one has just ended."""
        if self._open:
            self.write("")
            self._open = ""

    def _show(self, progress: Progress) -> None:
        if not self._terminal:
            if progress.stage is not None:  # else what it came to follows
                self.write(self._sentence(progress))
            return
        line = self._bar(progress)
        self.write("\r" + line.ljust(len(self._open)), nl=False)
        self._open = line

    def _sentence(self, progress: Progress) -> str:
        counts = [f"{progress.of('users').seen:,} of {self._users:,} users"]
        others = (stage for stage in STAGES[1:] if progress.of(stage).seen or stage == progress.stage)
        counts += [f"{progress.of(stage).seen:,} {stage}" for stage in others]
        return f"still at it: compared {', '.join(counts)} so far"

    def _plain(self, progress: Progress) -> str:
        stage = progress.stage or STAGES[-1]
        seen = progress.of(stage).seen
        return f"{stage}: {seen:,} of {self._users:,}" if stage == "users" else f"{stage}: {seen:,}"

    def _bar(self, progress: Progress) -> str:
        if progress.stage != "users" or not self._users:
            return self._plain(progress)
        seen = progress.of("users").seen
        share = min(1.0, seen / self._users)
        full = int(share * WIDTH)
        left = self._left_s(seen)
        return f"users [{'#' * full}{'.' * (WIDTH - full)}] {share:4.0%}  {seen:,} of {self._users:,}{left}"

    def _left_s(self, seen: int) -> str:
        done, took = seen - (self._before or 0), self._now() - self._began
        if done <= 0 or took <= 0:
            return ""
        left = int(max(0, self._users - seen) * took / done)
        return f"  {left // 60}:{left % 60:02d} left"

    def _differences(self, page: "Page") -> None:
        for old, new in page.changed:
            if self._shown == SHOWN:
                self.end_line()
                self.write("…")
            self._shown += 1
            if self._shown <= SHOWN:
                self.end_line()
                self.write(f"{new.id}: " + ("gone" if new.deleted else _found(old, new)))


def _found(old: Row | None, new: Row) -> str:
    return "missing" if old is None else "differs in " + ", ".join(differing(old, new))


def counted(progress: Progress, *, dry_run: bool) -> list[str]:
    """Say what a run came to."""
    lines = [f"{stage}: {_counts(progress.of(stage))}" for stage in STAGES if progress.of(stage) != Tally()]
    return [*lines, ("nothing was written; it would be: " if dry_run else "") + _counts(progress.total)]


def _counts(tally: Tally) -> str:
    parts = [f"added {tally.added:,}", f"mended {tally.mended:,}", f"gone {tally.gone:,}", f"same {tally.same:,}"]
    if tally.newer:
        parts.append(f"newer here {tally.newer:,}")
    if tally.erased:
        parts.append(f"deleted here but not at Clerk {tally.erased:,}")
    return ", ".join(parts)
