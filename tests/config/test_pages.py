import pytest

from tests.config.files import APP, KEY, findings, loaded, only, publishable_key, written

SECRET = "secret_key: sk_live_abcdefgh"
PUBLIC = "https://app.example.com"
ROUTES = "[{path: /sign-in/*, upstream: api, auth: public}, {name: rest, path: /*, upstream: api}]"


def clerk(text, *, key=KEY, public_url=PUBLIC, **others):
    parties = f"authorized_parties: [{APP}], azp_missing: accept"
    return written(clerk=f"{{publishable_key: {key}, {parties}, {text}}}", public_url=public_url, **others)


def pages(text, **others):
    return loaded(clerk(text, **others)).issuer.pages


def serious(text):
    return [(f.level, f.key) for f in findings(text) if f.key != "clerk.azp_missing"]


def test_documents_are_as_any_other_request_unless_asked_for():
    assert pages("handshake: false, sign_in_url: null") is None
    assert pages("handshake: false, sign_in_url: ''") is None


def test_the_handshake():
    made = pages(f"handshake: true, {SECRET}")
    assert made.handshake
    assert (made.frontend_api, made.public_url) == ("https://clerk.example.com", PUBLIC)
    assert (made.development, made.satellite, made.sign_in_url) == (False, False, None)
    assert made.sync_to == {APP}


def test_the_handshake_of_a_development_instance():
    key = publishable_key("happy-otter-1.clerk.accounts.dev", "test").rstrip("=")
    made = pages("handshake: true, secret_key: sk_test_abcdefgh", key=key)
    assert made.development
    assert made.frontend_api == "https://happy-otter-1.clerk.accounts.dev"


def test_the_handshake_goes_to_the_proxy_of_the_frontend_api():
    proxy = "https://app.example.com/__clerk"
    assert pages(f"handshake: true, {SECRET}, proxy_url: {proxy}").frontend_api == proxy
    assert pages(f"handshake: true, {SECRET}, proxy_path: /__clerk").frontend_api == proxy


def test_the_handshake_needs_a_secret_key():
    assert ("error", "clerk.handshake") in serious(clerk("handshake: true"))
    assert serious(clerk("handshake: true, secret_key: pk_live_x")) == [("error", "clerk.secret_key")]


def test_the_handshake_wants_to_know_where_it_comes_back_to():
    assert serious(clerk(f"handshake: true, {SECRET}", public_url="null")) == [("warning", "clerk.handshake")]
    assert serious(clerk(f"handshake: true, {SECRET}")) == []


def test_tokens_of_a_handshake_may_name_no_party():
    text = f"{{publishable_key: {KEY}, authorized_parties: [{APP}], handshake: true, {SECRET}}}"
    finding = only(written(clerk=text, public_url=PUBLIC))
    assert (finding.level, finding.key) == ("warning", "clerk.handshake")
    assert "azp_missing: accept" in finding.remedy


@pytest.mark.parametrize(
    "text",
    [
        "https://accounts.example.com/sign-in",
        "http://localhost:3000/in?a=1#/b",
        "/sign-in",
        "/sign-in?x=1",
        "/sign-in/a",
    ],
)
def test_a_sign_in_page_is_a_url_or_a_path(text):
    made = pages(f'sign_in_url: "{text}"', routes=ROUTES)
    assert (made.sign_in_url, made.handshake) == (text, False)


@pytest.mark.parametrize(
    "text",
    [
        "sign-in",
        "//evil.example/x",
        "javascript:alert(1)",
        "https://",
        "https://u:p@a.example/",
        "/a b",
        "/ä",
        "/a\\\\b",
    ],
)
def test_a_sign_in_page_is_nothing_else(text):
    assert serious(clerk(f'sign_in_url: "{text}"', routes=ROUTES)) == [("error", "clerk.sign_in_url")]


@pytest.mark.parametrize(
    ("text", "public_url", "is_behind"),
    [
        pytest.param("/login", PUBLIC, True, id="path"),
        pytest.param("/login", "null", True, id="path-without-public-url"),
        pytest.param("https://app.example.com/login", PUBLIC, True, id="url"),
        pytest.param("https://app.example.com/base/login", f"{PUBLIC}/base", True, id="below-a-base"),
        pytest.param("/sign-in", PUBLIC, False, id="public-route"),
        pytest.param("https://app.example.com/base/sign-in", f"{PUBLIC}/base", False, id="public-route-below-a-base"),
        pytest.param("https://accounts.example.com/login", PUBLIC, False, id="elsewhere"),
        pytest.param("https://app.example.com/login", "null", False, id="nobody-knows"),
        pytest.param("/a/../login", PUBLIC, False, id="ambiguous"),
    ],
)
def test_a_sign_in_page_behind_a_session_is_refused(text, public_url, is_behind):
    found = serious(clerk(f"sign_in_url: {text}", public_url=public_url, routes=ROUTES))
    assert found == ([("error", "clerk.sign_in_url")] if is_behind else [])


def test_each_of_several_instances_has_its_own_pages():
    issuers = (
        f"[{{name: one, publishable_key: {KEY}, sign_in_url: https://a.example/in}},"
        f" {{name: two, publishable_key: {publishable_key('clerk.two.example').rstrip('=')}}}]"
    )
    made = loaded(written(clerk="{}", issuers=issuers)).issuers
    assert made[0].pages.sign_in_url == "https://a.example/in"
    assert made[1].pages is None


def test_a_public_url_that_cannot_be_read_is_not_said_to_be_missing():
    assert serious(clerk(f"handshake: true, {SECRET}", public_url="ftp://x")) == [("error", "public_url")]
