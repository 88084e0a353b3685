"""Deliveries to real upstreams out of a real store: order, patience, and nobody waits for anybody else."""

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.core.delivery import ATTEMPTS, DEAD, DONE, ERASED, PAUSES_S, WAITING, Subscription
from gateway.core.model import Endpoint, Upstream
from gateway.errors import StoreDown
from gateway.net import delivery, sender
from gateway.net import outlet as outlets
from gateway.net.delivery import AT_ONCE, FRESH_S, LEFT_S, Deliveries
from gateway.net.outlet import HELD
from gateway.net.tls import Contexts
from gateway.store import deliveries
from gateway.store.base import Arrival, Delivery
from gateway.store.deliveries import LEASE_MS
from gateway.store.sql import SqlStore
from tests.fakes.clerk_events import arrival, gone, user
from tests.fakes.gateway import Clock
from tests.fakes.receiver import PATH, SECRET, Receiver, verified
from tests.fakes.upstream import response
from tests.net.test_upstreams import free_port

KEY = base64.b64decode(SECRET.removeprefix("whsec_"))


class Log(list[dict[str, Any]]):
    def __call__(self, event: str, *, level: str = "info", **fields: Any) -> None:
        self.append({"event": event, "level": level} | fields)

    def of(self, event: str) -> list[dict[str, Any]]:
        return [line for line in self if line["event"] == event]


def wanting(port: int, *events: str, name: str = "api") -> Subscription:
    end = Endpoint("127.0.0.1", port, authority=b"127.0.0.1:%d" % port)
    return Subscription(Upstream(name, (end,)), PATH, events or ("*",), KEY)


class Post:
    """A store and what delivers out of it; the clock is the test's."""

    def __init__(self, store: SqlStore, clock: Clock, log: Log) -> None:
        self.store, self.clock, self.log = store, clock, log
        self.out = self.another()

    def another(self) -> Deliveries:
        """Give one more that delivers out of the same store."""
        return Deliveries(self.store, Contexts(self.log), on_event=self.log, now=self.clock, rng=lambda: 0.5)

    async def put(
        self,
        svix_id: str,
        key: str = "user_1",
        *,
        to: tuple[str, ...] = ("api",),
        kind: str = "user.updated",
        **more: Any,
    ) -> None:
        """Store a webhook about a user."""
        data = gone(key) if kind == "user.deleted" else user(key, **more)
        came: Arrival = arrival(svix_id, kind, data, received_at=int(self.clock() * 1000))
        await self.store.put(replace(came, upstreams=to))
        self.out.stored(kind)

    def pass_time(self, seconds: float) -> None:
        """Move the clock."""
        self.clock.seconds += seconds
        self.out.wake()

    async def state(self, svix_id: str, upstream: str = "api") -> Delivery:
        """Give how it stands with a delivery."""
        kept = await self.store.read(lambda database: database.webhooks.show(svix_id))
        assert kept is not None
        return next(each for each in kept.deliveries if each.upstream == upstream)

    async def until(self, svix_id: str, met: Callable[[Delivery], bool], upstream: str = "api") -> Delivery:
        """Wait until it stands so with a delivery."""
        async with asyncio.timeout(20):
            while not met(found := await self.state(svix_id, upstream)):
                await asyncio.sleep(0.01)
        return found

    async def is_in(self, svix_id: str, state: str, upstream: str = "api") -> Delivery:
        """Wait until a delivery is in a state."""
        return await self.until(svix_id, lambda found: found.state == state, upstream)

    async def tried(self, svix_id: str, attempts: int, upstream: str = "api") -> Delivery:
        """Wait until a delivery has been attempted so often."""
        return await self.until(svix_id, lambda found: found.attempts == attempts, upstream)


@asynccontextmanager
async def post_office(folder: Path) -> AsyncIterator[Post]:
    clock, log = Clock(), Log()
    store = SqlStore(f"sqlite:///{folder / 'gateway.db'}", on_event=log, now=clock)
    await store.look()
    post = Post(store, clock, log)
    post.out.start()
    try:
        yield post
    finally:
        await post.out.close()
        await store.close()


