"""A gateway that hears from Clerk what ends: a store of its own, and webhooks that tell it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

from tests.fakes.clerk_events import body
from tests.fakes.gateway import CLERK, Answer, Running, gateway, settings
from tests.web.test_webhooks import SECRET, signed

_NUMBERS = count(1)
ENDED = {"id": "sess_1", "user_id": "user_1", "status": "ended"}


def ears(store: Path | str, **clerk: Any) -> dict[str, Any]:
    """Give the settings of such a gateway; `store` is a file or a URL."""
    url = store if isinstance(store, str) else f"sqlite:///{store}"
    return {
        "clerk": settings(1)["clerk"] | {"webhook_signing_secrets": [SECRET]} | clerk, "store": {"url": url}
    }  # fmt: skip


@asynccontextmanager
async def hearing(upstream_port: int, store: Path | str, **more: Any) -> AsyncIterator[Running]:
    """Start one."""
    async with gateway(upstream_port, **(ears(store) | more)) as running:
        yield running


async def tell(
    running: Running, kind: str, data: dict[str, Any], *, at: float | None = None, svix_id: str | None = None
) -> Answer:
    """Send it a webhook; `at` (Unix seconds) is when Clerk says it happened, the gateway's now unless given."""
    happened = int((running.clock() if at is None else at) * 1000)
    data_sent = body(kind, data, at=happened, instance=CLERK.kid)
    fields = signed(data_sent, svix_id or f"msg_{next(_NUMBERS)}")
    return await running.ask("POST", "/webhooks/clerk", fields=fields, body=data_sent)
