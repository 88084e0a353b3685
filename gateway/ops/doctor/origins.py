"""Origins and URLs: whether a page may call, whether its tokens count, and which route what it calls belongs to."""

from collections.abc import Iterator, Sequence
from typing import Final

from gateway.config import Config
from gateway.core.cors import CorsPolicy, read_origins
from gateway.core.routing import PathPattern, Route, RouteTable, canonical_path
from gateway.errors import BadRequest, MethodNotAllowed, NoRoute
from gateway.ops.doctor.diagnosis import Diagnosis, error, listed, ok, quoted, warning
from gateway.ops.doctor.evidence import Evidence
from gateway.ops.doctor.instances import Instance
from gateway.ops.doctor.token import near_origin

SUBJECT: Final = "origin"
VARIABLE: Final = "GATEWAY_CORS_ORIGINS"
PARTIES: Final = "CLERK_AUTHORIZED_PARTIES"


def called(config: Config, evidence: Evidence) -> tuple[list[Diagnosis], Sequence[Route]]:
    """Find the routes that the evidence is about: the one its URL leads to; without one, all."""
    url = evidence.url
    if url is None:
        return [], config.routes
    path = url.path or "/"
    if path in config.webhooks.paths or path in ("/healthz", "/readyz"):
        return [ok("url", f"{path} is one of the gateway's own addresses, which no route takes")], ()
    if any(pattern.matches(path) for pattern in _proxied(config)):
        return [ok("url", f"{path} is Clerk's Frontend API through the gateway, where no token is looked at")], ()
    host = (url.hostname or (evidence.host or "").partition(":")[0]).encode("latin-1", "replace")
    found = list(_query(url.query))
    try:
        route = RouteTable(config.routes).match(host, canonical_path(path), "GET")
    except BadRequest:
        remedy = "Call it in a plain spelling, without .., //, %2f and ;, or allow_encoded on the route"
        return [*found, error("url", f"{path} can be read in two ways (400 bad_request, reason path)", remedy)], ()
    except (NoRoute, MethodNotAllowed) as refused:
        routes = listed(
            f"{each.name} {each.pattern.text}{'/*' if each.pattern.below else ''}" for each in config.routes
        )
        return [*found, error("url", f"no route takes GET {path} ({refused.status} {refused.code}); there are {routes}",
                              "Add a route, or correct what is called: /a does not match /a/")], ()  # fmt: skip
    return [*found, ok("url", f"{path} is route {route.name}, auth: {route.auth}, upstream {route.upstream.name}")], (
        route,
    )


def _proxied(config: Config) -> Iterator[PathPattern]:
    """Give where Clerk's Frontend API is."""
    for issuer in config.issuers:
        if issuer.frontend_api is not None and issuer.frontend_api.proxy is not None:
            yield issuer.frontend_api.proxy.route.pattern


def _query(query: str) -> list[Diagnosis]:
    if not any(
        part.partition("=")[0].lower() in ("token", "access_token", "__session", "jwt") for part in query.split("&")
    ):
        return []
    remedy = "Send Authorization: Bearer; for a WebSocket the sub-protocols gateway.auth and gateway.bearer.<token>"
    return [error("url", "has a token in its query, where none is read, and which logs everywhere keep", remedy)]


def origin(text: str, config: Config, instances: Sequence[Instance], routes: Sequence[Route]) -> list[Diagnosis]:
    """Judge whether pages of an origin may call these routes, and whether their tokens count."""
    if text.lower() == "null":
        found = "null is what sandboxed frames and files send, and is never granted"
        return [
            error(SUBJECT, found, "Serve the page from a server; take sandbox off its frame, or allow-same-origin in")
        ]
    try:
        if "*" in text:
            raise ValueError(f"{quoted(text)} is no page's origin: name one")
        read_origins([text])
    except ValueError as wrong:
        return [error(SUBJECT, str(wrong), "Copy it as the browser's network panel shows it under Origin")]
    return [*_cors(text, config, routes), *_parties(text, instances)]


def _cors(text: str, config: Config, routes: Sequence[Route]) -> list[Diagnosis]:
    policies: dict[int, tuple[CorsPolicy | None, list[str]]] = {}
    for route in routes:
        policies.setdefault(id(route.cors), (route.cors, []))[1].append(route.name)
    if not policies:
        policies[0] = config.cors, []
    return [_granted(text, policy, names) for policy, names in policies.values()]


def _granted(text: str, policy: CorsPolicy | None, names: Sequence[str]) -> Diagnosis:
    where = f" on route {listed(names)}" if names else ""
    if policy is None:
        found = f"CORS is off{where}: pages of {text} can read nothing, unless the upstream grants it itself"
        return warning(SUBJECT, found, f"Add {text} under cors.origins ({VARIABLE})")
    if policy.granted(text.encode("latin-1", "replace")):
        return ok(SUBJECT, f"pages of {text} may call{where}")
    near = near_origin(text, policy.origins.written)
    hint = f"; {quoted(near)} is, and the texts must be equal" if near else ""
    found = f"{text} is not listed{where}{hint}: the browser blocks what its pages call"
    return error(SUBJECT, found, f"Add {text} under cors.origins ({VARIABLE}), if that is a page of yours")


def _parties(text: str, instances: Sequence[Instance]) -> list[Diagnosis]:
    limited = [each for each in instances if each.config.token_policy.authorized_parties]
    if not limited or len(limited) < len(instances):
        return []
    if any(text in each.config.token_policy.authorized_parties for each in limited):
        return [ok(SUBJECT, f"tokens that pages of {text} get are taken (azp)")]
    found = (
        f"tokens that pages of {text} get have it as azp, which is not listed (401 token-invalid-authorized-parties)"
    )
    return [error(SUBJECT, found, f"Add {text} under {limited[0].key('authorized_parties')} ({PARTIES})")]


def agreement(config: Config, instances: Sequence[Instance]) -> list[Diagnosis]:
    """Find origins that may call, but with whose tokens nothing comes of it. Patterns cannot be compared."""
    parties = [each.config.token_policy.authorized_parties for each in instances]
    if not parties or not all(parties):
        return []
    policies = [config.cors, *(route.cors for route in config.routes if route.auth != "public")]
    granted = {one.decode() for policy in policies if policy is not None for one in policy.origins.exact}
    unlisted = sorted(granted - frozenset().union(*parties))
    if not unlisted:
        return []
    found = f"{listed(unlisted)} may call (cors.origins), but tokens of its pages are refused: azp is not listed"
    return [warning(SUBJECT, found, f"Add it under {instances[0].key('authorized_parties')} ({PARTIES}) too")]
