import base64

import pytest

from gateway.config.clerk import cookie_suffix, frontend_api
from tests.config.files import APP, KEY, findings, loaded, only, publishable_key, written
from tests.fakes.clerk import FakeClerk

CLERK = FakeClerk()
PARTIES = f"authorized_parties: [{APP}]"


def clerk(text, **others):
    return written(clerk=f"{{{text}, {PARTIES}}}", **others)


def issuer(text):
    return loaded(clerk(text)).issuer


def test_a_publishable_key_gives_everything():
    made = issuer(f"publishable_key: {KEY}")
    assert made.issuer == "https://clerk.example.com"
    assert made.jwks_url == "https://clerk.example.com/.well-known/jwks.json"
    assert made.static_keys is None
    assert made.token_policy.issuers == {"https://clerk.example.com"}
    assert made.token_policy.authorized_parties == {APP}
    assert made.credentials.issuer == "https://clerk.example.com"
    assert made.credentials.cookie_suffix == "naoXFJnI"
    assert not made.credentials.development


def test_the_cookie_suffix_is_clerks():
    assert cookie_suffix(KEY) == "naoXFJnI"


@pytest.mark.parametrize(
    "text", ["https://clerk.example.com", "clerk.example.com", "https://clerk.example.com/", "CLERK.example.com"]
)
def test_an_issuer_may_be_written_in_several_ways(text):
    made = issuer(f"issuer: {text}")
    assert made.issuer == "https://clerk.example.com"
    assert made.credentials.cookie_suffix == "naoXFJnI"  # an instance has but one publishable key


def test_a_key_and_its_issuer_agree():
    assert issuer(f"publishable_key: {KEY}, issuer: clerk.example.com").issuer == "https://clerk.example.com"


def test_a_key_has_no_scheme_so_it_agrees_with_plain_http_on_loopback():
    key = publishable_key("127.0.0.1:8081", "test")
    made = issuer(f"publishable_key: {key}, issuer: http://127.0.0.1:8081")
    assert (made.issuer, made.credentials.development) == ("http://127.0.0.1:8081", True)
    assert made.credentials.cookie_suffix == cookie_suffix(key)
    wrong = findings(clerk(f"publishable_key: {key}, issuer: http://127.0.0.1:8082"))
    assert "is not the publishable key's issuer, https://127.0.0.1:8081" in [each.message for each in wrong]


def test_a_key_and_another_issuer_do_not():
    finding = only(clerk(f"publishable_key: {KEY}, issuer: clerk.example.org"))
    assert (finding.key, finding.message) == (
        "clerk.issuer",
        "is not the publishable key's issuer, https://clerk.example.com",
    )


@pytest.mark.parametrize(
    ("text", "development"),
    [
        pytest.param(f"publishable_key: {publishable_key('clerk.example.com', 'test')}", True, id="test-key"),
        pytest.param(f"publishable_key: {publishable_key('clerk.example.com')}", False, id="live-key"),
        pytest.param("issuer: happy-otter-1.clerk.accounts.dev", True, id="development-host"),
        pytest.param("issuer: clerk.example.com", False, id="other-host"),
        pytest.param("issuer: clerk.accounts.dev.example.com", False, id="resembles-development"),
    ],
)
def test_development_is_told_from_key_or_host(text, development):
    assert issuer(text).credentials.development is development


def test_padding_of_a_publishable_key_is_optional():
    padded = publishable_key("clerk.example.net.x")
    assert padded.endswith("=")
    assert frontend_api(padded) == frontend_api(padded.rstrip("="))


@pytest.mark.parametrize(
    "key",
    [
        pytest.param("pk_nothing", id="two-parts"),
        pytest.param(f"{KEY}_x", id="four-parts"),
        pytest.param(KEY.replace("pk_", "xx_"), id="other-prefix"),
        pytest.param(KEY.replace("live", "prod"), id="other-kind"),
        pytest.param("pk_live_!!!!", id="no-base64"),
        pytest.param("pk_live_" + base64.b64encode(b"clerk.example.com").decode(), id="no-dollar"),
        pytest.param("pk_live_" + base64.b64encode(b"clerk.example.com$$").decode(), id="two-dollars"),
        pytest.param("pk_live_" + base64.b64encode(b"clerk$").decode(), id="no-dot"),
        pytest.param("pk_live_" + base64.b64encode(b"clerk.example.com/a$b$").decode(), id="dollar-inside"),
        pytest.param("pk_live_" + base64.b64encode(b"user@clerk.example.com$").decode(), id="user"),
        pytest.param("pk_live_" + base64.b64encode(b"clerk.example.com/x?y$").decode(), id="query"),
        pytest.param("pk_live_" + base64.b64encode("clérk.example$".encode()).decode(), id="not-ascii"),
    ],
)
def test_what_is_no_publishable_key_is_refused_without_being_shown(key):
    finding = only(clerk(f"publishable_key: '{key}'"))
    assert finding.key == "clerk.publishable_key"
    assert "is not a publishable key" in finding.message
    assert key not in str(finding)


@pytest.mark.parametrize(
    ("text", "key", "fragment"),
    [
        pytest.param("issuer: http://clerk.example.com", "clerk.issuer", "must be https", id="http-issuer"),
        pytest.param("issuer: https://169.254.169.254", "clerk.issuer", "link-local", id="link-local-issuer"),
        pytest.param("issuer: 'https://u:p@clerk.example.com'", "clerk.issuer", "user or password", id="user"),
        pytest.param(
            "issuer: a.example, jwks_url: http://b.example", "clerk.jwks_url", "must be https", id="http-keys"
        ),
        pytest.param("issuer: a.example, jwt_key: nonsense", "clerk.jwt_key", "not an RSA public key", id="no-pem"),
        pytest.param(
            "issuer: a.example, clock_skew_s: 61", "clerk.clock_skew_s", "less than or equal to 60", id="skew"
        ),
        pytest.param("issuer: a.example, azp_missing: maybe", "clerk.azp_missing", "'reject' or 'accept'", id="azp"),
    ],
)
def test_a_wrong_instance_is_refused(text, key, fragment):
    finding = only(clerk(text))
    assert (finding.key, finding.level) == (key, "error")
    assert fragment in finding.message


