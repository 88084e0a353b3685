"""The local issuer sends browsers only to pages of this machine."""

import pytest

from gateway.ops.dev.redirects import check_redirect, origin_of, with_query


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8080/app?a=b%20c#d", "http://localhost/", "https://localhost:3000/x", "http://[::1]:1/"]
)
def test_this_machines_pages_are_good(url):
    assert check_redirect(url) == url


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("", id="none"),
        pytest.param("/app", id="path"),
        pytest.param("//evil.example/", id="no-scheme"),
        pytest.param("https://evil.example/", id="foreign"),
        pytest.param("http://127.0.0.1.evil.example/", id="begins-like-loopback"),
        pytest.param("http://127.0.0.1:8080@evil.example/", id="loopback-as-user"),
        pytest.param("http://evil.example\\@127.0.0.1/", id="backslash"),
        pytest.param("http://ev\til.example@127.0.0.1/", id="tab"),
        pytest.param("http://user@127.0.0.1/", id="user"),
        pytest.param("http://127.0.0.1\r\nX: y/", id="line-break"),
        pytest.param("javascript:alert(1)//127.0.0.1", id="script"),
        pytest.param("ftp://127.0.0.1/", id="other-scheme"),
        pytest.param("http://[::1/", id="broken"),
        pytest.param("http://127.0.0.1:8080/" + "x" * 9000, id="endless"),
    ],
)
def test_everything_else_is_refused(url):
    with pytest.raises(ValueError, match="redirect_url"):
        check_redirect(url)


def test_origin_is_as_browsers_write_it():
    assert origin_of("HTTP://LocalHost:8080/x?y") == "http://localhost:8080"
    assert origin_of("http://[::1/") == ""


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        pytest.param("http://a/x", "http://a/x?n=1", id="none-there"),
        pytest.param("http://a/x?q=a%20b+c&n=0&%6e=2&z", "http://a/x?q=a%20b+c&z&n=1", id="replaced-others-as-written"),
        pytest.param("http://a/x?#f", "http://a/x?n=1#f", id="fragment"),
    ],
)
def test_query_fields_are_put(url, expected):
    assert with_query(url, {"n": "1"}) == expected
