"""What clients and upstreams may send: strategies that put streams of bytes together from good and from odd pieces.

Most pieces are good, so that the odd one is met in a request that would otherwise pass.
"""

from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

MEMBER, ADMIN, EXPIRED = b"{member}", b"{admin}", b"{expired}"  # exchanged for tokens by `stage`


class Bent:
    """Chooses pieces for one message, of which at most a kind or two are odd."""

    def __init__(self, draw: st.DrawFn, kinds: list[str]) -> None:
        self.draw = draw
        count = draw(st.sampled_from([0] * 4 + [1] * 3 + [2]))
        self.kinds = set(draw(st.lists(st.sampled_from(kinds), min_size=count, max_size=count)))

    def pick(self, kind: str, good: list[bytes], odd: list[bytes]) -> bytes:
        """Give one of the good pieces, or an odd one if this kind is bent."""
        is_bent = kind in self.kinds and self.draw(st.booleans())
        return self.draw(st.sampled_from(odd if is_bent else good))

    def eol(self) -> bytes:
        """End a line."""
        return self.pick("eol", [b"\r\n"], [b"\r\n", b"\r\n", b"\n", b"\r", b"\r\r\n", b"\n\r"])


def some(pieces: list[Any], most: int) -> st.SearchStrategy[list[Any]]:
    """Give none up to a few of the pieces."""
    return st.lists(st.sampled_from(pieces), max_size=most)


