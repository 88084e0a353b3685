"""How each row is measured on one proxy, once."""

import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

from tests.bench import BenchError
from tests.bench.accounting import cpu_s, forget_peak, peak_mib, rss_mib
from tests.bench.loads import Client, Request, idle_connections
from tests.bench.proxies import PROXIES
from tests.bench.stage import Stage, authorised
from tests.bench.tokens import APP
from tests.bench.upstream import SIZES

WARM_UP_S = 0.2
POST_BYTES = 4096
REPEATS = {"8m": 128, "1g": 1}
IDLE_CONNECTIONS = 10_000
IDLE_SETTLES_S = 0.5
SPARE_FILES = 256
MICRO, MEGA = 1e6, 1e6

BROWSER = {
    "Host": "api.example.com",
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36",
    "Accept": "application/json, text/plain, */*",
    "Accept-Language": "en-GB,en;q=0.9,de;q=0.8",
    "Accept-Encoding": "gzip, deflate, br, zstd",
    "Referer": "https://app.example.com/orders",
    "Sec-Fetch-Site": "same-site",
    "Cookie": "_ga=GA1.1.1234567890.1790000000; theme=dark; __client_uat=1790000000; locale=en",
}  # with Authorization and Origin: ten


@dataclass(frozen=True)
class Sample:
    """One measurement: the row's figure, and what else was seen."""

    value: float
    per_s: float | None = None  # requests answered, or megabytes carried, in a second on the clock
    growth_mib: float | None = None


def _requests(stage: Stage, proxy: str, request: Request, *, status: int = 200) -> Sample:
    pid = stage.running[proxy].pid
    before = cpu_s(pid)
    answered = stage.load(proxy, request, status=status)
    spent = cpu_s(pid) - before
    if not answered.requests:
        raise BenchError("nothing was answered")
    return Sample(MICRO * spent / answered.requests, per_s=answered.requests / answered.took_s)


def _forwarded(stage: Stage, proxy: str, request: Request, token: str) -> Sample:
    stage.check_forwards(proxy, request, token)
    if request.tokens is None:
        request = replace(request, fields={**request.fields, **authorised(token)})
        stage.load(proxy, request, seconds=WARM_UP_S)
    return _requests(stage, proxy, request)


def _refused(stage: Stage, proxy: str, request: Request) -> Sample:
    stage.check_refuses(proxy, request)
    stage.load(proxy, request, status=401, seconds=WARM_UP_S)
    return _requests(stage, proxy, request, status=401)


def get(stage: Stage, proxy: str) -> Sample:
    """Ask with two header fields more than wrk sends of itself."""
    return _forwarded(stage, proxy, Request(), stage.tokens.good)


def browser(stage: Stage, proxy: str) -> Sample:
    """Ask as a browser does."""
    return _forwarded(stage, proxy, Request(BROWSER), stage.tokens.browser)


def post(stage: Stage, proxy: str) -> Sample:
    """Send a small body."""
    return _forwarded(stage, proxy, Request(method="POST", body_bytes=POST_BYTES), stage.tokens.good)


def tokens(stage: Stage, proxy: str) -> Sample:
    """Send many tokens in turn, all of them known already."""
    request = Request(authorised(""), tokens=stage.token_file(stage.distinct))
    stage.load(proxy, replace(request, once=True))
    return _forwarded(stage, proxy, request, stage.distinct[0])


def first(stage: Stage, proxy: str) -> Sample:
    """Send good tokens that were never seen before."""
    fresh = stage.fresh[stage.round]
    request = Request(authorised(""), tokens=stage.token_file(fresh), once=True)
    stage.check_forwards(proxy, request, stage.tokens.mint())
    return _requests(stage, proxy, request)


def hostile(stage: Stage, proxy: str) -> Sample:
    """Send forged tokens that were never seen before."""
    forged = stage.tokens.hostile(len(stage.fresh[stage.round]) + 1)
    request = Request(authorised(""), tokens=stage.token_file(forged[1:]), once=True)
    stage.check_refuses(proxy, replace(request, fields=authorised(forged[0])))
    return _requests(stage, proxy, request, status=401)


