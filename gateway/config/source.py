"""YAML to plain values: where each stands, `${VAR}`s replaced, and none of YAML 1.1's surprises.

Nodes are composed by PyYAML and read here, because its constructors lose line numbers, let the last of two equal keys
win, and make `no`, `22:22` and `2026-01-01` something else than text.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import yaml

from gateway.config.findings import Finding, Path, Place, Report, Unreadable

MAX_BYTES = 256 * 1024  # some 3,000 lines
MAX_DEPTH = 32  # the schema needs 6; PyYAML recurses for each level

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
_WHOLE = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})")
_REAL = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})\.[0-9]*(?:[eE][-+]?[0-9]{1,3})?")
_ALIAS = "alias"
_TAGS = frozenset(f"tag:yaml.org,2002:{kind}" for kind in ("str", "seq", "map"))


class _Loader(yaml.SafeLoader):
    """Composes nodes; every plain scalar is text until `_plain` looks at it."""

    yaml_implicit_resolvers: ClassVar[dict[Any, Any]] = {}  # type: ignore[misc]

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Compose one node, within bounds; an alias only by name, since ten of them can make a billion values."""
        if self.check_event(yaml.AliasEvent):
            event = self.get_event()  # type: ignore[no-untyped-call]  # of a superclass without stubs
            return yaml.ScalarNode(_ALIAS, event.anchor, event.start_mark, event.end_mark)
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise yaml.composer.ComposerError(None, None, f"nested more than {MAX_DEPTH} deep", None)
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


def read(text: str, environ: Mapping[str, str], report: Report) -> Any:
    """Read YAML into dicts, lists and scalars, with the place of each noted in the report.

    Raises:
        Unreadable: not YAML, or too large.
    """
    if len(text) > MAX_BYTES:
        raise unreadable(report.file, f"larger than {MAX_BYTES} bytes")
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or "a character that YAML does not take"
        raise unreadable(report.file, f"not YAML: {problem}", line=mark.line + 1 if mark else None) from None
    except (ValueError, OverflowError):  # PyYAML lets `"\Uffffffff"` and `%YAML 1.999…` out as these
        raise unreadable(report.file, "not YAML: an escape or number out of range") from None
    return {} if node is None else _Reader(environ, report).value(node, ())


def unreadable(file: str, message: str, *, line: int | None = None, remedy: str | None = None) -> Unreadable:
    """Make the error that says why there is nothing to judge."""
    return Unreadable((Finding(file, line, "", message, remedy),))


class _Reader:
    """Turns nodes into values."""

    def __init__(self, environ: Mapping[str, str], report: Report) -> None:
        self._environ = environ
        self._report = report

    def value(self, node: yaml.Node, path: Path) -> Any:
        """Read a node and note where it stands."""
        self._report.places.setdefault(path, Place(node.start_mark.line + 1))
        if node.tag not in _TAGS:
            what = "aliases (*name)" if node.tag == _ALIAS else "tags (!name)"
            self._report.error(path, f"YAML's {what} are not supported", "Write the value out")
            return None
        if isinstance(node, yaml.MappingNode):
            return {key: self.value(child, (*path, key)) for key, child in self._entries(node, path)}
        if isinstance(node, yaml.SequenceNode):
            return self._items(node, path)
        return self._scalar(node, path)

    def _entries(self, node: yaml.MappingNode, path: Path) -> Iterator[tuple[str, yaml.Node]]:
        seen: set[str] = set()
        for key, child in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag not in _TAGS:
                self._report.error(path, "a key must be text")
                continue
            here = (*path, key.value)
            if key.value in seen:
                line = self._report.places[here].line
                self._report.places[here] = Place(key.start_mark.line + 1)
                self._report.error(here, f"given twice, first in line {line}", "Keep one of them")
                continue
            seen.add(key.value)
            self._report.places[here] = Place(key.start_mark.line + 1)
            yield key.value, child

    def _items(self, node: yaml.SequenceNode, path: Path) -> list[Any]:
        items: list[Any] = []
        for child in node.value:
            here = (*path, len(items))
            self._report.places.pop(here, None)
            value = self.value(child, here)
            # `[a, ${B:-}]` without B is [a].
            if value is not None or not self._report.variables(here):
                items.append(value)
        return items

    def _scalar(self, node: yaml.Node, path: Path) -> Any:
        text: str = node.value
        if "${" in text:
            return self._replaced(text, path)
        if getattr(node, "style", None) is not None:  # quoted: text
            return text
        return _plain(text)

    def _replaced(self, text: str, path: Path) -> str | None:
        """Put variables in. The result is text whatever it looks like: types are the schema's, YAML is not re-read."""
        matches = list(_VARIABLE.finditer(text))
        named = tuple(match[1] for match in matches)
        given = tuple(name for name in named if self._environ.get(name))
        self._report.places[path] = self._report.place(path)._replace(named=named, came_from=given)
        for match in matches:
            if match[2] is None and match[1] not in self._environ:
                remedy = f"Set {match[1]}, or write ${{{match[1]}:-default}}"
                self._report.error(path, f"the environment variable {match[1]} is not set", remedy)
        if "${" in _VARIABLE.sub("", text):
            self._report.error(path, '"${" begins a variable that is not one', "Write ${NAME} or ${NAME:-default}")
        return _VARIABLE.sub(lambda match: self._environ.get(match[1]) or match[2] or "", text) or None


def _plain(text: str) -> Any:
    """Read an unquoted scalar as YAML 1.2's core schema does, in decimal only."""
    if text in ("", "~", "null", "Null", "NULL"):
        return None
    if text in ("true", "True", "TRUE"):
        return True
    if text in ("false", "False", "FALSE"):
        return False
    if _WHOLE.fullmatch(text):
        return int(text)
    return float(text) if _REAL.fullmatch(text) else text
