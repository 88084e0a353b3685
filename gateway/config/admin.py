"""The operators' listener: where it is, and that nobody who should not can reach it."""

import re

from gateway.config.findings import Path, Report
from gateway.config.schema import Admin, Listen
from gateway.config.urls import is_loopback, read_host
from gateway.core.admin import AdminPolicy

HOST: Path = ("admin", "host")
PORT: Path = ("admin", "port")
TOKEN: Path = ("admin", "token")
EXAMPLE = 'token: "${GATEWAY_ADMIN_TOKEN}"'
SHORT = 16  # characters; from `openssl rand -hex 16` come twice as many
EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104  # compared, not bound


def build_admin(section: Admin, report: Report, *, listen: Listen) -> AdminPolicy | None:
    """Make the policy of the admin listener; None where it is off."""
    remedy = "Write an address, such as 127.0.0.1"
    host = report.tried(HOST, read_host, section.host.strip("[]"), remedy=remedy)
    token = section.token.get_secret_value() if section.token else ""
    if host is None or section.port is None:
        return None
    _check_token(token, host, report)
    if section.port == listen.port != 0 and (host == listen.host or {host, listen.host} & set(EVERYWHERE)):
        report.error(PORT, "is listen.port too", "Take another port, or null for no admin listener")
    return AdminPolicy(host, section.port, is_loopback(host), token.encode() or None)


def _check_token(token: str, host: str, report: Report) -> None:
    if not token:
        if not is_loopback(host) and not report.is_broken(TOKEN):
            message = f"is required, because admin.host {host} can be reached from other machines"
            report.error(TOKEN, message, f"Write {EXAMPLE}, or host: 127.0.0.1")
    elif not re.fullmatch(r"[\x21-\x7e]+", token):
        report.error(TOKEN, "cannot be sent in a header", "Use letters, digits and signs of ASCII, without blanks")
    elif len(token) < SHORT:
        report.insecure(TOKEN, f"is shorter than {SHORT} characters, so it can be guessed", "openssl rand -hex 32")
