"""What happens at the local issuer, and what is told of it."""

import pytest

from gateway.ops.dev.happenings import TYPES, Wanted, check_may_sign_in, happen, sign_in
from gateway.ops.dev.world import World


@pytest.fixture
def world():
    return World(now=lambda: 1_800_000_000.0)


def told(world, kind, user=None, org=None, **changes):
    return happen(world, Wanted(kind, user, org, changes))


def types(happenings):
    return [each.type for each in happenings]


def test_a_changed_user_is_told_and_kept(world):
    (event,) = told(world, "user.updated", "bob", first_name="Robert")
    assert (event.type, event.about, event.data["first_name"]) == ("user.updated", "user_bob", "Robert")
    assert world.person("user_bob").given_name == "Robert"
    assert event.data["updated_at"] == 1_800_000_000_000


def test_a_user_who_is_there_is_told_of_again_and_stays_as_is(world):
    before = world.person("alice")
    (event,) = told(world, "user.created", "alice")
    assert (event.about, event.data["first_name"]) == ("user_alice", "Alice")
    assert world.person("alice") == before


@pytest.mark.parametrize("user", [None, "user_eve"])
def test_a_new_user_is_made(world, user):
    (event,) = told(world, "user.created", user, first_name="Eve")
    assert world.person(event.about).given_name == "Eve"
    assert event.data["email_addresses"][0]["email_address"].endswith("@mail.example")
    assert event.data["created_at"] == 1_800_000_000_000
    assert user in (None, event.about)


def test_a_deleted_user_leaves_organisations_and_cannot_sign_in(world):
    assert types(told(world, "user.deleted", "alice")) == [
        "user.deleted", "organizationMembership.deleted", "organizationMembership.deleted",
    ]  # fmt: skip
    with pytest.raises(ValueError, match="was deleted"):
        world.person("user_alice")


def test_a_ban_ends_the_session(world):
    session, begun = sign_in(world, world.person("bob"))
    assert types(begun) == ["session.created"]
    events = told(world, "user.updated", "bob", banned=True)
    assert types(events) == ["user.updated", "session.revoked"]
    assert (events[1].data["id"], events[1].data["status"]) == (session.id, "revoked")
    assert types(told(world, "user.updated", "bob", first_name="B")) == ["user.updated"]


@pytest.mark.parametrize("state", ["banned", "locked"])
def test_who_is_banned_or_locked_may_not_sign_in_until_that_ends(world, state):
    told(world, "user.updated", "bob", **{state: True})
    with pytest.raises(ValueError, match=f"{state}.* --set {state}=false"):
        check_may_sign_in(world.person("bob"))
    told(world, "user.updated", "bob", **{state: False})
    check_may_sign_in(world.person("bob"))


def test_signing_in_begins_one_session_and_tells_of_it_once(world):
    alice = world.person("alice")
    session, begun = sign_in(world, alice)
    assert sign_in(world, alice) == (session, [])
    assert begun[0].data["user_id"] == "user_alice"
    assert begun[0].about == "user_alice"
    assert begun[0].data["user"]["id"] == "user_alice"


def test_a_stranger_signs_in_without_a_word(world):
    session, begun = sign_in(world, world.person("user_stranger"))
    assert (session.user_id, begun) == ("user_stranger", [])


@pytest.mark.parametrize("what", ["ended", "removed", "revoked"])
def test_a_session_ends(world, what):
    session, _ = sign_in(world, world.person("alice"))
    (event,) = told(world, f"session.{what}", "alice")
    assert (event.data["id"], event.data["status"]) == (session.id, what)
    assert world.session("user_alice") is None
    assert types(told(world, f"session.{what}", "alice")) == [f"session.{what}"]  # of one nobody has heard of


def test_an_organisation_is_made_changed_and_deleted(world):
    (event,) = told(world, "organization.created", org="org_new", name="New", slug="new")
    assert (event.about, event.data["name"], event.data["members_count"]) == ("org_new", "New", 0)
    (event,) = told(world, "organization.updated", org="new", name="Newer")
    assert world.organisation("org_new").name == event.data["name"] == "Newer"
    assert types(told(world, "organization.deleted", org="acme")) == [
        "organization.deleted", "organizationMembership.deleted", "organizationMembership.deleted",
    ]  # fmt: skip
    assert world.person("bob").memberships == ()


