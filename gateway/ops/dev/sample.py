"""The sample upstream: answers with what it received and who it takes the user to be, and serves the page.

It trusts X-User-* as any upstream behind the gateway would, folding spellings together as CGI-style servers do, so that
an identity that slipped past the gateway would show.
"""

import asyncio
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from aiohttp import web

from gateway.ops.dev.app_page import app_page

LONGEST_WAIT_S = 60.0
MOST_EVENTS = 1000
MOST_BYTES = 1 << 30
TEXT_BYTES = 4096  # of a body that is shown; of longer ones only the size

_STATIC = Path(__file__).parent / "static"
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_LISTS = {"org_permissions", "scopes", "truncated"}
_FLAT = re.compile(r'\[\n\s+((?:"(?:[^"\\]|\\.)*"(?:,\n\s+)?)+)\n\s+\]')  # a list of strings over several lines
_CHUNK = bytes(range(256)) * 256


def sample_app(*, issuer: str, token_command: str) -> web.Application:
    """Build the sample upstream; the page is told the `issuer`'s address and how a terminal gets a token."""
    # Everything from the upstream's own origin but the calls to the issuer; no inline script or style.
    policy = (
        f"default-src 'self'; connect-src 'self' {issuer}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    files = {path.name: path.read_bytes() for path in _STATIC.iterdir()}

    def static(name: str) -> web.Response:
        headers = {"Cache-Control": "no-cache", "Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff"}
        return web.Response(body=files[name], content_type=_TYPES[Path(name).suffix], charset="utf-8", headers=headers)

    async def page(_: web.Request) -> web.Response:
        return static("index.html")

    async def asset(request: web.Request) -> web.Response:
        name = request.match_info["name"]
        return static(name) if name in files else _error(404, f"no such file: {name}")

    async def settings(_: web.Request) -> web.Response:
        return web.json_response(
            {"issuer": issuer, "token_command": token_command}, headers={"Cache-Control": "no-store"}
        )

    async def signed_in(request: web.Request) -> web.StreamResponse:
        # The page is for people; whoever asks for anything else sees what was received.
        if not request.headers.get("Accept", "").startswith("text/html"):
            return await _echo(request)
        seen = user_seen(request.headers.items()) or {}
        scheme, host = (request.headers.get(f"X-Forwarded-{name}", "") for name in ("Proto", "Host"))
        text = app_page(seen, here=f"{scheme}://{host}{request.raw_path}", issuer=issuer)
        headers = {"Cache-Control": "no-store", "Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff"}
        return web.Response(text=text, content_type="text/html", headers=headers)

    app = web.Application()
    # Other methods on these paths are echoed, like everything else.
    app.add_routes(
        [
            web.get("/", page, allow_head=False),
            web.get("/public/assets/{name}", asset, allow_head=False),
            web.get("/public/config.json", settings, allow_head=False),
            web.get("/app", signed_in, allow_head=False),
            web.get("/app/{path:.*}", signed_in, allow_head=False),
            web.get("/public/stream", _stream, allow_head=False),
            web.get("/public/slow", _slow, allow_head=False),
            web.get("/public/status/{status}", _status, allow_head=False),
            web.get("/public/bytes/{count}", _bytes, allow_head=False),
            web.route("*", "/{path:.*}", _echo),
        ]
    )
    return app


def user_seen(headers: Iterable[tuple[str, str]]) -> dict[str, Any] | None:
    """Read the user an upstream would see: X-User-* without the prefix, decoded; None for an anonymous request."""
    user: dict[str, Any] = {}
    for name, value in headers:
        folded = "".join(c if c.isalnum() else "_" for c in name.lower())
        if folded.startswith("x_user_"):
            key = folded.removeprefix("x_user_")
            # Lists are split before decoding: an encoded comma belongs to its element.
            user[key] = [unquote(part) for part in value.split(",")] if key in _LISTS else unquote(value)
    return user or None


async def _echo(request: web.Request) -> web.Response:
    headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.raw_headers]
    path, _, query = request.raw_path.partition("?")
    return _json(
        {
            "method": request.method,
            "path": path,
            "query": query,
            "user": user_seen(headers),
            "headers": headers,
            "body": await _body(request),
        }
    )


async def _body(request: web.Request) -> dict[str, Any]:
    size, start = 0, bytearray()
    try:
        async for chunk in request.content.iter_any():
            size += len(chunk)
            start += chunk[: TEXT_BYTES + 1 - len(start)]
    except ConnectionError:
        return {"bytes": size, "text": None}  # nobody is there to read it
    try:
        text = start.decode() if size <= TEXT_BYTES else None
    except UnicodeDecodeError:
        text = None
    return {"bytes": size, "text": text}


async def _stream(request: web.Request) -> web.StreamResponse:
    try:
        events = int(_number(request.query.get("events", "5"), most=MOST_EVENTS))
        pause_s = _number(request.query.get("every_s", "1"), most=LONGEST_WAIT_S)
    except ValueError as error:
        return _error(400, f"events and every_s: {error}")
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
    await response.prepare(request)
    for number in range(1, events + 1):
        await response.write(
            f"id: {number}\nevent: tick\ndata: {json.dumps({'number': number, 'of': events})}\n\n".encode()
        )
        if number < events:
            await asyncio.sleep(pause_s)
    await response.write_eof()
    return response


async def _slow(request: web.Request) -> web.Response:
    try:
        wait_s = _number(request.query.get("s", "2"), most=LONGEST_WAIT_S)
    except ValueError as error:
        return _error(400, f"s: {error}")
    await asyncio.sleep(wait_s)
    return _json({"waited_s": wait_s})


async def _status(request: web.Request) -> web.Response:
    text = request.match_info["status"]
    if not (text.isascii() and text.isdigit() and 200 <= int(text) <= 599):
        return _error(400, f"a status is a number from 200 to 599, not {text}")
    status = int(text)
    # RFC 9110 §§15.3.5, 15.4.5: these two have no content.
    return web.Response(status=status) if status in (204, 304) else _json({"status": status}, status=status)


async def _bytes(request: web.Request) -> web.StreamResponse:
    try:
        left = int(_number(request.match_info["count"], most=MOST_BYTES))
    except ValueError as error:
        return _error(400, f"bytes: {error}")
    response = web.StreamResponse(headers={"Content-Type": "application/octet-stream", "Content-Length": str(left)})
    await response.prepare(request)
    while left:
        chunk = _CHUNK[:left]
        await response.write(chunk)
        left -= len(chunk)
    await response.write_eof()
    return response


def _number(text: str, *, most: float) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number <= most:  # not a number at all is neither
        raise ValueError(f"a number from 0 to {most:g}, not {text}")
    return number


def _error(status: int, message: str) -> web.Response:
    return _json({"error": message}, status=status)


def _json(value: object, *, status: int = 200) -> web.Response:
    text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    # A header per line: within strings JSON has no raw line break, so only the layout changes.
    text = _FLAT.sub(lambda found: "[" + re.sub(r",\n\s+", ", ", found[1]) + "]", text)
    return web.Response(text=text, status=status, content_type="application/json")