GOOD_METHODS = [b"GET", b"GET", b"POST", b"POST", b"PUT", b"HEAD", b"OPTIONS", b"DELETE", b"PATCH", b"QUERY"]
BAD_METHODS = [b"get", b"CONNECT", b"TRACE", b"PRI", b"G@T", b"GET\t", b"", b"X-Y", b"\x16\x03\x01", b"PROPFIND"]
GOOD_PLACES = [b"/public", b"/public", b"/optional", b"/admin", b"/rest", b"/api/v1", b"/odd", b"/healthz"]
GOOD_TAILS = [b"", b"/x", b"/x/y?z", b"/a%41", b"/%c3%a4", b"/@:&=+$,!'()~?q=/admin", b"/%25", b"?"]
PLACES = [
    b"/public", b"/optional", b"/admin", b"/rest", b"/api/v1", b"/odd", b"/healthz", b"/%70ublic", b"/%61dmin", b"/Admin",
    b"/adminx", b"", b"/", b"/api", b"/api%2fv1", b"/p/../admin", b"/readyz",
]  # fmt: skip
TAILS = [
    b"/x", b"/x", b"/x", b"/admin", b"/../admin", b"/..", b"/.", b"/./", b"//", b"/%2e%2e/admin", b"/%2E%2e%2fadmin",
    b"%2f", b"%5c", b"\\", b";a", b"/..;/admin", b"%3b", b"%00", b"%41", b"%25", b"%252e%252e%252f", b"%", b"%zz", b"#f",
    b"%23", b"%3f", b"?q=/admin", b"?", b"?\xc3\xa4", b"\xc3\xa4", b"%c3%a4", b"%ff", b" ", b"\t", b"\x01", b"\x7f", b"*",
    b"@", b":", b"&=+$,!'()~", b'"<>^`{|}', b"[]", b"\xff", b"?a=%0d%0aX-User-Id:%20evil", b"%0d%0a", b"?" + b"q" * 300,
]  # fmt: skip
DOTS = [tail for tail in TAILS if b".." in tail or b"%2" in tail] * 2
IDENTITY = [
    b"X-User-Id", b"x-user-id", b"X_User_Id", b"X-User_Id", b"X.User.Id", b"X-USER-ID", b"X-User-Email", b"X-User-Org-Role",
    b"X-User-Session-Id", b"x_user_org_role", b"X-User-", b"X-User", b"X!User!Id", b"X-User-Assertion", b"X-User-Truncated",
    b"X-Forwarded-For", b"X_Forwarded_For", b"X-Forwarded-Host", b"X-Forwarded-Prefix", b"x.forwarded.proto", b"Forwarded",
    b"X-Real-IP", b"X-Original-URL", b"X-Rewrite-URL", b"X-HTTP-Method-Override", b"X-Request-Id", b"X_Request_Id",
    b"traceparent", b"Remote-User", b"Proxy", b"X-Clerk-Auth-Status", b"Clerk-Secret-Key", b"CF-Connecting-IP",
    b"Content_Length", b"Transfer_Encoding", b"Content.Length", b"H_o_s_t",
]  # fmt: skip
NO_NAMES = [
    b"X-User-Id\xc2\xad", b"X-User-\xc4\xb0d", b"X-User-Id\0", b"X-User-Id ", b"X-User-Id\t", b" X-User-Id", b"X-Us\xe9r-Id",
]  # fmt: skip
CONNECTION = [
    b"keep-alive", b"close", b"X-User-Id", b"x-user-id, close", b"content-length", b"transfer-encoding", b"host",
    b"authorization", b"x-pass, keep-alive", b"Upgrade", b"upgrade, HTTP2-Settings", b"x-forwarded-for, x-request-id", b",,", b"",
]  # fmt: skip
GOOD_LINES = [
    b"X-Pass: 1", b"x-pass: 2", b"X-Pass:3", b"X-Pass:\t4 \t", b"X-Pass: \xe4", b"X-Pass:", b"X-Pass: " + b"p" * 500,
    b"Accept-Encoding: gzip", b"Content-Encoding: gzip", b"Content-Type: text/plain", b"TE: trailers", b"Cookie: a=b",
    b"Trailer: X-User-Id", b"Origin: https://app.example.com", b"User-Agent: f\xff", b"Keep-Alive: 5", b"Proxy-Connection: close",
    b"Connection: keep-alive", b"Connection: x-pass, x-user-id", b"Connection: X-Forwarded-For", b"Expect: 100-continue",
]  # fmt: skip
LINES = [
    b"Content-Type: a/b", b"Access-Control-Request-Method: GET", b"Expect: x", b"Upgrade: websocket", b"Upgrade: h2c",
    b"Cookie: __session=x; a=b", b"Cookie: __session=" + MEMBER, b"Host: b", b"Host: ", b"Content-Length: 5", *GOOD_LINES,
]  # fmt: skip
BAD_LINES = [
    b"X-Pass : 5", b": 6", b"X-Pass", b" folded: 7", b"\tfolded", b"X-Pass: a\0b", b"X-Pass: a\rb", b"X-Pass: a\nX-User-Id: evil",
    b"X-Pass: a\r\n X-User-Id: evil", b"X Pass: 8", b"X-Pass: \x7f", b"X-Pass: \x0b", b"(X): 9", b"X-Pass\xa0: 10", b"\xef\xbb\xbfX: 1",
]  # fmt: skip
AUTHORIZATION = [
    b"Bearer " + MEMBER,
    b"bearer " + ADMIN,
    MEMBER,
    b"Bearer " + EXPIRED,
    b"Bearer a.b.c",
    b"Bearer",
    b"Basic eDp5",
]
CODINGS = [
    b"chunked", b"Chunked", b"xchunked", b"chunked, chunked", b"gzip, chunked", b"identity", b"chunked;q=1", b" chunked ", b"chun ked",
    b"", b"chunked\x0b", b'"chunked"', b"chunked,", b",chunked", b"identity, chunked", b"chunked\r\n , gzip",
]  # fmt: skip
SIZES = [
    b"%x", b"%X", b"0%x", b"00000000%x", b"000000000000000000000%x", b"+%x", b"-%x", b" %x", b"%x ", b"%x\t", b"0x%x", b"%x;a=b",
    b"%x;a", b"%x ;a=b", b"%x;a=\"q\"", b"%x;" + b"e" * 300, b"%x;\r", b"%x;a\0", b"%xg", b"_%x", b"%x_", b"%x,", b"",
    b"ffffffffffffffff%x", b"fffffffffffffff%x",
]  # fmt: skip
LENGTHS = [
    b"%d", b"0%d", b"+%d", b"-%d", b"%d, %d", b"%d %d", b"0x%d", b"%d.0", b"%de0", b"", b" ", b"%d\t", b"99999999999999999999",
    b"18446744073709551615", b"9223372036854775808", b"4294967296", b"_%d", b"\xb2%d", b"\xd9\xa3",
]  # fmt: skip
BODIES = [
    b"",
    b"hello",
    b"x",
    b"0\r\n\r\n",
    b"GET /admin/smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
    b"\r\n",
    b"b" * 700,
    b"\0" * 20,
]
BIG_BODIES = [b"b" * 70_000, b"b" * 50_000, b"\r\n" * 600]
TRAILERS = [
    b"X-User-Id: evil",
    b"Content-Length: 5",
    b"T: 1",
    b"Transfer-Encoding: chunked",
    b"bad",
    b" fold",
    b"X: \0",
]


