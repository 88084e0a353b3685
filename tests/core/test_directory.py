from dataclasses import replace
from itertools import permutations
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.directory import (
    Membership,
    Organization,
    Row,
    User,
    buried,
    claims_row,
    fold,
    has_content,
    is_buried,
    is_provisional,
    membership_row,
    organization_row,
    outranking,
    row_of,
    user_row,
)
from gateway.core.events import Event, read_event
from tests.fakes.clerk_events import gone, membership, organization, user

ADA: dict[str, Any] = {
    "id": "user_1",
    "object": "user",
    "first_name": "Ada",
    "last_name": "Lovelace",
    "username": "ada",
    "image_url": "https://img.example.com/a.png",
    "primary_email_address_id": "idn_2",
    "email_addresses": [
        "not an object",
        {"id": "idn_1", "email_address": "old@example.com", "verification": {"status": "verified"}},
        {"id": "idn_2", "email_address": "ada@example.com", "verification": {"status": "verified"}},
    ],
    "external_id": "ext-1",
    "public_metadata": {"tier": "gold"},
    "private_metadata": {"k": "secret"},
    "banned": True,
    "locked": False,
    "created_at": 1000,
    "updated_at": 2000,
}
MEMBER: dict[str, Any] = {
    "id": "orgmem_1",
    "role": "org:admin",
    "organization": {"id": "org_1", "name": "Acme"},
    "public_user_data": {"user_id": "user_1", "identifier": "ada@example.com"},
    "public_metadata": {"desk": 5},
    "created_at": 1000,
    "updated_at": 2000,
}
GONE = {"id": "user_1", "object": "user", "deleted": True, "external_id": "ext-1"}


def event(kind: str, data: dict[str, Any], at: int = 0) -> Event:
    return read_event(orjson.dumps({"type": kind, "data": data, "timestamp": at}))


def folded(events: list[Event]) -> dict[str, Row]:
    rows: dict[str, Any] = {}
    for each in events:
        row: Any = row_of(each)
        if row is not None:
            rows[row.id] = fold(rows.get(row.id), row)
    return rows


def test_a_user_as_the_contract_shapes_it() -> None:
    user = user_row(ADA, at=3)
    assert user is not None
    assert user == User(
        id="user_1", version=user.version, email="ada@example.com", email_verified=True, name="Ada Lovelace",
        given_name="Ada", family_name="Lovelace", nickname="ada", picture="https://img.example.com/a.png",
        external_id="ext-1", banned=True, locked=False, public_metadata={"tier": "gold"}, created_at=1000,
        updated_at=2000,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("change", "email", "verified"),
    [
        pytest.param({"primary_email_address_id": "idn_1"}, "old@example.com", True, id="another-is-primary"),
        pytest.param({"primary_email_address_id": None}, None, None, id="no-primary"),
        pytest.param({"primary_email_address_id": "idn_3"}, None, None, id="primary-is-not-listed"),
        pytest.param({"email_addresses": None}, None, None, id="no-list"),
        pytest.param(
            {"email_addresses": [{"id": "idn_2", "email_address": "a@b.c"}]}, "a@b.c", False, id="no-verification"
        ),
        pytest.param(
            {"email_addresses": [{"id": "idn_2", "email_address": "a@b.c", "verification": {"status": "expired"}}]},
            "a@b.c", False, id="not-verified",
        ),
        pytest.param(
            {"email_addresses": [{"id": "idn_2", "email_address": 5, "verification": {"status": "verified"}}]},
            None, None, id="not-a-text",
        ),
    ],
)  # fmt: skip
def test_the_primary_email(change: dict[str, Any], email: str | None, verified: bool | None) -> None:
    user = user_row(ADA | change, at=0)
    assert user is not None
    assert (user.email, user.email_verified) == (email, verified)


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        pytest.param("", None, id="empty"),
        pytest.param(None, None, id="null"),
        pytest.param(5, None, id="number"),
        pytest.param("a\0b", "ab", id="nul"),
        pytest.param("ü" * 1000, "ü" * 1000, id="as-long-as-it-may-be"),
        pytest.param("ü" * 1000 + "x", None, id="too-long"),
    ],
)
def test_text_is_as_every_database_takes_it(value: Any, kept: str | None) -> None:
    user = user_row(ADA | {"username": value}, at=0)
    assert user is not None
    assert user.nickname == kept


@pytest.mark.parametrize(
    ("names", "name"),
    [(("Ada", None), "Ada"), ((None, "Lovelace"), "Lovelace"), ((None, None), None)],
)
def test_half_a_name_is_a_name(names: tuple[str | None, str | None], name: str | None) -> None:
    user = user_row(ADA | {"first_name": names[0], "last_name": names[1]}, at=0)
    assert user is not None
    assert user.name == name


