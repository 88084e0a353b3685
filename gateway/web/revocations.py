"""What is revoked, as this process knows it: asked once per verified token and once per stream, never per request.

`Revocations` is the memory; `RevocationFeed` brings in what earlier runs left in the store and other processes add.
"""

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from gateway.core.model import Principal
from gateway.core.revocation import Revocation, is_issued_by
from gateway.errors import StoreDown
from gateway.store.sql import OnEvent, SqlStore

if TYPE_CHECKING:
    from gateway.store.database import Database

# Of each kind. Of sessions, which are most, a day's worth is kept, and their tokens live a minute: what has to go first
# has been void in all but name for long.
MOST: Final = 200_000
POLL_S: Final = 1.0

K = TypeVar("K")
_NOTHING: Final = (None, None, None, None)


class Entries(Generic[K]):
    """Revocations of one kind, by whom they concern: up to when issued, and until when that counts (ms).

    `find` gives what there is under a key.
    """

    __slots__ = ("_entries", "_most", "find")

    def __init__(self, most: int) -> None:
        self._entries: dict[K, tuple[int, int]] = {}
        self._most = most
        self.find = self._entries.get

    def __len__(self) -> int:
        return len(self._entries)

    def refuse(self, key: K, revocation: Revocation, *, now_ms: int) -> bool:
        """Add one; False where it says nothing new, or nothing any more."""
        if revocation.until <= now_ms:
            return False
        before, until = self._entries.get(key, (0, 0))
        if revocation.before <= before and revocation.until <= until:
            return False
        self._entries.pop(key, None)  # it is the last in line to go
        self._entries[key] = max(revocation.before, before), max(revocation.until, until)
        return True

    def make_room(self) -> bool:
        """Forget the oldest where there are too many; say whether there were."""
        if len(self._entries) <= self._most:
            return False
        del self._entries[next(iter(self._entries))]
        return True

    def sweep(self, now_ms: int) -> None:
        """Forget what is void. In one kind all live equally long, so it is found in front."""
        while self._entries:
            first = next(iter(self._entries))
            if now_ms < self._entries[first][1]:
                return
            del self._entries[first]


class Revocations:
    """What is revoked. `now` in Unix seconds; `when_ended` is told of each, and gives how many streams that ended."""

    def __init__(self, *, now: Callable[[], float], on_event: OnEvent, most: int = MOST) -> None:
        self._now, self._on_event, self._most = now, on_event, most
        self._users: Entries[str | None] = Entries(most)
        self._sessions: Entries[str | None] = Entries(most)
        self._orgs: Entries[str | None] = Entries(most)
        self._memberships: Entries[tuple[str | None, str | None]] = Entries(most)
        self._told_full = False
        self.when_ended: Callable[[Revocation], int] = lambda _revocation: 0

    def __len__(self) -> int:
        return len(self._users) + len(self._sessions) + len(self._orgs) + len(self._memberships)

    def is_revoked(self, principal: Principal) -> bool:
        """Say whether a token is refused although it is good in itself."""
        user, org = principal.user_id, principal.org_id
        found = (
            self._sessions.find(principal.session_id), self._users.find(user), self._orgs.find(org),
            self._memberships.find((user, org)),
        )  # fmt: skip
        if found == _NOTHING:
            return False
        now_ms = self._now_ms()
        return any(each is not None and is_issued_by(each[0], principal) and now_ms < each[1] for each in found)

    def add(self, revocation: Revocation) -> int:
        """Refuse from now on what it says, and say how many streams that ended."""
        if not self._refuse(revocation):
            return 0
        return self.when_ended(revocation)

    def take(self, revocations: Iterable[Revocation]) -> None:
        """Add several."""
        for each in revocations:
            self.add(each)

    def sweep(self) -> None:
        """Forget what is void."""
        now_ms = self._now_ms()
        for entries in (self._users, self._sessions, self._orgs, self._memberships):
            entries.sweep(now_ms)

    def _refuse(self, revocation: Revocation) -> bool:
        user, session, org = revocation.user, revocation.session, revocation.org
        if session is not None:
            return self._add_to(self._sessions, session, revocation)
        if user is not None and org is not None:
            return self._add_to(self._memberships, (user, org), revocation)
        if user is not None:
            return self._add_to(self._users, user, revocation)
        return org is not None and self._add_to(self._orgs, org, revocation)

    def _add_to(self, entries: Entries[K], key: K, revocation: Revocation) -> bool:
        is_new = entries.refuse(key, revocation, now_ms=self._now_ms())
        if entries.make_room() and not self._told_full:
            self._told_full = True
            self._on_event(
                "revocations_full", level="warning", limit=self._most,
                effect="the oldest are forgotten: a token that outlives so many later ones is let through again",
            )  # fmt: skip
        return is_new

    def _now_ms(self) -> int:
        return int(self._now() * 1000)


class RevocationFeed:
    """Brings what the store has to `Revocations`: all of it first, then once a second what came since. `close` it."""

    def __init__(self, store: SqlStore, revocations: Revocations, *, on_event: OnEvent) -> None:
        self._store, self._revocations, self._on_event = store, revocations, on_event
        self._database: Database | None = None
        self._change = 0  # the last one known of what is in that database
        self._tried = asyncio.Event()
        self._running: asyncio.Task[None] | None = None
        self.is_whole = False  # whether all of it has been brought
        self._waited_for = False  # and requests are served meanwhile

    def start(self) -> None:
        """Begin."""
        self._running = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        """Stop."""
        if self._running is not None:
            self._running.cancel()
            with suppress(asyncio.CancelledError):
                await self._running

    async def first(self, within_s: float) -> None:
        """Return once all is known, or cannot be now; at the latest after so many seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._tried.wait()
        if not self.is_whole and not self._store.is_new:
            self._waited_for = True
            effect = "still waiting for the store: until it answers, what was revoked before this start is let through"
            self._on_event("revocations_unknown", level="warning", effect=effect)

    async def _run(self) -> None:
        await self._store.looked.wait()
        while True:
            try:
                await self.catch_up()
            except StoreDown:
                pass  # the store says so itself; what is known stays known
            except Exception as error:  # a fault of our own must not end this for good
                self._on_event("revocations_failed", level="error", exc_info=error)
            self._tried.set()
            await asyncio.sleep(POLL_S)

    async def catch_up(self) -> None:
        """Bring what is new. Raises StoreDown."""
        while found := await self._store.read(self._read):
            self._revocations.take(revocation for _, revocation in found)
            self._change = found[-1][0]
        self.is_whole = True
        if self._waited_for:
            self._waited_for = False
            self._on_event("revocations_known", effect="what was revoked before this start is refused")

    def _read(self, database: "Database") -> tuple[tuple[int, Revocation], ...]:
        # One that was opened anew may be another one, a backup put in its place: its numbers begin where they like.
        if database is not self._database:
            self._database, self._change = database, 0
        return database.revocations.since(self._change)
