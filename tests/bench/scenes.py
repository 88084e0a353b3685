"""What a gateway has to live through without its clients noticing: the scenes of `resilience`, one function each.

In each, 64 clients ask on kept connections (`steady`) while something happens behind the gateway or to it. What they
are owed is judged request by request: `ledger` says which endpoint had received it.
"""

import asyncio
import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from tests.bench import BenchError
from tests.bench.lasting import Echoed, Events, Lasting, field_lines, opened
from tests.bench.ledger import HEALTH, received
from tests.bench.loads import CONNECTIONS, idle_connections
from tests.bench.process import Process, ask, find_program, kept_port
from tests.bench.props import Mortal
from tests.bench.stage import authorised
from tests.bench.steady import Failure, Steady, Tally
from tests.bench.tokens import APP, Tokens
from tests.bench.upstream import TEMPORARY

ENDPOINTS = 3
WAIT_S = 0.005  # an upstream's own time for an answer: long enough for a kill to meet some of them
DOWN_S, UP_S = 0.5, 0.5
BACK_S = 15.0  # within which a revived endpoint has to be used again
SAME_TURN_S = 0.05  # a request may be written in the turn of the event loop in which the endpoint's end is read
RELOAD_S, BETWEEN_S = 5.0, 0.02
DRAIN_S = 5.0
DRAIN_DELAYS_S = 0.0, 0.3  # in turn: connections are closed between two requests, and new ones come as listening ends
RESTED_S = 0.5  # between two restarts
PAUSE_S = 0.05  # at most, of clients that rest between two requests
CROWD_WAIT_S = 0.25  # so that all busy clients are being answered at once
CROWD_S = 5.0
ASKED_AGAIN = 10  # every tenth of those that rest
SPARE_FILES = 2048  # for connections to upstreams, and everything else
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
            "clerk": clerk,
            "upstreams": {"api": api},
            "routes": [{"name": "api", "path": "/api/*", "upstream": "api"}],
            "cors": {"origins": [APP]},
            "drain_s": DRAIN_S,
        } | changed

    def gateway(self, label: str, settings: Mapping[str, Any]) -> Process:
        """Start a gateway that runs until it is stopped, at the latest when the stack is closed."""
        config = self.write(label, settings)
        command = [sys.executable, "-m", "gateway", "run", "-c", str(config)]
        return self._start("the gateway", command, settings["listen"]["port"], label)

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

    def _start(self, name: str, command: list[str], port: int, label: str) -> Process:
        log = self.folder / f"{label}.log"
        process = Process(name, command, port=port, core=self.core, folder=self.folder, log=log)
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


def _blame_connections(outcome: Outcome, tally: Tally) -> None:
    if tally.refused:
        outcome.faults.append(f"{tally.refused} connections were refused")
    if tally.lost:
        outcome.faults.append(f"{tally.lost} connections were closed without a word")


def _mixed(ground: Ground, port: int, tally: Tally) -> list[Steady]:
    """64 clients: some that ask without a pause, some that rest in between, some that send something."""
    quarter, fields = CONNECTIONS // 4, ground.fields
    return [
        Steady(port, 2 * quarter, tally, fields=fields),
        Steady(port, quarter, tally, fields=fields, pause_s=PAUSE_S),
        Steady(port, quarter, tally, fields=fields, pause_s=PAUSE_S, method="POST"),
    ]


# --- one of three endpoints is killed and revived --------------------------------------------------------------------


async def failover_get(ground: Ground, kills: int) -> Outcome:
    """Kill an endpoint that is in use, again and again: no GET fails."""
    tally, _, ledgers, seen = await _killed_often(ground, "GET", kills)
    outcome = Outcome(f"{tally.answered:,} GETs answered; {seen}; {_repeated(ledgers)} were tried again")
    outcome.blame(tally.failures, "GETs failed")
    _blame_connections(outcome, tally)
    outcome.blame_gateway(ground, "failover-get")
    return outcome


