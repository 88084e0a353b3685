import pytest

from tests.config.files import APP, KEY, findings, loaded, publishable_key, written

DEV = publishable_key("happy-otter-1.clerk.accounts.dev", "test").rstrip("=")
SIGN_IN = "sign_in_url: https://primary.example/sign-in"
MORE = f"handshake: true, secret_key: sk_live_abcdefgh, {SIGN_IN}"


def clerk(text, *, key=KEY):
    parties = f"authorized_parties: [{APP}], azp_missing: accept"
    return written(clerk=f"{{publishable_key: {key}, {parties}, {text}}}", public_url="https://www.sat.example")


def serious(text):
    return [(f.level, f.key) for f in findings(text) if f.key != "clerk.azp_missing"]


def test_a_satellite_in_production_has_a_frontend_api_of_its_own():
    made = loaded(clerk(f"satellite: true, domain: sat.example, {MORE}")).issuer
    assert made.pages.satellite
    assert made.pages.frontend_api == made.credentials.issuer == "https://clerk.sat.example"
    assert made.token_policy.issuers == {"https://clerk.sat.example", "https://clerk.example.com"}
    assert made.jwks_url == "https://clerk.example.com/.well-known/jwks.json"


def test_a_satellite_in_development_has_none():
    made = loaded(clerk(f"satellite: true, domain: sat.example, {MORE}".replace("live", "test"), key=DEV)).issuer
    assert made.pages.satellite
    assert made.pages.frontend_api == made.credentials.issuer == "https://happy-otter-1.clerk.accounts.dev"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        pytest.param(f"satellite: true, {MORE}", [("error", "clerk.satellite")], id="no-domain"),
        pytest.param(f"satellite: true, proxy_url: https://www.sat.example/__clerk, {MORE}", [], id="a-proxy"),
        pytest.param("domain: sat.example", [("warning", "clerk.domain")], id="no-satellite"),
        pytest.param(f"satellite: true, domain: https://sat.example, {MORE}", [("error", "clerk.domain")], id="a-url"),
        pytest.param(f"satellite: true, domain: sat.example/x, {MORE}", [("error", "clerk.domain")], id="a-path"),
        pytest.param(f"satellite: true, domain: 'sat example', {MORE}", [("error", "clerk.domain")], id="no-name"),
        pytest.param("satellite: true, domain: sat.example", [("warning", "clerk.satellite")], id="no-handshake"),
        pytest.param(
            f"satellite: true, domain: sat.example, {MORE}".replace(SIGN_IN, "sign_in_url: /sign-in"),
            [("error", "clerk.sign_in_url")] * 2,
            id="a-sign-in-page-here",
        ),
    ],
)
def test_what_a_satellite_needs(text, found):
    assert serious(clerk(text)) == found


def test_a_satellite_in_development_needs_to_know_its_primary():
    text = "satellite: true, domain: sat.example, handshake: true, secret_key: sk_test_abcdefgh"
    assert serious(clerk(text, key=DEV)) == [("error", "clerk.satellite")]
    assert serious(clerk(f"{text}, sign_in_url: nowhere", key=DEV)) == [("error", "clerk.sign_in_url")]
