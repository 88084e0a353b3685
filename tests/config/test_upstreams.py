import pytest

from gateway.config.upstreams import read_prefix
from tests.config.files import findings, loaded, only, written


def upstream(text):
    return loaded(written(upstreams=f"{{api: {text}}}")).routes[0].upstream


def test_an_upstream_is_as_written():
    made = upstream(
        "{url: 'https://api.example.com/v1/', host_header: upstream, identity: false, forward_token: true,"
        " timeouts: {connect_s: 1, response_s: 2, idle_s: 3}}"
    )
    assert (made.name, made.endpoints[0].host, made.endpoints[0].port, made.endpoints[0].tls) == (
        "api",
        "api.example.com",
        443,
        True,
    )
    assert (made.endpoints[0].authority, made.base_path) == (b"api.example.com", b"/v1")
    assert (made.preserve_host, made.identity, made.forward_token) == (False, False, True)
    assert (made.connect_s, made.response_s, made.idle_s) == (1, 2, 3)


def test_defaults_are_the_contracts():
    made = upstream("{url: http://127.0.0.1:3000}")
    assert (made.preserve_host, made.identity, made.forward_token) == (True, True, False)
    assert (made.connect_s, made.response_s, made.idle_s) == (5, 30, 300)
    assert made.endpoints[0].authority == b"127.0.0.1:3000"


@pytest.mark.parametrize(
    ("text", "key", "fragment"),
    [
        pytest.param("{api: {}}", "upstreams.api.url", "is missing", id="no-url"),
        pytest.param(
            "{api: {url: http://a, targets: [{url: http://b}]}}", "upstreams.api", "both url and targets", id="both"
        ),
        pytest.param("{api: {targets: [{url: nonsense}]}}", "upstreams.api.targets[0].url", "must begin", id="target"),
        pytest.param(
            "{api: {targets: [{weight: 2}]}}", "upstreams.api.targets[0].url", "is missing", id="target-without"
        ),
        pytest.param("{api: {url: http://169.254.1.1}}", "upstreams.api.url", "link-local", id="link-local"),
        pytest.param("{api: {url: 'http://u:p@h'}}", "upstreams.api.url", "user or password", id="password"),
        pytest.param("{api: {url: 'http://h/a?b'}}", "upstreams.api.url", "query", id="query"),
        pytest.param("{api: {url: http://h/a/../b}}", "upstreams.api", "dot segment", id="dots"),
        pytest.param(
            "{api: {url: http://h, host_header: mine}}", "upstreams.api.host_header", "must be", id="host-header"
        ),
        pytest.param(
            "{api: {url: http://h, timeouts: {idle_s: 0}}}", "upstreams.api.timeouts.idle_s", "greater than 0", id="0"
        ),
        pytest.param("{api: {url: http://h}, 'a b': {url: http://h}}", "upstreams.a b", "the name must be", id="name"),
    ],
)
def test_a_wrong_upstream_is_refused(text, key, fragment):
    (finding,) = (found for found in findings(written(upstreams=text)) if found.level == "error")
    assert finding.key == key
    assert fragment in finding.message


def test_a_missing_upstream_names_its_variable():
    finding = only(written(upstreams="{api: {url: '${GATEWAY_UPSTREAM:-}'}}"))
    assert finding.remedy == "Set GATEWAY_UPSTREAM, for example GATEWAY_UPSTREAM=http://127.0.0.1:3000"


@pytest.mark.parametrize(
    ("port", "warned"), [pytest.param(3000, True, id="own"), pytest.param(3001, False, id="other")]
)
def test_the_gateway_itself_is_no_upstream(port, warned):
    found = findings(written(listen=f"{{port: {port}}}"))
    assert [finding.level for finding in found] == ["warning"] * warned


@pytest.mark.parametrize(
    ("text", "prefix"),
    [
        pytest.param("", "", id="nothing"),
        pytest.param("/", "", id="root"),
        pytest.param("/a/b/", "/a/b", id="slash"),
        pytest.param("/a%7Eb", "/a~b", id="canonical"),
        pytest.param("/ä", "/%C3%A4", id="percent-encoded"),
    ],
)
def test_read_prefix_gives_one_spelling(text, prefix):
    assert read_prefix(text) == prefix


@pytest.mark.parametrize("text", ["a", "/a/*", "/*", "/a?b", "/a/..", "/a\\b"])
def test_read_prefix_refuses(text):
    with pytest.raises(ValueError, match=r"\w"):
        read_prefix(text)
