"""A run: every proxy in front of the one upstream, and the checks behind each figure.

A row whose answers are not what they should be has no figure: a BenchError says why.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.bench import BenchError
from tests.bench.loads import CONNECTIONS, Answered, Request, load
from tests.bench.process import Process, ask
from tests.bench.proxies import PROXIES, Proxy, Surroundings
from tests.bench.stores import Stores
from tests.bench.tokens import APP, Tokens, claims_of
from tests.bench.upstream import ANSWER

LOG_SETTLES_S = 1.3  # all who write in batches do so once a second


def authorised(token: str) -> dict[str, str]:
    """Give the header fields every request has that shows a token."""
    return {"Authorization": f"Bearer {token}", "Origin": APP}


@dataclass
class Stage:
    """Everything that runs while rows are measured."""

    around: Surroundings
    seconds: float  # each load takes
    files: int  # that a process may open
    stores: Stores
    users: int  # there are in the directory, where a row is about many
    round: int = 0
    distinct: Sequence[str] = ()  # tokens sent in turn
    fresh: Sequence[Sequence[str]] = ()  # tokens sent once each, by round
    running: dict[str, Process] = field(default_factory=dict)
    notes: dict[str, None] = field(default_factory=dict)
    _answered: dict[tuple[str, int], list[int]] = field(default_factory=dict)  # by each load, per proxy and status

    @property
    def tokens(self) -> Tokens:
        """The instance's."""
        return self.around.tokens

    def token_file(self, tokens: Sequence[str]) -> Path:
        """Write tokens to where wrk reads them."""
        path = self.around.folder / "tokens"
        path.write_text("\n".join(tokens) + "\n")
        return path

    def start(self, proxy: Proxy, until: ExitStack, label: str = "", **changed: Any) -> Process:
        """Start a proxy that runs until the stack is closed; the gateway with changed settings."""
        process = proxy.start(self.around, label or proxy.name, **changed)
        until.callback(process.stop)
        return process

    def load(self, proxy: str, request: Request, *, status: int = 200, seconds: float | None = None) -> Answered:
        """Put a load on a proxy, and remember what its log should have to say about it."""
        process = self.running[proxy]
        answered = load(request, process.port, seconds=seconds or self.seconds, folder=self.around.folder)
        process.check_alive()
        wrong = answered.refused if status < 400 else answered.requests - answered.refused
        if wrong:
            raise BenchError(f"{wrong} of {answered.requests} answers were not {status}")
        self._answered.setdefault((proxy, status), []).append(answered.requests)
        return answered

    def begin_row(self) -> None:
        """Forget what was answered and logged before."""
        self._answered.clear()
        for process in self.running.values():
            process.forget_log()

    def end_row(self) -> Iterator[tuple[str, str]]:
        """Compare the logs with what was answered; give those proxies where a line is missing or says something else."""
        if self._answered:
            time.sleep(LOG_SETTLES_S)
        for (proxy, status), loads in self._answered.items():
            if not PROXIES[proxy].logs:
                continue
            log = self.running[proxy].log.read_bytes()
            lines, right = log.count(b'"event":"request"'), log.count(b'"status":%d,' % status)
            # What was under way when wrk stopped may be logged as broken off.
            if right < sum(loads) or lines - right > 2 * CONNECTIONS * len(loads):
                yield (
                    proxy,
                    f"{sum(loads)} answers of {status}, but {lines} lines in the log, {right} of them with that",
                )

    def check_forwards(self, proxy: str, request: Request, token: str) -> None:
        """Check that this request with this token is answered by the upstream, and arrives there as it should.

        Raises:
            BenchError: it does not.
        """
        port, fields = self.running[proxy].port, {**request.fields, **authorised(token)}
        status, body = ask(port, request.target, fields)
        if status != 200 or body != ANSWER.encode():
            raise BenchError(f"answered {status} {body[:200]!r} instead of what the upstream says")
        if not PROXIES[proxy].verifies:
            return
        status, body = ask(port, "/whoami", {**fields, "X-User-Id": "user_mallory"})
        claims = claims_of(token)
        expected = f'{{"user":"{claims["sub"]}","session":"{claims["sid"]}","authorization":""}}'
        if status != 200 or body.decode() != expected:
            raise BenchError(f"another identity arrives at the upstream: {status} {body[:200]!r}")

    def check_refuses(self, proxy: str, request: Request) -> None:
        """Check that this request is answered 401, by the proxy itself.

        Raises:
            BenchError: it is not.
        """
        status, body = ask(self.running[proxy].port, request.target, request.fields)
        if status != 401:
            raise BenchError(f"answered {status} {body[:200]!r} instead of 401")