def test_a_member_joins_changes_role_and_leaves(world):
    (event,) = told(world, "organizationMembership.created", "carol", "acme", role="admin")
    assert (event.data["role"], event.data["organization"]["members_count"]) == ("org:admin", 3)
    assert event.about == "user_carol"
    (event,) = told(world, "organizationMembership.updated", "carol", "acme", role="org:member")
    assert world.person("carol").memberships[0].role == event.data["role"] == "org:member"
    (event,) = told(world, "organizationMembership.deleted", "carol", "acme")
    assert event.data["public_user_data"]["user_id"] == "user_carol"
    assert world.person("carol").memberships == ()


def test_a_members_own_first_organisation_is_meant_where_none_is_named(world):
    (event,) = told(world, "organizationMembership.updated", "alice", role="member")
    assert (event.data["organization"]["id"], event.data["role"]) == ("org_acme", "org:member")


def test_a_membership_that_is_there_is_told_of_again_and_stays_as_is(world):
    before = world.person("bob")
    (event,) = told(world, "organizationMembership.created", "bob", "acme")
    assert event.data["id"] == "orgmem_bob_acme"
    assert world.person("bob") == before


def test_any_other_type_says_what_it_is_told_to(world):
    (event,) = told(world, "subscriptionItem.pastDue", "bob", "acme", plan="pro", **{"payer.user_id": "user_bob"})
    assert event.data["object"] == "subscription_item"
    assert (event.data["user_id"], event.data["organization_id"]) == ("user_bob", "org_acme")
    assert (event.data["plan"], event.data["payer"]) == ("pro", {"user_id": "user_bob"})
    assert "user_id" not in told(world, "waitlistEntry.created")[0].data


def test_raw_data_goes_into_the_event_alone(world):
    before = world.person("bob")
    (event,) = told(world, "user.updated", "bob", **{"data.updated_at": 7, "data.first_name": None, "data.a.b": 1})
    assert (event.data["updated_at"], event.data["first_name"], event.data["a"]) == (7, None, {"b": 1})
    assert world.person("bob") == before


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        pytest.param(Wanted(""), "a type is like", id="no-type"),
        pytest.param(Wanted("user updated"), "a type is like", id="blank"),
        pytest.param(Wanted("x" * 256), "a type is like", id="too-long"),
        pytest.param(Wanted("user.updated", "mallory"), "no user 'mallory'", id="nobody"),
        pytest.param(Wanted("user.updated", "user_x"), "user.created", id="somebody-nothing-is-known-of"),
        pytest.param(Wanted("user.deleted"), "--user", id="delete-nobody"),
        pytest.param(Wanted("user.deleted", "bob", changes={"first_name": "x"}), "changes nothing but", id="no-change"),
        pytest.param(Wanted("user.updated", "bob", changes={"role": "x"}), "no such field", id="no-such-field"),
        pytest.param(Wanted("user.created", "user_x", changes={"banned": "x"}), "true or false", id="wrong-value"),
        pytest.param(Wanted("organization.updated"), "--org", id="no-organisation"),
        pytest.param(Wanted("organization.updated", org="org_x"), "organization.created", id="unknown-organisation"),
        pytest.param(Wanted("organizationMembership.updated", "carol"), "no member of any", id="member-of-none"),
        pytest.param(Wanted("organizationMembership.created", "carol"), "no member of any", id="join-nothing"),
        pytest.param(
            Wanted("organizationMembership.deleted", "carol", "acme"), "no member of org_acme", id="no-member"
        ),
        pytest.param(
            Wanted("organizationMembership.created", "carol", "acme", {"role": "a b"}), "Clerk's form", id="bad-role"
        ),
        pytest.param(
            Wanted("organizationMembership.created", "carol", "acme", {"name": "x"}), "no such field", id="bad-field"
        ),
        pytest.param(
            Wanted("user.updated", "bob", changes={"first_name": "x", "data." + "a." * 300: 1}),
            "at most",
            id="long-name",
        ),
    ],
)
def test_what_cannot_be_is_refused_and_changes_nothing(world, wanted, says):
    before = world.people, world.organisations
    with pytest.raises(ValueError, match=says):
        happen(world, wanted)
    assert (world.people, world.organisations) == before


@pytest.mark.parametrize("kind", TYPES)
def test_every_known_type_can_be_had_of_a_sample(world, kind):
    events = told(world, kind, "bob", "acme")
    assert events[0].type == kind
    assert events[0].data["object"]
