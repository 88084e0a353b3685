"""What was measured, as a table, as JSON, and as the block in the README."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from textwrap import fill
from typing import Any

from tests.bench.measures import Sample
from tests.bench.proxies import PROXIES
from tests.bench.rows import ROWS, Row, Target

BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"
NOTHING, FAILED = "–", "failed"
WIDTH = 120
UNITS = {
    "µs": "µs of CPU per request, message, event or webhook",
    "MB/s": "MB per second of CPU",
    "MiB": "MiB of memory",
    "s": "s of CPU",
    "ms": "ms on the clock",
}


@dataclass
class Figures:
    """Every sample of a run, by row and proxy, and where it was made."""

    proxies: Sequence[str]
    rounds: int
    seconds: float
    machine: Mapping[str, str] = field(default_factory=dict)
    samples: dict[str, dict[str, list[Sample]]] = field(default_factory=dict)
    failures: dict[tuple[str, str], str] = field(default_factory=dict)  # why a row has no figure for a proxy
    notes: Sequence[str] = ()

    def best(self, row: str, proxy: str) -> float | None:
        """Give the best figure of all rounds."""
        samples = self.samples.get(row, {}).get(proxy)
        if not samples:
            return None
        values = [sample.value for sample in samples]
        return max(values) if ROWS[row].more_is_better else min(values)

    def rate(self, row: str, proxy: str) -> float | None:
        """Give the most that were answered in a second, in any round."""
        rates = [s.per_s for s in self.samples.get(row, {}).get(proxy, ()) if s.per_s is not None]
        return max(rates, default=None)

    def growth(self, row: str, proxy: str) -> float | None:
        """Give the largest growth of memory in any round."""
        grown = [s.growth_mib for s in self.samples.get(row, {}).get(proxy, ()) if s.growth_mib is not None]
        return max(grown, default=None)


@dataclass(frozen=True)
class Verdict:
    """A target beside what was measured; `value` is None where the run did not have what it compares with."""

    target: Target
    value: float | None

    @property
    def met(self) -> bool | None:
        """Whether the gateway keeps to it."""
        if self.value is None:
            return None
        if self.target.at_least:
            return self.value >= self.target.limit
        return self.value < self.target.limit if self.target.below else self.value <= self.target.limit

    @property
    def of(self) -> str:
        """What the value is of."""
        if self.target.growth or self.target.rate:
            return "MiB grown" if self.target.growth else "a second"
        return f"× {self.target.proxy or self.target.row}" if self.target.proxy or self.target.row else ""

    def __str__(self) -> str:
        sign = "≥" if self.target.at_least else "<" if self.target.below else "≤"
        value = NOTHING if self.value is None else _short(self.value)
        word = {True: "", False: ", missed", None: ""}[self.met]
        return " ".join(part for part in (value, self.of, f"({sign} {self.target.limit:g}{word})") if part)


def judge(figures: Figures, row: Row) -> list[Verdict]:
    """Hold the gateway's figures against the row's targets."""
    return [Verdict(target, _value(figures, row, target)) for target in row.targets]


def _value(figures: Figures, row: Row, target: Target) -> float | None:
    if target.growth:
        return figures.growth(row.name, "gateway")
    if target.rate:
        return figures.rate(row.name, "gateway")
    own = figures.best(row.name, "gateway")
    if not target.proxy and not target.row:
        return own
    other = figures.best(row.name, target.proxy) if target.proxy else figures.best(target.row, "gateway")
    return own / other if own is not None and other else None


def _short(value: float | None) -> str:
    if value is None:
        return NOTHING
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _cell(figures: Figures, row: str, proxy: str) -> str:
    return FAILED if (row, proxy) in figures.failures else _short(figures.best(row, proxy))


def _remarks(figures: Figures) -> list[str]:
    failed = (f"{ROWS[row].title}, {proxy}: failed, {why}" for (row, proxy), why in figures.failures.items())
    return [*failed, *figures.notes]


def _lines(figures: Figures) -> list[list[str]]:
    """Give the table's cells, the head first."""
    lines = [["", "", *(PROXIES[name].title for name in figures.proxies), "the gateway's target"]]
    for name in figures.samples:
        row = ROWS[name]
        cells = (_cell(figures, name, proxy) for proxy in figures.proxies)
        lines.append([row.title, row.unit, *cells, "; ".join(map(str, judge(figures, row)))])
    return lines


