"""The one client of Clerk's Backend API that a process has: whoever asks shares its pace."""

from collections.abc import Callable

import aiohttp

from gateway.core.model import BackendAddress
from gateway.net.clerk_api import ClerkApi
from gateway.net.clerk_client import open_session


class ClerkAccess:
    """Gives the client for the configuration in force; `close` it. Nothing is connected before somebody asks."""

    def __init__(self, address: Callable[[], BackendAddress | None]) -> None:
        self._address = address
        self._made: tuple[BackendAddress, ClerkApi] | None = None
        self._session: aiohttp.ClientSession | None = None

    def get(self) -> ClerkApi | None:
        """Give the client; None without a secret key."""
        address = self._address()
        if address is None:
            return None
        if self._made is None or self._made[0] != address:
            if self._session is None:
                self._session = open_session()
            self._made = address, ClerkApi(address.url, address.secret_key, self._session)
        return self._made[1]

    async def close(self) -> None:
        """Close what is open."""
        if self._session is not None:
            await self._session.close()
