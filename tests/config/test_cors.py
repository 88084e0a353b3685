import pytest

from tests.config.files import findings, loaded, only, written

ORIGIN = b"https://a.example"


def cors(text, environ=None):
    return loaded(written(cors=text), environ).cors


def test_cors_is_off_without_a_section():
    config = loaded(written())
    assert config.cors is None
    assert config.routes[0].cors is None


def test_defaults_are_the_contracts():
    policy = cors("{origins: [https://a.example]}")
    assert policy.methods == ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
    assert policy.headers == ("Authorization", "Content-Type")
    assert (policy.expose, policy.credentials, policy.max_age_s, policy.private_network) == ((), True, 600, False)
    assert policy.granted(ORIGIN)


def test_a_section_is_taken_as_written():
    policy = cors(
        "{origins: 'https://a.example, https://*.b.example', methods: [GET], headers: ['*'], expose: [X-Request-Id],"
        " credentials: false, max_age_s: 5, private_network: true}"
    )
    assert policy.granted(b"https://x.b.example")
    assert (policy.methods, policy.headers, policy.expose) == (("GET",), ("*",), ("X-Request-Id",))
    assert (policy.credentials, policy.max_age_s, policy.private_network) == (False, 5, True)


@pytest.mark.parametrize(
    ("text", "environ"),
    [
        pytest.param("{origins: []}", {}, id="empty"),
        pytest.param("{origins: null}", {}, id="null"),
        pytest.param("{origins: '${ORIGINS:-}'}", {}, id="empty-variable"),
        pytest.param("null", {}, id="no-section"),
    ],
)
def test_no_origins_are_off(text, environ):
    assert cors(text, environ) is None


def test_a_star_alone_goes_without_credentials():
    policy = cors("{origins: '${ORIGINS:-}'}", {"ORIGINS": "*"})
    assert policy.origins.any
    assert not policy.credentials


@pytest.mark.parametrize(
    ("text", "key", "fragment"),
    [
        pytest.param("{}", "cors", "names no origins", id="empty-section"),
        pytest.param("{methods: [GET]}", "cors", "names no origins", id="no-origins"),
        pytest.param(
            "{origins: ['*'], credentials: true}", "cors.credentials", "cannot go with", id="star-credentials"
        ),
        pytest.param("{origins: ['*', 'https://a.example']}", "cors.origins", "cannot go with", id="star-and-another"),
        pytest.param("{origins: ['null']}", "cors.origins", "never granted", id="null-origin"),
        pytest.param("{origins: [https://a.example/]}", "cors.origins", "write it so", id="slash"),
        pytest.param("{origins: ['https://*']}", "cors.origins", "whole label", id="pattern"),
        pytest.param("{origins: [https://a.example], methods: [get]}", "cors.methods", "is not a method", id="lower"),
        pytest.param("{origins: [https://a.example], methods: ['*']}", "cors.methods", "is no method", id="star"),
        pytest.param(
            "{origins: [https://a.example], methods: ['G T']}", "cors.methods", "is not a method", id="no-token"
        ),
        pytest.param("{origins: [https://a.example], methods: [TRACE]}", "cors.methods", "never served", id="trace"),
        pytest.param(
            "{origins: [https://a.example], methods: [CONNECT]}", "cors.methods", "never served", id="connect"
        ),
        pytest.param(
            "{origins: [https://a.example], headers: ['a b']}", "cors.headers", "is not a header", id="header"
        ),
        pytest.param(
            "{origins: [https://a.example], headers: ['ä']}", "cors.headers", "is not a header", id="not-ascii"
        ),
        pytest.param(
            "{origins: [https://a.example], headers: ['*', A]}", "cors.headers", "every header", id="star-header"
        ),
        pytest.param("{origins: [https://a.example], expose: ['a:']}", "cors.expose", "is not a header", id="expose"),
        pytest.param("{origins: [https://a.example], max_age_s: 90000}", "cors.max_age_s", "less than", id="max-age"),
    ],
)
def test_a_wrong_section_is_refused(text, key, fragment):
    finding = only(written(cors=text))
    assert (finding.key, finding.level) == (key, "error")
    assert fragment in finding.message


def test_a_route_replaces_the_whole_section_or_turns_it_off():
    routes = (
        "[{path: /own, upstream: api, cors: {origins: [https://b.example]}},"
        " {path: /off, upstream: api, cors: null}, {path: /*, upstream: api}]"
    )
    own, off, rest = loaded(written(cors="{origins: [https://a.example], max_age_s: 5}", routes=routes)).routes
    assert not own.cors.granted(ORIGIN)
    assert own.cors.max_age_s == 600
    assert off.cors is None
    assert rest.cors.granted(ORIGIN)


def test_a_route_with_a_wrong_section_is_named():
    found = findings(written(routes="[{path: /*, upstream: api, cors: {origins: ['null']}}]"))
    assert [finding.key for finding in found] == ["routes[0].cors.origins"]
