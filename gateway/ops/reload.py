"""`gateway reload`: ask the running gateway, through its admin listener, to take up its file; say what it answered."""

import json
from collections.abc import Callable, Mapping
from http.client import HTTPConnection, HTTPException
from typing import Any, Final

from gateway.config import Finding, load_admin
from gateway.core.admin import AdminPolicy
from gateway.errors import ConfigError

DONE: Final = 0
REFUSED: Final = 1
PATIENCE_S: Final = 30.0  # a new key set's address is asked first
MOST_BYTES: Final = 2**20
EVERYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # where to find what listens everywhere
Write = Callable[[str], Any]


def reload(path: str | None, environ: Mapping[str, str], *, write: Write) -> int:
    """Ask the gateway that the file's `admin` section leads to, write what came of it, and return the exit code."""
    try:
        admin = load_admin(path, environ)
    except ConfigError as error:
        for finding in error.findings:
            write(str(finding))
        return _refused("not asked to reload: the configuration in force stays so", write)
    if admin is None:
        return _refused("admin.port is null, so there is nobody to ask: send HUP to the gateway instead", write)
    if admin.token is None:
        return _refused("admin.token is not set, so nobody is answered: set one, or send HUP to the gateway", write)
    try:
        status, answer = _ask(admin)
    except (OSError, HTTPException, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else "no gateway's answer"
        where = "Does it run, and with this admin.host and admin.port?"
        return _refused(f"cannot ask {admin.host}:{admin.port}: {why}. {where}", write)
    return _told(status, answer, write)


def _ask(admin: AdminPolicy) -> tuple[int, dict[str, Any]]:
    connection = HTTPConnection(EVERYWHERE.get(admin.host, admin.host), admin.port, timeout=PATIENCE_S)
    try:
        connection.request("POST", "/v1/reload", headers={"Authorization": f"Bearer {(admin.token or b'').decode()}"})
        response = connection.getresponse()
        answer = json.loads(response.read(MOST_BYTES))
        if not isinstance(answer, dict):
            raise ValueError("not an object")
        return response.status, answer
    finally:
        connection.close()


def _told(status: int, answer: dict[str, Any], write: Write) -> int:
    if status == 200:
        write(f"reloaded: {', '.join(map(_plain, _listed(answer, 'changed'))) or 'nothing has changed'}")
        return DONE
    if status == 401:
        return _refused("the running gateway has another admin.token", write)
    findings = _listed(answer, "findings")
    for finding in findings:
        write(_plain(_finding(finding)))
    if findings:
        return _refused("refused: the old configuration stays in force", write)
    return _refused(f"refused: {status} {_plain(answer.get('code'))}", write)


def _listed(answer: dict[str, Any], name: str) -> list[object]:
    value = answer.get(name)
    return value if isinstance(value, list) else [value] if value else []


def _finding(value: object) -> object:
    """Read a finding as `web.admin` writes it; another version's may have another shape."""
    try:
        return Finding(**value) if isinstance(value, dict) else value
    except TypeError:
        return value


def _refused(why: str, write: Write) -> int:
    write(f"gateway: {why}")
    return REFUSED


def _plain(value: object) -> str:
    """Give text that a terminal may show, whoever it came from."""
    return "".join(char if char.isprintable() else "?" for char in str(value))
