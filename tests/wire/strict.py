"""HTTP/1.1 as RFC 9112 has it and not a byte more leniently: what a careful peer takes a stream of bytes for.

Our own second opinion on framing. It shares no line with the gateway's parsers, reads whole streams and is slow.
"""

import re
from dataclasses import dataclass, field

import h11

TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
TARGET = re.compile(rb"[\x21-\x7e]+")
VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
# More blanks than one are read by all and mean nothing; what is sent on never has them.
REQUEST_LINE = re.compile(rb"(%b) +(%b) +HTTP/1\.([01])" % (TOKEN.pattern, TARGET.pattern))
STATUS_LINE = re.compile(
    rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: ([\t\x20-\x7e\x80-\xff]*))?"
)  # many leave out the last blank
CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]+)(?:;[\t\x20-\x7e\x80-\xff]*)?")
MAX_LENGTH = 2**63 - 1


class Malformed(Exception):
    """No reading of these bytes is safe."""


class Unfinished(Exception):
    """More bytes could make it whole."""


@dataclass
class Message:
    """A request (`method`, `target`) or an answer (`status`, `reason`), with as much of its body as is certain."""

    method: bytes = b""
    target: bytes = b""
    status: int = 0
    reason: bytes = b""
    minor: int = 1
    fields: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""
    whole: bool = False
    until_close: bool = False
    interim: list[int] = field(default_factory=list)

    def values(self, name: bytes) -> list[bytes]:
        """Every value of a field, in order."""
        return [value for have, value in self.fields if have.lower() == name]

    def lists(self, name: bytes) -> set[bytes]:
        """The members of a comma-separated field, in lower case."""
        return {part.strip(b" \t").lower() for value in self.values(name) for part in value.split(b",")}


@dataclass
class Reading:
    """What a stream holds: whole messages, the one that is not (if its head is), and what became of the rest."""

    messages: list[Message] = field(default_factory=list)
    partial: Message | None = None
    malformed: bool = False
    rest: bytes = b""  # from the beginning of what is not whole


class _Bytes:
    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def line(self) -> bytes:
        end = self.data.find(b"\n", self.at)
        if end < 0:
            raise Unfinished
        line, self.at = self.data[self.at : end + 1], end + 1
        if not line.endswith(b"\r\n"):
            raise Malformed("bare LF")
        return line[:-2]

    def skip_empty_lines(self) -> None:
        # RFC 9112 §2.2 asks it of servers before a request, in these two octets; everybody does it everywhere.
        while self.data[self.at : self.at + 1] in (b"\r", b"\n"):
            self.at += 1

    def take(self, length: int) -> bytes:
        piece = self.data[self.at : self.at + length]
        self.at += len(piece)
        return piece


def _fields(stream: _Bytes) -> list[tuple[bytes, bytes]]:
    fields = []
    while line := stream.line():
        name, colon, value = line.partition(b":")
        if not colon or not TOKEN.fullmatch(name) or not VALUE.fullmatch(value):
            raise Malformed("field line")  # obs-fold too: a blank is no token
        fields.append((name, value.strip(b" \t")))
    return fields


def _length(message: Message, *, is_answer: bool) -> int | None:
    """Give the Content-Length, -1 for chunked, None for neither."""
    lengths, codings = message.values(b"content-length"), message.values(b"transfer-encoding")
    if codings:
        # An answer of HTTP/1.0 in chunks is to be read so, and its connection to be closed (RFC 9112 §6.1).
        if lengths or (message.minor == 0 and not is_answer) or len(codings) > 1 or codings[0].lower() != b"chunked":
            raise Malformed("transfer coding")
        return -1
    if not lengths:
        return None
    if len(lengths) > 1 or not re.fullmatch(rb"[0-9]{1,19}", lengths[0]) or int(lengths[0]) > MAX_LENGTH:
        raise Malformed("length")
    return int(lengths[0])


def _body(stream: _Bytes, message: Message, length: int) -> None:
    if length >= 0:
        message.body = stream.take(length)
        if len(message.body) < length:
            raise Unfinished
    else:
        _chunks(stream, message)
    message.whole = True


