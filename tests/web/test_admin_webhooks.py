"""Stored webhooks on the admin listener of a running gateway."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.net.delivery import AT_ONCE
from gateway.store import webhooks
from tests.fakes.clerk_events import body, gone, user
from tests.fakes.gateway import Answer, gateway, settings
from tests.fakes.openapi import Document
from tests.fakes.operator import ADMIN, BEARER, Operator, is_problem
from tests.fakes.receiver import Receiver, subscribed
from tests.web.test_webhooks import SECRET, send, signed


class Desk(Operator):
    """An operator beside an upstream that takes deliveries."""

    receiver: Receiver

    async def get(self, target: str) -> Answer:
        return await self.ask("GET", target, BEARER)

    async def post(self, target: str) -> Answer:
        return await self.ask("POST", target, BEARER)

    async def come_in(self, svix_id: str, kind: str, data: dict[str, Any]) -> None:
        came = body(kind, data, instance=None)
        assert (await send(self.running, came, signed(came, svix_id))).status == 200

    async def until(self, svix_id: str, state: str) -> dict[str, Any]:
        async with asyncio.timeout(20):
            while True:
                shown: dict[str, Any] = (await self.get(f"/v1/webhooks/{svix_id}")).json
                if all(each["state"] == state for each in shown["deliveries"]):
                    return shown
                await asyncio.sleep(0.01)


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    receiver = Receiver()
    async with receiver.upstream() as upstream:
        overrides = {
            "clerk": settings(1)["clerk"] | {"webhook_signing_secrets": [SECRET]},
            "store": {"url": f"sqlite:///{tmp_path / 'gateway.db'}"},
            "upstreams": {
                "api": subscribed(upstream.port, "user.*"),
                "mail": subscribed(upstream.port, "user.created"),
            },
            "admin": ADMIN,
        }
        async with gateway(upstream.port, **overrides) as running:
            while not running.app.inbox.is_up:
                await asyncio.sleep(0.01)
            made = Desk(running)
            made.receiver = receiver
            yield made


async def test_a_webhook_is_shown_with_its_payload_and_its_deliveries(desk: Desk) -> None:
    await desk.come_in("msg_1", "user.created", user())
    shown = await desk.until("msg_1", "done")
    assert (shown["id"], shown["type"], shown["user_id"], shown["has_payload"]) == (
        "msg_1",
        "user.created",
        "user_1",
        True,
    )
    assert shown["payload"]["data"]["id"] == "user_1"
    assert "secret" not in str(shown)
    assert [(each["upstream"], each["attempts"], each["last_status"]) for each in shown["deliveries"]] == [
        ("api", 1, 200), ("mail", 1, 200),
    ]  # fmt: skip


async def test_lists(desk: Desk) -> None:
    for number in range(3):
        await desk.come_in(f"msg_{number}", "user.updated" if number else "session.created", user(f"user_{number}"))
    first = (await desk.get("/v1/webhooks?limit=2")).json
    assert [each["id"] for each in first["data"]] == ["msg_2", "msg_1"]
    assert "payload" not in first["data"][0]
    rest = (await desk.get(f"/v1/webhooks?limit=2&cursor={first['next_cursor']}")).json
    assert ([each["id"] for each in rest["data"]], rest["next_cursor"]) == (["msg_0"], None)
    typed = (await desk.get("/v1/webhooks?type=session.*")).json
    assert [each["id"] for each in typed["data"]] == ["msg_0"]
    assert (await desk.get("/v1/webhooks?state=dead")).json == {"data": [], "next_cursor": None}


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("limit=0", "limit"), ("cursor=x", "cursor"), ("type=a%20b", "type"), ("type=us*er", "type"), ("type=", "type"),
        ("state=gone", "state"), ("page=1", "parameter"), ("limit=1&limit=2", "limit"),
    ],
)  # fmt: skip
async def test_what_is_asked_wrongly(desk: Desk, query: str, reason: str) -> None:
    assert is_problem(await desk.get(f"/v1/webhooks?{query}"), 400, "bad_request", reason)


async def test_replay_of_what_died(desk: Desk) -> None:
    desk.receiver.status = 410
    await desk.come_in("msg_1", "user.created", user())
    await desk.until("msg_1", "dead")
    assert [each["id"] for each in (await desk.get("/v1/webhooks?state=dead")).json["data"]] == ["msg_1"]
    desk.receiver.status = 200
    answer = await desk.post("/v1/webhooks/msg_1/replay?upstream=mail")
    assert (answer.status, answer.json) == (200, {"status": "waiting", "upstreams": ["mail"]})
    assert (await desk.post("/v1/webhooks/msg_1/replay")).json["upstreams"] == ["api", "mail"]
    await desk.until("msg_1", "done")


async def test_what_cannot_be_replayed(desk: Desk) -> None:
    await desk.come_in("msg_1", "user.updated", user())
    await desk.come_in("msg_2", "session.created", {"id": "sess_1"})
    await desk.come_in("msg_3", "user.deleted", gone("user_1"))
    assert is_problem(await desk.post("/v1/webhooks/msg_1/replay"), 400, "bad_request", "erased")
    assert (await desk.get("/v1/webhooks/msg_1")).json["payload"] is None
    for target in ("msg_2/replay", "msg_3/replay?upstream=mail", "msg_3/replay?upstream=nobody"):
        assert is_problem(await desk.post(f"/v1/webhooks/{target}"), 400, "bad_request", "not_subscribed")
    for key in ("msg_4", "%20", "m" * 256):
        assert is_problem(await desk.post(f"/v1/webhooks/{key}/replay"), 404, "not_found", "webhook")
        assert is_problem(await desk.get(f"/v1/webhooks/{key}"), 404, "not_found", "webhook")


async def test_a_user_s_deletion_takes_what_was_not_begun_from_deliveries_at_once(desk: Desk) -> None:
    desk.receiver.hold = asyncio.Event()
    for number in range(AT_ONCE + 1):
        await desk.come_in(f"msg_{number}", "user.updated", user(f"user_{number}"))
    for _ in range(AT_ONCE):
        await desk.receiver.next()
    held = desk.running.app._records._kept.deliveries._outlets["api"].queue  # type: ignore[union-attr]
    async with asyncio.timeout(20):
        while not held:
            await asyncio.sleep(0.01)
    claimed = held[0].claimed
    await desk.come_in("msg_gone", "user.deleted", gone(claimed.lane))
    assert not held
    desk.receiver.hold.set()
    await desk.until("msg_gone", "done")
    assert claimed.svix_id not in desk.receiver.ids


async def test_part_of_a_list_may_be_empty_though_more_follows(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "LOOKED_AT", 1)
    await desk.come_in("msg_1", "user.created", user())
    await desk.come_in("msg_2", "session.created", {"id": "sess_1"})
    first = (await desk.get("/v1/webhooks?type=user.created")).json
    assert (first["data"], first["next_cursor"]) == ([], "2")
    rest = (await desk.get(f"/v1/webhooks?type=user.created&cursor={first['next_cursor']}")).json
    assert [each["id"] for each in rest["data"]] == ["msg_1"]


async def test_answers_are_as_the_document_says(desk: Desk) -> None:
    document = Document((await desk.get("/openapi.json")).json)
    await desk.come_in("msg_1", "user.created", user())
    shown = "/v1/webhooks/{id}"
    document.check_answer(await desk.get("/v1/webhooks"), "GET", "/v1/webhooks")
    document.check_answer(await desk.get("/v1/webhooks/msg_1"), "GET", shown)
    document.check_answer(await desk.get("/v1/webhooks/msg_2"), "GET", shown)
    document.check_answer(await desk.post("/v1/webhooks/msg_1/replay"), "POST", f"{shown}/replay")
    document.check_answer(await desk.post("/v1/webhooks/msg_1/replay?upstream=x"), "POST", f"{shown}/replay")
    await desk.come_in("msg_2", "user.deleted", gone("user_1"))
    document.check_answer(await desk.get("/v1/webhooks/msg_1"), "GET", shown)


async def test_it_is_behind_the_token(desk: Desk) -> None:
    for method, target in (("GET", "/v1/webhooks"), ("GET", "/v1/webhooks/x"), ("POST", "/v1/webhooks/x/replay")):
        assert is_problem(await desk.ask(method, target), 401, "missing_credential")
