"""The access line of one request (CONTRACT §9), made straight into JSON: no query, no token, no cookie.

Most of a line stood in the line before: what a header, a route or a principal has to say is written once.
"""

from functools import lru_cache
from typing import TYPE_CHECKING, Final

import orjson

from gateway.core.model import Header, Principal
from gateway.telemetry import printable

if TYPE_CHECKING:
    from gateway.web.visit import Visit

LINE: Final = (
    b'{"ts":"%b","level":"%b","event":"request","request_id":"%b","method":%b,"path":%b,"status":%d,"code":%b,"reason":%b,'
    b'"duration_s":%.6f,"upstream_s":%.6f,"bytes_in":%d,"bytes_out":%d,%b,%b}\n'
)
FROM_AND_TO: Final = b'"client":%b,"host":%b,"ua":%b,"route":%b,"upstream":%b,"endpoint":%b'
WHO: Final = b'"user":%b,"session":%b,"org":%b'
MISSED: Final = b',"directory":"miss"'
NULL: Final = b"null"
NOBODY: Final = WHO % (NULL, NULL, NULL)


def access_line(visit: "Visit", ts: bytes, ended: float) -> bytes:
    """Write the line of a request that was just answered, its end included; null for what was not known.

    `bytes_in` counts the body, `bytes_out` all that was sent, head and framing too.
    """
    inbound, status, identified = visit.inbound, visit.status, visit.identified
    if inbound is None:
        method = path = NULL
        from_and_to = FROM_AND_TO % (_text(visit.address), NULL, NULL, NULL, NULL, NULL)
    else:
        method, path, header = _name(inbound.method), _text(inbound.path), inbound.header
        if header.logged_route is not visit.route or header.logged_endpoint is not visit.endpoint or not header.logged:
            header.logged = _from_and_to(header, visit)
            header.logged_route, header.logged_endpoint = visit.route, visit.endpoint
        from_and_to = header.logged
    return LINE % (
        ts, b"info" if status < 500 else b"error", visit.request_id, method, path, status,
        _name(visit.code) if visit.code else NULL, _name(visit.reason) if visit.reason else NULL,
        ended - visit.began, visit.upstream_s, visit.upload.received, visit.bytes_out, from_and_to,
        NOBODY if identified is None else identified.logged,
    )  # fmt: skip


def _from_and_to(header: Header, visit: "Visit") -> bytes:
    route, ua = visit.route, header.seen.get("user-agent")
    return FROM_AND_TO % (
        _text(header.forwarding.client if header.forwarding else visit.address),
        _text(header.authority.decode("latin-1")),
        NULL if ua is None else _text(ua.decode("latin-1")),
        NULL if route is None else _name(route.name),
        NULL if route is None or not visit.endpoint else _name(route.upstream.name),
        _name(visit.endpoint) if visit.endpoint else NULL,
    )


def who_line(principal: Principal, *, missed: bool = False) -> bytes:
    """Write who a principal is, to be remembered with it; `missed`: the directory could not say more in time."""
    # A machine stands where users do; an organisation's API key is nobody's in particular.
    user = principal.subject if principal.subject != principal.org_id else None
    told = (user, principal.session_id, principal.org_id)
    return WHO % tuple(_text(text) if text else NULL for text in told) + (MISSED if missed else b"")


def _text(text: str) -> bytes:
    """Write a text in JSON and printable ASCII, whatever a client put into it."""
    line = orjson.dumps(text)
    return line if text.isprintable() and text.isascii() else printable(line)


@lru_cache(maxsize=1024)
def _name(text: str) -> bytes:
    """Write one of the few names that we gave ourselves."""
    return orjson.dumps(text)
