import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.cors import (
    VARY_ORIGIN,
    VARY_PREFLIGHT,
    CorsPolicy,
    answer_fields,
    is_preflight,
    preflight_fields,
    read_origins,
)

APP = b"https://app.example.com"
PREVIEWS = "https://*.preview.example.com"
ORIGINS = read_origins([APP.decode(), PREVIEWS])
POLICY = CorsPolicy(ORIGINS)
EVERYBODY = CorsPolicy(read_origins(["*"]), credentials=False)
NAME = "access-control-request-{}"


def fields(block: bytes) -> dict[str, str]:
    lines = block.decode().split("\r\n")
    assert lines[0] == "", "a block begins with its line end"
    pairs = [line.split(": ", 1) for line in lines[1:]]
    assert len(dict(pairs)) == len(pairs), "a name is given once"
    return dict(pairs)


def preflight(policy: CorsPolicy = POLICY, origin: bytes = APP, method: bytes = b"GET", **asked: bytes) -> bytes:
    seen = {"origin": origin, NAME.format("method"): method}
    return preflight_fields(policy, seen | {NAME.format(name.replace("_", "-")): v for name, v in asked.items()})


# Reading origins


@pytest.mark.parametrize(
    "value",
    [
        "https://app.example.com",
        "http://localhost:3000",
        "https://app.example.com:8443",
        "https://xn--bcher-kva.example",
        "http://[::1]:3000",
        "http://my_host",
        "https://example.com.",
        "capacitor://localhost",
        "chrome-extension://aapbdbdomjkkjkaonfhkkikfgjllcleb",
    ],
)
def test_origin_as_browsers_send_it_is_taken(value):
    assert read_origins([value]).exact == {value.encode()}


@pytest.mark.parametrize(
    ("value", "sent"),
    [
        pytest.param("https://app.example.com/", "https://app.example.com", id="slash"),
        pytest.param("https://app.example.com/path", "https://app.example.com", id="path"),
        pytest.param("HTTPS://app.example.com", "https://app.example.com", id="scheme-case"),
        pytest.param("https://App.Example.com", "https://app.example.com", id="host-case"),
        pytest.param("https://app.example.com:443", "https://app.example.com", id="https-default-port"),
        pytest.param("http://app.example.com:80", "http://app.example.com", id="http-default-port"),
        pytest.param("https://app.example.com:08443", "https://app.example.com:8443", id="port-with-zero"),
        pytest.param("https://app.example.com:", "https://app.example.com", id="colon-without-port"),
        pytest.param("https://bücher.example", "https://xn--bcher-kva.example", id="not-ascii"),
        pytest.param("http://[0:0:0:0:0:0:0:1]", "http://[::1]", id="ipv6-in-full"),
        pytest.param("https://app.exam\nple.com", "https://app.example.com", id="line-end"),
        pytest.param("https://*.Example.com", "https://*.example.com", id="pattern-case"),
        pytest.param("https://a.*.example.com:443", "https://a.*.example.com", id="pattern-port"),
        pytest.param("https://*.example.com/x", "https://*.example.com", id="pattern-path"),
    ],
)
def test_origin_spelt_otherwise_is_refused_with_the_spelling_browsers_send(value, sent):
    with pytest.raises(ValueError, match="a browser sends") as refused:
        read_origins([value])
    assert f'"{sent}"' in str(refused.value)


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("", id="empty"),
        pytest.param("app.example.com", id="no-scheme"),
        pytest.param("app.example.com:443", id="host-as-scheme"),
        pytest.param("https://", id="no-host"),
        pytest.param("file:///index.html", id="file"),
        pytest.param("https://user@app.example.com", id="user"),
        pytest.param("1http://app.example.com", id="bad-scheme"),
        pytest.param("//app.example.com", id="empty-scheme"),
        pytest.param("https://app.example.com:99999", id="port-too-high"),
        pytest.param("https://app.example.com:x", id="port-is-a-word"),
        pytest.param("https://exa mple.com", id="blank"),
        pytest.param("https://app..example.com", id="empty-label"),
        pytest.param("https://bücher..example", id="no-idna-name"),
        pytest.param("https://%61pp.example.com", id="percent-encoded"),
        pytest.param("https://[::1", id="open-bracket"),
        pytest.param("https://[fe80::1%25eth0]", id="zone"),
        pytest.param("https://[::g]", id="not-ipv6"),
        pytest.param("https://app.example.com,https://b.example.com", id="two"),
        pytest.param("https://user@*.example.com/", id="pattern-with-user-and-host"),
        pytest.param("https://*.example.com@evil.example", id="pattern-as-user"),
    ],
)
def test_what_is_no_origin_is_refused(value):
    with pytest.raises(ValueError, match=r"is not an origin|whole label"):
        read_origins([value])


