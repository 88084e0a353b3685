"""What clients and upstreams may send: strategies that put streams of bytes together from good and from odd pieces.

Most pieces are good, so that the odd one is met in a request that would otherwise pass.
"""

from dataclasses import dataclass

from hypothesis import strategies as st

MEMBER, ADMIN, EXPIRED = b"{member}", b"{admin}", b"{expired}"  # exchanged for tokens by `stage`


def mostly(good: bytes, *odd: bytes, times: int = 12) -> st.SearchStrategy[bytes]:
    """Give the good piece as a rule (first, so that examples shrink to it)."""
    return st.sampled_from([good] * max(1, times) + list(odd))


def some(pieces: list[bytes], most: int) -> st.SearchStrategy[list[bytes]]:
    """Give none up to a few of the pieces."""
    return st.lists(st.sampled_from(pieces), max_size=most)


EOL = mostly(b"\r\n", b"\n", b"\r", b"\r\r\n", b"\n\r", times=60)
METHODS = mostly(
    b"GET", b"POST", b"POST", b"POST", b"PUT", b"PUT", b"HEAD", b"HEAD", b"OPTIONS", b"DELETE", b"PATCH", b"QUERY",
    b"get", b"CONNECT", b"TRACE", b"PRI", b"G@T", b"GET\t", b"", b"X-Y", b"\x16\x03\x01", b"PROPFIND", times=8,
)  # fmt: skip
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
IDENTITY = [
    b"X-User-Id", b"x-user-id", b"X_User_Id", b"X-User_Id", b"X.User.Id", b"X-USER-ID", b"X-User-Email", b"X-User-Org-Role",
    b"X-User-Session-Id", b"x_user_org_role", b"X-User-", b"X-User", b"X!User!Id", b"X-User-Assertion", b"X-User-Truncated",
    b"X-Forwarded-For", b"X_Forwarded_For", b"X-Forwarded-Host", b"X-Forwarded-Prefix", b"x.forwarded.proto", b"Forwarded",
    b"X-Real-IP", b"X-Original-URL", b"X-Rewrite-URL", b"X-HTTP-Method-Override", b"X-Request-Id", b"X_Request_Id",
    b"traceparent", b"Remote-User", b"Proxy", b"X-Clerk-Auth-Status", b"Clerk-Secret-Key", b"CF-Connecting-IP",
    b"Content_Length", b"Transfer_Encoding", b"Content.Length", b"X-User-Id\xc2\xad", b"X-User-\xc4\xb0d", b"X-User-Id\0",
    b"X-User-Id ", b"X-User-Id\t", b" X-User-Id", b"X-Us\xe9r-Id", b"H_o_s_t",
]  # fmt: skip
CONNECTION = [
    b"keep-alive", b"close", b"X-User-Id", b"x-user-id, close", b"content-length", b"transfer-encoding", b"host",
    b"authorization", b"x-pass, keep-alive", b"Upgrade", b"upgrade, HTTP2-Settings", b"x-forwarded-for, x-request-id", b",,", b"",
]  # fmt: skip
LINES = [
    b"X-Pass: 1", b"x-pass: 2", b"X-Pass:3", b"X-Pass:\t4 \t", b"X-Pass: \xe4", b"X-Pass:", b"X-Pass: " + b"p" * 500,
    b"Accept-Encoding: gzip", b"Content-Encoding: gzip", b"Content-Type: text/plain", b"Content-Type: a/b", b"TE: trailers",
    b"Trailer: X-User-Id", b"Origin: https://app.example.com", b"Access-Control-Request-Method: GET", b"User-Agent: f\xff",
    b"Expect: 100-continue", b"Expect: 100-continue", b"Expect: x", b"Upgrade: websocket", b"Upgrade: h2c", b"Keep-Alive: 5",
    b"Cookie: a=b", b"Cookie: __session=x; a=b", b"Cookie: __session=" + MEMBER, b"Host: b", b"Host: ", b"Proxy-Connection: close",
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
    b"b" * 70_000,
]
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


@st.composite
def chunked(draw: st.DrawFn, body: bytes) -> bytes:
    """Write a body in chunks, now and then badly."""
    cuts = sorted(draw(st.lists(st.integers(0, len(body)), max_size=3)))
    parts = [body[low:high] for low, high in zip([0, *cuts], [*cuts, len(body)], strict=True) if low < high]
    written = b""
    for part in parts:
        size = with_number(draw(mostly(b"%x", *SIZES, times=60)), len(part))
        written += size + draw(EOL) + part + draw(mostly(b"\r\n", b"", b"\n", b"x\r\n", b"\r", times=60))
    last = draw(mostly(b"0", b"000", b"0;a=b", b"00000000000000000000", b"-0", b"0x0", b"", times=30))
    trailers = b"".join(line + b"\r\n" for line in draw(some(TRAILERS, 1)))
    return written + last + draw(EOL) + trailers + draw(mostly(b"\r\n", b"", b"\n", b"\r", times=30))


@st.composite
def framed(draw: st.DrawFn, usual: str) -> tuple[list[bytes], bytes]:
    """Give header lines and what follows the head; `usual` is the framing that most have."""
    body = draw(st.sampled_from(BODIES))
    kind = draw(st.sampled_from([usual] * 4 + ["length", "length", "chunked", "chunked", "both", "odd", "none"]))
    if kind == "none":
        return [], b""
    if kind == "length":
        return [b"Content-Length: %d" % len(body)], body
    if kind == "chunked":
        return [b"Transfer-Encoding: chunked"], draw(chunked(body))
    length = b"Content-Length: " + with_number(draw(st.sampled_from(LENGTHS)), len(body))
    coding = draw(
        mostly(
            b"Transfer-Encoding",
            b"transfer-encoding",
            b"Transfer_Encoding",
            b"Transfer-Encoding ",
            b"\tTransfer-Encoding",
        )
    )
    coding += b": " + draw(st.sampled_from(CODINGS))
    if kind == "both":
        lines = draw(st.permutations(draw(st.sampled_from([[length, coding], [length, length], [coding, coding]]))))
    else:
        lines = [draw(st.sampled_from([length, coding]))]
    return list(lines), draw(st.sampled_from([body, draw(chunked(body))]))


