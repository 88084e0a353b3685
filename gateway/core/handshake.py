"""Clerk's handshake from the outside: which requests may be sent through it, whither, and what its way back leaves.

Owns the addresses that documents are sent to, the parameters of Clerk's in their URLs, and the guard against loops.
When a document needs a handshake is `session`'s, the cookies that it brings are `directives`'.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple
from urllib.parse import SplitResult, quote, unquote_plus, urlencode, urljoin, urlsplit

from gateway.core.model import Inbound

API_VERSION: Final = "2026-05-12"  # as `@clerk/backend` says it
DOCUMENT_FIELDS: Final = ("sec-fetch-dest", "accept", "accept-language", "referer")  # that nothing else here reads
SYNCED, REDIRECT_URL, DEV_BROWSER = "__clerk_synced", "__clerk_redirect_url", "__clerk_db_jwt"
HANDSHAKE, NONCE, HELP = "__clerk_handshake", "__clerk_handshake_nonce", "__clerk_help"
ON_THE_WAY_BACK: Final = frozenset({HANDSHAKE, NONCE, HELP, DEV_BROWSER})
DEV_BROWSERS: Final = frozenset({DEV_BROWSER, "__dev_session"})
MOST_REDIRECTS: Final = 3
MAX_LOCATION: Final = 16_384  # bytes; servers take less, and what is longer says nothing that is needed
REDIRECT_COUNT: Final = b"__clerk_redirect_count"
# Where Clerk has the account portals of development instances: free for all to get, so worth nothing in production.
DEV_PORTALS: Final = (".accounts.dev", ".accountsstage.dev", ".accounts.lclclerk.com")
OLD_DEV_PORTALS: Final = (".lcl.dev", ".lclstage.dev", ".lclclerk.com")

_AUTHORITY = re.compile(rb"(?:[A-Za-z0-9._-]{1,255}|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_COUNT = re.compile(rb"[0-9]{1,4}")
_PRINTABLE = "".join(map(chr, range(0x21, 0x7F)))
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class PagesPolicy:
    """How documents of one Clerk instance are signed in."""

    frontend_api: str  # URL, where browsers reach Clerk
    development: bool = False
    handshake: bool = False  # False: what would need one is signed out
    sign_in_url: str | None = None  # URL, or a path of the gateway's own; None: what is signed out is refused
    satellite: bool = False
    public_url: str | None = None  # None: as the request says it
    sync_to: frozenset[str] = frozenset()  # origins that a primary in development answers; empty: any


class PageQuery(NamedTuple):
    """Clerk's parameters in a document's URL, the first of each name; empty where there is none."""

    synced: str = ""
    redirect_url: str = ""
    dev_browser: str | None = None  # "" is there, too
    handshake: str = ""
    nonce: str = ""


_READ: Final = {SYNCED: 0, REDIRECT_URL: 1, DEV_BROWSER: 2, HANDSHAKE: 3, NONCE: 4}
_NO_QUERY: Final = PageQuery()


def is_document(inbound: Inbound) -> bool:
    """Tell whether a browser asks for a document, which alone can be sent elsewhere and come back."""
    if inbound.method != "GET" or inbound.upgrade:
        return False
    seen = inbound.header.seen
    destination = seen.get("sec-fetch-dest")
    if destination:
        return destination in (b"document", b"iframe")
    return seen.get("accept", b"").startswith(b"text/html")


def is_navigation(inbound: Inbound) -> bool:
    """Tell whether it is the page itself, by a browser that says so."""
    return inbound.header.seen.get("sec-fetch-dest") == b"document"


# --- the URL ---------------------------------------------------------------------------------------------------------


def page_url(inbound: Inbound, policy: PagesPolicy) -> str | None:
    """Give the URL that the browser has for this request; None where nothing says it."""
    base = policy.public_url
    if base is None:
        forwarded = inbound.header.forwarding
        assert forwarded is not None
        # What a trusted proxy says of the host it may have from anywhere: it has to have a host's form.
        host = forwarded.host if _AUTHORITY.fullmatch(forwarded.host) else inbound.header.authority
        if not host:
            return None
        base = f"{forwarded.scheme}://{host.decode('latin-1')}"
        if _split(base) is None:
            return None
    return base + quote(inbound.target, safe=_PRINTABLE)


def read_query(target: bytes) -> PageQuery:
    """Read Clerk's parameters out of a target, and nothing else."""
    query = target.partition(b"?")[2]
    if b"__clerk_" not in query and b"%" not in query:
        return _NO_QUERY
    found: list[str | None] = [None] * len(_READ)
    for part in query.decode("utf-8", "replace").split("&"):
        name, _, value = part.partition("=")
        at = _READ.get(unquote_plus(name))
        if at is not None and found[at] is None:
            found[at] = unquote_plus(value)
    synced, redirect_url, dev_browser, handshake, nonce = found
    return PageQuery(synced or "", redirect_url or "", dev_browser, handshake or "", nonce or "")


