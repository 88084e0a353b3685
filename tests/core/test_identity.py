import re
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.directory import User
from gateway.core.identity import (
    IdentityPolicy,
    encode_list,
    encode_value,
    identity_block,
    identity_fields,
    unusable_headers,
)
from gateway.core.model import Principal
from gateway.errors import InternalError

VALUE = re.compile(rb"(?:[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?)?")
TEXT = st.text(st.characters(exclude_categories=["Cs"]))


def principal(**facts: Any) -> Principal:
    known: dict[str, Any] = {"claims": {}, "audience": frozenset(), "issued_at": 0, "expires_at": 60}
    return Principal(**({"subject": "user_1", "token_type": "session"} | known | facts))


PROFILE: dict[str, Any] = {
    "email": "ada@example.com",
    "email_verified": True,
    "name": "Ada Lovelace",
    "given_name": "Ada",
    "family_name": "Lovelace",
    "nickname": "ada",
    "picture": "https://img.example.com/a.png",
}
FULL = principal(
    claims=PROFILE,
    user_id="user_1",
    machine_id="mch_1",
    session_id="sess_1",
    org_id="org_1",
    org_slug="acme",
    org_role="org:admin",
    org_permissions=("org:dashboard:read", "org:teams:read"),
    scopes=("read", "write"),
    actor="user_2",
)
FULL_FIELDS = (
    (b"X-User-Id", b"user_1"),
    (b"X-User-Machine-Id", b"mch_1"),
    (b"X-User-Email", b"ada@example.com"),
    (b"X-User-Email-Verified", b"true"),
    (b"X-User-Name", b"Ada Lovelace"),
    (b"X-User-Given-Name", b"Ada"),
    (b"X-User-Family-Name", b"Lovelace"),
    (b"X-User-Nickname", b"ada"),
    (b"X-User-Picture", b"https://img.example.com/a.png"),
    (b"X-User-Session-Id", b"sess_1"),
    (b"X-User-Org-Id", b"org_1"),
    (b"X-User-Org-Slug", b"acme"),
    (b"X-User-Org-Role", b"org:admin"),
    (b"X-User-Org-Permissions", b"org:dashboard:read,org:teams:read"),
    (b"X-User-Token-Type", b"session"),
    (b"X-User-Scopes", b"read,write"),
    (b"X-User-Actor", b"user_2"),
)


def fields(who: Principal, policy: IdentityPolicy | None = None) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in identity_fields(who, policy or IdentityPolicy())}


def test_identity_says_all_a_token_can_in_order():
    assert identity_fields(FULL, IdentityPolicy()) == FULL_FIELDS


def test_prefix_renames_every_field():
    renamed = identity_fields(FULL, IdentityPolicy(prefix="X-Caller-"))
    assert renamed == tuple((name.replace(b"X-User-", b"X-Caller-"), value) for name, value in FULL_FIELDS)


def test_missing_and_empty_values_make_no_field():
    who = principal(user_id="user_1", org_slug="", claims={"name": "", "email": None, "picture": ""})
    assert fields(who) == {"X-User-Id": "user_1", "X-User-Token-Type": "session"}


@pytest.mark.parametrize("value", [None, 5, True, ["a"], {"a": 1}], ids=repr)
def test_profile_claims_must_be_text(value):
    claims = dict.fromkeys(("email", "name", "given_name", "family_name", "nickname", "picture"), value)
    assert fields(principal(claims=claims)) == {"X-User-Token-Type": "session"}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "true"),
        (False, "false"),
        ("true", "true"),
        ("false", "false"),
        (1, None),
        ("yes", None),
        (None, None),
        ([True], None),
    ],
    ids=repr,
)
def test_email_verified_is_true_or_false(value, text):
    said = fields(principal(claims={"email": "a@b.example", "email_verified": value}))
    assert said.get("X-User-Email-Verified") == text


def test_email_verified_is_not_said_without_the_address():
    assert "X-User-Email-Verified" not in fields(principal(claims={"email_verified": True}))


