"""The options of `gateway dev event`, on the wire and on the command line."""

import pytest

from gateway.ops.dev.event_request import EventOptions, check_event_options, read_changes, read_event_options
from gateway.ops.dev.happenings import Wanted
from gateway.ops.dev.sending import Manner


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(EventOptions("user.updated"), id="defaults"),
        pytest.param(
            EventOptions("user.updated", "bob", "acme", {"first_name": "B"}, None, True, True, True, 600), id="all"
        ),
        pytest.param(EventOptions(again="msg_1", send=False), id="again"),
    ],
)
def test_options_survive_the_wire(options):
    assert read_event_options(options.to_json()) == options


def test_options_say_what_happens_and_how_it_is_signed():
    options = EventOptions("user.updated", "bob", "acme", {"a": 1}, bad_signature=True, old_s=5)
    assert options.wanted == Wanted("user.updated", "bob", "acme", {"a": 1})
    assert options.manner == Manner(bad_signature=True, old_s=5)
    assert EventOptions("x").manner.is_true


def test_changes_may_come_as_lines():
    assert read_event_options({"type": "user.updated", "set": ["first_name=Ada"]}).set == {"first_name": "Ada"}


@pytest.mark.parametrize(
    ("body", "says"),
    [
        pytest.param([], "JSON object", id="list"),
        pytest.param({"tipe": "x"}, "no such option: tipe", id="unknown"),
        pytest.param({"type": 1}, "type is of the wrong type", id="number-for-text"),
        pytest.param({"type": "x", "set": "a=1"}, "set is", id="text-for-changes"),
        pytest.param({"type": "x", "set": [1]}, "--set takes", id="numbers-for-lines"),
        pytest.param({"type": "x", "twice": 1}, "twice is", id="number-for-flag"),
        pytest.param({"type": "x", "old_s": True}, "old_s is", id="flag-for-number"),
        pytest.param({"type": "x", "old_s": 10**12}, "out of range", id="older-than-time"),
        pytest.param({}, "name a type", id="nothing"),
        pytest.param({"type": "x", "again": "msg_1"}, "name a type", id="both"),
    ],
)
def test_options_refused(body, says):
    with pytest.raises(ValueError, match=says):
        read_event_options(body)


@pytest.mark.parametrize(
    "options",
    [EventOptions(again="msg_1", hold=True), EventOptions("user.updated", hold=True, send=False)],
    ids=["sent-before", "not-sent"],
)
def test_only_what_is_new_is_held_back(options):
    with pytest.raises(ValueError, match="held back"):
        check_event_options(options)


@pytest.mark.parametrize(
    ("word", "changes"),
    [
        pytest.param("first_name=Ada", {"first_name": "Ada"}, id="text"),
        pytest.param("first_name=", {"first_name": ""}, id="empty"),
        pytest.param("first_name=a=b", {"first_name": "a=b"}, id="equals-in-value"),
        pytest.param("banned=true", {"banned": True}, id="flag"),
        pytest.param("external_id=1001", {"external_id": "1001"}, id="number-where-clerk-has-text"),
        pytest.param("public_metadata.age=7", {"public_metadata.age": 7}, id="number-in-metadata"),
        pytest.param('public_metadata={"a": 1}', {"public_metadata": {"a": 1}}, id="object"),
        pytest.param("first_name=null", {"first_name": None}, id="null"),
        pytest.param("first_name={", {"first_name": "{"}, id="no-json"),
        pytest.param("first_name=" + "[" * 100_000, {"first_name": "[" * 100_000}, id="nested-beyond-reason"),
    ],
)
def test_changes_are_read(word, changes):
    assert read_changes([word]) == changes


@pytest.mark.parametrize("word", ["first_name", "=x", ""])
def test_what_is_no_change_is_refused(word):
    with pytest.raises(ValueError, match="name=value"):
        read_changes([word])
