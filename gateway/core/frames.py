"""WebSocket frames as far as a gateway that passes them on untouched must know them (RFC 6455 §5.2).

Owns where one frame ends and the next begins, in a stream that comes in pieces of any size, and the Close frame that
the gateway itself may put there. A frame's content is nobody's business here.
"""

MASKED = 0x80
CLOSE = 0x88  # final fragment, opcode 8
MAX_REASON_BYTES = 123  # RFC 6455 §5.5: a control frame carries at most 125 bytes, two of them the code
# A frame's size by its second byte, header included; 0 where two or eight bytes of length follow.
SIZES = tuple(
    0 if second & 127 > 125 else 2 + (4 if second & MASKED else 0) + (second & 127) for second in range(256)
)  # fmt: skip


class Frames:
    """Follows the frames of one direction. Control frames may stand between fragments, so any boundary will do."""

    __slots__ = ("_head", "_left")

    def __init__(self) -> None:
        self._left = 0  # bytes of the running frame that have yet to come
        self._head = b""  # of a header that was cut before its length was known

    @property
    def at_boundary(self) -> bool:
        """Whether a frame has just ended, or none has begun."""
        return not self._left and not self._head

    def feed(self, data: bytes) -> int:
        """Go on with the next bytes; say at which offset in them the last frame ended, -1 where none did."""
        size, left = len(data), self._left
        if size > 1 and size == SIZES[data[1]] and not left and not self._head:
            return size  # the everyday piece: one small frame and nothing else
        if left > size:
            self._left = left - size
            return -1
        before, self._left = len(self._head), 0
        ended = self._walk(self._head + data if before else data, left)
        return ended - before if ended > 0 else -1

    def _walk(self, data: bytes, at: int) -> int:
        """Go from frame to frame; `at` is where one ends, or 0 where one begins."""
        size, ended = len(data), at or -1
        self._head = b""
        while at < size:
            frame = _frame_bytes(data, at)
            if not frame:
                self._head = data[at:]
                break
            at += frame
            if at > size:
                self._left = at - size
                break
            ended = at
        return ended


def _frame_bytes(data: bytes, at: int) -> int:
    """Give the size of the frame that begins there, 0 while its header does not say."""
    have = len(data) - at
    if have < 2:
        return 0
    second = data[at + 1]
    if size := SIZES[second]:
        return size
    wide = 2 if second & 127 == 126 else 8
    if have < 2 + wide:
        return 0
    return 2 + wide + (4 if second & MASKED else 0) + int.from_bytes(data[at + 2 : at + 2 + wide], "big")


def close_frame(code: int, reason: bytes, *, mask: bytes = b"") -> bytes:
    """Write a Close frame; with four bytes of `mask` one that a client may send (RFC 6455 §5.3)."""
    body = code.to_bytes(2, "big") + reason[:MAX_REASON_BYTES]
    if not mask:
        return bytes((CLOSE, len(body))) + body
    masked = bytes(byte ^ mask[at % 4] for at, byte in enumerate(body))
    return bytes((CLOSE, MASKED | len(body))) + mask + masked
