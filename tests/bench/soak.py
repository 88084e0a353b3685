"""Minutes of mixed load, bad clients and dying upstreams; memory and open files must not grow (`make soak`).

Two upstreams (`moody`) stand behind a real `gateway run` whose time limits are short enough to be reached all the time.
What `good` is asked for must be answered right but while it is down; `moody` may do what it likes. The gateway may
not: no 500, no fault of its own in the log, nothing on stderr, no client kept beyond its time.
"""

import argparse
import asyncio
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Coroutine, Sequence
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from statistics import mean, median
from typing import Any, NamedTuple

import uvloop
import yaml

from tests.bench import BenchError
from tests.bench.accounting import cores, raise_file_limit, rss_mib
from tests.bench.crowd import KEEPALIVE_S, Crowd
from tests.bench.loads import Request, load
from tests.bench.process import Process, ask, find_program, free_port
from tests.bench.props import DRAIN_S, LogReader, Mortal, settings
from tests.bench.rude import SMALL_BUFFER, misbehave
from tests.bench.stage import authorised
from tests.bench.tokens import LIFE_S, Tokens

EXIT_FAILED, EXIT_MISSING = 1, 2
TOKENS = 12_000  # more than the gateway remembers, so that they push each other out
BEHAVING, SUFFERING, MISBEHAVING, LEFT_OVER = 24, 12, 80, 25
GROWTH_MIB = 4.0  # between the middle third and the last one
WRK_S, GOOD_DOWN_S, CALM_S = 25.0, 2.0, 5.0
MOODY_LIFE_S, MOODY_DOWN_S, STOPPED_S = 15.0, 1.0, 5.0
SETTLE_S, REPORT_S = 20.0, 10.0
FILES = 8192
SHORTEST_S = 180


class Sample(NamedTuple):
    """What the gateway had at one moment, in seconds since the beginning."""

    at: float
    rss: float
    files: int


