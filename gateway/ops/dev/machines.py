"""Machine tokens of the local issuer: API keys, M2M and OAuth tokens, opaque or signed, and which of them still hold.

Kept in memory for one run. A signed one cannot be taken back, with Clerk neither: it holds until it expires.
"""

import secrets
import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from gateway.ops.dev import shapes
from gateway.ops.dev.token_request import TokenOptions
from gateway.ops.dev.world import World

MOST = 10_000
M2M_CATEGORY = "cl_B7d4PD333AAA"
MACHINE, CLIENT_ID = "mch_reports", "client_dev"  # of whom tokens are unless it is said otherwise
_LETTERS = string.ascii_letters + string.digits
_IDS = {"api_key": "ak_", "m2m": "mt_", "oauth": "oat_"}  # each secret begins so too, as Clerk's do


@dataclass(frozen=True, slots=True)
class MachineToken:
    """A token as Clerk keeps it; times in ms."""

    kind: str  # api_key | m2m | oauth
    id: str
    subject: str
    scopes: tuple[str, ...]
    audience: tuple[str, ...]
    created_at: int
    updated_at: int
    expires_at: int
    revoked: bool = False


class Machines:
    """All opaque tokens, by secret; `sign` signs the others."""

    def __init__(self, world: World, sign: Callable[..., str]) -> None:
        self._world, self._sign = world, sign
        self._by_secret: dict[str, MachineToken] = {}

    def mint(self, options: TokenOptions) -> tuple[str, dict[str, Any]]:
        """Make a token; give it with what it says.

        Raises:
            ValueError: nobody of that name, or options that do not go with the type.
        """
        made = self._made(options)
        if options.jwt:
            claims, is_oauth = signed_claims(made), made.kind == "oauth"
            category, kind = (None, "at+jwt") if is_oauth else (M2M_CATEGORY, "JWT")
            return self._sign(claims, category, kind=kind, foreign=options.foreign), claims
        secret = _IDS[made.kind] + _random(32)
        if not options.foreign:  # another instance's is one that nothing is known of here
            self._by_secret[secret] = made
            while len(self._by_secret) > MOST:
                del self._by_secret[next(iter(self._by_secret))]
        return secret, machine_json(made, now_ms=self._world.now_ms())

    def _made(self, options: TokenOptions) -> MachineToken:
        now = self._world.now_ms() / 1000
        times = shapes.times(now, options.expires_in)
        created = times["iat"] * 1000
        return MachineToken(
            options.type, _IDS[options.type] + _random(20), self._subject(options), options.scopes, options.audience,
            created, created, times["exp"] * 1000,
        )  # fmt: skip

    def _subject(self, options: TokenOptions) -> str:
        if options.type == "m2m":
            return options.machine or MACHINE
        if options.type == "api_key" and options.org not in (None, "none"):
            return self._world.organisation(str(options.org)).id
        return self._world.person(options.user).id

    def verify(self, kind: str, secret: str) -> dict[str, Any]:
        """Say what a token is good for. Raises LookupError where it is not, whatever the cause."""
        found = self._by_secret.get(secret)
        if found is None or found.kind != kind or not self._holds(found):
            raise LookupError("this token: it never was one, was revoked, or has expired")
        return machine_json(found, now_ms=self._world.now_ms())

    def _holds(self, token: MachineToken) -> bool:
        return not token.revoked and self._world.now_ms() < token.expires_at

    def revoke(self, wanted: str) -> dict[str, Any]:
        """Take one back, by its secret or its id. Raises LookupError."""
        for secret, found in self._by_secret.items():
            if wanted in (secret, found.id):
                moment = max(self._world.now_ms(), found.updated_at + 1)
                revoked = self._by_secret[secret] = replace(found, revoked=True, updated_at=moment)
                return machine_json(revoked, now_ms=moment)
        raise LookupError(f"{wanted[:8]}…")


def machine_json(token: MachineToken, *, now_ms: int) -> dict[str, Any]:
    """Write a token as Clerk's Backend API does: OAuth's times in seconds, the others' in ms."""
    unit = 1000 if token.kind == "oauth" else 1
    common = {
        "id": token.id,
        "subject": token.subject,
        "scopes": list(token.scopes),
        "revoked": token.revoked,
        "revocation_reason": "revoked" if token.revoked else None,
        "expired": now_ms >= token.expires_at,
        "expiration": token.expires_at // unit,
        "created_at": token.created_at // unit,
        "updated_at": token.updated_at // unit,
    }
    return common | _OF_KIND[token.kind](token)


def _api_key(token: MachineToken) -> dict[str, Any]:
    by = token.subject if token.subject.startswith("user_") else None
    extra = {"name": "gateway dev", "description": None, "claims": None, "created_by": by, "last_used_at": None}
    return {"object": "api_key", "type": "api_key"} | extra


def _m2m(token: MachineToken) -> dict[str, Any]:
    return {"object": "machine_to_machine_token", "claims": {"aud": list(token.audience)} if token.audience else None}


def _oauth(token: MachineToken) -> dict[str, Any]:
    audience = {"aud": list(token.audience)} if token.audience else {}
    return {"object": "clerk_idp_oauth_access_token", "type": "oauth_token", "client_id": CLIENT_ID} | audience


_OF_KIND: Mapping[str, Callable[[MachineToken], dict[str, Any]]] = {"api_key": _api_key, "m2m": _m2m, "oauth": _oauth}


def signed_claims(token: MachineToken) -> dict[str, Any]:
    """Write the claims of the signed form. Raises ValueError for an API key, which has none."""
    if token.kind == "api_key":
        raise ValueError("API keys are opaque: --jwt is for m2m and oauth")
    exp, iat = token.expires_at // 1000, token.created_at // 1000
    claims: dict[str, Any] = {"sub": token.subject, "jti": token.id, "exp": exp, "iat": iat}
    claims |= {"aud": list(token.audience)} if token.audience else {}
    scopes = " ".join(token.scopes)
    if token.kind == "oauth":
        return claims | {"client_id": CLIENT_ID, "scope": scopes}
    return claims | {"nbf": iat - shapes.NOT_BEFORE_S} | ({"scopes": scopes} if scopes else {})


def _random(length: int) -> str:
    return "".join(secrets.choice(_LETTERS) for _ in range(length))
