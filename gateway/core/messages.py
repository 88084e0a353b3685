"""A WebSocket client's messages, whole and unmasked, for the few upstreams whose clients are read (RFC 6455 §5).

Owns what may pass on when: a control frame at once, a message once it is whole and whoever asked has judged it; both
byte for byte as they came. What breaks the protocol ends the socket: two readers would make two things of it.
"""

from collections.abc import Iterator
from typing import NamedTuple

from gateway.core.frames import CLOSE, MASKED, SIZES
from gateway.errors import SocketRefused

FINAL, RESERVED, OPCODE = 0x80, 0x70, 0x0F
CONTINUATION, CONTROL = 0, 8  # opcodes; a control frame's has the latter's bit
KNOWN = frozenset({CONTINUATION, 1, 2, 8, 9, 10})
# Of one message, frame headers included. Tungstenite, which Convex reads with, takes frames of up to 16 MiB by default,
# and browsers send a message as one frame.
LARGEST = 16 * 2**20 + 2**10
FAST = 4096  # bytes up to which one big number is unmasked faster than four lanes
LANES = tuple(bytes(byte ^ key for byte in range(256)) for key in range(256))

PROTOCOL_ERROR, TOO_LARGE = 1002, 1009  # RFC 6455 §7.4.1


class Message(NamedTuple):
    """A whole text or binary message."""

    frames: bytes  # as they came
    content: bytes


class Messages:
    """Reads what one client sends. No extension is expected, so reserved bits have no meaning."""

    __slots__ = ("_content", "_frame", "_frames", "_need", "_over")

    def __init__(self) -> None:
        self._frame = bytearray()  # the frame that has begun
        self._need = 0  # bytes of it that must be there before it is looked at again
        self._frames, self._content = bytearray(), bytearray()  # of the message that has begun
        self._over = False

    @property
    def held(self) -> int:
        """Bytes kept until their message is whole."""
        return len(self._frame) + len(self._frames) + len(self._content)

    def drop(self) -> None:
        """Forget what is held: nothing will pass any more."""
        self._over = True
        self._frame, self._frames, self._content = bytearray(), bytearray(), bytearray()

    def feed(self, data: bytes) -> Iterator[bytes | Message]:
        """Go on with the next bytes: give control frames, and messages as they become whole, in order.

        Raises:
            SocketRefused: 1002 for what RFC 6455 forbids, 1009 for a message larger than `LARGEST`.
        """
        if self._frame:
            self._frame += data
            if len(self._frame) < self._need:
                return
            data, self._frame = bytes(self._frame), bytearray()
        at, size = 0, len(data)
        while at < size and not self._over:
            self._need = self._needed(data, at)
            end = at + self._need
            if end > size:
                self._frame = bytearray(data[at:])
                return
            frame = data if end - at == size else data[at:end]
            at = end
            if frame[0] & CONTROL:
                self._over = frame[0] == CLOSE  # nothing may follow it (RFC 6455 §5.5.1)
                yield frame
            elif (message := self._whole(frame)) is not None:
                yield message

    def _whole(self, frame: bytes) -> Message | None:
        """Put a data frame to its message; give that where it is the last one."""
        content = _content(frame)
        if frame[0] & FINAL and not self._frames:
            return Message(frame, content)
        self._frames += frame
        self._content += content
        if not frame[0] & FINAL:
            return None
        message = Message(bytes(self._frames), bytes(self._content))
        self._frames, self._content = bytearray(), bytearray()
        return message

    def _needed(self, data: bytes, at: int) -> int:
        """Say how many bytes must be there to go on: as much of a header as says more, else the whole frame."""
        have = len(data) - at
        if have < 2:
            return 2
        first, second = data[at], data[at + 1]
        _check_first(first, inside=bool(self._frames))
        if not second & MASKED:
            raise SocketRefused(PROTOCOL_ERROR, b"frame not masked")
        size = SIZES[second]
        if not size:
            if first & CONTROL:
                raise SocketRefused(PROTOCOL_ERROR, b"long control frame")
            size = _long(data, at)
        if size + len(self._frames) > LARGEST:
            raise SocketRefused(TOO_LARGE, b"message too large")
        return size


def _check_first(first: int, *, inside: bool) -> None:
    opcode = first & OPCODE
    if first & RESERVED or opcode not in KNOWN:
        raise SocketRefused(PROTOCOL_ERROR, b"reserved bits or opcode")
    if opcode >= CONTROL:
        if not first & FINAL:
            raise SocketRefused(PROTOCOL_ERROR, b"fragmented control frame")
    elif inside != (opcode == CONTINUATION):
        raise SocketRefused(PROTOCOL_ERROR, b"fragments out of order")


def _long(data: bytes, at: int) -> int:
    """Give the size of a frame whose length stands in two or eight bytes; how many are needed until it does."""
    wide, least = (2, 126) if data[at + 1] & 127 == 126 else (8, 65_536)
    if len(data) - at < 2 + wide:
        return 2 + wide
    length = int.from_bytes(data[at + 2 : at + 2 + wide], "big")
    if length < least:  # RFC 6455 §5.2: in as few bytes as possible, so that every reader finds the same
        raise SocketRefused(PROTOCOL_ERROR, b"length in too many bytes")
    return 2 + wide + 4 + length


def _content(frame: bytes) -> bytes:
    """Unmask a whole frame's content (RFC 6455 §5.3)."""
    length = frame[1] & 127
    start = 6 if length < 126 else 8 if length == 126 else 14
    return unmask(frame[start:], frame[start - 4 : start])


def unmask(data: bytes, mask: bytes) -> bytes:
    """Apply a mask of four bytes, or take it away."""
    size = len(data)
    if size <= FAST:
        key = int.from_bytes((mask * (size // 4 + 1))[:size], "little")
        return (int.from_bytes(data, "little") ^ key).to_bytes(size, "little")
    clear = bytearray(data)
    for lane in range(4):
        clear[lane::4] = data[lane::4].translate(LANES[mask[lane]])
    return bytes(clear)