def no_token(stage: Stage, proxy: str) -> Sample:
    """Ask without a token."""
    return _refused(stage, proxy, Request({"Origin": APP}))


def bad_token(stage: Stage, proxy: str) -> Sample:
    """Ask with a token that has expired."""
    return _refused(stage, proxy, Request(authorised(stage.tokens.expired)))


def down_8m(stage: Stage, proxy: str) -> Sample:
    """Fetch a file, over and over on one connection."""
    return _bytes(stage, proxy, "8m", up=False)


def up_8m(stage: Stage, proxy: str) -> Sample:
    """Send a body, over and over on one connection."""
    return _bytes(stage, proxy, "8m", up=True)


def down_1g(stage: Stage, proxy: str) -> Sample:
    """Fetch a large file."""
    return _bytes(stage, proxy, "1g", up=False)


def up_1g(stage: Stage, proxy: str) -> Sample:
    """Send a large body."""
    return _bytes(stage, proxy, "1g", up=True)


def _bytes(stage: Stage, proxy: str, size: str, *, up: bool) -> Sample:
    fields = authorised(stage.tokens.good)
    with ExitStack() as until:
        # Started anew: what earlier rows left in memory would hide how it grows here.
        process = stage.start(PROXIES[proxy], until, f"{proxy}-bytes")
        client = Client(process.port)
        until.callback(client.close)
        client.get("/", fields)
        forget_peak(process.pid)
        memory, spent, began = rss_mib(process.pid), cpu_s(process.pid), time.monotonic()
        for _ in range(REPEATS[size]):
            (_send if up else _fetch)(client, fields, size)
        spent, took = cpu_s(process.pid) - spent, time.monotonic() - began
        grown = peak_mib(process.pid) - memory
    carried = REPEATS[size] * SIZES[size] / MEGA
    return Sample(carried / spent, per_s=carried / took, growth_mib=grown)


def _fetch(client: Client, fields: dict[str, str], size: str) -> None:
    status, length, begun = client.get(f"/bytes/down/{size}", fields)
    if status != 200 or length != SIZES[size]:
        raise BenchError(f"answered {status} with {length} bytes instead of {SIZES[size]}: {begun[:200]!r}")


def _send(client: Client, fields: dict[str, str], size: str) -> None:
    status, _, said = client.post("/bytes/up", fields, SIZES[size])
    if status != 200 or said != b'{"received": %d}' % SIZES[size]:
        raise BenchError(f"answered {status} {said.decode(errors='replace')} to {SIZES[size]} bytes")


def at_rest(stage: Stage, proxy: str) -> Sample:
    """Start anew, answer one request, and rest; the gateway without a store, which has a row of its own."""
    return _memory(stage, proxy, 1, **({"store": {"url": None}} if proxy == "gateway" else {}))


def idle(stage: Stage, proxy: str) -> Sample:
    """Start anew, and keep many connections that rest after one request each."""
    count = min(IDLE_CONNECTIONS, stage.files - SPARE_FILES)
    if count < IDLE_CONNECTIONS:
        stage.notes[f"idle: {count:,} connections, more files may not be opened here"] = None
    return _memory(stage, proxy, count)


def _memory(stage: Stage, proxy: str, connections: int, **changed: Any) -> Sample:
    with ExitStack() as until:
        process = stage.start(PROXIES[proxy], until, f"{proxy}-{connections}", **changed)
        rest = rss_mib(process.pid)
        fields = authorised(stage.tokens.good)
        clients = until.enter_context(idle_connections(process.port, connections, fields))
        time.sleep(IDLE_SETTLES_S)
        closed = sum(not client.is_open() for client in clients)
        if closed:
            raise BenchError(f"{closed} of {connections} connections were closed")
        memory = rss_mib(process.pid)
        return Sample(memory, growth_mib=memory - rest)


def ready(stage: Stage, proxy: str) -> Sample:
    """Start anew, and see what it took until it answered."""
    with ExitStack() as until:
        return Sample(stage.start(PROXIES[proxy], until, f"{proxy}-ready").ready_cpu_s)
