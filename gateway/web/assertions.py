"""The signed assertion: signed once for a verified token and an upstream, then remembered with the verdict.

Owns the keys while the gateway runs: looks after their directory in a thread, and publishes them (CONTRACT §6, §7).
"""

import asyncio
import json
from collections.abc import Callable
from typing import Any, Final, Protocol

from aiohttp import hdrs, web

from gateway.core.assertion import MAX_BYTES, PATH, AssertionPolicy, claims_of, span_of
from gateway.core.model import NOTHING_ASSERTED, Asserted, Identified, Upstream
from gateway.errors import InternalError, NoRoute
from gateway.store.keyring import Looked, first_look, look_again
from gateway.store.signing_keys import SigningKey, base64url
from gateway.web.local import Address

LOOK_S: Final = 10.0  # so soon every process knows what another one did; over NFS add what its client caches
PUBLISHED_S: Final = 600  # verifiers may cache the set; short, so that a key that was withdrawn is soon nobody's
CLOSE_S: Final = 1.0

OnEvent = Callable[..., None]


class Keys:
    """The keys of one directory as they are now; `signing` changes only when another key signs."""

    def __init__(self, looked: Looked) -> None:
        self.take(looked)

    def take(self, looked: Looked) -> None:
        """Go by what a look found."""
        self.looked = looked
        self.signing: SigningKey = looked.signing
        self.document = json.dumps({"keys": [dict(key.jwk) for key in looked.published]}).encode()


class Signer:
    """Signs under one configuration's policy."""

    __slots__ = ("_keys", "_now", "_on_event", "_policy", "_prefix", "_random_bits")

    def __init__(
        self, policy: AssertionPolicy, keys: Keys, *, now: Callable[[], float], random_bits: Callable[[int], int],
        on_event: OnEvent,
    ) -> None:  # fmt: skip
        self._policy, self._keys, self._now, self._random_bits = policy, keys, now, random_bits
        self._on_event = on_event
        self._prefix = b"\r\n%b: " % policy.header.encode("ascii")

    @property
    def document(self) -> bytes:
        """The key set."""
        return self._keys.document

    def line(self, identified: Identified | None, upstream: Upstream) -> bytes:
        """Give the header line for an upstream; b"" for an anonymous client, or where nothing is injected."""
        if identified is None or not upstream.identity:
            return b""
        now, known = self._now(), identified.asserted.get(upstream.name)
        if known is not None:
            line, key, made_at, renew_at = known  # on every request: a third of what its attributes would cost
            # `made_at`: a clock that was set back must not have an assertion of its future given out.
            if made_at <= now < renew_at and key is self._keys.signing:
                return line
        made = self._made(identified, upstream.name, now, is_first=known is None)
        if identified.asserted is not NOTHING_ASSERTED:
            identified.asserted[upstream.name] = made
        return made.line

    def _made(self, identified: Identified, audience: str, now: float, *, is_first: bool) -> Asserted:
        policy, principal, key = self._policy, identified.principal, self._keys.signing
        span = span_of(now=now, ttl_s=policy.ttl_s, token_ends=principal.expires_at, skew_s=identified.skew_s)
        said: dict[str, Any] = {"issuer": policy.issuer, "audience": audience, "jti": f"{self._random_bits(128):032x}"}
        line = self._prefix + _signed(claims_of(principal, span, **said), key)
        if len(line) > MAX_BYTES:
            line = self._prefix + _signed(claims_of(principal, span, **said, with_permissions=False), key)
            if is_first:
                self._on_event(
                    "assertion_truncated", level="warning", upstream=audience, user=principal.subject,
                    why=f"with org_permissions it is longer than {MAX_BYTES} bytes",
                )  # fmt: skip
        if len(line) > MAX_BYTES:
            raise InternalError(detail=f"the assertion exceeds {MAX_BYTES} bytes without permissions")
        return Asserted(line, key, now, span.renew_at)