@pytest.fixture
async def post(tmp_path: Path) -> AsyncIterator[Post]:
    async with post_office(tmp_path) as opened:
        yield opened


async def test_an_event_arrives_as_its_libraries_want_it(post: Post) -> None:
    async with (receiver := Receiver()).upstream() as upstream:
        post.out.use([wanting(upstream.port)])
        await post.put("msg_1")
        request = await receiver.next()
        found = await post.is_in("msg_1", DONE)
    event = verified(request)
    assert (event["type"], event["data"]["id"]) == ("user.updated", "user_1")
    assert b"secret" not in request.body
    assert (request.method, request.target) == ("POST", PATH)
    assert request.value("host") == f"127.0.0.1:{upstream.port}"
    assert request.value("content-type") == "application/json"
    assert request.value("user-agent") == "clerk-gateway"
    assert request.value("svix-id") == request.value("webhook-id") == "msg_1"
    assert request.values("cookie") == request.values("authorization") == []
    assert (found.attempts, found.last_status, found.last_error) == (1, 200, None)
    assert [line["level"] for line in post.log.of("delivered")] == ["debug"]


async def test_each_attempt_is_signed_afresh_and_has_the_same_id_and_body(post: Post) -> None:
    async with (receiver := Receiver(status=500)).upstream() as upstream:
        post.out.use([wanting(upstream.port)])
        await post.put("msg_1")
        await post.tried("msg_1", 1)
        post.pass_time(PAUSES_S[0])
        await post.tried("msg_1", 2)
        receiver.status = 204
        post.pass_time(PAUSES_S[1])
        await post.is_in("msg_1", DONE)
    stamps = [int(str(request.value("svix-timestamp"))) for request in receiver.seen]
    assert [later - stamps[0] for later in stamps] == [0, 5, 305]
    assert receiver.ids == ["msg_1"] * 3
    assert len({request.body for request in receiver.seen}) == 1
    assert len({request.value("svix-signature") for request in receiver.seen}) == 3


@pytest.mark.parametrize("status", [101, 301, 400, 404, 429, 500])
async def test_what_is_no_2xx_is_tried_again(post: Post, status: int) -> None:
    async with (receiver := Receiver()).upstream() as upstream:
        receiver.answer = lambda _: response(status, fields=("Location: /elsewhere",))
        post.out.use([wanting(upstream.port)])
        await post.put("msg_1")
        found = await post.tried("msg_1", 1)
        assert (found.state, found.last_status) == (WAITING, status)
        assert found.due_at == int((post.clock() + PAUSES_S[0]) * 1000)
    assert [request.target for request in receiver.seen] == [PATH]
    (line,) = post.log.of("delivery_failed")
    assert line == {
        "event": "delivery_failed", "level": "warning", "upstream": "api", "svix_id": "msg_1", "type": "user.updated",
        "attempt": 1, "status": status, "again_in_s": 5,
    }  # fmt: skip


async def test_retry_after_is_waited_for(post: Post) -> None:
    async with (receiver := Receiver()).upstream() as upstream:
        receiver.answer = lambda _: response(503, fields=("Retry-After: 60",))
        post.out.use([wanting(upstream.port)])
        await post.put("msg_1")
        found = await post.tried("msg_1", 1)
    assert found.due_at == int((post.clock() + 60) * 1000)


async def test_after_all_attempts_it_is_dead_and_the_next_of_its_user_is_tried(post: Post) -> None:
    async with (receiver := Receiver()).upstream() as upstream:
        receiver.answer = lambda request: response(500 if request.value("svix-id") == "msg_1" else 200)
        post.out.use([wanting(upstream.port)])
        await post.put("msg_1")
        await post.put("msg_2")
        for attempts in range(1, ATTEMPTS):
            await post.tried("msg_1", attempts)
            assert "msg_2" not in receiver.ids
            post.pass_time(PAUSES_S[attempts - 1])
        await post.is_in("msg_1", DEAD)
        await post.is_in("msg_2", DONE)
    assert receiver.ids == ["msg_1"] * ATTEMPTS + ["msg_2"]
    (line,) = post.log.of("delivery_dead")
    assert (line["level"], line["attempt"], line["status"]) == ("error", ATTEMPTS, 500)
    assert "again_in_s" not in line