@st.composite
def targets(draw: st.DrawFn) -> bytes:
    """Give a request's target."""
    path = draw(st.sampled_from(PLACES)) + b"".join(draw(st.lists(st.sampled_from(TAILS[:3] + TAILS), max_size=3)))
    form = draw(
        mostly(
            b"%b", b"http://h%b", b"http://h:81%b", b"HTTPS://h%b", b"http://u@h%b", b"http:%b", b"//h%b", b"*", b"h:80"
        )
    )
    return form.replace(b"%b", path)


@st.composite
def one_request(draw: st.DrawFn) -> bytes:
    """Write one request, more or less good."""
    method = draw(METHODS)
    lines, body = draw(framed("length" if method in (b"POST", b"PUT", b"PATCH") else "none"))
    blank = mostly(b" ", b"  ", b"\t", b"\x0b", b"", times=60)
    version = draw(
        mostly(
            b"HTTP/1.1",
            b"HTTP/1.0",
            b"HTTP/1.0",
            b"HTTP/1.2",
            b"HTTP/2.0",
            b"HTTP/0.9",
            b"http/1.1",
            b"HTTP/1.10",
            b"",
            times=30,
        )
    )
    fields = [
        b"Host: "
        + draw(mostly(b"gw.example.com", b"a:81", b"[::1]", b"evil/../x", b"a, b", b"u@a", b"a b", b"", times=40))
    ]
    fields += [
        b"Authorization: " + value
        for value in draw(some(AUTHORIZATION[:1] * 6 + AUTHORIZATION[1:2] * 4 + AUTHORIZATION, 1))
    ]
    fields += [name + b": evil" for name in draw(some(IDENTITY, 4))]
    fields += [b"Connection: " + value for value in draw(st.one_of(st.just([]), some(CONNECTION, 2)))]
    fields += draw(some(LINES, 3)) + lines + draw(st.one_of(*[st.just([])] * 6, some(BAD_LINES, 1)))
    if draw(st.integers(0, 40)) == 40:
        fields += draw(
            st.sampled_from(
                [fields, fields[:1], [b"X-Many: 1"] * 200, [b"X-Long: " + b"l" * 40_000], [b"Authorization: Bearer x"]]
            )
        )
    if draw(st.booleans()):
        fields = list(draw(st.permutations(fields)))
    head = method + draw(blank) + draw(targets()) + draw(blank) + version + draw(EOL)
    return head + b"".join(line + draw(EOL) for line in fields) + draw(EOL) + body


@st.composite
def streams(draw: st.DrawFn, data: bytes) -> Stream:
    """Bend a byte here and there, and cut into pieces."""
    for _ in range(draw(st.sampled_from([0] * 8 + [1, 2]))):
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
    between = mostly(b"", b"\r\n", b"\n", b"x", b"\0", b"\r\n\r\n", times=40)
    return draw(streams(b"".join(draw(between) + each for each in wanted)))


STATUSES = mostly(b"200", b"200", b"204", b"304", b"404", b"500", b"299", b"999", b"205", b"100", b"101", b"103", b"199", b"000", b"99", b"1000",
                  b"2x0", b"-20", times=10)  # fmt: skip
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


@st.composite
def one_answer(draw: st.DrawFn) -> bytes:
    """Write one answer, more or less good."""
    lines, body = draw(framed("length"))
    if not lines:
        body = draw(st.sampled_from(BODIES))
    interim = draw(st.sampled_from([b""] * 8 + [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Hints\r\nLink: evil\r\n\r\n",
                                                b"HTTP/1.1 100 Continue\r\nContent-Length: 5\r\n\r\n", b"HTTP/1.1 102 P\r\n\r\n" * 3]))  # fmt: skip
    version = draw(
        mostly(
            b"HTTP/1.1", b"HTTP/1.0", b"HTTP/1.0", b"HTTP/2.0", b"HTTP/1.2", b"ICY", b"HTTP/0.9", b"http/1.1", times=30
        )
    )
    reason = draw(mostly(b" OK", b"", b" ", b" Not Found", b" \xe4", b" \0", b" \x1b[2J", b"  two", times=30))
    fields = draw(some(ANSWER_LINES, 5)) + lines + draw(st.one_of(*[st.just([])] * 8, some(BAD_LINES, 1)))
    if draw(st.booleans()):
        fields = list(draw(st.permutations(fields)))
    head = version + draw(mostly(b" ", b"  ", b"\t", times=60)) + draw(STATUSES) + reason + draw(EOL)
    return interim + head + b"".join(line + draw(EOL) for line in fields) + draw(EOL) + body


@st.composite
def replies(draw: st.DrawFn) -> Reply:
    """Give an upstream's side of one exchange."""
    data = draw(one_answer())
    if draw(st.integers(0, 7)) == 7:
        data += draw(st.sampled_from([b"x", b"\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", b"\0", data]))
    stream = draw(streams(data))
    ending = draw(st.sampled_from(["keep", "keep", "close", "reset"]))
    method = draw(st.sampled_from([b"GET", b"GET", b"GET", b"HEAD", b"POST", b"PUT"]))
    return Reply(stream, ending, method, draw(st.sampled_from([1, 1, 1, 0])), draw(st.booleans()))
