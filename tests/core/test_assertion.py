import pytest

from gateway.core.assertion import Span, claims_of, span_of
from gateway.core.model import Principal
from gateway.errors import InternalError

ALICE = Principal(
    "user_1", "session", {}, frozenset(), 1000.0, 1060.0, user_id="user_1", session_id="sess_1", org_id="org_1",
    org_slug="acme", org_role="org:admin", org_permissions=("org:a:read", "org:a:write"), actor="user_2",
)  # fmt: skip
SPAN = Span(1000, 995, 1060, 1050.0)
TO = {"issuer": "https://gw.example.com", "audience": "api", "jti": "0f"}


def test_everything_known_is_said():
    assert claims_of(ALICE, SPAN, **TO) == {
        "iss": "https://gw.example.com", "aud": "api", "sub": "user_1", "iat": 1000, "nbf": 995, "exp": 1060,
        "jti": "0f", "sid": "sess_1", "org_id": "org_1", "org_slug": "acme", "org_role": "org:admin",
        "org_permissions": ["org:a:read", "org:a:write"], "token_type": "session", "act": {"sub": "user_2"},
    }  # fmt: skip


def test_what_is_not_known_is_left_out():
    machine = Principal("mch_1", "m2m", {}, frozenset(), 0.0, 60.0, machine_id="mch_1")
    assert set(claims_of(machine, SPAN, **TO)) == {"iss", "aud", "sub", "iat", "nbf", "exp", "jti", "token_type"}


def test_permissions_can_be_left_out():
    said = claims_of(ALICE, SPAN, **TO, with_permissions=False)
    assert set(claims_of(ALICE, SPAN, **TO)) - set(said) == {"org_permissions"}


def test_claims_of_the_token_are_never_passed_on():
    said = claims_of(ALICE._replace(claims={"iss": "x", "aud": "y", "exp": 9**9, "email": "a@b.c"}), SPAN, **TO)
    assert said == claims_of(ALICE, SPAN, **TO)


@pytest.mark.parametrize(
    ("change", "gone"),
    [
        pytest.param({"org_slug": "a\ud800"}, {"org_slug"}, id="slug"),
        pytest.param({"actor": "\udfff"}, {"act"}, id="actor"),
        pytest.param({"org_permissions": ("\ud800",)}, {"org_permissions"}, id="permission"),
    ],
)
def test_what_has_no_form_in_utf_8_is_left_out(change, gone):
    said = claims_of(ALICE._replace(**change), SPAN, **TO)
    assert set(claims_of(ALICE, SPAN, **TO)) - set(said) == gone


def test_a_subject_without_a_form_names_nobody():
    with pytest.raises(InternalError):
        claims_of(ALICE._replace(subject="user_\ud800"), SPAN, **TO)


@pytest.mark.parametrize(
    ("ttl_s", "token_ends", "expires", "renew"),
    [
        pytest.param(60, 5000, 1060, 1050, id="by-its-own-age"),
        pytest.param(60, float("inf"), 1060, 1050, id="token-without-end"),
        pytest.param(60, 1030, 1035, 1035, id="ends-with-its-token-and-the-skew"),
        pytest.param(60, 1055, 1060, 1060, id="both-at-once"),
        pytest.param(60, 1055.5, 1060, 1050, id="half-a-second-later"),
        pytest.param(10, 5000, 1010, 1005, id="shorter-than-the-margin"),
        pytest.param(5, 5000, 1005, 1002.5, id="shortest"),
        pytest.param(3600, 1000, 1005, 1005, id="token-that-is-over-but-for-the-skew"),
    ],
)
def test_how_long_it_is_good(ttl_s, token_ends, expires, renew):
    span = span_of(now=1000.0, ttl_s=ttl_s, token_ends=token_ends, skew_s=5)
    assert (span.issued_at, span.not_before) == (1000, 995)
    assert (span.expires_at, span.renew_at) == (expires, renew)


def test_times_are_whole_seconds_and_never_later_than_they_may_be():
    span = span_of(now=1000.9, ttl_s=60, token_ends=5000, skew_s=0.5)
    assert span == Span(1000, 1000, 1060, 1050.0)
    assert all(type(each) is int for each in (span.issued_at, span.not_before, span.expires_at))