def test_another_key_set_url_is_taken_as_written():
    assert issuer("issuer: a.example, jwks_url: 'https://b.example/keys?v=1'").jwks_url == "https://b.example/keys?v=1"


def test_a_pem_key_needs_no_network():
    made = loaded(clerk("issuer: a.example, jwt_key: '${PEM}'"), {"PEM": CLERK.pem()}).issuer
    assert made.jwks_url is None
    assert len(made.static_keys) == 1


def test_a_pem_key_makes_a_key_set_url_useless():
    found = findings(clerk("issuer: a.example, jwks_url: https://b.example, jwt_key: '${PEM}'"), {"PEM": CLERK.pem()})
    assert [(finding.key, finding.level) for finding in found] == [("clerk.jwks_url", "warning")]


def test_the_token_policy_is_as_written():
    policy = issuer("issuer: a.example, audience: 'x, y', clock_skew_s: 2.5").token_policy
    assert (policy.audience, policy.leeway_s, policy.azp_missing_ok) == ({"x", "y"}, 2.5, False)


@pytest.mark.parametrize(
    ("text", "message", "remedy"),
    [
        pytest.param(
            "{publishable_key: '${CLERK_PUBLISHABLE_KEY:-}', issuer: '${CLERK_JWT_ISSUER_DOMAIN:-}'}",
            "no Clerk instance is named, so no token can be verified",
            "Set CLERK_PUBLISHABLE_KEY=pk_test_… (Clerk Dashboard, API keys) or "
            "CLERK_JWT_ISSUER_DOMAIN=https://clerk.example.com, or make every route auth: public",
            id="variables",
        ),
        pytest.param(
            "{issuer: '${MINE:-}'}",
            "no Clerk instance is named, so no token can be verified",
            "Set MINE, or make every route auth: public",
            id="other-variable",
        ),
        pytest.param(
            "{}",
            "no Clerk instance is named, so no token can be verified",
            'Write publishable_key: "${CLERK_PUBLISHABLE_KEY}" or issuer: "${CLERK_JWT_ISSUER_DOMAIN}", '
            "or make every route auth: public",
            id="nothing",
        ),
        pytest.param(
            "{jwt_key: x}",
            "jwt_key says how tokens are signed, but not whose they are",
            'Write publishable_key: "${CLERK_PUBLISHABLE_KEY}" or issuer: "${CLERK_JWT_ISSUER_DOMAIN}", '
            "or make every route auth: public",
            id="key-without-issuer",
        ),
    ],
)
def test_a_missing_instance_says_what_to_set(text, message, remedy):
    finding = only(written(clerk=text))
    assert (finding.key, finding.message, finding.remedy) == ("clerk", message, remedy)


def test_public_routes_need_no_instance():
    config = loaded(written(clerk="{}", routes="[{path: /*, upstream: api, auth: public}]"))
    assert config.issuer is None
    assert config.warnings == ()


@pytest.mark.parametrize(
    ("text", "key"),
    [
        pytest.param("{issuer: a.example}", "clerk.authorized_parties", id="no-parties"),
        pytest.param(f"{{issuer: a.example, azp_missing: accept, {PARTIES}}}", "clerk.azp_missing", id="azp-missing"),
        pytest.param(f"{{issuer: 'http://127.0.0.1:4000', {PARTIES}}}", "clerk.issuer", id="http-issuer"),
        pytest.param(f"{{issuer: a.example, jwks_url: 'http://[::1]/k', {PARTIES}}}", "clerk.jwks_url", id="http-keys"),
    ],
)
def test_an_insecure_choice_is_said(text, key):
    finding = only(written(clerk=text))
    assert (finding.key, finding.level) == (key, "insecure")


def test_pages_may_need_tokens_that_name_no_party():
    clerk = f"{{issuer: a.example, azp_missing: accept, handshake: true, secret_key: sk_live_abcdefgh, {PARTIES}}}"
    finding = only(written(clerk=clerk, public_url="https://app.example.com"))
    assert (finding.key, finding.level) == ("clerk.azp_missing", "warning")


def test_missing_parties_name_their_variable():
    finding = only(written(clerk="{issuer: a.example, authorized_parties: '${PARTIES:-}'}"))
    assert finding.remedy == "Set PARTIES to the origins of your pages, such as https://app.example.com"


def test_azp_missing_means_nothing_without_parties():
    keys = [finding.key for finding in findings(written(clerk="{issuer: a.example, azp_missing: accept}"))]
    assert keys == ["clerk.authorized_parties"]


@pytest.mark.parametrize(
    ("party", "level", "fragment"),
    [
        pytest.param("https://*.example.com", "error", "without *", id="pattern"),
        pytest.param("*", "error", "without *", id="star"),
        pytest.param("https://app.example.com/", "warning", 'as "https://app.example.com"', id="slash"),
        pytest.param("app.example.com", "warning", "is not an origin", id="no-scheme"),
    ],
)
def test_a_party_that_no_browser_sends_is_noticed(party, level, fragment):
    finding = only(written(clerk=f"{{issuer: a.example, authorized_parties: ['{party}']}}"))
    assert (finding.key, finding.level) == ("clerk.authorized_parties", level)
    assert fragment in finding.message