async def failover_post(ground: Ground, kills: int) -> Outcome:
    """Kill an endpoint that is in use, again and again: only POSTs fail that it had received, and none is sent twice."""
    tally, deaths, ledgers, seen = await _killed_often(ground, "POST", kills)
    mortal, *others = (set(ledger) for ledger in ledgers)
    excused, unknown, blamed = [], 0, []
    for failure in tally.failures:
        met = any(failure.began < dead + SAME_TURN_S and failure.ended > killed for killed, dead in deaths)
        if met and not any(failure.target in other for other in others):
            excused.append(failure)
            unknown += failure.target not in mortal  # it was killed before it read it
        else:
            blamed.append(failure)
    outcome = Outcome(
        f"{tally.answered:,} POSTs answered; {seen}; {len(excused)} failed that were in flight on it, "
        f"{unknown} of them not read yet"
    )
    outcome.blame(blamed, "POSTs failed that were not in flight on the endpoint that was killed")
    if repeated := _repeated(ledgers):
        outcome.faults.append(f"{repeated} POSTs were sent twice")
    _blame_connections(outcome, tally)
    outcome.blame_gateway(ground, "failover-post")
    return outcome


def _repeated(ledgers: Iterable[Sequence[bytes]]) -> int:
    counts = Counter(target for ledger in ledgers for target in ledger)
    return counts.total() - len(counts)


async def _killed_often(
    ground: Ground, method: str, kills: int
) -> tuple[Tally, list[tuple[float, float]], list[list[bytes]], str]:
    label, port = f"failover-{method.lower()}", kept_port()
    upstreams = [ground.ledger(f"{label}-{number}") for number in range(ENDPOINTS)]
    if ground.rehearse:
        ground.nginx(label, port, upstreams)
    else:
        ground.gateway(label, ground.settings(port, upstreams))
    tally, deaths, away = Tally(), [], []
    steady = Steady(port, CONNECTIONS, tally, fields=ground.fields, method=method)
    mortal = upstreams[0]
    await _used_again(ground, mortal)
    for _ in range(kills):
        await asyncio.sleep(UP_S)
        killed = time.monotonic()
        mortal.signal(signal.SIGKILL)
        await asyncio.to_thread(mortal.process.stop)  # waits for its end
        deaths.append((killed, time.monotonic()))
        await asyncio.sleep(DOWN_S)
        await asyncio.to_thread(mortal.revive)
        away.append(await _used_again(ground, mortal))
    await asyncio.sleep(UP_S)
    await steady.stop()
    ledgers = [ground.received(upstream) for upstream in upstreams]
    shares = "/".join(f"{len(ledger):,}" for ledger in ledgers)
    seen = f"{kills} kills of one of {ENDPOINTS} endpoints ({shares} requests), in use again {median(away):.1f} s after its return"
    return tally, deaths, ledgers, seen


async def _used_again(ground: Ground, upstream: Mortal) -> float:
    """Wait until an endpoint gets requests; say for how long."""
    path, began = ground.folder / f"{upstream.name}.ledger", time.monotonic()
    before = path.stat().st_size if path.exists() else 0
    while not path.exists() or path.stat().st_size == before:
        if time.monotonic() - began > BACK_S:
            raise BenchError(f"an endpoint that is well got no request within {BACK_S:g} s")
        await asyncio.sleep(BETWEEN_S)
    return time.monotonic() - began


# --- reloads ---------------------------------------------------------------------------------------------------------


async def reloads(ground: Ground, times: int) -> Outcome:
    """Exchange the configuration again and again: requests, streams and sockets on unchanged routes do not notice."""
    label, port = "reload", kept_port()
    api, live = (
        ground.ledger("reload-api"),
        Mortal("reload-live", ground.folder, ground.loader, module="tests.bench.live"),
    )
    ground.until.callback(lambda: live.process.stop())
    versions = [_version(ground.settings(port, [api]), live, public=public) for public in (True, False)]
    gateway = ground.gateway(label, versions[0])
    lines = field_lines(ground.tokens)
    lasting: list[Lasting] = [Events(lines) for _ in range(4)] + [Echoed(lines, goes_on=True) for _ in range(4)]
    await opened(port, lasting)
    tally = Tally()
    groups = _mixed(ground, port, tally)
    took = []
    try:
        for number in range(1, times + 1):
            ground.write(label, versions[number % 2])
            began = time.monotonic()
            os.kill(gateway.pid, signal.SIGHUP)
            await _in_force(port, 401 if number % 2 else 200, f"reload {number} of {times}")
            took.append(time.monotonic() - began)
    finally:
        for group in groups:
            await group.stop()
    closed = sum(client.transport.is_closing() for client in lasting)
    for client in lasting:
        client.transport.abort()
    outcome = Outcome(
        f"{tally.answered:,} requests answered; {times} reloads in force after {1e3 * median(took):.0f} ms; "
        f"{tally.announced} connections closed as announced; {len(lasting) - closed} of {len(lasting)} streams and "
        "sockets still open"
    )
    if closed:
        outcome.faults.append(f"{closed} of {len(lasting)} streams and sockets were closed")
    outcome.blame(tally.failures, "requests failed")
    _blame_connections(outcome, tally)
    outcome.blame_gateway(ground, label)
    return outcome


