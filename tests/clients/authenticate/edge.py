"""The gateway's side: a running gateway for each set-up, asked over a socket, with an upstream that says what it was told."""

import asyncio
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import unquote, urlsplit

from tests.clients.authenticate.api import Api
from tests.clients.authenticate.case import ACCEPTS, Case, Location, Outcome, named
from tests.clients.authenticate.sdk import marked
from tests.clients.authenticate.setups import NOW, SETUPS, SIGN_IN, is_built
from tests.fakes.gateway import Answer, Running, gateway
from tests.fakes.upstream import Echo, ScriptedUpstream

TOLD = {
    "type": "x-user-token-type", "user": "x-user-id", "machine": "x-user-machine-id", "session": "x-user-session-id",
    "org": "x-user-org-id", "slug": "x-user-org-slug", "role": "x-user-org-role",
    "permissions": "x-user-org-permissions", "scopes": "x-user-scopes", "actor": "x-user-actor",
}  # fmt: skip
LISTS = ("permissions", "scopes")
REDIRECTS = (302, 307)
STATES = {401: "signed-out", 503: "unavailable"}


def needs(case: Case) -> tuple[str, ...]:
    """Name the settings without which the gateway cannot be asked this."""
    own = case.accepts in ("session", "pending") and not case.machine
    machine = () if own else ("routes.*.token",)
    return (*SETUPS[case.setup].needs, *machine, *(("clerk.handshake",) if case.handshake else ()))


async def ask_all(cases: Sequence[Case], api: Api) -> dict[str, Outcome]:
    """Ask a gateway about every case that this version can be asked."""
    by_setup: dict[str, list[Case]] = {}
    for case in cases:
        if is_built(*needs(case)):
            by_setup.setdefault(case.setup, []).append(case)
    outcomes: dict[str, Outcome] = {}
    echo = Echo()
    async with ScriptedUpstream(echo) as upstream:
        for name, some in by_setup.items():
            while some:
                async with gateway(upstream.port, first_keys_s=0.2, **settings(name, api)) as running:
                    running.clock.seconds = float(NOW)
                    some = await ask_some(running, some, echo, outcomes)
    return outcomes


async def ask_some(running: Running, some: list[Case], echo: Echo, outcomes: dict[str, Outcome]) -> list[Case]:
    """Ask until something cannot be had, which a gateway does not ask for again at once; give what is left to ask."""
    for number, case in enumerate(some, 1):
        said = outcomes[case.name] = outcome(await ask(running, case), echo)
        if said.state == "unavailable" and case.api:
            return some[number:]
    return []


def settings(name: str, api: Api) -> dict[str, Any]:
    """Write a set-up's configuration: one route for each of `ACCEPTS`."""
    setup = SETUPS[name]
    keys = {} if "jwt_key" in setup.clerk else {"jwks_url": api.keys_url(setup.clerk["secret_key"])}
    clerk = {**setup.clerk, **keys, "api_url": api.url}
    if not is_built("clerk.handshake"):
        del clerk["handshake"]
    own = {"public_url": setup.url} if is_built("public_url") else {}
    return {**own, "clerk": clerk, "routes": list(routes()), "cors": None, **setup.more}


def routes() -> Iterable[Mapping[str, Any]]:
    """Give a route for each thing a route may take."""
    for prefix, (token, _) in ACCEPTS.items():
        route = {"name": prefix, "path": f"/{prefix}/*", "upstream": "api"}
        if prefix == "pending":
            yield route | {"allow_pending": True}
        elif prefix == "session":
            yield route
        elif is_built("routes.*.token"):
            yield route | {"token": token}


async def ask(running: Running, case: Case) -> Answer:
    """Send one request as it stands."""
    host = urlsplit(SETUPS[case.setup].url).netloc
    lines = [
        f"{case.method} {case.target} HTTP/1.1",
        f"Host: {host}",
        *(f"{name}: {value}" for name, value in case.fields),
    ]
    head = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"
    async with asyncio.timeout(20):
        return await running.raw(head, is_head=case.method == "HEAD")


def outcome(answer: Answer, echo: Echo) -> Outcome:
    """Read the gateway's answer, and behind a good one what the upstream was told."""
    to_sign_in = answer.status == 302 and (answer.value("location") or "").startswith(SIGN_IN)
    marks = marked(answer.fields, is_redirect=answer.status in REDIRECTS and not to_sign_in)
    cookies = tuple(answer.values("set-cookie"))
    if answer.status == 200:
        told = {name.lower(): value for name, value in echo.last.fields}
        return Outcome("signed-in", None, who(told), None, cookies, marks)
    if to_sign_in:  # a page's way of being told that its user is signed out; the SDK leaves that to its middlewares
        return Outcome("signed-out", answer.value("x-clerk-auth-reason"), (), None, cookies, marks)
    if answer.status in REDIRECTS:
        reason = answer.value("x-clerk-auth-reason")
        return Outcome("redirect", reason, (), Location.read(answer.value("location") or ""), cookies, marks)
    return Outcome(STATES.get(answer.status, f"refused-{answer.status}"), reason_of(answer), (), None, cookies, marks)


def reason_of(answer: Answer) -> str | None:
    """Find the reason, which a HEAD's answer has in one field only."""
    if answer.body:
        return answer.json.get("reason") or str(answer.json["code"])
    found = re.search(r'error_description="(.*?)"', answer.value("www-authenticate") or "")
    return found[1] if found else None


def who(told: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Say who the upstream was told is signed in."""
    said: dict[str, Any] = {name: told.get(field) for name, field in TOLD.items()}
    decoded = {name: unquote(value) for name, value in said.items() if value and name not in LISTS}
    lists = {
        name: [unquote(each) for each in value.split(",")] for name, value in said.items() if value and name in LISTS
    }
    return named(decoded | lists)