async def test_a_lane_behind_a_dead_upstream_is_given_up_at_about_the_same_time(post: Post) -> None:
    async with (receiver := Receiver(status=500)).upstream() as upstream:
        post.out.use([wanting(upstream.port)])
        for number in range(5):
            await post.put(f"msg_{number}")
        for attempts in range(1, ATTEMPTS):
            await post.tried("msg_0", attempts)
            if attempts == 3:
                await post.put("msg_late")
            if attempts == ATTEMPTS - 1:
                await post.put("msg_new")
            post.pass_time(PAUSES_S[attempts - 1])
        for number in range(5):
            assert (await post.is_in(f"msg_{number}", DEAD)).attempts == (1 if number else ATTEMPTS)
        assert (await post.tried("msg_late", 1)).state == WAITING  # for some minutes more
        post.pass_time(PAUSES_S[0])
        await post.tried("msg_late", 2)
        post.pass_time(PAUSES_S[1])
        assert (await post.is_in("msg_late", DEAD)).attempts == 3
        assert (await post.tried("msg_new", 1)).state == WAITING
        receiver.status = 200
        post.pass_time(PAUSES_S[0])
        await post.is_in("msg_new", DONE)


async def test_who_is_gone_is_not_asked_again(post: Post) -> None:
    async with Receiver(status=410).upstream() as upstream:
        post.out.use([wanting(upstream.port)])
        await post.put("msg_1")
        assert (await post.is_in("msg_1", DEAD)).attempts == 1


async def test_a_user_s_events_arrive_in_order_and_one_by_one_and_users_beside_each_other(post: Post) -> None:
    async with (receiver := Receiver()).upstream() as upstream:
        post.out.use([wanting(upstream.port)])
        receiver.hold = asyncio.Event()
        for number in range(5):
            for key in ("user_1", "user_2", "user_3"):
                await post.put(f"{key}-{number}", key)
        for _ in range(3):
            await receiver.next()
        assert sorted(receiver.ids) == ["user_1-0", "user_2-0", "user_3-0"]
        receiver.hold.set()
        for key in ("user_1", "user_2", "user_3"):
            await post.is_in(f"{key}-4", DONE)
    for key in ("user_1", "user_2", "user_3"):
        assert [each for each in receiver.ids if each.startswith(key)] == [f"{key}-{number}" for number in range(5)]


async def test_a_slow_upstream_holds_up_nobody_and_gets_a_few_at_once(post: Post) -> None:
    slow, fast = Receiver(), Receiver()
    slow.hold = asyncio.Event()
    async with slow.upstream() as one, fast.upstream() as other:
        post.out.use([wanting(one.port, name="slow"), wanting(other.port, name="fast")])
        for number in range(HELD + AT_ONCE):
            await post.put(f"msg_{number}", f"user_{number}", to=("slow", "fast"))
        for number in range(HELD + AT_ONCE):
            await post.is_in(f"msg_{number}", DONE, "fast")
        assert slow.live == AT_ONCE
        slow.hold.set()
        for number in range(HELD + AT_ONCE):
            await post.is_in(f"msg_{number}", DONE, "slow")
        assert slow.most == AT_ONCE
        assert len(slow.ids) == len(set(slow.ids)) == HELD + AT_ONCE


async def test_an_upstream_that_does_not_answer_has_failed(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender, "ANSWER_S", 0.05)
    slow = Receiver()
    slow.hold = asyncio.Event()
    async with slow.upstream() as upstream:
        post.out.use([wanting(upstream.port)])
        await post.put("msg_1")
        found = await post.tried("msg_1", 1)
    assert (found.last_status, found.last_error) == (None, "no answer within 0.05 s")


