"""Where scenes are played: upstreams, a gateway or nginx before them, and what is said of it in the end."""

import json
import os
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.bench.ledger import HEALTH, received
from tests.bench.process import Process, find_program
from tests.bench.props import Mortal
from tests.bench.stage import authorised
from tests.bench.steady import Failure, Tally
from tests.bench.stores import Stores
from tests.bench.tokens import APP, Tokens
from tests.bench.upstream import TEMPORARY

WAIT_S = 0.005  # an upstream's own time for an answer: long enough for a kill to meet some of them
DRAIN_S = 5.0
SHOWN = 5


@dataclass(frozen=True)
class Ground:
    """Where scenes are played: the proxy alone on one core, everything else on the other."""

    folder: Path
    core: int
    loader: int
    tokens: Tokens
    files: int  # that a process may open
    until: ExitStack
    stores: Stores
    rehearse: bool = False  # with nginx instead of the gateway

    @property
    def fields(self) -> dict[str, str]:
        """What every client shows."""
        return authorised(self.tokens.good)

    def ledger(self, name: str, wait_s: float = WAIT_S) -> Mortal:
        """Start an upstream that writes down what it gets."""
        arguments = (str(self.folder / f"{name}.ledger"), str(wait_s))
        upstream = Mortal(name, self.folder, self.loader, module="tests.bench.ledger", arguments=arguments)
        self.until.callback(lambda: upstream.process.stop())
        return upstream

    def received(self, upstream: Mortal) -> list[bytes]:
        """Read what an upstream has written down."""
        return received(self.folder / f"{upstream.name}.ledger")

    def settings(self, port: int, upstreams: Sequence[Mortal], **changed: Any) -> dict[str, Any]:
        """Write a gateway's configuration, with one upstream or several endpoints of one."""
        urls = [f"http://127.0.0.1:{upstream.port}" for upstream in upstreams]
        clerk = {"issuer": self.tokens.clerk.issuer, "jwt_key": self.tokens.clerk.pem(), "authorized_parties": [APP]}
        api: dict[str, Any] = {"url": urls[0]}
        if len(urls) > 1:
            api = {
                "targets": [{"url": url} for url in urls],
                "health": {"path": HEALTH.decode(), "interval_s": 1},
                "breaker": {"open_s": 1},
            }
        return {
            "listen": {"host": "127.0.0.1", "port": port},
            "admin": {"port": None},
            "clerk": clerk,
            "upstreams": {"api": api},
            "routes": [{"name": "api", "path": "/api/*", "upstream": "api"}],
            "cors": {"origins": [APP]},
            "store": {"url": f"sqlite:///{self.folder / 'gateway.db'}"},
            "drain_s": DRAIN_S,
        } | changed

    def gateway(self, label: str, settings: Mapping[str, Any], *, waiting: bool = True) -> Process:
        """Start a gateway that runs until it is stopped, at the latest when the stack is closed."""
        config = self.write(label, settings)
        command = [sys.executable, "-m", "gateway", "run", "-c", str(config)]
        return self._start("the gateway", command, settings["listen"]["port"], label, waiting=waiting)

    def write(self, label: str, settings: Mapping[str, Any]) -> Path:
        """Put a configuration in the place of the last one, at once."""
        config, new = self.folder / f"{label}.yaml", self.folder / f"{label}.new"
        new.write_text(json.dumps(settings))
        os.replace(new, config)
        return config

    def nginx(self, label: str, port: int, upstreams: Sequence[Mortal]) -> Process:
        """Start nginx with these endpoints."""
        servers = "".join(f"server 127.0.0.1:{upstream.port} max_fails=1 fail_timeout=1s; " for upstream in upstreams)
        config = self.folder / f"{label}.conf"
        values = {"folder": self.folder, "label": label, "port": port, "servers": servers}
        text = _NGINX
        for name, value in values.items():
            text = text.replace(f"{{{name}}}", str(value))
        config.write_text(text)
        errors = str(self.folder / f"{label}.error")
        command = [find_program("nginx") or "nginx", "-p", str(self.folder), "-e", errors, "-c", str(config)]
        return self._start("nginx", command, port, label)

    def _start(self, name: str, command: list[str], port: int, label: str, *, waiting: bool = True) -> Process:
        log = self.folder / f"{label}.log"
        process = Process(name, command, port=port, core=self.core, folder=self.folder, log=log, waiting=waiting)
        self.until.callback(process.stop)
        return process


_NGINX = f"""
daemon off; master_process off; worker_processes 1;
pid {{folder}}/{{label}}.pid;
error_log {{folder}}/{{label}}.error error;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
{TEMPORARY}
    upstream api {{ {{servers}} keepalive 128; }}
    server {{
        listen 127.0.0.1:{{port}} backlog=4096;
        location / {{
            proxy_pass http://api;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
        }}
    }}
}}
"""


@dataclass
class Outcome:
    """What was seen in a scene, and what should not have been."""

    seen: str
    faults: list[str] = field(default_factory=list)

    def blame(self, failures: Iterable[Failure], what: str) -> None:
        """Make a fault of these failures, if there are any."""
        reasons = Counter(failure.why.replace(failure.target.decode(), "…")[:150] for failure in failures)
        if reasons:
            most = "; ".join(f"{count} × {why}" for why, count in reasons.most_common(SHOWN))
            self.faults.append(f"{reasons.total()} {what}: {most}")

    def blame_gateway(self, ground: Ground, label: str) -> None:
        """Make a fault of whatever the gateway had to say of itself."""
        alarms = [line for line in (ground.folder / f"{label}.log").open("rb") if b'"event":"request_failed"' in line]
        if alarms:
            self.faults.append(f"{len(alarms)} faults of the gateway's own, such as {alarms[0][:1000]!r}")
        said = (ground.folder / f"{label}.log.errors").read_text(errors="replace").strip()
        if said and not ground.rehearse:
            self.faults.append(f"on stderr: {said[-1000:]}")

    def blame_connections(self, tally: Tally) -> None:
        """Make a fault of every connection that could not be made, or was closed between two requests."""
        if tally.refused:
            self.faults.append(f"{tally.refused} connections were refused")
        if tally.lost:
            self.faults.append(f"{tally.lost} connections were closed without a word")
