"""Convex as an upstream: what may not reach it from outside, and who its WebSocket clients say they are.

A deployment's admin key opens everything, so it passes only where `allow_convex_admin` says so (CONTRACT §4). Convex
takes it as `Authorization: Convex …`, as `?adminKey=` and in an `Authenticate` message; keys in a body are not looked
for, since bodies are not read.
"""

import json
import re
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

from gateway.core.model import Forwarding, Inbound, Upstream
from gateway.errors import Forbidden, SocketRefused

REASON = "convex_admin"
# Convex reads the first seven characters; any blank and any place in a list is refused, for whoever reads more of it.
_ADMIN_SCHEME = re.compile(rb"(?:^|,)\s*convex(?![!#$%&'*+.^`|~\w-])", re.IGNORECASE)
_PAIR = re.compile(rb"[&;]")
# No Authenticate message is without the key `tokenType`, whatever its `type`: serde, with which Convex reads, takes a
# variant's number for its name too. A letter is written as itself or as \u00XX (RFC 8259 §7) and not otherwise.
_NAMES = (b'"tokenType"', b'"Authenticate"')
_ESCAPED_LETTER = re.compile(rb"\\u00[4-7]")
# Reading JSON stops the process for up to 0.1 s per MiB. No Authenticate is nearly that long, and other messages only
# have to be read where one of the names is a whole string of theirs, or a letter is escaped that need not be.
MOST_READ = 2**20

REFUSED, NOT_TEXT, TOO_LARGE = 4403, 1007, 1009  # RFC 6455 §7.4; 4403: CONTRACT §4


class Authenticate(NamedTuple):
    """A client says on its open socket who it is from now on."""

    token: bytes | None  # None: nobody


def check_request(inbound: Inbound, upstream: Upstream) -> None:
    """Check that a request brings no admin key where none may pass. Raises Forbidden (reason `convex_admin`)."""
    if upstream.allow_convex_admin:
        return
    authorization = inbound.header.seen.get("authorization")
    if authorization is not None and _ADMIN_SCHEME.search(authorization):
        raise Forbidden(REASON)
    query = inbound.target.partition(b"?")[2]
    if query and any(_is_admin_key(pair.partition(b"=")[0]) for pair in _PAIR.split(query)):
        raise Forbidden(REASON)


def _is_admin_key(name: bytes) -> bool:
    # As application/x-www-form-urlencoded is read (WHATWG URL §5.1), but for +, which makes no name this one. Its case
    # counts, as Convex has it.
    return unquote_to_bytes(name) == b"adminKey"


def forwarding_lines(forwarded: Forwarding) -> bytes:
    """Give the forwarding fields without the host: Convex would look for a deployment of that name.

    X-Forwarded-Proto stays: HTTP actions find their own URL's scheme in it.
    """
    return forwarded.lines.replace(b"\r\nX-Forwarded-Host: " + forwarded.host, b"", 1)


def read_message(content: bytes) -> Authenticate | None:
    """Say whether a client's message is an Authenticate, and whose.

    Raises:
        SocketRefused: 4403 for an admin key, and for what two readers could take for different things; 1007 where it is
            not UTF-8, 1009 where it is too large to be read though it has to be.
    """
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise SocketRefused(NOT_TEXT, b"not UTF-8") from None
    # Found as plain text, each: one pattern for all three takes 0.1 µs for each byte there is.
    if _NAMES[0] not in content and _NAMES[1] not in content and not _ESCAPED_LETTER.search(content):
        return None
    if len(content) > MOST_READ:
        raise SocketRefused(TOO_LARGE, b"message too large to be judged")
    members = _members(text)
    if members.get("type") != "Authenticate" and "tokenType" not in members:
        return None  # deeper down it is somebody's own data
    return _authenticate(members)


def _authenticate(members: dict[str, Any]) -> Authenticate:
    whose, value = members.get("tokenType"), members.get("value")
    if members.get("type") == "Authenticate":
        if whose == "None":
            return Authenticate(None)
        if whose == "User" and isinstance(value, str) and value.isascii():
            return Authenticate(value.encode())
    # Also `"type": 4, "tokenType": 0`, which serde would take for an admin's.
    raise SocketRefused(REFUSED, b"convex-admin" if whose == "Admin" else b"convex-authenticate")


def _members(text: str) -> dict[str, Any]:
    """Read a JSON object's own members, strictly."""
    try:
        pairs = _READER.decode(text)
    except (ValueError, RecursionError):
        raise SocketRefused(REFUSED, b"convex-json") from None
    if not isinstance(pairs, tuple):
        raise SocketRefused(REFUSED, b"convex-json")
    members = dict(pairs)
    if len(members) < len(pairs):  # some readers take the first of a name, some the last (RFC 8259 §4)
        raise SocketRefused(REFUSED, b"convex-json")
    return members


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


_READER = json.JSONDecoder(object_pairs_hook=tuple, parse_constant=_no_constant)