async def test_a_dead_upstream_that_returns_gets_what_waited_at_once(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outlets, "KNOCK_S", 1e9)  # it is an answer that shows it here
    port = free_port()
    post.out.use([wanting(port)])
    for number in range(3):
        await post.put(f"msg_{number}", f"user_{number}")
    for number in range(3):
        await post.tried(f"msg_{number}", 1)
    post.pass_time(PAUSES_S[0])
    for number in range(3):
        found = await post.tried(f"msg_{number}", 2)
        assert found.last_error is not None
        assert found.last_error.startswith("cannot be connected to")
    post.pass_time(60)  # of five minutes
    async with (receiver := Receiver()).upstream(port):
        await post.put("msg_new", "user_9")
        for number in range(3):
            await post.is_in(f"msg_{number}", DONE)
    assert receiver.ids[0] == "msg_new"


async def test_a_dead_upstream_that_returns_is_found_although_nothing_new_is_to_be_delivered(post: Post) -> None:
    port = free_port()
    post.out.use([wanting(port)])
    await post.put("msg_1")
    await post.tried("msg_1", 1)
    post.pass_time(PAUSES_S[0])
    await post.tried("msg_1", 2)
    async with Receiver().upstream(port):
        post.pass_time(60)  # of five minutes
        found = await post.is_in("msg_1", DONE)
    assert found.attempts == 3


async def test_a_deletion_does_not_wait_for_what_it_erased(post: Post) -> None:
    port = free_port()
    post.out.use([wanting(port)])
    for attempts in (1, 2):
        if attempts == 1:
            await post.put("msg_1")
            await post.put("msg_2")
        await post.tried("msg_1", attempts)
        post.pass_time(PAUSES_S[0])
    async with (receiver := Receiver()).upstream(port):
        await post.put("msg_3", kind="user.deleted")
        await post.is_in("msg_3", DONE)
    assert [(await post.state(f"msg_{number}")).state for number in (1, 2)] == [ERASED, ERASED]
    assert receiver.ids == ["msg_3"]


async def test_much_that_waits_for_an_upstream_that_is_back_gets_its_turn_by_and_by(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliveries, "REVIVE_AT_ONCE", 1)
    port = free_port()
    post.out.use([wanting(port)])
    for attempts in (1, 2):
        for number in range(4):
            if attempts == 1:
                await post.put(f"msg_{number}", f"user_{number}")
        for number in range(4):
            await post.tried(f"msg_{number}", attempts)
        post.pass_time(PAUSES_S[0])
    post.pass_time(60)
    async with Receiver().upstream(port):
        await post.put("msg_new", "user_9")
        for number in range(4):
            await post.is_in(f"msg_{number}", DONE)


async def test_what_a_killed_process_had_is_delivered_by_another_once_its_lease_is_over(post: Post) -> None:
    held = Receiver()
    held.hold = asyncio.Event()
    async with held.upstream() as upstream:
        post.out.use([wanting(upstream.port)])
        await post.put("msg_1")
        await held.next()
        post.out._running.cancel()  # type: ignore[union-attr]  # as if killed: nothing is written down any more
        other = post.another()
        other.use([wanting(upstream.port)])
        other.start()
        await asyncio.sleep(0)
        post.clock.seconds += LEASE_MS / 1000 - 1
        other.wake()
        assert not await post.store.read(
            lambda database: database.deliveries.is_due(["api"], now=int(post.clock() * 1000))
        )
        post.clock.seconds += 1
        other.wake()
        await held.next()
        held.hold.set()
        await post.is_in("msg_1", DONE)
        await other.close()
    assert held.ids == ["msg_1"] * 2


async def test_two_that_deliver_out_of_one_store_deliver_once(post: Post) -> None:
    async with (receiver := Receiver()).upstream() as upstream:
        other = post.another()
        other.start()
        for each in (post.out, other):
            each.use([wanting(upstream.port)])
        for number in range(40):
            await post.put(f"msg_{number}", f"user_{number}")
            other.wake()
        for number in range(40):
            await post.is_in(f"msg_{number}", DONE)
        await other.close()
    assert sorted(receiver.ids) == sorted(f"msg_{number}" for number in range(40))


