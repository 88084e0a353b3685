"""The upstreams' endpoints and the connections kept open to them."""

import asyncio
import ssl
from ipaddress import ip_address

from gateway.core.model import Endpoint, Upstream, UpstreamTls
from gateway.errors import UpstreamRefused, UpstreamTimeout
from gateway.net.deadlines import Deadlines
from gateway.net.tls import Contexts, reason_of
from gateway.net.wire import Wire

# Node and uvicorn close an idle connection after 5 s; one that is dropped before cannot be lost to that race.
IDLE_S = 4.0


class Pool:
    """Connections to one endpoint; the last one used is the next one taken, so that spare ones grow old and go."""

    __slots__ = ("_contexts", "_deadlines", "_idle", "_open", "_tls", "endpoint", "label")

    def __init__(self, endpoint: Endpoint, deadlines: Deadlines, contexts: Contexts, tls: UpstreamTls) -> None:
        self.endpoint, self.label = endpoint, endpoint.label
        self._deadlines, self._contexts, self._tls = deadlines, contexts, tls
        self._idle: list[Wire] = []
        self._open: set[Wire] = set()

    def take(self) -> Wire | None:
        """Give an open connection that is free, if there is one."""
        while self._idle:
            wire = self._idle.pop()
            if wire.keep:  # not one that is closing and about to be `_lost`
                return wire
        return None

    async def connect(self, within_s: float) -> Wire:
        """Open a new connection.

        Raises:
            UpstreamRefused: nobody listens there, its name or certificate is wrong.
            UpstreamTimeout: it took longer than `within_s`.
        """
        endpoint = self.endpoint
        wire = Wire(self._deadlines, self._lost)
        context, name = self._secured()
        try:
            async with asyncio.timeout(within_s):
                await asyncio.get_running_loop().create_connection(
                    lambda: wire, endpoint.host, endpoint.port, ssl=context, server_hostname=name
                )
        except TimeoutError as error:
            wire.give_up()
            raise UpstreamTimeout(detail=f"{endpoint.label}: no connection within {within_s:g} s") from error
        except (OSError, UnicodeError) as error:  # the latter for a name that cannot be one
            raise UpstreamRefused(detail=f"{endpoint.label}: {error}") from error
        except asyncio.CancelledError:
            wire.give_up()
            raise
        self._refuse_link_local(wire)
        if not wire.lost:
            self._open.add(wire)
        return wire

    def _secured(self) -> tuple[ssl.SSLContext | None, str | None]:
        """Give what a connection to the endpoint is secured with, and the name to ask for."""
        if not self.endpoint.tls:
            return None, None
        try:
            return self._contexts.client(self._tls).context, self._tls.server_name or self.endpoint.host
        except OSError as error:  # its files were good when the gateway started
            raise UpstreamRefused(detail=f"{self.label}: {reason_of(error)}") from error

    def _refuse_link_local(self, wire: Wire) -> None:
        # A name that resolves to 169.254.169.254 would hand a cloud's machine credentials to whoever can ask a route.
        peer = wire.transport.get_extra_info("peername") if wire.transport else None
        if peer and is_link_local(peer[0]):
            wire.abort()
            raise UpstreamRefused(detail=f"{self.endpoint.label} is link-local")

    def give_back(self, wire: Wire) -> None:
        """End the wire's exchange and keep the connection if it can serve another one."""
        if wire.finish(idle_s=IDLE_S):
            self._idle.append(wire)

    def _lost(self, wire: Wire) -> None:
        self._open.discard(wire)
        if wire in self._idle:
            self._idle.remove(wire)

    def close(self) -> None:
        """Drop every connection."""
        for wire in tuple(self._open):
            wire.abort()
        self._idle.clear()


def is_link_local(address: str) -> bool:
    """Say whether an address is good on its own link only, where clouds keep their metadata (RFC 3927, RFC 4291)."""
    ip = ip_address(address.partition("%")[0])
    return (getattr(ip, "ipv4_mapped", None) or ip).is_link_local


class Upstreams:
    """One pool per upstream."""

    __slots__ = ("_contexts", "_deadlines", "_pools")

    def __init__(self, deadlines: Deadlines, contexts: Contexts) -> None:
        self._deadlines, self._contexts = deadlines, contexts
        self._pools: dict[str, Pool] = {}

    def pool(self, upstream: Upstream) -> Pool:
        """Give the pool of the upstream's endpoint."""
        pool = self._pools.get(upstream.name)
        if pool is None:
            pool = self._pools[upstream.name] = Pool(upstream.endpoint, self._deadlines, self._contexts, upstream.tls)
        return pool

    def close(self) -> None:
        """Drop every connection to every endpoint."""
        for pool in self._pools.values():
            pool.close()
