"""Tokens shaped like Clerk's: packing, times, and what `core/claims` reads out of them again."""

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.claims import principal_from
from gateway.core.verify import read_token
from gateway.ops.dev.people import ACME, GLOBEX, Person, find_person
from gateway.ops.dev.shapes import (
    LONGEST_S,
    SESSION_CATEGORY,
    TEMPLATE_CATEGORY,
    Active,
    choose_active,
    organisation_claims_v1,
    organisation_claims_v2,
    pack_permissions,
    session_claims,
    template_claims,
    times,
)

NOW = 1_800_000_000.7
ALICE = find_person("user_alice")
CAROL = find_person("user_carol")
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
SESSION = {"sid": "sess_1", "fva": [0, -1], "sts": "active"}

words = st.text("abcdefghij_0123456789", min_size=1, max_size=6)
permission_lists = st.lists(st.builds("org:{}:{}".format, words, words), max_size=80, unique=True)


def read_back(claims, category=SESSION_CATEGORY):
    full = claims | times(NOW, 60) | {"sub": "user_alice", "iss": "http://127.0.0.1:8081"}
    token = jwt.encode(full, KEY, algorithm="RS256", headers={"kid": "ins_dev", "cat": category})
    return principal_from(full, read_token(token.encode()))


def test_permissions_are_packed_as_clerks_documentation_shows():
    packed = pack_permissions(["org:dashboard:manage", "org:dashboard:read", "org:teams:read"])
    assert packed == (["dashboard", "teams"], ["manage", "read"], [3, 2])


def test_a_feature_without_permissions_keeps_its_place_in_the_masks():
    assert pack_permissions(["org:teams:read"], ["dashboard", "teams"]) == (["dashboard", "teams"], ["read"], [0, 1])


@given(permissions=permission_lists, features=st.lists(words, max_size=4, unique=True), own=st.lists(words, max_size=3))
def test_v2_permissions_come_back_whatever_they_are(permissions, features, own):
    person = Person("user_alice", features=tuple(own))
    active = Active(type(ACME)("org_x", "x", "X", features=tuple(features)), "org:admin", tuple(permissions))
    read = read_back(session_claims(person, active, version=2, session=SESSION))
    assert sorted(read.org_permissions) == sorted(permissions)
    assert {f"o:{feature}" for feature in features} | {f"u:{feature}" for feature in own} <= read.features


@pytest.mark.parametrize("version", [1, 2])
def test_both_versions_say_the_same_of_the_organisation(version):
    active = choose_active(ALICE, org="acme", role=None, permissions=())
    read = read_back(session_claims(ALICE, active, version=version, session=SESSION))
    assert (read.org_id, read.org_slug, read.org_role) == ("org_acme", "acme", "org:admin")
    assert set(read.org_permissions) == set(active.permissions)
    assert (read.token_type, read.session_id, read.factor_age) == ("session", "sess_1", (0, -1))


def test_v2_is_spelt_as_clerk_spells_it():
    active = choose_active(ALICE, org=None, role=None, permissions=())
    assert organisation_claims_v2(ALICE, active) == {
        "o": {"id": "org_acme", "slg": "acme", "rol": "admin", "per": "read,manage", "fpm": "3,0,3"},
        "pla": "o:pro",
        "fea": "o:dashboard,o:exports,o:teams",
    }


def test_without_an_organisation_only_the_users_own_plan_and_features_are_said():
    assert organisation_claims_v2(CAROL, None) == {"pla": "u:plus", "fea": "u:exports"}
    assert organisation_claims_v2(Person("user_1"), None) == {"pla": "u:free"}
    assert organisation_claims_v1(None) == {}


def test_a_role_nothing_is_known_of_brings_no_permissions():
    active = choose_active(CAROL, org="org_new", role="viewer", permissions=())
    assert organisation_claims_v2(Person("user_1"), active) == {
        "o": {"id": "org_new", "slg": "new", "rol": "viewer"},
        "pla": "o:free",
    }


