"""The sample users and organisations, and how they are looked up."""

import re
from dataclasses import replace

import pytest

from gateway.ops.dev.people import ACME, ORGANISATIONS, PEOPLE, ROLE_PERMISSIONS, Person, find_organisation, find_person


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        pytest.param(None, "user_alice", id="first-by-default"),
        pytest.param("user_bob", "user_bob", id="by-id"),
        pytest.param("bob", "user_bob", id="by-id-without-its-beginning"),
        pytest.param("ed", "user_dave", id="by-first-name"),
        pytest.param("user_2abc", "user_2abc", id="made-up"),
    ],
)
def test_person_is_found(wanted, found):
    people = [replace(person, given_name="Ed") if person.id == "user_dave" else person for person in PEOPLE]
    assert find_person(wanted, people).id == found


def test_an_id_comes_before_another_ones_first_name():
    assert find_person("bob", [Person("user_1", given_name="Bob"), Person("user_bob")]).id == "user_bob"


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        pytest.param("org_acme", ("org_acme", "acme"), id="by-id"),
        pytest.param("globex", ("org_globex", "globex"), id="by-slug"),
        pytest.param("org_2Xy", ("org_2Xy", "2xy"), id="made-up"),
    ],
)
def test_organisation_is_found(wanted, found):
    organisation = find_organisation(wanted)
    assert (organisation.id, organisation.slug) == found


@pytest.mark.parametrize("wanted", ["", "mallory", "org_acme", "mch_1"])
def test_what_is_no_user_id_is_refused_with_those_there_are(wanted):
    with pytest.raises(ValueError, match=re.escape("take user_alice, user_bob, user_carol, user_dave")):
        find_person(wanted)


@pytest.mark.parametrize("wanted", ["", "initech", "user_alice"])
def test_what_is_no_organisation_id_is_refused_with_those_there_are(wanted):
    with pytest.raises(ValueError, match="take acme, globex"):
        find_organisation(wanted)


def test_samples_show_every_case():
    held = [membership.role for person in PEOPLE for membership in person.memberships]
    assert set(held) == set(ROLE_PERMISSIONS) == {"org:admin", "org:member"}
    assert any(not person.memberships and not person.pending for person in PEOPLE)
    assert any(person.pending for person in PEOPLE)
    assert ACME in ORGANISATIONS
    assert all(person.name and person.email.endswith(".example") for person in PEOPLE)
