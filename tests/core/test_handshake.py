from urllib.parse import parse_qsl, urlsplit

import pytest

from gateway.core.forwarding import forwarding
from gateway.core.handshake import (
    DEV_BROWSERS,
    ON_THE_WAY_BACK,
    PageQuery,
    PagesPolicy,
    came_from_elsewhere,
    count_line,
    handshake_location,
    is_document,
    is_navigation,
    is_sign_in_page,
    may_sync_to,
    page_url,
    read_query,
    redirects_made,
    sign_in_location,
    sync_location,
    synced_location,
    without_parameters,
)
from gateway.core.model import Header, Inbound, Peer
from gateway.net.clerk_client import API_VERSION

APP = "https://app.example.com"
LIVE = PagesPolicy("https://clerk.example.com", handshake=True, public_url=APP)
DEV = PagesPolicy("https://happy-otter-1.clerk.accounts.dev", development=True, handshake=True)
SIGN_IN = PagesPolicy("https://clerk.example.com", sign_in_url="https://accounts.example.com/sign-in")


def inbound(target=b"/x", method="GET", *, host=b"gw.example.com", trusted=False, scheme="http", upgrade=False, **seen):
    fields = {name.replace("_", "-"): value for name, value in seen.items()}
    header = Header([], fields, frozenset(), Peer("10.0.0.1", trusted=trusted, scheme=scheme, port=80), host)
    forwarding(header)
    return Inbound(method, target, target.partition(b"?")[0].decode(), header, upgrade)


def query_of(location):
    return dict(parse_qsl(urlsplit(location).query, keep_blank_values=True))


@pytest.mark.parametrize(
    ("method", "seen", "document"),
    [
        pytest.param("GET", {"sec_fetch_dest": b"document"}, True, id="document"),
        pytest.param("GET", {"sec_fetch_dest": b"iframe"}, True, id="iframe"),
        pytest.param("GET", {"sec_fetch_dest": b"empty", "accept": b"text/html"}, False, id="fetch"),
        pytest.param("GET", {"sec_fetch_dest": b"image", "accept": b"text/html"}, False, id="image"),
        pytest.param("GET", {"sec_fetch_dest": b"document, document"}, False, id="said-twice"),
        pytest.param("GET", {"accept": b"text/html,application/xhtml+xml"}, True, id="old-browser"),
        pytest.param("GET", {"sec_fetch_dest": b"", "accept": b"text/html"}, True, id="empty-is-missing"),
        pytest.param("GET", {"accept": b"*/*, text/html"}, False, id="html-too"),
        pytest.param("GET", {}, False, id="says-nothing"),
        pytest.param("POST", {"sec_fetch_dest": b"document"}, False, id="form"),
        pytest.param("HEAD", {"sec_fetch_dest": b"document"}, False, id="head"),
        pytest.param("GET", {"sec_fetch_dest": b"document", "upgrade": True}, False, id="upgrade"),
    ],
)
def test_only_a_document_can_be_sent_elsewhere(method, seen, document):
    assert is_document(inbound(method=method, **seen)) is document


def test_a_frame_is_no_navigation():
    assert is_navigation(inbound(sec_fetch_dest=b"document"))
    assert not is_navigation(inbound(sec_fetch_dest=b"iframe"))
    assert not is_navigation(inbound(accept=b"text/html"))


# --- the URL ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "policy", "url"),
    [
        pytest.param(inbound(b"/x?a=1%20&b"), DEV, "http://gw.example.com/x?a=1%20&b", id="as-it-came"),
        pytest.param(inbound(scheme="https"), DEV, "https://gw.example.com/x", id="over-tls"),
        pytest.param(inbound(), LIVE, f"{APP}/x", id="configured"),
        pytest.param(inbound(x_forwarded_host=b"evil.example"), DEV, "http://gw.example.com/x", id="anybody-says"),
        pytest.param(
            inbound(trusted=True, x_forwarded_host=b"app.example.com", x_forwarded_proto=b"https"),
            DEV,
            f"{APP}/x",
            id="trusted-proxy-says",
        ),
        pytest.param(
            inbound(trusted=True, x_forwarded_host=b"evil.example/?", x_forwarded_proto=b"https"),
            DEV,
            "https://gw.example.com/x",
            id="not-a-host",
        ),
        pytest.param(
            inbound(trusted=True, x_forwarded_host=b"user@evil.example"), DEV, "http://gw.example.com/x", id="user-at"
        ),
        pytest.param(inbound(trusted=True, x_forwarded_host=b"evil.example"), LIVE, f"{APP}/x", id="configured-wins"),
        pytest.param(inbound(host=b""), DEV, None, id="nobody-says"),
        pytest.param(inbound(host=b"gw.example.com:99999"), DEV, None, id="no-port"),
        pytest.param(inbound(host=b"[::::]"), DEV, None, id="no-address"),
        pytest.param(inbound("/ä?ü".encode()), LIVE, f"{APP}/%C3%A4?%C3%BC", id="not-ascii"),
        pytest.param(inbound(b"//evil.example/x"), LIVE, f"{APP}//evil.example/x", id="two-slashes"),
    ],
)
def test_the_url_is_the_browsers(asked, policy, url):
    assert page_url(asked, policy) == url


