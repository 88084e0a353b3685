"""Errors and answers to bytes. What every answer carries is added here, for forwarded, local and refused ones alike."""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import orjson

from gateway.core.session import auth_message
from gateway.errors import GatewayError, InvalidToken, MethodNotAllowed, RateLimited, Redirect, StepUpNeeded
from gateway.net.exchange import Answer

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
CLOSE: Final = b"\r\nConnection: close"
KEEP: Final = b"\r\nConnection: keep-alive"  # only an HTTP/1.0 client has to be told
FORWARDED: Final = b"HTTP/1.1 %d %b%b%b\r\nX-Request-Id: %b%b%b\r\n\r\n%b"
EVENT_STREAM: Final = b"\r\ncontent-type: text/event-stream"
NO_STORE: Final = b"\r\nCache-Control: no-store"
# What caches go by, and before `Cache-Control` those that know one of their own (RFC 9213 §2.2).
CACHING: Final = re.compile(
    rb"\r\n(?:(?:[a-z0-9-]+-)?cache-control|surrogate-control|edge-control|x-accel-expires):", re.I
)
CHUNKED: Final = b"\r\nTransfer-Encoding: chunked"
NOTHING_MORE: Final[Mapping[str, object]] = MappingProxyType({})


def forwarded(
    answer: Answer, body: bytes, request_id: bytes, cors: bytes | None, framing: bytes, connection: bytes
) -> bytes:
    """Give a forwarded answer's head and what there is of its body; `cors` None leaves the upstream's own as it is."""
    fields = b"".join(answer.head)
    own = b"".join(answer.cors) if cors is None else cors
    return FORWARDED % (answer.status, answer.reason, fields, own, request_id, framing, connection, body)


def is_event_stream(answer: Answer) -> bool:
    """Say whether an answer is one of server-sent events (HTML standard, "Server-sent events")."""
    return any(line[: len(EVENT_STREAM)].lower() == EVENT_STREAM for line in answer.head)


def framing(answer: Answer, body_bytes: int, *, is_head: bool, http_10: bool) -> bytes | None:
    """Give the answer's framing line, made anew from what is known of its body (RFC 9112 §6).

    `CHUNKED` itself where the body goes out in chunks, None where only the connection's end can end it.
    """
    status = answer.status
    if status == 204:
        return b""
    if is_head or status == 304:
        return b"" if answer.length is None else b"\r\nContent-Length: %d" % answer.length
    if answer.complete:
        return b"\r\nContent-Length: %d" % body_bytes
    if answer.length is not None:
        return b"\r\nContent-Length: %d" % answer.length
    return None if http_10 else CHUNKED


def refusal(
    error: GatewayError, *, request_id: bytes, cors: bytes, connection: bytes, is_head: bool = False,
    more: Mapping[str, object] = NOTHING_MORE,
) -> bytes:  # fmt: skip
    """Give the gateway's own no, whole, as problem+json (RFC 9457), or the redirect that it is.

    `more` is what else its receiver may know.
    """
    if isinstance(error, Redirect):
        return _redirect(error, request_id=request_id, cors=cors, connection=connection)
    body = problem(error, request_id, **more)
    lines = [
        b"HTTP/1.1 %d %b\r\nContent-Type: application/problem+json\r\nContent-Length: %d"
        % (error.status, error.title.encode(), len(body)),
        NO_STORE + b"\r\nX-Request-Id: ",
        request_id,
        *refusal_fields(error),
        _auth_fields(error),
        cors,
        connection,
        b"\r\n\r\n",
    ]
    if not is_head:
        lines.append(body)
    return b"".join(lines)


def _redirect(error: Redirect, *, request_id: bytes, cors: bytes, connection: bytes) -> bytes:
    # no-store: Chrome reloads sleeping tabs from its cache, and with a redirect that was kept they would go in circles.
    lines = (
        b"HTTP/1.1 %d %b\r\nLocation: " % (error.status, error.title.encode()),
        error.location.encode("ascii"),
        b"\r\nContent-Length: 0" + NO_STORE + b"\r\nX-Request-Id: ",
        request_id,
        error.fields,
        _auth_fields(error),
        cors,
        connection,
        b"\r\n\r\n",
    )
    return b"".join(lines)


def _auth_fields(error: GatewayError) -> bytes:
    """Give the fields by which Clerk's SDK tells developers how it stands with a request that is not signed in."""
    if isinstance(error, Redirect):
        status, message = error.auth_status, error.message
    elif error.status == 401:
        carrier = error.carrier if isinstance(error, InvalidToken) else ""
        status, message = "signed-out", auth_message(error.reason, carrier=carrier)
    else:
        return b""
    said = (("Status", status), ("Reason", error.reason), ("Message", message))
    return b"".join(b"\r\nX-Clerk-Auth-%b: %b" % (name.encode(), text.encode()) for name, text in said if text)


def private(answer: Answer) -> None:
    """Keep an answer that brings somebody's cookies out of every cache, whatever its upstream thought."""
    answer.head[:] = [line for line in answer.head if CACHING.match(line) is None] + [NO_STORE]


def problem(error: GatewayError, request_id: bytes, **more: object) -> bytes:
    """Give the body of a refusal, with what more its receiver may know.

    It says nothing that the client could not know: no token, key, claim or trace.
    """
    fields: dict[str, object] = {"type": "about:blank", "title": error.title}
    fields |= {"status": error.status, "code": error.code}
    if error.reason:
        fields["reason"] = error.reason
    if isinstance(error, StepUpNeeded):
        fields["clerk_error"] = _reverification(error)
    return orjson.dumps({**fields, "request_id": request_id.decode("latin-1"), **more})


def _reverification(error: StepUpNeeded) -> dict[str, object]:
    """Say what Clerk's `useReverification` looks for, so that a page asks its user to prove again who they are.

    It is what `reverificationError()` of @clerk/shared makes; the hook reads it from the body, whatever the type.
    """
    asked = {"level": error.level, "afterMinutes": error.after_min}
    return {"type": "forbidden", "reason": "reverification-error", "metadata": {"reverification": asked}}


def refusal_fields(error: GatewayError) -> list[bytes]:
    """Give the fields that a status asks for: WWW-Authenticate, Allow, Retry-After, RateLimit-*."""
    lines = []
    if error.status == 401:
        # RFC 6750 §3: no error code where no credential was sent.
        sent = b' error="invalid_token", error_description="%b"' % (error.reason or "").encode()
        lines.append(b"\r\nWWW-Authenticate: Bearer" + (sent if error.code == "invalid_token" else b""))
    if isinstance(error, MethodNotAllowed):
        lines.append(b"\r\nAllow: " + ", ".join(error.allow).encode())
    if error.retry_after_s is not None:
        lines.append(b"\r\nRetry-After: %d" % error.retry_after_s)
    if isinstance(error, RateLimited):
        lines.append(b"\r\nRateLimit-Limit: %d" % error.limit)
        lines.append(b"\r\nRateLimit-Remaining: %d" % error.remaining)
        lines.append(b"\r\nRateLimit-Reset: %d" % error.reset_s)
    return lines


def no_content(*, request_id: bytes, fields: bytes, connection: bytes) -> bytes:
    """Give a preflight's answer."""
    return b"HTTP/1.1 204 No Content%b\r\nX-Request-Id: %b%b\r\n\r\n" % (fields, request_id, connection)