async def test_what_is_under_way_when_stopping_may_finish_and_the_rest_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "FAREWELL_S", 0.2)
    receiver = Receiver()
    receiver.hold = asyncio.Event()
    async with receiver.upstream() as upstream, post_office(tmp_path) as post:
        post.out.use([wanting(upstream.port)])
        for number in range(AT_ONCE + 2):
            await post.put(f"msg_{number}", f"user_{number}")
        for _ in range(AT_ONCE):
            await receiver.next()
        await post.out.close()
        late = [await post.state(f"msg_{number}") for number in range(AT_ONCE + 2)]
        assert {(each.state, each.attempts) for each in late} == {(WAITING, 0)}
        receiver.hold.set()
        after = post.another()
        after.use([wanting(upstream.port)])
        after.start()
        for number in range(AT_ONCE + 2):  # at once: no lease has to run out
            await post.is_in(f"msg_{number}", DONE)
        await after.close()


async def test_what_finishes_while_stopping_is_written_down(tmp_path: Path) -> None:
    receiver = Receiver()
    receiver.hold = asyncio.Event()
    async with receiver.upstream() as upstream, post_office(tmp_path) as post:
        post.out.use([wanting(upstream.port)])
        await post.put("msg_1")
        await receiver.next()
        closing = asyncio.ensure_future(post.out.close())
        await asyncio.sleep(0.01)
        receiver.hold.set()
        await closing
        assert (await post.state("msg_1")).state == DONE


async def test_what_was_erased_is_not_delivered(post: Post) -> None:
    async with (receiver := Receiver()).upstream() as upstream:
        await post.put("msg_1")
        await post.put("msg_2", kind="user.deleted")
        post.out.use([wanting(upstream.port)])
        await post.is_in("msg_2", DONE)
    assert (await post.state("msg_1")).state == ERASED
    assert (await post.state("msg_1")).attempts == 0
    assert receiver.ids == ["msg_2"]


async def test_what_was_erased_and_not_with_its_user_is_told(post: Post) -> None:
    async with Receiver().upstream() as upstream:
        await post.put("msg_1", "user_1")
        await post.put("msg_2", "user_2")
        await post.put("msg_3", "user_1", kind="user.deleted")
        await post.store.write(lambda database: database.write(lambda c: c.exec_driver_sql(
            "UPDATE gateway_inbox SET payload = NULL WHERE svix_id = 'msg_2'"
        )))  # fmt: skip
        post.out.use([wanting(upstream.port)])
        await post.is_in("msg_3", DONE)
        await post.is_in("msg_2", ERASED)
    (line,) = post.log.of("delivery_erased")
    assert (line["level"], line["upstream"], line["svix_id"], line["type"]) == (
        "warning",
        "api",
        "msg_2",
        "user.updated",
    )


@pytest.mark.parametrize("is_told", [True, False], ids=["told", "by-another-process"])
async def test_what_was_claimed_before_its_user_was_deleted_is_not_begun_after(post: Post, is_told: bool) -> None:
    receiver = Receiver()
    receiver.hold = asyncio.Event()
    async with receiver.upstream() as upstream:
        post.out.use([wanting(upstream.port)])
        for number in range(AT_ONCE + 2):
            await post.put(f"msg_{number}", f"user_{number}")
        for _ in range(AT_ONCE):
            await receiver.next()
        outlet = post.out._outlets["api"]
        async with asyncio.timeout(20):
            while len(outlet.queue) < 2:
                await asyncio.sleep(0.01)
        last = outlet.queue[0].claimed
        await post.put("msg_gone", last.lane, kind="user.deleted")
        if is_told:
            post.out.erased(last.lane)
        else:
            post.clock.seconds += FRESH_S + 0.1
        receiver.hold.set()
        await post.is_in("msg_gone", DONE)
        assert (await post.state(last.svix_id)).state == ERASED
        for number in range(AT_ONCE + 2):
            await post.until(f"msg_{number}", lambda found: found.state != WAITING)
    assert last.svix_id not in receiver.ids
    assert len(receiver.ids) == AT_ONCE + 2
    assert not post.log.of("delivery_erased")


