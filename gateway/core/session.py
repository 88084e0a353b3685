"""Clerk's cookies: which of them count, and what they say together before any signature is checked.

Owns the suffix rules, the cookie state table and the spelling of its reasons. The rows for documents (handshake,
satellite) are not here: for any other request Clerk itself answers those rows with signed out and the same reason.
"""

import re
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import orjson

from gateway.core.model import Credential, Principal, SignedOut
from gateway.errors import InvalidToken

_LEADING_INT = re.compile(rb"\s*([+-]?)0*([0-9]{1,18})")


@dataclass(frozen=True, slots=True)
class CredentialPolicy:
    """What must be known of a Clerk instance to read its cookies."""

    issuer: str  # https://<frontend api>
    cookie_suffix: str | None = None  # first 8 characters of base64url(SHA-1(publishable key)); None = not known
    development: bool = False  # such an instance takes no cookies without __clerk_db_jwt
    name: str = ""  # the instance's, in the configuration


class CookieNames(NamedTuple):
    """The four cookies of one instance, under one spelling."""

    session: bytes
    client_uat: bytes
    dev_browser: bytes
    refresh: bytes


class ChosenCookies(NamedTuple):
    """The values of those cookies, b"" where one is missing or empty."""

    session: bytes
    client_uat: bytes
    dev_browser: bytes
    refresh: bytes


PLAIN_NAMES = CookieNames(b"__session", b"__client_uat", b"__clerk_db_jwt", b"__refresh")


@lru_cache(maxsize=64)
def suffixed_names(suffix: str) -> CookieNames:
    """Name the cookies as Clerk does where several applications share a domain."""
    return CookieNames(*(name + b"_" + suffix.encode() for name in PLAIN_NAMES))


def choose_cookies(cookies: Mapping[bytes, bytes], policy: CredentialPolicy, *, now: float) -> ChosenCookies:
    """Choose between the suffixed and the un-suffixed cookies, for session, time and dev browser together."""
    plain = ChosenCookies(*(cookies.get(name, b"") for name in PLAIN_NAMES))
    if policy.cookie_suffix is None:
        return plain._replace(refresh=b"")
    suffixed = ChosenCookies(*(cookies.get(name, b"") for name in suffixed_names(policy.cookie_suffix)))
    # Clerk reads the refresh cookie suffixed only, whichever way the others go.
    plain = plain._replace(refresh=suffixed.refresh)
    return suffixed if _uses_suffixed(suffixed, plain, policy, now) else plain


def _uses_suffixed(suffixed: ChosenCookies, plain: ChosenCookies, policy: CredentialPolicy, now: float) -> bool:
    """Follow Clerk's eight rules in their order; a missing time is not a time of "0"."""
    if suffixed == plain:
        return False  # the everyday case: either choice says the same, so nothing needs to be decoded
    claims = _unverified_claims(plain.session)
    if plain.session:
        if not claims.get("iss"):
            return False
        if not _is_own_issuer(claims["iss"], policy.issuer):
            return True
    if not suffixed.client_uat and not suffixed.session:
        return False
    suffixed_claims = _unverified_claims(suffixed.session)
    out, plain_out = suffixed.client_uat == b"0", plain.client_uat == b"0"
    if not out and not plain_out and _number(claims, "iat") > _number(suffixed_claims, "iat"):
        return False
    if out and not plain_out:
        return False
    if policy.development and not out and plain_out and _is_expired(suffixed_claims, now):
        return False
    return bool(suffixed.client_uat) or not suffixed.session


def cookie_state(chosen: ChosenCookies, *, development: bool, method: str, name: str = "") -> Credential | SignedOut:
    """Say what the cookies chosen for an instance amount to: a session token worth verifying, or signed out."""
    client_uat = parse_client_uat(chosen.client_uat)
    sent = bool(client_uat or chosen.session)
    if development and not chosen.dev_browser:
        return SignedOut("dev-browser-missing", sent)
    if not sent:
        return SignedOut("session-token-and-uat-missing", sent)
    if not client_uat:
        return SignedOut("session-token-but-no-client-uat", sent)
    if not chosen.session:
        return SignedOut("client-uat-but-no-session-token", sent)
    return Credential(chosen.session, "cookie", client_uat, _refresh_reason(chosen, method), name)


def parse_client_uat(value: bytes) -> int:
    """Read a `__client_uat` cookie as JavaScript's `parseInt(value) || 0` does.

    Hexadecimal, which Clerk never writes, reads as 0, and digits past the eighteenth are dropped: both mean signed out.
    """
    found = _LEADING_INT.match(value)
    return int(found[1] + found[2]) if found else 0


def check_cookie(principal: Principal, credential: Credential) -> None:
    """Check that a verified token may come by the cookie that it came by.

    Raises:
        InvalidToken: it is another instance's, or the client has signed out or in again since it was minted.
    """
    if principal.issuer != credential.issuer:
        raise InvalidToken("token-invalid-issuer")
    if principal.issued_at < credential.client_uat:
        raise InvalidToken("session-token-iat-before-client-uat")


def cookie_reason(reason: str, credential: Credential) -> str:
    """Spell a verification reason as Clerk does for a token from a cookie; a header's stays as it is."""
    if credential.source != "cookie":
        return reason
    if reason == "token-expired":
        return f"session-token-expired-refresh-{credential.refresh}"
    return _COOKIE_REASONS.get(reason, reason)


_COOKIE_REASONS = {
    "token-not-active-yet": "session-token-nbf",
    "token-iat-in-the-future": "session-token-iat-in-the-future",
}


def _refresh_reason(chosen: ChosenCookies, method: str) -> str:
    if method != "GET":
        return "non-eligible-non-get"
    # With a refresh cookie Clerk asks its Backend API; a gateway that does not is an SDK without an API client.
    return "missing-api-client" if chosen.refresh else "non-eligible-no-refresh-cookie"


def _unverified_claims(token: bytes) -> Mapping[str, Any]:
    """Decode without believing: only to tell two cookies apart. Empty where it does not decode."""
    parts = token.split(b".", 3)
    if len(parts) != 3:
        return {}
    try:
        header, claims = (orjson.loads(urlsafe_b64decode(part + b"==")) for part in parts[:2])
    except ValueError:
        return {}
    return claims if isinstance(header, dict) and isinstance(claims, dict) else {}


def is_meant_for(credential: Credential, policy: CredentialPolicy) -> bool:
    """Tell whether a cookie's token says that it is of this instance."""
    return _is_own_issuer(_unverified_claims(credential.token).get("iss"), policy.issuer)


def _is_own_issuer(said: object, issuer: str) -> bool:
    return isinstance(said, str) and _host(said) == _host(issuer)


def _host(issuer: str) -> str:
    return issuer.removeprefix("https://").removeprefix("http://")


def _number(claims: Mapping[str, Any], name: str) -> float:
    value = claims.get(name)
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else 0


def _is_expired(claims: Mapping[str, Any], now: float) -> bool:
    expires_at = _number(claims, "exp")
    return bool(expires_at) and expires_at <= int(now)
