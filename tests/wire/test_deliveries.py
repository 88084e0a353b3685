"""From Clerk's webhook to the services behind, through a whole gateway; and through gateways that are killed."""

import asyncio
import os
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import yaml
from sqlalchemy import text

from gateway.core.delivery import DEAD, DONE, WAITING
from gateway.store.base import Delivery
from gateway.store.database import Database
from tests.fakes.clerk_events import body, gone, organization, user
from tests.fakes.gateway import Running, gateway, settings
from tests.fakes.receiver import Receiver, subscribed, verified
from tests.net.test_upstreams import free_port
from tests.store.conftest import postgres, url
from tests.store.test_kill import send as send_until_killed
from tests.test_cli import command, until
from tests.web.test_webhooks import SECRET, send, signed

__all__ = ["postgres", "url"]

KILLS = int(os.environ.get("KILLS", "3"))


@asynccontextmanager
async def passing_on(tmp_path: Path, upstreams: dict[str, Any], **more: Any) -> AsyncIterator[Running]:
    """A gateway that takes webhooks and delivers them to these."""
    overrides = {
        "clerk": settings(1)["clerk"] | {"webhook_signing_secrets": [SECRET]},
        "store": {"url": f"sqlite:///{tmp_path / 'gateway.db'}"},
        "upstreams": {"api": {"url": "http://127.0.0.1:1"}} | upstreams,
        "logs": {"level": "debug"},
    }
    async with gateway(1, **(overrides | more)) as running:
        while not running.app.inbox.is_up:
            await asyncio.sleep(0.01)
        yield running


async def come_in(running: Running, svix_id: str, kind: str, data: dict[str, Any]) -> None:
    came = body(kind, data, instance=None)
    assert (await send(running, came, signed(came, svix_id))).json == {"status": "stored"}


async def standing(running: Running, svix_id: str, upstream: str, state: str) -> Delivery:
    async with asyncio.timeout(20):
        while True:
            kept = await running.app.inbox.read(lambda database: database.webhooks.show(svix_id))
            assert kept is not None
            found = {each.upstream: each for each in kept.deliveries}[upstream]
            if found.state == state and (found.attempts or state == WAITING):
                return found
            await asyncio.sleep(0.01)


async def test_each_upstream_gets_the_events_it_asked_for_and_no_others(tmp_path: Path) -> None:
    people, audit = Receiver(), Receiver()
    async with people.upstream() as one, audit.upstream() as other:
        upstreams = {
            "people": subscribed(one.port, "user.*", url=f"http://127.0.0.1:{one.port}/base"),
            "audit": subscribed(other.port, "*"),
        }
        async with passing_on(tmp_path, upstreams) as running:
            await come_in(running, "msg_1", "user.created", user())
            await come_in(running, "msg_2", "organization.created", organization())
            await come_in(running, "msg_3", "user.deleted", gone("user_2"))
            for name in ("msg_1", "msg_2", "msg_3"):
                await standing(running, name, "audit", DONE)
            await standing(running, "msg_1", "people", DONE)
            await standing(running, "msg_3", "people", DONE)
            lines = [line for line in await running.logged() if line["event"] == "delivered"]
    assert sorted(people.ids) == ["msg_1", "msg_3"]
    assert sorted(audit.ids) == ["msg_1", "msg_2", "msg_3"]
    assert {request.target for request in people.seen} == {"/base/webhooks/clerk"}
    events = [verified(request) for request in people.seen + audit.seen]
    assert "secret" not in str(events)
    assert len(lines) == 5
    assert "user_1@example.com" not in str(lines)


async def test_a_webhook_is_answered_at_once_whatever_its_upstreams_do(tmp_path: Path) -> None:
    slow = Receiver()
    slow.hold = asyncio.Event()
    async with slow.upstream() as upstream:
        async with passing_on(
            tmp_path, {"slow": subscribed(upstream.port), "gone": subscribed(free_port())}
        ) as running:
            for number in range(20):
                await come_in(running, f"msg_{number}", "user.created", user(f"user_{number}"))
            await standing(running, "msg_0", "slow", WAITING)
            slow.hold.set()
            for number in range(20):
                await standing(running, f"msg_{number}", "slow", DONE)


async def test_a_dead_upstream_gets_its_events_in_order_once_it_returns(tmp_path: Path) -> None:
    port = free_port()
    async with passing_on(tmp_path, {"hook": subscribed(port)}) as running:
        for number in range(4):
            await come_in(running, f"msg_{number}", "user.updated", user(updated_at=number))
        async with asyncio.timeout(20):
            while (await standing(running, "msg_0", "hook", WAITING)).attempts == 0:
                await asyncio.sleep(0.01)
        async with (receiver := Receiver()).upstream(port):
            running.clock.seconds += 6
            await standing(running, "msg_3", "hook", DONE)
        assert receiver.ids == [f"msg_{number}" for number in range(4)]
        failed = [line for line in await running.logged() if line["event"] == "delivery_failed"]
    assert {line["svix_id"] for line in failed} == {"msg_0"}


