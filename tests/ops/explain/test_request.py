"""What is typed is read as a client's bytes would be."""

import pytest

from gateway.config import load_text
from gateway.core.headers import FieldRules
from gateway.errors import GatewayError
from gateway.ops.explain.request import Asked, head_of, peer_of, receive
from tests.config.files import written

RULES = FieldRules("X-User-")


def config(**blocks: str):
    return load_text(written(**blocks), {}, name="test.yaml")


@pytest.mark.parametrize(
    ("blocks", "host"),
    [
        pytest.param({}, "localhost:8080", id="everywhere"),
        pytest.param({"listen": "{host: 127.0.0.1, port: 80}"}, "127.0.0.1", id="usual-port"),
        pytest.param({"listen": '{host: "::1", port: 81}'}, "[::1]:81", id="ipv6"),
        pytest.param({"public_url": "https://api.example.com"}, "api.example.com", id="public-url"),
    ],
)
def test_a_request_without_host_is_for_where_the_gateway_is(blocks, host):
    assert head_of(Asked("GET", "/x"), config(**blocks)) == f"GET /x HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()


def test_a_request_is_written_in_the_order_of_its_parts():
    asked = Asked("POST", "/x?é", "t", "https://a.example", ("host:h", "X-A:  b: c "))
    assert head_of(asked, config()).decode().split("\r\n") == [
        "POST /x?é HTTP/1.1", "Authorization: Bearer t", "Origin: https://a.example", "host: h", "X-A: b: c", "", "",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "parts",
    [
        {"target": "/x\r\nX-Evil: 1"},
        {"token": "a\nb"},
        {"origin": "a\rb"},
        {"headers": ("A: b\r\nC: d",)},
        {"headers": ("no colon",)},
        {"headers": (": nameless",)},
        {"headers": ("",)},
    ],
)
def test_what_no_client_could_send_is_not_read(parts):
    with pytest.raises(ValueError, match=r"line break|NAME: VALUE"):
        Asked(**({"method": "GET", "target": "/x"} | parts))


def test_a_broken_header_is_not_quoted_whole():
    with pytest.raises(ValueError, match='"Bearer"'):
        Asked("GET", "/x", headers=("Bearer secret",))


async def test_it_is_read_by_the_gateways_own_parser():
    inbound = receive(Asked("GET", "/x?a=b", "t", headers=("X-User-Id: evil", "X-A: b")), config(), RULES).inbound
    assert (inbound.method, inbound.target, inbound.path, inbound.upgrade) == ("GET", b"/x?a=b", "/x", False)
    assert inbound.header.seen["authorization"] == b"Bearer t"
    assert inbound.header.fields == [b"\r\nX-A: ", b"b"]


@pytest.mark.parametrize(
    ("asked", "code", "reason"),
    [
        pytest.param(Asked("GET", "/a b"), "bad_request", "malformed", id="blank"),
        pytest.param(Asked("OPTIONS", "*"), "bad_request", "target", id="asterisk"),
        pytest.param(Asked("TRACE", "/"), "method_not_allowed", None, id="trace"),
        pytest.param(Asked("GET", "/", headers=("Na me: x",)), "bad_request", "malformed", id="field-name"),
        pytest.param(Asked("GET", "/", headers=("A: b",) * 200), "headers_too_large", None, id="many"),
    ],
)
async def test_what_cannot_be_read_is_refused_as_it_would_be(asked, code, reason):
    with pytest.raises(GatewayError) as refused:
        receive(asked, config(), RULES)
    assert (refused.value.code, refused.value.reason) == (code, reason)


def test_it_comes_from_this_machine_which_may_be_a_trusted_proxy():
    assert peer_of(config()) == ("127.0.0.1", False, "http", 8080)
    assert peer_of(config(trusted_proxies="[127.0.0.0/8]")).trusted
