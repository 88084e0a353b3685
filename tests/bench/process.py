"""Start a server on one core, wait until it answers, end it."""

import http.client
import os
import random
import resource
import shutil
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.bench import BenchError
from tests.bench.accounting import cpu_s

START_S = 20.0
STOP_S = 3.0
POLL_S = 0.005
PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"  # where Debian puts servers, and users do not look


def find_program(name: str) -> str | None:
    """Look for a program, also where only root has it in the path."""
    return shutil.which(name, path=PATH)


def free_port() -> int:
    """Find a port on loopback that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def kept_port() -> int:
    """Find a port that stays free while its server is away: below those that the kernel gives to clients.

    A client that is given it would keep the server from coming back; one that is trying to reach it, on loopback, would
    meet itself.
    """
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    for port in random.sample(range(max(1025, lowest - 16_000), lowest), 100):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise BenchError(f"no free port below {lowest}")


def ask(
    port: int, target: str, fields: Mapping[str, str] | None = None, *, body: bytes | None = None, within_s: float = 5.0
) -> tuple[int, bytes]:
    """GET something on a connection of its own, or POST a body; give status and body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=within_s)
    try:
        connection.request("GET" if body is None else "POST", target, body, headers=dict(fields or {}))
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def cpu_of(name: str, command: Sequence[str], *, core: int, log: Path, within_s: float) -> float:
    """Run a program on one core to its end; give the CPU time it took.

    Raises:
        BenchError: it failed, or did not come to an end.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with log.open("ab") as out, subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, cwd=Path(__file__).parents[2],
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
    ) as popen:  # fmt: skip
        try:
            code: int | str = popen.wait(within_s)
        except subprocess.TimeoutExpired:
            code = "nothing yet"
        finally:
            popen.kill()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if code != 0:
        raise BenchError(f"{name} ended with {code}{_last_lines(log)}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _last_lines(log: Path) -> str:
    said = log.read_text(errors="replace").strip().splitlines()[-8:]
    return "".join(f"\n    {line}" for line in said)


class Process:
    """A running server. Its stdout is `log`, to which it appends; what it complains about stands beside it.

    Waits until it answers, unless `waiting` is not wanted.
    """

    def __init__(
        self, name: str, command: Sequence[str], *, port: int, core: int, folder: Path, log: Path, waiting: bool = True
    ) -> None:
        self.name, self.port, self.log = name, port, log
        self._errors = folder / f"{log.name}.errors"
        with log.open("ab") as out, self._errors.open("ab") as errors:
            self._popen = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=errors, cwd=Path(__file__).parents[2],
                preexec_fn=lambda: os.sched_setaffinity(0, {core}),
            )  # fmt: skip
        self.pid = self._popen.pid
        try:
            self.ready_cpu_s = self._wait_ready() if waiting else 0.0
        except BaseException:
            self.stop()
            raise

    def _wait_ready(self) -> float:
        until = time.monotonic() + START_S
        while time.monotonic() < until:
            self.check_alive()
            try:
                status, _ = ask(self.port, "/readyz")
            except (OSError, http.client.HTTPException):
                status = 503
            if status != 503:
                return cpu_s(self.pid)
            time.sleep(POLL_S)
        raise BenchError(f"{self.name} does not answer after {START_S:g} s{_last_lines(self._errors)}")

    def check_alive(self) -> None:
        """Raise BenchError if it has ended."""
        if self._popen.poll() is not None:
            raise BenchError(f"{self.name} ended with {self._popen.returncode}{_last_lines(self._errors)}")

    def forget_log(self) -> None:
        """Empty the log; all who write one append to it."""
        os.truncate(self.log, 0)

    def kill(self) -> None:
        """End it with SIGKILL."""
        self._popen.kill()
        self._popen.wait()

    def stop(self, within_s: float = STOP_S) -> int:
        """End it, whatever it does; give its exit code."""
        self._popen.terminate()
        try:
            return self._popen.wait(within_s)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            return self._popen.wait()