CUSTOM = {
    "pla": "u:free",
    "n": 7,
    "zero": 0,
    "ratio": 0.5,
    "big": 1e22,
    "yes": True,
    "no": False,
    "null": None,
    "empty": "",
    "list": ["a,b", 1, True, "ü"],
    "nothing": [],
    "mixed": ["a", {"b": 1}],
    "nulls": [None],
    "nan": float("nan"),
    "object": {"a": 1},
    "public_metadata": {"tier": "gold"},
    "unsafe_metadata": {"tier": "mine"},
    "a.b": "exact",
    "a": {"b": "path"},
    "broken": "\ud800",
    "broken_list": ["a", "\ud800"],
}


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("pla", "u:free"),
        ("n", "7"),
        ("zero", "0"),
        ("ratio", "0.5"),
        ("big", "1e+22"),
        ("yes", "true"),
        ("no", "false"),
        ("null", None),
        ("empty", None),
        ("list", "a%2Cb,1,true,%C3%BC"),
        ("nothing", None),
        ("mixed", None),
        ("nulls", None),
        ("nan", None),
        ("object", None),
        ("public_metadata.tier", "gold"),
        ("public_metadata", None),
        ("unsafe_metadata.tier", None),
        ("a.b", "exact"),
        ("missing", None),
        ("broken", None),
        ("broken_list", None),
    ],
)
def test_extra_header_from_claim(path, text):
    said = fields(principal(claims=CUSTOM), IdentityPolicy(headers=(("X-Extra", path),)))
    assert said.get("X-Extra") == text


def test_unsafe_metadata_is_said_where_allowed():
    policy = IdentityPolicy(headers=(("X-Tier", "unsafe_metadata.tier"),), allow_unsafe_metadata=True)
    assert fields(principal(claims=CUSTOM), policy)["X-Tier"] == "mine"


@pytest.mark.parametrize("path", ["unsafe_metadata", "unsafe_metadata.tier"])
def test_unsafe_metadata_says_nothing_even_as_a_claim_of_that_name(path):
    assert "X-Tier" not in fields(principal(claims={path: "mine"}), IdentityPolicy(headers=(("X-Tier", path),)))


def test_extra_header_never_repeats_a_fixed_one():
    policy = IdentityPolicy(headers=(("x-user-id", "pla"), ("X-User-Email", "pla")))
    said = fields(principal(user_id="user_1", claims=CUSTOM), policy)
    assert said == {"X-User-Id": "user_1", "X-User-Token-Type": "session", "X-User-Email": "u:free"}


def test_unusable_headers_are_named():
    paths = ("object", "mixed", "nulls", "nan", "pla", "missing", "null", "nothing", "unsafe_metadata")
    policy = IdentityPolicy(headers=tuple((f"X-{path}", path) for path in paths))
    assert unusable_headers(CUSTOM, policy) == ("X-object", "X-mixed", "X-nulls", "X-nan")


def size(said: dict[str, str]) -> int:
    return sum(len(f"{name}: {value}\r\n") for name, value in said.items())


def test_size_bound_is_inclusive():
    whole = fields(FULL)
    assert fields(FULL, IdentityPolicy(max_bytes=size(whole))) == whole
    assert "X-User-Picture" not in fields(FULL, IdentityPolicy(max_bytes=size(whole) - 1))


LONG = "x" * 200
NAMES = ("name", "given_name", "family_name", "nickname")


@pytest.mark.parametrize(
    ("facts", "truncated"),
    [
        pytest.param({"claims": PROFILE | {"picture": LONG}}, ["X-User-Picture"], id="picture-first"),
        pytest.param(
            {"claims": {"name": LONG, "nickname": "n", "email": "e"}},
            ["X-User-Name", "X-User-Nickname"],
            id="then-names-without-a-picture",
        ),
        pytest.param(
            {"claims": {"picture": "p", "name": "n", "one": "1"}, "org_permissions": (LONG,)},
            ["X-User-Picture", "X-User-Name", "X-User-Org-Permissions"],
            id="then-permissions",
        ),
        pytest.param(
            {"claims": {"picture": "p", "one": "1", "two": LONG}},
            ["X-User-Picture", "X-Two"],
            id="then-extra-last-first",
        ),
        pytest.param({"claims": {"one": LONG, "two": "2"}}, ["X-Two", "X-One"], id="then-every-extra"),
        pytest.param({"scopes": (LONG,), "claims": {"email": "e"}}, ["X-User-Scopes"], id="then-scopes"),
        pytest.param(
            {"scopes": ("s",), "claims": {"email": LONG, "email_verified": True}},
            ["X-User-Scopes", "X-User-Email", "X-User-Email-Verified"],
            id="then-email",
        ),
    ],
)
def test_over_the_bound_the_less_needed_goes_first(facts, truncated):
    policy = IdentityPolicy(headers=(("X-One", "one"), ("X-Two", "two")), max_bytes=330)
    who = principal(user_id="user_1", session_id="sess_1", **facts)
    whole = fields(who, IdentityPolicy(headers=policy.headers))
    said = fields(who, IdentityPolicy(headers=policy.headers, max_bytes=size(whole) - 100))
    assert said.pop("X-User-Truncated") == ",".join(truncated)
    assert said == {name: value for name, value in whole.items() if name not in truncated}


