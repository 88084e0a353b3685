import math
from typing import Any

import pytest

from gateway.core.machine import (
    LIFE_S,
    MachinePolicy,
    check_audience,
    check_carried,
    check_class,
    check_opaque,
    check_type,
    jwt_kind,
    opaque_kind,
    principal_from_answer,
    principal_from_jwt,
    remembered_until,
    taken_by,
)
from gateway.core.model import BackendAddress, Principal
from gateway.core.policy import Admission
from gateway.core.verify import SignedToken, TokenPolicy, read_token
from gateway.errors import InvalidToken
from tests.fakes.clerk import M2M, SESSION, SILENT, TEMPLATE, FakeClerk
from tests.fakes.machine_tokens import api_key, m2m_token, oauth_token

NOW = 1_700_000_000.0
CLERK = FakeClerk()
POLICY = TokenPolicy(frozenset({"https://elsewhere.example"}), frozenset({"https://app.example.com"}))


def reason(call: Any, *args: Any, **more: Any) -> str | None:
    with pytest.raises(InvalidToken) as refused:
        call(*args, **more)
    return refused.value.reason


def jwt(claims: dict[str, Any], **header: Any) -> SignedToken:
    return read_token(CLERK.mint(claims, header=header, drop_header=("cat",) if "cat" not in header else ()).encode())


def who(made: dict[str, Any], kind: str = "api_key", *, asked_at: float = NOW) -> Principal:
    return principal_from_answer(kind, made, asked_at=asked_at)


# --- form ---


@pytest.mark.parametrize(("raw", "kind"), [
    (b"ak_LCWGdaM8mv8K4PC/57IICZQXAeWfCgF30DZaFXHoGn9=", "api_key"), (b"mt_x", "m2m"), (b"m2m_x", "m2m"),
    (b"oat_x", "oauth"), (b"ak_", "api_key"), (b"AK_x", None), (b"mch_x", None), (b"x.ak_.y", None), (b"", None),
    (b"ak-x", None), (b" ak_x", None),
])  # fmt: skip
def test_opaque_tokens_are_told_by_their_prefix(raw, kind):
    assert opaque_kind(raw) == kind


@pytest.mark.parametrize("raw", [
    b"ak_", b"ak_a b", b"ak_a,ak_b", b"ak_a.b.c", b"mt_\xff", b"oat_a\x00", b"ak_a\n", b"ak_" + b"a" * 510, b'ak_"',
    b"ak_a;", b"ak_%41",
], ids=str)  # fmt: skip
def test_what_cannot_be_one_of_clerks(raw):
    assert reason(check_opaque, raw) == "token-invalid"


@pytest.mark.parametrize("raw", [b"ak_LCW/57I+-_=", b"mt_8XOI", b"m2m_ey96", b"oat_8X", b"ak_" + b"a" * 509], ids=len)
def test_what_may_be_one_of_clerks(raw):
    check_opaque(raw)


@pytest.mark.parametrize(("claims", "header", "kind"), [
    pytest.param({"sub": "mch_1"}, {"cat": M2M}, "m2m", id="m2m"),
    pytest.param({"sub": "mch_1"}, {"cat": SESSION}, "m2m", id="m2m-whatever-cat"),
    pytest.param({"sub": "mch_1"}, {"typ": "at+jwt"}, "m2m", id="both"),
    pytest.param({"sub": "user_1"}, {"typ": "at+jwt"}, "oauth", id="oauth"),
    pytest.param({"sub": "user_1"}, {"typ": "application/at+jwt"}, "oauth", id="oauth-long"),
    pytest.param({"sub": "user_1"}, {"cat": SESSION}, None, id="session"),
    pytest.param({"sub": "user_1", "azp": "mch_1"}, {}, None, id="elsewhere"),
    pytest.param({"sub": ["mch_1"]}, {}, None, id="a-list"),
    pytest.param({"sub": "user_mch_1"}, {}, None, id="not-in-front"),
])  # fmt: skip
def test_jwts_are_told_by_subject_and_type(claims, header, kind):
    assert jwt_kind(jwt(claims, **header)) == kind


def test_an_escaped_subject_is_read_as_what_it_says():
    token = read_token(CLERK.sign(b'{"alg": "RS256"}', b'{"sub": "\\u006dch_1"}').encode())
    assert jwt_kind(token) == "m2m"
    assert jwt_kind(token._replace(payload=b'{"sub": "mch_1"')) is None


