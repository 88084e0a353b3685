"""What a Convex client says on its open socket, and what follows: whose the socket is, or that it ends."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from gateway.core.revocation import REASON
from gateway.core.routing import Route
from gateway.errors import Forbidden, GatewayError
from gateway.net.convex import JudgedHalf
from gateway.net.tunnel import Half, Lost, Tunnel
from gateway.web.identify import identify_token
from gateway.web.streams import REVOKED, Ending

if TYPE_CHECKING:
    from gateway.web.listener import Listener
    from gateway.web.sockets import Socket
    from gateway.web.visit import Visit


def client_half(
    visit: "Visit", socket: "Socket", listener: "Listener"
) -> Callable[[Tunnel, asyncio.Transport, Lost], Half]:
    """Give what the client's side of this visit's tunnel is made with: only Convex's clients are read."""
    route = visit.route
    if route is None or not route.upstream.convex or route.upstream.allow_convex_admin:
        return Half
    return partial(JudgedHalf, judge=Binding(visit, route, socket, listener), room=listener.room)


class Binding:
    """Whose one socket is, by its last Authenticate (`net.convex.Judge`)."""

    __slots__ = ("_listener", "_route", "_socket", "_verifying", "_visit")

    def __init__(self, visit: "Visit", route: Route, socket: "Socket", listener: "Listener") -> None:
        self._visit, self._route, self._socket, self._listener = visit, route, socket, listener
        self._verifying: asyncio.Task[None] | None = None

    def authenticate(self, token: bytes | None) -> None:
        """Find out whose token it is. The message has passed: Convex judges for itself."""
        if self._route.auth == "public":
            return  # no credential is read there
        self.gone()
        if token is None:
            self._socket.bind(None)
        else:
            self._verifying = asyncio.get_running_loop().create_task(self._bind(token))

    async def _bind(self, token: bytes) -> None:
        try:
            # A reload may have replaced the configuration since: who is to be believed is today's.
            identified = await identify_token(self._listener.deps, token, self._route)
        except GatewayError as refused:
            if refused.reason == REASON:
                return self._socket.end(REVOKED)  # Convex cannot know, and would serve its owner
            # Not the client's last word: Convex tells it too, and it comes back with a fresh token.
            return self._socket.bind(None)
        self._visit.identified = identified  # for the access line
        return self._socket.bind(identified.principal)

    def refuse(self, code: int, reason: bytes) -> None:
        """Close both sides."""
        self.gone()
        self._socket.end(Ending(code, reason, Forbidden.code, reason.decode()))

    def gone(self) -> None:
        """Stop finding out."""
        if self._verifying is not None:
            self._verifying.cancel()
            self._verifying = None