def _chunks(stream: _Bytes, message: Message) -> None:
    while True:
        size = CHUNK_SIZE.fullmatch(stream.line())
        if size is None or int(size[1], 16) >= 2**64:
            raise Malformed("chunk size")
        left = int(size[1], 16)
        if not left:
            break
        piece = stream.take(left)
        message.body += piece
        end = stream.take(2)
        if not b"\r\n".startswith(end):
            raise Malformed("end of chunk")
        if len(piece) < left or len(end) < 2:
            raise Unfinished
    if b"content-length" in {name.lower() for name, _ in _fields(stream)}:
        raise Malformed("length in a trailer")


def _all(stream: _Bytes, one: "object") -> Reading:
    reading = Reading()
    while stream.at < len(stream.data):
        began, message = stream.at, Message()
        try:
            one(stream, message, len(reading.messages))  # type: ignore[operator]
            reading.messages.append(message)
        except (Malformed, Unfinished) as end:
            reading.partial = message if message.method or message.status else None
            reading.malformed, reading.rest = isinstance(end, Malformed), stream.data[began:]
            break
    return reading


def requests(data: bytes) -> Reading:
    """Read a client's side of a connection."""
    return _all(_Bytes(data), _request)


def _request(stream: _Bytes, message: Message, _number: int) -> None:
    stream.skip_empty_lines()
    parts = REQUEST_LINE.fullmatch(stream.line())
    if parts is None:
        raise Malformed("request line")
    fields = _fields(stream)
    message.minor, message.fields = int(parts[3]), fields
    length = _length(message, is_answer=False)
    hosts = message.values(b"host")
    if len(hosts) > 1 or (not hosts and message.minor == 1):
        raise Malformed("host")
    message.method, message.target = parts[1], parts[2]
    _body(stream, message, length or 0)


def answers(data: bytes, methods: "list[bytes]", *, closed: bool) -> Reading:
    """Read an upstream's side: `methods` are what it answers, `closed` says that the stream ended cleanly."""

    def answer(stream: _Bytes, message: Message, number: int) -> None:
        stream.skip_empty_lines()
        parts = STATUS_LINE.fullmatch(stream.line())
        if parts is None:
            raise Malformed("status line")
        fields, status = _fields(stream), int(parts[2])
        message.fields, message.minor = fields, int(parts[1])
        length = _length(message, is_answer=True)
        if status < 200:
            if status == 101 or length:
                raise Malformed("interim answer")
            message.fields = []
            message.interim.append(status)
            if stream.at == len(stream.data):
                raise Unfinished
            return answer(stream, message, number)
        message.status, message.reason = status, parts[3] or b""
        if number >= len(methods):
            raise Malformed("an answer nobody asked for")
        if status in (204, 304) or methods[number] == b"HEAD":
            message.whole = True
        elif length is None:
            message.until_close = True
            message.body = stream.take(len(stream.data))
            if not closed:
                raise Unfinished
            message.whole = True
        else:
            _body(stream, message, length)
        return None

    return _all(_Bytes(data), answer)


def h11_requests(data: bytes) -> list[tuple[bytes, bytes, list[tuple[bytes, bytes]], bytes]]:
    """Read whole requests the way h11 does, which somebody else wrote. Raises h11.RemoteProtocolError."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=2**20)
    connection.receive_data(data)
    found: list[tuple[bytes, bytes, list[tuple[bytes, bytes]], bytes]] = []
    body, head = b"", None
    while True:
        event = connection.next_event()
        if isinstance(event, h11.Request):
            head, body = event, b""
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage):
            assert head is not None
            found.append((head.method, head.target, list(head.headers), body))
            connection.send(h11.Response(status_code=200, headers=[("Content-Length", "0")]))
            connection.send(h11.EndOfMessage())
            if connection.our_state is h11.MUST_CLOSE:
                return found
            connection.start_next_cycle()
        else:
            return found
