import re
from urllib.parse import unquote

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gateway.core.model import Endpoint, Upstream
from gateway.core.routing import (
    ALLOWABLE,
    CanonicalPath,
    PathPattern,
    Route,
    RouteTable,
    canonical_path,
    host_name,
    mismatch,
    require_consent,
    rewrite_target,
)
from gateway.errors import BadRequest, MethodNotAllowed, NoRoute

UPSTREAM = Upstream("api", (Endpoint("127.0.0.1", 3000),))
# Pieces that servers read in different ways, between harmless ones.
PIECES = (
    "/", "//", ".", "..", "a", "admin", "%61", "%2e", "%2E", "%2f", "%5c", "%3b", ";", "%25", "%", "%%32e", "2e", "%00",
    "%23", "%3f", "%c3%a9", "%ff", "é", "\\", "#", " ", "@", "%40", "~", "*", '"', "\t", "\x85", "\udcff",
)  # fmt: skip
PATHS = st.lists(st.sampled_from(PIECES), max_size=9).map(lambda pieces: "/" + "".join(pieces))


def route(path: str, *, name: str = "", **changes: object) -> Route:
    return Route(name or path, PathPattern.read(path), UPSTREAM, **changes)  # type: ignore[arg-type]


def matched(routes: list[Route], path: str, *, method: str = "GET", host: bytes = b"") -> str:
    canonical = canonical_path(path)
    found = RouteTable(routes).match(host, canonical, method)
    require_consent(found, canonical)
    return found.name


def accepted(raw: str) -> CanonicalPath | None:
    try:
        return canonical_path(raw)
    except BadRequest:
        return None


# Canonical paths


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        pytest.param("/", "/", id="root"),
        pytest.param("/a/b.c", "/a/b.c", id="plain"),
        pytest.param("/a/", "/a/", id="trailing-slash"),
        pytest.param("/%61dmin", "/admin", id="encoded-letter"),
        pytest.param("/%7Euser/%2d%5F", "/~user/-_", id="encoded-marks"),
        pytest.param("/a%2eb", "/a.b", id="encoded-dot"),
        pytest.param("/%2ewell-known", "/.well-known", id="leading-dot"),
        pytest.param("/.../..a/a..", "/.../..a/a..", id="dots-that-climb-nowhere"),
        pytest.param("/caf%c3%a9", "/caf%C3%A9", id="encoded-utf-8"),
        pytest.param("/café", "/caf%C3%A9", id="plain-utf-8"),
        pytest.param("/a%20b", "/a%20b", id="blank"),
        pytest.param("/%40me%2Bx%3b", "/@me+x%3B", id="what-stands-for-itself-is-decoded"),
        pytest.param("/a%25b", "/a%25b", id="percent"),
        pytest.param("/%252e%252e/", "/%252e%252e/", id="twice-encoded-dots"),
        pytest.param("/a%23b", "/a%23b", id="hash"),
        pytest.param("/a%3fb", "/a%3Fb", id="question-mark"),
        pytest.param("/100%", "/100%25", id="bare-percent"),
        pytest.param("/%zz%4", "/%25zz%254", id="no-triplet"),
        pytest.param("/%%32e%%32e/", "/%252e%252e/", id="bare-percent-before-a-triplet"),
        pytest.param('/{"<a>"}', "/%7B%22%3Ca%3E%22%7D", id="not-allowed-in-a-path"),
        pytest.param("/$&'()*+,=:@!", "/$&'()*+,=:@!", id="reserved"),
    ],
)
def test_path_is_canonical(raw, text):
    assert canonical_path(raw) == CanonicalPath(text, frozenset())


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param("", id="empty"),
        pytest.param("a", id="no-leading-slash"),
        pytest.param("*", id="asterisk"),
        pytest.param("/a\\b", id="backslash"),
        pytest.param("/a%5cb", id="encoded-backslash"),
        pytest.param("/a%5Cb", id="encoded-backslash-upper"),
        pytest.param("/a#b", id="fragment"),
        pytest.param("/a%00", id="encoded-nul"),
        pytest.param("/a\x00", id="nul"),
        pytest.param("/a%0d%0aX: y", id="encoded-line-end"),
        pytest.param("/a\n", id="line-end-after"),
        pytest.param("/a%09", id="encoded-tab"),
        pytest.param("/a%7f", id="encoded-delete"),
        pytest.param("/a\x7f", id="delete"),
        pytest.param("/a%c2%85", id="encoded-c1"),
        pytest.param("/a\x9f", id="c1"),
        pytest.param("/a%ff", id="encoded-not-utf-8"),
        pytest.param("/a\udcff", id="not-utf-8"),
        pytest.param("/a\ud800", id="surrogate"),
        pytest.param("/%c0%ae%c0%ae/", id="overlong-dots"),
        pytest.param("/a%c3", id="cut-off-utf-8"),
        pytest.param("/.", id="dot"),
        pytest.param("/..", id="dots"),
        pytest.param("/a/../b", id="dots-within"),
        pytest.param("/a/./b", id="dot-within"),
        pytest.param("/public/%2e%2e/admin", id="encoded-dots"),
        pytest.param("/public/.%2E/admin", id="half-encoded-dots"),
        pytest.param("/a/..%2fb", id="dots-encoded-slash"),
        pytest.param("/a%2f..", id="encoded-slash-dots"),
        pytest.param("/a%2F%2e%2e%2Fb", id="all-encoded"),
        pytest.param("/a/..;/b", id="dots-semicolon"),
        pytest.param("/a/..;x=1/b", id="dots-parameter"),
        pytest.param("/a/..%3b/b", id="dots-encoded-semicolon"),
        pytest.param("/a/..%3Bx/b", id="dots-encoded-semicolon-upper"),
        pytest.param("/a/..%23", id="dots-hash"),
        pytest.param("/a/..%3fb", id="dots-question-mark"),
        pytest.param("/a//../b", id="dots-after-empty"),
    ],
)
def test_ambiguous_path_is_refused(raw):
    with pytest.raises(BadRequest) as refused:
        canonical_path(raw)
    assert refused.value.reason == "path"


