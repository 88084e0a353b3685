from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.claims import principal_from
from gateway.core.model import Principal
from gateway.core.verify import SignedToken
from gateway.errors import InvalidToken
from tests.fakes.clerk import M2M, SESSION, SILENT, TEMPLATE, FakeClerk

NOW = 1_700_000_000.0
CLERK = FakeClerk()
V1 = CLERK.session_claims(NOW, v=...)


def token(category: str | None = SESSION, **header: Any) -> SignedToken:
    return SignedToken(b"", {"alg": "RS256", "typ": "JWT"} | header, "ins_1", category, b"", b"", b"")


def principal(category: str | None = SESSION, **overrides: Any) -> Principal:
    return principal_from(CLERK.session_claims(NOW, **overrides), token(category))


def refusal(claims: dict[str, Any], signed: SignedToken) -> str | None:
    with pytest.raises(InvalidToken) as refused:
        principal_from(claims, signed)
    return refused.value.reason


def organisation(who: Principal) -> tuple[Any, ...]:
    return who.org_id, who.org_slug, who.org_role, who.org_permissions


NONE = (None, None, None, ())


def test_plain_session_token():
    claims = CLERK.session_claims(NOW)
    assert principal_from(claims, token()) == Principal(
        subject="user_1", token_type="session", claims=claims, audience=frozenset(), issued_at=NOW,
        expires_at=NOW + 60, user_id="user_1", session_id="sess_1", factor_age=(0, -1),
    )  # fmt: skip


# --- token class ---


@pytest.mark.parametrize(("category", "sid", "expected"), [
    pytest.param(SESSION, "sess_1", "session", id="session"),
    pytest.param(TEMPLATE, ..., "template", id="template"),
    pytest.param(TEMPLATE, "sess_1", "template", id="template-with-sid"),
    pytest.param(SILENT, "sess_1", "session", id="silent-with-sid"),
    pytest.param(SILENT, ..., "template", id="silent-without-sid"),
    pytest.param(None, "sess_1", "session", id="no-cat-with-sid"),
    pytest.param(None, ..., "template", id="no-cat-without-sid"),
    pytest.param(None, 7, "template", id="no-cat-sid-is-a-number"),
    pytest.param(None, "", "template", id="no-cat-sid-is-empty"),
])  # fmt: skip
def test_token_class(category, sid, expected):
    assert principal(category, sid=sid).token_type == expected


@pytest.mark.parametrize("sid", [..., None, "", 7, ["sess_1"]], ids=str)
def test_session_token_needs_a_session(sid):
    assert refusal(CLERK.session_claims(NOW, sid=sid), token()) == "token-verification-failed"


@pytest.mark.parametrize(("overrides", "signed"), [
    pytest.param({}, token(M2M), id="m2m"),
    pytest.param({}, token("cl_new"), id="unknown-cat"),
    pytest.param({}, token(""), id="empty-cat"),
    pytest.param({"sub": "mch_1"}, token(), id="machine-subject"),
    pytest.param({"sub": "mch_1"}, token(None), id="machine-subject-without-cat"),
    pytest.param({}, token(typ="at+jwt"), id="oauth-short"),
    pytest.param({}, token(None, typ="application/at+jwt"), id="oauth-long"),
])  # fmt: skip
def test_machine_and_unknown_tokens_are_of_the_wrong_type(overrides, signed):
    assert refusal(CLERK.session_claims(NOW, **overrides), signed) == "token-type-mismatch"


@pytest.mark.parametrize("change", [{"sub": ...}, {"sub": ""}, {"iat": ...}, {"exp": ...}, {"exp": "1"}], ids=str)
def test_what_every_token_has_may_not_be_missing(change):
    assert refusal(CLERK.session_claims(NOW, **change), token()) == "token-verification-failed"


@pytest.mark.parametrize(("subject", "user_id"), [
    ("user_1", "user_1"), ("legacy-id", "legacy-id"), ("User_1", "User_1"),
    ("org_1", None), ("ak_1", None), ("mt_1", None), ("m2m_1", None), ("oat_1", None),
])  # fmt: skip
def test_subject_of_another_kind_is_no_user(subject, user_id):
    who = principal(sub=subject)
    assert (who.subject, who.user_id, who.machine_id) == (subject, user_id, None)


# --- organisation ---


def v2(fea: Any = ..., **o: Any) -> Principal:
    return principal(fea=fea, o={"id": "org_1", "slg": "acme", "rol": "admin"} | o)


V1_CLAIMS = {
    "org_id": "org_9", "org_slug": "old", "org_role": "org:admin", "org_permissions": ["org:b:read", "org:a:read"],
}  # fmt: skip


def test_v1_organisation_keeps_the_order_of_permissions():
    who = principal_from(V1 | V1_CLAIMS, token())
    assert organisation(who) == ("org_9", "old", "org:admin", ("org:b:read", "org:a:read"))


