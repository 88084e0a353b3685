"""The SDK's side: one Node process that is asked everything at once."""

import asyncio
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from tests.clients.authenticate.case import ACCEPTS, Case, Location, Outcome, named
from tests.clients.authenticate.setups import NOW, SETUPS
from tests.clients.conftest import HERE

TOKEN_TYPES = {"session_token": "session", "m2m_token": "m2m", "oauth_token": "oauth"}
MARKS = ("x-clerk-auth-status", "x-clerk-auth-reason", "x-clerk-auth-message")


async def ask_all(cases: Sequence[Case], api_url: str) -> dict[str, Outcome]:
    """Ask Clerk's own `authenticateRequest` about every case."""
    setups = {
        name: {"client": {**setup.client, "apiUrl": api_url}, "request": setup.request}
        for name, setup in SETUPS.items()
    }
    environ = os.environ | {"NOW_MS": str(NOW * 1000), "SETUPS": json.dumps(setups)}
    lines = "".join(json.dumps(question(case)) + "\n" for case in cases)
    told = await _converse(environ, lines.encode())
    return {name: outcome(answer) for name, answer in told.items()}


def question(case: Case) -> dict[str, Any]:
    """Write a case as the driver takes it."""
    url = SETUPS[case.setup].url
    host = ("Host", urlsplit(url).netloc)  # as Node's own server hands it over
    return {
        "id": case.name, "setup": case.setup, "url": url + case.target, "method": case.method,
        "fields": (host, *case.fields), "acceptsToken": ACCEPTS[case.accepts][1], "pending": case.accepts == "pending",
    }  # fmt: skip


async def _converse(environ: Mapping[str, str], lines: bytes) -> dict[str, dict[str, Any]]:
    """Write the questions, read as many answers."""
    pipes = {"stdin": asyncio.subprocess.PIPE, "stdout": asyncio.subprocess.PIPE}
    command = ("node", str(HERE / "authenticate" / "driver.mjs"))
    process = await asyncio.create_subprocess_exec(*command, env=environ, limit=2**24, **pipes)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(lines)
        answers: dict[str, dict[str, Any]] = {}
        async with asyncio.timeout(60):
            for _ in range(lines.count(b"\n")):
                told = json.loads(await process.stdout.readline())
                answers[told["id"]] = told
        return answers
    finally:
        process.kill()
        await process.wait()


def outcome(told: Mapping[str, Any]) -> Outcome:
    """Read a request state as the SDK's middlewares do: where there is a Location, the answer is a redirect."""
    if "error" in told:
        return Outcome("thrown", told["error"])
    value = told["value"]
    headers = [(name, text) for name, text in value["headers"]]
    cookies = tuple(text for name, text in headers if name == "set-cookie")
    location = next((text for name, text in headers if name == "location"), None)
    marks = marked(headers, is_redirect=location is not None)
    if location is not None:
        return Outcome("redirect", value["reason"], (), Location.read(location), cookies, marks)
    if value["auth"].get("isAuthenticated"):
        return Outcome("signed-in", None, who(value["auth"]), None, cookies, marks)
    return Outcome("signed-out", value["reason"], (), None, cookies, marks)


def who(auth: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Say who is signed in."""
    kind = auth["tokenType"]
    return named({
        "type": TOKEN_TYPES.get(kind, kind), "user": auth.get("userId"), "machine": auth.get("machineId"),
        "session": auth.get("sessionId"), "org": auth.get("orgId"), "slug": auth.get("orgSlug"),
        "role": auth.get("orgRole"), "permissions": auth.get("orgPermissions"), "scopes": auth.get("scopes"),
        "actor": (auth.get("actor") or {}).get("sub"),
    })  # fmt: skip


def marked(fields: Iterable[tuple[str, str]], *, is_redirect: bool) -> tuple[tuple[str, str], ...]:
    """Keep what an answer says of its own making; of a redirect also how long it may be kept."""
    names = (*MARKS, "cache-control") if is_redirect else MARKS
    return tuple(sorted((name, _tail(value)) for name, value in fields if name in names))


def _tail(value: str) -> str:
    """Leave out what a message says before `(reason=…, token-carrier=…)`.

    The SDK's has claims, dates and the configured parties in it, which no client of the gateway is told (CONTRACT §8).
    """
    found = re.search(r"\(reason=[^()]*\)$", value)
    return found[0] if found else value
