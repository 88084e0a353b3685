"""Convex as an upstream: what is one, what its routes ask for where the file does not say, and what makes no sense."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from gateway.config.findings import Path, Report
from gateway.config.parties import UpstreamSection
from gateway.config.schema import RouteSection
from gateway.config.urls import read_upstream
from gateway.core.model import Upstream
from gateway.core.routing import Route

_HOST = re.compile(r".+\.convex\.(cloud|site)\.?")
# Clerk's template for Convex, and its session token where Convex is connected, carry this `aud` (CONTRACT §4).
DEFAULTS: dict[str, Any] = {"auth": "optional", "token": ("session", "template"), "audience": ("convex",)}
CLIENT_HEADER = "Convex-Client"  # its HTTP client sends it from pages too


def is_convex(section: UpstreamSection) -> bool:
    """Say whether an upstream is Convex, by what is written or by a host of Convex's own."""
    return section.kind == "convex" or _is_hosted(section)


def _is_hosted(section: UpstreamSection) -> bool:
    return any(_HOST.fullmatch(host) for host in _hosts(section))


def _hosts(section: UpstreamSection) -> Iterator[str]:
    for value in (section.url, *(target.url for target in section.targets)):
        try:
            yield read_upstream(value or "").host
        except ValueError:
            continue  # is told elsewhere


def review_section(section: UpstreamSection, path: Path, report: Report) -> None:
    """Tell of keys that mean nothing for this kind of upstream, and of admin keys let through."""
    written = section.model_fields_set
    if section.kind == "http" and "kind" in written and _is_hosted(section):
        message = "this is Convex: as http it would get the wrong Host, and admin keys from outside"
        report.error((*path, "kind"), message, "Leave kind out")
    if not is_convex(section):
        if section.allow_convex_admin:
            report.warning((*path, "allow_convex_admin"), "means nothing: this upstream is not kind: convex")
        return
    if section.host_header == "preserve" and "host_header" in written:
        report.warning((*path, "host_header"), "means nothing: Convex finds its deployment by its own Host")
    if section.identity and "identity" in written:
        report.warning((*path, "identity"), "means nothing: Convex verifies the token itself, nothing is injected")
    if section.allow_convex_admin:
        message = "whoever has an admin key of the deployment can use it from outside"
        report.insecure((*path, "allow_convex_admin"), message, "Deploy to Convex directly, not through the gateway")


def with_defaults(section: RouteSection, upstream: Upstream | None) -> RouteSection:
    """Put in what a route to Convex asks for where the file does not say."""
    if upstream is None or not upstream.convex:
        return section
    missing = {name: value for name, value in DEFAULTS.items() if name not in section.model_fields_set}
    return section.model_copy(update=missing)


def review_convex(routes: Sequence[Route], audience: frozenset[str], report: Report) -> None:
    """Warn of routes through which Convex's clients could not work; `audience` is what the issuer's tokens may have."""
    for index, route in enumerate(routes):
        if route.upstream.convex:
            _review_route(route, audience, ("routes", index), report)


def _review_route(route: Route, audience: frozenset[str], path: Path, report: Report) -> None:
    if route.takes("GET") and (route.auth == "required" or route.require.needs_principal):
        message = "Convex's clients send their token on the open WebSocket, not with the request that opens it"
        at = "auth" if route.auth == "required" else "require"
        report.warning((*path, at), message, "Use auth: optional without require: Convex verifies the token too")
    wanted = route.admission.audience
    if route.auth != "public" and wanted and audience and not wanted & audience:
        message = f"clerk.audience lacks {', '.join(sorted(wanted))}, so no token is good here"
        report.warning((*path, "audience"), message, "Add it to clerk.audience, or leave that empty")
    if route.takes("POST") and route.cors is not None and not _may_send(route.cors.headers):
        message = f"pages may not send {CLIENT_HEADER}, as Convex's HTTP client does"
        report.warning((*path, "cors"), message, f"Write cors.headers: [Authorization, Content-Type, {CLIENT_HEADER}]")


def _may_send(headers: Sequence[str]) -> bool:
    return "*" in headers or CLIENT_HEADER.lower() in (name.lower() for name in headers)
