"""A WebSocket: from the upstream's 101 to an open tunnel, and how the gateway ends one."""

import asyncio
from socket import SO_KEEPALIVE, SOL_SOCKET
from typing import TYPE_CHECKING

from aiohttp.streams import EMPTY_PAYLOAD

from gateway.core.model import Principal
from gateway.core.routing import Route
from gateway.core.upgrade import answer_lines, check_accepted
from gateway.errors import BadUpstreamResponse
from gateway.net.tunnel import Tunnel
from gateway.net.wire import Wire
from gateway.web import respond
from gateway.web.convex import client_half
from gateway.web.streams import Ending, Stream
from gateway.web.upload import Upload

if TYPE_CHECKING:
    from gateway.web.connection import Connection
    from gateway.web.visit import Visit


class Socket:
    """An open WebSocket, `streams.Carried`; known until both its sides are gone."""

    __slots__ = ("_connection", "_principal", "_stream", "_visit", "tunnel")

    endless = True

    def __init__(self, visit: "Visit", connection: "Connection", wire: Wire) -> None:
        assert connection.transport is not None
        self._visit, self._connection = visit, connection
        self._stream: Stream | None = None  # once it is open
        self._principal = visit.principal
        self.tunnel = Tunnel(
            connection.listener.deadlines, (connection.transport, connection.connection_lost),
            (_taken_from(wire), wire.connection_lost), self._over, client_half(visit, self, connection.listener),
        )  # fmt: skip

    def open(self, head: bytes, *, behind: bytes) -> None:
        """Send the 101's head and pass on from now on; `behind` it the upstream has said something already."""
        visit, tunnel, listener = self._visit, self.tunnel, self._connection.listener
        early = self._connection.hand_over(tunnel.client)
        tunnel.upstream.transport.set_protocol(tunnel.upstream)
        tunnel.start(head, early=early, behind=behind)
        assert visit.route is not None
        self._stream = listener.streams.open(self, self._principal, max_age_s=visit.route.stream_max_age_s)

    @property
    def presented(self) -> tuple[bytes, Route] | None:
        """The token in `Authorization` that it was opened with, and the route."""
        return self._visit.presented

    def bind(self, principal: Principal | None) -> None:
        """Belong to this one from now on; None: to nobody."""
        self._principal = principal
        if self._stream is not None:
            self._connection.listener.streams.bind(self._stream, principal)

    def end(self, ending: Ending) -> None:
        """End it now, open or still opening."""
        if self._stream is None:
            self.break_off(ending)
        else:
            self._stream.end(ending)

    def _over(self, _tunnel: Tunnel) -> None:
        if self._stream is not None:
            self._connection.listener.streams.close(self._stream)

    def break_off(self, ending: Ending) -> None:
        """Say goodbye to both sides with a Close frame."""
        self._visit.note(ending)
        mask = self._connection.listener.deps.random_bits(32).to_bytes(4, "big")
        self.tunnel.end(ending.close_code, ending.words, mask=mask)

    def cut(self, ending: Ending) -> None:
        """Drop both connections."""
        self._visit.note(ending)
        self.tunnel.expire()


async def carry(visit: "Visit", connection: "Connection", wire: Wire) -> None:
    """Pass on the upstream's 101, then bytes both ways until the client is gone.

    Raises:
        BadUpstreamResponse: the 101 does not belong to this handshake, or its sender has left already.
    """
    inbound = visit.inbound
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
    socket = Socket(visit, connection, wire)
    socket.open(head, behind=wire.take_body())
    tunnel = socket.tunnel
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