@pytest.mark.parametrize("value", ["null", "NULL", "Null"])
def test_null_cannot_be_listed(value):
    with pytest.raises(ValueError, match="never granted"):
        read_origins([value])


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("*.example.com", id="no-scheme"),
        pytest.param("https://*", id="nothing-but-the-star"),
        pytest.param("https://*.com", id="top-level"),
        pytest.param("https://*com", id="no-dot"),
        pytest.param("https://*.*.example.com", id="two-stars"),
        pytest.param("https://**.example.com", id="double-star"),
        pytest.param("https://app-*.example.com", id="part-of-a-label"),
        pytest.param("https://*-app.example.com", id="part-of-a-label-first"),
        pytest.param("https://*:8080", id="star-and-port"),
        pytest.param("https://evil/*.example.com", id="star-in-the-path"),
        pytest.param("*://app.example.com", id="star-as-scheme"),
        pytest.param("https://example.com:*", id="star-as-port"),
        pytest.param("**", id="stars"),
    ],
)
def test_pattern_that_is_not_one_whole_label_is_refused(value):
    with pytest.raises(ValueError, match="exactly one whole label"):
        read_origins([value])


# Granting


@pytest.mark.parametrize("origin", [APP, b"https://x.preview.example.com", b"https://pr-12_b.preview.example.com"])
def test_listed_origin_is_granted_itself_with_credentials(origin):
    assert POLICY.names(origin)
    assert fields(answer_fields(POLICY, origin)) == {
        "Access-Control-Allow-Origin": origin.decode(),
        "Access-Control-Allow-Credentials": "true",
        "Vary": "Origin",
    }


@pytest.mark.parametrize(
    "origin",
    [
        pytest.param(b"null", id="null"),
        pytest.param(b"", id="empty"),
        pytest.param(b"https://evil.example", id="other"),
        pytest.param(b"http://app.example.com", id="scheme"),
        pytest.param(b"https://app.example.com:8443", id="port"),
        pytest.param(b"https://APP.example.com", id="case"),
        pytest.param(b"https://app.example.com.", id="trailing-dot"),
        pytest.param(b"https://app.example.com.evil.example", id="exact-as-prefix"),
        pytest.param(b"https://evilapp.example.com", id="exact-as-suffix"),
        pytest.param(APP + b", " + APP, id="sent-twice"),
        pytest.param(APP + b" https://evil.example", id="list"),
        pytest.param(b"https://preview.example.com", id="pattern-no-label"),
        pytest.param(b"https://.preview.example.com", id="pattern-empty-label"),
        pytest.param(b"https://a.b.preview.example.com", id="pattern-two-labels"),
        pytest.param(b"https://evil.com/.preview.example.com", id="pattern-slash"),
        pytest.param(b"https://evil.com?.preview.example.com", id="pattern-question"),
        pytest.param(b"https://evil.com#.preview.example.com", id="pattern-hash"),
        pytest.param(b"https://evil.com@x.preview.example.com", id="pattern-user"),
        pytest.param(b"https://evil:.preview.example.com", id="pattern-port"),
        pytest.param(b"https://x.preview.example.com.evil.com", id="pattern-as-prefix"),
        pytest.param(b"https://x.preview.example.com:444", id="pattern-other-port"),
        pytest.param(b"https://x.previewxexample.com", id="pattern-dot-is-a-dot"),
        pytest.param(b"http://x.preview.example.com", id="pattern-scheme"),
        pytest.param(b"https://x.preview.example.com\n", id="pattern-line-end-after"),
        pytest.param(b"https://evil.com\nhttps://x.preview.example.com", id="pattern-line-end-before"),
        pytest.param(b"https://*.preview.example.com", id="pattern-itself"),
    ],
)
def test_unlisted_origin_is_told_nothing_but_vary(origin):
    assert not POLICY.names(origin)
    assert POLICY.granted(origin) == b""
    assert answer_fields(POLICY, origin) == VARY_ORIGIN


