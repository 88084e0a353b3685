"""What the schema knows and this version cannot do yet: each key, what it asks for, and the values that ask nothing.

Building a capability means deleting its lines here.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from gateway.config.findings import Path, Report
from gateway.config.validate import discard

Off = Callable[[Any], bool]


class Unbuilt(NamedTuple):
    """A key that asks for something not built yet, unless `off` says that its value does not."""

    pattern: str  # dotted; * stands for one name or index
    capability: str
    off: Off


def is_off(value: Any) -> bool:
    """Say whether a value asks for nothing: null, false, 0, empty, or a mapping of such."""
    if isinstance(value, Mapping):
        return all(map(is_off, value.values()))
    return value in (None, "", 0, False, [], ()) or str(value).lower() in ("0", "false")


def besides(*values: Any) -> Off:
    """These values ask for nothing either."""
    return lambda value: is_off(value) or str(value).lower() in {str(each).lower() for each in values}


UNBUILT = (
    Unbuilt("workers", "more than one worker process is", besides(1)),
    Unbuilt("cache.url", "a shared cache is", besides("memory://")),
    Unbuilt("metrics.enabled", "metrics are", is_off),
    Unbuilt("tracing.endpoint", "tracing is", is_off),
)


def withhold(tree: dict[str, Any], report: Report) -> None:
    """Refuse what a file asks for and is not built; what the environment asks for is left out with one warning."""
    warned: set[str] = set()
    for unbuilt in UNBUILT:
        for path, value in list(_matching(tree, tuple(unbuilt.pattern.split(".")))):
            if unbuilt.off(value):
                continue
            variables = _variables(value, path, report)
            if variables:
                _warn(variables, unbuilt, path, report, warned)
            else:
                message = f"{unbuilt.capability} not available yet"
                report.error(path, message, "Leave it out, or wait for a version that has it")
            discard(tree, path)


def _warn(variables: tuple[str, ...], unbuilt: Unbuilt, path: Path, report: Report, warned: set[str]) -> None:
    names = ", ".join(variables)
    verb = "is" if len(variables) == 1 else "are"
    message = f"{names} {verb} set, but {unbuilt.capability} not available yet: ignored"
    if message not in warned:
        warned.add(message)
        report.warning(path, message)


def _matching(tree: Any, pattern: tuple[str, ...], at: Path = ()) -> Iterator[tuple[Path, Any]]:
    if not pattern:
        yield at, tree
        return
    first, rest = pattern[0], pattern[1:]
    for part, value in _children(tree):
        if first in ("*", part):
            yield from _matching(value, rest, (*at, part))


def _children(tree: Any) -> Iterator[tuple[str | int, Any]]:
    if isinstance(tree, Mapping):
        yield from tree.items()
    elif isinstance(tree, list):
        yield from enumerate(tree)


def _variables(value: Any, path: Path, report: Report) -> tuple[str, ...]:
    """Name the variables every asking part of a value came from; none where the file itself asks for a part."""
    children = list(_children(value))
    if not children:
        return report.place(path).came_from
    found = [_variables(child, (*path, part), report) for part, child in children if not is_off(child)]
    return tuple(dict.fromkeys(name for names in found for name in names)) if all(found) else ()
