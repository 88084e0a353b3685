"""How many webhooks are accepted: signed beforehand with svix's own package, sent by wrk, looked for in the inbox."""

import itertools
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from svix.webhooks import Webhook

from tests.bench import BenchError
from tests.bench.accounting import cpu_s
from tests.bench.loads import Request, load
from tests.bench.measures import MICRO, Sample
from tests.bench.process import Process, ask
from tests.bench.proxies import PROXIES
from tests.bench.stage import Stage
from tests.bench.stores import count_users, count_webhooks
from tests.fakes.clerk_api import Crowd
from tests.fakes.clerk_events import body

PATH = "/webhooks/clerk"
SECRET = "whsec_c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"  # of the made-up instance
SIGNING = {"webhook_signing_secrets": [SECRET]}
A_SECOND = {"sqlite": 1_000, "postgresql": 2_000}  # sent for each second of a load: twice what has to be accepted
WARM_UP = 200
STORE_UP_S = 10.0
POLL_S = 0.01


def signed(svix_id: str, data: bytes) -> dict[str, str]:
    """Give the header of an attempt to deliver this, made now."""
    now = datetime.fromtimestamp(int(time.time()), UTC)
    signature = Webhook(SECRET).sign(svix_id, now, data.decode())
    timestamp = str(int(now.timestamp()))
    return {"svix-id": svix_id, "svix-timestamp": timestamp, "svix-signature": signature}


def head_of(svix_id: str, data: bytes) -> bytes:
    """Write the head of that attempt."""
    fields = {"Host": "gw", "Content-Type": "application/json", **signed(svix_id, data)}
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"POST {PATH} HTTP/1.1\r\n{lines}Content-Length: {len(data)}\r\n\r\n".encode()


def until_up(process: Process) -> None:
    """Wait until a gateway says that its store works. Raises BenchError."""
    until = time.monotonic() + STORE_UP_S
    while json.loads(ask(process.port, "/readyz")[1])["status"] != "ok":
        if time.monotonic() > until:
            raise BenchError(f"the store does not work after {STORE_UP_S:g} s: {process.log.read_text()[-500:]}")
        time.sleep(POLL_S)


def check_accepts(port: int, svix_id: str, data: bytes) -> None:
    """Check that this webhook is stored, once, and only if it is signed.

    Raises:
        BenchError: it is not so.
    """
    fields = signed(svix_id, data)
    forged = fields | signed(f"{svix_id}-other", data) | {"svix-id": svix_id}
    for sent, status, said in ((forged, 400, "signature"), (fields, 200, "stored"), (fields, 200, "repeated")):
        answered, answer = ask(port, PATH, {"Content-Type": "application/json", **sent}, body=data)
        if answered != status or said not in answer.decode():
            raise BenchError(f"a webhook was answered {answered} {answer[:200]!r} instead of {status} {said}")


def _created(numbers: Iterator[int]) -> Iterator[tuple[str, bytes]]:
    """Give id and body of webhooks, each of a user of its own, as large as Clerk's are."""
    crowd = Crowd(0)
    for number in numbers:
        yield f"msg_{number:027d}", body("user.created", crowd.numbered(number))


@dataclass(frozen=True)
class _Sent:
    """Webhooks in a file, ready to be sent."""

    request: Request
    count: int


def _prepared(path: Path, webhooks: Sequence[tuple[str, bytes]]) -> _Sent:
    path.write_bytes(b"".join(head_of(svix_id, data) + data + b"\0" for svix_id, data in webhooks))
    return _Sent(Request(method="POST", target=PATH, whole=path, once=True), len(webhooks))


def sqlite(stage: Stage, proxy: str) -> Sample:
    """Start anew on an empty SQLite database."""
    return _accepted(stage, proxy, stage.stores.sqlite(f"webhooks-{stage.round}"), a_second=A_SECOND["sqlite"])


def postgresql(stage: Stage, proxy: str) -> Sample:
    """Start anew on an empty PostgreSQL database; its server is with everything else, not on the gateway's core."""
    return _accepted(stage, proxy, stage.stores.postgresql(), a_second=A_SECOND["postgresql"])


def _accepted(stage: Stage, proxy: str, url: str, *, a_second: int) -> Sample:
    created = _created(itertools.count())
    with ExitStack() as until:
        process = stage.start(PROXIES[proxy], until, f"{proxy}-webhooks", clerk=SIGNING, store={"url": url})
        until_up(process)
        check_accepts(process.port, *next(created))
        folder = stage.around.folder
        warm_up = _prepared(folder / "warm-up", list(itertools.islice(created, WARM_UP)))
        counted = _prepared(folder / "webhooks", list(itertools.islice(created, max(1, int(stage.seconds * a_second)))))
        _send(stage, process, warm_up)
        spent = cpu_s(process.pid)
        took = _send(stage, process, counted)
        spent = cpu_s(process.pid) - spent
    check_kept(url, 1 + warm_up.count + counted.count)
    return Sample(MICRO * spent / counted.count, per_s=counted.count / took)


def _send(stage: Stage, process: Process, sent: _Sent) -> float:
    """Send them all; give the seconds it took."""
    answered = load(sent.request, process.port, seconds=stage.seconds, folder=stage.around.folder)
    process.check_alive()
    if answered.refused or answered.requests != sent.count:
        raise BenchError(f"{answered.refused} of {answered.requests} webhooks were refused, {sent.count} were sent")
    return answered.took_s


def check_kept(url: str, count: int) -> None:
    """Check that so many webhooks are in the inbox, and their users in the directory. Raises BenchError."""
    webhooks, users = count_webhooks(url), count_users(url)
    if (webhooks, users) != (count, count):
        raise BenchError(f"{webhooks} webhooks and {users} users are in the store instead of {count}")
