"""What the gateway keeps and knows beyond a request: the store, and what is built on it.

Composed apart from `app`, so that what needs the store is opened, exchanged on a reload and closed in one place.
"""

from collections.abc import Callable

from gateway.core.directory import Row, User, row_of
from gateway.core.events import WebhookPolicy
from gateway.core.model import StoreAddress
from gateway.core.revocation import of_session, of_user, revocations_of
from gateway.errors import StoreDown
from gateway.store.base import Arrival
from gateway.store.sql import SqlStore
from gateway.telemetry import Log
from gateway.web.admin_revoke import Revoked
from gateway.web.feed import Feed
from gateway.web.people import People
from gateway.web.revocations import RevocationFeed, Revocations


class Records:
    """`open` it with a configuration, once or at each reload, and `start` it; `close` it. `now` in Unix seconds.

    `changed` is told of each user of whom something else is known than before.
    """

    def __init__(
        self, log: Log, *, webhooks: Callable[[], WebhookPolicy], now: Callable[[], float],
        changed: Callable[[str], None],
    ) -> None:  # fmt: skip
        self._log, self._webhooks, self._now, self._changed = log, webhooks, now, changed
        self._store: SqlStore | None = None  # once something has to be kept
        self._feed: Feed | None = None
        self._ends: RevocationFeed | None = None
        self._started = False
        self.people: People | None = None
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
        """Have a store from now on, unless there is one already or none is needed."""
        if self._store is not None or address is None:
            return
        self._store = SqlStore(
            address.url, on_event=self._log.event, now=self._now,
            retention_days=lambda: self._webhooks().retention_days,
        )  # fmt: skip
        self.people = People(self._store, now=self._now, changed=self._changed)
        self._feed = Feed(self._store, self.people)
        self._ends = RevocationFeed(self._store, self.revocations, on_event=self._log.event)
        if self._started:
            self.start()

    def start(self) -> None:
        """Begin to open the store; requests are served meanwhile. What is opened later starts at once."""
        self._started = True
        if self._store is not None and self._feed is not None:
            self._store.start()
            self._feed.start()
        if self._ends is not None:
            self._ends.start()

    async def first(self, within_s: float) -> None:
        """Wait for what requests must not be served without, but not for a store that is down."""
        if self._ends is not None:
            await self._ends.first(within_s)
            if not self._ends.is_whole:
                effect = "until the store is up, what was revoked before this start is let through"
                self._log.event("revocations_unknown", level="warning", effect=effect)

    def learn(self, arrival: Arrival) -> None:
        """Take up at once what a webhook says that has just been stored."""
        row = row_of(arrival.event)
        self._end(arrival, row)
        if isinstance(row, User) and self.people is not None:
            self.people.take(row)

    def end(self, arrival: Arrival) -> None:
        """Refuse what a webhook ends that could not be stored."""
        self._end(arrival, row_of(arrival.event))

    def _end(self, arrival: Arrival, row: Row | None) -> None:
        self.revocations.take(revocations_of(arrival.event, row, now_ms=arrival.received_at))

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
        if self._ends is not None:
            await self._ends.close()
        if self.people is not None:
            await self.people.close()
        if self._store is not None:
            await self._store.close()
