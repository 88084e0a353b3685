import pytest

from tests.config.files import findings, written


def route(path, name, rest=""):
    return f"{{name: {name}, path: {path}, upstream: api{', ' if rest else ''}{rest}}}"


def warnings(*routes):
    return [(finding.key, finding.message) for finding in findings(written(routes=f"[{', '.join(routes)}]"))]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param(("/*",), ("/a",), id="everything"),
        pytest.param(("/a/*",), ("/a",), id="prefix-itself"),
        pytest.param(("/a/*",), ("/a/b/*",), id="longer-prefix"),
        pytest.param(("/a",), ("/a",), id="same-path"),
        pytest.param(("/a", "methods: [GET]"), ("/a", "methods: [HEAD]"), id="get-includes-head"),
        pytest.param(("/a", "host: '*.b.example'"), ("/a", "host: a.b.example"), id="host-pattern"),
        pytest.param(("/a",), ("/a", "host: a.b.example"), id="any-host"),
    ],
)
def test_a_route_that_never_matches_is_noticed(first, second):
    found = warnings(route(first[0], "one", *first[1:]), route(second[0], "two", *second[1:]))
    assert ("routes[1]", 'never matches: route "one" takes all its requests first') in found


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param(("/a/*",), ("/ab",), id="only-resembles"),
        pytest.param(("/a",), ("/a/*",), id="exact-first"),
        pytest.param(("/a",), ("/a/",), id="slash"),
        pytest.param(("/a", "methods: [GET]"), ("/a", "methods: [POST]"), id="other-method"),
        pytest.param(("/a", "methods: [GET]"), ("/a",), id="all-methods-after-one"),
        pytest.param(("/a", "host: a.example"), ("/a",), id="one-host-first"),
        pytest.param(("/a", "host: '*.example'"), ("/a", "host: a.b.example"), id="two-labels"),
        pytest.param(("/a", "host: '*.example'"), ("/a", "host: '*.b.example'"), id="longer-pattern"),
    ],
)
def test_a_route_that_matches_something_is_not(first, second):
    assert warnings(route(first[0], "one", *first[1:]), route(second[0], "two", *second[1:])) == []


ADMIN = "require: {role: org:admin}"


@pytest.mark.parametrize(
    "routes",
    [
        pytest.param([("/admin/*", "methods: [POST], " + ADMIN), ("/*", "auth: public")], id="public"),
        pytest.param([("/admin/*", "methods: [POST], " + ADMIN), ("/*", "")], id="without-require"),
        pytest.param([("/admin/*", "methods: [POST], " + ADMIN), ("/*", "auth: optional")], id="optional"),
        pytest.param(
            [("/admin/*", "methods: [POST]"), ("/admin/*", "methods: [GET], auth: public")], id="other-method"
        ),
        pytest.param([("/*", "methods: [GET]"), ("/admin/*", "auth: public")], id="narrower"),
        pytest.param([("/a", "methods: [GET], host: a.example"), ("/a", "auth: public")], id="any-host"),
        pytest.param([("/a", "methods: [GET]"), ("/b", "auth: public"), ("/*", "auth: public")], id="not-the-next"),
        pytest.param(
            [("/a/*", "methods: [GET]"), ("/a/b", ""), ("/*", "auth: public")],
            id="something-between-covers-only-a-part",
        ),
    ],
)
def test_methods_that_go_on_to_a_weaker_route_are_noticed(routes):
    found = warnings(*(route(path, f"r{at}", rest) for at, (path, rest) in enumerate(routes)))
    assert [key for key, message in found if "asks for less" in message] == ["routes[0].methods"]


@pytest.mark.parametrize(
    "routes",
    [
        pytest.param([("/a/*", "methods: [GET], auth: public"), ("/*", "")], id="stronger"),
        pytest.param([("/a/*", "methods: [GET]"), ("/*", "")], id="as-strong"),
        pytest.param([("/a/*", "methods: [POST]"), ("/b/*", "auth: public")], id="elsewhere"),
        pytest.param([("/a/*", "methods: [POST]"), ("/a/*", ""), ("/*", "auth: public")], id="covered-before"),
        pytest.param([("/a/*", ADMIN), ("/*", "auth: public")], id="all-methods"),
        pytest.param([("/a/*", "methods: [GET]"), ("/a/*", "methods: [HEAD], auth: public")], id="nothing-left-over"),
        pytest.param([("/a", "methods: [GET], host: a.example"), ("/a", "auth: public, host: b.example")], id="host"),
    ],
)
def test_methods_that_stay_as_guarded_are_not(routes):
    found = warnings(*(route(path, f"r{at}", rest) for at, (path, rest) in enumerate(routes)))
    assert [message for _, message in found if "asks for less" in message] == []


def test_an_upstream_without_routes_is_noticed():
    found = findings(written(upstreams="{api: {url: http://127.0.0.1:1}, old: {url: http://127.0.0.1:2}}"))
    assert [(finding.key, finding.message) for finding in found] == [("upstreams.old", "no route leads here")]


@pytest.mark.parametrize(
    ("url", "routes", "warned"),
    [
        pytest.param("http://api.internal", "forward_token: true", True, id="in-the-clear"),
        pytest.param("https://api.internal", "forward_token: true", False, id="tls"),
        pytest.param("http://localhost:3000", "forward_token: true", False, id="loopback"),
        pytest.param("http://api.internal", "forward_token: false", False, id="not-forwarded"),
    ],
)
def test_tokens_that_cross_a_network_in_the_clear_are_noticed(url, routes, warned):
    found = findings(written(upstreams=f"{{api: {{url: '{url}'}}}}", routes=f"[{route('/*', 'all', routes)}]"))
    assert ["plain http" in finding.message for finding in found] == [True] * warned