@pytest.mark.parametrize(
    ("target", "found"),
    [
        pytest.param(b"/x", PageQuery(), id="no-query"),
        pytest.param(b"/x?a=1&b=%20", PageQuery(), id="none-of-clerks"),
        pytest.param(b"/x?__clerk_synced=true&__clerk_synced=false", PageQuery("true"), id="the-first-counts"),
        pytest.param(b"/x?__clerk_db_jwt", PageQuery(dev_browser=""), id="there-but-empty"),
        pytest.param(b"/x?%5F_clerk_db_jwt=dvb%5f1", PageQuery(dev_browser="dvb_1"), id="encoded"),
        pytest.param(
            b"/x?__clerk_redirect_url=https%3A%2F%2Fa.example%2F+b&__clerk_handshake=h&__clerk_handshake_nonce=n",
            PageQuery(redirect_url="https://a.example/ b", handshake="h", nonce="n"),
            id="several",
        ),
        pytest.param(b"/x?__clerk_handshake=\xff", PageQuery(handshake="\ufffd"), id="not-utf-8"),
        pytest.param(b"/__clerk_synced=true", PageQuery(), id="in-the-path"),
    ],
)
def test_clerks_parameters_are_read(target, found):
    assert read_query(target) == found


@pytest.mark.parametrize(
    ("url", "names", "left"),
    [
        pytest.param("https://a/x", ON_THE_WAY_BACK, "https://a/x", id="no-query"),
        pytest.param("https://a/x?b=%20+&c", ON_THE_WAY_BACK, "https://a/x?b=%20+&c", id="byte-for-byte"),
        pytest.param("https://a/x?__clerk_handshake_nonce=n", ON_THE_WAY_BACK, "https://a/x", id="nothing-left"),
        pytest.param("https://a/x?b=1&__clerk_help&c=%3D", ON_THE_WAY_BACK, "https://a/x?b=1&c=%3D", id="between"),
        pytest.param("https://a/x?%5f_clerk_handshake=1&b", ON_THE_WAY_BACK, "https://a/x?b", id="encoded"),
        pytest.param("https://a/x?__dev_session=1&b", DEV_BROWSERS, "https://a/x?b", id="the-old-name"),
    ],
)
def test_parameters_are_taken_out(url, names, left):
    assert without_parameters(url, names) == left


# --- whither ---------------------------------------------------------------------------------------------------------


def test_a_handshake_in_production():
    location = handshake_location(
        LIVE, f"{APP}/x?a=1&b", reason="session-token-nbf", suffixed=True, session=b"a.b.c", dev_browser="dvb"
    )
    assert location.startswith("https://clerk.example.com/v1/client/handshake?")
    assert query_of(location) == {
        "redirect_url": f"{APP}/x?a=1&b",
        "__clerk_api_version": API_VERSION,
        "suffixed_cookies": "true",
        "__clerk_hs_reason": "session-token-nbf",
        "format": "nonce",
        "__session": "a.b.c",
    }


def test_a_handshake_in_development():
    url = f"{APP}/x?__clerk_db_jwt=old&__dev_session=old&a=1"
    location = handshake_location(DEV, url, reason="dev-browser-sync", suffixed=False, session=b"", dev_browser="dvb_1")
    asked = query_of(location)
    assert asked["redirect_url"] == f"{APP}/x?a=1"
    assert asked["__clerk_db_jwt"] == "dvb_1"
    assert asked["suffixed_cookies"] == "false"
    assert "__session" not in asked
    assert "__clerk_db_jwt" not in query_of(
        handshake_location(DEV, url, reason="dev-browser-missing", suffixed=False, session=b"", dev_browser="")
    )