def with_number(pattern: bytes, number: int) -> bytes:
    """Fill in a length as often as the pattern has it."""
    return pattern.replace(b"%d", b"%d" % number).replace(b"%x", b"%x" % number).replace(b"%X", b"%X" % number)


@dataclass(frozen=True)
class Stream:
    """Bytes in the pieces they are sent in; whether the end is waited for by the clock or the sender hangs up."""

    pieces: tuple[bytes, ...]
    patient: bool = False

    @property
    def data(self) -> bytes:
        """All of it."""
        return b"".join(self.pieces)


def chunked(bent: Bent, body: bytes) -> bytes:
    """Write a body in chunks."""
    cuts = sorted(bent.draw(st.lists(st.integers(0, len(body)), max_size=3)))
    parts = [body[low:high] for low, high in zip([0, *cuts], [*cuts, len(body)], strict=True) if low < high]
    written = b""
    for part in parts:
        written += with_number(bent.pick("size", SIZES[:1], SIZES), len(part)) + bent.eol()
        written += part + bent.pick("size", [b"\r\n"], [b"\r\n", b"", b"\n", b"x\r\n", b"\r"])
    last = bent.pick("size", [b"0"], [b"0", b"000", b"0;a=b", b"00000000000000000000", b"-0", b"0x0", b""])
    trailers = b"".join(
        line + b"\r\n" for line in bent.draw(some(TRAILERS[:1] if "size" not in bent.kinds else TRAILERS, 1))
    )
    return written + last + bent.eol() + trailers + bent.pick("size", [b"\r\n"], [b"\r\n", b"", b"\n", b"\r"])


def framed(bent: Bent, kind: str) -> tuple[list[bytes], bytes]:
    """Give header lines and what follows the head."""
    draw, body = bent.draw, bent.pick("big", BODIES, BIG_BODIES)
    if kind == "none":
        return [], b""
    if "framing" not in bent.kinds:
        if kind == "length":
            return [b"Content-Length: %d" % len(body)], body
        return [b"Transfer-Encoding: chunked"], chunked(bent, body)
    length = b"Content-Length: " + with_number(draw(st.sampled_from(LENGTHS)), len(body))
    names = [
        b"Transfer-Encoding",
        b"transfer-encoding",
        b"Transfer_Encoding",
        b"Transfer-Encoding ",
        b"\tTransfer-Encoding",
    ]
    coding = draw(st.sampled_from(names[:2] * 3 + names)) + b": " + draw(st.sampled_from(CODINGS))
    lines = draw(
        st.sampled_from([[length], [coding], [length, coding], [coding, length], [length, length], [coding, coding]])
    )
    return list(lines), draw(st.sampled_from([body, chunked(bent, body)]))


def target(bent: Bent) -> bytes:
    """Give a request's target."""
    path = (
        bent.pick("path", GOOD_PLACES, PLACES)
        + bent.pick("path", GOOD_TAILS, DOTS + TAILS)
        + bent.pick("path", [b""], DOTS + TAILS)
    )
    forms = [b"http://h%b", b"http://h:81%b", b"HTTPS://h%b", b"http://u@h%b", b"http:%b", b"//h%b", b"*", b"h:80"]
    return bent.pick("form", [b"%b"], forms).replace(b"%b", path)


REQUEST_KINDS = ["method", "path", "path", "path", "path", "form", "eol", "blank", "version", "host", "line", "line", "names", "framing", "framing", "size", "size",
                 "connection", "authorization", "many", "big"]  # fmt: skip
