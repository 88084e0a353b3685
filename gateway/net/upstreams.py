"""The upstreams' endpoints and the connections kept open to them."""

import asyncio
import ssl
from collections.abc import Iterable
from functools import cache
from ipaddress import ip_address

from gateway.core.model import Endpoint, Upstream
from gateway.errors import UpstreamRefused, UpstreamTimeout
from gateway.net.deadlines import Deadlines
from gateway.net.wire import Wire

# Node and uvicorn close an idle connection after 5 s; one that is dropped before cannot be lost to that race.
IDLE_S = 4.0


class Pool:
    """Connections to one endpoint; the last one used is the next one taken, so that spare ones grow old and go."""

    __slots__ = ("_deadlines", "_idle", "_open", "_retired", "endpoint", "label", "upstream")

    def __init__(self, endpoint: Endpoint, deadlines: Deadlines, upstream: Upstream | None = None) -> None:
        self.endpoint, self.label, self.upstream = endpoint, endpoint.label, upstream
        self._retired = False
        self._deadlines = deadlines
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
        tls = _tls() if endpoint.tls else None
        wire = Wire(self._deadlines, self._lost)
        try:
            async with asyncio.timeout(within_s):
                await asyncio.get_running_loop().create_connection(lambda: wire, endpoint.host, endpoint.port, ssl=tls)
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

    def _refuse_link_local(self, wire: Wire) -> None:
        # A name that resolves to 169.254.169.254 would hand a cloud's machine credentials to whoever can ask a route.
        peer = wire.transport.get_extra_info("peername") if wire.transport else None
        if peer and is_link_local(peer[0]):
            wire.abort()
            raise UpstreamRefused(detail=f"{self.endpoint.label} is link-local")

    def give_back(self, wire: Wire) -> None:
        """End the wire's exchange and keep the connection if it can serve another one."""
        if not wire.finish(idle_s=IDLE_S):
            return
        if self._retired:
            wire.abort()
        else:
            self._idle.append(wire)

    def _lost(self, wire: Wire) -> None:
        self._open.discard(wire)
        if wire in self._idle:
            self._idle.remove(wire)

    def retire(self) -> None:
        """Drop the connections nobody uses now, and each of the others once its exchange is over."""
        self._retired = True
        idle, self._idle = self._idle, []
        for wire in idle:
            wire.abort()

    @property
    def is_empty(self) -> bool:
        """Whether no connection is left."""
        return not self._open

    def close(self) -> None:
        """Drop every connection."""
        for wire in tuple(self._open):
            wire.abort()
        self._idle.clear()


def is_link_local(address: str) -> bool:
    """Say whether an address is good on its own link only, where clouds keep their metadata (RFC 3927, RFC 4291)."""
    ip = ip_address(address.partition("%")[0])
    return (getattr(ip, "ipv4_mapped", None) or ip).is_link_local


@cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()


class Upstreams:
    """One pool per upstream."""

    __slots__ = ("_deadlines", "_pools", "_retired")

    def __init__(self, deadlines: Deadlines) -> None:
        self._deadlines = deadlines
        self._pools: dict[str, Pool] = {}
        self._retired: list[Pool] = []

    def adopt(self, upstreams: Iterable[Upstream]) -> None:
        """Go over to another configuration's upstreams: the pools of equal ones live on, the rest are retired."""
        wanted = {upstream.name: upstream for upstream in upstreams}
        self._retired = [pool for pool in self._retired if not pool.is_empty]
        for name, pool in tuple(self._pools.items()):
            if pool.upstream == wanted.get(name):
                pool.upstream = wanted[name]
            else:
                del self._pools[name]
                self._retire(pool)

    def _retire(self, pool: Pool) -> None:
        pool.retire()
        self._retired.append(pool)

    def pool(self, upstream: Upstream) -> Pool:
        """Give the pool of the upstream's endpoint."""
        pool = self._pools.get(upstream.name)
        return pool if pool is not None and pool.upstream is upstream else self._other(upstream, pool)

    def _other(self, upstream: Upstream, known: Pool | None) -> Pool:
        if known is not None and known.upstream == upstream:
            return known
        pool = Pool(upstream.endpoint, self._deadlines, upstream)
        if known is None:
            self._pools[upstream.name] = pool
        else:
            # Of a request that began before a reload which changed its upstream: it ends under what it began with.
            self._retire(pool)
        return pool

    def close(self) -> None:
        """Drop every connection to every endpoint."""
        for pool in (*self._pools.values(), *self._retired):
            pool.close()
