"""Reconciliation by the running gateway, every so many hours: what `gateway sync` does, slowly and in the background.

When the last run ended is kept in the store, so that neither a restart nor a second gateway runs it anew.
"""

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from typing import Final

from gateway.core.reconcile import Progress, SyncPolicy
from gateway.errors import ClerkApiDown, ClerkApiRefused, KeysUnavailable, StoreDown, SyncRefused, SyncUnderway
from gateway.net.clerk_access import ClerkAccess
from gateway.net.clerk_api import ClerkApi
from gateway.net.jwks import KeySource
from gateway.net.sync import instance_of, reconciled
from gateway.store.sql import OnEvent, SqlStore

LOOK_S: Final = 30.0
RETRY_S: Final = 600.0  # after one that failed, doubled
RETRY_MOST_S: Final = 6 * 3600.0
JITTER: Final = 0.1  # of the hours, later: many gateways do not ask Clerk at once
PAGE: Final = 100  # users: reading more at once would hold up requests
REST: Final = 4.0  # times as long as a page took: four fifths of this process and of the store's writer are others'
HOUR_MS: Final = 3_600_000


class Reconciling:
    """Looks whether a run is due, and runs it; `start` it, `close` it. `now` in Unix seconds."""

    def __init__(
        self, store: SqlStore, clerk: ClerkAccess, *, policy: Callable[[], SyncPolicy],
        keys: Callable[[], KeySource | None], on_event: OnEvent, now: Callable[[], float],
        chance: Callable[[], float] = random.random,
    ) -> None:  # fmt: skip
        self._store, self._clerk, self._policy, self._keys = store, clerk, policy, keys
        self._on_event, self._now, self._later = on_event, now, 1 + JITTER * chance()
        self._not_before = 0.0
        self._failures = 0
        self._looking: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look."""
        self._looking = asyncio.get_running_loop().create_task(self._look_on())

    async def close(self) -> None:
        """Break off what runs; another gateway, or this one when it is back, goes on from there."""
        if self._looking is not None:
            self._looking.cancel()
            with suppress(asyncio.CancelledError):
                await self._looking

    async def _look_on(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                await self.look()
            except Exception as error:  # a fault of our own: it is tried again
                self._put_off()
                self._on_event("sync_failed", level="error", exc_info=error)

    async def look(self) -> None:
        """Run if it is time."""
        every_h, api = self._policy().every_h, self._clerk.get()
        if not every_h or api is None or self._now() < self._not_before:
            return
        try:
            last = await self._store.write(lambda database: database.syncing.last(now=self._now_ms()))
            if self._now_ms() < last + every_h * HOUR_MS * self._later:
                return
            await self._run(api)
        except SyncUnderway as refused:  # which does as well, unless it is broken off
            self._not_before = self._now() + RETRY_S
            self._on_event("sync_refused", detail=str(refused))
        except SyncRefused as refused:
            self._put_off()
            self._on_event("sync_refused", detail=str(refused))
        except (ClerkApiDown, KeysUnavailable, StoreDown) as down:
            self._put_off()
            remedy = "check clerk.secret_key" if isinstance(down, ClerkApiRefused) else None
            self._on_event("sync_failed", level="warning", why=down.code, detail=down.detail, remedy=remedy,
                           retry_in_s=round(self._not_before - self._now()))  # fmt: skip

    async def _run(self, api: ClerkApi) -> None:
        self._on_event("sync_started")
        instance = await instance_of(await api.keys(), self._keys())
        done = await reconciled(
            api, self._store, instance=instance, anew=False, now=self._now_ms, on_page=lambda page: None, limit=PAGE,
            rest=_rest,
        )  # fmt: skip
        counts = asdict(done.total) | {"took_s": _took_s(done, self._now_ms())}
        if done.missing:
            self._put_off()
            self._on_event("sync_incomplete", level="warning", missing=done.missing, **counts,
                           retry_in_s=round(self._not_before - self._now()))  # fmt: skip
            return
        self._failures = 0
        self._on_event("sync_done", **counts)

    def _put_off(self) -> None:
        self._not_before = self._now() + min(RETRY_S * 2**self._failures, RETRY_MOST_S)
        self._failures += 1

    def _now_ms(self) -> int:
        return int(self._now() * 1000)


async def _rest(worked_s: float) -> None:
    await asyncio.sleep(worked_s * REST)


def _took_s(done: Progress, now_ms: int) -> int:
    return (now_ms - done.started_at) // 1000