@pytest.mark.parametrize(
    ("raw", "oddities"),
    [
        ("/a%2fb", {"%2f"}),
        ("/a%2Fb", {"%2f"}),
        ("/a;b", {";"}),
        ("//a", {"//"}),
        ("/a//", {"//"}),
        ("//a;b%2F", {"//", ";", "%2f"}),
        ("/a%3bb", set()),
    ],
)
def test_path_that_needs_consent_says_which(raw, oddities):
    assert canonical_path(raw).oddities == oddities


@given(PATHS)
def test_canonical_path_is_idempotent(raw):
    path = accepted(raw)
    assume(path)
    assert canonical_path(path.text) == path


@given(PATHS)
def test_canonical_path_keeps_every_slash(raw):
    path = accepted(raw)
    assume(path)
    assert path.text.count("/") == raw.count("/")


@given(PATHS)
def test_spelling_does_not_change_what_is_compared(raw):
    path = accepted(raw)
    assume(path)
    assert canonical_path(raw + "%61%7a%41%5A%30").text == path.text + "azAZ0"


@given(PATHS)
def test_accepted_path_never_climbs_however_often_it_is_decoded(raw):
    # A spelt-out % (or a bare one, which is the same) is the one way to hide dots from a first reader: CONTRACT §3.
    path = accepted(raw)
    assume(path and "%25" not in path.text)
    text = raw
    for _ in range(4):
        assert not {".", ".."} & {*re.split(r"[/\\;?#]", text)}
        assert not any(char < " " for char in text)
        text = unquote(text)


# Patterns


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        pytest.param("/admin/*", ["/admin", "/admin/", "/admin/x", "/admin/x/y", "/%61dmin/x"],
                     ["/adminx", "/Admin", "/", "/x/admin", "/admi", "/admin%2Fx", "/admin;x"], id="prefix"),
        pytest.param("/a", ["/a", "/%61"], ["/a/", "/a/b", "/A", "/", "/ab"], id="exact"),
        pytest.param("/a/", ["/a/"], ["/a", "/a/b", "/a//"], id="exact-with-slash"),
        pytest.param("/*", ["/", "/a", "/a/b/", "//", "//a"], [], id="everything"),
        pytest.param("/", ["/"], ["/a", "//"], id="root"),
        pytest.param("/%61/*", ["/a", "/a/b"], ["/%2561"], id="encoded-letter"),
        pytest.param("/café/*", ["/caf%C3%A9", "/caf%c3%a9/x", "/café"], ["/cafe"], id="not-ascii"),
        pytest.param("/my files", ["/my%20files"], ["/my+files"], id="blank"),
        pytest.param("/100%", ["/100%25", "/100%"], ["/100"], id="percent"),
        pytest.param("/a;b", ["/a;b"], ["/a", "/a%3Bb"], id="semicolon"),
    ],
)  # fmt: skip
def test_pattern_matches(pattern, matching, others):
    read = PathPattern.read(pattern)
    assert [path for path in matching + others if read.matches(canonical_path(path).text)] == matching


@pytest.mark.parametrize(
    "pattern",
    ["", "*", "a", "a/*", "/a*", "/*/b", "/*/*", "/**", "/a?b", "/a?b/*", "/a/%2e%2e/*", "/../*", "/a\\b", "/a#b",
     "/a\n", "/%ff", "/a\ud800", "//*", "/a//*"],
)  # fmt: skip
def test_pattern_that_can_never_match_as_meant_is_refused(pattern):
    with pytest.raises(ValueError, match=r"path is|never match|write /"):
        PathPattern.read(pattern)


