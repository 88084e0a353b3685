"""What of a client's header goes on, and what the gateway adds: hop-by-hop, reserved names, the head sent upstream.

A field is judged once by its name's spelling and the verdict remembered, so a request costs one dictionary look-up per
field. Reading and stripping are one step: no later stage ever sees a field that a client may not send.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from gateway.core.balance import IDEMPOTENT
from gateway.core.convex import forwarding_lines
from gateway.core.cors import TOKEN
from gateway.core.credentials import may_forward_authorization, without_clerk_cookies
from gateway.core.forwarding import TRACEPARENT, Trace
from gateway.core.model import Endpoint, Header, Identified, Inbound
from gateway.core.routing import Route, rewrite_target
from gateway.core.upgrade import request_lines
from gateway.errors import BadRequest

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
    "tracestate": False, "sec-websocket-key": True, "sec-websocket-version": True,
    "sec-websocket-protocol": False, "idempotency-key": True,
}  # fmt: skip
# What `Connection` cannot name away: Host and framing; and what a trusted proxy says, for a proxy that lets a client's
# `Connection: x-forwarded-for` through would otherwise lose us the client's address, scheme or id.
NOT_NOMINABLE = frozenset({
    "host", "content-length", "transfer-encoding", "connection", "upgrade", "x-forwarded-for", "x-forwarded-proto",
    "x-forwarded-host", "x-forwarded-port", "x-request-id", "traceparent",
})  # fmt: skip
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
    """A request's header, read once: see `core.model.Header`."""

    fields: list[bytes]
    seen: dict[str, bytes]
    repeated: frozenset[str]


class FieldRules:
    """Judges client fields by name; one for a configuration, since the identity names are configured."""

    def __init__(
        self, identity_prefix: str, identity_names: Iterable[str] = (), *, also_watched: Iterable[str] = ()
    ) -> None:
        self._watched = WATCHED | dict.fromkeys(also_watched, True)
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
        if exact in self._watched:
            return (prefix if self._watched[exact] else b""), exact
        # `Content_Length` and its like are nobody's honest header and some server's real one.
        return DROPPED if fold in self._watched else (prefix, "")

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


HEAD = b"%b %b%b\r\nX-Request-Id: %b\r\ntraceparent: %b%b"


class Outbound(NamedTuple):
    """A request as it goes on: everything but the framing, which belongs to the body."""

    method: str
    head: bytes  # without the empty line
    route: Route
    upgrade: bool = False
    repeatable: bool = False  # an idempotent method, or a client that gave it an idempotency key

    def head_for(self, endpoint: Endpoint) -> bytes:
        """Give the head as this endpoint gets it: with its own Host, where the upstream's is asked for."""
        if self.route.upstream.preserve_host:
            return self.head
        line, _, rest = self.head.partition(b"\r\n")
        return b"%b\r\nHost: %b\r\n%b" % (line, endpoint.authority, rest.partition(b"\r\n")[2])


def build_outbound(
    inbound: Inbound, route: Route, identified: Identified | None, ids: Trace, *, assertion: bytes = b""
) -> Outbound:
    """Put together the head an upstream receives: the client's fields less what it may not say, then ours.

    `core.forwarding.forwarding` has judged the header before; `assertion` is a ready line, begun by its CRLF.
    """
    header, upstream = inbound.header, route.upstream
    if header.onward_route is not route:
        header.onward_route, header.onward = route, _onward(header, route)
    as_it_came = not route.strip_segments and not route.add_prefix
    target = inbound.target if as_it_came else rewrite_target(inbound.target, route)
    identity = identified.fields if identified is not None and upstream.identity else b""
    if assertion:
        identity += assertion
    head = HEAD % (inbound.method.encode(), target, header.onward, ids.request_id, ids.traceparent, identity)
    if inbound.upgrade:
        # Not remembered with the header, which cannot know whether it upgrades.
        head += request_lines(header.seen.get("sec-websocket-protocol"))
    repeatable = inbound.method in IDEMPOTENT or "idempotency-key" in header.seen
    return Outbound(inbound.method, head, route, inbound.upgrade, repeatable)


def _onward(header: Header, route: Route) -> bytes:
    """Give all that goes on of a header by this route, from behind the target."""
    upstream, seen, forwarded = route.upstream, header.seen, header.forwarding
    assert forwarded is not None
    host = header.authority if upstream.preserve_host and header.authority else upstream.endpoints[0].authority
    fields, lines = header.fields, forwarded.lines
    if upstream.convex:
        lines = forwarding_lines(forwarded)
        if not upstream.allow_convex_admin:
            fields = _without_extensions(fields)
    pieces = [b" HTTP/1.1\r\nHost: ", host, *fields]
    if "cookie" in seen or "authorization" in seen:
        _add_credentials(pieces, seen, route)
    pieces.append(lines)
    if route.stripped:
        pieces += (b"\r\nX-Forwarded-Prefix: ", route.stripped)
    if header.peer.trusted and "tracestate" in seen and TRACEPARENT.fullmatch(seen.get("traceparent", b"")):
        pieces += (b"\r\ntracestate: ", seen["tracestate"])  # without the parent it belongs to it says nothing
    return b"".join(pieces)


def _without_extensions(fields: list[bytes]) -> list[bytes]:
    """Drop a WebSocket's offer of extensions: messages that are compressed cannot be judged."""
    kept = [at for at in range(0, len(fields), 2) if folded(fields[at][2:-2].decode()) != "sec-websocket-extensions"]
    return [piece for at in kept for piece in fields[at : at + 2]]


def _add_credentials(pieces: list[bytes], seen: Mapping[str, bytes], route: Route) -> None:
    cookie, authorization = seen.get("cookie"), seen.get("authorization")
    if cookie and not route.forward_token:
        cookie = without_clerk_cookies(cookie)
    if cookie:
        pieces += (b"\r\nCookie: ", cookie)
    if authorization is None:
        return
    keep = route.forward_token or route.upstream.convex  # Convex verifies the token itself
    if keep or may_forward_authorization(authorization, was_read=route.auth != "public"):
        pieces += (b"\r\nAuthorization: ", authorization)


def refuse_repeated(header: Header) -> None:
    """Refuse two `Authorization` fields: two servers would read two different ones. Raises BadRequest."""
    if "authorization" in header.repeated:
        raise BadRequest("two-credentials")
