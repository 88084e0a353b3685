"""The signed assertion (CONTRACT §6): what it says of a principal, to whom, and how long it is good.

How it is signed is `web/assertions`' business, which key signs it `core/rotation`'s.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gateway.core.model import Principal
from gateway.errors import InternalError

PATH = "/.well-known/gateway/jwks.json"
RENEW_LEFT_S = 10.0  # so much of an assertion is left at least when an upstream gets it, unless its token ends first
MAX_TTL_S = 3600.0  # `core.rotation` keeps old keys for that long; and a signed statement cannot be taken back
MAX_BYTES = 8000  # of the header line: nginx takes one of 8 KiB, Node 16 KiB in all


@dataclass(frozen=True, slots=True)
class AssertionPolicy:
    """Who signs, under which header, for how long, and with keys from where."""

    issuer: str  # exact text of `iss`
    keys_dir: str
    header: str = "X-User-Assertion"
    algorithm: str = "ES256"  # "ES256" | "EdDSA", of keys that are yet to be made
    ttl_s: float = 60.0
    rotate_after_s: float = 720 * 3600.0  # 0 = never by age


@dataclass(frozen=True, slots=True)
class Span:
    """When an assertion is good, and in which time it may be given out again. Unix seconds."""

    issued_at: int
    not_before: int
    expires_at: int
    renew_at: float


def span_of(*, now: float, ttl_s: float, token_ends: float, skew_s: float) -> Span:
    """Say how long an assertion that is signed now may last; `token_ends` is the `exp` of the token behind it."""
    of_token = token_ends + skew_s
    expires = int(min(now + ttl_s, of_token))
    # One that ends with its token cannot be made to last longer: signing it again on every request would gain nothing.
    renew = expires if of_token <= now + ttl_s else expires - min(RENEW_LEFT_S, ttl_s / 2)
    # RFC 7519 §2 allows fractions, but some libraries take whole seconds only. `nbf` is earlier because verifiers'
    # clocks may be behind ours by as much as ours may be behind Clerk's.
    return Span(int(now), int(now - skew_s), expires, renew)


def claims_of(
    principal: Principal, span: Span, *, issuer: str, audience: str, jti: str, with_permissions: bool = True
) -> dict[str, Any]:
    """Write what is asserted of a principal to one upstream; what is not known is left out.

    Raises:
        InternalError: the subject has no form in UTF-8, so nobody could be named.
    """
    if not _is_text(principal.subject):
        raise InternalError(detail="the token's subject cannot be written in UTF-8")
    claims: dict[str, Any] = {
        "iss": issuer,
        "aud": audience,
        "sub": principal.subject,
        "iat": span.issued_at,
        "nbf": span.not_before,
        "exp": span.expires_at,
        "jti": jti,
    }
    claims |= {name: value for name, value in _facts(principal) if value is not None and _is_text(value)}
    permissions = [each for each in principal.org_permissions if _is_text(each)]
    if permissions and with_permissions:
        claims["org_permissions"] = permissions
    if principal.actor is not None and _is_text(principal.actor):
        claims["act"] = {"sub": principal.actor}  # RFC 8693 §4.1
    return claims


def _facts(principal: Principal) -> Iterator[tuple[str, str | None]]:
    yield "sid", principal.session_id
    yield "org_id", principal.org_id
    yield "org_slug", principal.org_slug
    yield "org_role", principal.org_role
    yield "token_type", principal.token_type


def _is_text(value: str) -> bool:
    """Say whether UTF-8 has a form for it: JSON can spell lone surrogates, which libraries read differently."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