def table(figures: Figures) -> str:
    """Write the table for a terminal."""
    lines = _lines(figures)
    widths = [max(len(line[at]) for line in lines) for at in range(len(lines[0]))]
    last = len(widths) - 1
    text = [
        "  ".join(
            cell.ljust(width) if at in (0, 1, last) else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    units = "; ".join(f"{unit}: {meaning}" for unit, meaning in UNITS.items())
    return "\n".join([*text, "", units, _how(figures), *_remarks(figures), ""])


def _how(figures: Figures) -> str:
    of = f"the best of {figures.rounds} rounds, {figures.seconds:g} s each" if figures.rounds > 1 else "one round"
    where = "; ".join(f"{name} {value}" for name, value in figures.machine.items())
    return f"Each figure is {of}. {where}"


def markdown(figures: Figures) -> str:
    """Write the README's block, between its markers."""
    head, *rest = _lines(figures)
    rule = ["---", "---", *("--:" for _ in figures.proxies), "---"]
    lines = [" | ".join(line) for line in (head, rule, *rest)]
    units = "; ".join(f"{unit} = {meaning}" for unit, meaning in UNITS.items())
    below = [f"{units}. {_how(figures)}.", *(f"{remark}." for remark in _remarks(figures))]
    paragraphs = (f"\n{fill(text, WIDTH, break_long_words=False, break_on_hyphens=False)}" for text in below)
    return "\n".join([BEGIN, *(f"| {line} |" for line in lines), *paragraphs, END])


def replace_block(readme: str, block: str) -> str:
    """Put the block in place of the one between the markers.

    Raises:
        ValueError: there is not exactly one.
    """
    if readme.count(BEGIN) != 1 or readme.count(END) != 1:
        raise ValueError(f"the README does not have {BEGIN} and {END} once each")
    before, _, rest = readme.partition(BEGIN)
    return before + block + rest.partition(END)[2]


def as_json(figures: Figures) -> dict[str, Any]:
    """Give everything that was measured; figures are rounded to what they can say."""
    return {
        "machine": dict(figures.machine),
        "rounds": figures.rounds,
        "seconds": figures.seconds,
        "proxies": {name: PROXIES[name].title for name in figures.proxies},
        "rows": [_row_json(figures, ROWS[name]) for name in figures.samples],
        "failures": [{"row": row, "proxy": proxy, "why": why} for (row, proxy), why in figures.failures.items()],
        "notes": list(figures.notes),
    }


def _row_json(figures: Figures, row: Row) -> dict[str, Any]:
    cells = {
        proxy: _cell_json(row, samples) if (samples := figures.samples[row.name].get(proxy)) else None
        for proxy in figures.proxies
    }
    own = figures.best(row.name, "gateway")
    bests = {proxy: figures.best(row.name, proxy) for proxy in figures.proxies if proxy != "gateway"}
    return {
        "name": row.name,
        "title": row.title,
        "unit": UNITS[row.unit],
        "figures": cells,
        "gateway_ratio": {proxy: round(own / best, 3) for proxy, best in bests.items() if own is not None and best},
        "targets": [_verdict_json(verdict) for verdict in judge(figures, row)],
    }


def _cell_json(row: Row, samples: Sequence[Sample]) -> dict[str, Any]:
    values = [sample.value for sample in samples]
    cell: dict[str, Any] = {
        "best": max(values) if row.more_is_better else min(values),
        "median": median(values),
        "rounds": values,
    }
    for name in ("per_s", "growth_mib"):
        seen = [value for sample in samples if (value := getattr(sample, name)) is not None]
        if seen:
            cell[name] = max(seen)
    return {
        name: [round(v, 3) for v in value] if isinstance(value, list) else round(value, 3)
        for name, value in cell.items()
    }


def _verdict_json(verdict: Verdict) -> dict[str, Any]:
    target = verdict.target
    return {
        "of": "growth_mib" if target.growth else "per_s" if target.rate else "ratio" if verdict.of else "figure",
        "to": target.proxy or target.row or None,
        "at_least" if target.at_least else "below" if target.below else "at_most": target.limit,
        "value": None if verdict.value is None else round(verdict.value, 3),
        "met": verdict.met,
    }