def test_nothing_in_a_location_begins_a_line_or_a_parameter():
    location = handshake_location(
        DEV, f"{APP}/x", reason="r&format=token", suffixed=False, session=b"a\r\nX: y", dev_browser="d\r\n&e=1"
    )
    assert location.isascii()
    assert location.isprintable()
    assert query_of(location)["format"] == "nonce"


def test_a_satellite_in_development_asks_its_primary():
    policy = PagesPolicy("https://clerk.example.com", sign_in_url="http://localhost:3000/sign-in?a=1#/b")
    location = sync_location(policy, f"{APP}/x?b=1")
    assert (
        location
        == "http://localhost:3000/sign-in?a=1&__clerk_redirect_url=https%3A%2F%2Fapp.example.com%2Fx%3Fb%3D1#/b"
    )


def test_a_primary_in_development_answers():
    location = synced_location("https://sat.example/x?__clerk_synced=false&a=1", dev_browser="dvb_1")
    assert location == "https://sat.example/x?a=1&__clerk_db_jwt=dvb_1&__clerk_synced=true"
    assert synced_location("https://sat.example/x", dev_browser="") == "https://sat.example/x?__clerk_synced=true"


@pytest.mark.parametrize(
    ("target", "listed", "may"),
    [
        pytest.param("https://sat.example/x", {"https://sat.example"}, True, id="listed"),
        pytest.param("https://sat.example:443/x", {"https://sat.example"}, True, id="its-own-port"),
        pytest.param("https://evil.example/x", {"https://sat.example"}, False, id="not-listed"),
        pytest.param("https://evil.example/x", set(), True, id="nothing-is-listed"),
        pytest.param("http://localhost:3001/x", {"https://sat.example"}, True, id="here"),
        pytest.param("http://[::1]:3001/", {"https://sat.example"}, True, id="here-ipv6"),
        pytest.param("http://app.localhost/", {"https://sat.example"}, True, id="here-by-name"),
        pytest.param("http://localhost.evil.example/", {"https://sat.example"}, False, id="resembles-here"),
        pytest.param("https://localhost@evil.example/", set(), False, id="user-at"),
        pytest.param("//evil.example/x", set(), False, id="no-scheme"),
        pytest.param("/x", set(), False, id="a-path"),
        pytest.param("https:/evil.example", set(), False, id="one-slash"),
        pytest.param("javascript:alert(1)", set(), False, id="javascript"),
        pytest.param("https://sat.example\\@evil.example/", set(), False, id="backslash"),
        pytest.param("https://sat.example/\r\nX: y", set(), False, id="line-end"),
        pytest.param("https://sat.example/a b", set(), False, id="blank"),
        pytest.param("https://sat.example/ä", set(), False, id="not-ascii"),
        pytest.param("https://sat.example:x/", set(), False, id="no-port"),
    ],
)
def test_a_browser_token_does_not_go_just_anywhere(target, listed, may):
    assert may_sync_to(PagesPolicy("https://x", sync_to=frozenset(listed)), target) is may


@pytest.mark.parametrize(
    ("more", "url", "dev_browser", "location"),
    [
        pytest.param(
            {},
            f"{APP}/x?a=1&__clerk_handshake_nonce=n",
            "dvb",
            "https://accounts.example.com/sign-in?redirect_url=https%3A%2F%2Fapp.example.com%2Fx%3Fa%3D1",
            id="production",
        ),
        pytest.param(
            {"sign_in_url": "/sign-in#/a"},
            f"{APP}/x",
            "dvb",
            f"{APP}/sign-in?redirect_url=https%3A%2F%2Fapp.example.com%2Fx#/a",
            id="own-path",
        ),
        pytest.param(
            {"development": True},
            f"{APP}/x",
            "dvb",
            "https://accounts.example.com/sign-in?redirect_url=https%3A%2F%2Fapp.example.com%2Fx&__clerk_db_jwt=dvb",
            id="development",
        ),
        pytest.param(
            {"development": True},
            f"{APP}/x",
            "",
            "https://accounts.example.com/sign-in?redirect_url=https%3A%2F%2Fapp.example.com%2Fx",
            id="development-without-a-browser-token",
        ),
        pytest.param(
            {"development": True, "sign_in_url": f"{APP}/in"},
            f"{APP}/x",
            "dvb",
            f"{APP}/in?redirect_url=https%3A%2F%2Fapp.example.com%2Fx",
            id="development-same-site",
        ),
        pytest.param(
            {"satellite": True},
            f"{APP}/x?__clerk_synced=true",
            "",
            "https://accounts.example.com/sign-in?redirect_url=https%3A%2F%2Fapp.example.com%2Fx%3F__clerk_synced%3Dfalse",
            id="satellite",
        ),
    ],
)
def test_the_sign_in_page_leads_back(more, url, dev_browser, location):
    policy = PagesPolicy("https://clerk.example.com", **({"sign_in_url": SIGN_IN.sign_in_url} | more))
    assert sign_in_location(policy, url, dev_browser=dev_browser) == location