EVERY = {"session", "template", "api_key", "m2m", "oauth"}


@pytest.mark.parametrize(("kind", "category", "good"), [
    ("api_key", None, {"api_key"}), ("m2m", SESSION, {"m2m"}), ("oauth", None, {"oauth"}),
    (None, SESSION, {"session"}), (None, TEMPLATE, {"template"}), (None, None, {"session", "template"}),
    (None, SILENT, {"session", "template"}), (None, M2M, set()), (None, "cl_new", set()), (None, "", set()),
])  # fmt: skip
def test_a_form_is_taken_where_its_type_is(kind, category, good):
    for taken in EVERY:
        if taken in good:
            check_type(kind, category, frozenset({taken}))
        else:
            assert reason(check_type, kind, category, frozenset({taken})) == "token-type-mismatch"


def test_machines_are_taken_in_authorization_alone():
    admission = Admission(frozenset(EVERY))
    assert taken_by(admission, in_authorization=True) == EVERY
    assert taken_by(admission, in_authorization=False) == {"session", "template"}


def test_a_remembered_machine_token_counts_nowhere_else():
    check_carried(Principal("user_1", "session", {}, frozenset(), 0, 60))
    for kind in ("api_key", "m2m", "oauth"):
        assert reason(check_carried, Principal("x", kind, {}, frozenset(), 0, 60)) == "token-type-mismatch"


# --- JWT ---


@pytest.mark.parametrize(("kind", "header", "refusal"), [
    pytest.param("m2m", {"cat": M2M}, None, id="m2m"),
    pytest.param("m2m", {}, None, id="m2m-of-before"),
    pytest.param("m2m", {"cat": SESSION}, "token-invalid", id="session"),
    pytest.param("m2m", {"cat": TEMPLATE}, "token-invalid", id="template"),
    pytest.param("m2m", {"cat": SILENT}, "token-invalid", id="silent"),
    pytest.param("m2m", {"cat": M2M, "typ": "at+jwt"}, "token-verification-failed", id="m2m-typed-as-oauth"),
    pytest.param("oauth", {"typ": "at+jwt"}, None, id="oauth"),
])  # fmt: skip
def test_a_jwt_was_minted_as_what_it_looks_like(kind, header, refusal):
    token = jwt({"sub": "mch_1"}, **header)
    if refusal is None:
        check_class(kind, token)
    else:
        assert reason(check_class, kind, token) == refusal


def of_jwt(kind: str, claims: dict[str, Any], policy: TokenPolicy = POLICY) -> Principal:
    return principal_from_jwt(kind, claims, policy, now=NOW)


def test_an_m2m_jwt_is_a_machine():
    claims = CLERK.machine_claims(NOW, org_id="org_1", org_role="admin", sid="sess_1", act={"sub": "user_9"})
    assert of_jwt("m2m", claims) == Principal(
        subject="mch_1", token_type="m2m", claims=claims, audience=frozenset(), issued_at=NOW, expires_at=NOW + 300,
        machine_id="mch_1", scopes=("mch_2", "mch_3"),
    )  # fmt: skip


def test_an_oauth_jwt_is_its_user():
    claims = CLERK.oauth_claims(NOW, aud="files", act={"sub": "user_9"}, sid="sess_1", o={"id": "org_1"}, v=2)
    assert of_jwt("oauth", claims) == Principal(
        subject="user_1", token_type="oauth", claims=claims, audience=frozenset({"files"}), issued_at=NOW,
        expires_at=NOW + 300, user_id="user_1", actor="user_9", scopes=("profile", "email"),
    )  # fmt: skip


@pytest.mark.parametrize(("kind", "claims", "scopes"), [
    pytest.param("m2m", {"scopes": "a  b "}, ("a", "b"), id="m2m-text"),
    pytest.param("m2m", {"scopes": ["a"], "aud": ["b"]}, (), id="m2m-list"),
    pytest.param("m2m", {"scopes": ..., "aud": ["mch_3", "mch_2"]}, ("mch_3", "mch_2"), id="m2m-audience"),
    pytest.param("m2m", {"scopes": ..., "aud": "mch_3"}, ("mch_3",), id="m2m-one-audience"),
    pytest.param("m2m", {"scopes": ..., "aud": ["mch_3", 7]}, (), id="m2m-odd-audience"),
    pytest.param("m2m", {"scopes": ...}, (), id="m2m-none"),
    pytest.param("oauth", {"scp": ["a", "b"], "scope": "c"}, ("a", "b"), id="oauth-scp"),
    pytest.param("oauth", {"scp": "a b"}, (), id="oauth-scp-text"),
    pytest.param("oauth", {"scope": "a b"}, ("a", "b"), id="oauth-scope"),
    pytest.param("oauth", {"scope": ..., "scopes": "a"}, (), id="oauth-none"),
])  # fmt: skip
def test_scopes_of_a_jwt(kind, claims, scopes):
    made = CLERK.machine_claims if kind == "m2m" else CLERK.oauth_claims
    assert of_jwt(kind, made(NOW, **claims)).scopes == scopes


