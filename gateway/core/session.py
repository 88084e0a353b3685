"""Clerk's cookies: which of them count, and what they say together before any signature is checked.

Owns the suffix rules, the cookie state table and the spelling of its reasons. The table is `page_state` for documents;
for any other request, where Clerk answers its handshakes with signed out and the same reason, it is `cookie_state`.
"""

import re
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import orjson

from gateway.core.claims import SESSION_CATEGORY, SILENT_CATEGORY
from gateway.core.handshake import PageQuery
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


class Handshake(NamedTuple):
    """Clerk itself has to say how it stands, and why."""

    reason: str  # Clerk's word


NOTHING = "session-token-and-uat-missing"
NO_DEV_BROWSER = "dev-browser-missing"
NO_CLIENT_UAT = "session-token-but-no-client-uat"
NO_SESSION = "client-uat-but-no-session-token"
OLDER = "session-token-iat-before-client-uat"
SATELLITE = "satellite-needs-syncing"
PRIMARY_ANSWERS = "primary-responds-to-syncing"
DEV_BROWSER_SYNC = "dev-browser-sync"
CAME_ACROSS = "primary-domain-cross-origin-sync"
AFTER_HANDSHAKE = "session-token-missing"  # Clerk was asked, and there is no session
UNKNOWN = frozenset({NO_DEV_BROWSER, NO_CLIENT_UAT, NO_SESSION})  # what a handshake can make clear
TIMES = frozenset({"token-expired", "token-not-active-yet", "token-iat-in-the-future"})  # so can it these of a token

PLAIN_NAMES = CookieNames(b"__session", b"__client_uat", b"__clerk_db_jwt", b"__refresh")


@lru_cache(maxsize=64)
def suffixed_names(suffix: str) -> CookieNames:
    """Name the cookies as Clerk does where several applications share a domain."""
    return CookieNames(*(name + b"_" + suffix.encode() for name in PLAIN_NAMES))


def choose_cookies(cookies: Mapping[bytes, bytes], policy: CredentialPolicy, *, now: float) -> ChosenCookies:
    """Choose between the suffixed and the un-suffixed cookies, for session, time and dev browser together."""
    plain = _under(PLAIN_NAMES, cookies)
    if policy.cookie_suffix is None:
        return plain._replace(refresh=b"")
    suffixed = _under(suffixed_names(policy.cookie_suffix), cookies)
    # Clerk reads the refresh cookie suffixed only, whichever way the others go.
    plain = plain._replace(refresh=suffixed.refresh)
    if suffixed == plain:
        return plain  # the everyday case: either choice says the same, so nothing needs to be decoded
    return suffixed if _uses_suffixed(suffixed, plain, policy, now) else plain


def uses_suffixed_cookies(cookies: Mapping[bytes, bytes], policy: CredentialPolicy, *, now: float) -> bool:
    """Say which of the two Clerk itself chooses, which it is told, also where both say the same."""
    if policy.cookie_suffix is None:
        return False
    suffixed = _under(suffixed_names(policy.cookie_suffix), cookies)
    return _uses_suffixed(suffixed, _under(PLAIN_NAMES, cookies), policy, now)


def _under(names: CookieNames, cookies: Mapping[bytes, bytes]) -> ChosenCookies:
    return ChosenCookies(*(cookies.get(name, b"") for name in names))


def _uses_suffixed(suffixed: ChosenCookies, plain: ChosenCookies, policy: CredentialPolicy, now: float) -> bool:
    """Follow Clerk's eight rules in their order; a missing time is not a time of "0"."""
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
        return SignedOut(NO_DEV_BROWSER, sent, name)
    if not sent:
        return SignedOut(NOTHING, sent, name)
    if not client_uat:
        return SignedOut(NO_CLIENT_UAT, sent, name)
    if not chosen.session:
        return SignedOut(NO_SESSION, sent, name)
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
        raise InvalidToken(OLDER)


def page_state(
    chosen: ChosenCookies, query: PageQuery, *, development: bool, satellite: bool, navigates: bool, name: str = ""
) -> Credential | SignedOut | Handshake:
    """Say what the cookies chosen for an instance amount to where a document is asked for; in Clerk's order.

    `navigates`: it is the page itself, by a browser that says so.
    """
    has_cookies = bool(parse_client_uat(chosen.client_uat) or chosen.session)
    if satellite and navigates and query.synced != "true":
        if query.synced == "false":
            return Handshake(SATELLITE)
        if not has_cookies:  # Clerk's default: a first visit asks nobody
            return SignedOut(NOTHING, sent=False, issuer=name)
    if development and query.redirect_url and not satellite:
        return Handshake(PRIMARY_ANSWERS)  # before the next, so that answering begins no handshake of its own
    if development and query.dev_browser is not None:
        return Handshake(DEV_BROWSER_SYNC)
    state = cookie_state(chosen, development=development, method="GET", name=name)
    if isinstance(state, SignedOut):
        return Handshake(state.reason) if state.reason in UNKNOWN else state
    return Handshake(OLDER) if _is_older(state) else state