def _signed(claims: dict[str, Any], key: SigningKey) -> bytes:
    payload = base64url(json.dumps(claims, separators=(",", ":"), ensure_ascii=False).encode())
    message = b"%b.%b" % (key.header, payload)
    return b"%b.%b" % (message, base64url(key.sign(message)))


class Assertions:
    """Makes signers, and looks after the keys of the one in use. `look` is for `Deadlines.on_sweep`."""

    def __init__(
        self, on_event: OnEvent, *, now: Callable[[], float], monotonic: Callable[[], float],
    ) -> None:  # fmt: skip
        self._on_event, self._now, self._monotonic = on_event, now, monotonic
        self._policy: AssertionPolicy | None = None
        self._keys: Keys | None = None
        self._looking: asyncio.Future[Looked] | None = None
        self._look_at = 0.0
        self._told: tuple[str, ...] = ()

    async def signer(self, policy: AssertionPolicy | None, random_bits: Callable[[int], int]) -> Signer | None:
        """Make the signer of a configuration and look after its keys from now on; None where nothing is signed.

        Raises:
            KeysUnusable: its keys cannot be had. The ones before stay in force.
        """
        if policy is None:
            self._policy = self._keys = None
            return None
        keys = self._keys
        if keys is None or self._policy is None or self._policy.keys_dir != policy.keys_dir:
            looked = await asyncio.to_thread(first_look, policy, self._now())
            keys = Keys(looked)
            self._tell(looked)
        self._policy, self._keys = policy, keys
        self._look_at = self._monotonic()
        return Signer(policy, keys, now=self._now, random_bits=random_bits, on_event=self._on_event)

    def look(self) -> None:
        """Look at the directory now and then, in a thread: a network's disk may hang, requests may not."""
        if self._looking is not None or self._keys is None or self._monotonic() < self._look_at + LOOK_S:
            return
        policy, keys = self._policy, self._keys
        assert policy is not None
        self._look_at = self._monotonic()
        looking = asyncio.get_running_loop().run_in_executor(None, look_again, policy, keys.looked, self._now())
        looking.add_done_callback(lambda done: self._looked(keys, done))
        self._looking = looking

    def _looked(self, keys: Keys, done: asyncio.Future[Looked]) -> None:
        self._looking = None
        if done.cancelled():
            return
        if (error := done.exception()) is not None:
            self._on_event("signing_keys_trouble", level="error", exc_info=error)
            return
        looked = done.result()
        if looked.published != keys.looked.published or looked.signing is not keys.signing:
            keys.take(looked)
        if keys is self._keys:
            self._tell(looked)

    def _tell(self, looked: Looked) -> None:
        for life in looked.made:
            self._on_event(
                "signing_key_made", kid=life.kid, algorithm=life.algorithm, signs_from=round(life.signs_from)
            )
        if looked.wrong != self._told:
            self._told = looked.wrong
            for why in looked.wrong:
                self._on_event("signing_keys_trouble", level="error", why=why, effect="the known keys stay in force")

    async def close(self) -> None:
        """Look no more; a thread that hangs is not waited for."""
        self._keys = None
        if self._looking is not None:
            await asyncio.wait((self._looking,), timeout=CLOSE_S)


class Publishing(Protocol):
    """A gateway, as whoever verifies its assertions sees it (`web.app`)."""

    @property
    def signer(self) -> Signer | None:
        """What signs; None where nothing does."""


def key_set_address(gateway: Publishing) -> Address:
    """Give the address of the key set."""

    async def key_set(_request: web.Request) -> web.StreamResponse:
        if gateway.signer is None:
            raise NoRoute  # it went while the request came
        headers = {hdrs.CACHE_CONTROL: f"public, max-age={PUBLISHED_S}"}
        return web.Response(body=gateway.signer.document, content_type="application/json", headers=headers)

    return Address(hdrs.METH_GET, PATH, key_set)