class Soak:
    """One run."""

    def __init__(self, seconds: float, folder: Path, until: ExitStack) -> None:
        self.seconds, self.folder = seconds, folder
        self.core, loader = cores()
        raise_file_limit(FILES)
        self.tokens = Tokens()
        self.many = self.tokens.many(TOKENS, "tokens")
        os.sched_setaffinity(0, {loader})
        self.good, self.moody = (Mortal(name, folder, loader) for name in ("good", "moody"))
        for upstream in (self.good, self.moody):
            until.callback(lambda upstream: upstream.process.stop(), upstream)
        port, config, pipe = free_port(), folder / "gateway.yaml", folder / "gateway.log"
        config.write_text(
            yaml.safe_dump(settings(port, self.good.port, self.moody.port, self.tokens, folder / "gateway.db"))
        )
        self.log = LogReader(pipe)
        command = [sys.executable, "-m", "gateway", "run", "-c", str(config)]
        self.gateway = Process("the gateway", command, port=port, core=self.core, folder=folder, log=pipe)
        until.callback(self.gateway.stop)
        self.crowd = Crowd(port, self.tokens, self.many, lambda: self.good.down_until)
        self.samples: list[Sample] = []
        self.sent_by_wrk = 0
        self.faults: list[str] = []

    def sample(self, at: float) -> Sample:
        """Look at the gateway."""
        pid = self.gateway.pid
        return Sample(at, rss_mib(pid), len(os.listdir(f"/proc/{pid}/fd")))

    async def run(self) -> None:
        """Warm up, load, let go, stop."""
        await self._good_answer("at the beginning")
        await asyncio.sleep(KEEPALIVE_S + 1)
        self.idle = self.sample(0)
        await self._under_load()
        await self._settle()
        await self._good_answer("at the end")
        code = await asyncio.to_thread(self.gateway.stop, DRAIN_S + 3)
        if code:
            self.faults.append(f"TERM ended the gateway with {code}")
        await asyncio.to_thread(self.log.thread.join, 3)
        self._judge()

    async def _under_load(self) -> None:
        crowd, began = self.crowd, time.monotonic()
        loads: list[Coroutine[Any, Any, None]] = [self._wrk_and_deaths(began), self._moody_life()]
        loads += [crowd.behave() for _ in range(BEHAVING)] + [crowd.suffer() for _ in range(SUFFERING)]
        loads += [misbehave(crowd) for _ in range(MISBEHAVING)]
        tasks = [asyncio.create_task(load) for load in loads]
        shown = 0.0
        while (at := time.monotonic() - began) < self.seconds:
            self.gateway.check_alive()
            self.samples.append(self.sample(at))
            if at - shown >= REPORT_S:
                shown = at
                self._tell()
            await asyncio.sleep(1)
            for task in tasks:
                if task.done():
                    task.result()  # none of them ends by itself
                    raise BenchError("a load ended")
        self.moody.signal(signal.SIGCONT)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _wrk_and_deaths(self, began: float) -> None:
        """Saturate the gateway for a while, then take the good upstream away; again and again."""
        token_file = self.folder / "tokens"
        token_file.write_text("\n".join(self.many) + "\n")
        fields = authorised(self.tokens.good)
        requests = (
            Request(fields, target="/good/get/wrk", tokens=token_file),
            Request(fields, target="/good/get/wrk"),
            Request(fields, target="/good/post/wrk", method="POST", body_bytes=4096),
        )
        port = self.gateway.port
        while True:
            for request in requests:
                left = self.seconds - (time.monotonic() - began)
                if left < WRK_S + 2:  # it ends before the loads do
                    await asyncio.sleep(self.seconds)
                try:
                    sent = await asyncio.to_thread(load, request, port, seconds=WRK_S, folder=self.folder)
                    self.sent_by_wrk += sent.requests
                    if sent.refused:
                        self.crowd.fault(f"wrk, {request.target}: {sent.refused} of {sent.requests} answers not good")
                except BenchError as error:
                    self.crowd.fault(f"wrk, {request.target}: {error}")
                await self.good.die(GOOD_DOWN_S)
                await asyncio.sleep(CALM_S)

    async def _moody_life(self) -> None:
        while True:
            await asyncio.sleep(MOODY_LIFE_S)
            await self.moody.die(MOODY_DOWN_S)
            await asyncio.sleep(MOODY_LIFE_S)
            self.moody.signal(signal.SIGSTOP)  # it still takes connections, as far as the kernel does
            await asyncio.sleep(STOPPED_S)
            self.moody.signal(signal.SIGCONT)

    async def _settle(self) -> None:
        """Wait until the gateway has let go of clients that would stay for ever."""
        crowd = self.crowd
        head = crowd.good_head()
        leftovers = (
            b"", head, head + b"\r\n\r\n", crowd.good_head(method="POST", Content_Length="100") + b"\r\n\r\nhalf",
            (crowd.good_head("/good/big/x") + b"\r\n\r\n") * 4,
        )  # fmt: skip
        async with AsyncExitStack() as until:
            for sent in leftovers * LEFT_OVER:
                _, writer = await until.enter_async_context(crowd.connected(receive_bytes=SMALL_BUFFER))
                writer.write(sent)
                if sent == leftovers[-1]:
                    writer.transport.pause_reading()
            await asyncio.sleep(0.2)
            self.with_leftovers = self.sample(0)
            end = time.monotonic() + SETTLE_S
            while (last := self.sample(0)).files > self.idle.files and time.monotonic() < end:
                await asyncio.sleep(0.5)
        self.settled, self.settled_s = last, SETTLE_S - (end - time.monotonic())
        if last.files > self.idle.files:
            self.faults.append(f"{last.files} open files {SETTLE_S:g} s after the load, {self.idle.files} before it")

    async def _good_answer(self, when: str) -> None:
        fields = authorised(self.tokens.good)
        status, body = await asyncio.to_thread(ask, self.gateway.port, "/good/get/last", fields)
        if status != 200:
            self.faults.append(f"{when} a good request was answered {status} {body[:200]!r}")

    # --- what is said of it ------------------------------------------------------------------------------------------

    def third(self, number: int) -> list[Sample]:
        """Give the samples of the first, second or last third."""
        length = self.seconds / 3
        return [each for each in self.samples if number * length <= each.at < (number + 1) * length]

    def _judge(self) -> None:
        middle, last = (median(each.rss for each in self.third(number)) for number in (1, 2))
        if last - middle > GROWTH_MIB:
            self.faults.append(f"memory grew from {middle:.1f} to {last:.1f} MiB")
        if self.log.alarms:
            self.faults.append(f"{self.log.alarms} lines in the log that should not be there")
            self.faults += [line.decode(errors="replace").strip()[:2000] for line in self.log.alarming]
        said = (self.folder / "gateway.log.errors").read_text(errors="replace").strip()
        if said:
            self.faults.append(f"on stderr: {said[-3000:]}")
        if self.crowd.fault_count:
            self.faults.append(f"{self.crowd.fault_count} clients were not answered as they should be:")
            self.faults += self.crowd.faults

    def _tell(self) -> None:
        now, log = self.samples[-1], self.log
        events = ", ".join(f"{name} {count}" for name, count in sorted(log.events.items()))
        text = (
            f"{now.at:4.0f} s  {log.statuses.total():9,} requests  {now.rss:6.1f} MiB  {now.files:4} files  "
            f"{self.crowd.fault_count} faults  {self.crowd.excused} excused  {log.alarms} alarms  {events}"
        )
        print(text, file=sys.stderr, flush=True)

    def table(self) -> str:
        """Write the summary."""
        log, crowd = self.log, self.crowd
        rows = [
            (f"{log.statuses.total():,} requests in the log", _listed(log.statuses)),
            ("answers to good clients, and by moody", _listed(crowd.answers)),
            ("bad clients", _listed(crowd.bad)),
            ("events", _listed(log.events)),
        ]
        rows.append(("sent by wrk", f"{self.sent_by_wrk:,}"))
        rows.append(("excused while the upstream was down", f"{crowd.excused} (it died {self.good.deaths} times)"))
        for name, number in (("first", 0), ("middle", 1), ("last", 2)):
            rss, files = [each.rss for each in self.third(number)], [each.files for each in self.third(number)]
            told = f"{median(rss):.1f} MiB ({min(rss):.1f}–{max(rss):.1f}), at its end {rss[-1]:.1f}; {mean(files):.0f} files"
            rows.append((f"memory in the {name} third", told))
        rows.append(("before, after", f"{self.idle.rss:.1f} MiB, {self.settled.rss:.1f} MiB"))
        most = f"{self.idle.files} before, {max(each.files for each in self.samples)} at most, {self.settled.files} "
        rows.append(("open files", f"{most}{self.settled_s:.1f} s after {self.with_leftovers.files} were left over"))
        return "\n".join(f"{name:44} {told}" for name, told in rows)


