from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.model import Principal
from gateway.core.policy import (
    ABSENT,
    Admission,
    Requirement,
    admit,
    authorise,
    claim_at,
    with_org_prefix,
    with_scopes,
)
from gateway.errors import Forbidden, InvalidToken, MissingCredential


def principal(**facts: Any) -> Principal:
    known: dict[str, Any] = {"claims": {}, "audience": frozenset(), "issued_at": 0, "expires_at": 60}
    return Principal(**({"subject": "user_1", "token_type": "session"} | known | facts))


ADMIN = principal(
    org_id="org_1", org_slug="acme", org_role="org:admin", org_permissions=("org:dashboard:read", "org:teams:read")
)


@pytest.mark.parametrize(
    ("facts", "admission", "reason"),
    [
        pytest.param({"token_type": "template"}, Admission(), "token-type-mismatch", id="template-by-default"),
        pytest.param({}, Admission(token_types=frozenset({"template"})), "token-type-mismatch", id="session-refused"),
        pytest.param({}, Admission(token_types=frozenset()), "token-type-mismatch", id="no-type-admitted"),
        pytest.param({}, Admission(audience=frozenset({"convex"})), "token-verification-failed", id="no-audience"),
        pytest.param(
            {"audience": frozenset({"other"})},
            Admission(audience=frozenset({"convex"})),
            "token-verification-failed",
            id="other-audience",
        ),
        pytest.param({"pending": True}, Admission(), "session-pending", id="pending"),
        pytest.param({"issuer": "one"}, Admission(issuer="two"), "token-invalid-issuer", id="another-instance"),
    ],
)
def test_admit_refuses(facts, admission, reason):
    with pytest.raises(InvalidToken) as refused:
        admit(principal(**facts), admission)
    assert refused.value.reason == reason


@pytest.mark.parametrize(
    ("facts", "admission"),
    [
        pytest.param({}, Admission(), id="session"),
        pytest.param({"audience": frozenset({"any"})}, Admission(), id="audience-not-asked"),
        pytest.param({"pending": True}, Admission(allow_pending=True), id="pending-allowed"),
        pytest.param(
            {"token_type": "template", "audience": frozenset({"convex", "other"})},
            Admission(frozenset({"session", "template"}), frozenset({"convex", "third"})),
            id="template-for-audience",
        ),
    ],
)
def test_admit_takes(facts, admission):
    admit(principal(**facts), admission)


def only(**keys: Any) -> Requirement:
    sets = {key: frozenset(value) if isinstance(value, set) else value for key, value in keys.items()}
    return Requirement(**sets)


CLAIMS: dict[str, Any] = {
    "tier": "gold",
    "level": 1,
    "beta": True,
    "none": None,
    "tags": ["a", "b"],
    "flags": [True, 0],
    "public_metadata": {"team": {"name": "core"}, "list": [1, 2]},
    "https://example.com/role": "boss",
    "public_metadata.shadow": "top",
}

