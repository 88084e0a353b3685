"""Reads an OpenAPI document as far as ours goes: follows its references, holds an answer against what it promises."""

from collections.abc import Iterator
from typing import Any

from tests.fakes.gateway import Answer

TYPES = {
    "object": (dict,), "array": (list,), "string": (str,), "boolean": (bool,), "integer": (int,), "number": (int, float),
    "null": (type(None),),
}  # fmt: skip
KNOWN = {
    "type",
    "description",
    "properties",
    "required",
    "items",
    "enum",
    "const",
    "$ref",
    "minimum",
    "maximum",
    "default",
}


class Document:
    """A parsed document."""

    def __init__(self, content: dict[str, Any]) -> None:
        self.content = content

    def resolved(self, node: dict[str, Any]) -> dict[str, Any]:
        """Follow a reference. Raises KeyError where it leads nowhere."""
        if "$ref" not in node:
            return node
        found: Any = self.content
        for name in node["$ref"].removeprefix("#/").split("/"):
            found = found[name]
        return self.resolved(found)

    def references(self, node: Any = None) -> Iterator[str]:
        """Give every reference."""
        node = self.content if node is None else node
        if isinstance(node, dict):
            if isinstance(node.get("$ref"), str):
                yield node["$ref"]
            node = list(node.values())
        if isinstance(node, list | tuple):
            for each in node:
                yield from self.references(each) if each is not None else ()

    def check_answer(self, answer: Answer, method: str, path: str) -> None:
        """Hold an answer against the description of its address: status, media type, body."""
        operation = self.content["paths"][path][method.lower()]
        described = self.resolved(operation["responses"][str(answer.status)])
        for name in described.get("headers", {}):
            assert answer.value(name.lower())
        if "content" not in described:
            assert answer.body == b""
            return
        media_type = (answer.value("content-type") or "").split(";")[0]
        self.check(answer.json, described["content"][media_type]["schema"])

    def check(self, value: Any, schema: dict[str, Any], at: str = "$") -> None:
        """Hold a value against a schema, and find members that it does not mention."""
        schema = self.resolved(schema)
        assert set(schema) <= KNOWN, f"{at}: {set(schema) - KNOWN} is not checked"
        kinds = schema.get("type")
        if kinds is not None:
            kinds = [kinds] if isinstance(kinds, str) else kinds
            assert type(value) in [kind for name in kinds for kind in TYPES[name]], f"{at}: {value!r} is no {kinds}"
        assert value in schema.get("enum", [value]), f"{at}: {value!r}"
        assert value == schema.get("const", value), f"{at}: {value!r}"
        if isinstance(value, list):
            for number, each in enumerate(value):
                self.check(each, schema["items"], f"{at}[{number}]")
        elif isinstance(value, dict) and "properties" in schema:
            assert set(schema.get("required", ())) <= set(value) <= set(schema["properties"]), f"{at}: {sorted(value)}"
            for name, each in value.items():
                self.check(each, schema["properties"][name], f"{at}.{name}")
