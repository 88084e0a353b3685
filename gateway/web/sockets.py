"""WebSockets: from the upstream's 101 to an open tunnel, and whose tunnels are open, so that they can be ended."""

import asyncio
from collections.abc import Callable
from socket import SO_KEEPALIVE, SOL_SOCKET
from typing import TYPE_CHECKING

from aiohttp.streams import EMPTY_PAYLOAD

from gateway.core.model import Principal
from gateway.core.upgrade import answer_lines, check_accepted
from gateway.errors import BadUpstreamResponse
from gateway.net.convex import Room
from gateway.net.deadlines import Deadlines
from gateway.net.tunnel import Half, Lost, Tunnel
from gateway.net.wire import Wire
from gateway.web import respond
from gateway.web.convex import client_half
from gateway.web.upload import Upload

if TYPE_CHECKING:
    from gateway.web.connection import Connection
    from gateway.web.visit import Visit

GOING_AWAY = 1001, b"going away"  # RFC 6455 §7.4.1
REVOKED = 4401, b"session-revoked"  # CONTRACT §4


class Sockets:
    """The open tunnels and who is behind each."""

    __slots__ = ("_deadlines", "_open", "_random_bits", "room")

    def __init__(self, deadlines: Deadlines, random_bits: Callable[[int], int]) -> None:
        self._deadlines, self._random_bits = deadlines, random_bits
        self._open: dict[Tunnel, Principal | None] = {}
        self.room = Room(deadlines)

    def __len__(self) -> int:
        return len(self._open)

    def open(
        self, client: tuple[asyncio.Transport, Lost], upstream: tuple[asyncio.Transport, Lost],
        principal: Principal | None, client_half: Callable[[Tunnel, asyncio.Transport, Lost], Half] = Half,
    ) -> Tunnel:  # fmt: skip
        """Make a tunnel between two transports, known until both are gone."""
        tunnel = Tunnel(self._deadlines, client, upstream, self._forget, client_half)
        self._open[tunnel] = principal
        return tunnel

    def bind(self, tunnel: Tunnel, principal: Principal | None) -> None:
        """Note whose an open tunnel is from now on; None: nobody's."""
        if tunnel in self._open:
            self._open[tunnel] = principal

    def _forget(self, tunnel: Tunnel) -> None:
        self._open.pop(tunnel, None)

    def revoke(self, *, user: str | None = None, session: str | None = None, org: str | None = None) -> int:
        """Close the sockets of whoever fits everything that is given, and say how many; nothing given fits nobody."""
        wanted = (user, session, org)
        if wanted == (None, None, None):
            return 0
        ending = [tunnel for tunnel, principal in self._open.items() if principal and _fits(principal, wanted)]
        for tunnel in ending:
            self.end(tunnel, *REVOKED)
        return len(ending)

    def end_all(self, code: int, reason: bytes) -> None:
        """Close every socket."""
        for tunnel in tuple(self._open):
            self.end(tunnel, code, reason)

    def end(self, tunnel: Tunnel, code: int, reason: bytes) -> None:
        """Close one."""
        tunnel.end(code, reason, mask=self._random_bits(32).to_bytes(4, "big"))

    def cut_all(self) -> None:
        """Drop every one at once."""
        for tunnel in tuple(self._open):
            tunnel.expire()


def _fits(principal: Principal, wanted: tuple[str | None, ...]) -> bool:
    having = (principal.user_id, principal.session_id, principal.org_id)
    return all(want is None or want == have for want, have in zip(wanted, having, strict=True))


async def carry(visit: "Visit", connection: "Connection", wire: Wire) -> None:
    """Pass on the upstream's 101, then bytes both ways until the client is gone.

    Raises:
        BadUpstreamResponse: the 101 does not belong to this handshake, or its sender has left already.
    """
    inbound, listener = visit.inbound, connection.listener
    assert inbound is not None
    seen = inbound.header.seen
    check_accepted(seen["sec-websocket-key"], wire.head)
    if wire.transport is None or wire.transport.is_closing():
        raise BadUpstreamResponse(detail="connection closed behind the 101")
    if connection.transport is None:
        raise ConnectionResetError
    lines = answer_lines(seen.get("sec-websocket-protocol"), wire.head)
    head = respond.forwarded(wire, b"", visit.request_id, visit.forwarded_cors(), b"", lines)
    visit.answered, visit.status = True, wire.status
    tunnel = listener.sockets.open(
        (connection.transport, connection.connection_lost), (_taken_from(wire), wire.connection_lost),
        visit.identified.principal if visit.identified else None, client_half(visit, listener),
    )  # fmt: skip
    early = connection.hand_over(tunnel.client)
    tunnel.upstream.transport.set_protocol(tunnel.upstream)
    tunnel.start(head, early=early, behind=wire.take_body())
    if listener.draining:
        listener.sockets.end(tunnel, *GOING_AWAY)
    try:
        await asyncio.get_running_loop().create_future()  # `connection_lost` cancels it, and us
    finally:
        visit.bytes_out += len(head) + tunnel.upstream.bytes
        visit.upload = Upload(EMPTY_PAYLOAD, visit, length=None, chunked=False)
        visit.upload.received = tunnel.client.bytes


def _taken_from(wire: Wire) -> asyncio.Transport:
    """Take a wire's transport away: from now on neither its deadline nor its pool ends it."""
    transport, wire.transport = wire.transport, None
    assert transport is not None
    # No time-out ends a tunnel, so the system must find out when the upstream's machine is gone; for the client's side
    # aiohttp asks for that.
    if (socket := transport.get_extra_info("socket")) is not None:
        socket.setsockopt(SOL_SOCKET, SO_KEEPALIVE, 1)
    return transport