def test_version_1_has_the_old_names_and_no_new_ones():
    claims = session_claims(ALICE, choose_active(ALICE, org="globex", role=None, permissions=()), version=1, session={})
    assert claims == {
        "org_id": "org_globex",
        "org_slug": "globex",
        "org_role": "org:member",
        "org_permissions": ["org:dashboard:read", "org:teams:read"],
    }


@pytest.mark.parametrize(
    ("person", "asked", "expected"),
    [
        pytest.param(ALICE, {}, (ACME, "org:admin"), id="own-first"),
        pytest.param(ALICE, {"org": "globex"}, (GLOBEX, "org:member"), id="own-other"),
        pytest.param(ALICE, {"org": "none"}, None, id="none"),
        pytest.param(CAROL, {}, None, id="has-none"),
        pytest.param(CAROL, {"org": "acme"}, (ACME, "org:member"), id="stranger-is-a-member"),
        pytest.param(CAROL, {"org": "acme", "role": "admin"}, (ACME, "org:admin"), id="role-without-prefix"),
        pytest.param(CAROL, {"org": "acme", "role": "org:admin"}, (ACME, "org:admin"), id="role-with-prefix"),
    ],
)
def test_active_organisation(person, asked, expected):
    active = choose_active(person, **({"org": None, "role": None, "permissions": ()} | asked))
    assert (active and (active.organisation, active.role)) == expected


def test_permissions_asked_for_replace_those_of_the_role():
    active = choose_active(ALICE, org=None, role=None, permissions=("org:a:b", "a:c", "org:a:b"))
    assert active.permissions == ("org:a:b", "org:a:c")


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param({"role": "admin"}, id="role-without-organisation"),
        pytest.param({"permissions": ("org:a:b",)}, id="permission-without-organisation"),
        pytest.param({"org": "acme", "role": "or:ad"}, id="malformed-role"),
        pytest.param({"org": "acme", "permissions": ("read",)}, id="permission-without-feature"),
        pytest.param({"org": "acme", "permissions": ("org:a,b:read",)}, id="permission-with-comma"),
        pytest.param({"org": "initech"}, id="unknown-organisation"),
    ],
)
def test_active_organisation_refuses(asked):
    with pytest.raises(ValueError, match=r"--org|form|no organisation"):
        choose_active(CAROL, **({"org": None, "role": None, "permissions": ()} | asked))


@pytest.mark.parametrize(
    ("expires_in", "expected"),
    [
        pytest.param(60, {"exp": 1_800_000_060, "iat": 1_800_000_000, "nbf": 1_799_999_990}, id="minute"),
        pytest.param(0, {"exp": 1_800_000_000, "iat": 1_800_000_000, "nbf": 1_799_999_990}, id="now"),
        pytest.param(-1, {"exp": 1_799_999_994, "iat": 1_799_999_934, "nbf": 1_799_999_924}, id="expired-past-leeway"),
    ],
)
def test_times(expires_in, expected):
    assert times(NOW, expires_in) == expected


@pytest.mark.parametrize("expires_in", [LONGEST_S + 1, -LONGEST_S - 1])
def test_times_are_bounded(expires_in):
    with pytest.raises(ValueError, match="at most"):
        times(NOW, expires_in)


def test_template_token_is_no_session_and_carries_the_profile():
    claims = template_claims(ALICE, "convex", now=NOW)
    read = read_back(claims, TEMPLATE_CATEGORY)
    assert (read.token_type, read.session_id, read.audience) == ("template", None, frozenset({"convex"}))
    assert claims["email"] == "alice@acme.example"
    assert claims["email_verified"] is True
    assert claims["name"] == "Alice Åberg"
    assert not claims.keys() & {"sid", "v", "pla", "fea", "sts", "o"}


def test_template_token_of_a_made_up_user_has_nulls():
    claims = template_claims(Person("user_x"), "convex", now=NOW)
    assert claims["email"] is claims["name"] is claims["picture"] is claims["nickname"] is None
    assert claims["email_verified"] is False
