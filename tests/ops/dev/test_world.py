"""The little world: who there is, and that what is gone stays gone."""

from dataclasses import replace

import pytest

from gateway.ops.dev.people import ACME, PEOPLE, Person
from gateway.ops.dev.world import World

NOW = 1_800_000_000.0


@pytest.fixture
def world():
    return World(now=lambda: NOW)


def test_it_begins_with_the_samples(world):
    assert [person.id for person in world.people] == [person.id for person in PEOPLE]
    alice = world.person("alice")
    assert [(held.organisation.id, held.role) for held in alice.memberships] == [
        ("org_acme", "org:admin"), ("org_globex", "org:member"),
    ]  # fmt: skip
    assert [held.id for held in alice.memberships] == ["orgmem_alice_acme", "orgmem_alice_globex"]
    assert [person.id for person, _ in world.members("org_acme")] == ["user_alice", "user_bob"]


def test_an_organisation_that_changed_is_seen_in_every_membership(world):
    world.put_organisation(replace(ACME, name="Acme 2"))
    assert world.person("alice").memberships[0].organisation.name == "Acme 2"
    assert world.members("org_acme")[0][1].organisation.name == "Acme 2"


def test_any_id_of_the_right_form_is_somebody_nothing_is_known_of(world):
    assert world.person("user_x") == Person("user_x")
    assert not world.is_known("user_x")
    assert world.is_known("user_bob")
    assert world.is_known("org_acme")


def test_nobody_is_found_by_having_no_name(world):
    world.put_person(Person("user_x"))
    with pytest.raises(ValueError, match="no user ''"):
        world.person("")


@pytest.mark.parametrize("look", [lambda world: world.person("user_bob"), lambda world: world.organisation("org_acme")])
def test_what_was_deleted_is_not_found_again(world, look):
    look(world)
    world.drop("user_bob")
    world.drop("org_acme")
    with pytest.raises(ValueError, match="was deleted"):
        look(world)


def test_what_is_deleted_takes_memberships_and_session_along(world):
    world.begin_session("user_bob")
    world.drop("user_bob")
    assert world.session("user_bob") is None
    assert [person.id for person, _ in world.members("org_acme")] == ["user_alice"]
    world.drop("org_acme")
    assert [held.organisation.id for held in world.person("alice").memberships] == ["org_globex"]


def test_every_change_is_later_than_the_one_before_even_within_a_millisecond(world):
    once = world.touched(world.person("alice"))
    assert once.updated_at == NOW * 1000
    assert world.touched(once).updated_at == NOW * 1000 + 1


def test_who_comes_back_has_another_membership(world):
    bob = world.person("bob")
    world.leave(bob, bob.memberships[0])
    assert world.person("bob").memberships == ()
    held = world.join(bob, ACME)
    assert held.id.startswith("orgmem_bob_acme_")
    assert world.person("bob").memberships[0].id == held.id


def test_a_session_is_one_until_it_ends(world):
    session = world.begin_session("user_bob")
    assert world.session("user_bob") == world.session_by_id(session.id) == session
    ended = world.end_session(session, "revoked")
    assert (ended.status, ended.id, ended.updated_at > session.updated_at) == ("revoked", session.id, True)
    assert world.session("user_bob") is None
    assert world.begin_session("user_bob").id != session.id


def test_a_copy_lives_on_its_own(world):
    other = world.copy()
    other.drop("user_bob")
    other.put_organisation(replace(ACME, name="Other"))
    other.begin_session("user_alice")
    assert world.is_known("user_bob")
    assert world.organisation("acme").name == "Acme"
    assert world.session("user_alice") is None
    world.drop("user_dave")
    assert other.is_known("user_dave")
