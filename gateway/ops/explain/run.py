"""A request through the gateway's own stages, up to where it would be sent on; there it ends.

The stages, the keys, the store and the configuration are those of a running gateway. What is missing is what only that
one knows: how much of a rate is spent, and which endpoints are up.
"""

import random
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple, cast

from gateway.config import Config
from gateway.core.frontend_api import FrontendApiProxy
from gateway.core.headers import Outbound
from gateway.core.model import Identified, Inbound, Upstream
from gateway.core.routing import Route
from gateway.errors import GatewayError, InternalError
from gateway.net.exchange import Answer, Client
from gateway.net.upstreams import Balancer, Upstreams
from gateway.net.wire import Wire
from gateway.ops.explain.records import Records, open_records
from gateway.ops.explain.request import Asked, Received, receive
from gateway.ops.explain.signing import PassingAssertions
from gateway.web.deps import Deps
from gateway.web.generation import Generations
from gateway.web.pipeline import handle
from gateway.web.rates import MemoryBuckets
from gateway.web.upload import NO_UPLOAD, NOBODY_WAITS, Upload, upload_of

FIRST_KEYS_S: Final = 5.0


@dataclass
class Told:
    """Keeps what would have been logged, with when it was (Unix seconds)."""

    now: Callable[[], float]
    events: list[tuple[float, str, dict[str, Any]]] = field(default_factory=list)

    def event(self, event: str, *, level: str = "info", **fields: Any) -> None:
        """Keep an event."""
        self.events.append((self.now(), event, {"level": level, **fields}))

    def last(self, event: str, **wanted: Any) -> tuple[float, dict[str, Any]] | None:
        """Give the last event of a name that says all of this."""
        for at, name, fields in reversed(self.events):
            if name == event and wanted.items() <= fields.items():
                return at, fields
        return None


class _NoUpstreams:
    """Nobody is ever connected to from here."""

    def adopt(self, upstreams: Iterable[Upstream]) -> Mapping[str, Balancer]:
        return {upstream.name: cast("Balancer", None) for upstream in upstreams}


class Witness:
    """The `pipeline.Visitor` that sends nothing and keeps what the stages found out."""

    spare = False
    request_id = b"-"
    route: Route | None = None
    proxy: FrontendApiProxy | None = None
    identified: Identified | None = None
    upload: Upload = NO_UPLOAD
    wire: Wire | None = None
    endpoint = ""
    upstream_s = 0.0
    is_own = False
    preflight: bytes | None = None  # the fields of its answer
    outbound: Outbound | None = None

    added = b""  # fields of the answer
    changed: Inbound | None = None  # what goes on instead
    raw_fields: Sequence[tuple[bytes, bytes]] = ()

    def __init__(self) -> None:
        self.clock = time.perf_counter

    async def serve_own(self) -> None:
        """Note that the gateway itself answers."""
        self.is_own = True

    def answer_preflight(self, fields: bytes) -> None:
        """Note a preflight's answer."""
        self.preflight = fields

    def check_upgrade(self) -> None:
        """Take any upgrade: nothing is draining here."""

    def head(self, answer: Answer, body: bytes) -> None:
        """Never asked: nothing is forwarded."""
        raise NotImplementedError

    def body(self, data: bytes) -> None:
        """Never asked."""
        raise NotImplementedError

    def end(self) -> None:
        """Never asked."""
        raise NotImplementedError

    async def switch(self, wire: Wire) -> None:
        """Never asked."""
        raise NotImplementedError


async def _only_look(_balancer: Balancer, client: Client, outbound: Outbound) -> None:
    """Stand in for `net.exchange.forward`: what is refused before anything is sent is refused here too."""
    if client.upload.whole != b"":
        client.upload.admit(outbound.route.max_body_bytes, keep=False)  # 413
    cast("Witness", client).outbound = outbound


class Stage(NamedTuple):
    """What a request is carried through, what was logged on the way, and what is known of users."""

    deps: Deps
    told: Told
    records: Records


def _unasking(config: Config) -> Config:
    """Have Clerk asked for no session: a refresh or a handshake's nonce is good once, and is the page's own."""
    return replace(config, issuers=tuple(replace(issuer, backend=None) for issuer in config.issuers))


@asynccontextmanager
async def stage(config: Config, *, now: Callable[[], float]) -> AsyncIterator[Stage]:
    """Give what the stages need, as a gateway that has just started has it, with its keys fetched."""
    told = Told(now)
    records = await open_records(config, now=now, on_event=told.event)
    generations = Generations(
        cast("Upstreams", _NoUpstreams()), MemoryBuckets(time.monotonic), told, revoked=records.revoked,
        assertions=PassingAssertions(told.event, now=now), now=now, monotonic=time.monotonic, first_keys_s=FIRST_KEYS_S,
    )  # fmt: skip
    try:
        generation = await generations.first(_unasking(config), records.people)
        bits = random.Random().getrandbits(192)  # noqa: S311  no secret
        deps = replace(generation.deps, forward=_only_look, random_bits=lambda count: bits % 2**count)
        yield Stage(deps, told, records)
    finally:
        await generations.close()
        if records.people is not None:
            await records.people.close()
        records.close()


@dataclass(frozen=True)
class Course:
    """What became of a request: refused by `error`, or one of the endings that `witness` knows."""

    asked: Asked
    config: Config
    deps: Deps
    told: Told
    records: Records
    now: float  # Unix seconds
    witness: Witness
    received: Received | None  # None: it could not be read
    error: GatewayError | None

    @property
    def inbound(self) -> Inbound | None:
        """The request as the stages saw it."""
        return None if self.received is None else self.received.inbound


async def carry(asked: Asked, config: Config, given: Stage) -> Course:
    """Carry a request as far as it gets."""
    witness, received, error = Witness(), None, None
    now = given.deps.now()
    deps = replace(given.deps, now=lambda: now)  # the story is told of the same moment
    try:
        received = receive(asked, config, deps.fields)
        witness.raw_fields = received.message.raw_headers
        witness.upload = upload_of(received.inbound, received.message, received.payload, NOBODY_WAITS)
        await handle(deps, witness, received.inbound)
    except GatewayError as refused:
        error = refused
    except Exception as fault:  # as `web.connection` answers whatever is wrong
        error = InternalError(detail=type(fault).__name__)
    return Course(asked, config, deps, given.told, given.records, now, witness, received, error)
