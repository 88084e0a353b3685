"""What `gateway dev event` does: asks the running `gateway dev`, or sends an event itself to whatever URL it is told.

The second works without a `gateway dev` too, with its samples as they are at a start: for one's own handlers.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from gateway.ops.dev import DevError
from gateway.ops.dev.asking import NotRunning, ask, stranger
from gateway.ops.dev.event_request import EventOptions, check_event_options
from gateway.ops.dev.happenings import happen
from gateway.ops.dev.outbox import message_of
from gateway.ops.dev.sending import Message, key_of, send, signed_headers
from gateway.ops.dev.world import World

Write = Callable[[str], object]
INSTANCE = "ins_dev"  # of events that no running issuer made


async def fire_at_gateway(issuer: str, options: EventOptions, *, write: Write) -> bool:
    """Have the running `gateway dev` send an event to its gateway; say whether it took all there is to tell.

    Raises:
        DevError: none is running, or it refuses; the text says why.
    """
    _checked(options)
    events = await _asked(issuer, options)
    for event in events:
        for each in event.get("answers", []) or [{}]:
            write(_line(event, each.get("status"), each.get("answer") or event.get("answer", "")))
    return all(event.get("good") or event.get("held") for event in events)


async def fire_at_url(
    url: str,
    secret: str | None,
    issuer: str,
    options: EventOptions,
    *,
    write: Write,
    now: Callable[[], float] = time.time,
) -> bool:
    """Send an event to `url`, signed with `secret`; say whether it was taken.

    Raises:
        DevError: no such URL or secret, or what `fire_at_gateway` raises where the event is to come from a running one.
    """
    _checked(replace(options, send=False))
    if not _is_address(url):
        raise DevError(f"--url is the address of a handler, such as http://127.0.0.1:3000/webhooks, not {url!r}")
    if not secret:
        raise DevError("--secret (or CLERK_WEBHOOK_SIGNING_SECRET) is what the handler verifies with: whsec_…")
    _check_secret(secret)
    good = True
    async with aiohttp.ClientSession(trust_env=False) as session:
        for message in await _messages(issuer, options):
            for _ in range(2 if options.twice else 1):
                headers = signed_headers(message, secret, options.manner, now=now())
                answer = await send(session, url, headers, message.body)
                write(_line({"type": message.type, "svix_id": message.id}, *answer))
                good = good and answer.is_good
    return good


async def print_event(
    secret: str | None, issuer: str, options: EventOptions, *, write: Write, now: Callable[[], float] = time.time
) -> None:
    """Write an event as it would be sent: the signing fields, an empty line, the body; several with a line between.

    Raises:
        DevError: as `fire_at_url`.
    """
    _checked(replace(options, send=False))
    if secret:
        _check_secret(secret)
    texts = []
    for message, headers in await _composed(issuer, options):
        if secret:
            headers = signed_headers(message, secret, options.manner, now=now())
        elif not headers:
            raise DevError("--secret is what it is signed with; a running `gateway dev` has its own")
        texts.append("\n".join([*(f"{name}: {value}" for name, value in headers.items()), "", message.body.decode()]))
    write("\n\n".join(texts))


async def list_world(issuer: str, *, write: Write) -> None:
    """Write who there is in the running `gateway dev`. Raises DevError."""
    told = await ask(issuer, "/dev/state")
    if not isinstance(told, dict) or "users" not in told or "organizations" not in told:
        raise stranger(issuer)
    held: dict[str, list[str]] = {}
    for organisation in told["organizations"]:
        for member in organisation["members"]:
            held.setdefault(member["user"], []).append(f"{organisation['slug']} ({member['role']})")
    rows = [("user", "name", "e-mail", "organisations", "")]
    for user in told["users"]:
        name = f"{user['first_name']} {user['last_name']}".strip()
        states = [word for word in ("banned", "locked", "pending") if user[word]]
        rows.append((user["id"], name, user["email"], ", ".join(held.get(user["id"], [])), ", ".join(states)))
    _table(rows, write)
    write("")
    _table(
        [("organisation", "slug", "name", "members")]
        + [(each["id"], each["slug"], each["name"], str(len(each["members"]))) for each in told["organizations"]],
        write,
    )


def _table(rows: Sequence[tuple[str, ...]], write: Write) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        write("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())


def _line(event: Mapping[str, Any], status: int | None, answer: str) -> str:
    code = "held" if event.get("held") else "no answer" if status is None else str(status)
    return "  ".join(part for part in (f"{event['type']:<28}", event["svix_id"], code, answer) if part)


def _checked(options: EventOptions) -> None:
    try:
        check_event_options(options)
    except ValueError as error:
        raise DevError(str(error)) from error


def _check_secret(secret: str) -> None:
    try:
        key_of(secret)
    except ValueError as error:
        raise DevError(str(error)) from error


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)


async def _asked(issuer: str, options: EventOptions) -> list[Any]:
    told = await ask(issuer, "/dev/event", options.to_json())
    if not isinstance(told, dict) or not isinstance(told.get("events"), list):
        raise stranger(issuer)
    return list(told["events"])


async def _messages(issuer: str, options: EventOptions) -> list[Message]:
    return [message for message, _ in await _composed(issuer, options)]


async def _composed(issuer: str, options: EventOptions) -> list[tuple[Message, dict[str, str]]]:
    """Have events composed: by the running `gateway dev`, which knows who has been made there, else of the samples."""
    try:
        told = await _asked(issuer, replace(options, send=False))
    except NotRunning:
        if options.again is not None:
            raise
        return [(message, {}) for message in _of_samples(options)]
    return [
        (Message(each["svix_id"], each["type"], each["about"], each["body"].encode()), each["headers"]) for each in told
    ]


def _of_samples(options: EventOptions) -> list[Message]:
    world = World()
    try:
        told = happen(world, options.wanted)
    except ValueError as error:
        raise DevError(str(error)) from error
    return [message_of(each, at=world.now_ms(), instance=INSTANCE) for each in told]
