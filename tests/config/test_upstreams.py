import pytest

from gateway.config.upstreams import read_prefix
from gateway.core.balance import BreakerPolicy, HealthPolicy, RetryPolicy
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


def test_several_targets_share_everything_but_address_and_weight():
    made = upstream(
        "{targets: [{url: 'http://10.0.0.1:1/v1'}, {url: 'https://b.example/v1/', weight: 3}, {url: 'http://[::1]/v1'}]}"
    )
    assert [(end.label, end.tls, end.weight, end.authority) for end in made.endpoints] == [
        ("10.0.0.1:1", False, 1, b"10.0.0.1:1"),
        ("b.example:443", True, 3, b"b.example"),
        ("[::1]:80", False, 1, b"[::1]"),
    ]
    assert made.base_path == b"/v1"


def test_what_is_thought_of_endpoints_is_as_written():
    made = upstream(
        "{url: http://a, retries: {attempts: 3, budget_percent: 5}, breaker: {failures: 2, open_s: 7}, max_connections: 9,"
        " health: {path: '/up?deep', interval_s: 1, timeout_s: 0.5, unhealthy_after: 4, healthy_after: 2}, max_pending: 8}"
    )
    assert (made.retries, made.breaker) == (RetryPolicy(3, 5), BreakerPolicy(2, 7))
    assert made.health == HealthPolicy("/up?deep", 1, 0.5, 4, 2)
    assert (made.max_connections, made.max_pending) == (9, 8)


def test_defaults_are_the_contracts():
    made = upstream("{url: http://127.0.0.1:3000}")
    assert (made.retries, made.breaker) == (RetryPolicy(1, 20), BreakerPolicy(5, 10))
    assert made.health == HealthPolicy(None, 5, 2, 3, 1)
    assert (made.max_connections, made.max_pending) == (512, 1024)
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
        pytest.param(
            "{api: {targets: [{url: http://a}, {url: http://b/v1}]}}",
            "upstreams.api.targets[1].url",
            "another path",
            id="other-path",
        ),
        pytest.param(
            "{api: {targets: [{url: http://a}, {url: 'http://a:80'}]}}",
            "upstreams.api.targets[1].url",
            "same address as upstreams.api.targets[0].url",
            id="twice",
        ),
        pytest.param(
            "{api: {targets: [{url: http://a, weight: 0}, {url: http://b, weight: 0}]}}",
            "upstreams.api.targets[0].weight",
            "no target has a weight",
            id="no-weight",
        ),
        pytest.param(
            "{api: {url: http://a, health: {path: health}}}", "upstreams.api.health.path", "must be a path", id="health"
        ),
        pytest.param(
            '{api: {url: http://a, health: {path: "/a b"}}}', "upstreams.api.health.path", "must be a path", id="blank"
        ),
        pytest.param(
            "{api: {url: http://a, health: {path: /up, healthy_after: 0}}}",
            "upstreams.api.health",
            "count from 1",
            id="count",
        ),
        pytest.param(
            "{api: {url: http://a, retries: {budget_percent: 200}}}",
            "upstreams.api.retries.budget_percent",
            "less than or equal to 100",
            id="budget",
        ),
        pytest.param(
            "{api: {url: http://a, retries: {attempts: 50}}}",
            "upstreams.api.retries.attempts",
            "less than or equal to 10",
            id="attempts",
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


def test_a_health_check_that_may_take_longer_than_its_interval_is_worth_a_word():
    text = written(upstreams="{api: {url: http://a, health: {path: /up, interval_s: 1, timeout_s: 2}}}")
    (finding,) = (found for found in findings(text) if found.key == "upstreams.api.health.timeout_s")
    assert (finding.level, "interval_s" in finding.message) == ("warning", True)