def without_parameters(url: str, names: Collection[str]) -> str:
    """Take parameters out of a URL and leave the others as they are, byte for byte."""
    address, mark, query = url.partition("?")
    parts = query.split("&")
    kept = [part for part in parts if unquote_plus(part.partition("=")[0]) not in names]
    if len(kept) == len(parts):
        return url
    return f"{address}{mark}{'&'.join(kept)}" if kept else address


def _with_parameter(url: str, name: str, value: str) -> str:
    """Set a parameter, before the fragment if there is one."""
    address, mark, fragment = without_parameters(url.partition("#")[0], (name,)), *url.partition("#")[1:]
    return f"{address}{'&' if '?' in address else '?'}{urlencode({name: value})}{mark}{fragment}"


# --- whither ---------------------------------------------------------------------------------------------------------


def handshake_location(
    policy: PagesPolicy, url: str, *, reason: str, suffixed: bool, session: bytes, dev_browser: str
) -> str:
    """Give the address of a handshake that comes back to `url`."""
    parameters: list[tuple[str, str | bytes]] = [
        ("redirect_url", without_parameters(url, DEV_BROWSERS)),
        ("__clerk_api_version", API_VERSION),
        ("suffixed_cookies", "true" if suffixed else "false"),
        ("__clerk_hs_reason", reason),
        ("format", "nonce"),
    ]
    if session:
        parameters.append(("__session", session))
    if policy.development and dev_browser:
        parameters.append((DEV_BROWSER, dev_browser))
    return f"{policy.frontend_api}/v1/client/handshake?{urlencode(parameters)}"


def sync_location(policy: PagesPolicy, url: str) -> str:
    """Give the address at the primary that a satellite in development asks: who is signed in there?"""
    assert policy.sign_in_url is not None
    return _with_parameter(policy.sign_in_url, REDIRECT_URL, url)


def synced_location(redirect_url: str, *, dev_browser: str) -> str:
    """Give the address at the satellite that a primary in development answers to."""
    answered = _with_parameter(redirect_url, DEV_BROWSER, dev_browser) if dev_browser else redirect_url
    return _with_parameter(answered, SYNCED, "true")


def may_sync_to(policy: PagesPolicy, redirect_url: str) -> bool:
    """Tell whether a primary in development answers to this address: a browser token must not go just anywhere."""
    target = _split(redirect_url)
    if target is None or target.scheme not in _DEFAULT_PORTS or not target.hostname or "@" in target.netloc:
        return False
    if not redirect_url.isascii() or not redirect_url.isprintable() or " " in redirect_url or "\\" in redirect_url:
        return False
    local = target.hostname in ("localhost", "127.0.0.1", "::1") or target.hostname.endswith(".localhost")
    return local or not policy.sync_to or _origin(target) in policy.sync_to


