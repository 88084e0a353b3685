"""Tokens of a made-up Clerk instance, good for an hour; signed anew in each run."""

import json
import os
import sys
import time
from base64 import urlsafe_b64decode
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.fakes.clerk import SESSION, FakeClerk, b64url

APP = "https://app.example.com"  # the origin of all requests, and who all tokens are for
LIFE_S = 3600
SIGNATURE_BYTES = 256  # RS256 with a key of 2048 bits
JTI_LENGTH = 20
PROGRESS_EVERY = 1000


def claims_of(token: str) -> dict[str, Any]:
    """Read the claims of a token made here."""
    claims: dict[str, Any] = json.loads(urlsafe_b64decode(token.split(".")[1] + "=="))
    return claims


class Tokens:
    """Mints what the rows send. Signing takes about a millisecond each."""

    def __init__(self) -> None:
        self.clerk = FakeClerk()
        self._header = {"alg": "RS256", "cat": SESSION, "kid": self.clerk.kid, "typ": "JWT"}
        self._made = 0
        self.good = self.mint()
        self.browser = self._of_length(800)
        self.expired = self.mint(exp=int(time.time()) - LIFE_S)

    def mint(self, **claims: Any) -> str:
        """Sign a token of a user and session that no other token has."""
        self._made += 1
        return self._sign(self._made, claims)

    def _sign(self, number: int, claims: dict[str, Any]) -> str:
        now = time.time()
        own = {"sub": f"user_{number:027d}", "sid": f"sess_{number:027d}", "exp": int(now) + LIFE_S}
        # Without spaces, as Clerk writes them.
        header, payload = (
            json.dumps(part, separators=(",", ":")).encode()
            for part in (self._header, self.clerk.session_claims(now, **(own | claims)))
        )
        return self.clerk.sign(header, payload)

    def _of_length(self, length: int) -> str:
        # Three bytes of claims are four of token; what real ones differ by is as good in an id.
        missing = (length - len(self.good)) * 3 // 4
        return self.mint(jti="0" * (JTI_LENGTH + missing))

    def many(self, count: int, what: str, *, first: int | None = None) -> list[str]:
        """Sign as many distinct ones, on every core there is, and tell how far it is.

        With `first` they are of the users of these numbers, whoever has tokens of them already.
        """
        if first is None:
            first, self._made = self._made + 1, self._made + count
        tokens: list[str] = []
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as signers:
            for token in signers.map(lambda number: self._sign(number, {}), range(first, first + count)):
                tokens.append(token)
                if len(tokens) % PROGRESS_EVERY == 0:
                    print(f"  signed {len(tokens)} of {count} {what}", file=sys.stderr)
        return tokens

    def hostile(self, count: int) -> list[str]:
        """Forge as many distinct ones: everything as it should be, but for the signature."""
        signed, _, _ = self.good.rpartition(".")
        # Below the modulus: a number above it is refused without any arithmetic, so no attacker would send it.
        return [f"{signed}.{b64url(bytes(1) + os.urandom(SIGNATURE_BYTES - 1))}" for _ in range(count)]
