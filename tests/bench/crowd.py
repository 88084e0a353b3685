"""The clients of a soak that behave, and know what they are owed.

Each is answered by its own upstream's word for who asked, for what and with how much: an answer that is somebody else's
is found at once. `rude` has those that do not behave.
"""

import asyncio
import random
import re
import socket
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from tests.bench.moody import BIG_BYTES, ENDING
from tests.bench.stage import authorised
from tests.bench.tokens import Tokens, claims_of

KEEPALIVE_S = 5
SIZES = (4 << 10, 64 << 10, 1 << 20, BIG_BYTES)
PATIENCE_S = 30.0  # longer than any of the gateway's time-outs, and than a busy machine takes
SHOWN_FAULTS, SHOWN_BYTES = 10, 200
PIECE = bytes(65_536)
LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
GONE = (OSError, EOFError, ValueError)


class Answer(NamedTuple):
    """What came back; of the body its size and beginning."""

    status: int
    size: int
    begun: bytes
    last: bool  # on this connection


class Ask(NamedTuple):
    """A request of a client that behaves, and its only right answer."""

    name: str
    head: bytes
    status: int
    size: int | None = None
    body: bytes | None = None
    upload: int = 0
    chunked: bool = False


def head_of(method: str, target: str, fields: dict[str, str]) -> bytes:
    """Write a request's head but for its end."""
    return "\r\n".join([f"{method} {target} HTTP/1.1", "Host: gw", *(f"{n}: {v}" for n, v in fields.items())]).encode()


async def read_answer(reader: asyncio.StreamReader, *, bodiless: bool = False) -> Answer:
    """Read one answer without keeping it. Raises EOFError where it was cut."""
    head = await reader.readuntil(b"\r\n\r\n")
    status, last = int(head.split(b" ", 2)[1]), b"\r\nConnection: close" in head
    if status == 100:
        return await read_answer(reader, bodiless=bodiless)
    begun, size = b"", 0
    if bodiless or status in (204, 304):
        pass
    elif found := LENGTH.search(head):
        left = size = int(found[1])
        while left:
            data = await reader.read(min(left, 262_144))
            if not data:
                raise EOFError(f"cut {left} bytes before the end")
            begun, left = begun + data[: SHOWN_BYTES - len(begun)], left - len(data)
    else:
        while length := int(await reader.readuntil(b"\r\n"), 16):
            data = await reader.readexactly(length + 2)
            begun, size = begun + data[:-2][: SHOWN_BYTES - len(begun)], size + length
        await reader.readexactly(2)
    return Answer(status, size, begun, last)


