"""Find the one credential of a request, and keep it from going where it should not.

Owns where a token may stand (`Authorization`, Clerk's cookies; never the query), from which origins a cookie counts,
and which cookies and `Authorization` values an upstream does not get. What the cookies say together is `session`'s.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import unquote_to_bytes

from gateway.core.model import Credential, Header, Inbound, SignedOut
from gateway.core.session import CredentialPolicy, choose_cookies, cookie_state, is_meant_for
from gateway.core.upgrade import read_offer
from gateway.errors import BadRequest, Forbidden

__all__ = [
    "Credential",
    "CredentialPolicy",
    "SignedOut",
    "check_cookie_origin",
    "find_credential",
    "is_own_credential",
    "may_forward_authorization",
    "read_cookies",
    "without_clerk_cookies",
]

# Padding is not base64url as RFC 7515 §2 has it, but Clerk decodes it, so it is still a token.
_JWT = re.compile(rb"[\w-]+={0,2}\.[\w-]+={0,2}\.[\w-]*={0,2}")
_MACHINE_PREFIXES = (b"ak_", b"mt_", b"m2m_", b"oat_")
_READ_COOKIE = re.compile(
    rb"(?:^|;)[ \t]*(__(?:session|client_uat|refresh|clerk_(?:db_jwt|handshake|redirect_count))[^=; \t]*)[ \t]*=([^;]*)"
)
_CLERK_COOKIE = re.compile(rb"(?:^|;)\s*__(?:session|client|refresh|clerk_)[^;]*", re.IGNORECASE)
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_DEFAULT_PORT = {b"https": b":443", b"http": b":80"}
_NOTHING = SignedOut("session-token-and-uat-missing", sent=False)


def find_credential(inbound: Inbound, policies: Sequence[CredentialPolicy], *, now: float) -> Credential | SignedOut:
    """Find the request's one credential at `now` (Unix seconds), among the cookies of these Clerk instances.

    A header token is the credential even where it cannot be good: a cookie never rescues it, and it is remembered with
    the header. What cookies say depends on the method and the time.

    Raises:
        BadRequest: `Authorization` was sent more than once, or a WebSocket brings more than one token.
    """
    header = inbound.header
    if inbound.upgrade and (token := _offered_token(header)) is not None:
        return Credential(token, "header")
    if header.credential is not None:
        return header.credential
    authorization = header.seen.get("authorization")
    if authorization is not None:
        if "authorization" in header.repeated:
            raise BadRequest("two-credentials")
        token = _header_token(authorization)
        if token is not None:
            header.credential = Credential(token, "header")
            return header.credential
    cookie = header.seen.get("cookie", b"")
    if b"__session" not in cookie and b"__client_uat" not in cookie and not any(each.development for each in policies):
        return _NOTHING  # of a development instance even these say something: whether its browser is known
    return _of_cookies(read_cookies(cookie), policies, method=inbound.method, now=now)


def _of_cookies(
    cookies: Mapping[bytes, bytes], policies: Sequence[CredentialPolicy], *, method: str, now: float
) -> Credential | SignedOut:
    """Say what the cookies amount to; of several instances, with the first one that they say a session is of.

    Also where that session's token is expired and another instance's is not: else a moment's delay of a page's script
    would make its user somebody else. Whoever signs out of one is known by the next.
    """
    states = []
    for policy in policies:
        chosen = choose_cookies(cookies, policy, now=now)
        state = cookie_state(chosen, development=policy.development, method=method, name=policy.name)
        if isinstance(state, Credential) and (len(policies) == 1 or is_meant_for(state, policy)):
            return state
        states.append(state)
    # A token that names another issuer than its cookies' instance may be good yet, by a proxy of that instance's; if it
    # is not, or there is none, the reason is better than none.
    tokens = (state for state in states if isinstance(state, Credential))
    sent = (state for state in states if isinstance(state, SignedOut) and state.sent)
    return next(tokens, None) or next(sent, states[0])


def _offered_token(header: Header) -> bytes | None:
    """Take the token out of a WebSocket's list of sub-protocols."""
    offered = read_offer(header.seen.get("sec-websocket-protocol")).tokens
    if not offered:
        return None
    if len(offered) > 1 or _header_token(header.seen.get("authorization", b"")) is not None:
        raise BadRequest("two-credentials")
    return offered[0]


