"""What of a client's header goes on, and what the gateway adds: hop-by-hop, reserved names, forwarding fields.

A field is judged once by its name's spelling and the verdict remembered, so a request costs one dictionary look-up per
field. Reading and stripping are one step: no later stage ever sees a field that a client may not send.
"""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import NamedTuple

from gateway.core.cors import TOKEN
from gateway.core.credentials import may_forward_authorization, without_clerk_cookies
from gateway.core.model import Identified, Inbound, Peer
from gateway.core.routing import Route, rewrite_target
from gateway.errors import BadRequest

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
# What becomes of a field: b"\r\nAccept: " where it goes on, else b""; the name under which rules read it, else "".
# A bare tuple, since a NamedTuple costs twice as much to take apart.
Verdict = tuple[bytes, str]
DROPPED: Verdict = (b"", "")

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
    "x-forwarded-host": False, "x-forwarded-port": False, "x-request-id": False, "traceparent": False,
    "tracestate": False,
}  # fmt: skip
# What `Connection` cannot name away: Host and framing; and what a trusted proxy says, for a proxy that lets a client's
# `Connection: x-forwarded-for` through would otherwise lose us the client's address, scheme or id.
NOT_NOMINABLE = frozenset({
    "host", "content-length", "transfer-encoding", "connection", "upgrade", "x-forwarded-for", "x-forwarded-proto",
    "x-forwarded-host", "x-forwarded-port", "x-request-id", "traceparent",
})  # fmt: skip
SCHEMES = {b"http": "http", b"https": "https", b"ws": "http", b"wss": "https"}  # as proxies say X-Forwarded-Proto
PORT = re.compile(rb"[0-9]{1,5}")
REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
TRACEPARENT = re.compile(rb"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")  # W3C Trace Context §3.2
REMEMBERED_NAMES, REMEMBERED_LENGTH = 2048, 64
COMMON = (
    "Accept", "Accept-Encoding", "Accept-Language", "Cache-Control", "Content-Encoding", "Content-Type", "DNT",
    "If-Match", "If-Modified-Since", "If-None-Match", "If-Range", "Last-Event-ID", "Pragma", "Priority", "Range",
    "Referer", "Sec-CH-UA", "Sec-CH-UA-Mobile", "Sec-CH-UA-Platform", "Sec-Fetch-Dest", "Sec-Fetch-Mode",
    "Sec-Fetch-User", "Sec-GPC", "Upgrade-Insecure-Requests", "Via", "X-Requested-With",
)  # fmt: skip


def folded(name: str) -> str:
    """Fold a name as the laxest server would.

    CGI-style servers turn X-User-Id, X_User_Id and X.User.Id into one HTTP_X_USER_ID (RFC 3875 §4.1.18), so a client
    could bring a second identity past a filter that compares names literally.
    """
    return re.sub(r"[^a-z0-9]", "-", name.lower())


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
        self._judged: dict[bytes, Verdict] = {}
        for name in (*COMMON, *HOP_BY_HOP, *RESERVED_NAMES, *(watched.title() for watched in WATCHED)):
            for spelling in (name.encode(), name.lower().encode()):
                self._judged[spelling] = self._judge(spelling)

    def _judge(self, spelling: bytes) -> Verdict:
        if not TOKEN.fullmatch(spelling):
            return DROPPED  # parsers refuse such names; one that does not must never get to write our head
        name = spelling.decode()
        exact, fold = name.lower(), folded(name)
        reserved = fold in self._reserved or fold.startswith(self._prefixes)
        prefix = b"" if reserved else b"\r\n%b: " % spelling
        if exact in WATCHED:
            return (prefix if WATCHED[exact] else b""), exact
        # `Content_Length` and its like are nobody's honest header and some server's real one.
        return DROPPED if fold in WATCHED else (prefix, "")

    def _verdict(self, name: bytes) -> Verdict:
        verdict = self._judge(name)
        # Full means full: dropping old names would let a client that invents new ones push the common ones out.
        if len(self._judged) < REMEMBERED_NAMES and len(name) <= REMEMBERED_LENGTH:
            self._judged[name] = verdict
        return verdict

    def read(self, raw: Sequence[tuple[bytes, bytes]]) -> ClientFields:
        """Split a received header into what may go on and what rules look at."""
        fields: list[bytes] = []
        seen: dict[str, bytes] = {}
        repeated: frozenset[str] = frozenset()
        judged = self._judged.get
        for name, value in raw:
            prefix, watched = judged(name) or self._verdict(name)
            if prefix:
                fields += (prefix, value)
            if watched:
                if watched in seen:
                    repeated |= {watched}
                    value = seen[watched] + (b"; " if watched == "cookie" else b", ") + value
                seen[watched] = value
        connection = seen.get("connection")
        if connection is not None and connection not in (b"keep-alive", b"Keep-Alive", b"close"):
            fields = _without_nominated(connection, fields, seen)
        return ClientFields(fields, seen, repeated)


