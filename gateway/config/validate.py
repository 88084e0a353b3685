"""The shape of the file, checked: pydantic's errors as findings, and what is left without the broken parts.

What is broken is taken out and the rest goes on, so that one typo does not hide what is wrong elsewhere.
"""

import types
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from gateway.config.findings import Path, Report, closest, did_you_mean
from gateway.config.schema import Settings

_MESSAGES = {
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "int_parsing_size": "must be a whole number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "finite_number": "must be a number",
    "string_type": "must be text",
    "string_unicode": "must be UTF-8 text",
    "tuple_type": "must be a list",
    "dict_type": "must be a mapping",
    "model_type": "must be a mapping",
}
NAMED = 8  # keys that a remedy has room for
_REMEDIES = {"string_type": "Put it in quotes"}


def validated(tree: dict[str, Any], report: Report) -> Settings:
    """Read the tree into settings; what has an error is noted, taken out of the tree, and its default stands."""
    while True:
        try:
            return Settings.model_validate(tree)
        except ValidationError as invalid:
            errors = invalid.errors(include_url=False, include_input=False)
        paths = [_path(tree, error["loc"]) for error in errors]
        for error, path in zip(errors, paths, strict=True):
            _note(error, path, report)
        # From the end, so that indexes stay true. Each round takes something away, so there is a last one.
        for path in reversed(dict.fromkeys(paths)):
            discard(tree, path)


def _path(tree: Any, location: Path) -> Path:
    """Give the part of pydantic's location that exists in the file; the rest names union members and split text."""
    node, path = tree, list[str | int]()
    for part in location:
        if not _has(node, part):
            break
        node = node[part]
        path.append(part)
    return tuple(path)


def _has(node: Any, part: str | int) -> bool:
    if isinstance(node, dict):
        return part in node
    return isinstance(node, list) and isinstance(part, int) and part < len(node)


def _note(error: ErrorDetails, path: Path, report: Report) -> None:
    if report.is_broken(path):
        return
    if error["type"] == "extra_forbidden":
        meant = closest(str(path[-1]), _known_keys(path[:-1]))
        report.error(path, "unknown key", did_you_mean(meant) or _keys(path[:-1]))
        if meant is not None:
            report.spoil((*path[:-1], meant))
        return
    # The input is never repeated: it may be a secret.
    words = error["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    remedy = _keys(path) if error["type"] == "model_type" else _REMEDIES.get(error["type"])
    report.error(path, _MESSAGES.get(error["type"], words), remedy)


def _keys(path: Path) -> str | None:
    """Name the keys of a section that has few."""
    known = tuple(_known_keys(path))
    return f"Its keys: {', '.join(known)}" if 0 < len(known) <= NAMED else None


def _known_keys(path: Path) -> Iterator[str]:
    annotation: Any = Settings
    for part in path:
        model = _model(annotation)
        if model is not None and part in model.model_fields:
            annotation = model.model_fields[str(part)].annotation
    model = _model(annotation)
    return iter(model.model_fields if model is not None else ())


def _model(annotation: Any) -> type[BaseModel] | None:
    """Find the section inside `Section | None`, `tuple[Section, ...]` or `dict[str, Section]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (Union, types.UnionType, tuple, dict, Annotated):
        return next(filter(None, map(_model, get_args(annotation))), None)
    return None


def discard(tree: Any, path: Path) -> None:
    """Take a value out of the tree, as if it had not been written. Places keep their numbers."""
    *above, last = path
    for part in above:
        tree = tree[part]
    if isinstance(tree, dict):
        tree.pop(last, None)
    else:
        _discard_item(tree, int(last))


def _discard_item(items: list[Any], index: int) -> None:
    # An empty mapping keeps the place of a section: `routes[3]` must still be the fourth. A list of texts just shrinks.
    if any(isinstance(item, Mapping) for item in items) and items[index] != {}:
        items[index] = {}
    else:
        del items[index]