@pytest.mark.parametrize(("change", "expected"), [
    pytest.param({"org_id": None}, NONE, id="id-is-null"),
    pytest.param({"org_id": 7}, NONE, id="id-is-a-number"),
    pytest.param({"org_id": ""}, NONE, id="id-is-empty"),
    pytest.param({"org_role": "basic_member"}, ("org_9", "old", "org:basic_member", ("org:b:read", "org:a:read")),
                 id="role-without-prefix"),
    pytest.param({"org_role": 7, "org_slug": [], "org_permissions": "org:a:read"}, ("org_9", None, None, ()),
                 id="wrong-types"),
    pytest.param({"org_permissions": ["org:a:read", 7]}, ("org_9", "old", "org:admin", ()), id="mixed-permissions"),
])  # fmt: skip
def test_v1_organisation_with_odd_values(change, expected):
    assert organisation(principal_from(V1 | V1_CLAIMS | change, token())) == expected


@pytest.mark.parametrize("version", [1, 3, "2", True, None, [2], 2.5], ids=str)
def test_only_the_number_two_is_version_two(version):
    claims = V1 | V1_CLAIMS | {"v": version, "o": {"id": "org_1", "rol": "member"}}
    assert principal_from(claims, token()).org_id == "org_9"


@pytest.mark.parametrize("version", [2, 2.0], ids=str)
@pytest.mark.parametrize("o", [..., None, "org_1", [], {}, {"id": 7, "rol": "admin"}, {"rol": "admin"}], ids=str)
def test_v2_without_organisation_ignores_v1_claims(version, o):
    assert organisation(principal(v=version, o=o, **V1_CLAIMS)) == NONE


def test_v2_role_gets_its_prefix_once():
    assert v2().org_role == "org:admin"
    assert v2(rol="org:admin").org_role == "org:admin"


@pytest.mark.parametrize("change", [{"slg": 1}, {"rol": None}, {"rol": ""}, {"per": 1, "fpm": []}], ids=str)
def test_v2_values_of_the_wrong_type_are_absent(change):
    who = v2("o:a", **({"per": "read", "fpm": "0"} | change))
    assert who.org_id == "org_1"
    assert who.org_slug == (None if "slg" in change else "acme")
    assert who.org_role == (None if "rol" in change else "org:admin")
    assert who.org_permissions == ()


def test_template_token_keeps_organisation_claims_it_has():
    assert organisation(principal(TEMPLATE, sid=..., v=..., **V1_CLAIMS))[:3] == ("org_9", "old", "org:admin")
    assert organisation(principal(TEMPLATE, sid=..., v=...)) == NONE


# --- permissions ---


@pytest.mark.parametrize(("fea", "per", "fpm", "expected"), [
    pytest.param("o:dashboard,o:teams", "manage,read", "3,2",
                 ["dashboard:manage", "dashboard:read", "teams:read"], id="docs"),
    pytest.param("o:teams,o:dashboard", "read,manage", "2,1", ["teams:manage", "dashboard:read"], id="order"),
    pytest.param("u:a,o:dashboard,u:b,o:teams,u:c", "manage,read", "3,2",
                 ["dashboard:manage", "dashboard:read", "teams:read"], id="users-features-do-not-count"),
    pytest.param("ou:a,uo:b,u:c,x:d,o:e", "read", "1,1,1", ["a:read", "b:read", "e:read"], id="double-scopes-count"),
    pytest.param(" o:a , o:b ", " read , write ", " 1 , 2 ", ["a:read", "b:write"], id="spaces"),
    pytest.param("o:a", ",".join(f"p{i}" for i in range(70)), str(2**69 + 2**53 + 1),
                 ["a:p0", "a:p53", "a:p69"], id="beyond-2-53"),
    pytest.param("o:a", "read", "255", ["a:read"], id="bits-past-the-end"),
    pytest.param("o:a,o:b", "read", "1", ["a:read"], id="fewer-maps-than-features"),
    pytest.param("o:a", "read", "1,1,1", ["a:read"], id="more-maps-than-features"),
    pytest.param("o:a", "", "1", [], id="empty-per"),
    pytest.param("o:a", "read", "", [], id="empty-fpm"),
    pytest.param("", "read", "1", [], id="no-features"),
    pytest.param("o:a,o:b", "read", "x,1", ["b:read"], id="map-is-no-number"),
    pytest.param("o:a,o:b", "read", "-1,+1", [], id="signs"),
    pytest.param("o:a,o:b,o:c", "read", "1_1,0x1,1.0", [], id="other-notations"),
    pytest.param("o:a,o:b", "read", "١,²", [], id="other-digits"),
    pytest.param("o:a,o:b", "read", ",1", ["b:read"], id="empty-map"),
    pytest.param("o:a,o:b", "read", "1" * 4300 + "," + "1" * 4301, ["a:read"], id="endless-number"),
    pytest.param("o:,o:b", "read", "1,1", ["b:read"], id="nameless-feature-keeps-its-place"),
    pytest.param("o:a", ",read", "3", ["a:read"], id="nameless-permission-keeps-its-place"),
    pytest.param("o:a:b", "read", "1", ["a:b:read"], id="cut-at-the-first-colon"),
])  # fmt: skip
def test_permissions_are_decoded(fea, per, fpm, expected):
    assert v2(fea, per=per, fpm=fpm).org_permissions == tuple(f"org:{each}" for each in expected)