@pytest.mark.parametrize(("kind", "claims", "refusal"), [
    pytest.param("m2m", {"exp": NOW - 5}, "token-expired", id="expired"),
    pytest.param("m2m", {"exp": ...}, "token-verification-failed", id="no-exp"),
    pytest.param("oauth", {"exp": True}, "token-verification-failed", id="exp-is-bool"),
    pytest.param("oauth", {"iat": ...}, "token-verification-failed", id="no-iat"),
    pytest.param("m2m", {"nbf": NOW + 6}, "token-not-active-yet", id="nbf"),
    pytest.param("m2m", {"iat": NOW + 6}, "token-iat-in-the-future", id="iat"),
    pytest.param("m2m", {"sub": "user_1"}, "token-verification-failed", id="a-users-m2m"),
    pytest.param("oauth", {"sub": "org_1"}, "token-verification-failed", id="an-organisations-oauth"),
    pytest.param("oauth", {"sub": "mch_1"}, "token-verification-failed", id="a-machines-oauth"),
    pytest.param("oauth", {"sub": ""}, "token-verification-failed", id="nobodys"),
    pytest.param("oauth", {"sub": 7}, "token-verification-failed", id="a-numbers"),
])  # fmt: skip
def test_claims_of_a_jwt_that_are_not_good(kind, claims, refusal):
    made = CLERK.machine_claims if kind == "m2m" else CLERK.oauth_claims
    assert reason(of_jwt, kind, made(NOW, **claims)) == refusal


@pytest.mark.parametrize(("kind", "aud", "is_good"), [
    ("oauth", "files", True), ("oauth", ["x", "files"], True), ("oauth", ..., False), ("oauth", [], False),
    ("oauth", "x", False), ("oauth", ["files", 7], False), ("oauth", None, False),
    ("m2m", ..., True), ("m2m", "files", True), ("m2m", "x", False),
])  # fmt: skip
def test_an_oauth_token_needs_the_audience_and_an_m2m_token_may_not_have_another(kind, aud, is_good):
    policy = TokenPolicy(frozenset(), audience=frozenset({"files"}))
    claims = (CLERK.machine_claims if kind == "m2m" else CLERK.oauth_claims)(NOW, aud=aud)
    if is_good:
        of_jwt(kind, claims, policy)
    else:
        assert reason(of_jwt, kind, claims, policy) == "token-verification-failed"


# --- an answer of Clerk's ---


def test_an_api_key_of_a_user():
    assert who(api_key()) == Principal(
        subject="user_1", token_type="api_key", claims={"plan": "pro", "sub": "user_1", "jti": "ak_1"},
        audience=frozenset(), issued_at=NOW, expires_at=math.inf, user_id="user_1", scopes=("read", "write"),
        key_id="ak_1",
    )  # fmt: skip


def test_an_api_key_of_an_organisation():
    key = who(api_key(subject="org_1", claims={"aud": "files", "sub": "user_1", "jti": "x", "act": {"sub": "user_2"}}))
    assert (key.user_id, key.org_id, key.org_role, key.org_permissions) == (None, "org_1", None, ())
    assert (key.claims["sub"], key.claims["jti"], key.audience, key.actor) == ("org_1", "ak_1", {"files"}, None)


def test_an_opaque_m2m_token():
    machine = who(m2m_token(claims={"team": "a"}), "m2m")
    assert (machine.machine_id, machine.user_id, machine.key_id, machine.scopes) == ("mch_1", None, None, ("mch_2",))
    assert machine.claims == {"team": "a", "sub": "mch_1", "jti": "mt_1"}


