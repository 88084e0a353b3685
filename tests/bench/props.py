"""What a soak is played with: the gateway's configuration, upstreams that die, and a reader of its log."""

import asyncio
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson

from tests.bench.crowd import KEEPALIVE_S
from tests.bench.process import Process, kept_port
from tests.bench.tokens import APP, Tokens

DRAIN_S = 5.0
SHOWN_LINES = 5
GRACE_S = (
    2.0  # behind an upstream's first answer: it is knocked at once a second, and a sweep may be half a second late
)


def settings(port: int, good: int, moody: int, tokens: Tokens, store: Path) -> dict[str, Any]:
    """Write the gateway's configuration."""
    clerk = {"issuer": tokens.clerk.issuer, "jwt_key": tokens.clerk.pem(), "authorized_parties": [APP]}
    limits = {"connect_s": 1, "response_s": 3, "idle_s": 3}
    return {
        "listen": {"host": "127.0.0.1", "port": port},
        "admin": {"port": None},
        "clerk": clerk,
        "upstreams": {
            "good": {"url": f"http://127.0.0.1:{good}", "timeouts": limits | {"response_s": 10}},
            "moody": {"url": f"http://127.0.0.1:{moody}", "timeouts": limits},
        },
        "routes": [
            {"name": "good", "path": "/good/*", "upstream": "good"},
            {"name": "moody", "path": "/moody/*", "upstream": "moody"},
            {"name": "admin", "path": "/admin/*", "upstream": "good", "require": {"role": "org:admin"}},
        ],
        "cors": {"origins": [APP]},
        "limits": {"header_read_s": 2, "body_idle_s": 2, "keepalive_s": KEEPALIVE_S, "body_bytes": 10 << 20},
        "store": {"url": f"sqlite:///{store}"},
        "drain_s": DRAIN_S,
    }


class LogReader:
    """Reads the gateway's log through a pipe, line by line, and keeps nothing but counts and what is alarming."""

    def __init__(self, pipe: Path) -> None:
        self.statuses: Counter[int] = Counter()
        self.events: Counter[str] = Counter()
        self.alarming: list[bytes] = []
        self.alarms = 0
        os.mkfifo(pipe)
        self.thread = threading.Thread(target=self._read, args=(pipe,), daemon=True)
        self.thread.start()

    def _read(self, pipe: Path) -> None:
        with pipe.open("rb") as lines:
            for line in lines:
                self._count(line)

    def _count(self, line: bytes) -> None:
        try:
            told = orjson.loads(line)
        except ValueError:
            return self._alarm(line)
        if told["event"] == "request":
            self.statuses[told["status"]] += 1
            return self._alarm(line) if told["status"] == 500 else None
        self.events[told["event"]] += 1
        return self._alarm(line) if told["event"] == "request_failed" else None

    def _alarm(self, line: bytes) -> None:
        self.alarms += 1
        if len(self.alarming) < SHOWN_LINES:
            self.alarming.append(line)


class Mortal:
    """An upstream that is killed and started anew, on the same port."""

    def __init__(
        self, name: str, folder: Path, core: int, *, module: str = "tests.bench.moody", arguments: Sequence[str] = ()
    ) -> None:
        self.name, self._folder, self._core = name, folder, core
        self.port = kept_port()
        self._command = [sys.executable, "-m", module, str(self.port), *arguments]
        self.down_until = 0.0
        self.deaths = 0
        self.revive()

    def revive(self) -> None:
        """Start it, and wait until it answers."""
        log, port = self._folder / f"{self.name}.log", self.port
        self.process = Process(self.name, self._command, port=port, core=self._core, folder=self._folder, log=log)

    async def die(self, seconds: float) -> None:
        """Be away for so long."""
        self.down_until = float("inf")
        self.deaths += 1
        self.signal(signal.SIGKILL)
        await asyncio.to_thread(self.process.stop)
        await asyncio.sleep(seconds)
        await asyncio.to_thread(self.revive)
        self.down_until = time.monotonic() + GRACE_S

    def signal(self, number: int) -> None:
        """Send it a signal."""
        with suppress(ProcessLookupError):
            os.kill(self.process.pid, number)