@given(label=st.binary(max_size=12))
def test_pattern_matches_exactly_one_label(label):
    wanted = label != b"" and all(chr(byte) in "abcdefghijklmnopqrstuvwxyz0123456789_-" for byte in label)
    assert POLICY.names(b"https://" + label + b".preview.example.com") is wanted


@given(before=st.binary(max_size=9), after=st.binary(max_size=9))
def test_nothing_may_stand_around_an_origin(before, after):
    assert POLICY.names(before + b"https://x.preview.example.com" + after) is (before + after == b"")


def test_everybody_is_granted_the_star_without_credentials():
    granted = {"Access-Control-Allow-Origin": "*", "Vary": "Origin"}
    assert fields(answer_fields(EVERYBODY, b"https://anyone.example")) == granted


def test_everybody_does_not_include_null():
    assert answer_fields(EVERYBODY, b"null") == VARY_ORIGIN


def test_star_names_nobody():
    assert not EVERYBODY.names(b"https://anyone.example")


def test_star_beside_a_listed_origin_stays_a_star():
    policy = CorsPolicy(read_origins(["*", APP.decode()]), credentials=False)
    assert policy.names(APP)
    assert fields(policy.granted(APP)) == {"Access-Control-Allow-Origin": "*"}


@pytest.mark.parametrize("origins", [["*"], ["*", APP.decode()]])
def test_star_cannot_go_with_credentials(origins):
    with pytest.raises(ValueError, match="credentials"):
        CorsPolicy(read_origins(origins))


def test_answer_without_origin_still_varies():
    assert answer_fields(POLICY, None) == VARY_ORIGIN
    assert answer_fields(EVERYBODY, None) == VARY_ORIGIN


@pytest.mark.parametrize("origin", [None, APP, b"null"])
def test_without_a_policy_nothing_is_said(origin):
    assert answer_fields(None, origin) == b""


def test_exposed_headers_are_named_and_credentials_are_not_when_off():
    policy = CorsPolicy(ORIGINS, expose=("X-Total", "ETag"), credentials=False)
    assert fields(policy.granted(APP)) == {
        "Access-Control-Allow-Origin": APP.decode(),
        "Access-Control-Expose-Headers": "X-Total, ETag",
    }


# Preflights


@pytest.mark.parametrize(
    ("method", "names", "expected"),
    [
        pytest.param("OPTIONS", ("origin", NAME.format("method")), True, id="preflight"),
        pytest.param("OPTIONS", ("origin",), False, id="no-method-asked"),
        pytest.param("OPTIONS", (NAME.format("method"),), False, id="no-origin"),
        pytest.param("GET", ("origin", NAME.format("method")), False, id="other-method"),
    ],
)
def test_preflight_is_told_from_other_requests(method, names, expected):
    assert is_preflight(method, dict.fromkeys(names, b"x")) is expected


def test_granted_preflight_says_all_a_browser_needs():
    policy = CorsPolicy(ORIGINS, methods=("GET", "PUT"), max_age_s=60)
    answer = preflight(policy, method=b"PUT", headers=b"authorization,content-type")
    assert fields(answer) == {
        "Access-Control-Allow-Origin": APP.decode(),
        "Access-Control-Allow-Credentials": "true",
        "Access-Control-Allow-Methods": "GET, PUT",
        "Access-Control-Allow-Headers": "Authorization, Content-Type",
        "Access-Control-Max-Age": "60",
        "Vary": "Origin, Access-Control-Request-Method, Access-Control-Request-Headers",
    }