VERSIONS = [b"HTTP/1.0", b"HTTP/1.2", b"HTTP/2.0", b"HTTP/0.9", b"http/1.1", b"HTTP/1.10", b""]
HOSTS = [b"a:81", b"[::1]", b"evil/../x", b"a, b", b"u@a", b"a b", b""]
MANY = [
    [b"Host: gw.example.com"],
    [b"X-Many: 1"] * 200,
    [b"X-Long: " + b"l" * 40_000],
    [b"Authorization: Bearer x"],
    [b"Content-Length: 0"],
]


@st.composite
def one_request(draw: st.DrawFn) -> bytes:
    """Write one request, good but for a kind of piece or two."""
    bent = Bent(draw, REQUEST_KINDS)
    method = bent.pick("method", GOOD_METHODS, BAD_METHODS)
    takes_body = method in (b"POST", b"PUT", b"PATCH") or "framing" in bent.kinds
    lines, body = framed(bent, draw(st.sampled_from(["length", "chunked", "none"])) if takes_body else "none")
    blank = [b"  ", b"\t", b"\x0b", b""]
    fields = [b"Host: " + bent.pick("host", [b"gw.example.com"], HOSTS)]
    if draw(st.sampled_from([True, True, False])):
        fields.append(b"Authorization: " + bent.pick("authorization", AUTHORIZATION[:2], AUTHORIZATION))
    fields += [name + b": evil" for name in draw(some(IDENTITY + NO_NAMES if "names" in bent.kinds else IDENTITY, 3))]
    if "connection" in bent.kinds:
        fields += [b"Connection: " + value for value in draw(some(CONNECTION, 2))]
    fields += draw(some(LINES if "line" in bent.kinds else GOOD_LINES, 2)) + lines
    fields += draw(some(BAD_LINES, 1)) if "line" in bent.kinds else []
    fields += draw(st.sampled_from(MANY)) if "many" in bent.kinds else []
    if draw(st.booleans()):
        fields = list(draw(st.permutations(fields)))
    start = method + bent.pick("blank", [b" "], blank) + target(bent) + bent.pick("blank", [b" "], blank)
    head = start + bent.pick("version", [b"HTTP/1.1"], VERSIONS) + bent.eol()
    return head + b"".join(line + bent.eol() for line in fields) + bent.eol() + body


@st.composite
def streams(draw: st.DrawFn, data: bytes) -> Stream:
    """Bend a byte here and there, and cut into pieces."""
    for _ in range(draw(st.sampled_from([0] * 12 + [1, 2]))):
        at, how = draw(st.integers(0, len(data))), draw(st.sampled_from(["put", "drop", "twice", "end"]))
        if how == "end":
            data = data[:at]
        else:
            put = (
                draw(st.sampled_from([b"\r", b"\n", b"\0", b" ", b":", b"\xff", b"0", b"\r\n", b"\r\n\r\n", b"A"]))
                if how == "put"
                else b""
            )
            data = data[:at] + (data[at : at + 7] if how == "twice" else put) + data[at + (how == "drop") :]
    if draw(st.integers(0, 15)) == 15 and len(data) < 400:
        return Stream(tuple(bytes([byte]) for byte in data), draw(st.booleans()))
    cuts = sorted(set(draw(st.lists(st.integers(0, len(data)), max_size=6))))
    pieces = tuple(data[low:high] for low, high in zip([0, *cuts], [*cuts, len(data)], strict=True) if low < high)
    return Stream(pieces, draw(st.booleans()))


@st.composite
def clients(draw: st.DrawFn) -> Stream:
    """Give a client's side of a connection: some requests in a row."""
    wanted = draw(st.lists(one_request(), min_size=1, max_size=4))
    between = st.sampled_from([b""] * 20 + [b"\r\n", b"\n", b"x", b"\0", b"\r\n\r\n"])
    return draw(streams(b"".join(draw(between) + each for each in wanted)))