@given(st.lists(st.sets(st.integers(0, 90)), max_size=6))
def test_permissions_round_trip(granted):
    names = [f"p{number}" for number in range(91)]
    who = v2(
        ",".join(f"o:f{index}" for index in range(len(granted))),
        per=",".join(names),
        fpm=",".join(str(sum(1 << bit for bit in bits)) for bits in granted),
    )
    assert who.org_permissions == tuple(f"org:f{i}:p{bit}" for i, bits in enumerate(granted) for bit in sorted(bits))


# --- features and plans ---


@pytest.mark.parametrize(("value", "expected"), [
    pytest.param("o:dashboard,u:export", {"o:dashboard", "u:export"}, id="both"),
    pytest.param("ou:x,uo:y", {"o:x", "u:x", "o:y", "u:y"}, id="each-letter"),
    pytest.param(" u:free , o:pro ", {"u:free", "o:pro"}, id="spaces"),
    pytest.param("u:,x:a,:b,O:c", set(), id="nameless-and-unknown-scopes"),
    pytest.param("", set(), id="empty"),
    pytest.param(7, set(), id="number"),
    pytest.param(["u:free"], set(), id="list"),
    pytest.param(None, set(), id="null"),
])  # fmt: skip
def test_features_and_plans_are_scoped(value, expected):
    assert principal(fea=value).features == expected
    assert principal(pla=value).plans == expected


@pytest.mark.parametrize("fea", ["dashboard", "o:a,b", "o:a,", ",", " "])
def test_feature_without_scope_makes_the_token_invalid(fea):
    assert refusal(CLERK.session_claims(NOW, fea=fea), token()) == "token-invalid"


def test_plan_without_scope_is_passed_over():
    assert principal(pla="pro,u:free").plans == {"u:free"}


# --- the rest ---


@pytest.mark.parametrize(("value", "expected"), [
    ([0, -1], (0, -1)), ([10, 5], (10, 5)), (..., None), (None, None), ([], None), ([1], None), ([1, 2, 3], None),
    (["1", 2], None), ([True, 1], None), ([1.0, 2], None), ([-2, 1], None), ([1, -5], None), ("12", None),
    ({"0": 1, "1": 2}, None),
], ids=str)  # fmt: skip
def test_factor_age_is_two_whole_minutes(value, expected):
    assert principal(fva=value).factor_age == expected


@pytest.mark.parametrize(("value", "expected"), [
    ({"sub": "user_2", "sid": "sess_2", "iss": "x"}, "user_2"), (..., None), ({}, None), ({"sub": 7}, None),
    ({"sub": ""}, None), ("user_2", None), (["user_2"], None),
], ids=str)  # fmt: skip
def test_actor_is_the_subject_of_act(value, expected):
    assert principal(act=value).actor == expected


@pytest.mark.parametrize(("value", "expected"), [
    ("pending", True), ("active", False), (..., False), (True, False), (["pending"], False), ("Pending", False),
], ids=str)  # fmt: skip
def test_pending(value, expected):
    assert principal(sts=value).pending is expected


@pytest.mark.parametrize(("value", "expected"), [
    ("convex", {"convex"}), (["a", "b"], {"a", "b"}), (..., set()), ([], set()), ("", set()), (None, set()),
    (["a", 7], set()), ([["a"]], set()), ({"a": 1}, set()),
], ids=str)  # fmt: skip
def test_audience(value, expected):
    assert principal(aud=value).audience == expected


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12) | st.sampled_from(["o:a,u:b", "2"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
NAMES = [
    "act",
    "aud",
    "exp",
    "fea",
    "fva",
    "iat",
    "o",
    "org_id",
    "org_permissions",
    "org_role",
    "pla",
    "sid",
    "sub",
    "v",
]
ORG = st.dictionaries(st.sampled_from(["id", "slg", "rol", "per", "fpm"]), JSON)


@given(
    st.dictionaries(st.sampled_from(NAMES), JSON),
    st.none() | ORG,
    st.booleans(),
    st.sampled_from([SESSION, TEMPLATE, SILENT, M2M, None]),
    st.dictionaries(st.just("typ"), JSON),
)
def test_any_claims_give_a_principal_or_invalid_token(claims, org, whole, category, header):
    full = (CLERK.session_claims(NOW) if whole else {}) | claims | ({} if org is None else {"o": org})
    try:
        who = principal_from(full, token(category, **header))
    except InvalidToken:
        return
    assert who.token_type in ("session", "template")
    assert who.org_id is not None or (who.org_role, who.org_permissions) == (None, ())
