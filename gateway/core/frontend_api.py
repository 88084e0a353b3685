"""The proxy of Clerk's Frontend API: what of a request goes to Clerk, what is said in the gateway's name, and where an
answer's redirects lead. Where the proxy is, is a `Route` like any other; who may pass is Clerk's business.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from urllib.parse import urljoin, urlsplit

from gateway.core.cors import TOKEN
from gateway.core.headers import HOP_BY_HOP, Outbound, folded
from gateway.core.model import Forwarding, Inbound
from gateway.core.routing import Route, rewrite_target

# CONTRACT §5, "At proxy_path only": by which a proxy says whom it speaks for, and from where. Cloudflare, where Clerk
# is, refuses requests that come with its own CF-Connecting-IP.
SAID_BY_PROXIES = (
    "Clerk-Secret-Key", "Clerk-Proxy-Url", "Forwarded", "X-Real-IP", "X-Client-IP", "True-Client-IP",
    "CF-Connecting-IP", "X-Rewrite-URL",
)  # fmt: skip
FORWARDING_PREFIXES = ("X-Forwarded-", "X-Original-")
# Made anew by whoever frames the request; `Expect` is answered here.
FRAMING = ("Host", "Content-Length", "Expect")
# RFC 9110 §9.2.1. Less than idempotent: there is no telling what a method means that Clerk takes by `_method`.
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
DEFAULT_PORTS = {"http": ":80", "https": ":443"}
REFERENCE = re.compile(rb"[!-\[\]-~]+")  # what a URL is made of (RFC 3986 §2), and no backslash
LOCATION = b"\r\nlocation: "


@dataclass(frozen=True, slots=True)
class FrontendApiProxy:
    """The gateway as a proxy: `route` is everything at and below its path, that route's upstream the Frontend API."""

    url: str  # where clients find it
    route: Route
    secret_key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class FrontendApiPolicy:
    """An instance's Frontend API behind a proxy: the gateway's own, or (`proxy` None) somebody else's."""

    proxy_url: str  # without a trailing slash
    proxy: FrontendApiProxy | None = None


class ClerkFields:
    """Judges what of a client's header Clerk gets; one for a configuration, since the identity names are configured."""

    def __init__(self, identity_prefix: str, identity_names: Iterable[str] = ()) -> None:
        self._prefixes = tuple(folded(prefix) for prefix in (identity_prefix, *FORWARDING_PREFIXES))
        self._names = frozenset(map(folded, (*HOP_BY_HOP, *FRAMING, *SAID_BY_PROXIES, *identity_names)))

    def onward(self, raw: Sequence[tuple[bytes, bytes]]) -> bytes:
        """Give the lines that go on: cookies, Authorization and all else, as they came and as often."""
        named = {part.strip().lower() for name, value in raw if name.lower() == b"connection"
                 for part in value.split(b",")}  # fmt: skip
        return b"".join(
            b"\r\n%b: %b" % (name, value) for name, value in raw if name.lower() not in named and self._passes(name)
        )

    def _passes(self, name: bytes) -> bool:
        if not TOKEN.fullmatch(name):
            return False  # parsers refuse such names; one that does not must never get to write our head
        fold = folded(name.decode())
        return fold not in self._names and not fold.startswith(self._prefixes)


class FrontendApiProxies:
    """The proxies of one configuration: whose a path is, and what of a header goes there."""

    def __init__(self, proxies: Iterable[FrontendApiProxy], fields: ClerkFields) -> None:
        self._places = tuple((proxy.route.pattern.text, f"{proxy.route.pattern.text}/", proxy) for proxy in proxies)
        self.fields = fields

    def find(self, path: str) -> FrontendApiProxy | None:
        """Give the proxy at a canonical path, whatever the host."""
        for at, below, proxy in self._places:  # as `PathPattern.matches`, without its calls: every request comes by
            if path.startswith(below) or path == at:
                return proxy
        return None


def to_clerk(inbound: Inbound, onward: bytes, proxy: FrontendApiProxy, *, forwarded: Forwarding) -> Outbound:
    """Put together the head that Clerk receives; `onward` is what `ClerkFields` leaves of the client's.

    The target is the received bytes less the proxy's path, so nothing in it can name another host.
    """
    route = proxy.route
    host, target = route.upstream.endpoints[0].authority, rewrite_target(inbound.target, route)
    lines = _own_lines(proxy, forwarded)
    head = b"%b %b HTTP/1.1\r\nHost: %b%b%b" % (inbound.method.encode(), target, host, onward, lines)
    return Outbound(inbound.method, head, route, repeatable=inbound.method in SAFE)


def _own_lines(proxy: FrontendApiProxy, forwarded: Forwarding) -> bytes:
    # The client alone, not the chain: Clerk takes the leftmost entry, which a client may have made up.
    lines = b"\r\nX-Forwarded-For: %b\r\nX-Forwarded-Proto: %b" % (forwarded.client.encode(), forwarded.scheme.encode())
    if forwarded.host:
        lines += b"\r\nX-Forwarded-Host: " + forwarded.host
    own = b"\r\nClerk-Proxy-Url: %b\r\nClerk-Secret-Key: %b" % (proxy.url.encode(), proxy.secret_key.encode())
    return lines + own


def relocate(head: list[bytes], target: bytes, proxy: FrontendApiProxy) -> None:
    """Lead the redirects in an answer's ready lines through the proxy; `target` is what was asked for, as received."""
    for at, line in enumerate(head):
        name, location = line[: len(LOCATION)], line[len(LOCATION) :]
        if name.lower() == LOCATION:
            head[at] = name + through_proxy(location, rewrite_target(target, proxy.route), proxy)


def through_proxy(location: bytes, target: bytes, proxy: FrontendApiProxy) -> bytes:
    """Give a Location as the client can follow it: one at the Frontend API's host is under the proxy's URL.

    Relative ones too: `/v1/x` would be the gateway's own. What cannot be read for certain stays as it is.
    """
    endpoint, base = proxy.route.upstream.endpoints[0], proxy.route.add_prefix.decode()
    authority = endpoint.authority.decode()
    if not REFERENCE.fullmatch(location):
        return location
    try:
        url = urljoin(f"{'https' if endpoint.tls else 'http'}://{authority}{target.decode()}", location.decode())
        parts = urlsplit(url)
    except ValueError:  # brackets around what is no address
        return location
    port = DEFAULT_PORTS.get(parts.scheme)
    if port is None or parts.netloc.lower().removesuffix(port) != authority:
        return location
    rest = url[len(f"{parts.scheme}://{parts.netloc}") :]
    if not re.match(re.escape(base) + r"(?:[/?#]|$)", rest):
        return location  # beside the path that the proxy leads to
    return (proxy.url + rest[len(base) :]).encode()
