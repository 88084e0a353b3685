"""From parsed message to `Inbound`; the refusals are seen on the wire in `tests/wire/test_hostile_requests.py`."""

from typing import Any

import pytest
from aiohttp.http_exceptions import BadHttpMessage, LineTooLong
from aiohttp.http_parser import RawRequestMessage
from aiohttp.http_writer import HttpVersion
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from gateway.core.headers import FieldRules
from gateway.core.model import Peer
from gateway.errors import BadRequest, HeadersTooLarge
from gateway.web.read import LastHead, read_inbound, unreadable

PEER = Peer("192.0.2.1", trusted=False, scheme="http", port=80)
RULES = FieldRules("X-User-")
WEBSOCKET = (
    (b"Connection", b"Upgrade"), (b"Upgrade", b"WebSocket"), (b"Sec-WebSocket-Key", b"AAAAAAAAAAAAAAAAAAAAAA=="),
)  # fmt: skip


def message(target: str, *fields: tuple[bytes, bytes], **changes: Any) -> RawRequestMessage:
    empty = CIMultiDictProxy(CIMultiDict[str]())
    parsed = RawRequestMessage(
        "GET", target, HttpVersion(1, 1), empty, ((b"Host", b"a"), *fields), False, None, False, False, URL("/")
    )
    return parsed._replace(**changes)


@pytest.mark.parametrize(
    ("target", "sent", "path", "authority"),
    [
        ("/a?b=%2F&c", b"/a?b=%2F&c", "/a", b"a"),
        ("/a?", b"/a?", "/a", b"a"),
        ("http://B.example/x?y", b"/x?y", "/x", b"B.example"),
        ("HTTPS://b:81", b"/", "/", b"b:81"),
        ("http://b?q", b"/?q", "/", b"b"),
    ],
)
def test_the_target_stays_as_it_came(target: str, sent: bytes, path: str, authority: bytes) -> None:
    inbound = read_inbound(message(target), PEER, RULES, header_bytes=8192)
    assert (inbound.target, inbound.path, inbound.header.authority) == (sent, path, authority)


def test_identity_fields_are_gone_before_anything_reads_them() -> None:
    inbound = read_inbound(message("/", (b"X_User.Id", b"evil"), (b"Accept", b"*/*")), PEER, RULES, header_bytes=8192)
    assert inbound.header.fields == [b"\r\nAccept: ", b"*/*"]


def test_an_http_10_client_need_not_name_a_host() -> None:
    old = message("/", version=HttpVersion(1, 0), raw_headers=())
    assert read_inbound(old, PEER, RULES, header_bytes=8192).header.authority == b""
    with pytest.raises(BadRequest):
        read_inbound(message("/", raw_headers=()), PEER, RULES, header_bytes=8192)


def test_a_websocket_offer_is_told() -> None:
    offer = message("/", *WEBSOCKET, upgrade=True)
    assert read_inbound(offer, PEER, RULES, header_bytes=8192).upgrade


@pytest.mark.parametrize(
    "offer",
    [
        pytest.param(message("/", *WEBSOCKET[:2], upgrade=True), id="no-key"),
        pytest.param(message("/", *WEBSOCKET, (b"Upgrade", b"websocket"), upgrade=True), id="two-upgrades"),
        pytest.param(message("/", *WEBSOCKET, WEBSOCKET[2], upgrade=True), id="two-keys"),
        pytest.param(
            message("/", *WEBSOCKET, *[(b"Sec-WebSocket-Version", b"13")] * 2, upgrade=True), id="two-versions"
        ),
        pytest.param(message("/", *WEBSOCKET, version=HttpVersion(1, 0), upgrade=True), id="http-1.0"),
        pytest.param(message("/", *WEBSOCKET, (b"Content-Length", b"0"), upgrade=True), id="length"),
        pytest.param(message("/", *WEBSOCKET, (b"Transfer-Encoding", b"chunked"), upgrade=True), id="chunked"),
        pytest.param(message("/", *WEBSOCKET, upgrade=True)._replace(method="POST"), id="method"),
        pytest.param(message("/", (b"Upgrade", b"h2c"), *WEBSOCKET[2:], upgrade=True), id="other-protocol"),
    ],
)
def test_a_handshake_that_is_none_is_refused(offer: RawRequestMessage) -> None:
    with pytest.raises(BadRequest) as refused:
        read_inbound(offer, PEER, RULES, header_bytes=8192)
    assert refused.value.reason == "upgrade"


