import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.forwarding import forwarding
from gateway.core.frontend_api import (
    FORWARDING_PREFIXES,
    SAID_BY_PROXIES,
    ClerkFields,
    FrontendApiPolicy,
    FrontendApiProxies,
    FrontendApiProxy,
    relocate,
    through_proxy,
    to_clerk,
)
from gateway.core.headers import HOP_BY_HOP, Outbound
from gateway.core.model import Endpoint, Header, Inbound, Peer, Upstream
from gateway.core.routing import PathPattern, Route

FIELDS = ClerkFields("X-User-", ("X-Tier", "X-User-Assertion"))
CLIENT = Peer("203.0.113.9", trusted=False, scheme="https", port=443)
KEY = "sk_live_abcdef0123456789"
PROXY_URL = "https://api.example.com/__clerk"
FAPI = "https://frontend-api.clerk.dev"


def made(
    path: str = "/__clerk", *, authority: bytes = b"frontend-api.clerk.dev", base: bytes = b"", tls: bool = True,
    url: str = PROXY_URL,
) -> FrontendApiProxy:  # fmt: skip
    upstream = Upstream("clerk", (Endpoint("192.0.2.1", 443, tls, authority),), base, preserve_host=False)
    route = Route("clerk", PathPattern(path, below=True), upstream, strip_segments=path.count("/"), add_prefix=base)
    return FrontendApiProxy(url, route, KEY)


PROXY = made()


def onward(*raw: tuple[str, str]) -> list[str]:
    lines = FIELDS.onward([(name.encode("latin-1"), value.encode("latin-1")) for name, value in raw])
    return lines.decode("latin-1").split("\r\n")[1:]


def sent(target: bytes, *, method: str = "GET", host: bytes = b"api.example.com", proxy: FrontendApiProxy = PROXY,
         lines: bytes = b"", peer: Peer = CLIENT, seen: dict[str, bytes] | None = None) -> Outbound:  # fmt: skip
    header = Header([], seen or {}, frozenset(), peer, host)
    inbound = Inbound(method, target, target.partition(b"?")[0].decode(), header)
    return to_clerk(inbound, lines, proxy, forwarded=forwarding(header))


# --- what of a client's header goes on --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "Cookie", "Authorization", "Accept-Encoding", "Origin", "Content-Type", "User-Agent", "X-Clerk-Auth-Status",
        "Clerk-API-Version", "Clerk-Redirect-To", "X-HTTP-Method-Override", "Remote-User", "X-Request-Id",
        "traceparent", "X-Mobile", "Access-Control-Request-Method", "If-None-Match",
    ],
)  # fmt: skip
def test_what_is_clerks_business_goes_on_as_it_came(name: str) -> None:
    assert onward((name, "a"), (name.lower(), "b, c")) == [f"{name}: a", f"{name.lower()}: b, c"]


@pytest.mark.parametrize(
    "name",
    [
        "Clerk-Secret-Key", "clerk_secret_key", "CLERK.SECRET-KEY", "Clerk-Proxy-Url", "clerk_proxy_url", "Forwarded",
        "X-Forwarded-For", "x_forwarded_host", "X-Forwarded-Anything", "X-Original-URL", "X-Real-IP", "x_real_ip",
        "X-Client-IP", "True-Client-IP", "CF-Connecting-IP", "X-Rewrite-URL", "X-User-Id", "x.user.id",
        "X-User-Assertion", "X-Tier", "x_tier",
    ],
)  # fmt: skip
def test_nobody_says_what_only_a_proxy_may_say(name: str) -> None:
    assert onward((name, "evil"), ("Accept", "*/*")) == ["Accept: */*"]


@pytest.mark.parametrize("name", ["Host", "Content-Length", "content_length", "Transfer-Encoding", "Expect", "Upgrade",
                                  "Keep-Alive", "TE", "Proxy-Authorization"])  # fmt: skip
def test_framing_and_the_connection_are_not_passed_on(name: str) -> None:
    assert onward((name, "evil")) == []


def test_what_connection_names_stays_behind() -> None:
    raw = ("Connection", "keep-alive, X-Hop"), ("x-hop", "1"), ("connection", "X-Other"), ("X-Other", "2"), ("X-C", "3")
    assert onward(*raw) == ["X-C: 3"]


