"""What the gateway keeps and knows beyond a request: the store, and what is built on it.

Composed apart from `app`, so that what needs the store is opened, exchanged on a reload and closed in one place.
"""

import random
from collections.abc import Callable, Iterable

from gateway.core.delivery import Subscription
from gateway.core.events import WebhookPolicy
from gateway.core.model import StoreAddress
from gateway.errors import StoreDown
from gateway.net.delivery import Deliveries
from gateway.net.tls import Contexts
from gateway.store.base import Arrival
from gateway.store.sql import SqlStore
from gateway.telemetry import Log


class Records:
    """`open` it with a configuration, once or at each reload; `close` it. `now` in Unix seconds."""

    def __init__(
        self, log: Log, contexts: Contexts, *, webhooks: Callable[[], WebhookPolicy], now: Callable[[], float]
    ) -> None:
        self._log, self._contexts, self._webhooks, self._now = log, contexts, webhooks, now
        self._store: SqlStore | None = None  # opened once something has to be kept
        self._deliveries: Deliveries | None = None  # as soon as the store

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

    def open(self, address: StoreAddress | None, subscriptions: Iterable[Subscription] = ()) -> None:
        """Begin to open the store, unless it is open or none is needed; requests are served meanwhile.

        What comes in is delivered to these from now on.
        """
        if self._store is None and address is not None:
            self._store = SqlStore(
                address.url,
                on_event=self._log.event,
                now=self._now,
                retention_days=lambda: self._webhooks().retention_days,
            )
            self._store.start()
            self._deliveries = Deliveries(
                self._store, self._contexts, on_event=self._log.event, now=self._now,
                rng=random.Random().random,  # noqa: S311  spreads pauses
            )  # fmt: skip
            self._deliveries.start()
        if self._deliveries is not None:
            self._deliveries.use(subscriptions)

    def arrived(self, arrival: Arrival) -> None:
        """Take it that a webhook that is new has been stored."""
        if self._deliveries is not None and arrival.upstreams:
            self._deliveries.wake()

    async def close(self) -> None:
        """Commit what waits, then close."""
        if self._deliveries is not None:
            await self._deliveries.close()
        if self._store is not None:
            await self._store.close()