@pytest.mark.parametrize("flag", ["yes", 1, None])
def test_only_true_is_banned(flag: Any) -> None:
    user = user_row(ADA | {"banned": flag, "locked": flag}, at=0)
    assert user is not None
    assert not user.banned
    assert not user.locked


def test_an_organisation_and_a_membership() -> None:
    acme = {"id": "org_1", "name": "Acme", "slug": "acme", "image_url": "https://i", "public_metadata": {"a": 1}}
    organization = organization_row(acme | {"created_at": 1, "updated_at": 2}, at=3)
    assert organization is not None
    assert organization == Organization(
        "org_1", organization.version, "Acme", "acme", "https://i", {"a": 1}, created_at=1, updated_at=2
    )
    membership = membership_row(MEMBER, at=3)
    assert membership is not None
    assert membership == Membership(
        "orgmem_1", membership.version, "org_1", "user_1", "org:admin", {"desk": 5}, created_at=1000, updated_at=2000
    )


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        pytest.param("user.updated", {"first_name": "Ada"}, id="user-without-id"),
        pytest.param("user.updated", {"id": "x" * 256}, id="id-too-long"),
        pytest.param("user.updated", {"id": "a b"}, id="id-with-a-space"),
        pytest.param("user.invented", {"id": "user_1"}, id="unknown-verb"),
        pytest.param("user", {"id": "user_1"}, id="no-verb"),
        pytest.param("session.created", {"id": "sess_1", "user": ADA}, id="session"),
        pytest.param("organizationMembership.created", {"id": "orgmem_1"}, id="membership-of-nobody"),
        pytest.param("organizationMembership.created", MEMBER | {"public_user_data": None}, id="membership-without-user"),
    ],
)  # fmt: skip
def test_events_that_make_no_row(kind: str, data: dict[str, Any]) -> None:
    assert row_of(event(kind, data)) is None


@pytest.mark.parametrize("make", [user_row, organization_row, membership_row])
def test_what_has_no_id_is_no_row(make: Any) -> None:
    assert make({"name": "?"}, at=0) is None


def test_a_deleted_user_leaves_the_id_and_when() -> None:
    row = row_of(event("user.deleted", GONE, at=9))
    assert row == User("user_1", row.version if row else b"", updated_at=9, deleted=True)


def test_a_deleted_organisation_and_membership() -> None:
    row = row_of(event("organization.deleted", {"id": "org_1", "deleted": True}, at=9))
    assert row == Organization("org_1", row.version if row else b"", updated_at=9, deleted=True)
    row = row_of(event("organizationMembership.deleted", MEMBER, at=9))
    assert row == Membership(
        "orgmem_1", row.version if row else b"", "org_1", "user_1", updated_at=9, deleted=True
    )  # fmt: skip


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        pytest.param(("user.updated", ADA, 9), ("user.updated", ADA | {"updated_at": 2001}, 5), id="updated-at-first"),
        pytest.param(("user.created", ADA, 5), ("user.updated", ADA | {"banned": False}, 9), id="then-timestamp"),
        pytest.param(("user.updated", ADA | {"updated_at": None}, 1999), ("user.updated", ADA, 5), id="without-updated-at"),
        pytest.param(("user.updated", ADA | {"updated_at": 2**53 - 1}, 9), ("user.deleted", GONE, 0), id="deletes-win"),
        pytest.param(("user.deleted", GONE, 1), ("user.deleted", GONE, 2), id="the-later-delete"),
    ],
)  # fmt: skip
def test_which_of_two_events_counts(older: Any, newer: Any) -> None:
    one, other = event(*older), event(*newer)
    assert folded([one, other]) == folded([other, one]) == folded([other])


def test_two_of_the_same_moment_are_told_apart_by_content() -> None:
    events = [event("user.updated", ADA | {"username": name}, 5) for name in ("ada", "bob", "eve")]
    assert len({str(folded(list(order))) for order in permutations(events)}) == 1


def test_the_same_content_has_the_same_version_in_any_order_of_its_members() -> None:
    one = user_row(ADA | {"public_metadata": {"a": 1, "b": 2}}, at=1)
    other = user_row(ADA | {"public_metadata": {"b": 2, "a": 1}}, at=1)
    assert one is not None
    assert other is not None
    assert one.version == other.version


