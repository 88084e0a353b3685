"""Have an issuer's keys at hand: fetched ahead of need, one fetch at a time, the last good set through an outage.

`KeySchedule` decides when, `RemoteKeys` does it. What a key set may contain is `core/verify`'s business, and which
answer an unknown kid earns is the caller's.
"""

import asyncio
import random
import ssl
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

import aiohttp
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from yarl import URL

from gateway.core.verify import MAX_JWKS_BYTES, KeySet, parse_jwks
from gateway.errors import KeysUnavailable


class KeySource(Protocol):
    """Where the keys of one issuer come from."""

    @property
    def generation(self) -> int:
        """Changes only when the keys' content does: verdicts made with another generation are void."""

    @property
    def ready(self) -> bool:
        """Tell whether a set is in force."""

    @property
    def kids(self) -> frozenset[str]:
        """The kids of the set in force that are known by name."""

    def find(self, kid: str | None) -> RSAPublicKey | None:
        """Look up a key in the set in force; never waits."""

    async def fetch_for(self, kid: str | None) -> RSAPublicKey | None:
        """Look again for a key that `find` does not know, fetching where that is allowed.

        Raises:
            KeysUnavailable: no set is in force, so nothing can be said about any kid.
        """


class StaticKeys:
    """Keys from the configuration (`jwt_key`): always there, never fetched."""

    generation = 1
    ready = True

    def __init__(self, keys: KeySet) -> None:
        self._keys = keys

    @property
    def kids(self) -> frozenset[str]:
        """The kids that are known by name."""
        return self._keys.kids

    def find(self, kid: str | None) -> RSAPublicKey | None:
        """Look up a key."""
        return self._keys.find(kid)

    async def fetch_for(self, kid: str | None) -> RSAPublicKey | None:
        """Look up a key: there is nowhere to look again."""
        return self._keys.find(kid)


@dataclass(frozen=True, slots=True)
class RefreshPolicy:
    """How often to ask, how long to believe."""

    life_s: float = 600.0
    refresh_at: float = 0.8  # of life_s
    jitter: float = 0.1  # of the refresh interval, either way, so that many gateways do not ask at once
    forced_every_s: float = 30.0  # between fetches for the sake of unknown kids, over all kids
    unknown_kids: int = 1000
    unknown_kid_s: float = 300.0
    stale_s: float = 24 * 3600.0  # a set is served this long after the last good fetch
    retry_first_s: float = 1.0
    retry_max_s: float = 60.0
    connect_s: float = 2.0
    total_s: float = 5.0


class KeySchedule:
    """Decide when keys are fetched and how long they count. Times are seconds of one monotonic clock."""

    def __init__(self, policy: RefreshPolicy) -> None:
        self._policy = policy
        self._fetched_at: float | None = None
        self._due_at = float("-inf")
        self._retry_at = float("-inf")
        self._force_at = float("-inf")
        self._failures = 0
        self._unknown: dict[str, float] = {}  # kid -> until when; equal lives, so in order of expiry

    def wait_s(self, now: float) -> float:
        """Seconds until the next fetch in the background."""
        return max(0.0, self._due_at - now)

    def is_in_force(self, now: float) -> bool:
        """Tell whether the last good set may still be served."""
        return self._fetched_at is not None and now - self._fetched_at <= self._policy.stale_s

    def may_fetch(self, now: float) -> bool:
        """Tell whether the pause after a failure, if any, is over."""
        return now >= self._retry_at

    def may_force(self, kid: str, now: float) -> bool:
        """Tell whether this kid, missing from the set in force, is worth a fetch now.

        Anyone can invent kids: without the pause and the memory each would be a request to the issuer.
        """
        return self.may_fetch(now) and now >= self._force_at and not self.is_unknown(kid, now)

    @property
    def is_failing(self) -> bool:
        """Tell whether the last fetch brought nothing."""
        return self._failures > 0

    def is_unknown(self, kid: str, now: float) -> bool:
        """Tell whether a recent fetch has already looked for this kid in vain."""
        return self._unknown.get(kid, now) > now

    def forced(self, now: float) -> None:
        """Note a fetch for an unknown kid's sake."""
        self._force_at = now + self._policy.forced_every_s

    def missed(self, kid: str, now: float) -> None:
        """Note that a good fetch did not bring this kid. The oldest is forgotten first."""
        self._unknown.pop(kid, None)
        while len(self._unknown) >= self._policy.unknown_kids:
            del self._unknown[next(iter(self._unknown))]
        self._unknown[kid] = now + self._policy.unknown_kid_s

    def succeeded(self, now: float, chance: float) -> None:
        """Note a good fetch; `chance` is 0 to 1."""
        spread = 1 + self._policy.jitter * (2 * chance - 1)
        self._fetched_at = now
        self._failures = 0
        self._retry_at = now
        self._due_at = now + self._policy.life_s * self._policy.refresh_at * spread

    def failed(self, now: float, chance: float) -> float:
        """Note a failed fetch and return the pause before the next, in seconds; `chance` is 0 to 1."""
        doubled = self._policy.retry_first_s * 2.0 ** min(self._failures, 32)
        pause = min(doubled, self._policy.retry_max_s) * (1 - chance / 2)
        self._failures += 1
        self._retry_at = self._due_at = now + pause
        return pause

    def stop(self) -> None:
        """Allow no fetch for anyone's sake from now on."""
        self._retry_at = float("inf")