REFUSALS = [
    pytest.param(principal(), only(org_any=True), "org", id="no-organisation"),
    pytest.param(principal(org_id=""), only(org_any=True), "org", id="empty-organisation"),
    pytest.param(ADMIN, only(orgs={"org_2"}), "org", id="another-organisation"),
    pytest.param(ADMIN, only(orgs={""}), "org", id="empty-slug-wanted"),
    pytest.param(principal(org_id="org_1"), only(orgs={""}), "org", id="no-slug"),
    pytest.param(principal(org_id="org_1", org_slug=""), only(orgs={""}), "org", id="empty-slug"),
    pytest.param(principal(org_slug="acme"), only(orgs={"acme"}), "org", id="slug-without-organisation"),
    pytest.param(principal(org_id="org_9", org_slug="org_1"), only(orgs={"org_1"}), "org", id="slug-posing-as-id"),
    pytest.param(ADMIN, only(roles={"org:owner"}), "role", id="another-role"),
    pytest.param(principal(org_id="org_1"), only(roles={"org:admin"}), "role", id="no-role"),
    pytest.param(principal(org_role="org:admin"), only(roles={"org:admin"}), "role", id="role-without-organisation"),
    pytest.param(ADMIN, only(permissions={"org:teams:manage"}), "permission", id="another-permission"),
    pytest.param(
        principal(org_permissions=("org:a:b",)),
        only(permissions={"org:a:b"}),
        "permission",
        id="permission-without-organisation",
    ),
    pytest.param(
        principal(org_id="org_1", org_permissions=("org:a:b",), org_role="org:x"),
        only(roles={"org:y"}, permissions={"org:a:b"}),
        "role",
        id="every-key-must-hold",
    ),
    pytest.param(principal(plans=frozenset({"u:free"})), only(plans=with_scopes(["pro"])), "plan", id="another-plan"),
    pytest.param(principal(plans=frozenset({"u:pro"})), only(plans=with_scopes(["o:pro"])), "plan", id="other-scope"),
    pytest.param(
        principal(features=frozenset({"o:x"})), only(features=with_scopes(["user:x"])), "feature", id="feature"
    ),
    pytest.param(principal(scopes=("read",)), only(scopes={"write"}), "scope", id="scope"),
    pytest.param(principal(claims=CLAIMS), only(claims=(("tier", "silver"),)), "claims", id="claim-differs"),
    pytest.param(principal(claims=CLAIMS), only(claims=(("missing", None),)), "claims", id="claim-missing"),
    pytest.param(principal(claims=CLAIMS), only(claims=(("level", True),)), "claims", id="1-is-not-true"),
    pytest.param(principal(claims=CLAIMS), only(claims=(("beta", 1),)), "claims", id="true-is-not-1"),
    pytest.param(principal(claims=CLAIMS), only(claims=(("flags", 1),)), "claims", id="1-is-not-true-in-an-array"),
    pytest.param(principal(claims=CLAIMS), only(claims=(("level", "1"),)), "claims", id="text-is-not-a-number"),
    pytest.param(principal(claims=CLAIMS), only(claims=(("tags", "c"),)), "claims", id="array-without-it"),
    pytest.param(principal(claims=CLAIMS), only(claims=(("tier", "gol"),)), "claims", id="text-is-not-an-array"),
    pytest.param(principal(claims=CLAIMS), only(claims=(("tier", []),)), "claims", id="none-allowed"),
    pytest.param(principal(claims=CLAIMS), only(claims=(("tier.x", "gold"),)), "claims", id="path-through-text"),
    pytest.param(
        principal(claims=CLAIMS), only(claims=(("tier", "gold"), ("beta", False))), "claims", id="every-claim"
    ),
    pytest.param(principal(), only(max_age_first_min=10), "max_age", id="no-fva"),
    pytest.param(principal(factor_age=(10, -1)), only(max_age_first_min=10), "max_age", id="limit-not-inclusive"),
    pytest.param(principal(factor_age=(-1, 0)), only(max_age_first_min=10), "max_age", id="first-never"),
    pytest.param(principal(factor_age=(0, -1)), only(max_age_second_min=10), "max_age", id="second-never"),
    pytest.param(principal(factor_age=(0, 10)), only(max_age_second_min=10), "max_age", id="second-too-old"),
    pytest.param(principal(factor_age=(-5, 0)), only(max_age_first_min=10), "max_age", id="negative-age"),
    pytest.param(principal(factor_age=(0, 0)), only(max_age_first_min=0), "max_age", id="limit-0-is-never"),
    pytest.param(
        principal(factor_age=(9, 9)), only(max_age_first_min=10, max_age_second_min=5), "max_age", id="both-factors"
    ),
    pytest.param(principal(actor="user_2"), only(allow_impersonation=False), "impersonation", id="actor"),
    pytest.param(
        principal(claims={"act": {"iss": "x"}}), only(allow_impersonation=False), "impersonation", id="act-without-sub"
    ),
]


@pytest.mark.parametrize(("who", "requirement", "reason"), REFUSALS)
def test_authorise_refuses(who, requirement, reason):
    with pytest.raises(Forbidden) as refused:
        authorise(who, requirement)
    assert refused.value.reason == reason


