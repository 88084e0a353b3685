"""The users behind requests: those seen lately, kept in memory, and how one nobody has seen gets into the directory.

Only the first request of a user whom this process does not know asks the store, and it waits for that no longer than
`WAIT_S`: what it then does not know is the token's to say. Webhooks and other processes' changes come in by `take`.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

import orjson

from gateway.core.directory import User, claims_row, fold, is_provisional, user_row
from gateway.core.model import Principal
from gateway.errors import GatewayError, StoreDown
from gateway.store.base import Directory

WAIT_S: Final = 0.1
MOST: Final = 20_000  # users in memory,
MOST_BYTES: Final = 32 * 1_048_576  # all together
ROW_BYTES: Final = 1200  # of a user with everything but metadata
MOST_ASKED: Final = 256  # users looked up at the same time; with more, the store is too slow to wait for
MOST_FETCHED: Final = 100  # from Clerk, waiting or under way: the rest is left to webhooks
FETCHED_AT_ONCE: Final = 4
ASKED_CLERK: Final = 10_000  # remembered not to be asked about again
REST_S: Final = 30.0  # Clerk is not asked by everybody who comes, one after the other, while it cannot be asked


class Source(Protocol):
    """Clerk's Backend API, as far as it is asked about one user (`net.clerk_api`)."""

    async def user(self, user_id: str) -> Mapping[str, Any] | None:
        """Give Clerk's user object, None where there is none. Raises GatewayError where Clerk cannot be asked."""


class People:
    """The users this process knows; `changed` is told of each of whom something else is known than before."""

    def __init__(
        self, directory: Directory, *, now: Callable[[], float], changed: Callable[[str], None],
        source: Callable[[str], Source | None] = lambda _issuer: None, wait_s: float = WAIT_S,
    ) -> None:  # fmt: skip
        self._wait_s = wait_s
        self._directory, self._now, self._changed, self._source = directory, now, changed, source
        self._known: OrderedDict[str, tuple[User, int]] = OrderedDict()  # with its size; the last asked for is last
        self._bytes = 0
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._news: dict[str, User] = {}  # what was learnt of those who are being asked about
        self._fetching: set[asyncio.Task[None]] = set()
        self._fetched: OrderedDict[str, None] = OrderedDict()
        self._fetches = asyncio.Semaphore(FETCHED_AT_ONCE)
        self._rest_until = 0.0  # Unix seconds
        self._pasts = 0  # how often all was forgotten

    def __len__(self) -> int:
        return len(self._known)

    def get(self, user_id: str | None) -> User | None:
        """Give what is known of a user without asking anybody."""
        entry = self._known.get(user_id) if user_id is not None else None
        return entry[0] if entry is not None else None

    # --- a request's user ---------------------------------------------------------------------------------------------

    async def meet(self, principal: Principal) -> bool:
        """See that a verified user is known here and in the directory; False where that took too long."""
        user_id = principal.user_id
        if user_id is None:
            return True
        entry = self._known.get(user_id)
        if entry is not None:
            self._known.move_to_end(user_id)
            if is_provisional(entry[0]):  # there was no room to ask, or Clerk could not be asked
                self._fetch(user_id, principal.issuer)
            return True
        asking = self._asking.get(user_id)
        if asking is None:
            if len(self._asking) >= MOST_ASKED:
                return False
            asking = asyncio.get_running_loop().create_task(self._ask(user_id, principal))
            self._asking[user_id] = asking
        # It goes on alone, and its failure is not the request's.
        await asyncio.wait((asking,), timeout=self._wait_s)
        return user_id in self._known

    async def _ask(self, user_id: str, principal: Principal) -> None:
        """Look a user up, write one down who is not there, and know the result."""
        try:
            past = -1
            while past != self._pasts:  # what was read in between may be of another directory
                past = self._pasts
                row = await self._looked_up(user_id, principal)
        except StoreDown:
            return
        finally:
            news = self._news.pop(user_id, None)
            del self._asking[user_id]
        if row is not None:
            self._keep(row if news is None else fold(row, news))
            self._changed(user_id)  # whoever could not wait was served without

    async def _looked_up(self, user_id: str, principal: Principal) -> User | None:
        known = await self._directory.user(user_id)
        # A machine token's claims are whatever its maker wrote, and its user need not be there any more: only what
        # Clerk says of him is written down.
        said = claims_row(user_id, principal.claims) if not principal.is_machine else None
        if known is None and said is None:
            self._fetch(user_id, principal.issuer)
        if said is not None and (known is None or known.version < said.version):
            await self._directory.merge([said], now=self._now_ms())
            known = fold(known, said)
        if known is not None and is_provisional(known):
            self._fetch(user_id, principal.issuer)
        return known

    # --- what is learnt -----------------------------------------------------------------------------------------------

    def take(self, user: User) -> None:
        """Learn what a webhook says, or another process: at once, for whoever is known here."""
        if user.id in self._asking:
            self._news[user.id] = fold(self._news.get(user.id), user)
        entry = self._known.get(user.id)
        if entry is not None and user.version > entry[0].version:
            self._keep(user)
        if entry is None or user.version > entry[0].version:
            self._changed(user.id)

    def notice(self, user_id: str, version: bytes) -> bool:
        """Learn that a user has changed; say whether it is one who is known here otherwise, and has to be read."""
        entry = self._known.get(user_id)
        if entry is None and user_id not in self._asking:
            self._changed(user_id)
            return False
        return entry is None or entry[0].version < version

    def forget_all(self) -> None:
        """Know nobody any more: the directory is another one than before."""
        self._pasts += 1
        for user_id in tuple(self._known):
            self._drop(user_id)
            self._changed(user_id)

    def _keep(self, user: User) -> None:
        self._drop(user.id)
        size = ROW_BYTES + 4 * len(orjson.dumps(user.public_metadata))  # objects take that much more than their text
        self._known[user.id] = (user, size)
        self._bytes += size
        while len(self._known) > MOST or (self._bytes > MOST_BYTES and len(self._known) > 1):
            self._drop(next(iter(self._known)))

    def _drop(self, user_id: str) -> None:
        entry = self._known.pop(user_id, None)
        if entry is not None:
            self._bytes -= entry[1]

    # --- what the token did not say -----------------------------------------------------------------------------------

    def _fetch(self, user_id: str, issuer: str) -> None:
        """Have their Clerk instance asked about a user, once, in the background."""
        source = self._source(issuer)
        if source is None or user_id in self._fetched or len(self._fetching) >= MOST_FETCHED:
            return
        if self._now() < self._rest_until:
            return
        self._fetched[user_id] = None
        if len(self._fetched) > ASKED_CLERK:
            self._fetched.popitem(last=False)
        task = asyncio.get_running_loop().create_task(self._fetch_from(source, user_id))
        self._fetching.add(task)
        task.add_done_callback(self._fetching.discard)

    async def _fetch_from(self, source: Source, user_id: str) -> None:
        async with self._fetches:
            try:
                found = await source.user(user_id)
                user = user_row(found, at=0) if found is not None else None
                if user is None or user.id != user_id:
                    return
                await self._directory.merge([user], now=self._now_ms())
            except GatewayError:
                self._fetched.pop(user_id, None)  # asked again when the user is met again
                self._rest_until = self._now() + REST_S
                return
        self.take(user)

    def _now_ms(self) -> int:
        return int(self._now() * 1000)

    async def close(self) -> None:
        """Stop asking."""
        tasks = [*self._asking.values(), *self._fetching]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
