"""The Set-Cookie directives that Clerk gives for a document: which of them may be passed on, and what they say.

They come from Clerk's Backend API or signed with its key, and are written into an answer's head as they are. So only
what a cookie of Clerk's can be goes through, whatever was said.
"""

import re
from collections.abc import Sequence
from typing import Any, Final

MOST: Final = 32  # Clerk sends about eight
MAX_BYTES: Final = 8192  # browsers take 4096

# RFC 6265 §4.1.1: a name, a value of cookie-octets, attributes of printable ASCII; nothing that could end a field.
_DIRECTIVE = re.compile(
    r"(__(?:session|client|refresh|clerk)(?:_[A-Za-z0-9_-]*)?)=([\x21\x23-\x2B\x2D-\x3A\x3C-\x5B\x5D-\x7E]*)"
    r"(?:;[\x20-\x3A\x3C-\x7E]*)*"
)
_SESSION = "__session"
_SPENT = frozenset({"__clerk_handshake", "__clerk_handshake_nonce", "__clerk_redirect_count"})


def read_directives(said: Any) -> tuple[str, ...]:
    """Give those of a list that are cookies of Clerk's, in their order."""
    if not isinstance(said, list):
        return ()
    return tuple(
        each
        for each in said[:MOST]
        if isinstance(each, str) and len(each) <= MAX_BYTES and _DIRECTIVE.fullmatch(each) is not None
    )


def session_of(directives: Sequence[str]) -> str:
    """Give the session token among them; "" where there is none. Clerk: the last cookie whose name begins so counts."""
    values = [value for name, value in map(_name_and_value, directives) if name.startswith(_SESSION)]
    return values[-1] if values else ""


def cookie_lines(directives: Sequence[str]) -> bytes:
    """Write them for the head of an answer, each in a field of its own (RFC 9110 §5.3: this one is never merged)."""
    return b"".join(b"\r\nSet-Cookie: " + each.encode("ascii") for each in directives)


def followed(cookie: bytes, directives: Sequence[str]) -> bytes:
    """Give the `Cookie` value that the browser would send once it has followed them; what led here is spent."""
    new = dict(map(_name_and_value, directives))
    gone = new.keys() | _SPENT
    kept = [part.strip() for part in cookie.split(b";")]
    kept = [part for part in kept if part and part.partition(b"=")[0].strip().decode("latin-1") not in gone]
    kept += [f"{name}={value}".encode("ascii") for name, value in new.items() if value and name not in _SPENT]
    return b"; ".join(kept)


def _name_and_value(directive: str) -> tuple[str, str]:
    name, _, value = directive.partition(";")[0].partition("=")
    return name, value
