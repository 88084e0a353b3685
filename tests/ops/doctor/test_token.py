import json

import pytest

from gateway.ops.doctor.instances import Known, instances_of
from gateway.ops.doctor.token import Around, near_origin, token
from tests.config.files import APP
from tests.fakes.clerk import FakeClerk
from tests.ops.doctor.world import CLERK, KEYED, NOW, OTHER, configured, keys_of, levels, pem_of, said

DEVELOPMENT = FakeClerk("https://happy-cat-1.clerk.accounts.dev", kid="ins_dev", key_name="second")
TOLD = {"email": "ada@example.com", "name": "Ada"}


def around(*, clerk=KEYED, known=None, now=NOW, ahead_s=0.0, is_enriched=True, **sections):
    config = configured(**({"clerk": clerk} | sections))
    keys = {"https://clerk.example.com": Known(keys_of(CLERK)) if known is None else known}
    return Around(instances_of(config), keys, config.routes, now, ahead_s, is_enriched)


def judged(raw, **options):
    return token(raw, around(**options))


def only(raw, **options):
    found = judged(raw, **options)
    assert len(found) == 1, said(found)
    return said(found)


def test_a_good_token_is_good_and_for_how_long():
    assert only(CLERK.session_token(NOW)) == "ok token: good: of user_1, for another 60 s -> None"


def test_what_is_no_token_or_has_a_header_that_is_not_taken():
    assert "has 1 part" in only("abc")
    assert "401 token-invalid-algorithm" in only(CLERK.mint(CLERK.session_claims(NOW), header={"alg": "HS256"}))


def test_a_key_of_another_instance_is_found_by_its_kid():
    stranger = FakeClerk(kid="ins_stranger", key_name="second")
    found = only(stranger.session_token(NOW))
    assert 'key "ins_stranger", which https://clerk.example.com does not publish (401 jwk-kid-mismatch)' in found
    assert "another Clerk instance" in found


def test_mixed_keys_are_told_by_whose_the_kid_is():
    mixed = FakeClerk(kid="ins_other", key_name="second")
    found = only(mixed.session_token(NOW), known=Known(keys_of(CLERK), keys_of(OTHER)))
    assert "secret key's instance's: mixed keys" in found


def test_a_token_without_a_kid_is_none_of_clerks():
    assert "names no key (kid)" in only(CLERK.mint(CLERK.session_claims(NOW), drop_header=["kid"]))


def test_a_forged_signature_is_found():
    forged = FakeClerk(key_name="second").session_token(NOW)
    assert "is not signed with https://clerk.example.com's key (401 token-invalid-signature)" in only(forged)


def test_a_wrong_jwt_key_is_found():
    clerk = f"{{issuer: clerk.example.com, jwt_key: {pem_of(OTHER)}}}"
    assert "is not signed with clerk.jwt_key" in only(CLERK.session_token(NOW), clerk=clerk)
    good = f"{{issuer: clerk.example.com, jwt_key: {pem_of(CLERK)}}}"
    assert only(CLERK.session_token(NOW), clerk=good, known=Known()).startswith("ok")


def test_without_keys_nothing_is_called_good():
    found = only(CLERK.session_token(NOW), known=Known())
    assert "cannot be told without the issuer's keys" in found


@pytest.mark.parametrize(
    ("issuer", "words"),
    [
        pytest.param("https://clerk.elsewhere.example", ["issuer here is https://clerk.example.com", "Set CLERK_JWT_ISSUER_DOMAIN to https://clerk.elsewhere.example"], id="another"),
        pytest.param("https://clerk.example.com/", ["ends in a slash"], id="slash"),
        pytest.param("https://happy-cat-1.clerk.accounts.dev", ["development instance", "pk_test_"], id="development"),
        pytest.param(None, ["names no issuer"], id="none"),
        pytest.param(5, ["names no issuer"], id="number"),
    ],
)  # fmt: skip
def test_another_issuer_is_named_with_the_variable(issuer, words):
    found = only(CLERK.session_token(NOW, iss=issuer))
    assert "401 token-invalid-issuer" in found
    for word in words:
        assert word in found


def test_a_production_token_at_a_development_gateway_is_told():
    found = said(judged(CLERK.session_token(NOW), clerk="{issuer: happy-cat-1.clerk.accounts.dev}", known=Known()))
    assert "pk_live_…, the gateway a development key" in found


@pytest.mark.parametrize(
    ("azp", "words"),
    [
        pytest.param("https://evil.example", ['azp "https://evil.example" is not listed', "Add https://evil.example under clerk.authorized_parties (CLERK_AUTHORIZED_PARTIES)"], id="another"),
        pytest.param("http://app.example.com", [f'it has "{APP}"', "must be equal"], id="scheme"),
        pytest.param("https://www.app.example.com", [f'it has "{APP}"'], id="www"),
        pytest.param(APP + "/", [f'it has "{APP}"'], id="slash"),
        pytest.param(..., ["names no party", "azp_missing: accept"], id="missing"),
        pytest.param("", ["names no party"], id="empty"),
    ],
)  # fmt: skip
def test_a_party_that_is_not_listed_is_named(azp, words):
    found = only(CLERK.session_token(NOW, azp=azp))
    assert "401 token-invalid-authorized-parties" in found
    for word in words:
        assert word in found