def test_refused_pattern_names_the_one_meant():
    with pytest.raises(ValueError, match=r"write /a/\*"):
        PathPattern.read("/a//*")


# The table


def test_first_matching_route_wins():
    routes = [route("/public/*"), route("/admin/*"), route("/*"), route("/public/x")]
    assert matched(routes, "/public/x") == "/public/*"
    assert matched(routes, "/admin") == "/admin/*"
    assert matched(routes, "/administration") == "/*"
    assert [each.name for each in RouteTable(routes)] == ["/public/*", "/admin/*", "/*", "/public/x"]


@pytest.mark.parametrize("path", ["/", "/b", "/A", "/a/b"])
def test_path_without_route_is_not_found(path):
    with pytest.raises(NoRoute):
        matched([route("/a")], path)


@pytest.mark.parametrize(
    ("pattern", "host", "expected"),
    [
        pytest.param("api.example.com", b"api.example.com", True, id="exact"),
        pytest.param("api.example.com", b"API.Example.COM", True, id="case"),
        pytest.param("api.example.com", b"api.example.com:8443", True, id="port"),
        pytest.param("api.example.com", b"api.example.com.", False, id="trailing-dot"),
        pytest.param("api.example.com", b"xapi.example.com", False, id="longer"),
        pytest.param("api.example.com", b"x.api.example.com", False, id="below"),
        pytest.param("api.example.com", b"", False, id="no-host"),
        pytest.param("*.example.com", b"api.example.com", True, id="label"),
        pytest.param("*.example.com", b"API.EXAMPLE.com:80", True, id="label-case-port"),
        pytest.param("*.example.com", b"a.b.example.com", False, id="two-labels"),
        pytest.param("*.example.com", b"example.com", False, id="no-label"),
        pytest.param("*.example.com", b".example.com", False, id="empty-label"),
        pytest.param("*.example.com", b"apiexample.com", False, id="no-dot"),
        pytest.param("*.example.com", b"", False, id="label-no-host"),
        pytest.param("*.localhost", b"localhost", False, id="one-label-host"),
        pytest.param("::1", b"[::1]:8080", True, id="ipv6-port"),
        pytest.param("::1", b"[::1]", True, id="ipv6"),
        pytest.param("127.0.0.1", b"127.0.0.1:80", True, id="ipv4"),
    ],
)
def test_host_is_compared_without_case_and_port(pattern, host, expected):
    routes = [route("/*", name="hosted", host=pattern), route("/*", name="any")]
    assert matched(routes, "/", host=host) == ("hosted" if expected else "any")


def test_route_of_another_host_does_not_exist():
    for method in ("GET", "POST"):
        with pytest.raises(NoRoute):
            matched([route("/*", host="a.example", methods=frozenset({"GET"}))], "/", host=b"b.example", method=method)


@given(st.binary(max_size=20))
def test_any_host_field_can_be_read(authority):
    assert isinstance(host_name(authority), str)


@pytest.mark.parametrize(
    ("methods", "method", "expected"),
    [
        pytest.param(set(), "PURGE", True, id="none-named-all-taken"),
        pytest.param({"GET"}, "GET", True, id="named"),
        pytest.param({"GET"}, "HEAD", True, id="get-includes-head"),
        pytest.param({"HEAD"}, "GET", False, id="head-does-not-include-get"),
        pytest.param({"POST"}, "HEAD", False, id="post-includes-nothing"),
        pytest.param({"GET"}, "get", False, id="case"),
        pytest.param({"GET"}, "OPTIONS", False, id="options-is-a-method"),
    ],
)
def test_route_takes_its_methods(methods, method, expected):
    assert route("/*", methods=frozenset(methods)).takes(method) is expected


def test_another_method_goes_on_to_the_next_route():
    routes = [route("/a", name="read", methods=frozenset({"GET"})), route("/*", name="rest")]
    assert matched(routes, "/a", method="HEAD") == "read"
    assert matched(routes, "/a", method="POST") == "rest"


@pytest.mark.parametrize(
    ("methods", "allow"),
    [
        pytest.param([{"POST"}], ("POST",), id="one"),
        pytest.param([{"PUT", "GET"}], ("GET", "HEAD", "PUT"), id="get-brings-head"),
        pytest.param([{"POST"}, {"PUT"}], ("POST", "PUT"), id="of-all-routes"),
    ],
)
def test_method_no_route_takes_is_told_the_others(methods, allow):
    routes = [route("/a", methods=frozenset(each)) for each in methods]
    with pytest.raises(MethodNotAllowed) as refused:
        matched([*routes, route("/b")], "/a", method="DELETE")
    assert refused.value.allow == allow


# Consent to odd paths


