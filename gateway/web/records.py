"""What the gateway keeps and knows beyond a request: the store, and what is built on it.

Composed apart from `app`, so that what needs the store is opened, exchanged on a reload and closed in one place.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from gateway.core.delivery import Subscription
from gateway.core.directory import User
from gateway.core.events import WebhookPolicy
from gateway.core.model import StoreAddress
from gateway.core.reconcile import SyncPolicy
from gateway.core.revocation import of_session, of_user, revocations_of
from gateway.errors import StoreDown
from gateway.net.clerk_access import ClerkAccess
from gateway.net.delivery import Deliveries
from gateway.net.jwks import KeySource
from gateway.net.tls import Contexts
from gateway.store.base import Arrival, Replayed
from gateway.store.sql import SqlStore
from gateway.telemetry import Log
from gateway.web.admin_revoke import Revoked
from gateway.web.feed import Feed
from gateway.web.people import People
from gateway.web.reconciling import Reconciling
from gateway.web.revocations import Revocations


class Recorded(Protocol):
    """The gateway, as its records see it (`web.app`): what is in force now."""

    @property
    def webhooks(self) -> WebhookPolicy:
        """What is kept of webhooks, and for how long."""

    @property
    def subscriptions(self) -> tuple[Subscription, ...]:
        """The upstreams that events are delivered to."""

    @property
    def sync(self) -> SyncPolicy:
        """When the directory is reconciled."""

    @property
    def keys(self) -> KeySource | None:
        """The keys that verify tokens; None where none is ever read, or of several instances."""


class Part(Protocol):
    """Something that runs beside requests."""

    def start(self) -> None:
        """Begin."""

    async def close(self) -> None:
        """End it, and what it has under way."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A store and all that is built on it."""

    store: SqlStore
    people: People
    feed: Feed
    deliveries: Deliveries
    reconciling: Reconciling

    @property
    def parts(self) -> tuple[Part, ...]:
        """What runs, in the order in which it starts."""
        return self.store, self.feed, self.deliveries, self.reconciling


class Records:
    """`open` it with a configuration, once or at each reload, and `start` it; `close` it. `now` in Unix seconds.

    `changed` is told of each user of whom something else is known than before.
    """

    def __init__(
        self, gateway: Recorded, log: Log, contexts: Contexts, clerk: ClerkAccess, *, now: Callable[[], float],
        changed: Callable[[str], None],
    ) -> None:  # fmt: skip
        self._gateway, self._log, self._contexts, self._clerk = gateway, log, contexts, clerk
        self._now, self._changed = now, changed
        self._kept: Kept | None = None  # once something has to be kept
        self._started = False
        self.revocations = Revocations(now=now, on_event=log.event)

    @property
    def is_up(self) -> bool:
        """Whether the store works, as far as is known; where there is none, nothing is missing."""
        return self._kept is None or self._kept.store.is_up

    @property
    def store(self) -> SqlStore:
        """The store. Raises StoreDown where there is none."""
        if self._kept is None:
            raise StoreDown
        return self._kept.store

    @property
    def people(self) -> People | None:
        """The users behind requests, None where nobody is kept."""
        return None if self._kept is None else self._kept.people

    def open(self, address: StoreAddress | None) -> None:
        """Have a store from now on, unless there is one already or none is needed."""
        if self._kept is not None or address is None:
            return
        self._kept = self._made(address)
        if self._started:
            self.start()

    def _made(self, address: StoreAddress) -> Kept:
        gateway, on_event, now = self._gateway, self._log.event, self._now
        store = SqlStore(
            address.url, on_event=on_event, now=now, retention_days=lambda: gateway.webhooks.retention_days
        )
        people = People(store, now=now, changed=self._changed, source=self._clerk.get)
        spread = random.Random().random  # noqa: S311  spreads pauses
        return Kept(
            store,
            people,
            Feed(store, people, self.revocations, on_event=on_event),
            Deliveries(store, self._contexts, on_event=on_event, now=now, rng=spread),
            Reconciling(
                store, self._clerk, policy=lambda: gateway.sync, keys=lambda: gateway.keys, on_event=on_event, now=now
            ),
        )

    def start(self) -> None:
        """Begin to open the store; requests are served meanwhile. What is opened later starts at once."""
        self._started = True
        if self._kept is not None:
            for part in self._kept.parts:
                part.start()
        self.follow()

    def follow(self) -> None:
        """Go by what is in force now."""
        if self._kept is not None:
            self._kept.deliveries.use(self._gateway.subscriptions)

    async def first(self, within_s: float) -> None:
        """Wait for what requests must not be served without, but not for a store that is down."""
        if self._kept is not None:
            await self._kept.feed.first(within_s)

    async def close(self) -> None:
        """Commit what waits, then close."""
        if self._kept is not None:
            store, *others = self._kept.parts
            for part in reversed(others):
                await part.close()
            await self._kept.people.close()
            await store.close()

    # --- what webhooks say --------------------------------------------------------------------------------------------

    def learn(self, arrival: Arrival) -> None:
        """Take up at once what a webhook says that has just been stored."""
        self.end(arrival)
        if self._kept is not None:
            if isinstance(arrival.row, User):
                self._kept.people.take(arrival.row)
                if arrival.row.deleted:
                    self._kept.deliveries.erased(arrival.row.id)
            self._kept.deliveries.stored(arrival.event.type)

    def end(self, arrival: Arrival) -> None:
        """Refuse what a webhook ends, be it stored or not."""
        self.revocations.take(revocations_of(arrival.event, arrival.row, now_ms=arrival.received_at))

    # --- what operators want ------------------------------------------------------------------------------------------

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

    async def replay(self, svix_id: str, upstreams: Sequence[str]) -> Replayed:
        """Deliver a stored webhook to these once more. Raises StoreDown."""
        now = int(self._now() * 1000)
        replayed = await self.store.write(lambda database: database.webhooks.replay(svix_id, upstreams, now=now))
        if self._kept is not None:
            self._kept.deliveries.wake()
        return replayed
