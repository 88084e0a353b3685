"""`gateway check`: judge a configuration offline, and say everything about it at once."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from gateway.config import Config, Finding, Unreadable, load
from gateway.errors import ConfigError

GOOD: Final = 0
FINDINGS: Final = 1
UNREADABLE: Final = 2
WORDS: Final = {"error": "problem", "insecure": "insecure choice", "warning": "warning"}


def check(
    path: str | None, environ: Mapping[str, str], *, strict: bool, as_json: bool, write: Callable[[str], Any]
) -> int:
    """Judge a file, or what the environment alone gives, and write what was found; return the exit code.

    `write` takes whole lines. With `strict`, choices that work but are insecure count as problems.
    """
    config, findings, code = _judged(path, environ)
    if strict and code == GOOD and any(finding.level == "insecure" for finding in findings):
        code = FINDINGS
    if as_json:
        write(json.dumps({"ok": code == GOOD, "findings": [asdict(finding) for finding in findings]}))
        return code
    for finding in findings:
        write(str(finding))
    summary = [_counted(findings)] if findings else []
    if config is not None and code == GOOD:
        summary.insert(0, _good(config))
    write("; ".join(summary))
    return code


def _judged(path: str | None, environ: Mapping[str, str]) -> tuple[Config | None, Sequence[Finding], int]:
    try:
        config = load(path, environ)
    except Unreadable as error:
        return None, _findings(error), UNREADABLE
    except ConfigError as error:
        return None, _findings(error), FINDINGS
    return config, config.warnings, GOOD


def _findings(error: ConfigError) -> list[Finding]:
    return [finding for finding in error.findings if isinstance(finding, Finding)]


def _counted(findings: Sequence[Finding]) -> str:
    levels = [finding.level for finding in findings]
    return ", ".join(_many(levels.count(level), word) for level, word in WORDS.items() if level in levels)


def _many(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def _good(config: Config) -> str:
    issuer = ", ".join(f"issuer {each.issuer}" for each in config.issuers) or "no issuer"
    told = (subscription.name for subscription in config.subscriptions)
    upstreams = len({*(route.upstream.name for route in config.routes), *told})
    return f"{config.source} is good: {_many(len(config.routes), 'route')}, {issuer}, {_many(upstreams, 'upstream')}"