def test_the_sum_of_a_head_is_bounded() -> None:
    fields = tuple((b"X-%d" % number, b"x" * 100) for number in range(10))
    read_inbound(message("/", *fields), PEER, RULES, header_bytes=1200)
    with pytest.raises(HeadersTooLarge):
        read_inbound(message("/", *fields), PEER, RULES, header_bytes=1000)


def test_what_the_parser_refused_is_told_apart() -> None:
    assert isinstance(unreadable(LineTooLong(b"x", 1)), HeadersTooLarge)
    assert isinstance(unreadable(BadHttpMessage("Too many headers received")), HeadersTooLarge)
    assert isinstance(unreadable(BadHttpMessage("Bearer secret")), BadRequest)
    assert "secret" not in str(unreadable(BadHttpMessage("Bearer secret")).detail)


# What a client repeats

FIELDS = b"\r\nHost: a\r\nAuthorization: Bearer x\r\n\r\n"


def last() -> LastHead:
    parsed = message("/x", (b"Authorization", b"Bearer x"))
    header = read_inbound(parsed, PEER, RULES, header_bytes=8192).header
    return LastHead(parsed, header, b"GET /x HTTP/1.1" + FIELDS)


def test_a_head_that_differs_in_its_target_alone_is_read_as_the_parser_would() -> None:
    known = last()
    again = known.again(b"GET /y%2fz?q=%zz HTTP/1.1" + FIELDS, header_bytes=8192)
    parsed = message("/y%2fz?q=%zz", (b"Authorization", b"Bearer x"))
    anew = read_inbound(parsed, PEER, RULES, header_bytes=8192)
    assert again._replace(header=anew.header) == anew
    assert again.header is known.header


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"GET /y HTTP/1.1" + FIELDS.replace(b"Bearer x", b"Bearer y"), id="another-token"),
        pytest.param(b"GET /y HTTP/1.1" + FIELDS.replace(b"Host: a", b"Host: a\r\nX-A: b"), id="another-field"),
        pytest.param(b"POST /y HTTP/1.1" + FIELDS, id="another-method"),
        pytest.param(b"GET /y HTTP/1.0" + FIELDS, id="another-version"),
        pytest.param(b"GET /y#z HTTP/1.1" + FIELDS, id="fragment"),
        pytest.param(b"GET /y\\z HTTP/1.1" + FIELDS, id="backslash"),
        pytest.param(b"GET /\xc3\xa4 HTTP/1.1" + FIELDS, id="raw-utf-8"),
        pytest.param(b"GET /y\x00 HTTP/1.1" + FIELDS, id="nul"),
        pytest.param(b"GET y HTTP/1.1" + FIELDS, id="no-leading-slash"),
        pytest.param(b"GET http://b/y HTTP/1.1" + FIELDS, id="absolute-form"),
        pytest.param(b"GET  /y HTTP/1.1" + FIELDS, id="two-spaces"),
        pytest.param(b"GET /y  HTTP/1.1" + FIELDS, id="space-behind"),
        pytest.param(b" GET /y HTTP/1.1" + FIELDS, id="space-before"),
        pytest.param(b"\r\nGET /y HTTP/1.1" + FIELDS, id="empty-line-before"),
        pytest.param(b"GET /y HTTP/1.1\r\nX-User-Id: evil" + FIELDS, id="field-before"),
        pytest.param(b"GET /y HTTP/1.1\n" + FIELDS[2:], id="bare-line-feed"),
        pytest.param(b"GET /y HTTP/1.1" + FIELDS + b"GET /z HTTP/1.1" + FIELDS, id="two-requests"),
        pytest.param(b"GET /y HTTP/1.1" + FIELDS[:-2], id="unfinished"),
        pytest.param(FIELDS, id="no-first-line"),
        pytest.param(b"GET /" + b"y" * 9000 + b" HTTP/1.1" + FIELDS, id="too-long"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_what_has_anything_else_new_is_the_parsers_business(data: bytes) -> None:
    assert last().again(data, header_bytes=8192) is None