def _listed(counts: Counter[Any]) -> str:
    return ", ".join(f"{name} {counts[name]:,}" for name in sorted(counts, key=str)) or "none"


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.soak", description="Minutes of every load there is.")
    parser.add_argument("--seconds", type=float, default=600.0, help="how long (default: 600)")
    chosen = parser.parse_args(given)
    if not SHORTEST_S <= chosen.seconds <= LIFE_S - 300:
        parser.error(
            f"--seconds: from {SHORTEST_S}, below which the warm-up shows, to {LIFE_S - 300}, as long as tokens live"
        )
    return chosen


def main() -> int:
    """Run and report; give the exit code."""
    chosen = arguments()
    if sys.platform != "linux" or find_program("wrk") is None:
        print("soak: runs on Linux, with wrk (apt-get install --no-install-recommends wrk)", file=sys.stderr)
        return EXIT_MISSING
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # whoever is stopped stops what was started
    shared = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    try:
        with ExitStack() as until:
            folder = Path(until.enter_context(tempfile.TemporaryDirectory(prefix="soak-", dir=shared)))
            soak = Soak(chosen.seconds, folder, until)
            uvloop.run(soak.run())
    except (BenchError, OSError) as error:
        print(f"soak: {error}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        return EXIT_FAILED
    print(soak.table())
    print("\n".join(["failed:", *soak.faults]) if soak.faults else "passed")
    return EXIT_FAILED if soak.faults else 0


if __name__ == "__main__":
    sys.exit(main())
