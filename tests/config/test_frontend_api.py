import pytest

from gateway.core.balance import RetryPolicy
from gateway.core.frontend_api import FrontendApiPolicy
from gateway.core.routing import PathPattern
from tests.config.files import APP, KEY, findings, loaded, only, publishable_key, written

SECRET = "sk_live_abcdef0123456789"
PROXY = "proxy_path: /__clerk"
URL = "proxy_url: https://api.example.com/__clerk"
PUBLIC = {"public_url": "https://api.example.com"}


def clerk(*settings, key=KEY, secret=SECRET, **others):
    block = [f"publishable_key: {key}", f"authorized_parties: [{APP}]", *settings]
    block += [f"secret_key: {secret}"] if secret else []
    return written(clerk=f"{{{', '.join(block)}}}", **others)


def policy(text):
    return loaded(text).issuer.frontend_api


def test_it_is_off_unless_asked_for():
    config = loaded(clerk())
    assert config.issuer.frontend_api is None
    assert config.frontend_api_proxies == ()
    assert config.issuer.token_policy.issuers == {"https://clerk.example.com"}


def test_the_proxy_url_is_where_the_gateway_is():
    made = policy(clerk(PROXY, **PUBLIC))
    assert made.proxy_url == made.proxy.url == "https://api.example.com/__clerk"
    assert made.proxy.secret_key == SECRET
    assert SECRET not in repr(made)


@pytest.mark.parametrize("written_as", ["https://x.example/deep/__clerk", "https://x.example/deep/__clerk/"])
def test_the_proxy_url_may_be_written(written_as):
    made = policy(clerk(PROXY, f"proxy_url: {written_as}", **PUBLIC))
    assert made.proxy_url == "https://x.example/deep/__clerk"


def test_it_is_a_route_to_the_frontend_api_with_the_limits_of_others():
    text = clerk("proxy_path: /auth/__clerk/", **PUBLIC, limits="{body_bytes: 77}")
    (proxy,) = loaded(text).frontend_api_proxies
    route, upstream = proxy.route, proxy.route.upstream
    assert route.pattern == PathPattern("/auth/__clerk", below=True)
    assert (route.auth, route.cors, route.host, route.methods) == ("public", None, None, frozenset())
    assert (route.strip_segments, route.add_prefix, route.max_body_bytes) == (2, b"", 77)
    assert (route.connect_s, route.response_s, route.idle_s) == (5, 30, 300)
    (endpoint,) = upstream.endpoints
    assert (endpoint.host, endpoint.port, endpoint.tls) == ("frontend-api.clerk.dev", 443, True)
    assert endpoint.authority == b"frontend-api.clerk.dev"
    assert upstream.name == route.name == "clerk:frontend-api"
    assert not upstream.preserve_host
    assert upstream.tls.verify
    assert upstream.retries == RetryPolicy(attempts=0)


def test_another_frontend_api_may_have_a_path_of_its_own():
    (proxy,) = loaded(clerk(PROXY, "frontend_api_url: http://127.0.0.1:9000/b%61se/", **PUBLIC)).frontend_api_proxies
    (endpoint,) = proxy.route.upstream.endpoints
    assert (endpoint.authority, endpoint.tls, proxy.route.add_prefix) == (b"127.0.0.1:9000", False, b"/base")


def test_tokens_may_name_the_proxy_as_their_issuer():
    assert loaded(clerk(PROXY, **PUBLIC)).issuer.token_policy.issuers == {
        "https://clerk.example.com",
        "https://api.example.com/__clerk",
    }


def test_somebody_elses_proxy_is_known_by_its_url_and_needs_no_key():
    text = clerk("proxy_url: https://app.example.com/__clerk", secret=None)
    assert policy(text) == FrontendApiPolicy("https://app.example.com/__clerk")
    assert loaded(text).frontend_api_proxies == ()
    assert "https://app.example.com/__clerk" in loaded(text).issuer.token_policy.issuers


