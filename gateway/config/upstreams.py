"""Upstreams: where each of them is, and how requests are put to it."""

import re
from typing import NamedTuple

from gateway.config.convex import is_convex, review_section
from gateway.config.findings import Path, Report, dotted
from gateway.config.parties import UpstreamSection
from gateway.config.tls import build_upstream_tls
from gateway.config.urls import Url, is_loopback, read_upstream
from gateway.core.balance import BreakerPolicy, HealthPolicy, RetryPolicy
from gateway.core.model import Endpoint, Upstream
from gateway.core.routing import PathPattern

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")  # fit for a metric label and a log field
NAME_RULE = "must be 1 to 64 letters, digits, dots, dashes or underscores"
HEALTH_PATH = re.compile(r"/[!-~]*")
EXAMPLE = "http://127.0.0.1:3000"


def build_upstreams(sections: dict[str, UpstreamSection], report: Report, *, own_port: int) -> dict[str, Upstream]:
    """Make the upstreams that have an address; for each of the others there is a finding."""
    built: dict[str, Upstream] = {}
    for name, section in sections.items():
        path: Path = ("upstreams", name)
        if not NAME.fullmatch(name):
            report.error(path, f"the name {NAME_RULE}")
        targets = _targets(section, path, report)
        if not targets:
            continue
        for target in targets:
            if is_loopback(target.url.host) and target.url.port == own_port != 0:
                report.warning(target.at, "is the gateway's own port: requests would go round in circles")
        _check_alike(targets, report)
        base = report.tried(path, read_prefix, targets[0].url.path) or ""
        convex = is_convex(section)
        review_section(section, path, report)
        built[name] = Upstream(
            name=name,
            endpoints=tuple(_endpoint(target) for target in targets),
            base_path=base.encode(),
            preserve_host=section.host_header == "preserve" and not convex,
            identity=section.identity and not convex,
            forward_token=section.forward_token,
            connect_s=section.timeouts.connect_s,
            response_s=section.timeouts.response_s,
            idle_s=section.timeouts.idle_s,
            retries=RetryPolicy(**section.retries.model_dump()),
            breaker=BreakerPolicy(**section.breaker.model_dump()),
            health=_health(section, path, report),
            max_connections=section.max_connections,
            max_pending=section.max_pending,
            convex=convex,
            allow_convex_admin=convex and section.allow_convex_admin,
            tls=build_upstream_tls(
                section.tls, (*path, "tls"), report, is_used=any(target.url.scheme == "https" for target in targets)
            ),
        )
    return built


class _Target(NamedTuple):
    at: Path
    url: Url
    weight: int


def _endpoint(target: _Target) -> Endpoint:
    url = target.url
    return Endpoint(url.host, url.port, url.scheme == "https", url.authority.encode(), target.weight)


def _check_alike(targets: list[_Target], report: Report) -> None:
    """Check what several targets have to have in common, and what they may not."""
    first = targets[0]
    if not any(target.weight for target in targets):
        report.error((*first.at[:-2], 0, "weight"), "no target has a weight, so nothing could be forwarded")
    seen: dict[tuple[str, int], Path] = {}
    for target in targets:
        if target.url.path != first.url.path:
            report.error(target.at, "has another path than the first target: a request may go to either of them")
        where = target.url.host, target.url.port
        if where in seen:
            report.error(target.at, f"is the same address as {dotted(seen[where])}", "Use weight for a larger share")
        seen.setdefault(where, target.at)


def _health(section: UpstreamSection, path: Path, report: Report) -> HealthPolicy:
    at: Path = (*path, "health", "path")
    asked = section.health.path
    if asked is not None and not HEALTH_PATH.fullmatch(asked):
        report.error(at, "must be a path such as /healthz, with a query if need be, in ASCII without blanks")
    if asked is not None and min(section.health.unhealthy_after, section.health.healthy_after) < 1:
        report.error((*path, "health"), "unhealthy_after and healthy_after count from 1")
    if asked is not None and section.health.timeout_s > section.health.interval_s:
        report.warning(
            (*path, "health", "timeout_s"), "is longer than interval_s: an endpoint that hangs is asked less often"
        )
    return HealthPolicy(**section.health.model_dump())


def read_prefix(text: str) -> str:
    """Read a path put before or taken from others: no trailing slash, percent-encoded. Raises ValueError."""
    if not text.rstrip("/"):
        return ""
    pattern = PathPattern.read(text.rstrip("/"))
    if pattern.below:
        raise ValueError(f'"{text}": a prefix is written without *')
    return pattern.text


def _targets(section: UpstreamSection, path: Path, report: Report) -> list[_Target]:
    """Read `url`, or `targets`; none where there is no usable address."""
    at: Path = (*path, "url")
    if section.url is not None and section.targets:
        report.error(path, "has both url and targets", "Keep one of them")
    if section.url is not None or not section.targets:
        written = [(at, section.url, 1)]
    else:
        written = [
            ((*path, "targets", index, "url"), target.url, target.weight)
            for index, target in enumerate(section.targets)
        ]
    return [_Target(at, url, weight) for at, value, weight in written if (url := _url(value, at, path, report))]


def _url(value: str | None, at: Path, path: Path, report: Report) -> Url | None:
    if value is None:
        if not report.is_broken(at, (*path, "targets")):
            _note_missing(at, report)
        return None
    return report.tried(at, read_upstream, value)


def _note_missing(at: Path, report: Report) -> None:
    variables = report.variables(at)
    if variables:
        example = f"Set {variables[0]}, for example {variables[0]}={EXAMPLE}"
        report.error(at, "no upstream is named, so there is nowhere to forward to", example)
    else:
        report.error(at, "is missing", f"Write url: {EXAMPLE}")
