"""One run of reconciliation: Clerk's lists, page by page, into the directory. What a page means is `core/reconcile`'s.

Whoever starts it sees to it that it is the only one (`store/syncing`); between pages webhooks have their turn.
"""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, TypeVar

from gateway.core.directory import Membership, Row, membership_row, organization_row, user_row
from gateway.core.reconcile import SETTLED_MS, Place, Progress, Span, Stage, step
from gateway.core.verify import KeySet, parse_jwks
from gateway.errors import ClerkApiDown, ClerkApiRefused, StoreDown, SyncRefused
from gateway.net.clerk_api import IDS_AT_ONCE, PAGE, Object, Source
from gateway.net.jwks import KeySource

if TYPE_CHECKING:
    from gateway.store.database import Database

T = TypeVar("T")
SUSPECTS: Final = 500  # looked for at once
BELIEVED: Final = 100  # gone because a list came empty; what is buried stays so
EVERYTHING: Final = Span(None, None)  # what a list speaks for that came empty
ALIVE_S: Final = 15.0  # between two signs of life; without one for `syncing.LEASE_MS` another may take over
# Clerk's word where an instance has no organisations at all.
WITHOUT_ORGANIZATIONS: Final = "organization_not_enabled_in_instance"
MAKERS: Final[Mapping[Stage, Callable[..., Row | None]]] = {
    "users": user_row, "organizations": organization_row, "memberships": membership_row,
}  # fmt: skip


class Asking(Protocol):
    """How the store is asked (`store.sql.SqlStore`)."""

    async def read(self, what: "Callable[[Database], T]") -> T:
        """Have a thread ask the database."""

    async def write(self, what: "Callable[[Database], T]") -> T:
        """Have the thread that writes do this."""


class Page(NamedTuple):
    """What has been done so far, and what the last page changed: each row as it was and as it is."""

    progress: Progress
    changed: Sequence[tuple[Row | None, Row]]


async def no_rest(worked_s: float) -> None:
    """Go on at once."""


