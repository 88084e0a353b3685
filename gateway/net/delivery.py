"""Deliver what the store has waiting, a few at a time to each upstream, so that none waits for another.

What is due, in which order, is the store's; what an answer means is `core/delivery`'s; how it is sent is `sender`'s.
One task talks to the store, with many outcomes and claims in one commit; attempts have tasks of their own.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from gateway.core.delivery import DEAD, DONE, ERASED, WAITING, Answer, Subscription, Verdict, is_wanted, judge
from gateway.errors import StoreDown
from gateway.net.outlet import Held, Outlet
from gateway.net.sender import Sender
from gateway.net.tls import Contexts
from gateway.store.base import Claimed, Settled
from gateway.store.sql import OnEvent, SqlStore

if TYPE_CHECKING:
    from gateway.store.database import Database

AT_ONCE: Final = 8  # attempts at one upstream
LEFT_S: Final = (
    20.0  # of a lease when an attempt begins: it is over, after 15 s, before another process may make it too
)
TURN_S: Final = 0.02  # between two commits: webhooks that come in need the writer as well
LOOK_S: Final = 2.0  # between two looks for what has become due, or was stored by another process
DOWN_S: Final = 0.5  # between two looks at a store that is down: it says so at once
EXPIRE_S: Final = 3600.0
FRESH_S: Final = 1.0  # after which it is asked whether what was claimed may still be sent: its user may be deleted
FAREWELL_S: Final = 2.0  # for what is under way when stopping
TOLD: Final = {WAITING: ("delivery_failed", "warning"), DEAD: ("delivery_dead", "error"), DONE: ("delivered", "debug")}


class Deliveries:
    """`use` what is subscribed to, `start` it, `close` it. `now` in Unix seconds, `rng` gives 0 to 1."""

    def __init__(
        self, store: SqlStore, contexts: Contexts, *, on_event: OnEvent, now: Callable[[], float],
        rng: Callable[[], float],
    ) -> None:  # fmt: skip
        self._store, self._on_event, self._now, self._rng = store, on_event, now, rng
        self._sender = Sender(contexts, now=now)
        self._outlets: dict[str, Outlet] = {}
        self._under_way: dict[asyncio.Task[None], Claimed] = {}
        self._looking: set[asyncio.Task[None]] = set()
        self._settled: list[Settled] = []
        self._given_back: list[Claimed] = []
        self._news, self._stopping = asyncio.Event(), asyncio.Event()
        self._expired = 0  # since it was told last
        self._looked_after_at = (
            now()
        )  # not at once: a configuration that lacks an upstream may be a mistake of the moment
        self._running: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to deliver."""
        self._running = asyncio.get_running_loop().create_task(self._run())

    def use(self, subscriptions: Iterable[Subscription]) -> None:
        """Deliver to these from now on; what is under way to others comes to its end."""
        before, self._outlets = self._outlets, {}
        for subscription in subscriptions:
            outlet = before.pop(subscription.name, None) or Outlet(subscription)
            outlet.subscription = subscription
            self._outlets[subscription.name] = outlet
        for outlet in before.values():
            self._give_back(outlet)
        self.wake()

    def stored(self, kind: str) -> None:
        """Take it that an event of this type has just been stored."""
        if any(is_wanted(outlet.subscription.events, kind) for outlet in self._outlets.values()):
            self.wake()

    def erased(self, user_id: str) -> None:
        """Take it that a user's payloads have just been erased: what was not begun is claimed anew, without them."""
        for outlet in self._outlets.values():
            theirs = [held for held in outlet.queue if held.claimed.lane == user_id]
            for held in theirs:
                outlet.queue.remove(held)
                self._return(held.claimed)

    def wake(self) -> None:
        """Look at once whether something is due."""
        self._news.set()

    async def close(self) -> None:
        """Let what is under way finish, for a moment, and leave the rest to the next start."""
        self._stopping.set()
        self.use(())
        if self._running is not None:
            # Not in the midst of a commit: what it claims has to be given back.
            await asyncio.wait((self._running,), timeout=FAREWELL_S)
            self._running.cancel()
            with suppress(asyncio.CancelledError):
                await self._running
        for looking in tuple(self._looking):
            looking.cancel()
        await asyncio.gather(*self._looking, return_exceptions=True)
        tasks = dict(self._under_way)
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=FAREWELL_S)
            self._given_back += [tasks[task] for task in late]
            for task in late:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        with suppress(StoreDown):
            if self._settled or self._given_back:
                await self._turn(room={})
        await self._sender.close()

    def _give_back(self, outlet: Outlet) -> None:
        self._given_back += [held.claimed for held in outlet.queue]
        outlet.queue.clear()

    def _return(self, claimed: Claimed) -> None:
        self._given_back.append(claimed)
        self.wake()

    # --- with the store ----------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                await self._work()
            except StoreDown:
                await _within(DOWN_S, self._stopping)  # outcomes are kept meanwhile
            except Exception as error:  # a fault of our own must not end deliveries for good
                self._on_event("deliveries_failed", level="error", exc_info=error)
                await _within(LOOK_S, self._stopping)

    async def _work(self) -> None:
        """Take a turn if there is something to write or to claim, then wait for news."""
        if self._news.is_set() or await self._is_due():
            self._news.clear()
            room = {name: outlet.room for name, outlet in self._outlets.items() if outlet.room}
            try:
                claims = await self._turn(room=room)
            except BaseException:
                self.wake()
                raise
            self._take(claims)
            await asyncio.sleep(TURN_S)
        self._knock()
        await self._revive()
        await self._look_after()
        if not self._stopping.is_set():
            await _within(LOOK_S if self._outlets else EXPIRE_S, self._news)

    async def _turn(self, *, room: Mapping[str, int]) -> list[Claimed]:
        """Write down what became of attempts, and claim more, in one commit."""
        now = int(self._now() * 1000)
        settled, given_back = tuple(self._settled), tuple(self._given_back)
        claims = await self._store.write(
            lambda database: database.deliveries.turn(settled, given_back=given_back, room=room, now=now)
        )
        del self._settled[: len(settled)], self._given_back[: len(given_back)]
        return claims

    async def _revive(self) -> None:
        """Let what waits for an upstream that is back be due, some at a time: webhooks need the writer as well."""
        now = int(self._now() * 1000)
        for name in [name for name, outlet in self._outlets.items() if outlet.is_back]:
            more = await self._store.write(partial(_revive, upstream=name, now=now))
            if not more and name in self._outlets:
                self._outlets[name].is_back = False
            self.wake()

    async def _is_due(self) -> bool:
        names = [name for name, outlet in self._outlets.items() if outlet.room]
        now = int(self._now() * 1000)
        return bool(names) and await self._store.read(lambda database: database.deliveries.is_due(names, now=now))

    async def _look_after(self) -> None:
        """Every hour, and when the clock was put back: find what was left behind, give up what nobody wants."""
        # When stopping nothing is served any more, and that is no reason.
        if abs(self._now() - self._looked_after_at) < EXPIRE_S or self._stopping.is_set():
            return
        names, now = tuple(self._outlets), int(self._now() * 1000)
        await self._store.write(lambda database: database.deliveries.set_right(now=now))
        expired = await self._store.write(lambda database: database.deliveries.expire(names, now=now))
        if expired:  # some at a time: what others get must not wait for it
            self._expired += expired
            self.wake()
            return
        self._looked_after_at = self._now()
        if self._expired:
            why = "what they were for has not been configured for days"
            self._on_event("deliveries_expired", level="warning", count=self._expired, why=why)
            self._expired = 0

    # --- with upstreams ----------------------------------------------------------------------------------------------

    def _take(self, claims: Iterable[Claimed]) -> None:
        for claimed in claims:
            outlet = self._outlets.get(claimed.upstream)
            if outlet is None:  # a reload has come between
                self._given_back.append(claimed)
            elif claimed.payload is None:
                self._give_up(claimed)
            else:
                # Counted from when it was claimed: the commit may have taken its time.
                outlet.queue.append(Held(claimed, claimed.until / 1000 - LEFT_S, self._now() + FRESH_S))
        for outlet in self._outlets.values():
            self._begin(outlet)

    def _begin(self, outlet: Outlet) -> None:
        """Begin as many attempts as may be under way at once."""
        while outlet.queue and outlet.live < AT_ONCE:
            held = outlet.queue.popleft()
            if self._now() > held.before:
                self._return(held.claimed)
                continue
            outlet.live += 1
            task = asyncio.get_running_loop().create_task(self._attempt(outlet, held))
            self._under_way[task] = held.claimed
            task.add_done_callback(partial(self._ended, outlet))

    def _ended(self, outlet: Outlet, task: "asyncio.Task[None]") -> None:
        del self._under_way[task]
        outlet.live -= 1
        if not task.cancelled() and (error := task.exception()) is not None:
            self._on_event("deliveries_failed", level="error", exc_info=error)  # its lease runs out
        self._begin(outlet)

    def _knock(self) -> None:
        """See whether those whom nobody could reach are back."""
        for outlet in self._outlets.values():
            if outlet.knocks.is_time(self._now()):
                task = asyncio.get_running_loop().create_task(self._look_for(outlet))
                self._looking.add(task)
                task.add_done_callback(self._looking.discard)

    async def _look_for(self, outlet: Outlet) -> None:
        if await self._sender.is_there(outlet.subscription):
            outlet.found()
            self.wake()

    async def _attempt(self, outlet: Outlet, held: Held) -> None:
        """Attempt a delivery and keep what became of it."""
        claimed = held.claimed
        assert claimed.payload is not None
        still = partial(self._is_kept, claimed.svix_id)
        may_begin = self._now() <= held.fresh_until or (await still() and self._now() <= held.before)
        answer = None
        if may_begin:
            answer = await self._sender.send(outlet.subscription, claimed.svix_id, claimed.payload, still=still)
        if answer is None:
            self._return(claimed)
            return
        outlet.note(answer, now=self._now())
        at, made = self._now(), claimed.attempts + 1
        verdict = judge(answer, made=made, waited_s=at - claimed.since / 1000, now=at, rng=self._rng)
        due_at = int((at + verdict.pause_s) * 1000) if verdict.state == WAITING else None
        self._tell(claimed, answer, verdict, made=made)
        self._settle(Settled(claimed, verdict.state, int(at * 1000), made, due_at, answer.status, answer.error))

    async def _is_kept(self, svix_id: str) -> bool:
        """Say whether a payload is still there; where the store does not, it is not sent."""
        with suppress(StoreDown):
            return await self._store.read(lambda database: database.deliveries.has_payload(svix_id))
        return False

    def _give_up(self, claimed: Claimed) -> None:
        if not claimed.with_user:
            self._on_event(
                "delivery_erased", level="warning", upstream=claimed.upstream, svix_id=claimed.svix_id,
                type=claimed.type, why="its payload is gone, and not with its user",
            )  # fmt: skip
        self._settle(Settled(claimed, ERASED, int(self._now() * 1000), claimed.attempts))

    def _settle(self, settled: Settled) -> None:
        self._settled.append(settled)
        self.wake()

    def _tell(self, claimed: Claimed, answer: Answer, verdict: Verdict, *, made: int) -> None:
        event, level = TOLD[verdict.state]
        again = round(verdict.pause_s) if verdict.state == WAITING else None
        fields: dict[str, Any] = {
            "upstream": claimed.upstream, "svix_id": claimed.svix_id, "type": claimed.type, "attempt": made,
            "status": answer.status, "error": answer.error, "again_in_s": again,
        }  # fmt: skip
        self._on_event(event, level=level, **{name: value for name, value in fields.items() if value is not None})


def _revive(database: "Database", *, upstream: str, now: int) -> bool:
    return database.deliveries.revive(upstream, now=now)


async def _within(seconds: float, event: asyncio.Event) -> None:
    """Wait so long, unless this happens before."""
    with suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)