@pytest.mark.parametrize(
    ("policy", "asked"),
    [
        pytest.param(POLICY, {"origin": b"https://evil.example"}, id="origin"),
        pytest.param(POLICY, {"origin": b"null"}, id="null"),
        pytest.param(EVERYBODY, {"origin": b"null"}, id="null-where-everybody-may"),
        pytest.param(POLICY, {"method": b"PURGE"}, id="method"),
        pytest.param(POLICY, {"method": b"delete"}, id="method-case"),
        pytest.param(POLICY, {"method": b""}, id="method-empty"),
        pytest.param(POLICY, {"method": b"GET, PUT"}, id="method-sent-twice"),
        pytest.param(POLICY, {"method": b"G\xffT"}, id="method-not-ascii"),
        pytest.param(POLICY, {"headers": b"x-secret"}, id="header"),
        pytest.param(POLICY, {"headers": b"authorization, x-secret"}, id="one-header-of-two"),
        pytest.param(POLICY, {"headers": b"author\xeftion"}, id="header-not-ascii"),
        pytest.param(CorsPolicy(ORIGINS, headers=("*",)), {"headers": b"x-a\r\nx: y"}, id="no-header-name"),
        pytest.param(CorsPolicy(ORIGINS, headers=("*",)), {"headers": b"x-a, x b"}, id="blank-in-a-name"),
        pytest.param(CorsPolicy(ORIGINS, headers=("*",)), {"headers": b"x-a\n"}, id="line-end-after-a-name"),
        pytest.param(CorsPolicy(ORIGINS, private_network=True), {"method": b"X", "private_network": b"true"}, id="pna"),
    ],
)
def test_refused_preflight_is_told_nothing_but_vary(policy, asked):
    assert preflight(policy, **asked) == VARY_PREFLIGHT


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"AUTHORIZATION", id="case"),
        pytest.param(b" authorization ,\tcontent-type ", id="blanks"),
        pytest.param(b"authorization,,content-type,", id="empty-elements"),
        pytest.param(b"accept,accept-language,content-language,range", id="safelisted"),
    ],
)
def test_preflight_asking_for_allowed_headers_is_granted(headers):
    assert fields(preflight(headers=headers))["Access-Control-Allow-Headers"] == "Authorization, Content-Type"


def test_wildcard_grants_the_names_asked_for_and_never_a_literal_star():
    answer = fields(preflight(CorsPolicy(ORIGINS, headers=("*",)), headers=b"x-a, x-b"))
    assert answer["Access-Control-Allow-Headers"] == "x-a, x-b"


@pytest.mark.parametrize("headers", [(), ("*",)], ids=["none-allowed", "none-asked-for"])
def test_no_header_names_means_no_allow_headers(headers):
    assert "Access-Control-Allow-Headers" not in fields(preflight(CorsPolicy(ORIGINS, headers=headers)))


@pytest.mark.parametrize(
    ("configured", "asked", "granted"),
    [(True, b"true", True), (True, b"false", False), (False, b"true", False)],
)
def test_private_network_is_granted_only_where_configured_and_asked_for(configured, asked, granted):
    answer = fields(preflight(CorsPolicy(ORIGINS, private_network=configured), private_network=asked))
    assert (answer.get("Access-Control-Allow-Private-Network") == "true") is granted


@given(origin=st.binary(), method=st.binary(), headers=st.binary())
def test_no_preflight_writes_a_line_of_its_own(origin, method, headers):
    policy = CorsPolicy(ORIGINS, headers=("*",))
    for line in preflight(policy, origin, method, headers=headers).split(b"\r\n")[1:]:
        assert line.startswith((b"Access-Control-", b"Vary: "))
        assert not {*line} & {10, 13, 0}


def test_origins_can_be_shown_as_they_were_written():
    written = ("https://a.example.com", "https://b.example.com:8443", "https://*.c-d.example.com", "*")
    assert read_origins(reversed(written)).written == written
    assert read_origins([]).written == ()
