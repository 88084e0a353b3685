"""Connections to one endpoint: those kept open, those in use, and who waits for one where there may be no more."""

import asyncio
import errno
import ssl
from collections import deque
from ipaddress import ip_address

from gateway.core.balance import Standing
from gateway.core.model import Endpoint, Upstream
from gateway.errors import Overloaded, UpstreamRefused, UpstreamTimeout
from gateway.net.deadlines import Deadlines
from gateway.net.resolve import Addresses, is_address
from gateway.net.tls import Contexts, reason_of
from gateway.net.wire import Wire

# Node and uvicorn close an idle connection after 5 s; one that is dropped before cannot be lost to that race.
IDLE_S = 4.0
# This machine's trouble, which says nothing of an endpoint: all would be left alone for it (open(2), socket(2)).
OUR_OWN = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Pool:
    """Connections to one endpoint; the last one used is the next one taken, so that spare ones grow old and go."""

    __slots__ = (
        "_addresses", "_contexts", "_deadlines", "_idle", "_most", "_open", "_places", "_retired", "_tls", "_turn",
        "_waiting", "_waiting_most", "endpoint", "label", "standing",
    )  # fmt: skip

    def __init__(self, endpoint: Endpoint, upstream: Upstream, deadlines: Deadlines, contexts: Contexts) -> None:
        self.endpoint, self.label = endpoint, endpoint.label
        self.standing = Standing(upstream.breaker, endpoint.weight)
        self._deadlines, self._contexts, self._tls = deadlines, contexts, upstream.tls
        self._most, self._waiting_most = upstream.max_connections, upstream.max_pending
        self._idle: list[Wire] = []
        self._open: set[Wire] = set()
        self._places = 0  # connections open, being made, or granted to one who waited
        self._waiting: deque[asyncio.Future[Wire | None]] = deque()
        self._retired = False
        self._turn = 0
        self._addresses = Addresses(
            endpoint.host, endpoint.port, now=lambda: deadlines.now, on_change=self._addresses_changed
        )

    # --- a connection for an exchange --------------------------------------------------------------------------------

    def take(self) -> Wire | None:
        """Give an open connection that is free, if there is one."""
        while self._idle:
            wire = self._idle.pop()
            if wire.keep:  # not one that is closing and about to be `_lost`
                return wire
        return None

    async def connect(self, within_s: float, *, anew: bool = False) -> Wire:
        """Open a new connection; where there may be no more, wait for one, or `anew` for the place of one.

        Raises:
            UpstreamRefused: nobody listens there, its name or certificate is wrong.
            UpstreamTimeout: it took longer than `within_s`.
            Overloaded: too many wait already, no connection became free within `within_s`, or this machine has no room.
        """
        while self._most and self._places >= self._most:
            wire = await self._wait(within_s)
            if wire is None:
                break
            if wire.keep and not anew:
                return wire
            if wire in self._open:  # and not lost since it was granted
                self._open.discard(wire)
                wire.abort()
                break
        else:
            self._places += 1
        try:
            wire = await self._opened(within_s)
        except BaseException:
            self._free_place()
            raise
        if wire.lost:
            self._free_place()
        else:
            self._open.add(wire)
        return wire

    async def open_aside(self, within_s: float) -> Wire:
        """Open a connection that counts as none of the pool's. Raises as `connect`."""
        return await self._opened(within_s)

    async def _wait(self, within_s: float) -> Wire | None:
        """Wait for a connection that becomes free, or (None) for leave to open one."""
        if len(self._waiting) >= self._waiting_most:
            raise Overloaded(detail=f"{self.label}: {self._most} connections in use, {self._waiting_most} waiting")
        granted: asyncio.Future[Wire | None] = asyncio.get_running_loop().create_future()
        self._waiting.append(granted)
        try:
            async with asyncio.timeout(within_s):
                return await granted
        except BaseException as error:
            self._decline(granted)
            if isinstance(error, TimeoutError):
                detail = f"{self.label}: no connection became free within {within_s:g} s"
                raise Overloaded(detail=detail) from None
            raise

    def _decline(self, granted: "asyncio.Future[Wire | None]") -> None:
        """Wait no longer, and pass on what may have been granted in this very moment."""
        if granted in self._waiting:
            self._waiting.remove(granted)
        elif not granted.cancelled() and granted.exception() is None:
            wire = granted.result()
            if wire is None:
                self._free_place()
            else:
                self._keep(wire)

    def _grant(self, wire: Wire | None) -> bool:
        """Give a connection, or the place of one, to whoever waits longest; say whether somebody did."""
        while self._waiting:
            first = self._waiting.popleft()
            if not first.done():
                first.set_result(wire)
                return True
        return False

    def _free_place(self) -> None:
        if not self._grant(None):
            self._places -= 1

    async def _opened(self, within_s: float) -> Wire:
        """Open a connection to the first of the endpoint's addresses that answers, beginning with another each time."""
        try:
            async with asyncio.timeout(within_s):
                addresses = await self._addresses.get()
                return await self._to_one_of(addresses, within_s)
        except TimeoutError as error:
            raise UpstreamTimeout(detail=f"{self.label}: no connection within {within_s:g} s") from error
        except (OSError, UnicodeError) as error:  # the latter for a name that cannot be one
            if isinstance(error, OSError) and error.errno in OUR_OWN:
                raise Overloaded(detail=f"no connection to {self.label}: {error.strerror}") from error
            raise UpstreamRefused(detail=f"{self.label}: {error}") from error

    async def _to_one_of(self, addresses: tuple[str, ...], within_s: float) -> Wire:
        last: Exception | None = None
        for address in self._in_turn(addresses):
            try:
                async with asyncio.timeout(within_s / len(addresses)):
                    return await self._to(address)
            except (TimeoutError, OSError) as error:
                last = error
        assert last is not None
        raise last

    def _in_turn(self, addresses: tuple[str, ...]) -> list[str]:
        """Begin with another address each time, but of the family the system prefers (RFC 6724); the rest comes last.

        `localhost` may be two services, one for each family.
        """
        preferred = [address for address in addresses if (":" in address) == (":" in addresses[0])]
        rest = [address for address in addresses if address not in preferred]
        self._turn = (self._turn + 1) % len(preferred)
        return preferred[self._turn :] + preferred[: self._turn] + rest

    async def _to(self, address: str) -> Wire:
        # A name that resolves to 169.254.169.254 would hand a cloud's machine credentials to whoever can ask a route.
        if is_link_local(address):
            raise UpstreamRefused(detail=f"{self.label} is link-local")
        endpoint, loop = self.endpoint, asyncio.get_running_loop()
        wire = Wire(self._deadlines, self._lost)
        context, name = self._secured()
        try:
            await loop.create_connection(lambda: wire, address, endpoint.port, ssl=context, server_hostname=name)
        except BaseException:
            wire.give_up()
            raise
        return wire

    def _secured(self) -> tuple[ssl.SSLContext | None, str | None]:
        """Give what a connection to the endpoint is secured with, and the name to ask for."""
        if not self.endpoint.tls:
            return None, None
        try:
            return self._contexts.client(self._tls).context, self._tls.server_name or self.endpoint.host
        except OSError as error:  # its files were good when the gateway started
            raise UpstreamRefused(detail=f"{self.label}: {reason_of(error)}") from error

    # --- what becomes of it ------------------------------------------------------------------------------------------

    def give_back(self, wire: Wire) -> None:
        """End the wire's exchange and keep the connection if it can serve another one."""
        if wire.finish(idle_s=IDLE_S):
            self._keep(wire)

    def _keep(self, wire: Wire) -> None:
        if self._retired:
            wire.abort()
        elif not (self._waiting and self._grant(wire)):
            self._idle.append(wire)

    def let_go(self, wire: Wire) -> None:
        """Count a connection no more: it has become a tunnel, which lives as long as its client wants."""
        if wire in self._open:
            self._open.discard(wire)
            self._free_place()

    def _lost(self, wire: Wire) -> None:
        if wire in self._open:
            self._open.discard(wire)
            self._free_place()
        if wire in self._idle:
            self._idle.remove(wire)

    # --- the endpoint's life -----------------------------------------------------------------------------------------

    def refresh_addresses(self) -> None:
        """Look its name up again where it is time: a pool that is busy all the time would never see it change."""
        if self._open and not is_address(self.endpoint.host):
            self._addresses.refresh()

    def _addresses_changed(self, addresses: frozenset[str]) -> None:
        """Use connections to what is no longer the endpoint's address no more."""
        for wire in tuple(self._open):
            peer = wire.transport.get_extra_info("peername") if wire.transport else None
            if peer and peer[0] not in addresses:
                wire.keep = False
                if not wire.busy:
                    wire.abort()

    @property
    def is_open(self) -> bool:
        """Whether any connection is left."""
        return bool(self._open)

    def retire(self) -> None:
        """Keep no connection any more: the endpoint is in use no longer. What runs goes on to its end."""
        self._retired = True
        for wire in tuple(self._idle):
            wire.abort()
        self._idle.clear()

    def close(self) -> None:
        """Drop every connection; who still waits for one waits in vain."""
        self.retire()
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_exception(UpstreamRefused(detail=f"{self.label}: the gateway is stopping"))
        self._addresses.close()
        for wire in tuple(self._open):
            wire.abort()


def is_link_local(address: str) -> bool:
    """Say whether an address is good on its own link only, where clouds keep their metadata (RFC 3927, RFC 4291)."""
    ip = ip_address(address.partition("%")[0])
    return (getattr(ip, "ipv4_mapped", None) or ip).is_link_local