def test_an_opaque_oauth_token_says_what_its_jwt_would():
    app = who(oauth_token(aud=["files"], act={"sub": "user_9"}, claims={"sub": "x"}), "oauth")
    assert (app.user_id, app.actor, app.audience, app.scopes) == ("user_1", "user_9", {"files"}, ("profile", "email"))
    assert app.claims == {
        "client_id": "client_1", "aud": ["files"], "act": {"sub": "user_9"}, "sub": "user_1", "jti": "oat_1",
    }  # fmt: skip


@pytest.mark.parametrize(("made", "refusal"), [
    pytest.param({"revoked": True}, "token-invalid", id="revoked"),
    pytest.param({"revoked": True, "expired": True}, "token-invalid", id="both"),
    pytest.param({"expired": True}, "token-expired", id="expired"),
    pytest.param({"expiration": NOW * 1000}, "token-expired", id="over-by-our-clock"),
    pytest.param({"expiration": NOW}, "token-expired", id="over-in-seconds"),
    pytest.param({"expiration": 0}, "token-expired", id="long-over"),
])  # fmt: skip
def test_what_is_not_good_any_more(made, refusal):
    assert reason(who, api_key(**made)) == refusal


@pytest.mark.parametrize(("kind", "answer"), [
    pytest.param("api_key", {}, id="empty"),
    pytest.param("api_key", [], id="list"),
    pytest.param("api_key", None, id="null"),
    pytest.param("api_key", "ak_1", id="text"),
    pytest.param("api_key", api_key(revoked=None), id="revoked-null"),
    pytest.param("api_key", api_key(revoked=0), id="revoked-number"),
    pytest.param("api_key", api_key(expired="false"), id="expired-text"),
    pytest.param("api_key", api_key(expiration="tomorrow"), id="expiration-text"),
    pytest.param("api_key", api_key(expiration=True), id="expiration-bool"),
    pytest.param("api_key", api_key(expiration=-1), id="expiration-negative"),
    pytest.param("api_key", api_key(id=None), id="no-id"),
    pytest.param("api_key", api_key(subject=""), id="no-subject"),
    pytest.param("api_key", api_key(subject="mch_1"), id="a-machines-key"),
    pytest.param("api_key", api_key(subject="ak_1"), id="a-keys-key"),
    pytest.param("m2m", m2m_token(subject="user_1"), id="a-users-m2m"),
    pytest.param("oauth", oauth_token(subject="org_1"), id="an-organisations-oauth"),
    pytest.param("oauth", oauth_token(subject="mch_1"), id="a-machines-oauth"),
])  # fmt: skip
def test_what_is_no_answer(kind, answer):
    with pytest.raises(ValueError, match=r"does not say|ends at no|names no|has a subject"):
        who(answer, kind)


@pytest.mark.parametrize(
    "members", [{"scopes": None}, {"scopes": "read"}, {"scopes": ["read", 7]}, {"claims": []}], ids=str
)
def test_what_is_odd_gives_no_rights(members):
    key = who(api_key(**members))
    assert key.scopes == () if "scopes" in members else key.claims == {"sub": "user_1", "jti": "ak_1"}


@pytest.mark.parametrize(("expiration", "until"), [
    (None, NOW + LIFE_S), ((NOW + 30) * 1000, NOW + 30), (NOW + 30, NOW + 30), ((NOW + 90) * 1000, NOW + LIFE_S),
], ids=str)  # fmt: skip
def test_a_verdict_is_believed_for_a_minute_and_never_beyond_the_tokens_end(expiration, until):
    assert remembered_until(who(api_key(expiration=expiration))) == until


def test_an_opaque_oauth_token_needs_the_instances_audience():
    policy = TokenPolicy(frozenset(), audience=frozenset({"files"}))
    check_audience(who(oauth_token(aud=["x", "files"]), "oauth"), policy)
    check_audience(who(oauth_token(), "oauth"), POLICY)
    check_audience(who(api_key()), policy)
    for aud in (None, [], ["x"], ["files", 7]):
        assert reason(check_audience, who(oauth_token(aud=aud), "oauth"), policy) == "token-verification-failed"


def test_whom_to_ask():
    keyed, machine = (BackendAddress("https://api.example.com", key) for key in ("sk_live_secret", "ak_secret"))
    policy = MachinePolicy(keyed, machine)
    assert [policy.address(kind) for kind in ("api_key", "m2m", "oauth")] == [keyed, machine, keyed]
    assert "secret" not in repr(policy).replace("secret_key", "")
