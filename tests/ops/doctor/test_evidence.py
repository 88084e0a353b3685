import io
import sys

import pytest

from gateway.ops.doctor.evidence import Unusable, read_evidence
from tests.ops.doctor.world import CLERK, NOW

TOKEN = CLERK.session_token(NOW)


@pytest.mark.parametrize(
    "written",
    [TOKEN, f"Bearer {TOKEN}", f"  bearer   {TOKEN}\n", f'"{TOKEN}"', f"Authorization: Bearer {TOKEN}"],
    ids=["bare", "scheme", "blanks", "quotes", "field"],
)
def test_a_token_may_bring_along_what_it_was_copied_with(written):
    assert read_evidence(token=written).token == TOKEN


def test_headers_say_the_same_as_options_and_options_win():
    headers = (
        f"Authorization: Bearer {TOKEN}",
        "cookie: a=1",
        "Origin:https://a.example",
        "Host: api.example.com:8080",
    )
    found = read_evidence(headers=(*headers, "X-Forwarded-For: 1.2.3.4", "Accept: */*"))
    assert (found.token, found.cookie, found.origin, found.host) == (
        TOKEN,
        "a=1",
        "https://a.example",
        "api.example.com:8080",
    )
    assert found.proxied == ("x-forwarded-for",)
    assert read_evidence(headers=headers, origin="https://b.example").origin == "https://b.example"


def test_a_token_can_come_on_standard_input(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO(TOKEN + "\n"))
    assert read_evidence(token="-").token == TOKEN


def test_standard_input_is_not_read_twice():
    log = io.BytesIO()
    log.name = "<stdin>"
    with pytest.raises(Unusable, match="standard input"):
        read_evidence(token="-", log=log)


def test_a_log_is_read():
    assert read_evidence(log=io.BytesIO(b"a\nb\n")).log == (b"a\n", b"b\n")


@pytest.mark.parametrize("header", ["Origin", ": x", "a b: c"])
def test_what_is_no_header_is_refused_without_quoting_it(header):
    with pytest.raises(Unusable) as refused:
        read_evidence(headers=(header,))
    assert "--header" in str(refused.value)


@pytest.mark.parametrize("url", ["https://api.example.com/a?b", "wss://api.example.com", "/orders"])
def test_a_url_may_be_a_path(url):
    assert read_evidence(url=url).url is not None


@pytest.mark.parametrize(
    "url", ["ftp://x/", "api.example.com/a", "https://", "http://x:99999/", "//x/a", "https://[::1"]
)
def test_what_is_no_url_is_refused(url):
    with pytest.raises(Unusable, match="--url"):
        read_evidence(url=url)


def test_evidence_shows_no_secret():
    shown = repr(read_evidence(token=TOKEN, cookie=f"__session={TOKEN}"))
    assert TOKEN not in shown
