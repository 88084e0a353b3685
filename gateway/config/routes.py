"""Routes: what each matches, who may pass, and what becomes of the path."""

import re
from typing import NamedTuple

from gateway.config.convex import with_defaults
from gateway.config.cors import build_cors, check_methods
from gateway.config.findings import Path, Report, closest, did_you_mean
from gateway.config.machines import token_types
from gateway.config.rates import build_rates, check_counted
from gateway.config.schema import Require, RouteSection, Settings
from gateway.config.upstreams import NAME, NAME_RULE, read_prefix
from gateway.config.urls import read_host
from gateway.core.cors import CorsPolicy
from gateway.core.model import Upstream
from gateway.core.policy import Admission, Requirement, with_org_prefix, with_scopes
from gateway.core.routing import PathPattern, Route, canonical_path


class Surroundings(NamedTuple):
    """What a route takes from the rest of the file."""

    upstreams: dict[str, Upstream]
    named: frozenset[str]  # upstreams that stand in the file, usable or not
    cors: CorsPolicy | None
    body_bytes: int
    issuers: tuple[str, ...] = ()  # names; none: there is the one under `clerk`


class Paths(NamedTuple):
    """What a route matches and makes of a path."""

    pattern: PathPattern
    strip_segments: int
    stripped: bytes
    add_prefix: bytes


def build_routes(settings: Settings, around: Surroundings, report: Report) -> tuple[Route, ...]:
    """Make the routes that can be made; for each of the others there is a finding."""
    if not settings.routes and not report.is_broken(("routes",)):
        report.error(("routes",), "there are no routes, so every request would be a 404", "Add one for /*")
    taken: dict[str, int] = {}
    built = []
    for index, section in enumerate(settings.routes):
        path: Path = ("routes", index)
        name = section.name or f"route-{index + 1}"
        if not NAME.fullmatch(name):
            report.error((*path, "name"), NAME_RULE)
        if name in taken:
            report.error((*path, "name"), f'"{name}" is already the name of routes[{taken[name]}]')
        taken.setdefault(name, index)
        if report.is_broken_itself(path):
            continue
        route = _route(section, name, path, around, report)
        if route is not None:
            built.append(route)
    return tuple(built)


def _route(section: RouteSection, name: str, path: Path, around: Surroundings, report: Report) -> Route | None:
    upstream = _upstream(section, path, around, report)
    written, section = section.model_fields_set, with_defaults(section, upstream)
    paths = _paths(section, upstream, path, report)
    host = report.tried((*path, "host"), read_route_host, section.host) if section.host else None
    require = _requirement(section, path, report)
    cors = around.cors
    if "cors" in written:
        cors = build_cors(section.cors, (*path, "cors"), report)
    check_methods(section.methods, (*path, "methods"), report)
    _check_credentials(section, written, require, path, report)
    rates = build_rates(section.rate_limit, (*path, "rate_limit"), report)
    check_counted(rates, section.auth, (*path, "rate_limit"), report)
    if upstream is None or paths is None:
        return None
    timeouts = section.timeouts
    return Route(
        name=name,
        pattern=paths.pattern,
        upstream=upstream,
        host=host,
        methods=frozenset(section.methods),
        auth=section.auth,
        admission=Admission(
            token_types(section.token),
            frozenset(section.audience),
            _issuer(section, path, around, report),
            section.allow_pending,
        ),
        require=require,
        cors=cors,
        strip_segments=paths.strip_segments,
        stripped=paths.stripped,
        add_prefix=paths.add_prefix,
        max_body_bytes=around.body_bytes if section.max_body_bytes is None else section.max_body_bytes,
        connect_s=timeouts.connect_s or upstream.connect_s,
        response_s=timeouts.response_s or upstream.response_s,
        idle_s=timeouts.idle_s or upstream.idle_s,
        stream_max_age_s=section.stream_max_age_s or 0.0,
        allow_encoded=frozenset(section.allow_encoded),
        forward_token=upstream.forward_token if section.forward_token is None else section.forward_token,
        rates=rates,
    )


def _issuer(section: RouteSection, path: Path, around: Surroundings, report: Report) -> str | None:
    name, at = section.issuer, (*path, "issuer")
    if name is None or name in around.issuers or report.is_broken_itself(("issuers",)):
        return name
    known = ", ".join(dict.fromkeys(around.issuers))
    remedy = did_you_mean(closest(name, around.issuers)) or (f"Issuers are: {known}" if known else "Leave it out")
    message = (
        f'there is no issuer "{name}"' if known else "means nothing: there are no issuers, only the one under clerk"
    )
    report.error(at, message, remedy)
    return None


