"""Where a connection's parser stands between two reads, which aiohttp's does not tell."""

from collections import deque
from typing import Any

from aiohttp.streams import EMPTY_PAYLOAD

END_OF_HEAD = b"\r\n\r\n"
LINE_ENDS = b"\r\n"
BETWEEN, INSIDE, UNKNOWN = "between", "inside", "unknown"

Messages = deque[tuple[Any, Any]]


class Position:
    """Whether the parser is between two requests or inside one, told from where reads and requests end.

    Whoever takes bytes past the parser has to know that it holds none: it would read them as the rest of something.
    """

    __slots__ = ("_end", "_left", "place")

    def __init__(self) -> None:
        self.place = BETWEEN
        self._end = b""  # the last four bytes
        self._left: int | None = None  # of the body of the last request, where that can be counted

    def began(self, data: bytes, messages: Messages) -> bytes:
        """Note a read of a waiting connection and what it made; give it back where it was one head, whole and alone."""
        was, self._end, self._left = self.place, data[-4:], None
        if not messages:
            self.place = INSIDE
            return b""
        message, payload = messages[-1]
        first_line = was is BETWEEN and len(messages) == 1 and data[0] not in LINE_ENDS
        if payload is not EMPTY_PAYLOAD:
            length = message.headers.get("Content-Length") if first_line else None
            self._count(None if length is None else data.find(END_OF_HEAD) + 4 + int(length) - len(data))
            return b""
        self.place = self._behind_a_head()
        return data if first_line and data.find(END_OF_HEAD) == len(data) - 4 else b""

    def went_on(self, data: bytes, messages: Messages, *, grew: bool, in_body: bool) -> None:
        """Note any other read: whether it completed a head, whether it began in a body."""
        self._end = (self._end + data)[-4:]
        if grew:
            self._left = None
            self.place = self._behind_a_head() if messages[-1][1] is EMPTY_PAYLOAD else UNKNOWN
        elif in_body:
            self._count(None if self._left is None else self._left - len(data))
        else:
            self.place = INSIDE

    def _behind_a_head(self) -> str:
        # What follows a head and ends as one would be a request of its own, or nothing but empty lines.
        return BETWEEN if self._end == END_OF_HEAD else INSIDE

    def _count(self, left: int | None) -> None:
        self._left = left
        self.place = UNKNOWN if left is None or left > 0 else BETWEEN if left == 0 else INSIDE
