"""Stored webhooks and their deliveries on the admin listener: `/v1/webhooks`, one by id, and sent again."""

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from typing import Any, Final, Protocol

import orjson
from aiohttp import hdrs, web

from gateway.core.delivery import PATTERN, STATES
from gateway.core.events import as_name
from gateway.errors import BadRequest, NotFound
from gateway.store.base import Kept, Replayed
from gateway.store.sql import SqlStore
from gateway.web.local import Address
from gateway.web.paging import PAGE, limit_of, number, query

KIND: Final = "webhook"


class Replaying(Protocol):
    """A gateway, as whoever looks after its webhooks sees it (`web.app`)."""

    @property
    def inbox(self) -> SqlStore:
        """Where webhooks are kept. Raises StoreDown where there is nothing."""

    def subscribers(self, kind: str) -> tuple[str, ...]:
        """Name the upstreams that events of a type are delivered to."""

    async def replay(self, svix_id: str, upstreams: Sequence[str]) -> Replayed:
        """Deliver a stored webhook to these once more. Raises StoreDown."""


def admin_webhook_addresses(gateway: Replaying) -> tuple[Address, ...]:
    """Give the addresses."""
    return (
        Address(hdrs.METH_GET, "/v1/webhooks", partial(webhooks, gateway)),
        Address(hdrs.METH_GET, "/v1/webhooks/{id}", partial(webhook, gateway)),
        Address(hdrs.METH_POST, "/v1/webhooks/{id}/replay", partial(replay, gateway)),
    )


async def webhooks(gateway: Replaying, request: web.Request) -> web.StreamResponse:
    """List webhooks, the newest first."""
    given = query(request, "type", "state", *PAGE)
    kind, state, limit = given.get("type"), given.get("state"), limit_of(given)
    before = number(given, "cursor") if "cursor" in given else None
    if kind is not None and as_name(kind) is None:
        raise BadRequest("type")
    if kind is not None and "*" in kind and not PATTERN.fullmatch(kind):
        raise BadRequest("type")
    if state is not None and state not in STATES:
        raise BadRequest("state")
    found, following = await gateway.inbox.read(
        lambda database: database.webhooks.latest(kind=kind, state=state, before=before, limit=limit)
    )
    cursor = None if following is None else str(following)
    return _answer({"data": [shown(each) for each in found], "next_cursor": cursor})


async def webhook(gateway: Replaying, request: web.Request) -> web.StreamResponse:
    """Show a webhook with its payload."""
    query(request)
    kept = await _kept(gateway, request)
    payload = kept.stored.payload
    return _answer({**shown(kept), "payload": None if payload is None else orjson.Fragment(payload)})


async def replay(gateway: Replaying, request: web.Request) -> web.StreamResponse:
    """Deliver a webhook once more to those that want its type, or to the one that is named."""
    given = query(request, "upstream")
    kept = await _kept(gateway, request)
    wanting = gateway.subscribers(kept.stored.type)
    named = given.get("upstream")
    upstreams = tuple(each for each in wanting if named in (None, each))
    if not upstreams:
        raise BadRequest("not_subscribed")
    replayed = await gateway.replay(kept.stored.svix_id, upstreams)
    if not replayed.has_payload:
        raise BadRequest("erased")
    return _answer({"status": "waiting", "upstreams": replayed.upstreams})


async def _kept(gateway: Replaying, request: web.Request) -> Kept:
    svix_id = as_name(request.match_info["id"])
    inbox = gateway.inbox
    kept = None if svix_id is None else await inbox.read(lambda database: database.webhooks.show(svix_id))
    if kept is None:
        raise NotFound(KIND)
    return kept


def shown(kept: Kept) -> dict[str, Any]:
    """Say what a webhook is, without its payload, and how its deliveries stand."""
    stored = kept.stored
    deliveries = [asdict(each) for each in kept.deliveries]
    for each in deliveries:
        del each["svix_id"]
    return {
        "id": stored.svix_id, "type": stored.type, "object_id": stored.object_id, "user_id": stored.user_id,
        "happened_at": stored.happened_at, "received_at": stored.received_at, "has_payload": kept.has_payload,
        "deliveries": deliveries,
    }  # fmt: skip


def _answer(content: Any) -> web.Response:
    return web.Response(body=orjson.dumps(content), content_type="application/json")
