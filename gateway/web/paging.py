"""Lists on the admin listener: a part of one is asked for with `?limit=` and `?cursor=` (CONTRACT §7)."""

from collections.abc import Sequence
from typing import Any, Final

from aiohttp import web

from gateway.errors import BadRequest

MOST: Final = 500  # of a list


def page(request: web.Request, items: Sequence[Any]) -> web.Response:
    """Answer with a part of a list: `?limit=`, at most `MOST`, and `?cursor=` from the part before.

    Raises:
        BadRequest: reason `limit` or `cursor`.
    """
    limit, at = _number(request, "limit", MOST), _number(request, "cursor", 0)
    if not 1 <= limit <= MOST:
        raise BadRequest("limit")
    following = at + limit
    return web.json_response(
        {"data": items[at:following], "next_cursor": str(following) if following < len(items) else None}
    )


def _number(request: web.Request, name: str, default: int) -> int:
    text = request.query.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise BadRequest(name)
    return int(text)
