"""What a gateway has to live through without its clients noticing: the scenes of `resilience`, one function each.

In each, 64 clients ask on kept connections (`steady`) while something happens behind the gateway or to it. What they
are owed is judged request by request: `ledger` says which endpoint had received it.
"""

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import Sequence
from statistics import median
from typing import Any, NamedTuple

from tests.bench import BenchError
from tests.bench.crowd import PATIENCE_S
from tests.bench.ground import DRAIN_S, Ground, Outcome
from tests.bench.lasting import Echoed, Events, Lasting, field_lines, opened
from tests.bench.loads import CONNECTIONS, idle_connections
from tests.bench.process import ask, kept_port
from tests.bench.props import Mortal
from tests.bench.steady import Failure, Steady, Tally

ENDPOINTS = 3
DOWN_S, UP_S = 0.5, 1.5  # up until it is fully in use again
BACK_S = 15.0  # within which a revived endpoint has to be used again
NOT_SENT = "upstream_unreachable", "no_healthy_endpoint"  # what answers say of requests that no endpoint was sent
SAME_TURN_S = 0.05  # a request may be written in the turn of the event loop in which the endpoint's end is read
RELOAD_S, BETWEEN_S = 5.0, 0.02
DRAIN_DELAYS_S = 0.0, 0.3  # in turn: connections are closed between two requests, and new ones come as listening ends
RESTED_S = 0.5  # between two restarts
PAUSE_S = 0.05  # at most, of clients that rest between two requests
CROWD_WAIT_S = 0.25  # so that all busy clients are being answered at once
CROWD_ROUNDS = 8
ASKED_AGAIN = 10  # every tenth of those that rest
SPARE_FILES = 2048  # for connections to upstreams, and everything else


def _mixed(ground: Ground, port: int, tally: Tally) -> list[Steady]:
    """64 clients: some that ask without a pause, some that rest in between, some that send something."""
    quarter, fields = CONNECTIONS // 4, ground.fields
    return [
        Steady(port, 2 * quarter, tally, fields=fields),
        Steady(port, quarter, tally, fields=fields, pause_s=PAUSE_S),
        Steady(port, quarter, tally, fields=fields, pause_s=PAUSE_S, method="POST"),
    ]


# --- one of three endpoints is killed and revived --------------------------------------------------------------------


class Killed(NamedTuple):
    """What became of a load under which an endpoint was killed, and when that was: just before, and once it was dead."""

    tally: Tally
    deaths: Sequence[tuple[float, float]]
    ledgers: Sequence[Sequence[bytes]]  # of all endpoints, the mortal one first
    seen: str
    faults: list[str]

    @property
    def repeated(self) -> int:
        """How many requests arrived somewhere more than once."""
        counts = Counter(target for ledger in self.ledgers for target in ledger)
        return counts.total() - len(counts)

    def judged(self) -> tuple[list[Failure], list[Failure], int]:
        """Divide the failures into those that were in flight on the endpoint as it died, and all others.

        The number is of those among the former that it had not read yet.
        """
        mortal, *others = (set(ledger) for ledger in self.ledgers)
        excused, blamed, unread = [], [], 0
        for failure in self.tally.failures:
            met = any(failure.began < dead + SAME_TURN_S and failure.ended > kill for kill, dead in self.deaths)
            not_sent = failure.target not in mortal and any(code in failure.why for code in NOT_SENT)
            if met and not not_sent and not any(failure.target in other for other in others):
                excused.append(failure)
                unread += failure.target not in mortal
            else:
                blamed.append(failure)
        return excused, blamed, unread


async def failover_get(ground: Ground, kills: int) -> Outcome:
    """Kill an endpoint that is in use, again and again: no GET fails."""
    killed = await _killed_often(ground, "GET", kills)
    outcome = Outcome(
        f"{killed.tally.answered:,} GETs answered; {killed.seen}; {killed.repeated} were tried again", killed.faults
    )
    outcome.blame(killed.tally.failures, "GETs failed")
    outcome.blame_connections(killed.tally)
    outcome.blame_gateway(ground, "failover-get")
    return outcome


async def failover_post(ground: Ground, kills: int) -> Outcome:
    """Kill an endpoint that is in use, again and again: only POSTs fail that it had received, and none is sent twice."""
    killed = await _killed_often(ground, "POST", kills)
    excused, blamed, unread = killed.judged()
    outcome = Outcome(
        f"{killed.tally.answered:,} POSTs answered; {killed.seen}; {len(excused)} failed that were in flight on it, "
        f"{unread} of them not read yet", killed.faults,
    )  # fmt: skip
    outcome.blame(blamed, "POSTs failed that were not in flight on the endpoint that was killed")
    if killed.repeated:
        outcome.faults.append(f"{killed.repeated} POSTs were sent twice")
    outcome.blame_connections(killed.tally)
    outcome.blame_gateway(ground, "failover-post")
    return outcome


