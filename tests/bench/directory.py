"""How the rows of many users are measured: looked up, filled in from Clerk, met in requests; and the store at rest."""

import asyncio
import http.client
import json
import random
import sys
import time
from contextlib import ExitStack
from statistics import median

import uvloop
import yaml

from tests.bench import BenchError
from tests.bench.accounting import forget_peak, peak_mib, rss_mib
from tests.bench.loads import Request, load
from tests.bench.measures import IDLE_SETTLES_S, Sample
from tests.bench.process import Process, ask, cpu_of, free_port
from tests.bench.proxies import PROXIES
from tests.bench.stage import Stage, authorised
from tests.bench.stores import count_users, id_of
from tests.bench.tokens import APP
from tests.bench.webhooks import SIGNING, check_accepts, until_up
from tests.fakes.clerk_api import Crowd, FakeBackendApi
from tests.fakes.clerk_events import body

MANY = 1_000_000  # users, which every target is about
DISTINCT = 50_000  # of them make requests; of fewer users, as large a part
LOOKUPS = 1_000
ADMIN = "of-the-benchmark-alone"  # the admin listener's token
SYNC_S = 3_600.0
MILLI = 1e3


def _many(stage: Stage, what: str) -> int:
    """Give how many users there are, and say so where they are not as many as the target is about."""
    if stage.users != MANY:
        stage.notes[f"{what}: {stage.users:,} users, the target is about {MANY:,} (--users {MANY})"] = None
    return stage.users


# --- looked up -------------------------------------------------------------------------------------------------------


def lookup(stage: Stage, proxy: str) -> Sample:
    """Ask the admin listener for one user after the other, by id."""
    users, port = _many(stage, "lookup"), free_port()
    url, chance = stage.stores.peopled(users), random.Random(stage.round)
    admin = {"host": "127.0.0.1", "port": port, "token": ADMIN}
    with ExitStack() as until:
        process = stage.start(PROXIES[proxy], until, f"{proxy}-lookup", admin=admin, store={"url": url})
        until_up(process)
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        until.callback(connection.close)
        waits = [_lookup_s(connection, chance.randrange(users)) for _ in range(LOOKUPS)]
    return Sample(MILLI * median(waits))


def _lookup_s(connection: http.client.HTTPConnection, number: int) -> float:
    began = time.perf_counter()
    connection.request("GET", f"/v1/users/{id_of(number)}", headers={"Authorization": f"Bearer {ADMIN}"})
    answer = connection.getresponse()
    said = answer.read()
    took = time.perf_counter() - began
    if answer.status != 200 or json.loads(said)["nickname"] != Crowd(0).numbered(number)["username"]:
        raise BenchError(f"user {number} was answered {answer.status} {said[:200]!r}")
    return took


# --- filled in from Clerk --------------------------------------------------------------------------------------------


def backfill(stage: Stage, proxy: str) -> Sample:
    """Have `gateway sync` fill an empty database; of fewer users than a million, say what so many more would take.

    What it takes to sync a single user is not multiplied.
    """
    if stage.users == MANY:
        return Sample(_synced_s(stage, MANY))
    stage.notes[f"backfill: {stage.users:,} users, extrapolated to {MANY:,} (--users {MANY})"] = None
    one = _synced_s(stage, 1)
    more = max(0.0, _synced_s(stage, stage.users) - one)  # of a few users it may be lost in the noise
    return Sample(one + more * (MANY - 1) / (stage.users - 1))


def _synced_s(stage: Stage, users: int) -> float:
    around = stage.around
    url = stage.stores.sqlite(f"backfill-{stage.round}-{users}")
    config, log = around.folder / "sync.yaml", around.folder / "sync.log"

    async def measure() -> float:
        async with FakeBackendApi(Crowd(users), clerk=around.tokens.clerk) as clerk:
            settings = {
                "clerk": {
                    "issuer": around.tokens.clerk.issuer, "jwt_key": around.tokens.clerk.pem(), "api_url": clerk.url,
                    "secret_key": clerk.secret_key, "authorized_parties": [APP],
                },
                "upstreams": {"api": {"url": "http://127.0.0.1:1"}},
                "routes": [{"name": "rest", "path": "/*", "upstream": "api"}],
                "store": {"url": url},
            }  # fmt: skip
            config.write_text(yaml.safe_dump(settings))
            command = [sys.executable, "-m", "gateway", "sync", "-c", str(config)]
            return await asyncio.to_thread(cpu_of, "sync", command, core=around.core, log=log, within_s=SYNC_S)

    spent = uvloop.run(measure())
    if (found := count_users(url)) != users:
        raise BenchError(f"{found} users are there after the backfill instead of {users}")
    return spent


# --- memory ----------------------------------------------------------------------------------------------------------


def at_rest(stage: Stage, proxy: str) -> Sample:
    """Start anew with a store, let it have used it for a request and a webhook, and rest."""
    with ExitStack() as until:
        process = _used(stage, proxy, until, stage.stores.sqlite("rest"), user=id_of(0))
        time.sleep(IDLE_SETTLES_S)
        return Sample(rss_mib(process.pid))


def known(stage: Stage, proxy: str) -> Sample:
    """Start anew with many users in the directory, let some of them make a request each, and look at the peak."""
    users = _many(stage, "known")
    distinct = max(1, min(DISTINCT, users * DISTINCT // MANY))
    stage.notes[f"known: {distinct:,} users made requests"] = None
    tokens = stage.token_file(stage.tokens.many(distinct, "tokens of users in the directory", first=0))
    with ExitStack() as until:
        process = _used(stage, proxy, until, stage.stores.peopled(users), user=id_of(users - 1))
        forget_peak(process.pid)
        answered = load(
            Request(authorised(""), tokens=tokens, once=True), process.port, seconds=stage.seconds,
            folder=stage.around.folder,
        )  # fmt: skip
        process.check_alive()
        peak = peak_mib(process.pid)
    if answered.refused or answered.requests != distinct:
        raise BenchError(f"{answered.refused} of {answered.requests} requests were refused, {distinct} were sent")
    if missed := process.log.read_bytes().count(b'"directory":"miss"'):
        stage.notes[f"known: {missed:,} requests did not wait for the directory, the machine was too busy"] = None
    return Sample(peak)


def _used(stage: Stage, proxy: str, until: ExitStack, url: str, *, user: str) -> Process:
    """Start a gateway that has everything loaded that it ever loads: the store, and what verifies webhooks."""
    process = stage.start(PROXIES[proxy], until, f"{proxy}-used", clerk=SIGNING, store={"url": url})
    until_up(process)
    check_accepts(process.port, "msg_first", body("session.created", {"id": "sess_1", "user_id": user}))
    status, _ = ask(process.port, "/", authorised(stage.tokens.good))
    if status != 200:
        raise BenchError(f"a request was answered {status}")
    return process
