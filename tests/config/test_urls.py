import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.urls import (
    address_of,
    is_loopback,
    read_host,
    read_keys_url,
    read_outbound,
    read_upstream,
    read_url,
)


@pytest.mark.parametrize(
    ("value", "host", "port", "path", "authority"),
    [
        pytest.param("http://a.example", "a.example", 80, "", "a.example", id="http"),
        pytest.param("https://a.example/", "a.example", 443, "", "a.example", id="https-slash"),
        pytest.param("https://A.Example:443/x/", "a.example", 443, "/x", "a.example", id="own-port-is-left-out"),
        pytest.param("http://a.example:443", "a.example", 443, "", "a.example:443", id="the-other-port-is-not"),
        pytest.param("http://[::1]:3000", "::1", 3000, "", "[::1]:3000", id="ipv6"),
        pytest.param("http://127.0.0.1", "127.0.0.1", 80, "", "127.0.0.1", id="ipv4"),
        pytest.param("https://bücher.example", "xn--bcher-kva.example", 443, "", "xn--bcher-kva.example", id="idn"),
        pytest.param("http://my_service", "my_service", 80, "", "my_service", id="underscore"),
    ],
)
def test_read_url_takes_apart(value, host, port, path, authority):
    url = read_url(value)
    assert (url.host, url.port, url.path, url.authority) == (host, port, path, authority)
    assert read_url(url.text) == url


@pytest.mark.parametrize(
    ("value", "fragment"),
    [
        pytest.param("", "must begin with http://", id="nothing"),
        pytest.param("a.example", "must begin with http://", id="no-scheme"),
        pytest.param("ftp://a.example", "must begin with http://", id="other-scheme"),
        pytest.param("https:///x", "must begin with http://", id="no-host"),
        pytest.param("https://user:pw@a.example", "user or password", id="user"),
        pytest.param("https://@a.example", "user or password", id="empty-user"),
        pytest.param("https://a.example?x=1", "query or fragment", id="query"),
        pytest.param("https://a.example?", "query or fragment", id="empty-query"),
        pytest.param("https://a.example#x", "query or fragment", id="fragment"),
        pytest.param("https://a.example/x y", "blanks", id="blank"),
        pytest.param("https://a.exa\nmple", "blanks", id="line-end"),
        pytest.param("https://a.example\\@b.example", "user or password", id="backslash-user"),
        pytest.param("https://a.example/\\x", "blanks", id="backslash"),
        pytest.param("https://a.example:0", "port 0", id="port-zero"),
        pytest.param("https://a.example:99999", "is not a URL", id="port-too-high"),
        pytest.param("https://a.example:x", "is not a URL", id="port-no-number"),
        pytest.param("https://[::1", "is not a URL", id="open-bracket"),
        pytest.param("https://a..example", "neither a host name", id="empty-label"),
        pytest.param("https://-a.example", "neither a host name", id="leading-dash"),
        pytest.param("https://a.example.", "neither a host name", id="trailing-dot"),
        pytest.param("https://*.example", "neither a host name", id="star"),
        pytest.param("https://" + "ä" * 80 + ".example", "a host that is not one", id="idn-too-long"),
        pytest.param("http://2130706433", "neither a host name", id="address-as-number"),
        pytest.param("http://0x7f.1", "neither a host name", id="address-as-hexadecimal"),
        pytest.param("http://169.254.43518", "neither a host name", id="address-in-three-parts"),
        pytest.param("http://0251.0376.0251.0376", "neither a host name", id="address-as-octal"),
    ],
)
def test_read_url_refuses(value, fragment):
    with pytest.raises(ValueError, match=fragment):
        read_url(value)


@given(st.text(max_size=40), st.sampled_from(["", "http://", "https://"]))
def test_read_url_gives_a_url_or_a_value_error(text, scheme):
    try:
        url = read_url(scheme + text)
    except ValueError:
        return
    assert url.scheme in ("http", "https")
    assert 0 < url.port < 65536


@pytest.mark.parametrize(
    ("value", "fragment"),
    [
        pytest.param("http://clerk.example.com", "must be https", id="plain-http"),
        pytest.param("http://10.0.0.1", "must be https", id="private-address"),
        pytest.param("http://localhost.example.com", "must be https", id="resembles-localhost"),
        pytest.param("https://169.254.169.254", "link-local", id="link-local"),
        pytest.param("https://[fe80::1]", "link-local", id="link-local-ipv6"),
        pytest.param("https://[::ffff:169.254.169.254]", "link-local", id="link-local-in-ipv6"),
        pytest.param("https://clerk.example.com?x", "query", id="query"),
    ],
)
def test_what_is_asked_must_be_https_or_loopback(value, fragment):
    with pytest.raises(ValueError, match=fragment):
        read_outbound(value)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.10", "[::1]", "localhost", "[::ffff:127.0.0.1]"])
def test_what_is_asked_may_be_http_on_loopback(host):
    assert read_outbound(f"http://{host}:4000").scheme == "http"


def test_a_key_set_url_may_have_a_query():
    assert read_keys_url("https://a.example/jwks?v=1").path == "/jwks"


@pytest.mark.parametrize(
    "value", ["http://169.254.1.1", "http://[fe80::1]", "https://[::ffff:169.254.1.1]", "http://224.0.0.1"]
)
def test_no_upstream_is_link_local(value):
    with pytest.raises(ValueError, match="link-local"):
        read_upstream(value)


@pytest.mark.parametrize("value", ["http://10.0.0.1:81", "http://api.internal", "https://api.example.com/v1"])
def test_an_upstream_may_be_http_anywhere_else(value):
    assert read_upstream(value).text == value


def test_read_host_takes_names_and_addresses():
    assert [read_host(text) for text in ("LOCALHOST", "::", "0.0.0.0")] == ["localhost", "::", "0.0.0.0"]


def test_an_address_in_ipv6_clothes_is_the_ipv4_it_is():
    assert str(address_of("::ffff:10.0.0.1")) == "10.0.0.1"
    assert address_of("a.example") is None
    assert not is_loopback("::2")
