"""How Clerk's Backend API is asked: at a pace, with patience, and what its answers come to when they are no answers.

What is asked for is others' work (`clerk_api`, `machine_tokens`). Raises `ClerkApiDown`: `ClerkApiRefused` where the
key is not taken, `ClerkApiBusy` where a 429 asks for more patience; nothing else. The key is never logged.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Final, NamedTuple

import aiohttp
import orjson

from gateway.core.events import as_name
from gateway.errors import ClerkApiBusy, ClerkApiDown, ClerkApiRefused
from gateway.net.jwks import cause_of

API_VERSION: Final = "2026-05-12"
OTHER_KEY: Final = (
    "Put the {} of this instance into the configuration and reload"  # where Clerk refuses the one there is
)
Query = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Patience:
    """How often it is asked, how long it is waited for."""

    connect_s: float = 5.0
    total_s: float = 30.0
    attempts: int = 5  # where it fails
    first_pause_s: float = 0.5  # doubled each time
    refusals: int = 20  # 429s, each waited out
    longest_wait_s: float = 300.0  # that a Retry-After may ask for
    answer_bytes: int = 64 * 1_048_576  # 500 users with all the metadata Clerk allows are a fourth of it


class Answer(NamedTuple):
    """What Clerk answered, whatever it was, but neither 429 nor 5xx."""

    status: int
    body: bytes

    @property
    def code(self) -> str | None:
        """Clerk's word for what is wrong; None where Clerk did not say it, but somebody in between."""
        try:
            first = orjson.loads(self.body)["errors"][0]["code"]
        except (orjson.JSONDecodeError, LookupError, TypeError):
            return None
        return as_name(first)


class ClerkClient:
    """Asks below `url` with `key`, `per_s` times a second at most; 0: as often as it likes.

    The session is the caller's: see `open_session`. `now` measures, `clock` gives Unix seconds.
    """

    def __init__(
        self,
        url: str,
        key: str,
        session: aiohttp.ClientSession,
        *,
        per_s: float = 0.0,
        patience: Patience | None = None,
        now: Callable[[], float] = time.monotonic,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self._url, self._key, self._session = url.rstrip("/"), key, session
        self._patience = patience or Patience()
        self._now, self._clock, self._sleep, self._rng = now, clock, sleep, rng
        self._interval_s = 1 / per_s if per_s else 0.0
        self._next_at = float("-inf")  # when the next request may leave
        self._turn = asyncio.Lock()  # who comes now does not go before those who wait

    async def ask(self, method: str, path: str, query: Query = (), *, missing: bool = False) -> Any:
        """Ask until there is an answer: the parsed body, or None for a 404 where something may be missing."""
        return _read(path, await self.answer(method, path, query), missing=missing)

    async def answer(self, method: str, path: str, query: Query = (), *, content: Any = None) -> Answer:
        """Ask until there is an answer of Clerk's own, good or not; `content` is sent as JSON."""
        failed = refused = 0
        while True:
            await self._pace()
            try:
                status, fields, body = await self._send(method, path, query, content)
                if status == 429:
                    refused += 1
                    self._hold(path, fields, last=refused > self._patience.refusals)
                    continue
                if status < 500:
                    return Answer(status, body)
                why = f"status {status}"
            # RuntimeError: a session that was closed under our hands.
            except (aiohttp.ClientError, OSError, ValueError, RuntimeError) as error:
                why = cause_of(error)
            failed += 1
            if failed >= self._patience.attempts:
                raise ClerkApiDown(detail=f"{path}: {why}")
            pause_s = self._patience.first_pause_s * 2 ** (failed - 1)
            await self._sleep(pause_s * (1 - self._rng() / 2))

    async def _pace(self) -> None:
        """Wait for this request's turn: one after the other, an interval apart, whoever asks."""
        async with self._turn:
            while True:
                now = self._now()
                if now >= self._next_at:
                    self._next_at = now + self._interval_s
                    return
                await self._sleep(self._next_at - now)

    def _hold(self, path: str, fields: Mapping[str, str], *, last: bool) -> None:
        """Let nobody ask before Clerk wants to hear again."""
        wait_s = _wait_s(fields, now=self._clock())
        if last or wait_s > self._patience.longest_wait_s:
            raise ClerkApiBusy(wait_s, detail=f"{path}: status 429, and to wait {wait_s:g} s")
        self._next_at = max(self._next_at, self._now() + wait_s * (1 + self._rng() / 10))

    async def _send(self, method: str, path: str, query: Query, content: Any) -> tuple[int, Mapping[str, str], bytes]:
        patience = self._patience
        asked = self._session.request(
            method,
            self._url + path,
            params=list(query),
            json=content,
            headers={
                "Authorization": f"Bearer {self._key}",
                "Clerk-API-Version": API_VERSION,
                "Accept": "application/json",
                "Accept-Encoding": "identity",
            },
            allow_redirects=False,  # the key goes to the configured address or nowhere
            timeout=aiohttp.ClientTimeout(total=patience.total_s, sock_connect=patience.connect_s),
        )
        async with asked as answer:
            body = bytearray()
            async for chunk in answer.content.iter_any():
                body += chunk
                if len(body) > patience.answer_bytes:
                    raise ValueError(f"too large: more than {patience.answer_bytes} bytes")
            return answer.status, answer.headers, bytes(body)


def open_session() -> aiohttp.ClientSession:
    """Make a session as Clerk is asked with: without cookies, without proxies from the environment."""
    return aiohttp.ClientSession(trust_env=False, auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar())


def _read(path: str, answer: Answer, *, missing: bool) -> Any:
    """Read an answer that is not to be asked for again."""
    status, code = answer.status, answer.code
    # Only where Clerk itself says so: what stands at a wrong address knows of nobody, and who is missing is erased.
    if status == 404 and missing and (code or "").endswith("not_found"):
        return None
    if status in (401, 403):
        raise ClerkApiRefused(code, detail=f"{path}: status {status}, {code or 'without a reason'}")
    if status != 200:
        raise ClerkApiDown(detail=f"{path}: status {status}, {code or 'not in the words of Clerk'}")
    try:
        found = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        raise ClerkApiDown(detail=f"{path}: what came is not JSON") from None
    if found is None:  # which would read as nobody
        raise ClerkApiDown(detail=f"{path}: what came is null")
    return found


def _wait_s(fields: Mapping[str, str], *, now: float) -> float:
    """Read Retry-After, seconds or a date (RFC 9110 §10.2.3); a second where it says nothing one can read."""
    after = fields.get("Retry-After", "").strip()
    if after.isdecimal() and after.isascii() and len(after) < 7:
        return float(after)
    until = _date(after)
    if until is None:
        return 1.0
    # By the clock that the date is of, where the answer tells its time.
    there = _date(fields.get("Date", ""))
    return max(0.0, until - (now if there is None else there))


def _date(text: str) -> float | None:
    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError, OSError):
        return None