async def test_a_reload_changes_what_is_delivered_from_then_on(tmp_path: Path) -> None:
    receiver = Receiver()
    async with receiver.upstream() as upstream:
        kept: dict[str, Any] = {
            "clerk": settings(1)["clerk"] | {"webhook_signing_secrets": [SECRET]},
            "store": {"url": f"sqlite:///{tmp_path / 'gateway.db'}"},
        }
        async with passing_on(tmp_path, {}, **kept) as running:
            await come_in(running, "msg_1", "user.created", user())
            wanting = {"api": {"url": "http://127.0.0.1:1"}, "hook": subscribed(upstream.port, "user.*")}
            running.file.write(1, upstreams=wanting, **kept)
            assert "subscriptions" in await running.app.reload()
            await come_in(running, "msg_2", "user.created", user())
            await standing(running, "msg_2", "hook", DONE)
            assert receiver.ids == ["msg_2"]
            other = "whsec_b3RoZXJvdGhlcm90aGVyb3RoZXI="
            wanting["hook"]["webhooks"]["secret"] = other
            running.file.write(1, upstreams=wanting, **kept)
            await running.app.reload()
            await come_in(running, "msg_3", "user.updated", user())
            await standing(running, "msg_3", "hook", DONE)
            verified(receiver.seen[-1], secret=other)
            running.file.write(1, **kept)
            await running.app.reload()
            await come_in(running, "msg_4", "user.updated", user())
            await asyncio.sleep(0)
    assert receiver.ids == ["msg_2", "msg_3"]


async def test_a_ban_is_one_of_them_and_a_poisonous_event_dies_alone(tmp_path: Path) -> None:
    receiver = Receiver(status=410)
    async with receiver.upstream() as upstream:
        async with passing_on(tmp_path, {"hook": subscribed(upstream.port, "session.*")}) as running:
            await come_in(running, "msg_1", "session.revoked", {"id": "sess_1", "user_id": "user_1"})
            assert (await standing(running, "msg_1", "hook", DEAD)).last_status == 410
            receiver.status = 200
            await come_in(running, "msg_2", "session.ended", {"id": "sess_1", "user_id": "user_1"})
            await standing(running, "msg_2", "hook", DONE)


async def test_nothing_acknowledged_stays_undelivered_when_gateways_are_killed(url: str, tmp_path: Path) -> None:
    Database(url, migrating=True).close()
    file, rng = tmp_path / "gateway.yaml", random.Random(11)
    acknowledged: dict[str, int] = {}
    async with (receiver := Receiver()).upstream() as upstream:
        wanting = {"api": {"url": "http://127.0.0.1:1"}, "hook": subscribed(upstream.port)}
        clerk = settings(1)["clerk"] | {"webhook_signing_secrets": [SECRET]}
        written = settings(1, clerk=clerk, store={"url": url}, logs={"access": False}, upstreams=wanting)
        file.write_text(yaml.safe_dump(written))
        for kill in range(KILLS + 1):
            had = len(acknowledged)
            async with command("run", "-c", str(file), cwd=tmp_path) as process:
                port = int((await until(process, r'"listening".*"port":(\d+)'))[1])
                if kill < KILLS:
                    sending = [asyncio.ensure_future(send_until_killed(port, acknowledged)) for _ in range(8)]
                    while len(acknowledged) < had + 16:
                        await asyncio.sleep(0.01)
                    await asyncio.sleep(rng.random() * 0.1)
                    process.kill()
                    await asyncio.gather(*sending)
                    _lapse(url)
                else:
                    async with asyncio.timeout(60):
                        while _lanes(url, "state != 'done'"):
                            await asyncio.sleep(0.1)
    assert len(acknowledged) >= KILLS * 16
    assert set(acknowledged) <= set(receiver.ids)
    assert all(verified(request) for request in receiver.seen)
    # Twice is possible, where something was delivered and not yet written down; its place in its lane it keeps.
    came: dict[str, list[str]] = {}
    for request in receiver.seen:
        lane = came.setdefault(verified(request)["data"]["id"], [])
        if lane[-1:] != [svix_id := str(request.value("svix-id"))]:
            lane.append(svix_id)
    assert came == _lanes(url)


def _lapse(url: str) -> None:
    """Let the leases of a killed gateway run out."""
    database = Database(url)
    database.write(lambda connection: connection.execute(text("UPDATE gateway_deliveries SET claimed_until = 0")))
    database.close()


def _lanes(url: str, condition: str = "1 = 1") -> dict[str, list[str]]:
    """Give the ids of each lane in the order in which they were stored."""
    database, found = Database(url), dict[str, list[str]]()
    query = text(f"SELECT lane, svix_id FROM gateway_deliveries WHERE {condition} ORDER BY seq")
    for lane, svix_id in database.read(lambda connection: connection.execute(query).all()):
        found.setdefault(lane, []).append(svix_id)
    database.close()
    return found
