"""One exchange: a request out on a wire, its answer back to the client, both as streams; once more where that is safe.

What happens when either side fails is decided here: before the answer's head an error is raised, to be answered; behind
it the client's connection is cut, so that it sees a truncation and never a clean end.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

from gateway.core.balance import invites_retry
from gateway.core.headers import Outbound
from gateway.core.routing import Route
from gateway.errors import (
    BadRequest,
    BadUpstreamResponse,
    GatewayError,
    InternalError,
    NoHealthyEndpoint,
    UpstreamRefused,
    UpstreamTimeout,
)
from gateway.net.pool import Pool
from gateway.net.upstreams import Balancer
from gateway.net.wire import Sink, Wire

END_OF_HEAD = b"\r\n\r\n"

Pump = asyncio.Task[bool]


class ConnectionWentAway(BadUpstreamResponse):
    """A kept connection is gone before an answer began: that says nothing of its endpoint and is worth another try."""


class Answer(Protocol):
    """An answer's head (`net.wire.Wire`).

    `head` and `cors` are ready lines (`b"\\r\\nName: value"`). `length` is the declared Content-Length,
    None if unknown; `complete` says that the body that came with the head is all of it.
    """

    status: int
    reason: bytes
    head: list[bytes]
    cors: list[bytes]
    length: int | None
    complete: bool


class Upload(Protocol):
    """A request's body: `whole` if it is all there, else to be read piece by piece.

    `framing` is its header line, ready for a head: Content-Length, chunked, or b"" for no body.
    """

    framing: bytes
    whole: bytes | None
    chunked: bool
    kept: list[bytes] | None  # what was read, as long as that is little

    @property
    def finished(self) -> bool:
        """Whether the client has sent all of it."""

    @property
    def replayable(self) -> bool:
        """Whether all that was read of it can be sent once more."""

    def admit(self, max_bytes: int, *, keep: bool) -> None:
        """Take only so many bytes; 0 for any number. Raises BodyTooLarge where the length already tells.

        `keep` what is read for another try, up to a bound.
        """

    async def read(self) -> bytes:
        """Give the next piece, b"" at the end. Raises BodyTooLarge, RequestTimeout, BadRequest, ConnectionError."""


class Client(Sink, Protocol):
    """The client's side of an exchange."""

    @property
    def upload(self) -> Upload:
        """The request's body."""

    wire: Wire | None  # whom to hold while the client reads slowly
    endpoint: str
    upstream_s: float
    clock: Callable[[], float]  # seconds, for durations

    def head(self, answer: Answer, body: bytes) -> None:
        """Send the head and what there is of the body."""

    def end(self) -> None:
        """Send the end of the body."""

    async def switch(self, wire: Wire) -> None:
        """Pass on the 101 that has come, then bytes both ways until it is over. Takes the wire's transport away."""


async def forward(balancer: Balancer, client: Client, outbound: Outbound) -> None:
    """Carry one exchange to its end, by one endpoint after the other where that is allowed.

    Raises:
        GatewayError: what to answer; once the head has left, what to cut the client's connection for.
    """
    if client.upload.whole != b"":
        client.upload.admit(outbound.route.max_body_bytes, keep=outbound.repeatable)
    began = client.clock()
    tried: tuple[Pool, ...] = ()
    balancer.budget.requests += 1
    pool = balancer.choose()
    try:
        while (failure := await _attempt(balancer, pool, client, outbound, made=len(tried) + 1)) is not None:
            tried = (*tried, pool)
            pool = await _another(balancer, tried, failure)
    finally:
        client.upstream_s = client.clock() - began


async def _another(balancer: Balancer, tried: tuple[Pool, ...], failure: GatewayError) -> Pool:
    """Choose whom to ask once more; the same endpoint only after a pause. Raises the failure where all are out."""
    try:
        pool = balancer.choose(besides=tried)
    except NoHealthyEndpoint:
        raise failure from None
    if pool in tried and not isinstance(failure, ConnectionWentAway):
        await asyncio.sleep(balancer.pause_s(len(tried)))
    return pool