def sign_in_location(policy: PagesPolicy, url: str, *, dev_browser: str) -> str:
    """Give the address of the sign-in page, which leads back to `url`."""
    assert policy.sign_in_url is not None
    target, back = urljoin(url, policy.sign_in_url), without_parameters(url, ON_THE_WAY_BACK)
    elsewhere = _host_and_port(target) != _host_and_port(url)
    if elsewhere and policy.satellite:
        back = _with_parameter(back, SYNCED, "false")  # so that it is synced when the user is back
    target = _with_parameter(target, "redirect_url", back)
    if elsewhere and policy.development and dev_browser:
        target = _with_parameter(target, DEV_BROWSER, dev_browser)
    return target


def is_sign_in_page(policy: PagesPolicy, url: str) -> bool:
    """Tell whether a URL is the sign-in page's own, or one that a sign-in page under another host has led to.

    Sent there it would be sent there again.
    """
    assert policy.sign_in_url is not None
    target, own = urlsplit(urljoin(url, policy.sign_in_url)), urlsplit(url)
    if target.path.rstrip("/") != own.path.rstrip("/"):
        return False
    names = {unquote_plus(part.partition("=")[0]) for part in own.query.split("&")}
    return _host_and_port(url) == _host_and_port(target.geturl()) or "redirect_url" in names


# --- loops and where a document came from ----------------------------------------------------------------------------


def redirects_made(cookies: Mapping[bytes, bytes]) -> int:
    """Count the handshakes of the last moments, as the browser says."""
    value = cookies.get(REDIRECT_COUNT, b"")
    return int(value) if _COUNT.fullmatch(value) else 0


def count_line(made: int) -> bytes:
    """Give the field that counts one more. Clerk: it is forgotten after two seconds, which a loop does not take."""
    return b"\r\nSet-Cookie: %b=%d; SameSite=Lax; HttpOnly; Max-Age=2" % (REDIRECT_COUNT, made + 1)


def came_from_elsewhere(referer: bytes, url: str, policy: PagesPolicy) -> bool:
    """Tell whether a link of another site led here, which may be a satellite where the user has just signed in."""
    source = _split(referer.decode("latin-1"))
    if source is None or not source.scheme:
        return False
    own = urlsplit(url)
    return _origin(source) != _origin(own) and not _is_clerks(source, policy)


def _is_clerks(source: SplitResult, policy: PagesPolicy) -> bool:
    host, frontend = source.hostname or "", urlsplit(policy.frontend_api)
    if host == frontend.hostname:
        return True
    if policy.development:
        if host.endswith(DEV_PORTALS) and not host.endswith(tuple(f".clerk{suffix}" for suffix in DEV_PORTALS)):
            return True
        if host.startswith("accounts.") and host.endswith(OLD_DEV_PORTALS):
            return True
    return _origin(source) == f"https://{_portal(frontend.hostname or '')}"


def _portal(frontend_host: str) -> str:
    """Name the host of the account portal. Clerk: `accounts.` where the Frontend API has `clerk.`."""
    staged = frontend_host.replace("clerk.accountsstage.", "accountsstage.", 1)
    return re.sub(r"clerk\.accounts\.|clerk\.", "accounts.", staged, count=1)


def _split(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        _ = parts.port  # which raises for what is no port
    except ValueError:
        return None
    return parts


def _origin(url: SplitResult) -> str:
    """Serialise an origin (RFC 6454 §6.2); other schemes than the web's have none of their own."""
    if url.scheme not in _DEFAULT_PORTS:
        return "null"
    host = f"[{url.hostname}]" if ":" in (url.hostname or "") else url.hostname
    port = "" if url.port in (None, _DEFAULT_PORTS[url.scheme]) else f":{url.port}"
    return f"{url.scheme}://{host}{port}"


def _host_and_port(url: str) -> tuple[str | None, int | None]:
    parts = urlsplit(url)
    return parts.hostname, parts.port or _DEFAULT_PORTS.get(parts.scheme)
