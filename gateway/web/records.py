"""What the gateway keeps and knows beyond a request: the store, and what is built on it.

Composed apart from `app`, so that what needs the store is opened, exchanged on a reload and closed in one place.
"""

import random
from collections.abc import Callable, Iterable, Sequence

from gateway.core.delivery import Subscription
from gateway.core.directory import User, row_of
from gateway.core.events import Event, WebhookPolicy
from gateway.core.model import StoreAddress
from gateway.core.reconcile import SyncPolicy
from gateway.errors import StoreDown
from gateway.net.clerk_access import ClerkAccess
from gateway.net.delivery import Deliveries
from gateway.net.jwks import KeySource
from gateway.net.tls import Contexts
from gateway.store.base import Replayed
from gateway.store.sql import SqlStore
from gateway.telemetry import Log
from gateway.web.feed import Feed
from gateway.web.people import People
from gateway.web.reconciling import Reconciling


class Records:
    """`open` it with a configuration, once or at each reload, and `start` it; `close` it. `now` in Unix seconds.

    `changed` is told of each user of whom something else is known than before; `clerk` is the caller's.
    """

    def __init__(
        self, log: Log, contexts: Contexts, *, webhooks: Callable[[], WebhookPolicy], now: Callable[[], float],
        changed: Callable[[str], None], clerk: ClerkAccess, sync: Callable[[], SyncPolicy],
        keys: Callable[[], KeySource | None],
    ) -> None:  # fmt: skip
        self._log, self._contexts, self._webhooks, self._now, self._changed = log, contexts, webhooks, now, changed
        self._store: SqlStore | None = None  # once something has to be kept
        self._feed: Feed | None = None
        self._deliveries: Deliveries | None = None
        self._clerk, self._sync, self._keys = clerk, sync, keys
        self._reconciling: Reconciling | None = None
        self._started = False
        self.people: People | None = None

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
        self.people = People(self._store, now=self._now, changed=self._changed, source=self._clerk.get)
        self._feed = Feed(self._store, self.people)
        self._deliveries = Deliveries(
            self._store, self._contexts, on_event=self._log.event, now=self._now,
            rng=random.Random().random,  # noqa: S311  spreads pauses
        )  # fmt: skip
        self._reconciling = Reconciling(
            self._store, self._clerk, policy=self._sync, keys=self._keys, on_event=self._log.event, now=self._now
        )
        if self._started:
            self.start()

    def start(self) -> None:
        """Begin to open the store; requests are served meanwhile. What is opened later starts at once."""
        self._started = True
        if (
            self._store is not None
            and self._feed is not None
            and self._deliveries is not None
            and self._reconciling is not None
        ):
            self._store.start()
            self._feed.start()
            self._deliveries.start()
            self._reconciling.start()

    def deliver(self, subscriptions: Iterable[Subscription]) -> None:
        """Deliver to these from now on."""
        if self._deliveries is not None:
            self._deliveries.use(subscriptions)

    async def replay(self, svix_id: str, upstreams: Sequence[str]) -> Replayed:
        """Deliver a stored webhook to these once more. Raises StoreDown."""
        now = int(self._now() * 1000)
        replayed = await self.store.write(lambda database: database.webhooks.replay(svix_id, upstreams, now=now))
        if self._deliveries is not None:
            self._deliveries.wake()
        return replayed

    def learn(self, event: Event) -> None:
        """Take up at once what a webhook says that has just been stored."""
        row = row_of(event)
        if isinstance(row, User) and self.people is not None:
            self.people.take(row)
        if self._deliveries is not None:
            self._deliveries.stored(event.type)

    async def close(self) -> None:
        """Commit what waits, then close."""
        if self._deliveries is not None:
            await self._deliveries.close()
        if self._reconciling is not None:
            await self._reconciling.close()
        if self._feed is not None:
            await self._feed.close()
        if self.people is not None:
            await self.people.close()
        if self._store is not None:
            await self._store.close()
