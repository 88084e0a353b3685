"""What a request waits for at Clerk's Backend API: what a handshake's nonce stands for, and another session token.

Somebody looks at an empty page meanwhile, so each is asked once, for seconds, by one for all who want the same, and by
a few at a time: however slow that API is, there is a definite answer soon. Nothing here is ever logged but that.
"""

import asyncio
import re
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from hashlib import sha256
from typing import Any, Final, NamedTuple, Protocol
from urllib.parse import quote

import aiohttp
import orjson

from gateway.core.directives import read_directives
from gateway.core.model import BackendAddress
from gateway.errors import ClerkApiDown, ClerkApiRefused
from gateway.net.clerk_api import PER_S
from gateway.net.clerk_client import OTHER_KEY, Answer, ClerkClient, Patience

PATIENCE: Final = Patience(
    connect_s=2.0, total_s=3.0, attempts=1, refusals=0, longest_wait_s=0.0, answer_bytes=262_144
)  # fmt: skip
WAIT_S: Final = 4.0  # in all, with the wait for one's turn
SHARE: Final = 0.4  # of what Clerk takes from an instance: made-up nonces must not spend what others need
AT_ONCE: Final = 64  # half of them nonces, half refreshes: neither may keep the other out
EACH: Final = 8  # of either at once for one address; anybody can make up nonces
MOST: Final = 1_000  # refreshed sessions that are remembered
# Other requests of the same page carry the cookies of before, and a refresh token may be good for one use only.
REFRESHED_LIFE_S: Final = 10.0
FAILED_LIFE_S: Final = 2.0
TELL_EVERY_S: Final = 60.0

_CODE = re.compile(r"[a-z0-9_-]{1,64}")
PATH_OF_NONCES: Final = "/clients/handshake_payload"


class Refreshed(NamedTuple):
    """What came of a refresh: cookies to set, or Clerk's word for why there are none."""

    directives: tuple[str, ...] = ()
    why: str = ""


class Stale(NamedTuple):
    """A session whose token is expired, and the request it came with."""

    session_id: str
    expired_token: str
    refresh_token: str
    suffixed: bool
    origin: str
    headers: Mapping[str, str]
    address: bytes = b""  # of whom it came from, as it is counted


class Events(Protocol):
    """Where it is told that the key is not taken (`telemetry.Log.event`)."""

    def __call__(self, event: str, *, level: str = "info", **fields: Any) -> None:
        """Log that something happened."""