def _without_nominated(connection: bytes, fields: list[bytes], seen: dict[str, bytes]) -> list[bytes]:
    """Drop what `Connection` names (RFC 9110 §7.6.1), where it can be named away."""
    named = {part.strip().lower().decode("latin-1") for part in connection.split(b",")} - NOT_NOMINABLE
    kept = [at for at in range(0, len(fields), 2) if fields[at][2:-2].lower().decode("latin-1") not in named]
    for name in named & seen.keys():
        del seen[name]
    return [piece for at in kept for piece in fields[at : at + 2]]


class Forwarding(NamedTuple):
    """Whom a request comes from, as far as that may be believed."""

    client: str  # IP address
    scheme: str
    host: bytes  # authority the client used
    port: bytes
    lines: bytes  # X-Forwarded-*, ready for a head


def forwarding(inbound: Inbound, trusted: Sequence[Network] = ()) -> Forwarding:
    """Say who the client is: the peer itself, or what a trusted proxy says of it."""
    peer, seen = inbound.peer, inbound.seen
    if not peer.trusted:
        return _of_peer(peer, inbound.authority)
    came, address = seen.get("x-forwarded-for"), peer.address.encode()
    said = SCHEMES.get(_last(seen.get("x-forwarded-proto")).lower())
    scheme = said or peer.scheme
    host = _last(seen.get("x-forwarded-host")) or inbound.authority
    port = _last(seen.get("x-forwarded-port"))
    if not PORT.fullmatch(port):
        # Many proxies send no port: then it is the one their client's URL had, not this listener's behind them.
        port = _port_of(host, said) if said else b"%d" % peer.port
    lines = _lines(b"%b, %b" % (came, address) if came else address, scheme, host, port)
    return Forwarding(_client(came, peer, trusted), scheme, host, port, lines)


@lru_cache(maxsize=2048)
def _of_peer(peer: Peer, authority: bytes) -> Forwarding:
    port = b"%d" % peer.port
    lines = _lines(peer.address.encode(), peer.scheme, authority, port)
    return Forwarding(peer.address, peer.scheme, authority, port, lines)


def _lines(chain: bytes, scheme: str, host: bytes, port: bytes) -> bytes:
    host_line = b"\r\nX-Forwarded-Host: " + host if host else b""
    return b"\r\nX-Forwarded-For: %b\r\nX-Forwarded-Proto: %b%b\r\nX-Forwarded-Port: %b" % (
        chain, scheme.encode(), host_line, port,
    )  # fmt: skip


def _last(value: bytes | None) -> bytes:
    return value.rpartition(b",")[2].strip() if value else b""


def _port_of(host: bytes, scheme: str) -> bytes:
    _, _, port = host.rpartition(b":")
    if port != host and PORT.fullmatch(port):
        return port
    return b"443" if scheme == "https" else b"80"


def _client(chain: bytes | None, peer: Peer, trusted: Sequence[Network]) -> str:
    """Take the rightmost address that is not one of ours: everything left of it the client may have made up.

    Where all are ours it is the leftmost, which is as far as the chain can be believed.
    """
    client = peer.address
    for entry in reversed(chain.decode("latin-1").split(",") if chain else ()):
        address = _read_address(entry.strip()[:REMEMBERED_LENGTH])
        if address is None:
            break
        client = str(address)
        if not _is_inside(address, trusted):
            break
    return client


@lru_cache(maxsize=4096)
def _read_address(text: str) -> Address | None:
    """Read an IP address with or without port, brackets or zone; an IPv4-mapped one is the IPv4 it stands for."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _is_inside(address: Address, networks: Sequence[Network]) -> bool:
    return any(address in network for network in networks)


def is_trusted(address: str, trusted: Sequence[Network]) -> bool:
    """Say whether an IP address lies in one of the networks; an IPv4-mapped one counts as the IPv4 it is."""
    read = _read_address(address)
    return read is not None and _is_inside(read, trusted)


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