def test_parties_are_looked_at_only_where_some_are_listed():
    lax = f"{{issuer: clerk.example.com, authorized_parties: [{APP}], azp_missing: accept}}"
    assert only(CLERK.session_token(NOW, azp=...), clerk=lax).startswith("ok")
    assert only(CLERK.session_token(NOW, azp="https://x.example"), clerk="{issuer: clerk.example.com}").startswith("ok")


def test_another_audience_is_named():
    clerk = f"{{issuer: clerk.example.com, authorized_parties: [{APP}], audience: [api]}}"
    assert 'aud is "convex", not one of api' in only(CLERK.session_token(NOW, aud="convex"), clerk=clerk)
    assert "['convex', 5]" in only(CLERK.session_token(NOW, aud=["convex", 5]), clerk=clerk)
    assert only(CLERK.session_token(NOW, aud=["api"]), clerk=clerk).startswith("ok")
    assert only(CLERK.session_token(NOW), clerk=clerk).startswith("ok")


def test_an_expired_token_says_by_how_much():
    found = only(CLERK.session_token(NOW - 600))
    assert "expired 9 min ago (401 token-expired)" in found
    assert "getToken()" in found


def test_one_that_has_expired_by_a_wrong_clock_alone_says_so():
    found = only(CLERK.session_token(NOW - 90), ahead_s=-90.0)
    assert "has expired by this machine's clock, which is 90 s ahead of Clerk's" in found
    assert "timedatectl" in found


@pytest.mark.parametrize(
    ("claims", "words"),
    [
        pytest.param({"nbf": int(NOW) + 30}, "nbf is 30 s from now (401 token-not-active-yet)", id="nbf"),
        pytest.param({"iat": int(NOW) + 40}, "iat is 40 s from now (401 token-iat-in-the-future)", id="iat"),
        pytest.param({"exp": ...}, "lacks exp or iat", id="no-exp"),
        pytest.param({"iat": True}, "lacks exp or iat", id="iat-is-bool"),
        pytest.param({"sub": ""}, "says nobody's name (sub)", id="no-sub"),
    ],
)
def test_other_claims_are_named(claims, words):
    assert words in only(CLERK.session_token(NOW, **claims))


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        pytest.param(b'{"sub": "user_2", %b', "token-invalid", id="a-claim-twice"),
        pytest.param(b'{"nbf": "soon", %b', "token-verification-failed", id="nbf-is-text"),
    ],
)
def test_whatever_else_the_gateway_refuses_is_not_called_good(payload, reason):
    claims = CLERK.session_claims(NOW, nbf=...)
    body = payload % json.dumps(claims).encode()[1:]
    head = json.dumps({"alg": "RS256", "typ": "JWT", "kid": CLERK.kid}).encode()
    assert f"(401 {reason})" in only(CLERK.sign(head, body))


def test_everything_is_said_at_once():
    found = said(judged(CLERK.session_token(NOW - 600, azp="https://x.example", iss="https://y.example")))
    for word in ("azp", "iss is", "expired"):
        assert word in found


def test_without_an_instance_no_token_is_read():
    public = "[{path: /*, upstream: api, auth: public}]"
    assert "no Clerk instance" in only(CLERK.session_token(NOW), clerk="{}", routes=public)


def test_of_several_the_one_is_judged_by_that_it_is_of():
    several = "[{name: a, issuer: clerk.example.com}, {name: b, issuer: happy-cat-1.clerk.accounts.dev}]"
    keys = {"https://clerk.example.com": Known(keys_of(CLERK)), DEVELOPMENT.issuer: Known(keys_of(DEVELOPMENT))}
    config = configured(clerk="{}", issuers=several)
    given = Around(instances_of(config), keys, config.routes, NOW, is_enriched=True)
    assert levels(token(DEVELOPMENT.session_token(NOW), given)) == ["ok"]
    # One's key under the other's name is a forgery.
    assert "jwk-kid-mismatch" in said(token(DEVELOPMENT.session_token(NOW, iss=CLERK.issuer), given))
    # Of an unknown name it is the key that tells.
    assert "iss is" in said(token(DEVELOPMENT.session_token(NOW, iss="https://x.example"), given))


def test_what_it_is_for_comes_last():
    template = CLERK.template_token(NOW, **TOLD)
    assert "is a template token" in only(template)
    assert "route rest does not take (401 token-type-mismatch)" in only(CLERK.m2m_token(NOW))
    assert "is an API key" in only("ak_abcdefgh")
    assert levels(judged(CLERK.session_token(NOW), is_enriched=False)) == ["warning"]


def test_no_part_of_a_token_is_shown():
    raw = CLERK.session_token(NOW - 600, azp="https://x.example", iss="https://y.example")
    found = said(judged(raw))
    assert not any(part in found for part in raw.split("."))


def test_origins_that_are_almost_alike_are_found():
    known = frozenset({"https://app.example.com", "https://[::1]"})
    assert near_origin("http://APP.example.com:3000/", known) == "https://app.example.com"
    assert near_origin("https://example.com", known) is None
    assert near_origin("http://[::1]", known) == "https://[::1]"