class RemoteKeys:
    """Keys from an issuer's key-set address, refreshed in the background between `start` and `close`.

    The session is the caller's: one without cookies and without proxies from the environment.
    """

    def __init__(
        self,
        url: str,
        session: aiohttp.ClientSession,
        policy: RefreshPolicy | None = None,
        *,
        on_event: Callable[..., None],
        now: Callable[[], float] = time.monotonic,
        rng: Callable[[], float] = random.random,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._url = url
        self._session = session
        self._policy = policy or RefreshPolicy()
        self._on_event = on_event
        self._now = now
        self._rng = rng
        self._sleep = sleep
        self._schedule = KeySchedule(self._policy)
        self._keys: KeySet | None = None
        self._generation = 0
        self.date: str | None = None  # what the last answer said it was (RFC 9110 §6.6.1), for `gateway explain`
        self._had_first = asyncio.Event()
        self._fetching: asyncio.Task[bool] | None = None
        self._refresher: asyncio.Task[None] | None = None

    @property
    def generation(self) -> int:
        """0 before the first set, then one more with each set that differs from the last."""
        return self._generation

    @property
    def ready(self) -> bool:
        """Tell whether a set is in force."""
        return self._schedule.is_in_force(self._now())

    @property
    def kids(self) -> frozenset[str]:
        """The kids of the set in force."""
        return self._keys.kids if self._keys is not None and self.ready else frozenset()

    def find(self, kid: str | None) -> RSAPublicKey | None:
        """Look up a key in the set in force; never waits."""
        return self._keys.find(kid) if self._keys is not None and self.ready else None

    async def fetch_for(self, kid: str | None) -> RSAPublicKey | None:
        """Look again for a key that `find` does not know; waits for one fetch at most.

        Raises:
            KeysUnavailable: no set was ever had, it is too old, or it lacks the key and a newer cannot be had.
        """
        if self.ready:
            return await self._look_again(kid) if kid is not None else None
        fetch = self._fetch_under_way() or (self._begin_fetch() if self._schedule.may_fetch(self._now()) else None)
        if fetch is not None:
            await _finish(fetch)
        if not self.ready:
            raise KeysUnavailable
        return self.find(kid)

    async def _look_again(self, kid: str) -> RSAPublicKey | None:
        now = self._now()
        fetch = None if self._schedule.is_unknown(kid, now) else self._fetch_under_way()
        if fetch is None and self._schedule.may_force(kid, now):
            self._schedule.forced(now)
            fetch = self._begin_fetch()
        fetched = fetch is not None and await _finish(fetch)
        key = self.find(kid)
        if key is None and fetched:
            self._schedule.missed(kid, self._now())
        elif key is None and self._schedule.is_failing and not self._schedule.is_unknown(kid, now):
            raise KeysUnavailable  # it may be the issuer's newest: nobody could look
        return key

    def start(self) -> None:
        """Begin to fetch, and to refresh in the background."""
        self._refresher = asyncio.create_task(self._refresh())

    async def first(self, timeout_s: float) -> bool:
        """Wait for the first set, at most so long, and tell whether it is there."""
        try:
            await asyncio.wait_for(self._had_first.wait(), timeout_s)
        except TimeoutError:
            return False
        return True

    async def retire(self) -> None:
        """Stop refreshing; who already waits for a fetch still gets it."""
        if self._refresher is not None:
            self._refresher.cancel()
        if (fetch := self._fetch_under_way()) is not None:
            await _finish(fetch)
        await self.close()

    async def close(self) -> None:
        """Stop refreshing and end a fetch under way; who waits for it is told that there are no keys."""
        self._schedule.stop()
        for task in (self._refresher, self._fetching):
            if task is not None:
                task.cancel()
                await asyncio.wait((task,))

    async def _refresh(self) -> None:
        while True:
            while (wait_s := self._schedule.wait_s(self._now())) > 0:
                await self._sleep(wait_s)
            await _finish(self._fetch_under_way() or self._begin_fetch())

    def _fetch_under_way(self) -> asyncio.Task[bool] | None:
        return None if self._fetching is None or self._fetching.done() else self._fetching

    def _begin_fetch(self) -> asyncio.Task[bool]:
        self._fetching = asyncio.create_task(self._fetch())
        return self._fetching

    async def _fetch(self) -> bool:
        try:
            keys = parse_jwks(await self._download())
        # RuntimeError: a session that was closed under our hands; the refresher outlives whatever a fetch can meet.
        except (aiohttp.ClientError, OSError, ValueError, RuntimeError) as error:
            pause_s = self._schedule.failed(self._now(), self._rng())
            told = self._names() | {"cause": cause_of(error), "retry_in_s": round(pause_s, 1)}
            self._on_event("jwks_failed", level="warning", **told)
            return False
        self._schedule.succeeded(self._now(), self._rng())
        self._take(keys)
        return True

    def _take(self, keys: KeySet) -> None:
        if keys != self._keys:
            self._keys = keys
            self._generation += 1
            # Clerk's kids are instance ids: their number is told, they are not.
            self._on_event("jwks_changed", **self._names(), keys=len(keys), generation=self._generation)
        self._had_first.set()

    async def _download(self) -> bytes:
        asked = self._session.get(
            self._url,
            headers={"Accept": "application/json", "Accept-Encoding": "identity"},
            allow_redirects=False,  # keys come from the configured address or not at all
            auto_decompress=False,  # what is compressed all the same is "not JSON", never a bomb
            timeout=aiohttp.ClientTimeout(total=self._policy.total_s, sock_connect=self._policy.connect_s),
        )
        async with asked as answer:
            self.date = answer.headers.get("Date")
            if answer.status != 200:
                raise ValueError(f"status {answer.status}")
            body = bytearray()
            async for chunk in answer.content.iter_any():
                body += chunk
                if len(body) > MAX_JWKS_BYTES:
                    raise ValueError(f"too large: more than {MAX_JWKS_BYTES} bytes")
            return bytes(body)

    def _names(self) -> dict[str, object]:
        url = URL(self._url)
        return {"url": str(url.with_user(None).with_query(None))}


async def _finish(fetch: asyncio.Task[bool]) -> bool:
    # asyncio.wait, unlike await, neither cancels the shared fetch with one client nor its waiters with the fetch.
    await asyncio.wait((fetch,))
    return not fetch.cancelled() and fetch.result()


def cause_of(error: Exception) -> str:
    """Name why a key set could not be had, in words for a log: no secret, no content."""
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return f"DNS: {error.host} cannot be resolved"
    if isinstance(error, (aiohttp.ClientSSLError, ssl.SSLError)):
        return f"TLS: {type(error).__name__}"
    if isinstance(error, TimeoutError):
        return "timeout"
    if isinstance(error, ConnectionRefusedError) or isinstance(
        getattr(error, "os_error", None), ConnectionRefusedError
    ):
        return "connection refused"
    if isinstance(error, ValueError) and not isinstance(error, aiohttp.ClientError):
        return str(error)
    return type(error).__name__