def _version(settings: dict[str, Any], live: Mortal, *, public: bool) -> dict[str, Any]:
    """Write one of the two configurations: the route that is asked who may pass, one more route before, another limit."""
    marker = {"name": "marker", "path": "/marker", "upstream": "api", "auth": "public" if public else "required"}
    more = [{"name": "more", "path": "/more/*", "upstream": "api"}] if public else []
    kept = [{"name": "live", "path": "/live/*", "upstream": "live"}, *settings["routes"]]
    upstreams = settings["upstreams"] | {"live": {"url": f"http://127.0.0.1:{live.port}"}}
    limits = {"keepalive_s": 60 if public else 75}
    return settings | {"upstreams": upstreams, "routes": [*more, marker, *kept], "limits": limits}


async def _in_force(port: int, status: int, what: str) -> None:
    until = time.monotonic() + RELOAD_S
    while (await asyncio.to_thread(ask, port, "/marker"))[0] != status:
        if time.monotonic() > until:
            raise BenchError(f"{what} is not in force after {RELOAD_S:g} s")
        await asyncio.sleep(BETWEEN_S)


# --- restarts --------------------------------------------------------------------------------------------------------


async def restarts(ground: Ground, times: int) -> Outcome:
    """Stop the gateway and start it anew: no request that was sent fails. Refused connects are tried again."""
    label, port = "restarts", kept_port()
    settings = ground.settings(port, [ground.ledger("restarts-api")])
    gateway = ground.gateway(label, settings)
    tally, took, outcome = Tally(), [], Outcome("")
    groups = _mixed(ground, port, tally)
    for number in range(1, times + 1):
        await asyncio.sleep(RESTED_S)
        began = time.monotonic()
        code = await asyncio.to_thread(gateway.stop, DRAIN_S + 3)
        took.append(time.monotonic() - began)
        if code:
            outcome.faults.append(f"TERM ended the gateway with {code}")
        changed = settings | {"drain_delay_s": DRAIN_DELAYS_S[number % 2]}
        gateway = await asyncio.to_thread(ground.gateway, label, changed)
    await asyncio.sleep(RESTED_S)
    for group in groups:
        await group.stop()
    outcome.seen = (
        f"{tally.answered:,} requests answered; {times} restarts, each ended {median(took):.1f} s after TERM "
        f"({max(took):.1f} at most); {tally.announced} connections closed as announced, {tally.lost} while they rested"
    )
    outcome.blame(tally.failures, "requests failed that were sent")
    outcome.blame_gateway(ground, label)
    return outcome


# --- a crowd ---------------------------------------------------------------------------------------------------------


async def crowd(ground: Ground, idle: int, busy: int) -> Outcome:
    """Keep many connections that rest, and many that are being answered at once: none is refused or closed."""
    label, port = "crowd", kept_port()
    idle = min(idle, ground.files - 2 * busy - SPARE_FILES)
    if idle <= 0:
        raise BenchError(f"only {ground.files} files may be opened here")
    settings = ground.settings(port, [ground.ledger("crowd-api", CROWD_WAIT_S)])
    gateway = ground.gateway(label, settings | {"limits": {"connections": idle + 2 * busy}})
    tally = Tally()
    with idle_connections(port, idle, ground.fields, target="/healthz") as resting:
        steady = Steady(port, busy, tally, fields=ground.fields)
        await asyncio.sleep(CROWD_S)
        files = len(os.listdir(f"/proc/{gateway.pid}/fd"))
        status, _ = await asyncio.to_thread(ask, port, "/healthz")
        await steady.stop()
        closed = sum(not client.is_open() for client in resting)
        again = [client.get("/healthz", {})[0] for client in resting[::ASKED_AGAIN]]
    outcome = Outcome(
        f"{idle:,} connections at rest and {busy:,} busy ones, {files:,} open files; {tally.answered:,} requests answered"
    )
    if status != 200:
        outcome.faults.append(f"one connection more was answered {status}")
    if closed or any(answered != 200 for answered in again):
        outcome.faults.append(f"of those that rested {closed} were closed; asked again, {Counter(again)}")
    outcome.blame(tally.failures, "requests failed")
    _blame_connections(outcome, tally)
    outcome.blame_gateway(ground, label)
    return outcome