NUMBERS = st.integers(0, 3) | st.just(None)
USERS = st.builds(
    lambda key, name, when: {"id": key, "username": name, "updated_at": when},
    st.sampled_from(["user_1", "user_2"]), st.sampled_from(["a", "b"]), NUMBERS,
)  # fmt: skip
MEMBERS = st.builds(
    lambda key, user, org, when: {
        "id": key, "public_user_data": {"user_id": user}, "organization": {"id": org}, "updated_at": when,
    },
    st.sampled_from(["orgmem_1", "orgmem_2"]), st.sampled_from(["user_1", "user_2"]), st.sampled_from(["org_1", None]),
    NUMBERS,
)  # fmt: skip
ORGANIZATIONS = st.builds(
    lambda key, name, when: {"id": key, "name": name, "updated_at": when},
    st.sampled_from(["org_1", "org_2"]), st.sampled_from(["a", "b"]), NUMBERS,
)  # fmt: skip
VERBS = st.sampled_from(["created", "updated", "deleted"])
EVENTS = st.one_of(
    st.builds(lambda verb, data, at: event(f"user.{verb}", data, at), VERBS, USERS, st.integers(0, 3)),
    st.builds(lambda verb, data, at: event(f"organization.{verb}", data, at), VERBS, ORGANIZATIONS, st.integers(0, 3)),
    st.builds(
        lambda verb, data, at: event(f"organizationMembership.{verb}", data, at), VERBS, MEMBERS, st.integers(0, 3)
    ),
)


@given(st.lists(EVENTS, max_size=12), st.data())
def test_events_in_any_order_and_number_leave_the_same_rows(events: list[Event], data: st.DataObject) -> None:
    again = data.draw(st.lists(st.sampled_from(events), max_size=6)) if events else []
    shuffled = data.draw(st.permutations(events + again))
    assert folded(shuffled) == folded(events)


@given(st.lists(EVENTS, max_size=12))
def test_whoever_was_deleted_stays_so(events: list[Event]) -> None:
    gone = {each.object_id for each in events if each.type.endswith(".deleted")}
    for key, row in folded(events).items():
        assert row.deleted == (key in gone)


# --- users of whom only a token has told ------------------------------------------------------------------------------


def test_a_row_of_claims_says_what_they_say() -> None:
    claims = {"email": "a@b.example", "email_verified": True, "name": "A", "picture": 7, "nickname": "", "x": "y"}
    made = claims_row("user_1", claims)
    assert made is not None
    assert made == User(
        "user_1", made.version, email="a@b.example", email_verified=True, name="A", public_metadata={}
    )  # fmt: skip
    assert is_provisional(made)


@pytest.mark.parametrize("verified", ["true", 1, None])
def test_verified_is_a_boolean(verified: Any) -> None:
    made = claims_row("user_1", {"email": "a@b.example", "email_verified": verified})
    assert made is not None
    assert made.email_verified is None


def test_verified_needs_an_address() -> None:
    made = claims_row("user_1", {"email_verified": True})
    assert made is not None
    assert made.email_verified is None


def test_what_can_be_no_key_makes_no_row() -> None:
    assert claims_row("user_\n", {}) is None


def test_claims_count_less_than_anything_clerk_says() -> None:
    said = claims_row(
        "user_1", dict.fromkeys(["email", "name", "given_name", "family_name", "nickname", "picture"], "x")
    )
    assert said is not None
    for other in (user_row({"id": "user_1", "updated_at": 300}, at=0), User("user_1", b"\1", deleted=True)):
        assert other is not None
        assert fold(said, other) is other
        assert fold(other, said) is other
        assert not is_provisional(other)


def test_of_two_tokens_the_one_that_says_more_counts() -> None:
    less, more = claims_row("user_1", {"name": "Z"}), claims_row("user_1", {"name": "A", "email": "a@b.example"})
    assert less is not None
    assert more is not None
    assert fold(more, less) is fold(less, more) is more


def test_whatever_is_buried_says_no_more_than_that() -> None:
    made = user_row(user(updated_at=9000), at=9000)
    assert made is not None
    tombstone = buried(made, at=5)
    assert tombstone == row_of(event("user.deleted", gone("user_1"), at=5))
    assert is_buried(tombstone.version)
    assert not is_buried(made.version)
    member = membership_row(membership(), at=1)
    assert member is not None
    left = buried(member, at=5)
    assert isinstance(left, Membership)
    assert (left.org_id, left.user_id, left.role, left.deleted) == ("org_1", "user_1", None, True)
    company = organization_row(organization(), at=1)
    assert company is not None
    assert buried(company, at=5) == row_of(event("organization.deleted", gone("org_1", "organization"), at=5))


def test_content_is_told_apart_from_when_it_was_heard_of() -> None:
    one, again, other = (user_row(user(username=name), at=at) for name, at in (("a", 1), ("a", 2), ("b", 1)))
    assert one is not None
    assert again is not None
    assert other is not None
    assert one.version != again.version
    assert has_content(one, again.version)
    assert not has_content(one, other.version)


def test_a_row_can_be_put_above_another() -> None:
    old, new = user_row(user(updated_at=1, username="a"), at=1), user_row(user(updated_at=2, username="b"), at=2)
    assert old is not None
    assert new is not None
    above = outranking(old, new.version)
    assert above.version > new.version
    assert has_content(old, above.version)
    assert replace(above, version=old.version) == old
    later = user_row(user(updated_at=3), at=3)
    assert later is not None
    assert later.version > above.version
