"""CORS sections to policies."""

from collections.abc import Iterable
from functools import partial

from gateway.config.findings import Path, Report
from gateway.config.schema import CorsSection
from gateway.core.cors import TOKEN, CorsPolicy, Origins, read_origins

REFUSED_METHODS = ("CONNECT", "TRACE")


def build_cors(section: CorsSection | None, path: Path, report: Report) -> CorsPolicy | None:
    """Make the policy of a section; None where CORS is off."""
    if section is None:
        return None
    origins_at: Path = (*path, "origins")
    if not section.origins:
        if origins_at not in report.places and not report.is_broken(path):
            report.error(path, "names no origins", "Write origins: [https://app.example.com], or cors: null")
        return None
    check_methods(section.methods, (*path, "methods"), report)
    for name in ("headers", "expose"):
        check_header_names(getattr(section, name), (*path, name), report)
    origins = report.tried(origins_at, read_origins, section.origins)
    if origins is None:
        return None
    at: Path = (*path, "credentials") if "credentials" in section.model_fields_set else origins_at
    return report.tried(at, partial(_policy, section), origins)


def _policy(section: CorsSection, origins: Origins) -> CorsPolicy:
    # "*" and nothing said of credentials: without them, so that a list in one variable can be "*" too.
    everybody = section.origins == ("*",) and "credentials" not in section.model_fields_set
    return CorsPolicy(
        origins=origins,
        methods=section.methods,
        headers=section.headers,
        expose=section.expose,
        credentials=section.credentials and not everybody,
        max_age_s=section.max_age_s,
        private_network=section.private_network,
    )


def check_methods(methods: Iterable[str], path: Path, report: Report) -> None:
    """Check that methods are such as arrive: upper case (RFC 9110 §9.1), and ones the gateway serves."""
    for method in methods:
        if method in REFUSED_METHODS:
            report.error(path, f"{method} is never served")
        elif method == "*":
            report.error(path, '"*" is no method, and with credentials browsers take it for one', "List the methods")
        elif not _is_token(method) or method != method.upper():
            report.error(path, f'"{method}" is not a method', "Write methods in upper case, such as GET")


def check_header_names(names: tuple[str, ...], path: Path, report: Report) -> None:
    """Check that names are header names; `*` stands alone."""
    for name in names:
        if not _is_token(name):
            report.error(path, f'"{name}" is not a header name')
        elif name == "*" and len(names) > 1:
            report.error(path, '"*" already names every header', 'Write ["*"], or list the names')


def _is_token(text: str) -> bool:
    return text.isascii() and TOKEN.fullmatch(text.encode()) is not None
