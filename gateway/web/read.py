"""From aiohttp's parsed message to `Inbound`, refusing what its parser lets through and a gateway must not."""

import re
from asyncio import Transport
from collections.abc import Mapping, Sequence
from functools import lru_cache

from aiohttp.http_exceptions import LineTooLong
from aiohttp.http_parser import RawRequestMessage

from gateway.core.forwarding import Network, is_trusted
from gateway.core.headers import FieldRules
from gateway.core.model import Header, Inbound, Peer
from gateway.errors import BadRequest, ExpectationFailed, GatewayError, HeadersTooLarge, MethodNotAllowed

# RFC 9110 §7.2 as far as names and addresses go that anybody uses: no user information, no percent-encoding.
AUTHORITY = re.compile(rb"(?:[A-Za-z0-9._-]{1,255}|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
MAX_AUTHORITY = 263  # bytes: a name, a colon and a port
ABSOLUTE = re.compile(r"https?://([^/?#]+)([^#]*)", re.IGNORECASE)
# A first line that every parser reads alike: what may stand for itself in a path or query (RFC 3986 §3.3, §3.4).
REQUEST_LINE = re.compile(rb"GET (/[A-Za-z0-9\-._~!$&'()*+,;=:@/%?]*) HTTP/1\.1")
HTTP_11 = (1, 1)
VERSIONS = (HTTP_11, (1, 0))
REFUSED_METHODS = frozenset({"CONNECT", "TRACE"})
MAX_LENGTH_DIGITS = 18  # below 2^63; aiohttp takes 2^64 - 1 for no body at all
# RFC 6455 §11.3.1, §11.3.5: neither may come twice; two servers would answer two different handshakes.
HANDSHAKE_FIELDS = frozenset({"sec-websocket-key", "sec-websocket-version"})
USUAL_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


def read_peer(transport: Transport, port: int, trusted: Sequence[Network]) -> Peer:
    """Say who is at the other end of a connection to our `port`."""
    address = (transport.get_extra_info("peername") or ("",))[0]
    scheme = "https" if transport.get_extra_info("sslcontext") else "http"
    return judged(Peer(address.removeprefix("::ffff:"), False, scheme, port), trusted)


def judged(peer: Peer, trusted: Sequence[Network]) -> Peer:
    """Judge a peer by these `trusted_proxies`, which a reload may change under an open connection."""
    return peer._replace(trusted=bool(peer.address) and is_trusted(peer.address, trusted))


def read_inbound(
    message: RawRequestMessage, peer: Peer, rules: FieldRules, *, header_bytes: int, size: int = 0
) -> Inbound:
    """Give the request as the stages see it; `size` is the head's in bytes, 0 if that is not known.

    Raises:
        BadRequest: reason `target`, `host`, `framing` or `upgrade`.
        HeadersTooLarge, MethodNotAllowed, ExpectationFailed: as they say.
    """
    if message.method in REFUSED_METHODS:
        raise MethodNotAllowed(USUAL_METHODS)
    if (size or _size(message)) > header_bytes:
        raise HeadersTooLarge
    target, authority = message.path, None
    if not target.startswith("/"):
        authority, target = _absolute(target)
    elif "#" in target:
        raise BadRequest("target", detail="fragment")
    header = _read_header(message, peer, rules, authority)
    upgrade = message.upgrade and _is_websocket(message, header)
    return Inbound(message.method, target.encode(), target.partition("?")[0], header, upgrade)


def _size(message: RawRequestMessage) -> int:
    # aiohttp bounds each line and their number, not their sum.
    return sum([len(name) + len(value) + 4 for name, value in message.raw_headers]) + len(message.path)


def _read_header(message: RawRequestMessage, peer: Peer, rules: FieldRules, authority: bytes | None) -> Header:
    """Judge a request's header; `authority` is the absolute-form target's, which replaces the Host field.

    All it looks at is the version and the fields, so that what `LastHead` knows need not be judged again.
    """
    if message.version not in VERSIONS:
        raise BadRequest("malformed", detail="neither HTTP/1.1 nor 1.0")
    fields, seen, repeated = rules.read(message.raw_headers)
    if authority is None:
        authority = seen.get("host", b"")
    if not (len(authority) <= MAX_AUTHORITY and _is_authority(authority) if authority else message.version < HTTP_11):
        raise BadRequest("host")
    _check_framing(message, seen)
    return Header(fields, seen, repeated, peer, authority)


class LastHead:
    """The head of HTTP/1.1 that came last on a connection, whole and alone in one read, and what it was judged to be.

    A browser sends the same fields from one call to the next: a head that differs from the last in its target alone
    has been parsed and judged already but for its first line, which costs a fifth of a forwarded request.
    """

    __slots__ = ("_after_line", "header", "message")

    def __init__(self, message: RawRequestMessage, header: Header, data: bytes) -> None:
        self.message, self.header = message, header
        self._after_line = data[data.find(b"\r\n") :]

    def again(self, data: bytes, *, header_bytes: int) -> Inbound | None:
        """Read a request that has nothing new but its target; None where it has, which is the parser's business."""
        rest = self._after_line
        if not data.endswith(rest):
            return None
        line = REQUEST_LINE.fullmatch(data, 0, len(data) - len(rest))
        if line is None or len(data) > header_bytes:
            return None
        target = line[1]
        return Inbound("GET", target, target.partition(b"?")[0].decode(), self.header)


def _absolute(target: str) -> tuple[bytes, str]:
    """Split an absolute-form target; its authority replaces the Host field (RFC 9112 §3.2.2)."""
    parts = ABSOLUTE.fullmatch(target)
    if parts is None:
        raise BadRequest("target")  # `OPTIONS *` too: there is no upstream that it would ask about
    authority, rest = parts.groups()
    return authority.encode(), rest if rest.startswith("/") else "/" + rest


@lru_cache(maxsize=1024)
def _is_authority(authority: bytes) -> bool:
    return AUTHORITY.fullmatch(authority) is not None


def _check_framing(message: RawRequestMessage, seen: Mapping[str, bytes]) -> None:
    if len(seen.get("content-length", b"")) > MAX_LENGTH_DIGITS:
        raise BadRequest("framing")
    coding = seen.get("transfer-encoding")
    if coding is not None and (coding.lower() != b"chunked" or message.version < (1, 1) or "content-length" in seen):
        # RFC 9112 §6.1: what another server would frame differently is how requests are smuggled.
        raise BadRequest("framing")
    expect = seen.get("expect")
    if expect is not None and expect.lower() != b"100-continue":
        raise ExpectationFailed


def unreadable(fault: BaseException) -> GatewayError:
    """Say what a request was that the parser refused. Its own words quote the client's bytes, so they go nowhere."""
    if isinstance(fault, LineTooLong) or "Too many headers" in str(fault):
        return HeadersTooLarge()
    return BadRequest("malformed", detail=type(fault).__name__)


def _is_websocket(message: RawRequestMessage, header: Header) -> bool:
    """Tell a WebSocket's upgrade; any other one is refused, h2c above all (RFC 9113 §3.1 took it back)."""
    seen = header.seen
    if seen.get("upgrade", b"").lower() != b"websocket" or message.method != "GET" or message.version < HTTP_11:
        raise BadRequest("upgrade")
    if not seen.get("sec-websocket-key"):
        raise BadRequest("upgrade", detail="no Sec-WebSocket-Key")
    if not header.repeated.isdisjoint(HANDSHAKE_FIELDS):
        raise BadRequest("upgrade", detail="a field of the handshake twice")
    if "content-length" in seen or "transfer-encoding" in seen:
        raise BadRequest("upgrade", detail="an upgrade with a body")
    return True