@pytest.mark.parametrize("fact", ["user_id", "machine_id", "session_id", "org_id", "org_slug", "org_role", "actor"])
def test_what_must_stay_is_never_left_out(fact):
    with pytest.raises(InternalError):
        identity_fields(FULL._replace(**{fact: LONG}), IdentityPolicy(max_bytes=300))


def test_marker_goes_too_before_a_request_is_turned_away():
    whole = fields(FULL._replace(claims={}, org_permissions=(), scopes=()))
    assert fields(FULL, IdentityPolicy(max_bytes=size(whole))) == whole
    with pytest.raises(InternalError):
        identity_fields(FULL, IdentityPolicy(max_bytes=size(whole) - 1))


@given(claims=st.fixed_dictionaries({}, optional=dict.fromkeys(PROFILE, TEXT)), max_bytes=st.integers(50, 800))
def test_fields_stay_within_the_bound(claims, max_bytes):
    said = fields(principal(user_id="u", claims=claims), IdentityPolicy(max_bytes=max_bytes))
    assert size(said) <= max_bytes
    assert said["X-User-Id"] == "u"


def test_block_is_lines_begun_by_crlf():
    assert identity_block(((b"X-User-Id", b"user_1"), (b"X-User-Name", b"Ada"))) == (
        b"\r\nX-User-Id: user_1\r\nX-User-Name: Ada"
    )
    assert identity_block(()) == b""


@given(text=TEXT)
def test_one_decode_restores_a_value(text):
    encoded = encode_value(text)
    assert unquote(encoded.decode("ascii"), errors="strict") == text
    assert VALUE.fullmatch(encoded)


@given(items=st.lists(TEXT.filter(bool), min_size=1))
def test_one_decode_of_each_element_restores_a_list(items):
    encoded = encode_list(items)
    assert [unquote(item, errors="strict") for item in encoded.decode("ascii").split(",")] == items
    assert VALUE.fullmatch(encoded)


@pytest.mark.parametrize(
    ("text", "encoded"),
    [
        ("Ada Lovelace", b"Ada Lovelace"),
        ("Zoë", b"Zo%C3%AB"),
        ("100%", b"100%25"),
        (" a  b ", b"%20a  b%20"),
        ("  ", b"%20%20"),
        ("a\r\nX-User-Id: b", b"a%0D%0AX-User-Id: b"),
        ("\x00\t\x7f", b"%00%09%7F"),
        ("a,b", b"a,b"),
        ("", b""),
        ("\ud800", b""),
    ],
)
def test_encode_value(text, encoded):
    assert encode_value(text) == encoded


@pytest.mark.parametrize(
    ("items", "encoded"),
    [
        (["a,b", "c"], b"a%2Cb,c"),
        ([" a", "b "], b"%20a,b%20"),
        ([], b""),
        (["a", "\ud800"], b""),
    ],
)
def test_encode_list(items, encoded):
    assert encode_list(items) == encoded


@given(value=st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | TEXT, st.lists, max_leaves=5))
def test_an_extra_header_is_said_or_named_unusable_or_empty(value):
    policy = IdentityPolicy(headers=(("X-Extra", "c"),), max_bytes=100_000)
    said = dict(identity_fields(principal(claims={"c": value}), policy))
    unusable = unusable_headers({"c": value}, policy)
    assert (b"X-Extra" in said) + bool(unusable) <= 1
    assert all(VALUE.fullmatch(text) for text in said.values())


def test_names_outside_the_prefix_are_reserved_too():
    policy = IdentityPolicy(headers=(("X-Plan", "pla"),), assertion_header="X-Signed")
    assert policy.reserved_names == ("X-Signed", "X-Plan")


# --- what the directory knows ----------------------------------------------------------------------------------------

KNOWN = User(
    "user_1", email="ada@known.example", email_verified=True, name="Ada Known", given_name="Ada", family_name="Known",
    nickname="known", picture="https://img.example.com/k.png", external_id="ext 1", created_at=1000,
    public_metadata={"tier": "gold", "tags": ["a", "b"], "object": {}},
)  # fmt: skip
BARE = principal(user_id="user_1")


