"""What clients notice when endpoints die, the configuration changes, the gateway restarts or everybody comes at once.

`make resilience`: every promise, kept or broken. The scenes are in `scenes`; they say what was seen, not what it costs.
"""

import argparse
import os
import signal
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from textwrap import fill
from typing import NamedTuple

import uvloop

from tests.bench import BenchError
from tests.bench.accounting import cores, raise_file_limit
from tests.bench.ground import Ground, Outcome
from tests.bench.killed import webhooks
from tests.bench.process import find_program
from tests.bench.scenes import SPARE_FILES, crowd, failover_get, failover_post, reloads, restarts
from tests.bench.stores import Stores
from tests.bench.tokens import Tokens
from tests.fakes.postgres import binaries

EXIT_BROKEN, EXIT_MISSING = 1, 2
WIDTH, INDENT = 120, 26
Play = Callable[[Ground, argparse.Namespace], Awaitable[Outcome]]


class Promise(NamedTuple):
    """What is promised, and how it is put to the test."""

    text: str
    play: Play
    rehearsed: bool = False  # can be tried with nginx in the gateway's place


PROMISES = {
    "failover-get": Promise(
        "an endpoint dies and comes back: no GET fails",
        lambda ground, chosen: failover_get(ground, chosen.kills), rehearsed=True,
    ),
    "failover-post": Promise(
        "an endpoint dies and comes back: only POSTs in flight on it fail, and none is sent twice",
        lambda ground, chosen: failover_post(ground, chosen.kills), rehearsed=True,
    ),
    "reload": Promise(
        "reload: no request fails, no connection, stream or socket ends",
        lambda ground, chosen: reloads(ground, chosen.reloads),
    ),
    "restart": Promise(
        "drained restart: no request that was sent fails",
        lambda ground, chosen: restarts(ground, chosen.restarts),
    ),
    "crowd": Promise(
        "idle and busy connections at once: none refused, all answered",
        lambda ground, chosen: crowd(ground, chosen.idle, chosen.busy),
    ),
    "webhooks": Promise(
        "the gateway is killed while webhooks come: none that it acknowledged is lost (SQLite)",
        lambda ground, chosen: webhooks(ground, ground.stores.sqlite("webhooks"), chosen.crashes),
    ),
    "webhooks-pg": Promise(
        "the gateway is killed while webhooks come: none that it acknowledged is lost (PostgreSQL)",
        lambda ground, chosen: webhooks(ground, ground.stores.postgresql(), chosen.crashes),
    ),
}  # fmt: skip


def _scene(name: str) -> str:
    if name not in PROMISES:
        raise argparse.ArgumentTypeError(f"no scene {name}: there are {', '.join(PROMISES)}")
    return name


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.resilience", description="Promises, put to the test.")
    parser.add_argument("scenes", nargs="*", type=_scene, metavar="SCENE", help=f"{', '.join(PROMISES)} (default: all)")
    for name, count, what in (
        ("kills", 8, "of an endpoint, per scene"), ("reloads", 100, "of the configuration"),
        ("restarts", 10, "of the gateway"), ("crashes", 50, "of the gateway, per scene"), ("idle", 10_000, "connections"), ("busy", 1_000, "connections"),
    ):  # fmt: skip
        parser.add_argument(f"--{name}", type=int, default=count, metavar="N", help=f"{what} (default: {count:,})")
    parser.add_argument(
        "--rehearse", action="store_true", help="nginx in the gateway's place, where it can stand there"
    )
    chosen = parser.parse_args(given)
    if min(chosen.kills, chosen.reloads, chosen.restarts, chosen.crashes, chosen.idle, chosen.busy) < 1:
        parser.error("every number must be at least 1")
    able = [name for name, promise in PROMISES.items() if promise.rehearsed or not chosen.rehearse]
    chosen.scenes = [name for name in able if name in (chosen.scenes or able)]
    if not chosen.scenes:
        parser.error("nginx cannot stand in for the gateway there")
    return chosen


def play(chosen: argparse.Namespace) -> dict[str, Outcome]:
    """Play the chosen scenes one after the other."""
    core, loader = cores()
    files = raise_file_limit(chosen.idle + 2 * chosen.busy + SPARE_FILES)
    shared = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    tokens, outcomes = Tokens(), {}
    os.sched_setaffinity(0, {loader})
    for name in chosen.scenes:
        with ExitStack() as until:
            folder = Path(until.enter_context(tempfile.TemporaryDirectory(prefix="resilience-", dir=shared)))
            ground = Ground(folder, core, loader, tokens, files, until, Stores(until), rehearse=chosen.rehearse)
            try:
                outcomes[name] = uvloop.run(_played(ground, chosen, name))
            except (BenchError, OSError) as error:
                outcomes[name] = Outcome("not played to its end", [str(error) or type(error).__name__])
        print(report(name, outcomes[name]), flush=True)
    return outcomes


async def _played(ground: Ground, chosen: argparse.Namespace, name: str) -> Outcome:
    return await PROMISES[name].play(ground, chosen)


def report(name: str, outcome: Outcome) -> str:
    """Write what a promise was worth."""
    verdict, indent = "broken" if outcome.faults else "kept", " " * INDENT
    first = f"{name:16}{verdict:{INDENT - 16}}{PROMISES[name].text}"
    lines = [outcome.seen, *(f"! {fault}" for fault in outcome.faults)]
    return "\n".join([first, *(fill(line, WIDTH, initial_indent=indent, subsequent_indent=indent) for line in lines)])


def main() -> int:
    """Play and report; give the exit code."""
    chosen = arguments()
    if sys.platform != "linux" or (chosen.rehearse and find_program("nginx") is None):
        print("resilience: runs on Linux; --rehearse needs nginx (apt-get install nginx-light)", file=sys.stderr)
        return EXIT_MISSING
    if "webhooks-pg" in chosen.scenes and binaries() is None:
        print("resilience: webhooks-pg needs PostgreSQL (apt-get install postgresql), or name others", file=sys.stderr)
        return EXIT_MISSING
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # whoever is stopped stops what was started
    try:
        outcomes = play(chosen)
    except KeyboardInterrupt:
        return EXIT_BROKEN
    return EXIT_BROKEN if any(outcome.faults for outcome in outcomes.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
