"""Which route a request takes: canonical paths, patterns, the table. Also what strip and add prefixes make of a target.

Rules match the canonical path; what goes on is the received bytes. The two never disagree, because every spelling that
a server could read as another path is refused first.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from gateway.core.cors import CorsPolicy
from gateway.core.limits import RatePolicy
from gateway.core.model import Upstream
from gateway.core.policy import Admission, Requirement
from gateway.errors import BadRequest, GatewayError, MethodNotAllowed, NoRoute

# Nothing to decode, no dot that leads a segment, no empty segment: already canonical (RFC 3986 §6.2.2).
PLAIN = re.compile(r"(?:/(?!\.)[A-Za-z0-9\-._~!$&'()*+,=:@]+)*/?")
# A triplet, or what belongs into one: a bare % and whatever RFC 3986 §3.3 gives no place in a path.
ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})|[^A-Za-z0-9\-._~!$&'()*+,;=:@/]")
# RFC 3986 §2.3 (unreserved) and what §3.3 lets stand for itself in a segment: to almost every server /%40admin is
# /@admin, so a rule for the one that missed the other would be no rule. `;` is not among them: see `ALLOWABLE`.
UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~!$&'()*+,=:@")
# `/a/..;x/b`, `/a/..%2fb` and `/a/..%3fb` climb on one server or another, so every one of these ends a segment here.
SEGMENT_ENDS = re.compile(r"/|;|%2F|%3B|%23|%3F")
ALLOWABLE = ("%2f", ";", "//")
REFUSED = "path"
REMEMBERED_LENGTH = 128


class CanonicalPath(NamedTuple):
    """A path as rules compare it, and which of `ALLOWABLE` it needs a route's consent for."""

    text: str
    oddities: frozenset[str]


NO_ODDITIES: frozenset[str] = frozenset()
NO_RATES = RatePolicy()
NOWHERE = "\0"  # begins no canonical path


def canonical_path(raw: str) -> CanonicalPath:
    """Decode what needs no percent-encoding, encode what does, and find what servers disagree about.

    Raises:
        BadRequest: reason `path`, for a spelling that no route may allow.
    """
    # Remembered, but none that is long: what a client makes up must not fill our memory.
    return _short_path(raw) if len(raw) <= REMEMBERED_LENGTH else _canonical_path(raw)


def _canonical_path(raw: str) -> CanonicalPath:
    if PLAIN.fullmatch(raw) and raw:
        return CanonicalPath(raw, NO_ODDITIES)
    _refuse_ambiguous(raw)
    text = ESCAPE.sub(_canonical, raw)
    segments = SEGMENT_ENDS.split(text)
    if "." in segments or ".." in segments:
        raise BadRequest(REFUSED, detail="dot segment")
    lower = text.lower()
    return CanonicalPath(text, frozenset(oddity for oddity in ALLOWABLE if oddity in lower))


_short_path = lru_cache(maxsize=4096)(_canonical_path)


def _canonical(escape: re.Match[str]) -> str:
    if escape[1] is None:
        # Servers read a bare % as itself. So does this: else `%%32e` would turn into a `%2e` that nobody has judged.
        return "".join(f"%{byte:02X}" for byte in escape[0].encode())
    char = chr(int(escape[1], 16))
    return char if char in UNRESERVED else escape[0].upper()


def _refuse_ambiguous(raw: str) -> None:
    if not raw.startswith("/") or "\\" in raw or "#" in raw or "%5c" in raw.lower():
        raise BadRequest(REFUSED, detail="backslash, fragment or no leading slash")
    try:
        decoded = unquote_to_bytes(raw.encode("utf-8", "surrogateescape")).decode()
    except UnicodeError:
        raise BadRequest(REFUSED, detail="not UTF-8") from None
    if any(char < " " or "\x7f" <= char <= "\x9f" for char in decoded):
        raise BadRequest(REFUSED, detail="control character")


@dataclass(frozen=True, slots=True)
class PathPattern:
    """An exact path, or everything at and below one (`/admin/*` also is `/admin`)."""

    text: str
    below: bool = False

    @classmethod
    def read(cls, pattern: str) -> "PathPattern":
        """Read `/exact` or `/prefix/*`. Raises ValueError with what is wrong."""
        below = pattern.endswith("/*")
        path = pattern[:-2] if below else pattern
        if not pattern.startswith("/") or "*" in path or "?" in path:
            raise ValueError(f'"{pattern}": a path is /exact or a prefix ending in /*')
        if below and path.endswith("/"):
            raise ValueError(f'"{pattern}": write {path.rstrip("/")}/*')
        try:
            text = canonical_path(path).text if path else ""
        except BadRequest as refused:
            raise ValueError(f'"{pattern}" can never match: {refused.detail}') from None
        return cls(text, below)

    def matches(self, path: str) -> bool:
        """Compare with a canonical path, case-sensitively."""
        if not self.below:
            return path == self.text
        # Not startswith alone: /admin/* is /admin and /admin/x, never /adminx.
        return path.startswith(self.text) and (len(path) == len(self.text) or path[len(self.text)] == "/")


