"""The access line of one request (CONTRACT §9): no query, no token, no cookie."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gateway.web.connection import Connection


def access_line(connection: "Connection", *, ts: str, ended: float) -> dict[str, Any]:
    """Give the fields of the request that the connection has just answered; None for what was not known.

    `bytes_in` counts the body, `bytes_out` all that was sent, head and framing too.
    """
    inbound, route = connection.inbound, connection.route
    principal = connection.identified.principal if connection.identified else None
    seen = inbound.seen if inbound else {}
    return {
        "ts": ts,
        "level": "info" if connection.status < 500 else "error",
        "event": "request",
        "request_id": connection.request_id.decode("latin-1"),
        "client": connection.client,
        "method": inbound.method if inbound else None,
        "host": inbound.authority.decode("latin-1") if inbound else None,
        "route": route.name if route else None,
        "path": inbound.path if inbound else None,
        "status": connection.status,
        "code": connection.code or None,
        "reason": connection.reason or None,
        "user": principal.subject if principal else None,
        "session": principal.session_id if principal else None,
        "org": principal.org_id if principal else None,
        "upstream": route.upstream.name if route and connection.endpoint else None,
        "endpoint": connection.endpoint or None,
        "duration_s": round(ended - connection.began, 6),
        "upstream_s": round(connection.upstream_s, 6),
        "bytes_in": connection.upload.received,
        "bytes_out": connection.bytes_out,
        "ua": seen["user-agent"].decode("latin-1") if "user-agent" in seen else None,
    }