def enriched(claims: dict[str, Any], policy: IdentityPolicy | None = None, user: User = KNOWN) -> dict[str, str]:
    said = identity_fields(BARE._replace(claims=claims), policy or IdentityPolicy(), user)
    return {name.decode().removeprefix("X-User-"): value.decode() for name, value in said}


def test_what_a_token_lacks_is_the_directory_s():
    assert enriched({}) == {
        "Id": "user_1", "Email": "ada@known.example", "Email-Verified": "true", "Name": "Ada Known",
        "Given-Name": "Ada", "Family-Name": "Known", "Nickname": "known", "Picture": "https://img.example.com/k.png",
        "External-Id": "ext 1", "Token-Type": "session",
    }  # fmt: skip


def test_what_a_token_says_stands():
    said = enriched(PROFILE)
    assert said.pop("External-Id") == "ext 1"
    assert said == {name: value for name, value in fields_of(PROFILE).items() if name != "External-Id"}


def fields_of(claims: dict[str, Any]) -> dict[str, str]:
    said = identity_fields(BARE._replace(claims=claims), IdentityPolicy())
    return {name.decode().removeprefix("X-User-"): value.decode() for name, value in said}


@pytest.mark.parametrize(
    ("claims", "email", "verified"),
    [
        pytest.param({}, "ada@known.example", "true", id="all-known"),
        pytest.param({"email": None}, "ada@known.example", "true", id="null-is-lacking"),
        pytest.param({"email": "other@x.example"}, "other@x.example", None, id="verified-is-another-s"),
        pytest.param({"email": "ADA@known.example"}, "ADA@known.example", "true", id="the-same-address"),
        pytest.param({"email": "ADA@known.example", "email_verified": False}, "ADA@known.example", "false", id="said"),
        pytest.param({"email_verified": False}, "ada@known.example", "true", id="verified-of-no-address"),
    ],
)
def test_verified_stands_beside_its_own_address_only(claims, email, verified):
    said = enriched(claims)
    assert (said["Email"], said.get("Email-Verified")) == (email, verified)


def test_a_user_without_an_address_has_none_verified():
    said = enriched({}, user=User("user_1", email_verified=True))
    assert not {"Email", "Email-Verified"} & said.keys()


@pytest.mark.parametrize(
    ("path", "claims", "value"),
    [
        pytest.param("public_metadata.tier", {}, "gold", id="directory"),
        pytest.param("public_metadata.tier", {"public_metadata": {"tier": "silver"}}, "silver", id="token-first"),
        pytest.param("public_metadata.tier", {"public_metadata.tier": "x"}, "x", id="claim-of-that-name"),
        pytest.param("public_metadata.tier", {"public_metadata": {"tier": None}}, "gold", id="null-is-lacking"),
        pytest.param("public_metadata.tags", {}, "a,b", id="list"),
        pytest.param("banned", {}, "false", id="boolean"),
        pytest.param("created_at", {}, "1000", id="number"),
        pytest.param("updated_at", {}, None, id="unknown"),
        pytest.param("version", {}, None, id="not-for-outside"),
        pytest.param("deleted", {}, None, id="never-of-the-deleted"),
    ],
)
def test_extra_headers_reach_into_the_directory(path, claims, value):
    assert enriched(claims, IdentityPolicy(headers=(("X-Extra", path),))).get("X-Extra") == value


def test_an_object_in_the_directory_is_named_as_unusable():
    policy = IdentityPolicy(headers=(("X-Object", "public_metadata.object"), ("X-Tier", "public_metadata.tier")))
    assert unusable_headers({}, policy, KNOWN) == ("X-Object",)
    assert unusable_headers({}, policy) == ()


def test_the_external_id_goes_before_the_address():
    least = (
        len("X-User-Id: user_1\r\n")
        + len("X-User-Token-Type: session\r\n")
        + len("X-User-Email: ada@known.example\r\n")
    )
    most = least + len("X-User-Email-Verified: true\r\n") + 200
    user = User("user_1", email="ada@known.example", email_verified=True, external_id="x" * 300)
    said = enriched({}, IdentityPolicy(max_bytes=most), user)
    assert (said.get("External-Id"), said["Email"], said["Truncated"]) == (
        None,
        "ada@known.example",
        "X-User-External-Id",
    )