class Run:
    """A run under way; `all` until it is done. `now` in ms.

    With a `holder` it writes, and must hold the lease; without, it only compares. `on_page` is told what each page
    brought, once that is durable. `rest` is awaited after each, with the seconds that was worked on it. Begun
    `anew`, an empty list is believed.
    """

    def __init__(
        self, source: Source, store: Asking, progress: Progress, *, holder: str | None, now: Callable[[], int],
        on_page: Callable[[Page], None] = lambda page: None, limit: int = PAGE,
        rest: Callable[[float], Awaitable[None]] = no_rest, anew: bool = False,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:  # fmt: skip
        self._anew, self._sleep = anew, sleep
        self._source, self._store, self.progress = source, store, progress
        self._holder, self._now, self._on_page, self._limit, self._rest = holder, now, on_page, limit, rest

    async def all(self) -> Progress:
        """Go through what is left. Raises ClerkApiDown, StoreDown, SyncRefused: what is done so far stays done."""
        while (stage := self.progress.stage) is not None:
            try:
                await self._page(stage)
            except ClerkApiRefused as refused:
                if stage == "users" or refused.reason != WITHOUT_ORGANIZATIONS:
                    raise
                await self._settle(stage, [], [], asked_at=self._now(), place=None, skipping=True)
        return self.progress

    # --- a page ------------------------------------------------------------------------------------------------------

    async def _page(self, stage: Stage) -> None:
        asked_at, place = self._now(), self.progress.place
        page = await self._list(stage, place)
        began = time.perf_counter()
        told = step(place, page, by_time=stage == "users", limit=self._limit)
        rows = await asyncio.to_thread(_made, stage, told.fresh, asked_at)
        worked_s = time.perf_counter() - began
        if not told.span.is_empty:
            await self._seek_gone(stage, told.span, [each["id"] for each in page])
        began = time.perf_counter()
        await self._settle(stage, rows, [], asked_at=asked_at, place=told.next)
        await self._rest(worked_s + time.perf_counter() - began)

    async def _list(self, stage: Stage, place: Place) -> Sequence[Object]:
        if stage == "users":
            return await self._source.users(created_after=place.after, offset=place.offset, limit=self._limit)
        if stage == "organizations":
            return await self._source.organizations(offset=place.offset, limit=self._limit)
        return await self._source.memberships(offset=place.offset, limit=self._limit) or []

    async def _seek_gone(self, stage: Stage, span: Span, present: Sequence[str]) -> None:
        """Ask for each one that the page should have had. What is there all the same is looked at like the rest."""
        here, started_at = set(present), self.progress.started_at
        while True:
            suspects, settled_at = await self._store.read(
                lambda database: database.syncing.suspects(stage, span, here, started_at=started_at, limit=SUSPECTS)
            )
            self._doubt(stage, span, len(suspects))
            if suspects:
                await self._sleep(max(0.0, min(settled_at + 1 - self._now(), SETTLED_MS) / 1000))
                asked_at = self._now()
                found, gone = await self._asked_for(stage, suspects)
                rows = await asyncio.to_thread(_made, stage, found, asked_at)
                await self._settle(stage, rows, gone, asked_at=asked_at, place=self.progress.place)
                here.update(row.id for row in suspects)
            if len(suspects) < SUSPECTS:
                return

    def _doubt(self, stage: Stage, span: Span, suspects: int) -> None:
        """Refuse to bury all there is because a list came empty. Raises ClerkApiDown."""
        if suspects > BELIEVED and span == EVERYTHING and not self._anew:
            detail = f"lists no {stage}, but many are known. Should that be so, run: gateway sync --restart"
            raise ClerkApiDown(detail=detail)

    async def _asked_for(self, stage: Stage, suspects: Sequence[Row]) -> tuple[list[Object], list[Row]]:
        """Tell those that Clerk has when asked by id from those it says it does not have."""
        if stage == "memberships":
            return await self._memberships([row for row in suspects if isinstance(row, Membership)])
        found = {each["id"]: each for each in await self._users(suspects)} if stage == "users" else {}
        ask = self._source.user if stage == "users" else self._source.organization
        gone = []
        for row in suspects:
            # A list that lacks somebody may have been asked wrongly; who is gone for Clerk itself is gone.
            each = found.get(row.id) or await ask(row.id)
            if each is None:
                gone.append(row)
            else:
                found[row.id] = each
        return list(found.values()), gone

    async def _users(self, suspects: Sequence[Row]) -> list[Object]:
        ids = [row.id for row in suspects]
        found: list[Object] = []
        for start in range(0, len(ids), IDS_AT_ONCE):
            found += await self._source.users_of(ids[start : start + IDS_AT_ONCE])
        return found

    async def _memberships(self, suspects: Sequence[Membership]) -> tuple[list[Object], list[Row]]:
        found: dict[str, Object] = {}
        for org_id in dict.fromkeys(row.org_id or "" for row in suspects):
            users = list(dict.fromkeys(row.user_id or "" for row in suspects if row.org_id == org_id))
            for start in range(0, len(users), IDS_AT_ONCE):
                some = users[start : start + IDS_AT_ONCE]
                members = await self._source.memberships(org_id, user_ids=some)
                found |= {each["id"]: each for each in members or ()}  # None: the organisation is gone
        return list(found.values()), [row for row in suspects if row.id not in found]

    async def _settle(
        self, stage: Stage, rows: Sequence[Row], gone: Sequence[Row], *, asked_at: int, place: Place | None,
        skipping: bool = False,
    ) -> None:  # fmt: skip
        progress = self.progress.at(stage, place)
        if skipping:
            progress = replace(progress, stage=None)
        holder, now = self._holder, self._now()
        if holder is None:
            outcome = await self._store.read(
                lambda database: database.syncing.compare(
                    stage, rows, gone, asked_at=asked_at, started_at=progress.started_at
                )
            )
            self.progress, changed = progress.counting(stage, outcome.tally), outcome.changed
        else:
            self.progress, changed = await self._store.write(
                lambda database: database.syncing.settle(
                    stage, rows, gone, asked_at=asked_at, progress=progress, holder=holder, now=now
                )
            )
        self._on_page(Page(self.progress, changed))


def _made(stage: Stage, objects: Sequence[Object], asked_at: int) -> list[Row]:
    make = MAKERS[stage]
    return [row for each in objects if (row := make(each, at=asked_at)) is not None]


# --- a whole run ------------------------------------------------------------------------------------------------------


async def reconciled(
    source: Source, store: Asking, *, instance: str | None, anew: bool, now: Callable[[], int],
    on_page: Callable[[Page], None], limit: int = PAGE, rest: Callable[[float], Awaitable[None]] = no_rest,
) -> Progress:  # fmt: skip
    """Run from where the last one was broken off, or from the beginning; whoever else tries meanwhile is refused.

    Raises:
        SyncRefused: another run is under way, or the store is of another instance.
        ClerkApiDown, StoreDown: it was broken off; the next run goes on there.
    """
    holder = secrets.token_hex(8)
    progress = await store.write(
        lambda database: database.syncing.take(holder, instance=instance, now=now(), anew=anew)
    )
    alive = asyncio.get_running_loop().create_task(_stay_alive(store, holder, now))
    finished_at: int | None = None
    try:
        done = await Run(source, store, progress, holder=holder, now=now, on_page=on_page, limit=limit, rest=rest,
                         anew=anew).all()  # fmt: skip
        finished_at = now()
    finally:
        alive.cancel()
        with suppress(asyncio.CancelledError):
            await alive
        with suppress(StoreDown):  # then it runs out
            await store.write(lambda database: database.syncing.release(holder, finished_at=finished_at))
    return done


async def _stay_alive(store: Asking, holder: str, now: Callable[[], int]) -> None:
    """Say so while Clerk makes us wait. That another has taken over, the next page is told."""
    while True:
        await asyncio.sleep(ALIVE_S)
        with suppress(StoreDown, SyncRefused):
            await store.write(lambda database: database.syncing.hold(holder, now=now()))


# --- whose users ------------------------------------------------------------------------------------------------------


async def instance_of(keys: bytes, known: KeySource | None) -> str:
    """Name the instance a secret key is of, by the key set it was given.

    Raises:
        SyncRefused: it is not the instance whose tokens are taken: every user known would count as gone.
    """
    try:
        theirs = parse_jwks(keys)
    except ValueError as error:
        raise ClerkApiDown(detail=f"/jwks: {error}") from None
    if known is not None and not any([await _is_known(theirs, kid, known) for kid in theirs.kids]):
        raise SyncRefused("clerk.secret_key is another instance's than the tokens that are taken")
    named: str | None = min(theirs.kids, default=None)
    if named is None:
        raise ClerkApiDown(detail="/jwks: names no instance")
    return named


async def _is_known(theirs: KeySet, kid: str, known: KeySource) -> bool:
    one, other = theirs.find(kid), await known.fetch_for(kid)
    return one is not None and other is not None and one.public_numbers() == other.public_numbers()
