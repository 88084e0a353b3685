"""From aiohttp's parsed message to `Inbound`, refusing what its parser lets through and a gateway must not."""

import re
from collections.abc import Mapping
from functools import lru_cache

from aiohttp.http_exceptions import LineTooLong
from aiohttp.http_parser import RawRequestMessage

from gateway.core.headers import FieldRules
from gateway.core.model import Inbound, Peer
from gateway.errors import BadRequest, ExpectationFailed, GatewayError, HeadersTooLarge, MethodNotAllowed

# RFC 9110 §7.2 as far as names and addresses go that anybody uses: no user information, no percent-encoding.
AUTHORITY = re.compile(rb"(?:[A-Za-z0-9._-]{1,255}|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
ABSOLUTE = re.compile(r"https?://([^/?#]+)([^#]*)", re.IGNORECASE)
REFUSED_METHODS = frozenset({"CONNECT", "TRACE"})
MAX_LENGTH_DIGITS = 18  # below 2^63; aiohttp takes 2^64 - 1 for no body at all
USUAL_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


def read_inbound(message: RawRequestMessage, peer: Peer, rules: FieldRules, *, header_bytes: int) -> Inbound:
    """Give the request as the stages see it.

    Raises:
        BadRequest: reason `target`, `host`, `framing` or `upgrade`.
        HeadersTooLarge, MethodNotAllowed, ExpectationFailed: as they say.
    """
    if message.version < (1, 0):
        raise BadRequest("malformed", detail="HTTP/0.9")
    if message.method in REFUSED_METHODS:
        raise MethodNotAllowed(USUAL_METHODS)
    raw = message.raw_headers
    # aiohttp bounds each line and their number, not their sum.
    if sum([len(name) + len(value) + 4 for name, value in raw]) + len(message.path) > header_bytes:
        raise HeadersTooLarge
    fields, seen, repeated = rules.read(raw)
    authority, target = seen.get("host", b""), message.path
    if not target.startswith("/"):
        authority, target = _absolute(target)
    elif "#" in target:
        raise BadRequest("target", detail="fragment")
    if not (_is_authority(authority) if authority else message.version < (1, 1)):
        raise BadRequest("host")
    _check_framing(message, seen)
    upgrade = message.upgrade and _is_websocket(message, seen)
    path, _, _ = target.partition("?")
    return Inbound(message.method, target.encode(), path, authority, fields, seen, repeated, peer, upgrade)


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


def _is_websocket(message: RawRequestMessage, seen: Mapping[str, bytes]) -> bool:
    """Tell a WebSocket's upgrade; any other one is refused, h2c above all (RFC 9113 §3.1 took it back)."""
    if seen.get("upgrade", b"").lower() != b"websocket" or message.method != "GET":
        raise BadRequest("upgrade")
    if "content-length" in seen or "transfer-encoding" in seen:
        raise BadRequest("upgrade", detail="an upgrade with a body")
    return True