def _header_token(value: bytes) -> bytes | None:
    """Take the token out of an `Authorization` value; None where it is another scheme's."""
    token = _bearer_token(value)
    if token is not None:
        return token
    value = value.strip(b" \t")
    return value if _JWT.fullmatch(value) else None


def _bearer_token(value: bytes) -> bytes | None:
    # RFC 9110 §11.1: schemes are case-insensitive. Nothing after the scheme is an empty token and inner blanks stay in
    # it: whoever says Bearer means this gateway, so verification shall refuse it, not a cookie replace it.
    if value.startswith(b"Bearer "):  # as everybody spells it
        return value[7:].strip(b" \t")
    if value[:6].lower() == b"bearer" and value[6:7] in (b" ", b"\t", b""):
        return value[7:].strip(b" \t")
    return None


def read_cookies(cookie: bytes) -> Mapping[bytes, bytes]:
    """Read Clerk's cookies out of a `Cookie` value: the first of a name counts, quotes belong to the value."""
    found: dict[bytes, bytes] = {}
    for name, value in _READ_COOKIE.findall(cookie):
        if name not in found:
            found[name] = _percent_decoded(value.strip(b" \t"))
    return found


def _percent_decoded(value: bytes) -> bytes:
    # Only now, after splitting: decoding the whole header first would let a `%3B` in one value begin another cookie.
    return unquote_to_bytes(value) if b"%" in value else value


def is_own_credential(authorization: bytes) -> bool:
    """Tell whether an `Authorization` value has the form of a credential of Clerk's: a JWT or a machine token."""
    token = _bearer_token(authorization)
    if token is None:
        token = authorization.strip(b" \t")
    return token.startswith(_MACHINE_PREFIXES) or _JWT.fullmatch(token) is not None


def may_forward_authorization(value: bytes, *, was_read: bool) -> bool:
    """Tell whether an `Authorization` value may go on to an upstream that gets no tokens.

    `was_read`: the route reads credentials, so every Bearer value was this gateway's, whatever its form.
    """
    if was_read and _bearer_token(value) is not None:
        return False
    return not is_own_credential(value)


def without_clerk_cookies(cookie: bytes) -> bytes:
    """Drop Clerk's cookies from a `Cookie` value and keep the others byte for byte, b"" where none is left."""
    if b"__" not in cookie:
        return cookie
    kept = _CLERK_COOKIE.sub(b"", cookie)
    return cookie if kept == cookie else kept.lstrip(b"; \t")


def check_cookie_origin(
    inbound: Inbound,
    *,
    scheme: str | None,
    host: bytes,
    listed: Callable[[bytes], bool],
    authorized_parties: frozenset[str],
) -> None:
    """Check that a cookie was sent by a page that may act for its user; reading is open to all.

    `scheme` is the request's own, None where a proxy not trusted may have changed it; `host` is its Host value.

    Raises:
        Forbidden: the request changes something or upgrades, and comes from elsewhere or does not say whence.
    """
    # `__session` is SameSite=Lax, which keeps other sites out but not sibling subdomains, and a WebSocket handshake is
    # a GET that no CORS rule guards (RFC 6455 §10.2).
    if inbound.method in _SAFE_METHODS and not inbound.upgrade:
        return
    header = inbound.header
    if "origin" in header.repeated or "sec-fetch-site" in header.repeated:
        raise Forbidden("origin")
    origin = header.seen.get("origin")
    if origin is None:
        if header.seen.get("sec-fetch-site") == b"same-origin":
            return
        raise Forbidden("origin")
    # Sandboxed frames and files of any author all say `null` (RFC 6454 §7.3), so no list can make it mean someone.
    if origin == b"null":
        raise Forbidden("origin")
    if _is_own_origin(origin, scheme, host) or listed(origin) or origin.decode("latin-1") in authorized_parties:
        return
    raise Forbidden("origin")


def _is_own_origin(origin: bytes, scheme: str | None, host: bytes) -> bool:
    said, _, authority = origin.partition(b"://")
    port = _DEFAULT_PORT.get(said)
    if port is None or not authority or (scheme is not None and said != scheme.encode()):
        return False
    return authority == host.lower().removesuffix(port)
