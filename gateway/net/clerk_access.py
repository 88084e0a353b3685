"""The clients of Clerk's Backend API that a process has, one for each instance: whoever asks shares its pace."""

from collections.abc import Callable, Mapping, Sequence

import aiohttp

from gateway.core.model import BackendAddress
from gateway.net.clerk_api import ClerkApi
from gateway.net.clerk_client import open_session


class ClerkAccess:
    """Gives the clients for the configuration in force; `close` it. Nothing is connected before somebody asks."""

    def __init__(self, addresses: Callable[[], Mapping[str, BackendAddress]]) -> None:
        self._addresses = addresses  # by the name of the instance
        self._made: dict[BackendAddress, ClerkApi] = {}
        self._session: aiohttp.ClientSession | None = None

    def get(self, name: str | None = None) -> ClerkApi | None:
        """Give the client of an instance, by default the only one's; None without a secret key."""
        addresses = self._addresses()
        if name is None:
            return self._client(next(iter(addresses.values()))) if len(addresses) == 1 else None
        return self._client(addresses[name]) if name in addresses else None

    def all(self) -> tuple[ClerkApi, ...]:
        """Give the clients of all instances that have a secret key."""
        return tuple(map(self._client, self._addresses().values()))

    def _client(self, address: BackendAddress) -> ClerkApi:
        made = self._made.get(address)
        if made is None:
            if self._session is None:
                self._session = open_session()
            in_force = set(self._addresses().values())
            self._made = {old: api for old, api in self._made.items() if old in in_force}
            made = self._made[address] = ClerkApi(address.url, address.secret_key, self._session)
        return made

    async def close(self) -> None:
        """Close what is open."""
        if self._session is not None:
            await self._session.close()


class Enders:
    """The instances a session may be of, whose id does not say it."""

    def __init__(self, apis: Sequence[ClerkApi]) -> None:
        self._apis = apis

    async def revoke_session(self, session_id: str) -> bool:
        """End a session wherever it is; False where there is none. Raises GatewayError."""
        return any([await api.revoke_session(session_id) for api in self._apis])
