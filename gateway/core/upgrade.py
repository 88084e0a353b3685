"""A WebSocket's opening handshake (RFC 6455 §4): the token in the list of sub-protocols, what goes on, what comes back.

Browsers cannot set a header on a WebSocket, so a page offers `gateway.auth` and `gateway.bearer.<token>` beside its own
sub-protocols (CONTRACT §4). Neither is ever seen by an upstream.
"""

from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha1
from typing import NamedTuple

from gateway.errors import BadUpstreamResponse

OWN = b"gateway.auth"
BEARER = b"gateway.bearer."
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 §1.3
SWITCH = b"\r\nConnection: Upgrade\r\nUpgrade: websocket"
ACCEPT = b"\r\nSec-WebSocket-Accept: "
PROTOCOL = b"\r\nSec-WebSocket-Protocol: "


class Offer(NamedTuple):
    """A client's list of sub-protocols, taken apart."""

    tokens: tuple[bytes, ...]  # one, if the client is not confused
    own: bytes  # `gateway.auth` as the client spelt it, b"" if it did not offer it
    onward: bytes  # the list as the upstream gets it, b"" for none


def read_offer(value: bytes | None) -> Offer:
    """Take a `Sec-WebSocket-Protocol` value apart; several fields are one list (RFC 6455 §11.3.4)."""
    tokens: list[bytes] = []
    onward: list[bytes] = []
    own = b""
    for entry in (value or b"").split(b","):
        name = entry.strip(b" \t")
        low = name.lower()  # whoever misspells it shall not send its token to an upstream
        if low.startswith(BEARER):
            tokens.append(name[len(BEARER) :])
        elif low == OWN:
            own = name
        elif name:
            onward.append(name)
    return Offer(tuple(tokens), own, b", ".join(onward))


def request_lines(value: bytes | None) -> bytes:
    """Give what a handshake's head has beyond other requests', `value` being the client's list of sub-protocols."""
    onward = read_offer(value).onward
    return SWITCH + (PROTOCOL + onward if onward else b"")


def answer_lines(value: bytes | None, head: Sequence[bytes]) -> bytes:
    """Give what the 101 has beyond the upstream's own lines.

    A browser that offered sub-protocols wants one of them back; where the upstream chose none it is `gateway.auth`.
    """
    own = read_offer(value).own
    return SWITCH + (PROTOCOL + own if own and not _values(PROTOCOL, head) else b"")


def check_accepted(key: bytes, head: Sequence[bytes]) -> None:
    """Check that a 101 answers this very handshake: whoever did not read the key does not speak WebSocket.

    Raises:
        BadUpstreamResponse: `Sec-WebSocket-Accept` is missing, wrong or there twice (RFC 6455 §4.1), or two
            sub-protocols are chosen. One that was not offered is between the two who speak, as are extensions.
    """
    digest = b64encode(sha1(key + GUID, usedforsecurity=False).digest())
    if _values(ACCEPT, head) != [digest]:
        raise BadUpstreamResponse(detail="101 without the Sec-WebSocket-Accept that belongs to the request")
    if len(_values(PROTOCOL, head)) > 1:
        raise BadUpstreamResponse(detail="101 with two Sec-WebSocket-Protocol fields")


def _values(name: bytes, head: Sequence[bytes]) -> list[bytes]:
    """Give the values of a field, `name` being how its line begins."""
    return [line[len(name) :].strip() for line in head if line[: len(name)].lower() == name.lower()]
