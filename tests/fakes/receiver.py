"""An upstream that takes deliveries on loopback, says what a test tells it to, and judges signatures as its library does."""

import asyncio
from collections.abc import Callable
from typing import Any

import orjson
from svix.webhooks import Webhook

from tests.fakes.upstream import Received, ScriptedUpstream, read_request, response

SECRET = "whsec_dXBzdHJlYW1zZWNyZXR1cHN0cmVhbQ=="
PATH = "/webhooks/clerk"


class Receiver:
    """The script of a `ScriptedUpstream`: keeps what came, answers with `status`, or as `answer` says."""

    def __init__(self, *, status: int = 200) -> None:
        self.status = status
        self.answer: Callable[[Received], bytes | None] | None = None  # None: no answer at all
        self.seen: list[Received] = []
        self.came: asyncio.Queue[Received] = asyncio.Queue()
        self.live = self.most = 0  # deliveries under way at once
        self.hold: asyncio.Event | None = None  # answers wait for this

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        while (request := await read_request(reader)) is not None:
            self.live += 1
            self.most = max(self.most, self.live)
            self.seen.append(request)
            self.came.put_nowait(request)
            if self.hold is not None:
                await self.hold.wait()
            self.live -= 1
            answer = response(self.status) if self.answer is None else self.answer(request)
            if answer is None:
                return
            writer.write(answer)
            await writer.drain()

    @property
    def ids(self) -> list[str]:
        """The ids of what came, in order."""
        return [str(request.value("svix-id")) for request in self.seen]

    async def next(self) -> Received:
        """Wait for the next delivery."""
        async with asyncio.timeout(20):
            return await self.came.get()

    def upstream(self, port: int = 0) -> ScriptedUpstream:
        """Give the server it stands in."""
        return ScriptedUpstream(self, port=port)


def subscribed(port: int, *events: str, **more: Any) -> dict[str, Any]:
    """Write an upstream that wants events."""
    return {
        "url": f"http://127.0.0.1:{port}",
        "webhooks": {"path": PATH, "events": list(events or ("*",)), "secret": SECRET},
    } | more


def verified(request: Received, *, secret: str = SECRET) -> dict[str, Any]:
    """Give a delivery's event if svix' library accepts it, in either spelling."""
    for spelling in ("svix", "webhook"):
        names = (f"{spelling}-{name}" for name in ("id", "timestamp", "signature"))
        Webhook(secret).verify(request.body, {name: str(request.value(name)) for name in names})
    event: dict[str, Any] = orjson.loads(request.body)
    return event
