"""What a request to the admin listener asks for in its query, and lists that are given in parts (CONTRACT §7).

A part is asked for with `?limit=`, at most and unless said `MOST`, and `?cursor=`, which the part before has given.
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol, TypeVar

from aiohttp import web

from gateway.core.events import MAX_MS, as_name
from gateway.errors import BadRequest

MOST: Final = 500  # of a list
PAGE: Final = ("limit", "cursor")


class Named(Protocol):
    """What a list by id is made of."""

    @property
    def id(self) -> str:
        """The id."""


N = TypeVar("N", bound=Named)


def query(request: web.Request, *names: str) -> dict[str, str]:
    """Give the query's members, which can be these.

    Raises:
        BadRequest: reason `parameter` for one it does not know, else its name: empty, there twice, with a NUL.
    """
    given: dict[str, str] = {}
    for name, value in request.query.items():
        # A filter that was misspelt or left empty would give everybody, and whoever asked takes the first for the one.
        if name not in names:
            raise BadRequest("parameter")
        if not value or name in given or "\0" in value:  # PostgreSQL has no text with NUL
            raise BadRequest(name)
        given[name] = value
    return given


def number(given: Mapping[str, str], name: str, default: int = 0) -> int:
    """Give a number of the query. Raises BadRequest, whose reason is its name."""
    text = given.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) < len(str(MAX_MS))):
        raise BadRequest(name)
    return int(text)


def limit_of(given: Mapping[str, str]) -> int:
    """Give how many are wanted at most. Raises BadRequest, reason `limit`."""
    limit = number(given, "limit", MOST)
    if not 1 <= limit <= MOST:
        raise BadRequest("limit")
    return limit


def page(request: web.Request, items: Sequence[Any]) -> web.Response:
    """Answer with a part of a list that is all there. Raises BadRequest."""
    given = query(request, *PAGE)
    limit, at = limit_of(given), number(given, "cursor")
    following = at + limit
    return web.json_response(
        {"data": items[at:following], "next_cursor": str(following) if following < len(items) else None}
    )


# --- lists by id, read piece by piece ---------------------------------------------------------------------------------


def after(given: Mapping[str, str]) -> str:
    """Give the id behind which a part begins, "" for the first. Raises BadRequest, reason `cursor`."""
    cursor = given.get("cursor", "")
    try:
        key = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
    except ValueError as error:
        raise BadRequest("cursor") from error
    if cursor and _cursor(key) != cursor:  # what it gives is what it takes, and nothing else
        raise BadRequest("cursor")
    return key


def part(rows: Sequence[N], limit: int, *, shown: Callable[[N], Any]) -> dict[str, Any]:
    """Give a part of a list of `rows`, of which there is one more than `limit` where the list goes on."""
    cursor = _cursor(rows[limit - 1].id) if len(rows) > limit else None
    return {"data": [shown(row) for row in rows[:limit]], "next_cursor": cursor}


def _cursor(key: str) -> str | None:
    # Nothing secret; but whoever saw an id there would make cursors of their own.
    return None if as_name(key) is None else urlsafe_b64encode(key.encode()).decode().rstrip("=")
