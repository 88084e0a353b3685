"""Upstreams: where each of them is, and how requests are put to it."""

import re

from gateway.config.findings import Path, Report
from gateway.config.parties import UpstreamSection
from gateway.config.tls import build_upstream_tls
from gateway.config.urls import Url, is_loopback, read_upstream
from gateway.core.model import Endpoint, Upstream
from gateway.core.routing import PathPattern

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")  # fit for a metric label and a log field
NAME_RULE = "must be 1 to 64 letters, digits, dots, dashes or underscores"
EXAMPLE = "http://127.0.0.1:3000"


def build_upstreams(sections: dict[str, UpstreamSection], report: Report, *, own_port: int) -> dict[str, Upstream]:
    """Make the upstreams that have an address; for each of the others there is a finding."""
    built: dict[str, Upstream] = {}
    for name, section in sections.items():
        path: Path = ("upstreams", name)
        if not NAME.fullmatch(name):
            report.error(path, f"the name {NAME_RULE}")
        url = _url(section, path, report)
        if url is None:
            continue
        if is_loopback(url.host) and url.port == own_port != 0:
            report.warning(path, "is the gateway's own port: requests would go round in circles")
        base = report.tried(path, read_prefix, url.path) or ""
        endpoint = Endpoint(url.host, url.port, url.scheme == "https", url.authority.encode())
        built[name] = Upstream(
            name=name,
            endpoint=endpoint,
            base_path=base.encode(),
            preserve_host=section.host_header == "preserve",
            identity=section.identity,
            forward_token=section.forward_token,
            connect_s=section.timeouts.connect_s,
            response_s=section.timeouts.response_s,
            idle_s=section.timeouts.idle_s,
            tls=build_upstream_tls(section.tls, (*path, "tls"), report, is_used=url.scheme == "https"),
        )
    return built


def read_prefix(text: str) -> str:
    """Read a path put before or taken from others: no trailing slash, percent-encoded. Raises ValueError."""
    if not text.rstrip("/"):
        return ""
    pattern = PathPattern.read(text.rstrip("/"))
    if pattern.below:
        raise ValueError(f'"{text}": a prefix is written without *')
    return pattern.text


def _url(section: UpstreamSection, path: Path, report: Report) -> Url | None:
    at: Path = (*path, "url")
    value = section.url
    if value is not None and section.targets:
        report.error(path, "has both url and targets", "Keep one of them")
    if value is None and section.targets:
        at, value = (*path, "targets", 0, "url"), section.targets[0].url
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