async def test_what_is_erased_during_an_attempt_is_not_sent_again_with_it(post: Post) -> None:
    receiver = Receiver()
    receiver.hold, receiver.answer = asyncio.Event(), lambda _: None  # it ends the connection
    async with receiver.upstream() as upstream:
        post.out.use([wanting(upstream.port)])
        await post.put("msg_1")
        await receiver.next()
        await post.put("msg_2", kind="user.deleted")
        receiver.hold.set()
        await post.is_in("msg_1", ERASED)
        receiver.answer = None
        post.pass_time(PAUSES_S[0])
        await post.is_in("msg_2", DONE)
    assert receiver.ids.count("msg_1") == 1


async def test_while_the_store_cannot_say_whether_it_may_be_nothing_is_sent_again(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, asked = post.store.read, asyncio.Event()

    async def down(_: Any) -> Any:
        asked.set()
        raise StoreDown

    receiver = Receiver()
    receiver.hold, receiver.answer = asyncio.Event(), lambda _: None
    async with receiver.upstream() as upstream:
        post.out.use([wanting(upstream.port)])
        await post.put("msg_1")
        await receiver.next()
        monkeypatch.setattr(post.store, "read", down)
        receiver.hold.set()
        await asked.wait()
        receiver.answer = None
        monkeypatch.setattr(post.store, "read", read)
        assert (await post.is_in("msg_1", DONE)).attempts == 1
    assert receiver.ids == ["msg_1"] * 2


async def test_what_is_replayed_during_its_last_attempt_is_tried_again(post: Post) -> None:
    receiver = Receiver(status=410)
    receiver.hold = asyncio.Event()
    async with receiver.upstream() as upstream:
        post.out.use([wanting(upstream.port)])
        await post.put("msg_1")
        await receiver.next()
        now = int(post.clock() * 1000)
        await post.store.write(lambda database: database.webhooks.replay("msg_1", ("api",), now=now))
        receiver.hold.set()
        receiver.hold = None
        await receiver.next()  # without a lease running out
        await post.is_in("msg_1", DEAD)
    assert receiver.ids == ["msg_1"] * 2


async def test_an_upstream_that_is_taken_away_and_comes_back_gets_what_waited(post: Post) -> None:
    async with (receiver := Receiver()).upstream() as upstream:
        receiver.hold = asyncio.Event()
        post.out.use([wanting(upstream.port)])
        for number in range(AT_ONCE + 2):
            await post.put(f"msg_{number}", f"user_{number}")
        for _ in range(AT_ONCE):
            await receiver.next()
        post.out.use([])
        receiver.hold.set()
        for number in range(AT_ONCE):
            await post.is_in(f"msg_{number}", DONE)
        assert (await post.state(f"msg_{AT_ONCE}")).state == WAITING
        post.out.use([wanting(upstream.port)])
        for number in range(AT_ONCE, AT_ONCE + 2):
            await post.is_in(f"msg_{number}", DONE)
    assert len(receiver.ids) == AT_ONCE + 2


async def test_what_nobody_serves_is_given_up(post: Post) -> None:
    await post.put("msg_1", to=("gone",))
    post.pass_time(5 * 86_400)
    assert (await post.is_in("msg_1", DEAD, "gone")).last_error == "its upstream is not configured"
    async with asyncio.timeout(20):
        while not post.log.of("deliveries_expired"):
            await asyncio.sleep(0.01)
    (line,) = post.log.of("deliveries_expired")
    assert line["count"] == 1


async def test_what_was_claimed_too_long_ago_is_given_back(post: Post) -> None:
    receiver = Receiver()
    receiver.hold = asyncio.Event()
    async with receiver.upstream() as upstream:
        post.out.use([wanting(upstream.port)])
        for number in range(AT_ONCE + 1):
            await post.put(f"msg_{number}", f"user_{number}")
        for _ in range(AT_ONCE):
            await receiver.next()
        async with asyncio.timeout(20):
            while not post.out._outlets["api"].queue:
                await asyncio.sleep(0.01)
        post.clock.seconds += LEASE_MS / 1000 - LEFT_S + 1
        receiver.hold.set()
        for number in range(AT_ONCE + 1):
            await post.is_in(f"msg_{number}", DONE)
    assert len(receiver.ids) == AT_ONCE + 1


async def test_a_lease_counts_from_its_claim_however_long_the_commit_took(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    turn, slow = post.out._turn, [LEASE_MS / 1000 - LEFT_S + 1]

    async def late(**more: Any) -> Any:
        claims = await turn(**more)
        if claims and slow:
            post.clock.seconds += slow.pop()
        return claims

    monkeypatch.setattr(post.out, "_turn", late)
    begun: list[int] = []
    attempt = post.out._attempt

    async def noted(outlet: Any, held: Any) -> None:
        begun.append(held.claimed.until)
        await attempt(outlet, held)

    monkeypatch.setattr(post.out, "_attempt", noted)
    async with Receiver().upstream() as upstream:
        post.out.use([wanting(upstream.port)])
        await post.put("msg_1")
        await post.is_in("msg_1", DONE)
    assert begun
    assert all(until / 1000 - post.clock() > LEFT_S for until in begun)


async def test_while_the_clock_was_wrong_nothing_is_left_behind(post: Post) -> None:
    port = free_port()
    post.out.use([wanting(port)])
    post.clock.seconds += 365 * 86_400
    await post.put("msg_1")
    await post.tried("msg_1", 1)
    post.pass_time(-365 * 86_400)
    async with (receiver := Receiver()).upstream(port):
        await post.is_in("msg_1", DONE)
    assert receiver.ids == ["msg_1"]


async def test_while_the_store_is_down_what_became_of_attempts_is_kept(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "DOWN_S", 0.01)
    async with (receiver := Receiver()).upstream() as upstream:
        receiver.hold = asyncio.Event()
        post.out.use([wanting(upstream.port)])
        await post.put("msg_1")
        await receiver.next()
        write, refused = post.store.write, asyncio.Event()

        async def down(_: Any) -> Any:
            refused.set()
            raise StoreDown

        monkeypatch.setattr(post.store, "write", down)
        receiver.hold.set()
        await refused.wait()
        monkeypatch.setattr(post.store, "write", write)
        await post.is_in("msg_1", DONE)
    assert receiver.ids == ["msg_1"]


async def test_a_fault_of_our_own_is_told_and_ends_nothing(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "LOOK_S", 0.01)
    faults: list[Exception] = [ZeroDivisionError(), ZeroDivisionError()]
    turn, send = post.out._turn, post.out._sender.send

    async def failing_turn(**more: Any) -> Any:
        if len(faults) == 2:
            raise faults.pop()
        return await turn(**more)

    async def failing_send(*arguments: Any, **more: Any) -> Any:
        if faults:
            raise faults.pop()
        return await send(*arguments, **more)

    monkeypatch.setattr(post.out, "_turn", failing_turn)
    monkeypatch.setattr(post.out._sender, "send", failing_send)
    async with (receiver := Receiver()).upstream() as upstream:
        post.out.use([wanting(upstream.port)])
        await post.put("msg_1")
        async with asyncio.timeout(20):
            while len(post.log.of("deliveries_failed")) < 2:
                await asyncio.sleep(0.01)
        post.pass_time(LEASE_MS / 1000)
        await post.is_in("msg_1", DONE)
    assert receiver.ids == ["msg_1"]


async def test_while_much_is_held_nothing_more_is_claimed(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outlets, "CLAIMED_BYTES", 1)
    receiver = Receiver()
    receiver.hold = asyncio.Event()
    async with receiver.upstream() as upstream:
        post.out.use([wanting(upstream.port)])
        for number in range(AT_ONCE + 5):
            await post.put(f"msg_{number}", f"user_{number}")
        for _ in range(AT_ONCE):
            await receiver.next()
        outlet = post.out._outlets["api"]
        async with asyncio.timeout(20):
            while outlet.room:
                await asyncio.sleep(0.01)
        receiver.hold.set()
        for number in range(AT_ONCE + 5):
            await post.is_in(f"msg_{number}", DONE)
    assert len(receiver.ids) == AT_ONCE + 5