class Crowd:
    """All clients of one gateway; `answers` and `bad` count what became of them, `faults` is what should not be."""

    def __init__(self, port: int, tokens: Tokens, many: Sequence[str], down_until: Callable[[], float]) -> None:
        self.port, self._tokens, self._down_until = port, tokens, down_until
        self._many = [(token, claims_of(token)["sub"].encode()) for token in many]
        self._forged = tokens.hostile(4000)
        self._number = 0
        self.answers: Counter[str] = Counter()
        self.bad: Counter[str] = Counter()
        self.excused = 0  # failed while the upstream was down
        self.faults: list[str] = []
        self.fault_count = 0

    def fault(self, text: str) -> None:
        """Note what should not have happened."""
        self.fault_count += 1
        if len(self.faults) < SHOWN_FAULTS:
            self.faults.append(text)

    @asynccontextmanager
    async def connected(self, *, receive_bytes: int = 0) -> Any:
        """Connect, and close in the end."""
        client = socket.socket()
        if receive_bytes:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        client.setblocking(False)
        await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", self.port))
        reader, writer = await asyncio.open_connection(sock=client, limit=1 << 20)
        try:
            yield reader, writer
        finally:
            writer.close()

    def _ask(self) -> Ask:
        self._number += 1
        token, user = random.choice(self._many)
        fields = authorised(token) | {"X-Request-Id": f"soak-{self._number}", "User-Agent": f"soak/{self._number}"}
        kind = random.choices(
            ("get", "post", "big", "chunks", "slow", "preflight", "head", "none", "bad", "role", "route", "health"),
            (400, 60, 2, 2, 2, 30, 10, 20, 30, 10, 10, 5),
        )[0]  # fmt: skip
        target = f"/good/{kind}/{self._number}?page={self._number}"

        def said(size: int = 0) -> bytes:
            return b"%b %b %d" % (user, target.encode(), size)

        match kind:
            case "get":
                return Ask(kind, head_of("GET", target, fields), 200, body=said())
            case "post":
                size = random.choices(SIZES, (60, 20, 10, 3))[0]
                chunked = random.random() < 0.5
                framing = {"Transfer-Encoding": "chunked"} if chunked else {"Content-Length": str(size)}
                head = head_of("POST", target, fields | framing)
                return Ask(f"post {size >> 10} KiB", head, 200, body=said(size), upload=size, chunked=chunked)
            case "big" | "chunks" | "slow":
                return Ask(kind, head_of("GET", target, fields), 200, size=40 if kind == "slow" else BIG_BYTES)
            case "preflight":
                asked = {"Origin": fields["Origin"], "Access-Control-Request-Method": "PUT"}
                return Ask(kind, head_of("OPTIONS", target, asked), 204)
            case "head":
                return Ask(kind, head_of("HEAD", target, fields), 200, size=0)
            case "none":
                return Ask(kind, head_of("GET", target, {}), 401)
            case "bad":
                token = random.choice((self._tokens.expired, random.choice(self._forged)))
                return Ask(kind, head_of("GET", target, fields | authorised(token)), 401)
            case "role":
                return Ask(kind, head_of("GET", "/admin/ok", fields), 403)
            case "route":
                return Ask(kind, head_of("GET", f"/nowhere/{self._number}", fields), 404)
            case _:
                return Ask(kind, head_of("GET", "/readyz", {}), 200)

    async def behave(self) -> None:
        """Ask for many things, connection after connection; some of them are left to the gateway to close."""
        while True:
            async with self.connected() as (reader, writer):
                for _ in range(random.randint(1, 300)):
                    if not await self._one(reader, writer, self._ask()):
                        break
                else:
                    if random.random() < 0.3:
                        await asyncio.sleep(KEEPALIVE_S + 2.5)
                        if not reader.at_eof():
                            self.fault("a connection was kept longer than keepalive_s")

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, ask: Ask) -> bool:
        began = time.monotonic()
        try:
            async with asyncio.timeout(PATIENCE_S):
                writer.write(ask.head + b"\r\n\r\n")
                if ask.upload:
                    await self.upload(writer, ask.upload, chunked=ask.chunked)
                answer = await read_answer(reader, bodiless=ask.head.startswith(b"HEAD"))
        except (*GONE, TimeoutError) as error:
            self.answers["cut"] += 1
            return self._excuse(ask, began, f"{type(error).__name__} {error}")
        self.answers[str(answer.status)] += 1
        right = answer.status == ask.status and ask.size in (None, answer.size) and ask.body in (None, answer.begun)
        if not right:
            self._excuse(ask, began, f"{answer.status} {answer.size} {answer.begun!r}, not {ask.status} {ask.body!r}")
        return right and not answer.last and not ask.chunked

    def _excuse(self, ask: Ask, began: float, what: str) -> bool:
        asked_upstream = ask.status == 200 and ask.name != "health"
        # The breaker's word for it, which a HEAD's answer has no body to say in.
        left_alone = what.startswith("503") and ("no_healthy_endpoint" in what or ask.head.startswith(b"HEAD"))
        right_kind = not what[0].isdigit() or what[:3] in ("502", "504") or left_alone
        if asked_upstream and right_kind and self._down_until() > began:
            self.excused += 1
        else:
            self.fault(f"{ask.name} after {time.monotonic() - began:.1f} s: {what}")
        return False

    async def upload(self, writer: asyncio.StreamWriter, size: int, *, chunked: bool) -> None:
        """Send a body of this size."""
        while size:
            piece = PIECE[: min(size, len(PIECE))]
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
            await writer.drain()
            size -= len(piece)
        if chunked:
            writer.write(b"0\r\n\r\n")

    async def suffer(self) -> None:
        """Ask the moody upstream for everything it does badly."""
        while True:
            mood = random.choice((*ENDING, b"ok", b"big", b"slow")).decode()
            upload = random.choice((0, 0, 100, 200_000))
            fields = authorised(random.choice(self._many)[0]) | {"Content-Length": str(upload)}
            head = head_of(random.choice(("GET", "POST", "PUT")), f"/moody/{mood}/x", fields)
            # A second one that may meet the upstream's connection just as that drops it.
            next_head = head_of("GET", "/moody/ok/x", authorised(self._many[0][0]))
            outcome = "cut"
            try:
                async with self.connected() as (reader, writer):
                    async with asyncio.timeout(PATIENCE_S):
                        writer.write(head + b"\r\n\r\n")
                        await self.upload(writer, upload, chunked=False)
                        writer.write(next_head + b"\r\n\r\n")
                        outcome = str((await read_answer(reader)).status)
            except TimeoutError:
                self.fault(f"moody {mood}: no answer and no end after {PATIENCE_S:g} s")
            except GONE:
                pass
            self.answers[f"moody {outcome}"] += 1

    def good_head(self, target: str = "/good/ok/bad", method: str = "GET", **fields: str) -> bytes:
        """Write a head that is let through, but for its end."""
        named = {name.replace("_", "-"): value for name, value in fields.items()}
        return head_of(method, target, authorised(random.choice(self._many)[0]) | named)