def _upstream(section: RouteSection, path: Path, around: Surroundings, report: Report) -> Upstream | None:
    at: Path = (*path, "upstream")
    known = ", ".join(sorted(around.named)) or "none is defined"
    if section.upstream is None:
        if not report.is_broken(at):
            report.error(at, "is missing", f"Write upstream: and one of: {known}")
    elif section.upstream not in around.named and not report.is_broken_itself(("upstreams",)):
        remedy = did_you_mean(closest(section.upstream, around.named)) or f"Upstreams are: {known}"
        report.error(at, f'there is no upstream "{section.upstream}"', remedy)
    return around.upstreams.get(section.upstream or "")


def _paths(section: RouteSection, upstream: Upstream | None, path: Path, report: Report) -> Paths | None:
    at: Path = (*path, "path")
    if section.path is None:
        if not report.is_broken(at):
            report.error(at, "is missing", "Write path: /exact, or a prefix such as /api/*")
        return None
    pattern = report.tried(at, PathPattern.read, section.path)
    if pattern is None:
        return None
    odd = canonical_path(pattern.text or "/").oddities - set(section.allow_encoded)
    if odd:
        report.error(at, "can never match without allow_encoded", f"Write allow_encoded: {sorted(odd)}")
    stripped = _prefix(section.strip_prefix, (*path, "strip_prefix"), report)
    added = _prefix(section.add_prefix, (*path, "add_prefix"), report)
    if stripped and not f"{pattern.text}/".startswith(f"{stripped}/"):
        report.error((*path, "strip_prefix"), f'does not lead the path "{section.path}"')
    base = upstream.base_path if upstream else b""
    return Paths(pattern, stripped.count("/"), stripped.encode(), base + added.encode())


def _prefix(value: str | None, path: Path, report: Report) -> str:
    return report.tried(path, read_prefix, value or "") or ""


def read_route_host(value: str) -> str:
    """Read `host`: a name without port, exact or with `*.` for its first label. Raises ValueError."""
    host = value.lower()
    if re.search(r"[/@]|^[^\[\]:]*:[0-9]*$|\]:", host):
        raise ValueError("is compared without scheme, port and path: write the host name alone")
    wildcard = "*." if host.startswith("*.") else ""
    return wildcard + read_host(host.removeprefix("*.").strip("[]"))


def _requirement(section: RouteSection, path: Path, report: Report) -> Requirement:
    require: Require = section.require
    at: Path = (*path, "require")
    ages = require.max_age_min
    return Requirement(
        roles=frozenset(map(with_org_prefix, require.role)),
        permissions=frozenset(map(with_org_prefix, require.permission)),
        plans=report.tried((*at, "plan"), with_scopes, require.plan) or frozenset(),
        features=report.tried((*at, "feature"), with_scopes, require.feature) or frozenset(),
        scopes=frozenset(require.scope),
        org_any=require.org is True,
        orgs=frozenset() if require.org is True else frozenset(require.org),
        claims=tuple(require.claims.items()),
        max_age_first_min=ages.first if ages else None,
        max_age_second_min=ages.second if ages else None,
        allow_impersonation=section.allow_impersonation,
    )


def _check_credentials(
    section: RouteSection, written: set[str], require: Requirement, path: Path, report: Report
) -> None:
    if "template" in section.token and not section.audience and not report.is_broken((*path, "audience")):
        message = "token: template needs an audience: a template's token is meant for somebody in particular"
        at = "token" if "token" in written else "audience"
        report.error((*path, at), message, "Write audience: [NAME], as the template's aud claim has it")
    if section.auth != "public":
        if not section.token:
            message = "empty: then no token is taken, and nobody passes"
            report.error((*path, "token"), message, "Write token: session, or leave it out")
        return
    if require.needs_principal:
        remedy = "Use auth: required (or optional), or leave require out"
        report.error((*path, "require"), "nobody is identified on a public route, so nothing can be required", remedy)
    for name in ("token", "audience", "issuer", "allow_pending", "allow_impersonation"):
        if name in written:
            report.warning((*path, name), "means nothing on a public route, where no credential is read")
