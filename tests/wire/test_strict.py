"""The second opinion itself: it must be at least as strict as what it judges."""

import h11
import pytest

from tests.wire.strict import answers, h11_requests, requests

HEAD = b"POST /x HTTP/1.1\r\nHost: a\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize("data", [
    pytest.param(HEAD + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nhi", id="two-lengths"),
    pytest.param(HEAD + b"Content-Length: +2\r\n\r\nhi", id="signed-length"),
    pytest.param(HEAD + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", id="both"),
    pytest.param(HEAD + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", id="coding-list"),
    pytest.param(HEAD.replace(b"1.1", b"1.0") + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", id="coding-on-1.0"),
    pytest.param(HEAD + b"X : 1\r\n\r\n", id="space-before-colon"),
    pytest.param(HEAD + b"X: 1\r\n 2\r\n\r\n", id="fold"),
    pytest.param(HEAD + b"X: a\0\r\n\r\n", id="nul"),
    pytest.param(HEAD + b"X: a\n\r\n", id="bare-lf"),
    pytest.param(HEAD + b"Host: b\r\n\r\n", id="two-hosts"),
    pytest.param(b"POST /x HTTP/1.1\r\n\r\n", id="no-host"),
    pytest.param(CHUNKED + b"0x2\r\nhi\r\n0\r\n\r\n", id="hex-prefix"),
    pytest.param(CHUNKED + b"+2\r\nhi\r\n0\r\n\r\n", id="signed-chunk"),
    pytest.param(CHUNKED + b"2\nhi\r\n0\r\n\r\n", id="chunk-bare-lf"),
    pytest.param(CHUNKED + b"2\r\nhixx0\r\n\r\n", id="chunk-overrun"),
    pytest.param(CHUNKED + b"\r\nhi\r\n0\r\n\r\n", id="chunk-without-size"),
])  # fmt: skip
def test_what_could_be_read_two_ways_is_malformed(data: bytes) -> None:
    reading = requests(data)
    assert reading.malformed
    assert not reading.messages


@pytest.mark.parametrize(("data", "bodies"), [
    pytest.param(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n" * 2, [b"", b""], id="two"),
    pytest.param(HEAD + b"Content-Length: 2\r\n\r\nhi" + CHUNKED + b"2;a=b\r\nhi\r\n0\r\nT: 1\r\n\r\n", [b"hi", b"hi"],
                 id="both-framings"),
    pytest.param(CHUNKED + b"2\r\nhi\r\n", [], id="unfinished"),
])  # fmt: skip
def test_what_is_whole_is_read_as_h11_reads_it(data: bytes, bodies: list[bytes]) -> None:
    reading = requests(data)
    assert [message.body for message in reading.messages] == bodies
    assert [body for *_, body in h11_requests(data)] == bodies
    assert not reading.malformed


def test_an_empty_line_before_a_request_is_no_request() -> None:
    assert [message.target for message in requests(b"\r\n" + HEAD + b"\r\n").messages] == [b"/x"]


def test_a_body_is_certain_as_far_as_it_came() -> None:
    reading = requests(CHUNKED + b"2\r\nhi\r\nzz\r\n")
    assert reading.partial is not None
    assert (reading.partial.body, reading.malformed) == (b"hi", True)
    with pytest.raises(h11.RemoteProtocolError):
        h11_requests(CHUNKED + b"2\r\nhi\r\nzz\r\n")


@pytest.mark.parametrize(("data", "method", "closed", "body"), [
    pytest.param(OK + b"Content-Length: 2\r\n\r\nhi", b"GET", False, b"hi", id="length"),
    pytest.param(OK + b"Content-Length: 2\r\n\r\n", b"HEAD", False, b"", id="head"),
    pytest.param(OK + b"\r\nhi", b"GET", True, b"hi", id="until-close"),
    pytest.param(OK + b"\r\nhi", b"GET", False, None, id="until-close-still-open"),
    pytest.param(b"HTTP/1.1 103 Hints\r\nLink: x\r\n\r\n" + OK + b"Content-Length: 0\r\n\r\n", b"GET", False, b"", id="interim"),
    pytest.param(OK + b"Content-Length: 0\r\n\r\n" + OK, b"GET", False, b"", id="one-too-many"),
    pytest.param(b"HTTP/1.1 101 Switching\r\n\r\n", b"GET", False, None, id="unasked-101"),
])  # fmt: skip
def test_answers_are_read_by_what_they_answer(data: bytes, method: bytes, closed: bool, body: bytes | None) -> None:
    reading = answers(data, [method], closed=closed)
    assert [message.body for message in reading.messages] == ([] if body is None else [body])