class Handshakes:
    """Asks the Backend API of one instance; `close` it. The session is the caller's."""

    def __init__(
        self, name: str, address: BackendAddress, session: aiohttp.ClientSession, *, on_event: Events,
        now: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._per_s = SHARE * PER_S["test" if address.secret_key.startswith("sk_test_") else "live"]
        self._client = ClerkClient(
            f"{address.url}/v1", address.secret_key, session, per_s=self._per_s, patience=PATIENCE
        )
        self._name, self._on_event, self._now = name, on_event, now
        self._asking: dict[bytes, asyncio.Task[Answer | ClerkApiDown]] = {}
        self._places: Counter[tuple[str, bytes]] = Counter()  # taken, by what for and by whom; b"" is all of them
        self._refreshed: dict[bytes, tuple[float, Refreshed]] = {}
        self._told_at = float("-inf")

    async def payload(self, nonce: str, *, address: bytes = b"") -> tuple[str, ...]:
        """Give the cookies that a handshake's nonce stands for; none where it stands for nothing, or no longer.

        `address` is that of whom it came from, as it is counted.

        Raises:
            ClerkApiDown: that cannot be found out now.
        """
        answer = await self._once(
            _key("nonce", nonce),
            lambda: self._client.answer("GET", PATH_OF_NONCES, [("nonce", nonce)]),
            place=("nonce", address),
        )
        if answer.status == 200:
            said = _member(answer, "directives")
            if not isinstance(said, list):
                raise ClerkApiDown(detail=f"{PATH_OF_NONCES}: what came has no directives")
            return read_directives(said)
        self._check_key(answer, PATH_OF_NONCES)
        if answer.code is None:  # somebody in between, who knows of no nonces
            raise ClerkApiDown(detail=f"{PATH_OF_NONCES}: status {answer.status}, not in the words of Clerk")
        return ()

    async def refresh(self, stale: Stale) -> Refreshed:
        """Exchange an expired session token for another one; never raises, what went wrong is Clerk's word for it."""
        key = _key("refresh", stale.expired_token, stale.refresh_token, str(stale.suffixed))
        known = self._refreshed.get(key)
        if known is not None and self._now() < known[0]:
            return known[1]
        refreshed = await self._refresh(key, stale)
        self._keep(key, refreshed)
        return refreshed

    def _keep(self, key: bytes, refreshed: Refreshed) -> None:
        life_s = REFRESHED_LIFE_S if refreshed.directives else FAILED_LIFE_S
        self._refreshed.pop(key, None)
        if len(self._refreshed) >= MOST:
            del self._refreshed[next(iter(self._refreshed))]
        self._refreshed[key] = (self._now() + life_s, refreshed)

    async def _refresh(self, key: bytes, stale: Stale) -> Refreshed:
        path = f"/sessions/{quote(stale.session_id, safe='')}/refresh"
        content = {
            "format": "cookie",
            "expired_token": stale.expired_token,
            "refresh_token": stale.refresh_token,
            "request_origin": stale.origin,
            "request_headers": {name: [value] for name, value in stale.headers.items()},
        }
        query = [("suffixed_cookies", "true")] if stale.suffixed else []

        async def ask() -> Answer:
            answer = await self._client.answer("POST", path, query, content=content)
            if answer.status == 200:
                self._keep(key, _refreshed(answer))  # also where whoever asked has left and is to come again
            return answer

        try:
            answer = await self._once(key, ask, place=("refresh", stale.address))
            self._check_key(answer, path)
        except ClerkApiRefused as refused:
            return Refreshed(why=_word(refused.reason))
        except ClerkApiDown:
            return Refreshed(why="fetch-error")
        return _refreshed(answer)

    def _check_key(self, answer: Answer, path: str) -> None:
        """Say loudly that nobody can be signed in this way. Raises ClerkApiRefused."""
        if answer.code != "clerk_key_invalid" and not (answer.status in (401, 403) and answer.code is None):
            return
        if self._now() - self._told_at >= TELL_EVERY_S:
            self._told_at = self._now()
            self._on_event(
                "clerk_key_refused", level="error", issuer=self._name, key="secret_key",
                why=f"status {answer.status}, {answer.code or 'without a reason'}",
                effect="no document can be signed in or refreshed", remedy=OTHER_KEY.format("secret_key"),
            )  # fmt: skip
        raise ClerkApiRefused(answer.code, detail=f"{path}: status {answer.status}, {answer.code or 'no reason given'}")

    async def _once(self, key: bytes, ask: Callable[[], Awaitable[Answer]], *, place: tuple[str, bytes]) -> Answer:
        """Ask, or wait for the answer to the same question. Raises ClerkApiDown."""
        asking = self._asking.get(key) or self._begin(key, ask, place=place)
        # Unlike await this neither cancels the question with one of those who wait, nor them with the question.
        await asyncio.wait((asking,))
        answer = ClerkApiDown(detail="the gateway is stopping") if asking.cancelled() else asking.result()
        if isinstance(answer, ClerkApiDown):
            raise ClerkApiDown(detail=answer.detail)
        return answer

    def _begin(
        self, key: bytes, ask: Callable[[], Awaitable[Answer]], *, place: tuple[str, bytes]
    ) -> asyncio.Task[Answer | ClerkApiDown]:
        """Begin to ask where there is a place for that. Raises ClerkApiDown."""
        of_all = (place[0], b"")
        if self._places[of_all] >= self._most or (place[1] and self._places[place] >= EACH):
            raise ClerkApiDown(detail=f"too many of a kind are waiting for an answer already: {place[0]}")
        taken = {of_all, place}
        self._places.update(taken)

        def done(_task: object) -> None:
            self._asking.pop(key, None)
            self._places.subtract(taken)
            self._places = +self._places  # nothing is kept of who has gone

        asking = self._asking[key] = asyncio.create_task(_within(ask))
        asking.add_done_callback(done)
        return asking

    @property
    def _most(self) -> int:
        """How many of either are asked at once: no more than get their turn in time, a second before it is over."""
        return max(1, min(AT_ONCE, int((WAIT_S - 1) * self._per_s)) // 2)

    async def close(self) -> None:
        """End what is being asked."""
        asking = tuple(self._asking.values())
        for task in asking:
            task.cancel()
        if asking:
            await asyncio.wait(asking)


async def _within(ask: Callable[[], Awaitable[Answer]]) -> Answer | ClerkApiDown:
    """Give the answer, or why there is none: whoever asked may have left, and then nobody would see it raised."""
    try:
        async with asyncio.timeout(WAIT_S):
            return await ask()
    except TimeoutError:
        return ClerkApiDown(detail=f"no answer within {WAIT_S:g} s")
    except ClerkApiDown as down:
        return down


def _refreshed(answer: Answer) -> Refreshed:
    if answer.status == 200:
        directives = read_directives(_member(answer, "cookies"))
        return Refreshed(directives) if directives else Refreshed(why="unexpected-sdk-error")
    if answer.code == "unexpected_error":
        return Refreshed(why="fetch-error")
    return Refreshed(why=_word(answer.code))


def _word(code: str | None) -> str:
    """Give Clerk's own word where it is one, which goes into a reason."""
    return code if code is not None and _CODE.fullmatch(code) else "unexpected-bapi-error"


def _member(answer: Answer, name: str) -> Any:
    try:
        found = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        return None
    return found.get(name) if isinstance(found, dict) else None


def _key(*parts: str) -> bytes:
    """Name a question without keeping what is secret in it."""
    return sha256("\0".join(parts).encode("utf-8", "surrogatepass")).digest()
