"""Answers that a client may keep and ask after: an entity tag, and 304 while it still holds (RFC 9110 §13.1.2)."""

from hashlib import sha256
from typing import Any, Final

import orjson
from aiohttp import hdrs, web

TAG_DIGITS: Final = 32  # 128 bits


def tagged(request: web.Request, content: Any) -> web.Response:
    """Answer with JSON, or with 304 where the client has the same bytes already."""
    body = orjson.dumps(content)
    # Of the bytes and not of the row's version: a strong tag also changes when a later gateway words the same row
    # differently (RFC 9110 §8.8.1).
    tag = f'"{sha256(body).hexdigest()[:TAG_DIGITS]}"'
    headers = {hdrs.ETAG: tag, hdrs.CACHE_CONTROL: "private, no-cache"}  # kept by the client alone, and asked after
    if _has(request, tag):
        return web.Response(status=304, headers=headers)
    return web.Response(body=body, content_type="application/json", headers=headers)


def _has(request: web.Request, tag: str) -> bool:
    listed = ",".join(request.headers.getall(hdrs.IF_NONE_MATCH, ())).split(",")
    # Compared weakly: a proxy that compresses has weakened ours.
    return any(each.strip().removeprefix("W/") in (tag, "*") for each in listed)
