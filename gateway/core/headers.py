"""What of a client's header goes on, and what the gateway adds: hop-by-hop, reserved names, forwarding fields.

A field is judged once by its name's spelling and the verdict remembered, so a request costs one dictionary look-up per
field. Reading and stripping are one step: no later stage ever sees a field that a client may not send.
"""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import NamedTuple

from gateway.core.credentials import may_forward_authorization, without_clerk_cookies
from gateway.core.model import Identified, Inbound, Peer
from gateway.core.routing import Route, rewrite_target
from gateway.errors import BadRequest

Network = IPv4Network | IPv6Network

# RFC 9110 §7.6.1, and what older agents still send. HTTP2-Settings: RFC 9113 §11.2, only ever an h2c offer.
HOP_BY_HOP = (
    "Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authenticate", "Proxy-Authorization", "TE", "Trailer",
    "Transfer-Encoding", "Upgrade", "HTTP2-Settings",
)  # fmt: skip
# CONTRACT §5: names by which some server or framework would believe a client about itself.
RESERVED_PREFIXES = ("X-Clerk-", "Clerk-", "X-Forwarded-", "X-Original-")
RESERVED_NAMES = (
    "Forwarded", "X-Real-IP", "X-Client-IP", "True-Client-IP", "CF-Connecting-IP", "X-Rewrite-URL",
    "X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "Proxy", "Remote-User", "X-Remote-User",
    "X-Request-Id", "traceparent",
)  # fmt: skip
# Fields a rule looks at. True: they also go on as they came.
WATCHED = {
    "host": False, "authorization": False, "cookie": False, "connection": False, "upgrade": False, "expect": False,
    "content-length": False, "transfer-encoding": False, "origin": True, "user-agent": True, "sec-fetch-site": True,
    "access-control-request-method": True, "access-control-request-headers": True,
    "access-control-request-private-network": True, "x-forwarded-for": False, "x-forwarded-proto": False,
    "x-forwarded-host": False, "x-forwarded-port": False, "x-request-id": False, "traceparent": False, "tracestate": False,
}  # fmt: skip
NOT_NOMINABLE = frozenset({"host", "content-length", "transfer-encoding", "connection"})
REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
TRACEPARENT = re.compile(rb"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")  # W3C Trace Context §3.2
REMEMBERED_NAMES = 2048
COMMON = (
    "Accept-Encoding", "Accept-Language", "Cache-Control", "Content-Encoding", "Content-Type", "DNT", "If-Match",
    "If-Modified-Since", "If-None-Match", "Pragma", "Priority", "Range", "Referer", "Sec-CH-UA", "Sec-CH-UA-Mobile",
    "Sec-CH-UA-Platform", "Sec-Fetch-Mode", "Sec-Fetch-User", "Upgrade-Insecure-Requests",
)  # fmt: skip


def folded(name: str) -> str:
    """Fold a name as the laxest server would.

    CGI-style servers turn X-User-Id, X_User_Id and X.User.Id into one HTTP_X_USER_ID (RFC 3875 §4.1.18), so a client
    could bring a second identity past a filter that compares names literally.
    """
    return re.sub(r"[^a-z0-9]", "-", name.lower())


class Watched(NamedTuple):
    """A field some rule reads; `prefix` is set when it also goes on."""

    name: str
    prefix: bytes | None


class ClientFields(NamedTuple):
    """A request's header, read once: see `core.model.Inbound`."""

    fields: list[bytes]
    seen: dict[str, bytes]
    repeated: frozenset[str]