async def _killed_often(ground: Ground, method: str, kills: int) -> Killed:
    label, port = f"failover-{method.lower()}", kept_port()
    upstreams = [ground.ledger(f"{label}-{number}") for number in range(ENDPOINTS)]
    if ground.rehearse:
        ground.nginx(label, port, upstreams)
    else:
        ground.gateway(label, ground.settings(port, upstreams))
    tally, mortal = Tally(), upstreams[0]
    deaths: list[tuple[float, float]] = []
    steady = Steady(port, CONNECTIONS, tally, fields=ground.fields, method=method)
    back = [await _used(ground, mortal)]
    while len(deaths) < kills and back[-1] < BACK_S:
        await asyncio.sleep(UP_S)
        kill = time.monotonic()
        mortal.signal(signal.SIGKILL)
        await asyncio.to_thread(mortal.process.stop)  # waits for its end
        deaths.append((kill, time.monotonic()))
        await asyncio.sleep(DOWN_S)
        await asyncio.to_thread(mortal.revive)
        back.append(await _used(ground, mortal))
    await asyncio.sleep(DOWN_S)
    await steady.stop()
    ledgers = [ground.received(upstream) for upstream in upstreams]
    shares = "/".join(f"{len(ledger):,}" for ledger in ledgers)
    seen = f"one of {ENDPOINTS} endpoints ({shares} requests) killed {len(deaths)} times, used again after {median(back):.1f} s"
    unused = [f"an endpoint that was well got no request for {BACK_S:g} s"] if back[-1] >= BACK_S else []
    return Killed(tally, deaths, ledgers, seen, unused)


async def _used(ground: Ground, upstream: Mortal) -> float:
    """Wait until an endpoint gets requests, but no longer than `BACK_S`; say for how long."""
    path, began = ground.folder / f"{upstream.name}.ledger", time.monotonic()
    before = path.stat().st_size if path.exists() else 0
    while (took := time.monotonic() - began) < BACK_S and (not path.exists() or path.stat().st_size == before):
        await asyncio.sleep(BETWEEN_S)
    return took


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
    took: list[float] = []
    while len(took) < times and (not took or took[-1] < RELOAD_S):
        public = len(took) % 2 == 1  # the other one than now
        ground.write(label, versions[0 if public else 1])
        os.kill(gateway.pid, signal.SIGHUP)
        took.append(await _in_force(port, 200 if public else 401))
    for group in groups:
        await group.stop()
    closed = sum(client.transport.is_closing() for client in lasting)
    for client in lasting:
        client.transport.abort()
    outcome = Outcome(
        f"{tally.answered:,} requests answered; {len(took)} reloads in force after {1e3 * median(took):.0f} ms; "
        f"{tally.announced} connections closed as announced; {len(lasting) - closed} of {len(lasting)} streams and "
        "sockets still open"
    )
    if took[-1] >= RELOAD_S:
        outcome.faults.append(f"the last of {len(took)} reloads was not in force after {RELOAD_S:g} s")
    if closed:
        outcome.faults.append(f"{closed} of {len(lasting)} streams and sockets were closed")
    outcome.blame(tally.failures, "requests failed")
    outcome.blame_connections(tally)
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


async def _in_force(port: int, status: int) -> float:
    """Wait until the new configuration answers, but no longer than `RELOAD_S`; say for how long."""
    began = time.monotonic()
    while (await asyncio.to_thread(ask, port, "/marker"))[0] != status:
        if time.monotonic() - began > RELOAD_S:
            return RELOAD_S
        await asyncio.sleep(BETWEEN_S)
    return time.monotonic() - began


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
        until = time.monotonic() + PATIENCE_S
        while tally.answered < CROWD_ROUNDS * busy and time.monotonic() < until:
            await asyncio.sleep(CROWD_WAIT_S)
        files = len(os.listdir(f"/proc/{gateway.pid}/fd"))
        status, _ = await asyncio.to_thread(ask, port, "/healthz")
        await steady.stop()
        closed = sum(not client.is_open() for client in resting)
        again = [client.get("/healthz", {})[0] for client in resting[::ASKED_AGAIN]]
    outcome = Outcome(
        f"{idle:,} connections at rest and {busy:,} busy ones, {files:,} open files; {tally.answered:,} requests answered"
    )
    if tally.answered < CROWD_ROUNDS * busy:
        outcome.faults.append(f"the busy ones were not answered {CROWD_ROUNDS} times each within {PATIENCE_S:g} s")
    if status != 200:
        outcome.faults.append(f"one connection more was answered {status}")
    if closed or any(answered != 200 for answered in again):
        outcome.faults.append(f"of those that rested {closed} were closed; asked again, {Counter(again)}")
    outcome.blame(tally.failures, "requests failed")
    outcome.blame_connections(tally)
    outcome.blame_gateway(ground, label)
    return outcome