@pytest.mark.parametrize(("raw", "oddity"), [("/a%2fb", "%2f"), ("/a;b", ";"), ("//a", "//")])
def test_odd_path_needs_the_consent_of_its_route(raw, oddity):
    assert matched([route("/*", allow_encoded=frozenset({oddity}))], raw) == "/*"
    for given_consent in (frozenset(), frozenset(ALLOWABLE) - {oddity}):
        with pytest.raises(BadRequest) as refused:
            matched([route("/*", allow_encoded=given_consent)], raw)
        assert refused.value.reason == "path"
        assert oddity in (refused.value.detail or "")


def test_odd_path_needs_consent_to_all_that_is_odd():
    with pytest.raises(BadRequest):
        matched([route("/*", allow_encoded=frozenset({";"}))], "/a;b%2Fc")


def test_odd_path_does_not_go_on_to_a_route_that_consents():
    routes = [route("/a/*"), route("/*", allow_encoded=frozenset(ALLOWABLE))]
    with pytest.raises(BadRequest):
        matched(routes, "/a/b;c")


@pytest.mark.parametrize(("path", "method"), [("/b;c", "GET"), ("/a;b", "POST")], ids=["no-route", "no-method"])
def test_odd_path_without_route_is_a_bad_request(path, method):
    with pytest.raises(BadRequest):
        matched([route("/a;b", methods=frozenset({"GET"}), allow_encoded=frozenset({";"}))], path, method=method)


@pytest.mark.parametrize(
    ("path", "host", "method", "why"),
    [
        ("/a/x", b"a.example.com", "GET", ""),
        ("/a", b"A.example.com:81", "HEAD", ""),
        ("/b", b"a.example.com", "GET", "path"),
        ("/b", b"example.com", "POST", "path"),
        ("/a/x", b"example.com", "POST", "host"),
        ("/a/x", b"a.example.com", "POST", "method"),
    ],
)
def test_mismatch_says_what_keeps_a_route_from_being_taken(path, host, method, why):
    taken = route("/a/*", host="*.example.com", methods=frozenset({"GET"}))
    assert mismatch(taken, host, canonical_path(path), method) == why
    assert (RouteTable([taken]).find(host, canonical_path(path), method) is taken) is (why == "")


def test_find_gives_none_where_match_refuses():
    table = RouteTable([route("/a", methods=frozenset({"GET"}))])
    assert table.find(b"", canonical_path("/b"), "GET") is None
    assert table.find(b"", canonical_path("/a"), "POST") is None
    found = table.find(b"", canonical_path("/a"), "GET")
    assert found is not None
    assert found.name == "/a"
    with pytest.raises(BadRequest):
        table.find(b"", canonical_path("/b;c"), "GET")


# What goes on


@pytest.mark.parametrize(
    ("target", "strip", "add", "forwarded"),
    [
        pytest.param(b"/api/v1?x=1", 0, b"", b"/api/v1?x=1", id="untouched"),
        pytest.param(b"/api/v1", 1, b"", b"/v1", id="one-segment"),
        pytest.param(b"/api/v1/x", 2, b"", b"/x", id="two-segments"),
        pytest.param(b"/api", 1, b"", b"/", id="nothing-left"),
        pytest.param(b"/api/", 1, b"", b"/", id="slash-left"),
        pytest.param(b"/api?x=/y/z", 1, b"", b"/?x=/y/z", id="query-with-slashes"),
        pytest.param(b"/api?", 1, b"", b"/?", id="empty-query"),
        pytest.param(b"/%61pi/a%2Fb%20c", 1, b"", b"/a%2Fb%20c", id="bytes-as-they-came"),
        pytest.param(b"/api//x", 1, b"", b"//x", id="empty-segment"),
        pytest.param(b"/x?y", 0, b"/base", b"/base/x?y", id="added"),
        pytest.param(b"/api/x", 1, b"/v2", b"/v2/x", id="stripped-and-added"),
        pytest.param(b"/api", 1, b"/v2", b"/v2/", id="all-stripped-and-added"),
    ],
)
def test_target_is_rewritten(target, strip, add, forwarded):
    assert rewrite_target(target, route("/*", strip_segments=strip, add_prefix=add)) == forwarded


@given(PATHS, st.sampled_from(["", "?", "?q=/a//..", "?%2e#"]))
def test_what_is_forwarded_is_what_was_matched_less_whole_segments(rest, query):
    raw = "/%61dmin/x" + rest
    path = accepted(raw)
    assume(path)
    assert PathPattern.read("/admin/x/*").matches(path.text)
    stripping = route("/admin/x/*", strip_segments=2, allow_encoded=frozenset(ALLOWABLE))
    received = (raw + query).encode("utf-8", "surrogateescape")
    assert b"/%61dmin/x" + rewrite_target(received, stripping) == received
    assert canonical_path(rest).text == path.text.removeprefix("/admin/x")
