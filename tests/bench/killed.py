"""Webhooks, and a gateway that is killed again and again while they come: a scene of `resilience`.

The sender is as Svix is: it sends a message until it is acknowledged, out of order where that takes longer, some twice.
Nothing it was told is stored may be missing afterwards, and the directory is what all events together make of it.
"""

import asyncio
import random
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import orjson
from sqlalchemy import select

from gateway.core.directory import User, fold, row_of
from gateway.core.events import read_event
from gateway.store.database import Database
from gateway.store.tables import INBOX
from tests.bench.crowd import GONE, PATIENCE_S, read_answer
from tests.bench.ground import DRAIN_S, Ground, Outcome
from tests.bench.process import kept_port
from tests.bench.steady import connect
from tests.bench.webhooks import SIGNING, head_of
from tests.fakes.clerk_events import body, gone, user

SENDERS = 32
AGAIN_S = 0.05  # before a message is sent again; Svix waits 5 s at first
PER_USER = 4  # events, about
DELETED, TWICE = 0.03, 0.1  # of all events, of all messages
STARTING = 4  # every so many kills come before the gateway is ready,
READY_S = 1.0  # which takes it about so long
KILL_S = 0.2  # behind as many webhooks as there are senders, at the latest
POLL_S = 0.001
SETTLED_S = 60.0  # within which everything is acknowledged once nobody is killed any more
FIRST_MS = 1_800_000_000_000


@dataclass
class Message:
    """A webhook that is sent until it was acknowledged as often as it should be."""

    svix_id: str
    body: bytes
    left: int
    acknowledged: bool = False


@dataclass
class Post:
    """The sender's side: what was sent, what became of it, and what the directory has to look like for it."""

    rng: random.Random
    acknowledged: set[str] = field(default_factory=set)
    expected: dict[str, User] = field(default_factory=dict)
    waiting: list[Message] = field(default_factory=list)  # to be sent again
    open: int = 0  # messages that are not done with
    repeats: int = 0  # acknowledged as known, of which the sender had not been told
    broken: int = 0  # attempts that ended without an answer
    faults: list[str] = field(default_factory=list)
    over: bool = False
    _made: int = 0

    def next(self) -> Message | None:
        """Give what is to be sent next; None where there is nothing now."""
        if self.waiting and (self.over or self.rng.random() < 0.5):
            return self.waiting.pop(self.rng.randrange(len(self.waiting)))
        return None if self.over else self._new()

    def _new(self) -> Message:
        number, at = self._made, FIRST_MS + self._made
        self._made += 1
        key = f"user_{self.rng.randrange(1 + number // PER_USER)}"
        deleted = self.rng.random() < DELETED
        data = gone(key) if deleted else user(key, updated_at=at, first_name=f"Ada {number}")
        written = body("user.deleted" if deleted else "user.updated", data, at=at)
        row = row_of(read_event(written))
        assert isinstance(row, User)
        self.expected[key] = fold(self.expected.get(key), row)
        self.open += 1
        return Message(f"msg_{number}", written, 2 if self.rng.random() < TWICE else 1)

    def told(self, message: Message, status: int, said: bytes) -> None:
        """Take an answer to it."""
        if status != 200:
            if status != 503:  # the store is not open yet
                self.faults.append(f"{message.svix_id} was answered {status} {said[:200]!r}")
            return self.waiting.append(message)
        known = orjson.loads(said)["status"] == "repeated"
        if message.acknowledged and not known:
            self.faults.append(f"{message.svix_id} was acknowledged, and later it was news")
        self.repeats += known and not message.acknowledged
        message.acknowledged = True
        message.left -= 1
        self.acknowledged.add(message.svix_id)
        if message.left:
            return self.waiting.append(message)
        self.open -= 1
        return None

    def lost(self, message: Message) -> None:
        """Take it that nobody answered."""
        self.broken += 1
        self.waiting.append(message)