class FieldRules:
    """Judges client fields by name; one for a configuration, since the identity names are configured."""

    def __init__(self, identity_prefix: str, identity_names: Iterable[str] = ()) -> None:
        self._prefixes = tuple(folded(prefix) for prefix in (identity_prefix, *RESERVED_PREFIXES))
        names = (*HOP_BY_HOP, *RESERVED_NAMES, *identity_names)
        self._reserved = frozenset(folded(name) for name in names)
        self._judged: dict[bytes, bytes | Watched | None] = {}
        for name in (*COMMON, *(watched.title() for watched in WATCHED)):
            for spelling in (name, name.lower()):
                self._judged[spelling.encode()] = self._judge(spelling)

    def _judge(self, name: str) -> bytes | Watched | None:
        exact, prefix = name.lower(), f"\r\n{name}: ".encode("latin-1")
        goes_on = WATCHED.get(exact)
        if goes_on is not None:
            return Watched(exact, prefix if goes_on else None)
        fold = folded(name)
        # `Content_Length` and its like are nobody's honest header and some server's real one.
        if fold in self._reserved or fold in WATCHED or fold.startswith(self._prefixes):
            return None
        return prefix

    def _verdict(self, name: bytes) -> bytes | Watched | None:
        verdict = self._judge(name.decode("latin-1"))
        # Full means full: dropping old names would let a client that invents new ones push the common ones out.
        if len(self._judged) < REMEMBERED_NAMES and len(name) <= 64:
            self._judged[name] = verdict
        return verdict

    def read(self, raw: Sequence[tuple[bytes, bytes]]) -> ClientFields:
        """Split a received header into what may go on and what rules look at."""
        fields: list[bytes] = []
        seen: dict[str, bytes] = {}
        repeated: frozenset[str] = frozenset()
        judged = self._judged
        for name, value in raw:
            verdict = judged[name] if name in judged else self._verdict(name)
            if verdict.__class__ is bytes:  # half the price of isinstance
                fields += (verdict, value)
            elif isinstance(verdict, Watched):
                watched, prefix = verdict
                if watched in seen:
                    repeated |= {watched}
                    value_so_far = seen[watched]
                    seen[watched] = value_so_far + (b"; " if watched == "cookie" else b", ") + value
                else:
                    seen[watched] = value
                if prefix is not None:
                    fields += (prefix, value)
        connection = seen.get("connection")
        if connection is not None and connection not in (b"keep-alive", b"Keep-Alive", b"close"):
            fields = _without_nominated(connection, fields, seen)
        return ClientFields(fields, seen, repeated)


def _without_nominated(connection: bytes, fields: list[bytes], seen: dict[str, bytes]) -> list[bytes]:
    """Drop what `Connection` names (RFC 9110 §7.6.1); framing and Host cannot be named away."""
    named = {part.strip().lower().decode("latin-1") for part in connection.split(b",")} - NOT_NOMINABLE
    kept = [at for at in range(0, len(fields), 2) if fields[at][2:-2].lower().decode("latin-1") not in named]
    for name in named & seen.keys() - {"upgrade"}:
        del seen[name]
    return [piece for at in kept for piece in fields[at : at + 2]]


class Forwarding(NamedTuple):
    """Whom a request comes from, as far as that may be believed."""

    client: str  # IP address
    scheme: str
    host: bytes  # authority the client used
    port: bytes
    lines: bytes  # X-Forwarded-*, ready for a head


@lru_cache(maxsize=4096)
def _lines(chain: bytes, scheme: str, host: bytes, port: bytes) -> bytes:
    host_line = b"\r\nX-Forwarded-Host: " + host if host else b""
    return b"\r\nX-Forwarded-For: %b\r\nX-Forwarded-Proto: %b%b\r\nX-Forwarded-Port: %b" % (
        chain, scheme.encode(), host_line, port,
    )  # fmt: skip


def forwarding(inbound: Inbound, trusted: Sequence[Network] = ()) -> Forwarding:
    """Say who the client is: the peer itself, or what a trusted proxy says of it."""
    peer, seen = inbound.peer, inbound.seen
    if not peer.trusted:
        port = b"%d" % peer.port
        lines = _lines(peer.address.encode(), peer.scheme, inbound.authority, port)
        return Forwarding(peer.address, peer.scheme, inbound.authority, port, lines)
    came = seen.get("x-forwarded-for")
    chain = b"%b, %b" % (came, peer.address.encode()) if came else peer.address.encode()
    scheme = _last(seen.get("x-forwarded-proto")).decode("latin-1").lower()
    scheme = scheme if scheme in ("http", "https") else peer.scheme
    host = _last(seen.get("x-forwarded-host")) or inbound.authority
    port = _last(seen.get("x-forwarded-port"))
    port = port if port.isdigit() else b"%d" % peer.port
    return Forwarding(_client(came, peer, trusted), scheme, host, port, _lines(chain, scheme, host, port))