async def _attempt(
    balancer: Balancer, pool: Pool, client: Client, outbound: Outbound, *, made: int
) -> GatewayError | None:
    """Put the request to one endpoint: None once the exchange is over, a failure where one more try is granted."""
    upload, route, standing = client.upload, outbound.route, pool.standing
    wire = pool.take() if made == 1 else None  # another try is not to be lost to another connection that went away
    pump: Pump | None = None
    client.endpoint = pool.label
    probe = standing.began(balancer.deadlines.now)
    try:
        if wire is None:
            wire = await pool.connect(route.connect_s, anew=made > 1)
        data = outbound.head if balancer.same_host else outbound.head_for(pool.endpoint)
        data += upload.framing + END_OF_HEAD + (upload.whole or b"")
        is_head = outbound.method == "HEAD"
        answered = wire.send(data, is_head=is_head, response_s=route.response_s, upgrade=outbound.upgrade)
        if upload.whole is None:
            pump = _start_pump(upload, wire, route)
        await answered
        if wire.fault is not None:
            raise wire.fault
        if standing.failures:
            balancer.answered(pool)
            probe = False  # it has done its part; there may be another one before this exchange is over
        if wire.status == 503 and invites_retry(wire.head) and _may_repeat(balancer, outbound, upload, made):
            return NoHealthyEndpoint(detail=f"{pool.label} answered 503")
        if wire.status == 101:
            pool.let_go(wire)
            await client.switch(wire)
        elif _begin(wire, client):
            await _relay(wire, client, route)
        return None
    except (UpstreamRefused, UpstreamTimeout, BadUpstreamResponse) as fault:
        return _failure(balancer, pool, wire, fault, outbound, upload, made, pump)
    finally:
        client.wire = None
        standing.ended(probe=probe)
        if pump is not None and wire is not None and not pump.done():
            wire.keep = False  # the rest of the request would be read as the next one
            pump.cancel()
        if wire is not None:
            pool.give_back(wire)
        if pump is not None:
            await asyncio.wait((pump,))


def _failure(
    balancer: Balancer,
    pool: Pool,
    wire: Wire | None,
    fault: GatewayError,
    outbound: Outbound,
    upload: Upload,
    made: int,
    pump: Pump | None,
) -> GatewayError:
    """Judge why an endpoint did not answer, and give that back where one more try is granted; raises it elsewhere."""
    if wire is not None and wire.stale:
        if not (outbound.repeatable and upload.replayable):
            raise fault
        return ConnectionWentAway(detail=fault.detail)
    if wire is not None and wire.got_bytes:
        # Who answers nonsense, or breaks off, is there: a request that always does this to it must not take it away.
        raise fault
    if not (isinstance(fault, BadUpstreamResponse) and _cut_short(pump)):
        balancer.failed(pool, fault)
    hung = wire is not None and isinstance(fault, UpstreamTimeout)
    if hung or not _may_repeat(balancer, outbound, upload, made, sent=wire is not None):
        raise fault
    return fault


def _cut_short(pump: Pump | None) -> bool:
    """Say whether the endpoint went away before it had the whole body.

    That is how many a server refuses one that is too large: whoever sends such must not take it away from all others.
    """
    return pump is not None and not (pump.done() and pump.result())


def _may_repeat(balancer: Balancer, outbound: Outbound, upload: Upload, made: int, *, sent: bool = True) -> bool:
    """Take leave to send the request once more; what was never sent may be repeated whatever its method."""
    return (
        made <= balancer.upstream.retries.attempts
        and (outbound.repeatable or not sent)
        and upload.replayable
        and balancer.budget.spend()
    )


def _begin(wire: Wire, client: Client) -> bool:
    """Send the head and what there is of the body; say whether there is more to come."""
    more, body = not wire.complete, wire.take_body()
    client.wire = wire
    client.head(wire, body)
    return more


async def _relay(wire: Wire, client: Client, route: Route) -> None:
    """Send the rest of the body as it comes."""
    await wire.relay(client, idle_s=route.idle_s)
    if wire.fault is not None:
        raise wire.fault
    client.end()


def _start_pump(upload: Upload, wire: Wire, route: Route) -> Pump:
    wire.deadline = 0.0  # the upstream's time to answer only begins once it has everything
    return asyncio.get_running_loop().create_task(_pump(upload, wire, route))


async def _pump(upload: Upload, wire: Wire, route: Route) -> bool:
    """Send the body on as it comes; say whether all of it was sent.

    A fault ends the exchange through the wire, which its owner is waiting for.
    """
    try:
        for data in upload.kept or ():  # what an endpoint before this one was sent in vain
            wire.write(_piece(upload, data))
        while data := await upload.read():
            wire.write(_piece(upload, data))
            wire.moved()
            if wire.paused:
                await _taken(wire, route)
            if wire.lost:
                return False
        if upload.chunked:
            wire.write(b"0\r\n\r\n")
        if not wire.got_head:
            wire.deadline = wire.after(route.response_s)
        return True
    except GatewayError as fault:
        wire.fail(fault)
    except OSError as error:
        wire.fail(BadRequest("body", detail=f"client gone: {error}"))
    except Exception as error:  # a fault of our own: whoever waits for the answer must not wait for ever
        wire.fail(InternalError(detail=type(error).__name__))
    return False


def _piece(upload: Upload, data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data) if upload.chunked else data


async def _taken(wire: Wire, route: Route) -> None:
    """Wait while the upstream is slow to read."""
    if not wire.got_head:
        wire.deadline = wire.after(route.idle_s)
    await wire.drained()
    if not wire.got_head:
        wire.deadline = 0.0