def cookie_reason(reason: str, credential: Credential) -> str:
    """Spell a verification reason as Clerk does for a token from a cookie; a header's stays as it is."""
    if credential.source != "cookie":
        return reason
    if reason not in _BEFORE_TIMES and _is_older(credential):
        return OLDER
    if reason == EXPIRED:
        return expired_reason(credential.refresh)
    return _COOKIE_REASONS.get(reason, reason)


def handshake_reason(reason: str, *, refresh: str) -> str:
    """Spell why the time of a token, wherever it stood, needs a handshake; `refresh`: why it was not refreshed."""
    return expired_reason(refresh) if reason == EXPIRED else _COOKIE_REASONS[reason]


def expired_reason(refresh: str) -> str:
    """Spell that a session's token is expired and why it was not refreshed."""
    return f"session-token-expired-refresh-{refresh}"


def auth_message(reason: str | None, *, carrier: str) -> str:
    """Say in Clerk's words what is wrong with a token; "" where its reason says it all. No claim is quoted."""
    reason = _TOKEN_REASONS.get((reason or "").partition("-refresh-")[0], reason)
    text = _MESSAGES.get(reason or "")
    return f"{text} (reason={reason}, token-carrier={carrier})" if text else ""


def _is_older(credential: Credential) -> bool:
    """Tell whether a token that says it is a session's was minted before the client last signed in or out."""
    header, claims = _unverified(credential.token)
    issued_at = claims.get("iat")
    if header.get("cat") not in _SESSIONS or isinstance(issued_at, bool) or not isinstance(issued_at, (int, float)):
        return False
    return issued_at < credential.client_uat


def session_id_of(token: bytes) -> str | None:
    """Give the id of the session that a token says it is of, without believing it."""
    said = _unverified_claims(token).get("sid")
    return said if isinstance(said, str) and _SESSION_ID.fullmatch(said) else None


EXPIRED = "token-expired"
_COOKIE_REASONS = {
    "token-not-active-yet": "session-token-nbf",
    "token-iat-in-the-future": "session-token-iat-in-the-future",
}
_TOKEN_REASONS = {spelt: reason for reason, spelt in _COOKIE_REASONS.items()} | {"session-token-expired": EXPIRED}
# What Clerk looks at before it compares a token's time with the client's.
_BEFORE_TIMES = frozenset({"token-invalid", "token-type-mismatch"})
_SESSIONS = (None, SESSION_CATEGORY, SILENT_CATEGORY)
_SESSION_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
_CHECK = "Make sure that this is a valid Clerk-generated JWT."
_MESSAGES = {
    EXPIRED: "JWT is expired.",
    "token-not-active-yet": "JWT cannot be used prior to not before date claim (nbf).",
    "token-iat-in-the-future": "JWT issued at date claim (iat) is in the future.",
    "token-invalid": f"Invalid JWT form. {_CHECK}",
    "token-invalid-algorithm": f"Invalid JWT algorithm. {_CHECK}",
    "token-invalid-signature": "JWT signature is invalid.",
    "token-invalid-authorized-parties": "Invalid JWT Authorized party claim (azp).",
    "token-invalid-issuer": "Invalid JWT issuer claim (iss).",
    "token-verification-failed": f"Invalid JWT claims. {_CHECK}",
    "jwk-kid-mismatch": "Unable to find a signing key in JWKS that matches the kid of the provided session token.",
}


def _refresh_reason(chosen: ChosenCookies, method: str) -> str:
    if method != "GET":
        return "non-eligible-non-get"
    # With a refresh cookie Clerk asks its Backend API; a gateway that does not is an SDK without an API client.
    return "missing-api-client" if chosen.refresh else "non-eligible-no-refresh-cookie"


def _unverified_claims(token: bytes) -> Mapping[str, Any]:
    """Decode without believing: only to tell two cookies apart. Empty where it does not decode."""
    return _unverified(token)[1]


def _unverified(token: bytes) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    parts = token.split(b".", 3)
    if len(parts) != 3:
        return {}, {}
    try:
        header, claims = (orjson.loads(urlsafe_b64decode(part + b"==")) for part in parts[:2])
    except ValueError:
        return {}, {}
    return (header, claims) if isinstance(header, dict) and isinstance(claims, dict) else ({}, {})


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