@pytest.mark.parametrize(
    ("sign_in_url", "url", "same"),
    [
        pytest.param("/sign-in", f"{APP}/sign-in", True, id="own-path"),
        pytest.param("/sign-in", f"{APP}/sign-in/?a=1", True, id="slash"),
        pytest.param("/sign-in", f"{APP}/x", False, id="another-page"),
        pytest.param(f"{APP}/sign-in", "http://app.example.com/sign-in", False, id="other-port"),
        pytest.param(f"{APP}/sign-in", "http://internal/sign-in?redirect_url=x", True, id="other-host-led-there"),
        pytest.param("https://accounts.example.com", f"{APP}/", False, id="root-elsewhere"),
    ],
)
def test_the_sign_in_page_is_not_sent_to_itself(sign_in_url, url, same):
    assert is_sign_in_page(PagesPolicy("https://clerk.example.com", sign_in_url=sign_in_url), url) is same


# --- loops and where a document came from ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "made"),
    [(b"", 0), (b"1", 1), (b"3", 3), (b"-1", 0), (b"1.5", 0), (b"x", 0), (b"9999", 9999), (b"1" * 5000, 0)],
)
def test_handshakes_are_counted_by_a_cookie(value, made):
    assert redirects_made({b"__clerk_redirect_count": value}) == made
    assert redirects_made({}) == 0


def test_the_count_is_forgotten_soon():
    assert count_line(1) == b"\r\nSet-Cookie: __clerk_redirect_count=2; SameSite=Lax; HttpOnly; Max-Age=2"


@pytest.mark.parametrize(
    ("referer", "policy", "elsewhere"),
    [
        pytest.param(b"https://sat.example/x", LIVE, True, id="another-site"),
        pytest.param(b"https://sat.example:x/", LIVE, False, id="unreadable"),
        pytest.param(b"http://[", LIVE, False, id="no-address"),
        pytest.param(b"", LIVE, False, id="nothing"),
        pytest.param(b"/x", LIVE, False, id="a-path"),
        pytest.param(b"https://app.example.com/y", LIVE, False, id="here"),
        pytest.param(b"https://app.example.com:443/y", LIVE, False, id="here-with-port"),
        pytest.param(b"http://app.example.com/y", LIVE, True, id="without-tls"),
        pytest.param(b"android-app://com.example/", LIVE, True, id="an-app"),
        pytest.param(b"https://[2001:db8::1]/", LIVE, True, id="ipv6"),
        pytest.param(b"https://clerk.example.com/x", LIVE, False, id="frontend-api"),
        pytest.param(b"https://accounts.example.com/x", LIVE, False, id="account-portal"),
        pytest.param(b"https://accounts.evil.example/x", LIVE, True, id="anothers-account-portal"),
        pytest.param(b"https://happy-otter-1.accounts.dev/x", LIVE, True, id="development-portal-in-production"),
        pytest.param(b"https://any-one-2.accounts.dev/x", DEV, False, id="development-portal"),
        pytest.param(b"https://any-one-2.clerk.accounts.dev/x", DEV, True, id="anothers-frontend-api"),
        pytest.param(b"https://accounts.happy.otter-1.lcl.dev/x", DEV, False, id="old-development-portal"),
        pytest.param(b"https://happy.otter-1.lcl.dev/x", DEV, True, id="old-but-no-portal"),
    ],
)
def test_a_link_from_another_site_is_known_by_its_referer(referer, policy, elsewhere):
    assert came_from_elsewhere(referer, f"{APP}/x", policy) is elsewhere


def test_the_portal_of_a_staging_instance():
    policy = PagesPolicy("https://a.clerk.accountsstage.dev")
    assert not came_from_elsewhere(b"https://a.accountsstage.dev/", f"{APP}/x", policy)
