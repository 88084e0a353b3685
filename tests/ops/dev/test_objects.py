"""What Clerk says of things, held against what the gateway's directory reads out of it."""

import json

from gateway.core.directory import row_of
from gateway.core.events import read_event
from gateway.ops.dev.objects import (
    Session,
    deleted_json,
    event_json,
    membership_json,
    organisation_json,
    session_json,
    user_json,
)
from gateway.ops.dev.people import ACME, Membership, Person, find_person

ALICE = find_person("alice")


def read(kind, data):
    return read_event(json.dumps(event_json(kind, data, at=7, instance="ins_dev")).encode())


def test_the_directory_knows_a_user_by_it():
    person = Person(
        "user_1", given_name="Ada", family_name="Lovelace", email="ada@x.example", external_id="7", username="ada",
        image_url="https://img.example/a.png", public_metadata={"tier": "gold"}, private_metadata={"a": 1}, locked=True,
        created_at=1000, updated_at=2000,
    )  # fmt: skip
    row = row_of(read("user.updated", user_json(person)))
    assert (row.id, row.email, row.email_verified, row.name) == ("user_1", "ada@x.example", True, "Ada Lovelace")
    assert (row.given_name, row.family_name, row.nickname, row.external_id) == ("Ada", "Lovelace", "ada", "7")
    assert (row.picture, row.banned, row.locked) == ("https://img.example/a.png", False, True)
    assert (row.public_metadata, row.created_at, row.updated_at) == ({"tier": "gold"}, 1000, 2000)


def test_a_user_without_anything_has_nulls():
    row = row_of(read("user.created", user_json(Person("user_1"))))
    assert (row.email, row.email_verified, row.name, row.picture, row.external_id) == (None, None, None, None, None)


def test_an_unverified_address_is_said_so():
    row = row_of(read("user.created", user_json(Person("user_1", email="a@x.example", email_verified=False))))
    assert (row.email, row.email_verified) == ("a@x.example", False)


def test_the_directory_knows_organisations_and_memberships_by_it():
    row = row_of(read("organization.created", organisation_json(ACME, members=2)))
    assert (row.id, row.name, row.slug) == ("org_acme", "Acme", "acme")
    held = Membership(ACME, "org:admin", "orgmem_1")
    row = row_of(read("organizationMembership.created", membership_json(ALICE, held, members=2)))
    assert (row.id, row.org_id, row.user_id, row.role) == ("orgmem_1", "org_acme", "user_alice", "org:admin")


def test_what_is_deleted_is_its_id_alone():
    assert deleted_json("user", "user_1", "7") == {
        "object": "user",
        "id": "user_1",
        "deleted": True,
        "external_id": "7",
    }
    assert deleted_json("user", "user_1").keys() == {"object", "id", "deleted"}
    assert row_of(read("user.deleted", deleted_json("user", "user_1"))).deleted


def test_a_session_names_its_user_and_what_became_of_it():
    event = read("session.ended", session_json(Session("sess_1", "user_1", 5, 6, "ended"), org_id="org_acme"))
    assert (event.object_id, event.user_id, event.data["status"]) == ("sess_1", "user_1", "ended")
    assert event.data["last_active_organization_id"] == "org_acme"


def test_an_event_is_wrapped_as_clerk_wraps_it():
    told = event_json("user.created", {"id": "user_1"}, at=7, instance="ins_dev")
    assert told.keys() == {"data", "event_attributes", "instance_id", "object", "timestamp", "type"}
    assert told["event_attributes"]["http_request"].keys() == {"client_ip", "user_agent"}
    assert (told["object"], told["timestamp"], told["instance_id"]) == ("event", 7, "ins_dev")
