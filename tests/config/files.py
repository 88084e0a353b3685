"""Configuration files for tests: a small good one, and what loading one gives."""

import base64
from collections.abc import Mapping
from typing import Any

from gateway.config import Config, Finding, load_text
from gateway.errors import ConfigError

KEY = "pk_live_Y2xlcmsuZXhhbXBsZS5jb20k"  # clerk.example.com
APP = "https://app.example.com"
SECTIONS = {
    "clerk": f"{{publishable_key: {KEY}, authorized_parties: [{APP}]}}",
    "upstreams": "{api: {url: http://127.0.0.1:3000}}",
    "routes": "[{name: rest, path: /*, upstream: api}]",
}


def written(**sections: str) -> str:
    """Write the good file, one line a section, with some sections replaced or added."""
    return "".join(f"{name}: {text}\n" for name, text in (SECTIONS | sections).items())


def loaded(text: str, environ: Mapping[str, str] | None = None) -> Config:
    """Load what must be good."""
    return load_text(text, environ or {}, name="gateway.yaml")


def findings(text: str, environ: Mapping[str, str] | None = None) -> tuple[Finding, ...]:
    """Give all findings, whether they stop the start or not."""
    try:
        return loaded(text, environ).warnings
    except ConfigError as error:
        assert all(isinstance(finding, Finding) for finding in error.findings)
        return error.findings  # type: ignore[return-value]


def only(text: str, environ: Mapping[str, str] | None = None) -> Finding:
    """Give the one finding there is."""
    found = findings(text, environ)
    assert len(found) == 1, "\n".join(map(str, found))
    return found[0]


def publishable_key(host: str, kind: str = "live") -> str:
    """Make the publishable key of an instance."""
    return f"pk_{kind}_" + base64.b64encode(f"{host}$".encode()).decode()


def shown(finding: Finding) -> tuple[str, str, Any]:
    """Reduce a finding to what tables compare."""
    return finding.level, finding.key, finding.line
