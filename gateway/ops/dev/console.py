"""The local issuer's page: users, organisations, what can be done to them, and the webhooks that tell of it.

What the page does, the commands do by the same address; both are answered behind the issuer's guard (`issuer`).
"""

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from aiohttp import web

from gateway.ops.dev.event_request import EventOptions, read_event_options
from gateway.ops.dev.happenings import TYPES, happen
from gateway.ops.dev.outbox import Outbox
from gateway.ops.dev.people import ROLE_PERMISSIONS
from gateway.ops.dev.sending import Message
from gateway.ops.dev.world import World

FILES = Path(__file__).parent / "page"
MOST_NESTED = 500
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


def console_routes(world: World, outbox: Outbox, *, gateway: str) -> list[web.AbstractRouteDef]:
    """Give the page and the addresses behind it; `gateway` is where the page calls as whom it has signed in."""
    files = {path.name: path.read_bytes() for path in FILES.iterdir()}
    # Everything from the issuer's own origin but the calls to the gateway; no inline script or style, no frame.
    policy = (
        f"default-src 'self'; connect-src 'self' {gateway}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    headers = {"Cache-Control": "no-cache", "Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff"}

    def file(name: str) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def answer(_: web.Request) -> web.Response:
            kind = _TYPES[Path(name).suffix]
            return web.Response(body=files[name], content_type=kind, charset="utf-8", headers=headers)

        return answer

    async def shown(_: web.Request) -> web.Response:
        return _told({"gateway": gateway} | state(world, outbox))

    async def event(request: web.Request) -> web.Response:
        try:
            options = read_event_options(_read(await request.read()))
            return _told({"events": await fire(world, outbox, options)})
        except ValueError as error:
            return web.json_response({"error": str(error)}, status=400)

    return [
        web.get("/", file("index.html")),
        *(web.get(f"/{name}", file(name)) for name in files if name != "index.html"),
        web.get("/dev/state", shown),
        web.post("/dev/event", event),
    ]


def _read(body: bytes) -> object:
    # Checked before anything happens: what nests beyond Python's stack could be read here and not be told.
    if body.count(b"{") + body.count(b"[") > MOST_NESTED:
        raise ValueError(f"at most {MOST_NESTED} objects and lists")
    told = json.loads(body or b"{}", parse_constant=_no_number)
    # Nor what JSON can escape and no receiver can read: half a surrogate pair. UnicodeEncodeError is a ValueError.
    json.dumps(told, ensure_ascii=False).encode()
    return told


def _no_number(text: str) -> object:
    raise ValueError(f"{text} is no JSON")


def _told(value: object) -> web.Response:
    return web.json_response(value, headers={"Cache-Control": "no-store"})


def state(world: World, outbox: Outbox) -> dict[str, Any]:
    """Say how everything stands, for people to look at."""
    return {
        "users": [
            {
                "id": person.id,
                "first_name": person.given_name,
                "last_name": person.family_name,
                "email": person.email,
                "external_id": person.external_id,
                "banned": person.banned,
                "locked": person.locked,
                "pending": person.pending,
                "public_metadata": person.public_metadata,
                "session": (session := world.session(person.id)) and session.id,
            }
            for person in world.people
        ],
        "organizations": [
            {
                "id": organisation.id,
                "name": organisation.name,
                "slug": organisation.slug,
                "members": [{"user": person.id, "role": held.role} for person, held in world.members(organisation.id)],
            }
            for organisation in world.organisations
        ],
        "events": [each.shown() for each in outbox.sent],
        "types": TYPES,
        "roles": list(ROLE_PERMISSIONS),
    }


async def fire(world: World, outbox: Outbox, options: EventOptions) -> list[dict[str, Any]]:
    """Let something happen and tell the gateway; give what came of it, once it is told.

    Only what is told truly happens: a forged event, or one that is only composed, changes nothing here.

    Raises:
        ValueError: it cannot be; the text says why.
    """
    if options.again is not None and not options.send:
        return [_composed(outbox, outbox.find(options.again).message, options)]
    times = 2 if options.twice else 1
    if options.again is not None:
        manner = None if options.manner.is_true else options.manner
        made = [outbox.again(options.again, manner) for _ in range(times)][:1]
    else:
        happens = options.send and options.manner.is_true
        told = happen(world if happens else world.copy(), options.wanted)
        if not options.send:
            return [_composed(outbox, each, options) for each in map(outbox.compose, told)]
        made = outbox.post(told, options.manner, twice=options.twice, hold=options.hold)
    await outbox.settle()
    return [each.shown(answers=times) for each in made]


def _composed(outbox: Outbox, message: Message, options: EventOptions) -> dict[str, Any]:
    return {
        "svix_id": message.id,
        "type": message.type,
        "about": message.about,
        "headers": outbox.signed(message, options.manner),
        "body": message.body.decode(),
    }
