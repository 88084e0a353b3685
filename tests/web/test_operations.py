"""How answers are described; what is described is held against the running listener in `test_openapi`."""

from gateway.web.operations import OPERATIONS, PARAMETERS, REFUSALS, SCHEMAS, listed, several, shape


def test_a_shape_says_what_is_always_there() -> None:
    described = shape("A thing", id="string", size="integer?", of="Thing", maybe={"gone": "boolean"})
    assert described == {
        "type": "object",
        "description": "A thing",
        "properties": {
            "id": {"type": "string"},
            "size": {"type": ["integer", "null"]},
            "of": {"$ref": "#/components/schemas/Thing"},
            "gone": {"type": "boolean"},
        },
        "required": ["id", "size", "of"],
    }


def test_a_list_goes_on_with_a_cursor() -> None:
    assert several("Thing") == {"type": "array", "items": {"$ref": "#/components/schemas/Thing"}}
    described = listed("Thing", last="integer")
    assert described["required"] == ["data", "next_cursor", "last"]
    assert described["properties"]["next_cursor"] == {"type": ["string", "null"]}


def test_operations_name_only_what_there_is() -> None:
    for operation in OPERATIONS.values():
        assert operation.answer in SCHEMAS
        assert operation.body is None or operation.body in SCHEMAS
        assert set(operation.query) <= set(PARAMETERS)
        assert set(operation.refusals) <= set(REFUSALS)