def _last(value: bytes | None) -> bytes:
    return value.rpartition(b",")[2].strip() if value else b""


def _client(chain: bytes | None, peer: Peer, trusted: Sequence[Network]) -> str:
    """Take the rightmost address that is not one of ours: everything left of it the client may have made up."""
    for entry in reversed((chain or b"").decode("latin-1").split(",")):
        text = entry.strip()
        try:
            address = ip_address(_without_port(text))
        except ValueError:
            break
        if not is_trusted(str(address), trusted):
            return str(address)
    return peer.address


def _without_port(text: str) -> str:
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0] if text.count(":") == 1 else text


def is_trusted(address: str, trusted: Sequence[Network]) -> bool:
    """Say whether an IP address lies in one of the networks; an IPv4-mapped one counts as the IPv4 it is."""
    if not trusted:
        return False
    parsed = ip_address(address.partition("%")[0])
    mapped = getattr(parsed, "ipv4_mapped", None)
    return any((mapped or parsed) in network for network in trusted)


class Trace(NamedTuple):
    """A request's id and its `traceparent`."""

    request_id: bytes
    traceparent: bytes


def trace(inbound: Inbound, bits: int) -> Trace:
    """Take a trusted proxy's ids, else make them from 192 random bits.

    Our own trace id doubles as the request id, so that either finds the other. Flag 01: an upstream whose sampler
    follows its parent would otherwise record nothing behind the gateway (W3C Trace Context §3.2.2.4).
    """
    digits = b"%048x" % bits
    own = Trace(digits[:32], b"00-%b-%b-01" % (digits[:32], digits[32:]))
    if not inbound.peer.trusted:
        return own
    request_id, parent = inbound.seen.get("x-request-id", b""), inbound.seen.get("traceparent", b"")
    return Trace(
        request_id if REQUEST_ID.fullmatch(request_id) else own.request_id,
        parent if TRACEPARENT.fullmatch(parent) else own.traceparent,
    )


class Outbound(NamedTuple):
    """A request as it goes on: everything but the framing, which belongs to the body."""

    method: str
    pieces: list[bytes]  # join for the head, without the empty line
    route: Route


def build_outbound(
    inbound: Inbound, route: Route, identified: Identified | None, *, forwarded: Forwarding, ids: Trace
) -> Outbound:
    """Put together the head an upstream receives: the client's fields less what it may not say, then ours."""
    upstream, seen = route.upstream, inbound.seen
    host = inbound.authority if upstream.preserve_host and inbound.authority else upstream.endpoint.authority
    plain = not route.strip_segments and not route.add_prefix
    target = inbound.target if plain else rewrite_target(inbound.target, route)
    pieces = [inbound.method.encode(), b" ", target, b" HTTP/1.1\r\nHost: ", host, *inbound.fields]
    if "cookie" in seen or "authorization" in seen:
        _add_credentials(pieces, inbound, route)
    pieces += (forwarded.lines, b"\r\nX-Request-Id: ", ids.request_id, b"\r\ntraceparent: ", ids.traceparent)
    if route.stripped:
        pieces += (b"\r\nX-Forwarded-Prefix: ", route.stripped)
    if inbound.peer.trusted and "tracestate" in seen and ids.traceparent == seen.get("traceparent"):
        pieces += (b"\r\ntracestate: ", seen["tracestate"])
    if identified is not None and upstream.identity:
        pieces.append(identified.fields)
    return Outbound(inbound.method, pieces, route)


def _add_credentials(pieces: list[bytes], inbound: Inbound, route: Route) -> None:
    cookie, authorization = inbound.seen.get("cookie"), inbound.seen.get("authorization")
    if cookie and not route.forward_token:
        cookie = without_clerk_cookies(cookie)
    if cookie:
        pieces += (b"\r\nCookie: ", cookie)
    if authorization is None:
        return
    if route.forward_token or may_forward_authorization(authorization, was_read=route.auth != "public"):
        pieces += (b"\r\nAuthorization: ", authorization)


def refuse_repeated(inbound: Inbound) -> None:
    """Refuse two `Authorization` fields: two servers would read two different ones. Raises BadRequest."""
    if "authorization" in inbound.repeated:
        raise BadRequest("two-credentials")