@dataclass(frozen=True, slots=True)
class Route:
    """A match, who may pass, and where it goes."""

    name: str
    pattern: PathPattern
    upstream: Upstream
    host: str | None = None  # lower case; "*." for exactly one label
    methods: frozenset[str] = frozenset()  # empty: all
    auth: str = "required"  # "required" | "optional" | "public"
    admission: Admission = field(default_factory=Admission)
    require: Requirement = field(default_factory=Requirement)
    cors: CorsPolicy | None = None
    strip_segments: int = 0  # how many leading path segments `strip_prefix` takes away
    stripped: bytes = b""  # X-Forwarded-Prefix
    add_prefix: bytes = b""  # the upstream's own path and `add_prefix`, without a trailing slash
    max_body_bytes: int = 10_485_760  # 0 = unlimited
    connect_s: float = 5.0
    response_s: float = 30.0
    idle_s: float = 300.0
    stream_max_age_s: float = 0.0  # 0 = as long as it likes
    allow_encoded: frozenset[str] = frozenset()
    forward_token: bool = False
    rates: RatePolicy = NO_RATES  # its own, beside the general ones

    def takes(self, method: str) -> bool:
        """Say whether the route serves this method; GET includes HEAD (RFC 9110 §9.3.2)."""
        return not self.methods or method in self.methods or (method == "HEAD" and "GET" in self.methods)


class RouteTable:
    """The routes in their order; the first that matches host, path and method wins."""

    __slots__ = ("_any_host", "_below", "_routes")

    def __init__(self, routes: Iterable[Route]) -> None:
        self._routes = tuple(routes)
        self._below = tuple(
            (route.pattern.text, f"{route.pattern.text}/" if route.pattern.below else NOWHERE, route)
            for route in self._routes
        )
        self._any_host = all(route.host is None for route in self._routes)

    def __iter__(self) -> Iterator[Route]:
        return iter(self._routes)

    def find(self, authority: bytes, path: CanonicalPath, method: str) -> Route | None:
        """As `match`, but None where no route takes the request. Raises BadRequest alone."""
        try:
            return self.match(authority, path, method)
        except (NoRoute, MethodNotAllowed):
            return None

    def match(self, authority: bytes, path: CanonicalPath, method: str) -> Route:
        """Find the route of a request.

        Raises:
            NoRoute: no route has this host and path.
            MethodNotAllowed: some have, none with this method.
            BadRequest: an ambiguous path without a route.
        """
        host = "" if self._any_host else host_name(authority)
        text = path.text
        for at, below, route in self._below:  # as `_is_at`, without its calls
            if (
                (text.startswith(below) or text == at)
                and (route.host is None or _host_matches(route.host, host))
                and (not route.methods or route.takes(method))
            ):
                return route
        raise self._refusal(host, path)

    def _refusal(self, host: str, path: CanonicalPath) -> GatewayError:
        if path.oddities:
            return BadRequest(REFUSED, detail="ambiguous path without a route")
        methods = {method for route in self._routes if _is_at(route, host, path.text) for method in route.methods}
        if not methods:
            return NoRoute()
        return MethodNotAllowed(tuple(sorted(methods | {"HEAD"} if "GET" in methods else methods)))


def mismatch(route: Route, authority: bytes, path: CanonicalPath, method: str) -> str:
    """Say which part of a request a route does not match, "path", "host" or "method"; "" where `match` would take it.

    The slow way of `RouteTable.match`, for whoever wants to know.
    """
    if not route.pattern.matches(path.text):
        return "path"
    if not _is_at(route, host_name(authority), path.text):
        return "host"
    return "" if route.takes(method) else "method"


def _is_at(route: Route, host: str, text: str) -> bool:
    return route.pattern.matches(text) and (route.host is None or _host_matches(route.host, host))


def require_consent(route: Route, path: CanonicalPath) -> None:
    """Refuse a path that needs an `allow_encoded` its route does not give. Raises BadRequest."""
    if path.oddities and not path.oddities <= route.allow_encoded:
        raise BadRequest(REFUSED, detail="the route allows no " + " ".join(sorted(path.oddities - route.allow_encoded)))


def host_name(authority: bytes) -> str:
    """Give the Host field's name in lower case, without port and brackets."""
    text = authority.decode("latin-1").lower()
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0]


def _host_matches(pattern: str, host: str) -> bool:
    if not pattern.startswith("*."):
        return host == pattern
    label, _, rest = host.partition(".")
    return bool(label) and rest == pattern[2:]


def rewrite_target(target: bytes, route: Route) -> bytes:
    """Apply strip and add prefixes to the received bytes, which otherwise stay as they are.

    Whole segments go, counted on the canonical path: canonicalising never adds or removes a slash, so the count is the
    same in the received bytes, however the stripped part was spelt.
    """
    if route.strip_segments:
        path, mark, query = target.partition(b"?")
        rest = path.split(b"/", route.strip_segments + 1)[route.strip_segments + 1 :]
        target = b"/" + (rest[0] if rest else b"") + mark + query
    return route.add_prefix + target if route.add_prefix else target
