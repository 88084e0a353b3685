"""Between two requests or inside one: told by counting, held against what the parser itself makes of the bytes."""

import asyncio
from itertools import pairwise

import pytest
from aiohttp import web
from aiohttp.web_protocol import RequestHandler, _ErrInfo
from hypothesis import given
from hypothesis import strategies as st

from gateway.web.position import BETWEEN, INSIDE, UNKNOWN, Position

GET = b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
CHUNKS = b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
PROBE = b"GET /probe HTTP/1.1\r\nHost: probe\r\n\r\n"


def handler() -> RequestHandler:
    async def nobody(_request: web.BaseRequest) -> web.StreamResponse:
        raise NotImplementedError

    loop = asyncio.new_event_loop()
    try:
        return RequestHandler(web.Server(nobody, loop=loop), loop=loop, auto_decompress=False)
    finally:
        loop.close()


def after(*reads: bytes) -> tuple[str, bytes, bool]:
    """Give the place behind these reads, the head that came whole and alone, and whether a request would now be one."""
    connection, position, head = handler(), Position(), b""
    messages, taken = connection._messages, 0
    for read in reads:
        waits = taken == len(messages) and (not messages or messages[-1][1].is_eof())
        in_body, before = bool(messages) and not messages[-1][1].is_eof(), len(messages)
        connection.data_received(read)
        new = type(messages)(list(messages)[taken:])
        if waits:
            head = position.began(read, new)
        else:
            position.went_on(read, messages, grew=len(messages) > before, in_body=in_body)
        if not messages or messages[-1][1].is_eof():
            taken = len(messages)
    refused = any(isinstance(message, _ErrInfo) for message, _ in messages)  # then the connection ends with it
    connection.data_received(PROBE)
    message = messages[-1][0]
    clean = getattr(message, "path", "") == "/probe" and message.raw_headers == ((b"Host", b"probe"),)
    return position.place, head, clean or refused


@pytest.mark.parametrize(
    ("reads", "place", "head"),
    [
        pytest.param([GET], BETWEEN, GET, id="one-head"),
        pytest.param([GET, GET], BETWEEN, GET, id="two-reads"),
        pytest.param([GET + GET], BETWEEN, b"", id="two-heads"),
        pytest.param([GET + GET[:9]], INSIDE, b"", id="head-and-a-half"),
        pytest.param([GET[:9]], INSIDE, b"", id="half"),
        pytest.param([b"\r\n" + GET], BETWEEN, b"", id="empty-line-before"),
        pytest.param([GET + b"\r\n"], BETWEEN, b"", id="empty-line-behind"),
        pytest.param([POST], BETWEEN, b"", id="body"),
        pytest.param([POST[:-2], POST[-2:]], BETWEEN, b"", id="body-in-two"),
        pytest.param([POST + GET[:9]], INSIDE, b"", id="body-and-half-a-head"),
        pytest.param([POST[:-2], POST[-2:] + GET[:9]], INSIDE, b"", id="body-in-two-and-half-a-head"),
        pytest.param([POST + GET], BETWEEN, b"", id="body-and-head"),
        pytest.param([POST, GET], BETWEEN, GET, id="head-behind-a-body"),
        pytest.param([b"\r\n" + POST], UNKNOWN, b"", id="body-behind-an-empty-line"),
        pytest.param([CHUNKS], UNKNOWN, b"", id="chunks"),
        pytest.param([CHUNKS, GET], BETWEEN, b"", id="head-behind-chunks"),
    ],
)  # fmt: skip
def test_where_reads_leave_the_parser(reads: list[bytes], place: str, head: bytes) -> None:
    assert after(*reads)[:2] == (place, head)


@given(
    requests=st.lists(st.sampled_from([GET, POST, CHUNKS, b"\r\n", GET[:20], POST[:-3]]), min_size=1, max_size=4),
    cuts=st.sets(st.integers(1, 200), max_size=4),
)
def test_between_two_requests_the_next_one_is_itself(requests: list[bytes], cuts: set[int]) -> None:
    data = b"".join(requests)
    at = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
    place, head, clean = after(*[data[begin:end] for begin, end in pairwise(at)])
    assert place is not BETWEEN or clean
    assert not head or (head.count(b"\r\n\r\n"), head[-4:]) == (1, b"\r\n\r\n")
