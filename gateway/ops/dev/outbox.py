"""The local issuer's webhooks: sent one after the other to the gateway beside it, and the last of them kept.

Nothing here leaves this machine: the one address it sends to is the gateway's own.
"""

import asyncio
import json
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from gateway.ops.dev.happenings import Happening
from gateway.ops.dev.objects import event_json
from gateway.ops.dev.sending import Answer, Manner, Message, new_id, send, signed_headers

KEPT = 200
PAUSES_S = (0.2, 0.5, 1.0, 2.0)  # Svix' own are 5 s and more; a gateway that starts needs less


@dataclass(slots=True, eq=False)
class Sent:
    """A message, and what became of it."""

    message: Message
    made_at: float
    manner: Manner = field(default_factory=Manner)
    held: bool = False  # waits for the next one to go first
    waiting: int = 0  # times it is still to be sent
    times: int = 0  # it has been sent
    answers: deque[Answer] = field(default_factory=lambda: deque(maxlen=2))

    def shown(self, *, answers: int = 2) -> dict[str, Any]:
        """Give it for the page and the commands, with its last `answers`, 2 at most."""
        last = self.answers[-1] if self.answers else None
        return {
            "svix_id": self.message.id,
            "type": self.message.type,
            "about": self.message.about,
            "at": int(self.made_at * 1000),
            "held": self.held,
            "times": self.times,
            "answers": [{"status": each.status, "answer": each.text} for each in list(self.answers)[-answers:]],
            "status": last and last.status,
            "answer": "held back" if self.held else "being sent" if last is None else last.text,
            "good": last is not None and last.is_good,
        }


def message_of(happening: Happening, *, at: int, instance: str) -> Message:
    """Write the message that tells of something that happened at `at` (ms)."""
    told = event_json(happening.type, happening.data, at=at, instance=instance)
    return Message(new_id(), happening.type, happening.about, json.dumps(told).encode())


def _subject(each: Sent) -> tuple[str, str]:
    return each.message.type.partition(".")[0], each.message.about


class Outbox:
    """Sends to `url`, signing with `secret` for the Clerk instance `instance`; `start` it, `close` it."""

    def __init__(
        self, url: str, secret: str, *, instance: str, now: Callable[[], float] = time.time,
        pauses_s: Sequence[float] = PAUSES_S,
    ) -> None:  # fmt: skip
        self._url, self._secret, self._instance = url, secret, instance
        self._now, self._pauses_s = now, pauses_s
        self._kept: deque[Sent] = deque(maxlen=KEPT)
        self._held: list[Sent] = []
        self._queue: asyncio.Queue[Sent] = asyncio.Queue()
        self._working: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to send."""
        self._working = asyncio.get_running_loop().create_task(self._work())

    async def close(self) -> None:
        """Stop sending; what waits is not sent."""
        if self._working is not None:
            self._working.cancel()
            with suppress(asyncio.CancelledError):
                await self._working

    @property
    def sent(self) -> list[Sent]:
        """The last messages, the newest first."""
        return list(reversed(self._kept))

    def compose(self, happening: Happening) -> Message:
        """Write the message that tells of something."""
        return message_of(happening, at=int(self._now() * 1000), instance=self._instance)

    def signed(self, message: Message, manner: Manner) -> dict[str, str]:
        """Give the fields a message would be sent with now."""
        return signed_headers(message, self._secret, manner, now=self._now())

    def post(
        self, happenings: Iterable[Happening], manner: Manner | None = None, *, twice: bool = False, hold: bool = False
    ) -> list[Sent]:
        """Have these told, in this order; `hold` waits until the next of the same kind and person has gone first."""
        made = []
        for happening in happenings:
            each = Sent(self.compose(happening), self._now(), manner or Manner(), held=hold, waiting=2 if twice else 1)
            self._kept.append(each)
            made.append(each)
        if hold:
            self._held += made
            return made
        overtaken = {_subject(each) for each in made}
        for each in made + [each for each in self._held if _subject(each) in overtaken]:
            self._release(each)
        self._held = [each for each in self._held if each.held]
        return made

    def find(self, svix_id: str) -> Sent:
        """Give a message of the list.

        Raises:
            ValueError: there is none with this id.
        """
        found = next((each for each in self._kept if each.message.id == svix_id), None)
        if found is None:
            raise ValueError(f"no event {svix_id!r} among the last {KEPT}: the page of the local issuer lists them")
        return found

    def again(self, svix_id: str, manner: Manner | None = None) -> Sent:
        """Send a message of the list once more, or now if it was held back. Raises ValueError as `find` does."""
        found = self.find(svix_id)
        if manner is not None:
            found.manner = manner
        if found.held:
            self._held.remove(found)
            self._release(found)
        else:
            found.waiting += 1
            self._queue.put_nowait(found)
        return found

    def _release(self, each: Sent) -> None:
        each.held = False
        for _ in range(each.waiting):
            self._queue.put_nowait(each)

    async def settle(self) -> None:
        """Return once everything that waits has been sent."""
        await self._queue.join()

    async def _work(self) -> None:
        # No proxies from the environment: what is for this machine does not leave it.
        async with aiohttp.ClientSession(trust_env=False) as session:
            while True:
                each = await self._queue.get()
                each.answers.append(await self._deliver(session, each))
                each.times += 1
                each.waiting -= 1
                self._queue.task_done()

    async def _deliver(self, session: aiohttp.ClientSession, each: Sent) -> Answer:
        """Send, and again where nobody answers or the store is not open yet, as Svix does."""
        for pause_s in (*self._pauses_s, None):
            headers = self.signed(each.message, each.manner)
            answer = await send(session, self._url, headers, each.message.body)
            if pause_s is None or answer.status not in (None, 503):
                break
            await asyncio.sleep(pause_s)
        return answer
