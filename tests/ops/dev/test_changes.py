"""Changes by Clerk's names."""

import pytest

from gateway.ops.dev.changes import MEMBERSHIP, ORGANISATION, USER, changed, put_all
from gateway.ops.dev.people import ACME, Membership, Person

PERSON = Person("user_1", given_name="Ada", public_metadata={"tier": "gold", "a": {"b": 1}})


@pytest.mark.parametrize(
    ("changes", "attribute", "value"),
    [
        pytest.param({"first_name": "Grace"}, "given_name", "Grace", id="text"),
        pytest.param({"first_name": None}, "given_name", "", id="null-empties"),
        pytest.param({"email": "a@x.example"}, "email", "a@x.example", id="e-mail"),
        pytest.param({"banned": True}, "banned", True, id="flag"),
        pytest.param({"banned": None}, "banned", False, id="null-is-no"),
        pytest.param({"public_metadata": {"x": 1}}, "public_metadata", {"x": 1}, id="metadata-whole"),
        pytest.param(
            {"public_metadata.tier": "tin"}, "public_metadata", {"tier": "tin", "a": {"b": 1}}, id="metadata-member"
        ),
        pytest.param({"public_metadata.tier": None}, "public_metadata", {"a": {"b": 1}}, id="null-takes-member-away"),
        pytest.param(
            {"public_metadata.a.c": 2}, "public_metadata", {"tier": "gold", "a": {"b": 1, "c": 2}}, id="metadata-deep"
        ),
    ],
)
def test_user_changes(changes, attribute, value):
    assert getattr(changed(PERSON, changes, USER), attribute) == value


def test_a_change_leaves_the_old_row_as_it_was():
    changed(PERSON, {"public_metadata.a.b": 2}, USER)
    assert PERSON.public_metadata == {"tier": "gold", "a": {"b": 1}}


def test_organisations_and_memberships_change_too():
    assert changed(ACME, {"name": "Acme 2", "slug": "a2"}, ORGANISATION).name == "Acme 2"
    assert changed(Membership(ACME, "org:member"), {"role": "org:admin"}, MEMBERSHIP).role == "org:admin"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        pytest.param({"firstname": "x"}, "did you mean first_name", id="near"),
        pytest.param({"zzz": "x"}, "there are first_name, ", id="far"),
        pytest.param({"id": "user_2"}, "no such field: id", id="not-to-be-changed"),
        pytest.param({"first_name.x": "x"}, "no such field", id="member-of-text"),
        pytest.param({"first_name": True}, "first_name is text", id="flag-for-text"),
        pytest.param({"banned": "yes"}, "banned is true or false", id="text-for-flag"),
        pytest.param({"banned": 1}, "banned is true or false", id="number-for-flag"),
        pytest.param({"public_metadata": []}, "public_metadata is an object", id="list-for-object"),
    ],
)
def test_user_changes_refused(changes, says):
    with pytest.raises(ValueError, match=says):
        changed(PERSON, changes, USER)


def test_values_are_put_at_dotted_names():
    assert put_all({"a": {"b": 1}, "c": 2}, {"a.x.y": 3, "c": None}) == {"a": {"b": 1, "x": {"y": 3}}, "c": None}
    assert put_all({"a": 1}, {"a.b": 2}) == {"a": {"b": 2}}
