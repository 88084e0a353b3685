from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.events import Sender, WebhookPolicy, as_ms, check_instance, member, read_event
from gateway.errors import BadRequest

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["a", "user", "private_metadata"]), inner),
    max_leaves=20,
)


def body(**members: Any) -> bytes:
    return orjson.dumps(
        {"type": "user.updated", "object": "event", "timestamp": 7, "instance_id": "ins_1", "data": {"id": "user_1"}}
        | members
    )


def test_an_event_says_what_it_is_about() -> None:
    event = read_event(body())
    assert (event.type, event.at, event.instance, event.object_id) == ("user.updated", 7, "ins_1", "user_1")
    assert event.data == {"id": "user_1"}
    assert orjson.loads(event.body) == orjson.loads(body())


def test_an_unknown_type_is_an_event_too() -> None:
    event = read_event(body(type="tomorrow.invented", data={"anything": [1]}))
    assert (event.type, event.object_id, event.user_id) == ("tomorrow.invented", None, None)


def test_what_an_older_payload_lacks_is_left_open() -> None:
    event = read_event(b'{"type": "user.created", "data": {}}')
    assert (event.at, event.instance, event.object_id) == (0, None, None)


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"{", id="broken"),
        pytest.param(b"\xff\xfe", id="not-utf-8"),
        pytest.param(b'{"type": "user.created", "data": {"id": "\\ud800"}}', id="half-a-surrogate-pair"),
        pytest.param(b"[]", id="list"),
        pytest.param(b'"user.created"', id="text"),
        pytest.param(b"null", id="null"),
        pytest.param(body(type=None), id="no-type"),
        pytest.param(body(type=7), id="type-is-a-number"),
        pytest.param(body(type=""), id="type-is-empty"),
        pytest.param(body(type="user\n.created"), id="type-with-a-control"),
        pytest.param(body(type="x" * 256), id="type-too-long"),
        pytest.param(body(data=None), id="no-data"),
        pytest.param(body(data=[]), id="data-is-a-list"),
        pytest.param(b'{"type": "t", "data": {"a": ' + b"[" * 300 + b"]" * 300 + b"}}", id="deeper-than-can-be-written"),
        pytest.param(b'{"type": "t", "data": ' + b'{"a":' * 5000 + b"1" + b"}" * 5001, id="deeper-than-can-be-read"),
    ],
)  # fmt: skip
def test_read_event_refuses(sent: bytes) -> None:
    with pytest.raises(BadRequest) as refused:
        read_event(sent)
    assert refused.value.reason == "event"


@pytest.mark.parametrize(
    "data",
    [
        pytest.param({"private_metadata": {"k": "secret"}}, id="user"),
        pytest.param({"organization": {"private_metadata": {"k": "secret"}}}, id="membership-s-organisation"),
        pytest.param({"user": {"a": [{"private_metadata": "secret"}]}}, id="session-s-user"),
        pytest.param({"list": [[{"x": {"private_metadata": "secret"}}]]}, id="in-lists"),
    ],
)
def test_private_metadata_is_cut_wherever_it_stands(data: dict[str, Any]) -> None:
    event = read_event(body(data=data))
    assert b"secret" not in event.body
    assert "secret" not in str(event.data)
    assert b"secret" in read_event(body(data=data), keep_private=True).body


def test_private_metadata_that_comes_twice_or_escaped_is_cut() -> None:
    sent = b'{"type":"user.created","data":{"private_metadata":"secret1","pr\\u0069vate_metadata":"secret2"}}'
    assert read_event(sent).body == b'{"type":"user.created","data":{}}'


def test_what_the_application_keeps_in_public_metadata_is_its_own() -> None:
    own = {"public_metadata": {"private_metadata": 1}, "unsafe_metadata": {"private_metadata": 2}}
    assert read_event(body(data=own)).data == own


@given(JSON)
def test_no_private_metadata_is_ever_stored(tree: Any) -> None:
    assert b'"private_metadata":' not in read_event(body(data={"tree": tree})).body


@pytest.mark.parametrize(
    ("kind", "data", "user"),
    [
        pytest.param("user.deleted", {"id": "user_1", "deleted": True}, "user_1", id="user"),
        pytest.param("user.updated", {"user_id": "user_2"}, None, id="user-without-id"),
        pytest.param("session.created", {"id": "sess_1", "user_id": "user_1"}, "user_1", id="session"),
        pytest.param("session.created", {"id": "sess_1", "user": {"id": "user_1"}}, "user_1", id="session-s-user"),
        pytest.param("email.created", {"id": "ema_1", "user_id": "user_1"}, "user_1", id="mail"),
        pytest.param(
            "organizationMembership.created", {"public_user_data": {"user_id": "user_1"}}, "user_1", id="membership"
        ),
        pytest.param("subscription.created", {"payer": {"user_id": "user_1"}}, "user_1", id="payer"),
        pytest.param("organization.created", {"id": "org_1"}, None, id="organisation"),
        pytest.param("x.y", {"user_id": 5, "payer": "?", "user": None}, None, id="other-shapes"),
    ],
)
def test_the_user_whose_data_an_event_holds(kind: str, data: dict[str, Any], user: str | None) -> None:
    assert read_event(body(type=kind, data=data)).user_id == user


def test_an_event_of_another_instance_is_refused() -> None:
    event = read_event(body(instance_id="ins_1"))
    check_instance(event, frozenset())
    check_instance(event, frozenset({"ins_1", "ins_2"}))
    check_instance(read_event(body(instance_id=None)), frozenset({"ins_2"}))
    with pytest.raises(BadRequest) as refused:
        check_instance(event, frozenset({"ins_2"}))
    assert refused.value.reason == "instance"


@pytest.mark.parametrize(
    ("value", "ms"),
    [
        pytest.param(0, 0, id="zero"),
        pytest.param(1_700_000_000_000, 1_700_000_000_000, id="now"),
        pytest.param(True, None, id="bool"),
        pytest.param(1.5, None, id="float"),
        pytest.param("1", None, id="text"),
        pytest.param(-1, None, id="negative"),
        pytest.param(2**53, None, id="too-large"),
    ],
)
def test_as_ms(value: Any, ms: int | None) -> None:
    assert as_ms(value) == ms


def test_member_gives_objects_only() -> None:
    assert member({"a": {"b": 1}}, "a") == {"b": 1}
    assert member({"a": [1]}, "a") == {}


@pytest.mark.parametrize(
    ("paths", "secrets", "needed"),
    [((), ("s",), False), (("/in",), (), False), (("/in",), ("s",), True)],
    ids=["nowhere", "unverifiable", "both"],
)
def test_a_store_is_needed_where_something_can_come_in(
    paths: tuple[str, ...], secrets: tuple[str, ...], needed: bool
) -> None:
    policy = WebhookPolicy(paths=paths, senders=(Sender("clerk", secrets),))
    assert policy.needs_store == needed
    assert "secrets" not in repr(policy)
