"""What the gateway keeps and knows beyond a request: the store, and what is built on it.

Composed apart from `app`, so that what needs the store is opened, exchanged on a reload and closed in one place.
"""

from collections.abc import Callable

from gateway.core.directory import row_of
from gateway.core.events import WebhookPolicy
from gateway.core.model import StoreAddress
from gateway.core.revocation import of_session, of_user, revocations_of
from gateway.errors import StoreDown
from gateway.store.base import Arrival
from gateway.store.sql import SqlStore
from gateway.telemetry import Log
from gateway.web.admin_revoke import Revoked
from gateway.web.revocations import Feed, Revocations


class Records:
    """`open` it with a configuration, once or at each reload; `close` it. `now` in Unix seconds."""

    def __init__(self, log: Log, *, webhooks: Callable[[], WebhookPolicy], now: Callable[[], float]) -> None:
        self._log, self._webhooks, self._now = log, webhooks, now
        self._store: SqlStore | None = None  # opened once something has to be kept
        self._feed: Feed | None = None
        self.revocations = Revocations(now=now, on_event=log.event)

    @property
    def is_up(self) -> bool:
        """Whether the store works, as far as is known; where there is none, nothing is missing."""
        return self._store is None or self._store.is_up

    @property
    def store(self) -> SqlStore:
        """The store. Raises StoreDown where there is none."""
        if self._store is None:
            raise StoreDown
        return self._store

    def open(self, address: StoreAddress | None) -> None:
        """Begin to open the store, unless it is open or none is needed; requests are served meanwhile."""
        if self._store is None and address is not None:
            self._store = SqlStore(
                address.url,
                on_event=self._log.event,
                now=self._now,
                retention_days=lambda: self._webhooks().retention_days,
            )
            self._store.start()
            self._feed = Feed(self._store, self.revocations, on_event=self._log.event)
            self._feed.start()

    async def first(self, within_s: float) -> None:
        """Wait for what requests must not be served without, but not for a store that is down."""
        if self._feed is not None:
            await self._feed.first(within_s)
            if not self._feed.is_whole:
                effect = "until the store is up, what was revoked before this start is let through"
                self._log.event("revocations_unknown", level="warning", effect=effect)

    def took(self, arrival: Arrival) -> None:
        """Act on a webhook that has come: what it ends is refused from now on."""
        event, now_ms = arrival.event, arrival.received_at
        self.revocations.take(revocations_of(event, row_of(event), now_ms=now_ms))

    async def revoke(self, *, user: str | None = None, session: str | None = None) -> Revoked:
        """Refuse what this user has got so far, or this session; here at once, everywhere once it is stored."""
        now_ms = int(self._now() * 1000)
        revocation = of_user(user, now_ms=now_ms) if user is not None else of_session(session or "", now_ms=now_ms)
        closed = self.revocations.add(revocation)
        self._log.event("revoked", user=user, session=session, streams_closed=closed)
        try:
            await self.store.write(lambda database: database.revocations.add((revocation,)))
        except StoreDown as down:
            return Revoked(closed, down)
        return Revoked(closed, None)

    async def close(self) -> None:
        """Commit what waits, then close."""
        if self._feed is not None:
            await self._feed.close()
        if self._store is not None:
            await self._store.close()
