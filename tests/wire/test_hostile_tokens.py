"""Ten thousand requests that nobody may be let in with, through a running gateway, with good ones among them."""

import asyncio
import socket
import time
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from gateway.config.availability import UNBUILT
from gateway.config.clerk import cookie_suffix
from tests.core.forge import Forge
from tests.core.hostile import APP, Attempt, Place, attempts
from tests.fakes.clerk import FakeClerk, FakeIssuer
from tests.fakes.gateway import Answer, Running, gateway, read_answer
from tests.fakes.upstream import Echo, ScriptedUpstream

COUNT = 10_000
HAS_MACHINES = "routes.*.token" not in {unbuilt.pattern for unbuilt in UNBUILT}
ROUTES = ("rest", "rest", "optional", *(("any",) if HAS_MACHINES else ()))
SHARE = {"uvloop": 1, "asyncio": 5}  # every which one is asked; production runs on uvloop
CONNECTIONS, BATCH = 4, 50
REFUSALS = {400, 401, 403, 431}
CLERK = FakeClerk("https://clerk.example.com", kid="ins_test")
NOW = int(time.time())  # where the gateway's clock stands still
KEY = "pk_live_" + b64encode(b"clerk.example.com$").decode().rstrip("=")


@pytest.fixture(scope="module")
def trap() -> Iterator[socket.socket]:
    """Give a listening socket to which no key set's address in a token may lead anybody."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        yield listening


@pytest.fixture(scope="module")
def crowd(trap: socket.socket) -> list[Attempt]:
    """Give the requests."""
    forge = Forge(CLERK, now=NOW, trap=f"http://127.0.0.1:{trap.getsockname()[1]}/jwks.json")
    return list(attempts(Place(forge, cookie_suffix(KEY)), COUNT, routes=ROUTES))


class Unknown(FakeIssuer):
    """Clerk's API, which knows no token."""

    def __init__(self) -> None:
        super().__init__()
        self.status, self.body = 404, b'{"errors": [{"code": "resource_not_found", "message": "not found"}]}'


def routes() -> list[dict[str, Any]]:
    """Give a route for each of `ROUTES`."""
    route = {"path": "/rest/*", "upstream": "api"}
    more = {"rest": {}, "optional": {"auth": "optional"}, "any": {"token": "any"}}
    return [route | {"name": name, "path": f"/{name}/*"} | more[name] for name in dict.fromkeys(ROUTES)]


def closes(attempt: Attempt) -> bool:
    """Say whether a request may end its connection: nothing stands behind it then."""
    plain = all(byte >= 32 or byte in b"\r\n" for byte in attempt.head)
    return (
        attempt.kind in ("control_characters", "odd_field_name", "too_much") or not plain or b"Upgrade:" in attempt.head
    )


async def ask(running: Running, some: Sequence[Attempt]) -> list[tuple[Attempt, Answer]]:
    """Send requests one behind the other without waiting; those that may end the connection each on their own."""
    pairs = [(attempt, await running.raw(attempt.head)) for attempt in some if closes(attempt)]
    reader, writer = await running.connect()
    kept = [attempt for attempt in some if not closes(attempt)]
    for start in range(0, len(kept), BATCH):
        batch = kept[start : start + BATCH]
        writer.write(b"".join(attempt.head for attempt in batch))
        pairs += [(attempt, await read_answer(reader)) for attempt in batch]
    writer.close()
    return pairs


def told(answer: Answer) -> dict[str, str]:
    """What the upstream was told of a user."""
    fields = answer.json["headers"] if answer.status == 200 else []
    return {name.lower(): value for name, value in fields if name.lower().replace("_", "-").startswith("x-user")}


def fault(attempt: Attempt, answer: Answer) -> str | None:
    """Say what is wrong with an answer."""
    if attempt.user is not None:
        return None if told(answer).get("x-user-id") == attempt.user else "a good one was refused"
    if told(answer):
        return "let in"
    if answer.status == 503 and b" /any/" in attempt.head and answer.json["code"] == "overloaded":
        return None  # an opaque token beyond those that Clerk may be asked about (CONTRACT §2, machine_verify_per_s)
    if answer.status >= 500:
        return "a fault of the gateway's own"
    if answer.status not in REFUSALS and b" /optional/" not in attempt.head:
        return "passed on"
    return None


async def test_ten_thousand_hostile_requests_let_nobody_in(
    crowd: list[Attempt], trap: socket.socket, request: pytest.FixtureRequest
) -> None:
    loop = "uvloop" if "uvloop" in request.node.name else "asyncio"
    some = crowd[:: SHARE[loop]]
    async with FakeIssuer(CLERK) as issuer, Unknown() as api, ScriptedUpstream(Echo()) as upstream:
        clerk = {"publishable_key": KEY, "jwks_url": issuer.jwks_url, "authorized_parties": [APP], "audience": ["api"]}
        clerk |= {"secret_key": "sk_live_abcdefgh", "api_url": api.url}
        async with gateway(upstream.port, clerk=clerk, routes=routes(), cors=None) as running:
            running.clock.seconds = float(NOW)
            shares = [some[number::CONNECTIONS] for number in range(CONNECTIONS)]
            answered = await asyncio.gather(*(ask(running, share) for share in shares))
    pairs = [pair for share in answered for pair in share]
    faults = [
        (why, attempt.kind, attempt.head, answer.status) for attempt, answer in pairs if (why := fault(attempt, answer))
    ]
    assert faults == [], Counter(each[:2] for each in faults)
    assert len(pairs) == len(some)
    assert issuer.requests <= 3  # unknown kids do not make it ask again and again
    assert api.requests <= 20  # machine_verify_per_s, and no second passes
    with pytest.raises(BlockingIOError):
        trap.accept()
