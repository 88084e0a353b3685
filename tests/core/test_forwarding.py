import re
from ipaddress import ip_network

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gateway.core.forwarding import TRACEPARENT, forwarding, is_trusted, trace
from gateway.core.headers import FieldRules
from gateway.core.model import Forwarding, Header, Peer

CLIENT = Peer("203.0.113.9", trusted=False, scheme="http", port=8080)
PROXY = Peer("10.0.0.1", trusted=True, scheme="http", port=8080)
TRUSTED = (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))
TRACE_ID = b"0af7651916cd43dd8448eb211c80319c"
PARENT = b"00-" + TRACE_ID + b"-b7ad6b7169203331-00"


def header(peer: Peer = CLIENT, *, host: bytes = b"api.example.com", seen: dict[str, bytes] | None = None) -> Header:
    return Header([], seen or {}, frozenset(), peer, host)


def proxied(**seen: str) -> Forwarding:
    named = {f"x-forwarded-{name}": value.encode("latin-1") for name, value in seen.items()}
    return forwarding(header(PROXY, seen=named), TRUSTED)


def forwarded_lines(chain: str, proto: str, host: str, port: str) -> bytes:
    lines = f"For: {chain}", f"Proto: {proto}", f"Host: {host}", f"Port: {port}"
    return "".join(f"\r\nX-Forwarded-{line}" for line in lines).encode()


def test_untrusted_peer_is_the_client_whatever_it_says():
    lies = {
        "x-forwarded-for": b"1.1.1.1",
        "x-forwarded-proto": b"https",
        "x-forwarded-host": b"evil",
        "x-forwarded-port": b"1",
    }
    assert forwarding(header(seen=lies), TRUSTED) == (
        "203.0.113.9", "http", b"api.example.com", b"8080",
        forwarded_lines("203.0.113.9", "http", "api.example.com", "8080"),
    )  # fmt: skip


def test_trusted_proxy_is_believed_and_added_to_the_chain():
    assert proxied(**{"for": "198.51.100.7", "proto": "https", "host": "shop.example", "port": "8443"}) == (
        "198.51.100.7", "https", b"shop.example", b"8443",
        forwarded_lines("198.51.100.7, 10.0.0.1", "https", "shop.example", "8443"),
    )  # fmt: skip


def test_silent_trusted_proxy_is_the_client_itself():
    assert proxied() == forwarding(header(PROXY._replace(trusted=False)))
    assert proxied(**{"for": "", "proto": "", "host": "", "port": ""}) == proxied()


@pytest.mark.parametrize("peer", [CLIENT, PROXY], ids=["untrusted", "trusted"])
def test_client_without_host_gets_no_forwarded_host(peer):
    found = forwarding(header(peer, host=b""), TRUSTED)
    assert found.host == b""
    assert b"Host" not in found.lines


def test_alias_of_a_forwarding_field_is_not_believed():
    seen = FieldRules("X-User-").read([(b"X_Forwarded_For", b"1.1.1.1"), (b"X.Forwarded.Proto", b"https")]).seen
    assert forwarding(header(PROXY, seen=seen), TRUSTED) == proxied()


@pytest.mark.parametrize(
    ("chain", "client"),
    [
        pytest.param("198.51.100.7", "198.51.100.7", id="one"),
        pytest.param("1.1.1.1, 198.51.100.7", "198.51.100.7", id="left-is-made-up"),
        pytest.param("1.1.1.1, 198.51.100.7, 10.2.3.4", "198.51.100.7", id="two-proxies"),
        pytest.param("198.51.100.7,10.2.3.4 ,\t10.5.6.7", "198.51.100.7", id="blanks"),
        pytest.param("10.9.9.9, 10.2.3.4", "10.9.9.9", id="all-ours"),
        pytest.param("198.51.100.7:50123", "198.51.100.7", id="port"),
        pytest.param("2001:db8::7", "2001:db8::7", id="ipv6"),
        pytest.param("2001:DB8:0::7", "2001:db8::7", id="ipv6-other-spelling"),
        pytest.param("[2001:db8::7]", "2001:db8::7", id="brackets"),
        pytest.param("[2001:db8::7]:443", "2001:db8::7", id="brackets-port"),
        pytest.param("198.51.100.7, [fd00::1]:443", "198.51.100.7", id="our-ipv6"),
        pytest.param("::ffff:198.51.100.7", "198.51.100.7", id="ipv4-mapped"),
        pytest.param("198.51.100.7, ::ffff:10.2.3.4", "198.51.100.7", id="our-ipv4-mapped"),
        pytest.param("fe80::1%\x1b[31m", "fe80::1", id="zone"),
        pytest.param("unknown", "10.0.0.1", id="garbage"),
        pytest.param("1.1.1.1, _hidden", "10.0.0.1", id="garbage-right"),
        pytest.param("1.1.1.1, _hidden, 10.2.3.4", "10.2.3.4", id="garbage-behind-ours"),
        pytest.param("1.1.1.1,", "10.0.0.1", id="empty-entry"),
        pytest.param("999.1.1.1", "10.0.0.1", id="no-address"),
        pytest.param("010.1.1.1", "10.0.0.1", id="leading-zero"),
        pytest.param("1.1.1.1" + " " * 80 + "x", "10.0.0.1", id="long-garbage"),
        pytest.param("\xff\x00", "10.0.0.1", id="bytes"),
        pytest.param("1.1.1.1, " * 3000 + "198.51.100.7", "198.51.100.7", id="huge"),
    ],
)
def test_client_is_the_rightmost_address_that_is_not_ours(chain, client):
    found = proxied(**{"for": chain})
    assert found.client == client
    assert found.lines.startswith(b"\r\nX-Forwarded-For: " + chain.encode("latin-1") + b", 10.0.0.1\r\n")