@pytest.mark.parametrize("name", ["X: evil\r\nClerk-Secret-Key", "", "X Y", "Cl\xe9rk"])
def test_what_is_no_name_writes_no_head(name: str) -> None:
    assert onward((name, "1")) == []


RESERVED = st.one_of(
    st.sampled_from([*SAID_BY_PROXIES, *HOP_BY_HOP, "X-Tier", "X-User-Assertion"]),
    st.builds("".join, st.tuples(st.sampled_from(["X-User-", *FORWARDING_PREFIXES]), st.sampled_from(["Id", "For"]))),
)


@given(name=RESERVED, data=st.data())
def test_no_reserved_field_survives_in_any_spelling(name: str, data: st.DataObject) -> None:
    punctuation = st.sampled_from("-_.!#$%&'*+^`|~")
    spelt = "".join(data.draw(punctuation) if char == "-" else char for char in name)
    assert onward((data.draw(st.sampled_from([spelt, spelt.lower(), spelt.upper()])), "evil")) == []


# --- where it goes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "found"),
    [("/__clerk", True), ("/__clerk/", True), ("/__clerk/v1/client", True), ("/__clerkx", False), ("/", False),
     ("/x/__clerk", False), ("/__CLERK/v1", False)],
)  # fmt: skip
def test_everything_at_and_below_its_path_is_a_proxys(path: str, found: bool) -> None:
    other = made("/auth/other")
    proxies = FrontendApiProxies([other, PROXY], FIELDS)
    assert proxies.find(path) is (PROXY if found else None)
    assert proxies.find("/auth/other/x") is other


@pytest.mark.parametrize(
    ("target", "line"),
    [
        pytest.param(b"/__clerk", b"/", id="bare"),
        pytest.param(b"/__clerk/", b"/", id="slash"),
        pytest.param(b"/__clerk?a=1", b"/?a=1", id="bare-query"),
        pytest.param(
            b"/__clerk/v1/client?_method=PATCH&x=%2F..%2f", b"/v1/client?_method=PATCH&x=%2F..%2f", id="query"
        ),
        pytest.param(b"/%5f_clerk/%7e@x?", b"/%7e@x?", id="received-bytes"),
        pytest.param(b"/__clerk/@evil.example", b"/@evil.example", id="user-information"),
        pytest.param(b"/__clerk/http://evil.example", b"/http://evil.example", id="url"),
    ],
)
def test_target_is_the_received_bytes_less_the_proxys_path(target: bytes, line: bytes) -> None:
    assert sent(target).head.startswith(b"GET " + line + b" HTTP/1.1\r\nHost: frontend-api.clerk.dev\r\n")
    assert sent(target, proxy=made(base=b"/base")).head.startswith(b"GET /base" + line + b" HTTP/1.1\r\n")


def test_clerk_is_told_who_asks_and_for_whom() -> None:
    outbound = sent(b"/__clerk/v1/client", lines=b"\r\nAccept: */*")
    assert outbound.head.split(b"\r\n")[2:] == [
        b"Accept: */*",
        b"X-Forwarded-For: 203.0.113.9",
        b"X-Forwarded-Proto: https",
        b"X-Forwarded-Host: api.example.com",
        b"Clerk-Proxy-Url: https://api.example.com/__clerk",
        b"Clerk-Secret-Key: " + KEY.encode(),
    ]


def test_a_client_without_a_host_names_none() -> None:
    assert b"X-Forwarded-Host" not in sent(b"/__clerk/v1", host=b"").head


def test_only_the_client_stands_in_the_chain() -> None:
    """Clerk takes its leftmost entry, and what stands left of the last untrusted one a client may have made up."""
    peer = Peer("10.0.0.1", trusted=True, scheme="http", port=8080)
    outbound = sent(b"/__clerk/v1", peer=peer, seen={"x-forwarded-for": b"198.51.100.1, 203.0.113.7"})
    assert b"\r\nX-Forwarded-For: 203.0.113.7\r\n" in outbound.head


@pytest.mark.parametrize(
    ("method", "repeatable"), [("GET", True), ("HEAD", True), ("OPTIONS", True), ("POST", False), ("DELETE", False)]
)
def test_only_what_changes_nothing_may_be_sent_again(method: str, repeatable: bool) -> None:
    assert sent(b"/__clerk/v1", method=method).repeatable is repeatable