class Senders:
    """Sends, on so many connections, whatever there is, until `stop`."""

    def __init__(self, port: int, post: Post) -> None:
        self._port, self._post = port, post
        self._tasks = [asyncio.create_task(self._send_on(number)) for number in range(SENDERS)]

    async def stop(self) -> None:
        """Send no more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _send_on(self, number: int) -> None:
        while True:
            try:
                reader, writer = await connect(self._port, number)
            except OSError:
                await asyncio.sleep(AGAIN_S)
                continue
            try:
                while await self._send(reader, writer):
                    pass
            finally:
                writer.close()

    async def _send(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Send one message; say whether the connection is good for more."""
        message = self._post.next()
        if message is None:
            await asyncio.sleep(AGAIN_S)
            return True
        try:
            async with asyncio.timeout(PATIENCE_S):
                writer.write(head_of(message.svix_id, message.body) + message.body)
                answer = await read_answer(reader)
        except (*GONE, TimeoutError):
            self._post.lost(message)
            return False
        self._post.told(message, answer.status, answer.begun)
        if answer.status == 503:
            await asyncio.sleep(AGAIN_S)
        return not answer.last


async def webhooks(ground: Ground, url: str, kills: int) -> Outcome:
    """Kill the gateway again and again while webhooks come: nothing that was acknowledged is lost."""
    label, port = "webhooks", kept_port()
    settings = ground.settings(port, [ground.ledger("webhooks-api")], store={"url": url})
    settings["clerk"] |= SIGNING
    post = Post(random.Random(kills))
    senders = Senders(port, post)
    for number in range(kills):
        await _killed(ground, label, settings, post, starting=number % STARTING == STARTING - 1)
    gateway = await asyncio.to_thread(ground.gateway, label, settings)
    post.over, until = True, time.monotonic() + SETTLED_S
    while post.open and time.monotonic() < until:
        await asyncio.sleep(AGAIN_S)
    await senders.stop()
    code = await asyncio.to_thread(gateway.stop, DRAIN_S + 3)
    outcome = Outcome(
        f"{len(post.acknowledged):,} webhooks about {len(post.expected):,} users acknowledged; the gateway was killed "
        f"{kills} times, {post.broken:,} attempts met that; {post.repeats:,} of them had been stored already",
        post.faults[:10],
    )
    if post.open:
        outcome.faults.append(f"{post.open} webhooks were not acknowledged within {SETTLED_S:g} s")
    if code:
        outcome.faults.append(f"TERM ended the gateway with {code}")
    outcome.faults += await asyncio.to_thread(judged, url, post.acknowledged, post.expected)
    outcome.blame_gateway(ground, label)
    return outcome


async def _killed(ground: Ground, label: str, settings: Mapping[str, object], post: Post, *, starting: bool) -> None:
    """Start a gateway, and kill it: while it starts, or some webhooks later."""
    gateway = await asyncio.to_thread(ground.gateway, label, settings, waiting=not starting)
    if starting:
        await asyncio.sleep(post.rng.random() * READY_S)
    else:
        enough, until = len(post.acknowledged) + SENDERS, time.monotonic() + PATIENCE_S
        while len(post.acknowledged) < enough and time.monotonic() < until:
            await asyncio.sleep(POLL_S)
        if len(post.acknowledged) < enough:
            post.faults.append(f"no {SENDERS} webhooks were acknowledged within {PATIENCE_S:g} s")
        await asyncio.sleep(post.rng.random() * KILL_S)
    await asyncio.to_thread(gateway.kill)


def judged(url: str, acknowledged: Iterable[str], expected: Mapping[str, User]) -> list[str]:
    """Hold a store against what was acknowledged, and against what all events together make; give what is wrong."""
    database = Database(url)
    try:
        ids = database.read(lambda connection: set(connection.execute(select(INBOX.c.svix_id)).scalars()))
        rows = {key: database.directory.user(key) for key in expected}
    finally:
        database.close()
    missing = sorted(set(acknowledged) - ids)
    wrong = [key for key, row in rows.items() if row != expected[key]]
    return [
        *_fault(missing, "acknowledged webhooks are not in the inbox"),
        *_fault(wrong, "users are not what was sent"),
    ]


def _fault(found: Sequence[str], what: str) -> list[str]:
    return [f"{len(found)} {what}, such as {found[0]}"] if found else []
