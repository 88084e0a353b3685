"""A running gateway with a store, and Clerk's webhooks sent to it, signed by the `svix` package."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

from svix.webhooks import Webhook

from tests.fakes.clerk_events import body
from tests.fakes.gateway import Answer, Running, gateway, settings

SECRET = "whsec_c2VjcmV0c2VjcmV0c2VjcmV0"
_numbers = count(1)


async def until_up(running: Running) -> None:
    """Wait until the store has been opened."""
    while not running.app._records.is_up:
        await asyncio.sleep(0.01)


@asynccontextmanager
async def with_directory(upstream_port: int, folder: Path, **overrides: Any) -> AsyncIterator[Running]:
    """A gateway that takes webhooks and keeps users in `folder`."""
    clerk = settings(1)["clerk"] | {"webhook_signing_secrets": [SECRET]} | overrides.pop("clerk", {})
    store = {"url": f"sqlite:///{folder / 'gateway.db'}"}
    async with gateway(upstream_port, **({"clerk": clerk, "store": store} | overrides)) as running:
        await until_up(running)
        yield running


async def send_event(running: Running, kind: str, data: dict[str, Any], *, at: int | None = None) -> Answer:
    """Send a webhook, as Clerk's service would now; `at` is the event's own time in ms."""
    payload = body(kind, data, instance=None, at=at if at is not None else int(running.clock() * 1000))
    svix_id, now = f"msg_{next(_numbers)}", int(time.time())
    signature = Webhook(SECRET).sign(svix_id, datetime.fromtimestamp(now, UTC), payload.decode())
    fields = {"svix-id": svix_id, "svix-timestamp": str(now), "svix-signature": signature}
    answer = await running.ask("POST", "/webhooks/clerk", fields=fields, body=payload)
    assert answer.status == 200, answer.body
    return answer
