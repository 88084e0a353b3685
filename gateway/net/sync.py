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

from gateway.core.directory import Membership, Row, both_ends, membership_row, organization_row, user_row
from gateway.core.reconcile import (
    SETTLED_MS,
    Place,
    Progress,
    Span,
    Stage,
    is_of,
    is_tie_forgotten,
    lacking,
    step,
)
from gateway.core.verify import KeySet, parse_jwks
from gateway.errors import ClerkApiDown, ClerkApiRefused, StoreDown, SyncRefused
from gateway.net.clerk_api import IDS_AT_ONCE, PAGE, Object, Source
from gateway.net.jwks import KeySource

if TYPE_CHECKING:
    from gateway.store.database import Database

T = TypeVar("T")
Ends = tuple[str | None, str | None]  # an organisation and a user
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


class Answer(NamedTuple):
    """What came of asking for what may be gone."""

    found: Sequence[Object]
    gone: Sequence[Row]
    staying: frozenset[Ends] = frozenset()  # who is a member of what, by another membership


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
        self._counts: list[int] = []  # users, before their list is read and after
        self._source, self._store, self.progress = source, store, progress
        self._holder, self._now, self._on_page, self._limit, self._rest = holder, now, on_page, limit, rest

    async def all(self) -> Progress:
        """Go through what is left. Raises ClerkApiDown, StoreDown, SyncRefused: what is done so far stays done.

        A list of users that ends too early is not found out before its end: `missing` says so.
        """
        if self.progress.stage == "users":
            self._counts.append(await self._source.count_users())
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
            await self._seek_gone(stage, told.span, (*place.tied, *(each["id"] for each in page)))
        if stage == "users" and told.next is None:
            await self._see_whether_all_came(rows, asked_at=asked_at)
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
                answer, place = await self._asked_for(stage, suspects), self.progress.place
                found = [each for each in answer.found if is_of(each, span)]
                again = frozenset(each["id"] for each in found if is_tie_forgotten(each, place))
                rows = await asyncio.to_thread(_made, stage, found, asked_at)
                await self._settle(
                    stage, rows, answer.gone, asked_at=asked_at, place=place, again=again, staying=answer.staying
                )
                here.update(row.id for row in suspects)
            if len(suspects) < SUSPECTS:
                return

    def _doubt(self, stage: Stage, span: Span, suspects: int) -> None:
        """Refuse to bury all there is because a list came empty. Raises ClerkApiDown."""
        if suspects > BELIEVED and span == EVERYTHING and not self._anew:
            detail = f"lists no {stage}, but many are known. Should that be so, run: gateway sync --restart"
            raise ClerkApiDown(detail=detail)

    async def _asked_for(self, stage: Stage, suspects: Sequence[Row]) -> Answer:
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
        return Answer(list(found.values()), gone)

    async def _users(self, suspects: Sequence[Row]) -> list[Object]:
        ids = [row.id for row in suspects]
        found: list[Object] = []
        for start in range(0, len(ids), IDS_AT_ONCE):
            found += await self._source.users_of(ids[start : start + IDS_AT_ONCE])
        return found

    async def _memberships(self, suspects: Sequence[Membership]) -> Answer:
        given: dict[str, Object] = {}
        without: set[str] = set()  # organisations that are gone, and with them their memberships
        for org_id in dict.fromkeys(row.org_id or "" for row in suspects):
            users = list(dict.fromkeys(row.user_id or "" for row in suspects if row.org_id == org_id))
            for start in range(0, len(users), IDS_AT_ONCE):
                members = await self._source.memberships(org_id, user_ids=users[start : start + IDS_AT_ONCE])
                given |= {each["id"]: each for each in members or ()}
                without |= {org_id} if members is None else set()
        # A filter may be heeded wrongly: nothing is buried before a list without one lacks it, too.
        doubted = {row.user_id or "" for row in suspects if row.id not in given and row.org_id not in without}
        for user_id in sorted(doubted):
            given |= {each["id"]: each for each in await self._source.memberships_of(user_id)}
        wanted = {row.id for row in suspects}
        return Answer(
            [each for key, each in given.items() if key in wanted],
            [row for row in suspects if row.id not in given],
            frozenset(both_ends(each) for key, each in given.items() if key not in wanted),
        )

    async def _see_whether_all_came(self, rows: Sequence[Row], *, asked_at: int) -> None:
        """Compare the list of users, at whose end we are, with what Clerk counts."""
        seen = self.progress.of("users").seen + len(rows)
        counts = [*self._counts, await self._source.count_users()]
        if lacking(seen, counts):  # who has just been deleted is still counted on a copy that lags behind
            await self._sleep(SETTLED_MS / 1000)
            counts.append(await self._source.count_users())
        self.progress = replace(self.progress, missing=lacking(seen, counts))

    async def _settle(
        self, stage: Stage, rows: Sequence[Row], gone: Sequence[Row], *, asked_at: int, place: Place | None,
        skipping: bool = False, again: frozenset[str] = frozenset(), staying: frozenset[Ends] = frozenset(),
    ) -> None:  # fmt: skip
        progress = self.progress.at(stage, place)
        if skipping:
            progress = replace(progress, stage=None)
        holder, now = self._holder, self._now()
        if holder is None:
            outcome = await self._store.read(
                lambda database: database.syncing.compare(
                    stage, rows, gone, asked_at=asked_at, started_at=progress.started_at, again=again
                )
            )
            self.progress, changed = progress.counting(stage, outcome.tally), outcome.changed
        else:
            self.progress, changed = await self._store.write(
                lambda database: database.syncing.settle(
                    stage,
                    rows,
                    gone,
                    asked_at=asked_at,
                    progress=progress,
                    holder=holder,
                    now=now,
                    again=again,
                    staying=staying,
                )
            )
        self._on_page(Page(self.progress, changed))


def _made(stage: Stage, objects: Sequence[Object], asked_at: int) -> list[Row]:
    make = MAKERS[stage]
    return [row for each in objects if (row := make(each, at=asked_at)) is not None]


# --- a whole run ------------------------------------------------------------------------------------------------------


async def reconciled(
    source: Source, store: Asking, *, instance: Sequence[str], anew: bool, now: Callable[[], int],
    on_page: Callable[[Page], None], limit: int = PAGE, rest: Callable[[float], Awaitable[None]] = no_rest,
) -> Progress:  # fmt: skip
    """Run from where the last one was broken off, or from the beginning; whoever else tries meanwhile is refused.

    One that lacks users (`missing`) has not come to its end: the next one begins anew.

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
        finished_at = None if done.missing else now()
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


async def instance_of(keys: bytes, known: KeySource | None) -> tuple[str, ...]:
    """Name the instance a secret key is of, by the key set it was given: several names while Clerk changes keys.

    Raises:
        SyncRefused: it is not the instance whose tokens are taken: every user known would count as gone.
    """
    try:
        theirs = parse_jwks(keys)
    except ValueError as error:
        raise ClerkApiDown(detail=f"/jwks: {error}") from None
    if known is not None and not any([await _is_known(theirs, kid, known) for kid in theirs.kids]):
        raise SyncRefused("clerk.secret_key is another instance's than the tokens that are taken")
    if not theirs.kids:
        raise ClerkApiDown(detail="/jwks: names no instance")
    return tuple(sorted(theirs.kids))


async def _is_known(theirs: KeySet, kid: str, known: KeySource) -> bool:
    one, other = theirs.find(kid), await known.fetch_for(kid)
    return one is not None and other is not None and one.public_numbers() == other.public_numbers()
