"""The upstreams' endpoints and the connections kept open to them."""

import asyncio
import ssl
from functools import cache, partial
from ipaddress import ip_address

from gateway.core.model import Endpoint
from gateway.errors import UpstreamRefused, UpstreamTimeout
from gateway.net.deadlines import Deadlines
from gateway.net.wire import Wire

# Node and uvicorn close an idle connection after 5 s; one that is dropped before cannot be lost to that race.
IDLE_S = 4.0


class Pool:
    """Connections to one endpoint; the last one used is the next one taken, so that spare ones grow old and go."""

    __slots__ = ("_deadlines", "_idle", "_open", "endpoint")

    def __init__(self, endpoint: Endpoint, deadlines: Deadlines) -> None:
        self.endpoint = endpoint
        self._deadlines = deadlines
        self._idle: list[Wire] = []
        self._open: set[Wire] = set()

    def take(self) -> Wire | None:
        """Give an open connection that is free, if there is one."""
        return self._idle.pop() if self._idle else None

    async def connect(self, within_s: float) -> Wire:
        """Open a new connection.

        Raises:
            UpstreamRefused: nobody listens there, its name or certificate is wrong.
            UpstreamTimeout: it took longer than `within_s`.
        """
        endpoint = self.endpoint
        tls = _tls() if endpoint.tls else None
        make = partial(Wire, self._deadlines, self._lost)
        try:
            async with asyncio.timeout(within_s):
                _, wire = await asyncio.get_running_loop().create_connection(
                    make, endpoint.host, endpoint.port, ssl=tls
                )
        except TimeoutError as error:
            raise UpstreamTimeout(detail=f"{endpoint.label}: no connection within {within_s:g} s") from error
        except (OSError, ssl.CertificateError) as error:
            raise UpstreamRefused(detail=f"{endpoint.label}: {error.strerror or error}") from error
        self._refuse_link_local(wire)
        self._open.add(wire)
        return wire

    def _refuse_link_local(self, wire: Wire) -> None:
        # A name that resolves to 169.254.169.254 would hand a cloud's machine credentials to whoever can ask a route.
        peer = wire.transport.get_extra_info("peername") if wire.transport else None
        if peer and ip_address(peer[0].partition("%")[0]).is_link_local:
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


@cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()


class Upstreams:
    """One pool per endpoint."""

    __slots__ = ("_deadlines", "_pools")

    def __init__(self, deadlines: Deadlines) -> None:
        self._deadlines = deadlines
        self._pools: dict[Endpoint, Pool] = {}

    def pool(self, endpoint: Endpoint) -> Pool:
        """Give the endpoint's pool."""
        pool = self._pools.get(endpoint)
        if pool is None:
            pool = self._pools[endpoint] = Pool(endpoint, self._deadlines)
        return pool

    def close(self) -> None:
        """Drop every connection to every endpoint."""
        for pool in self._pools.values():
            pool.close()
