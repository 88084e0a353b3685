"""One exchange: a request out on a wire, its answer back to the client, both as streams.

What happens when either side fails is decided here: before the answer's head an error is raised, to be answered; behind
it the client's connection is cut, so that it sees a truncation and never a clean end.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

from gateway.core.headers import Outbound
from gateway.core.routing import Route
from gateway.errors import BadUpstreamResponse, GatewayError, InternalError
from gateway.net.upstreams import Pool
from gateway.net.wire import Sink, Wire

END_OF_HEAD = b"\r\n\r\n"
IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE", "QUERY"})  # RFC 9110 §9.2.2; QUERY: RFC 10008


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

    @property
    def finished(self) -> bool:
        """Whether the client has sent all of it."""

    def admit(self, max_bytes: int) -> None:
        """Take only so many bytes; 0 for any number. Raises BodyTooLarge where the length already tells."""

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


async def forward(pool: Pool, client: Client, outbound: Outbound) -> None:
    """Carry one exchange to its end.

    Raises:
        GatewayError: what to answer; once the head has left, what to cut the client's connection for.
    """
    route, upload = outbound.route, client.upload
    if upload.whole != b"":
        upload.admit(route.max_body_bytes)
    client.endpoint = pool.label
    data = outbound.head + upload.framing + END_OF_HEAD
    if upload.whole:
        data += upload.whole
    began, wire = client.clock(), pool.take()
    try:
        while True:
            wire = wire or await pool.connect(route.connect_s)
            answered = wire.send(
                data, is_head=outbound.method == "HEAD", response_s=route.response_s, upgrade=outbound.upgrade
            )
            pump = None if upload.whole is not None else _start_pump(upload, wire, route)
            try:
                await answered
                if wire.fault is None and wire.status == 101:
                    return await client.switch(wire)
                if wire.fault is None:
                    return await _relay(wire, client, route) if _begin(wire, client) else None
                if not wire.stale:
                    raise wire.fault
            finally:
                client.wire = None
                if pump is not None and not pump.done():
                    wire.keep = False  # the rest of the request would be read as the next one
                    pump.cancel()
                pool.give_back(wire)
                if pump is not None:
                    await asyncio.wait((pump,))
            _check_repeatable(outbound, upload)
            wire = None  # a kept connection that went away before its first byte: once more on a new one
    finally:
        client.upstream_s = client.clock() - began


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


def _check_repeatable(outbound: Outbound, upload: Upload) -> None:
    # RFC 9110 §9.2.2: only idempotent methods may be repeated unasked, and only with their whole body.
    if outbound.method not in IDEMPOTENT or upload.whole is None:
        raise BadUpstreamResponse(detail="the upstream closed the connection it had kept open")


def _start_pump(upload: Upload, wire: Wire, route: Route) -> "asyncio.Task[None]":
    wire.deadline = 0.0  # the upstream's time to answer only begins once it has everything
    return asyncio.get_running_loop().create_task(_pump(upload, wire, route))


async def _pump(upload: Upload, wire: Wire, route: Route) -> None:
    """Send the body on as it comes. A fault ends the exchange through the wire, which its owner is waiting for."""
    try:
        while data := await upload.read():
            wire.write(b"%x\r\n%b\r\n" % (len(data), data) if upload.chunked else data)
            wire.moved()
            if wire.paused:
                await _taken(wire, route)
            if wire.lost:
                return
        if upload.chunked:
            wire.write(b"0\r\n\r\n")
        if not wire.got_head:
            wire.deadline = wire.after(route.response_s)
    except GatewayError as fault:
        wire.fail(fault)
    except OSError as error:
        wire.fail(BadUpstreamResponse(detail=f"client gone: {error}"))
    except Exception as error:  # a fault of our own: whoever waits for the answer must not wait for ever
        wire.fail(InternalError(detail=type(error).__name__))


async def _taken(wire: Wire, route: Route) -> None:
    """Wait while the upstream is slow to read."""
    if not wire.got_head:
        wire.deadline = wire.after(route.idle_s)
    await wire.drained()
    if not wire.got_head:
        wire.deadline = 0.0
