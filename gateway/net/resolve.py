"""Host names to addresses: looked up once for many connections, again every few seconds, kept through an outage."""

import asyncio
import socket
from collections.abc import Callable
from ipaddress import ip_address

LIFE_S = 10.0  # a lookup tells nothing of a record's own lifetime; containers and their names change within seconds


class Addresses:
    """The addresses of one host; `of` an address is that address.

    `on_change` is told when a lookup brings other addresses than the last one.
    """

    __slots__ = ("_host", "_looked_at", "_lookup", "_now", "_on_change", "_port", "known")

    def __init__(
        self, host: str, port: int, *, now: Callable[[], float], on_change: Callable[[frozenset[str]], None]
    ) -> None:
        self._host, self._port, self._now, self._on_change = host, port, now, on_change
        self.known: tuple[str, ...] = (host,) if is_address(host) else ()
        self._looked_at = float("inf") if self.known else float("-inf")
        self._lookup: asyncio.Task[None] | None = None

    async def get(self) -> tuple[str, ...]:
        """Give the addresses, best first; waits only where none were ever had.

        Raises:
            OSError: there are none and they cannot be had.
            UnicodeError: the name cannot be one.
        """
        self.refresh()
        lookup = self._lookup
        if not self.known and lookup is not None:
            # asyncio.wait, unlike await, does not cancel the lookup that others wait for too.
            await asyncio.wait((lookup,))
            if not self.known:
                lookup.result()
        return self.known

    def refresh(self) -> None:
        """Look again in the background, where it is time."""
        now = self._now()
        if now - self._looked_at < LIFE_S or (self._lookup is not None and not self._lookup.done()):
            return
        if self.known:
            self._looked_at = now
        self._lookup = asyncio.get_running_loop().create_task(self._look())
        self._lookup.add_done_callback(_retrieve)

    async def _look(self) -> None:
        found = await asyncio.get_running_loop().getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        addresses = tuple(dict.fromkeys(str(where[0]) for *_, where in found))
        if not addresses:
            raise OSError("the name has no address")
        self._looked_at = self._now()
        if set(addresses) != set(self.known):
            known_before, self.known = self.known, addresses
            if known_before:
                self._on_change(frozenset(addresses))

    def close(self) -> None:
        """End a lookup under way."""
        if self._lookup is not None:
            self._lookup.cancel()


def _retrieve(lookup: "asyncio.Task[None]") -> None:
    """Look at what became of a lookup nobody may have waited for; what was known before stays in force."""
    if not lookup.cancelled():
        lookup.exception()


def is_address(host: str) -> bool:
    """Say whether a host is an address already."""
    try:
        ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True