@pytest.mark.parametrize(
    ("who", "requirement"),
    [
        pytest.param(principal(), Requirement(), id="nothing-asked"),
        pytest.param(ADMIN, only(org_any=True), id="any-organisation"),
        pytest.param(ADMIN, only(orgs={"org_1", "other"}), id="organisation-by-id"),
        pytest.param(ADMIN, only(orgs={"acme"}), id="organisation-by-slug"),
        pytest.param(principal(org_id="org_1", org_slug="org_9"), only(orgs={"org_1"}), id="odd-slug-but-right-id"),
        pytest.param(ADMIN, only(roles={"org:admin", "org:owner"}), id="one-of-the-roles"),
        pytest.param(ADMIN, only(permissions={"org:teams:read", "org:x:y"}), id="one-of-the-permissions"),
        pytest.param(principal(plans=frozenset({"u:pro"})), only(plans=with_scopes(["pro"])), id="bare-plan-of-user"),
        pytest.param(principal(plans=frozenset({"o:pro"})), only(plans=with_scopes(["pro"])), id="bare-plan-of-org"),
        pytest.param(
            principal(features=frozenset({"o:x", "u:y"})), only(features=with_scopes(["org:x"])), id="feature"
        ),
        pytest.param(principal(scopes=("read", "write")), only(scopes={"write"}), id="scope"),
        pytest.param(principal(claims=CLAIMS), only(claims=(("tier", "gold"),)), id="claim"),
        pytest.param(principal(claims=CLAIMS), only(claims=(("tier", ["silver", "gold"]),)), id="one-of-the-values"),
        pytest.param(principal(claims=CLAIMS), only(claims=(("level", 1.0),)), id="number-is-a-number"),
        pytest.param(principal(claims=CLAIMS), only(claims=(("none", None),)), id="null-is-null"),
        pytest.param(principal(claims=CLAIMS), only(claims=(("flags", True),)), id="true-in-an-array"),
        pytest.param(principal(claims=CLAIMS), only(claims=(("tags", ("x", "b")),)), id="array-contains-one"),
        pytest.param(principal(claims=CLAIMS), only(claims=(("public_metadata.team.name", "core"),)), id="path"),
        pytest.param(principal(claims=CLAIMS), only(claims=(("https://example.com/role", "boss"),)), id="dotted-name"),
        pytest.param(principal(factor_age=(9, -1)), only(max_age_first_min=10), id="first-factor-fresh"),
        pytest.param(principal(factor_age=(0, 0)), only(max_age_first_min=1, max_age_second_min=1), id="both-fresh"),
        pytest.param(principal(factor_age=(-1, 4)), only(max_age_second_min=5), id="only-second-asked"),
        pytest.param(principal(actor="user_2"), Requirement(), id="impersonation-by-default"),
        pytest.param(principal(claims={"act": None}), only(allow_impersonation=False), id="nobody-else-acts"),
    ],
)
def test_authorise_takes(who, requirement):
    authorise(who, requirement)


@pytest.mark.parametrize("requirement", [case.values[1] for case in REFUSALS if case.values[2] != "impersonation"])
def test_anonymous_cannot_hold_a_requirement(requirement):
    assert not requirement.is_empty
    with pytest.raises(MissingCredential):
        authorise(None, requirement)


def test_anonymous_passes_where_nothing_is_required():
    assert Requirement().is_empty
    authorise(None, Requirement())


def test_anonymous_passes_where_only_impersonation_is_refused():
    requirement = Requirement(allow_impersonation=False)
    assert not requirement.is_empty
    authorise(None, requirement)


@pytest.mark.parametrize(
    ("text", "prefixed"),
    [
        ("admin", "org:admin"),
        ("org:admin", "org:admin"),
        ("org:org:admin", "org:admin"),
        ("organizer", "org:organizer"),
    ],
)
def test_org_prefix_is_there_once(text, prefixed):
    assert with_org_prefix(text) == prefixed


@given(text=st.text())
def test_org_prefix_is_idempotent(text):
    assert with_org_prefix(with_org_prefix(text)) == with_org_prefix(text)


@pytest.mark.parametrize(
    ("text", "spellings"),
    [
        ("pro", {"o:pro", "u:pro"}),
        ("o:pro", {"o:pro"}),
        ("org:pro", {"o:pro"}),
        ("organization:pro", {"o:pro"}),
        ("u:pro", {"u:pro"}),
        ("user:pro", {"u:pro"}),
    ],
)
def test_scopes_are_spelt_as_in_tokens(text, spellings):
    assert with_scopes([text]) == spellings


@pytest.mark.parametrize("text", ["x:pro", ":pro", "o:", "O:pro"])
def test_unknown_scope_is_refused(text):
    with pytest.raises(ValueError, match="expected a name"):
        with_scopes([text])


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("tier", "gold"),
        ("public_metadata.team.name", "core"),
        ("public_metadata.shadow", "top"),
        ("https://example.com/role", "boss"),
        ("public_metadata.missing", ABSENT),
        ("tags.0", ABSENT),
        ("none", None),
        ("none.x", ABSENT),
        ("", ABSENT),
    ],
)
def test_claim_at_takes_the_exact_name_before_the_path(path, value):
    assert claim_at(CLAIMS, path) == value