@given(st.text("0123456789abcf.:[]%, ", max_size=60))
def test_nothing_left_of_an_untrusted_address_matters(made_up):
    assert proxied(**{"for": f"{made_up}, 198.51.100.7, 10.1.1.1"}).client == "198.51.100.7"


@pytest.mark.parametrize(
    ("proto", "scheme"),
    [("https", "https"), ("HTTPS", "https"), ("http", "http"), ("https, http", "http"), ("http,https", "https"),
     ("wss", "https"), ("ws", "http"), ("ftp", "http"), ("https\x00", "http"), ("https,", "http")],
)  # fmt: skip
def test_last_scheme_of_a_trusted_proxy_counts(proto, scheme):
    found = proxied(proto=proto)
    assert found.scheme == scheme
    assert f"\r\nX-Forwarded-Proto: {scheme}\r\n".encode() in found.lines


def test_scheme_of_the_connection_counts_where_a_proxy_says_none():
    assert forwarding(header(PROXY._replace(scheme="https"))).scheme == "https"


def test_last_host_of_a_trusted_proxy_counts():
    assert proxied(host="evil.example, shop.example").host == b"shop.example"


@pytest.mark.parametrize(
    ("seen", "port"),
    [
        pytest.param({"port": "443"}, b"443", id="said"),
        pytest.param({"port": "1, 8443"}, b"8443", id="last"),
        pytest.param({"port": "443", "proto": "http", "host": "a:1"}, b"443", id="said-wins"),
        pytest.param({"port": "x"}, b"8080", id="word"),
        pytest.param({"port": "123456"}, b"8080", id="too-long"),
        pytest.param({"port": "1\xb2"}, b"8080", id="digit-of-another-script"),
        pytest.param({}, b"8080", id="nothing-said"),
        pytest.param({"host": "shop.example:1"}, b"8080", id="host-alone"),
        pytest.param({"proto": "https"}, b"443", id="of-https"),
        pytest.param({"proto": "http"}, b"80", id="of-http"),
        pytest.param({"proto": "https", "host": "shop.example:8443"}, b"8443", id="of-host"),
        pytest.param({"proto": "https", "host": "[::1]"}, b"443", id="of-https-ipv6"),
        pytest.param({"proto": "https", "host": "[::1]:8443"}, b"8443", id="of-host-ipv6"),
        pytest.param({"proto": "https", "host": "8443"}, b"443", id="host-of-digits"),
        pytest.param({"proto": "https", "host": "shop:x"}, b"443", id="host-with-a-word"),
    ],
)
def test_port_is_the_one_the_client_used(seen, port):
    found = proxied(**seen)
    assert found.port == port
    assert found.lines.endswith(b"\r\nX-Forwarded-Port: " + port)


@pytest.mark.parametrize(
    ("address", "expected"),
    [("10.1.2.3", True), ("11.1.2.3", False), ("fd00::5", True), ("fe80::1", False), ("::ffff:10.1.2.3", True),
     ("::ffff:11.1.2.3", False), ("fd00::5%eth0", True), ("", False), ("localhost", False)],
)  # fmt: skip
def test_trusted_networks(address, expected):
    assert is_trusted(address, TRUSTED) is expected
    assert not is_trusted(address, ())


# Ids


@given(bits=st.integers(min_value=1 << 64, max_value=(1 << 192) - 1))
def test_own_ids_are_well_formed_and_find_one_another(bits):
    assume(bits % (1 << 64))  # W3C Trace Context §3.2.2.3: all zeros is no id
    found = trace(header(seen={"x-request-id": b"theirs", "traceparent": PARENT}), bits)
    assert TRACEPARENT.fullmatch(found.traceparent)
    assert found.traceparent.split(b"-")[1] == found.request_id
    assert found.traceparent.endswith(b"-01")
    assert found == trace(header(PROXY), bits)


@pytest.mark.parametrize(
    ("request_id", "taken"),
    [(b"a", True), (b"AZ.az_09-", True), (b"x" * 128, True), (b"x" * 129, False), (b"", False), (b"a b", False),
     (b"a\n", False), (b"a, b", False), (b"<a>", False), (b"\xe9", False)],
)  # fmt: skip
def test_request_id_is_taken_from_a_trusted_proxy_if_well_formed(request_id, taken):
    found = trace(header(PROXY, seen={"x-request-id": request_id}), 1 << 191)
    assert (found.request_id == request_id) is taken
    assert taken or re.fullmatch(rb"[0-9a-f]{32}", found.request_id)


@pytest.mark.parametrize(
    ("parent", "taken"),
    [
        pytest.param(PARENT, True, id="good"),
        pytest.param(PARENT.upper(), False, id="upper-case"),
        pytest.param(PARENT + b"-x", False, id="longer"),
        pytest.param(PARENT + b"\n", False, id="line-end"),
        pytest.param(b"ff" + PARENT[2:], False, id="version"),
        pytest.param(PARENT.replace(TRACE_ID, b"0" * 32), False, id="zero-trace"),
        pytest.param(PARENT.replace(b"b7ad6b7169203331", b"0" * 16), False, id="zero-parent"),
        pytest.param(PARENT + b", " + PARENT, False, id="twice"),
    ],
)
def test_trace_of_a_trusted_proxy_goes_on_if_well_formed(parent, taken):
    assert (trace(header(PROXY, seen={"traceparent": parent}), 1 << 191).traceparent == parent) is taken


def test_a_header_that_comes_again_is_judged_once():
    again = header(PROXY, seen={"x-forwarded-for": b"198.51.100.7"})
    assert forwarding(again, TRUSTED) is forwarding(again, TRUSTED)