GOOD_STATUSES = [b"200", b"200", b"204", b"304", b"404", b"500", b"299"]
STATUSES = [b"999", b"205", b"100", b"101", b"103", b"199", b"000", b"99", b"1000", b"2x0", b"-20"]
ANSWER_LINES = [
    b"Set-Cookie: a=1", b"set-cookie: b=2", b"Server: own", b"X-Request-Id: evil", b"Connection: close", b"Connection: X-Hop", b"X-Hop: evil",
    b"Connection: keep-alive", b"Keep-Alive: timeout=5", b"Content-Encoding: gzip", b"X-Pass: 1", b"x-pass:2", b"X-Pass: \xe4", b"X-Pass:",
    b"Upgrade: websocket", b"Trailer: T", b"Access-Control-Allow-Origin: *", b"Vary: *", b"Date: x", b"Content-Type: a", b"Content-Type: b",
    b"X-Long: " + b"l" * 9_000, b"Connection: upgrade", b"Proxy-Authenticate: evil", b"Location: /x",
]  # fmt: skip


@dataclass(frozen=True)
class Reply:
    """What an upstream sends for a request, and how its connection ends: kept, closed or reset."""

    stream: Stream
    ending: str
    method: bytes
    minor: int
    fresh: bool


ANSWER_KINDS = [
    "interim",
    "version",
    "reason",
    "eol",
    "blank",
    "status",
    "line",
    "framing",
    "framing",
    "size",
    "size",
    "big",
]
INTERIMS = [
    b"HTTP/1.1 100 Continue\r\nContent-Length: 5\r\n\r\n",
    b"HTTP/1.1 102 P\r\n\r\n" * 3,
    b"HTTP/1.1 101 Switching\r\n\r\n",
]
GOOD_INTERIMS = [b""] * 6 + [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Hints\r\nLink: evil\r\n\r\n"]
ANSWER_VERSIONS = [b"HTTP/1.0", b"HTTP/1.0", b"HTTP/2.0", b"HTTP/1.2", b"ICY", b"HTTP/0.9", b"http/1.1"]
REASONS = [b"", b" ", b" \xe4", b" \0", b" \x1b[2J", b"  two", b" \t"]


@st.composite
def one_answer(draw: st.DrawFn) -> bytes:
    """Write one answer, good but for a kind of piece or two."""
    bent = Bent(draw, ANSWER_KINDS)
    kind = draw(st.sampled_from(["length", "length", "chunked", "chunked", "none"]))
    lines, body = framed(bent, kind)
    if kind == "none":
        body = bent.pick("big", BODIES, BIG_BODIES)
    status = bent.pick("status", GOOD_STATUSES, STATUSES)
    if status in (b"204", b"304") and draw(st.sampled_from([True, True, True, False])):
        lines, body = [], b""
    interim = bent.pick("interim", GOOD_INTERIMS, INTERIMS)
    fields = draw(some(ANSWER_LINES, 5)) + lines + (draw(some(BAD_LINES, 1)) if "line" in bent.kinds else [])
    if draw(st.booleans()):
        fields = list(draw(st.permutations(fields)))
    start = bent.pick("version", [b"HTTP/1.1"], ANSWER_VERSIONS) + bent.pick("blank", [b" "], [b"  ", b"\t"]) + status
    head = start + bent.pick("reason", [b" OK", b" Not Found"], REASONS) + bent.eol()
    return interim + head + b"".join(line + bent.eol() for line in fields) + bent.eol() + body


@st.composite
def replies(draw: st.DrawFn) -> Reply:
    """Give an upstream's side of one exchange."""
    data = draw(one_answer())
    more = draw(st.sampled_from(["", "", "", "behind", "cut"]))
    if more == "behind":
        good = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
        data += draw(st.sampled_from([b"x", b"\r\n", good, b"\0", data, b"0\r\n\r\n"]))
    elif more == "cut":
        data = data[: -draw(st.sampled_from([1, 2, 3, 5, 8, 13, 20, 40, 80]))]
    stream = draw(streams(data))
    ending = draw(st.sampled_from(["keep", "close", "reset"] if more == "cut" else ["keep", "keep", "close", "reset"]))
    method = draw(st.sampled_from([b"GET", b"GET", b"GET", b"HEAD", b"POST", b"PUT"]))
    return Reply(stream, ending, method, draw(st.sampled_from([1, 1, 1, 0])), draw(st.booleans()))