def test_the_secret_key_is_in_no_text() -> None:
    assert KEY not in repr(FrontendApiPolicy(PROXY_URL, PROXY))


# --- where its answers lead -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("location", "led"),
    [
        pytest.param(f"{FAPI}/v1/x?a=1&b=%2F#top", f"{PROXY_URL}/v1/x?a=1&b=%2F#top", id="whole"),
        pytest.param(f"{FAPI}:443/v1/x", f"{PROXY_URL}/v1/x", id="its-port"),
        pytest.param("HTTPS://Frontend-API.clerk.dev/v1/x", f"{PROXY_URL}/v1/x", id="case"),
        pytest.param("http://frontend-api.clerk.dev/v1/x", f"{PROXY_URL}/v1/x", id="scheme"),
        pytest.param(FAPI, PROXY_URL, id="bare"),
        pytest.param(f"{FAPI}?a", f"{PROXY_URL}?a", id="bare-query"),
        pytest.param("//frontend-api.clerk.dev/v1/x", f"{PROXY_URL}/v1/x", id="network-path"),
        pytest.param("/npm/clerk.js", f"{PROXY_URL}/npm/clerk.js", id="absolute-path"),
        pytest.param("next?x=1", f"{PROXY_URL}/v1/next?x=1", id="relative-path"),
        pytest.param("../up", f"{PROXY_URL}/up", id="up"),
        pytest.param("?q", f"{PROXY_URL}/v1/here?q", id="query"),
    ],
)
def test_a_redirect_within_the_frontend_api_goes_through_the_proxy(location: str, led: str) -> None:
    assert through_proxy(location.encode(), b"/v1/here?old", PROXY) == led.encode()


@pytest.mark.parametrize(
    "location",
    [
        "https://app.example.com/after?x=https://frontend-api.clerk.dev/",
        "//evil.example/v1",
        "https://frontend-api.clerk.dev@evil.example/",
        "https://evil.example@frontend-api.clerk.dev/",
        "https://frontend-api.clerk.dev:8443/x",
        "https://frontend-api.clerk.dev.evil.example/",
        "http://frontend-api.clerk.dev:443/x",
        "https://[/x",
        "com.example.app://callback",
        "mailto:me@example.com",
        "\\\\frontend-api.clerk.dev/x",
        "https:\\\\frontend-api.clerk.dev/x",
        "/v1/\xe9",
        "/v1 /x",
        "",
    ],
)
def test_any_other_location_stays_as_it_is(location: str) -> None:
    value = location.encode("latin-1")
    assert through_proxy(value, b"/v1/here", PROXY) == value


@pytest.mark.parametrize(
    ("location", "led"),
    [
        (f"{FAPI}/base/v1", f"{PROXY_URL}/v1"),
        (f"{FAPI}/base", PROXY_URL),
        ("/base?x", f"{PROXY_URL}?x"),
        (f"{FAPI}/basement", f"{FAPI}/basement"),
        ("/v1", "/v1"),
    ],
)
def test_what_lies_beside_the_apis_own_path_is_not_behind_the_proxy(location: str, led: str) -> None:
    assert through_proxy(location.encode(), b"/base/v1", made(base=b"/base")) == led.encode()


def test_a_development_server_on_plain_http_is_followed_too() -> None:
    local = made(authority=b"127.0.0.1:9000", tls=False, url="http://localhost:8080/__clerk")
    assert through_proxy(b"/v1", b"/x", local) == b"http://localhost:8080/__clerk/v1"
    assert through_proxy(b"http://127.0.0.1:9000/v1", b"/x", local) == b"http://localhost:8080/__clerk/v1"
    assert through_proxy(b"http://127.0.0.1/v1", b"/x", local) == b"http://127.0.0.1/v1"


def test_only_location_lines_are_changed() -> None:
    head = [b"\r\nX-Location: /a", b"\r\nLOCATION: next", b"\r\nContent-Location: /b", b"\r\nlocation: /c"]
    relocate(head, b"/__clerk/v1/here", PROXY)
    assert head == [
        b"\r\nX-Location: /a",
        b"\r\nLOCATION: " + PROXY_URL.encode() + b"/v1/next",
        b"\r\nContent-Location: /b",
        b"\r\nlocation: " + PROXY_URL.encode() + b"/c",
    ]