@pytest.mark.parametrize(
    ("settings", "key", "message", "remedy"),
    [
        pytest.param(["proxy_path: __clerk", URL], "proxy_path", "write /__clerk", None, id="no-slash"),
        pytest.param(["proxy_path: /__clerk/*", URL], "proxy_path", "a prefix is written without *", None, id="star"),
        pytest.param(["proxy_path: /", URL], "proxy_path", "no path to the routes", None, id="root"),
        pytest.param(["proxy_path: //", URL], "proxy_path", "no path to the routes", None, id="slashes"),
        pytest.param(["proxy_path: /a//b", URL], "proxy_path", "not a plain path", None, id="empty-segment"),
        pytest.param(["proxy_path: /a;b", URL], "proxy_path", "not a plain path", None, id="semicolon"),
        pytest.param(["proxy_path: /a%2fb", URL], "proxy_path", "not a plain path", None, id="encoded-slash"),
        pytest.param(["proxy_path: /a/../b", URL], "proxy_path", "can never match", None, id="dots"),
        pytest.param(["proxy_path: '/a?b'", URL], "proxy_path", "a path is /exact", None, id="query"),
        pytest.param([PROXY], "proxy_path", "needs a public URL", "Write proxy_url: https://", id="no-url"),
        pytest.param([PROXY, "proxy_url: /__clerk"], "proxy_url", "is a path: write the whole URL", None, id="relative"),
        pytest.param(
            [PROXY, "proxy_url: http://a.example/__clerk"], "proxy_url", "must be https: users", None, id="plain-http"
        ),
        pytest.param([PROXY, "proxy_url: api.example.com"], "proxy_url", "must begin with http", None, id="no-scheme"),
        pytest.param(
            [PROXY, "proxy_url: 'https://a.example/__clerk?x'"], "proxy_url", "query or fragment", None, id="url-query"
        ),
        pytest.param(
            [PROXY, URL, "frontend_api_url: http://fapi.example"], "frontend_api_url", "must be https", None, id="in-clear"
        ),
        pytest.param(
            [PROXY, URL, "frontend_api_url: 'https://169.254.1.1'"], "frontend_api_url", "link-local", None, id="local"
        ),
        pytest.param(
            [PROXY, URL, "frontend_api_url: 'https://a.example/x/../y'"], "frontend_api_url", "never match", None,
            id="api-dots",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_key(settings, key, message, remedy):
    finding = only(clerk(*settings))
    assert (finding.level, finding.key) == ("error", f"clerk.{key}")
    assert message in finding.message
    assert remedy is None or finding.remedy.startswith(remedy)


def test_a_public_url_in_the_clear_is_no_proxys():
    finding = only(clerk(PROXY, public_url="http://api.example.com"))
    assert (finding.level, finding.key) == ("error", "public_url")
    assert finding.message == "must be https: users sign in there"


def test_one_broken_public_url_is_one_finding():
    assert only(clerk(PROXY, public_url="nonsense")).key == "public_url"


def test_a_gateway_on_loopback_may_be_a_proxy_in_the_clear():
    assert policy(clerk(PROXY, public_url="http://localhost:8080")).proxy_url == "http://localhost:8080/__clerk"


def test_it_needs_the_secret_key():
    finding = only(clerk(PROXY, URL, secret=None))
    assert (finding.level, finding.key) == ("error", "clerk.proxy_path")
    assert finding.message == "needs secret_key: Clerk takes requests from a proxy only with it"
    assert finding.remedy == 'Write secret_key: "${CLERK_SECRET_KEY}" beside it, or leave proxy_path out'


def test_a_broken_secret_key_is_one_finding():
    assert only(clerk(PROXY, URL, secret="sk_nonsense")).key == "clerk.secret_key"
    assert only(clerk(PROXY, URL, secret="pk_live_x")).key == "clerk.secret_key"


def test_it_needs_an_instance():
    block = f"{{secret_key: {SECRET}, {PROXY}, {URL}}}"
    finding = only(written(clerk=block, routes="[{name: rest, path: /*, upstream: api, auth: public}]"))
    assert (finding.level, finding.key) == ("error", "clerk.proxy_path")
    assert finding.remedy == 'Write publishable_key: "${CLERK_PUBLISHABLE_KEY}" beside it'


def test_without_an_instance_where_one_is_needed_that_is_the_finding():
    assert only(written(clerk=f"{{secret_key: {SECRET}, {PROXY}, {URL}}}")).key == "clerk"


@pytest.mark.parametrize(("settings", "at"), [([PROXY, URL], "proxy_path"), ([URL], "proxy_url")])
def test_a_development_instance_has_no_proxy_and_check_says_so(settings, at):
    key = publishable_key("happy-cat-1.clerk.accounts.dev", "test")
    finding = only(clerk(*settings, key=key, secret="sk_test_abcdef0123456789"))
    assert (finding.level, finding.key) == ("warning", f"clerk.{at}")
    assert "development instance" in finding.message
    assert "production instance" in finding.remedy


def test_a_url_that_ends_elsewhere_is_probably_not_meant():
    finding = only(clerk(PROXY, "proxy_url: https://api.example.com/clerk"))
    assert (finding.level, finding.key) == ("warning", "clerk.proxy_url")
    assert finding.remedy == "If not, write https://HOST/__clerk"


def test_a_frontend_api_without_the_proxy_is_not_used():
    finding = only(clerk("frontend_api_url: https://fapi.example"))
    assert (finding.level, finding.key) == ("warning", "clerk.frontend_api_url")


@pytest.mark.parametrize(
    ("path", "others", "address"),
    [
        ("/healthz", {}, "/healthz"),
        ("/webhooks", {"store": "{url: 'sqlite:///x.db'}"}, "/webhooks/clerk"),
        ("/in", {"webhooks": "{path: /a, aliases: [/in/clerk]}"}, "/in/clerk"),
    ],
)
def test_it_may_not_cover_the_gateways_other_addresses(path, others, address):
    text = clerk(f"proxy_path: {path}", f"proxy_url: https://a.example{path}", **others)
    finding = next(each for each in findings(text) if each.level == "error")
    assert finding.key == "clerk.proxy_path"
    assert finding.message == f"{address} is another of the gateway's own addresses"


@pytest.mark.parametrize(("path", "told"), [("/__clerk/*", True), ("/__clerk/v1", True), ("/__clerks", False)])
def test_a_route_below_it_never_matches(path, told):
    routes = f"[{{name: odd, path: {path}, upstream: api}}, {{name: rest, path: /*, upstream: api}}]"
    found = findings(clerk(PROXY, URL, routes=routes))
    assert [(each.level, each.key) for each in found] == ([("warning", "routes[0]")] if told else [])


# --- several instances ------------------------------------------------------------------------------------------------


def instances(*settings):
    blocks = [
        f"{{name: {name}, publishable_key: {publishable_key(f'clerk.{name}.example')}, secret_key: {SECRET}, "
        f"authorized_parties: [{APP}], {text}}}"
        for name, text in zip(("one", "two"), settings, strict=True)
    ]
    return written(clerk="{}", issuers=f"[{', '.join(blocks)}]", **PUBLIC)


def test_each_instance_has_its_own():
    config = loaded(instances("proxy_path: /one", "proxy_path: /two"))
    assert [(each.url, each.route.name) for each in config.frontend_api_proxies] == [
        ("https://api.example.com/one", "one:frontend-api"),
        ("https://api.example.com/two", "two:frontend-api"),
    ]


@pytest.mark.parametrize(("one", "two"), [("/a", "/a/b"), ("/a/b", "/a")])
def test_none_may_be_in_anothers_way(one, two):
    finding = only(instances(f"proxy_path: {one}", f"proxy_path: {two}"))
    assert (finding.level, finding.key) == ("error", "issuers[1].proxy_path")
    assert finding.message == f"is in the way of another instance's, {one}"


def test_no_two_have_the_same_url():
    same = "proxy_url: https://app.example.com/__clerk"
    finding = only(instances(same, same))
    assert (finding.level, finding.key) == ("error", "issuers[1].proxy_url")
