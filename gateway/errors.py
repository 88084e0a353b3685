"""The gateway's own errors: what can be refused or go wrong, and how that is answered (CONTRACT §8).

    GatewayError
    ├── BadRequest 400            ├── RequestTimeout 408        ├── UpstreamRefused 502
    ├── MissingCredential 401     ├── BodyTooLarge 413          ├── BadUpstreamResponse 502
    ├── InvalidToken 401          ├── ExpectationFailed 417     ├── KeysUnavailable 503
    ├── Forbidden 403             ├── RateLimited 429           ├── NoHealthyEndpoint 503
    ├── NoRoute, NotFound 404     ├── HeadersTooLarge 431       ├── StoreDown 503
    └── MethodNotAllowed 405      ├── InternalError 500         │   └── StoreSlow
    ├── Redirect 307              ├── UpstreamTimeout 504       ├── WebhooksNotConfigured 503
    │   └── SignInRedirect 302    └── ClerkApiDown 503          ├── Overloaded 503
                                      ├── ClerkApiRefused       └── Draining 503
                                      └── ClerkApiBusy

A class fixes its status and public code; an instance carries a public reason from a closed list and, where it helps, a
detail for the log alone. Only `web/respond.py` turns one into an answer. `SocketRefused` becomes a Close frame, and
`ConfigError` never reaches a client.
"""

import math
from typing import ClassVar, Final

MAX_RETRY_AFTER_S: Final = 3600  # what somebody else's Retry-After makes ours say at most


class GatewayError(Exception):
    """Anything the gateway refuses or cannot do, with the answer it maps to."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    title: ClassVar[str] = "Internal Server Error"
    retry_after_s: int | None = None

    def __init__(self, reason: str | None = None, *, detail: str | None = None) -> None:
        super().__init__(reason or self.code)
        self.reason = reason
        self.detail = detail


class BadRequest(GatewayError):
    """Malformed or ambiguous; the connection is closed where its framing is in doubt."""

    status, code, title = 400, "bad_request", "Bad Request"


class MissingCredential(GatewayError):
    """A credential is needed and none was sent."""

    status, code, title = 401, "missing_credential", "Unauthorized"


class InvalidToken(GatewayError):
    """A credential was sent and is not good; `reason` is one of Clerk's words (CONTRACT §8).

    `carrier` says where it stood: "header" | "cookie".
    """

    status, code, title = 401, "invalid_token", "Unauthorized"

    def __init__(self, reason: str | None = None, *, detail: str | None = None, carrier: str = "header") -> None:
        super().__init__(reason, detail=detail)
        self.carrier = carrier


class Redirect(GatewayError):
    """A document is to be asked for elsewhere: at Clerk's handshake, or under its own address without its traces.

    `auth_status` and `message` are what Clerk's debugging fields say; `fields` are ready lines for the answer's head.
    """

    status, code, title = 307, "", "Temporary Redirect"

    def __init__(
        self, location: str, reason: str | None = None, *, auth_status: str = "", message: str = "", fields: bytes = b""
    ) -> None:
        super().__init__(reason)
        self.location, self.auth_status, self.message, self.fields = location, auth_status, message, fields


class SignInRedirect(Redirect):
    """A document's client is to sign in first."""

    status, title = 302, "Found"


class Forbidden(GatewayError):
    """Verified, but the route asks for more."""

    status, code, title = 403, "forbidden", "Forbidden"


class NoRoute(GatewayError):
    """No route matches host and path."""

    status, code, title = 404, "no_route", "Not Found"


class NotFound(GatewayError):
    """The admin listener knows the address but not what is asked for there; `reason` says what kind of thing it is."""

    # Not `no_route`: whoever mistook an address must not take a user for deleted.
    status, code, title = 404, "not_found", "Not Found"


class MethodNotAllowed(GatewayError):
    """The path is known, but not with this method."""

    status, code, title = 405, "method_not_allowed", "Method Not Allowed"

    def __init__(self, allow: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.allow = allow


class RequestTimeout(GatewayError):
    """The client was too slow sending its request."""

    status, code, title = 408, "request_timeout", "Request Timeout"


class BodyTooLarge(GatewayError):
    """More body than the route takes."""

    status, code, title = 413, "body_too_large", "Content Too Large"


class ExpectationFailed(GatewayError):
    """An `Expect` other than 100-continue (RFC 9110 §10.1.1)."""

    status, code, title = 417, "expectation_failed", "Expectation Failed"


class RateLimited(GatewayError):
    """Called too often; `reason` says who was counted, the rest how it stands with the bucket that is empty."""

    status, code, title = 429, "rate_limited", "Too Many Requests"

    def __init__(
        self, reason: str | None = None, *, limit: int = 0, remaining: int = 0, reset_s: int = 1, retry_after_s: int = 1
    ) -> None:
        super().__init__(reason)
        self.limit, self.remaining, self.reset_s = limit, remaining, reset_s
        self.retry_after_s = retry_after_s


class HeadersTooLarge(GatewayError):
    """More or longer header fields than the limits take."""

    status, code, title = 431, "headers_too_large", "Request Header Fields Too Large"


class InternalError(GatewayError):
    """A fault of the gateway's own."""


class UpstreamRefused(GatewayError):
    """The upstream cannot be connected to."""

    status, code, title = 502, "upstream_unreachable", "Bad Gateway"


class BadUpstreamResponse(GatewayError):
    """The upstream's answer is broken or ended before its head."""

    status, code, title = 502, "bad_upstream_response", "Bad Gateway"


class KeysUnavailable(GatewayError):
    """The issuer's keys cannot be had, so nothing can be said about the token; never a 401."""

    status, code, title = 503, "keys_unavailable", "Service Unavailable"
    retry_after_s = 5


class NoHealthyEndpoint(GatewayError):
    """Every endpoint of the upstream is left alone for now."""

    status, code, title = 503, "no_healthy_endpoint", "Service Unavailable"
    retry_after_s = 1


class StoreDown(GatewayError):
    """The store cannot be asked, or does not do what it is asked for; whoever sent something sends it again."""

    status, code, title = 503, "store_unavailable", "Service Unavailable"
    retry_after_s = 5
    is_fault: ClassVar[bool] = True  # of the store itself, so that nothing else will work either


class StoreSlow(StoreDown):
    """The store took too long for this. Where it only read, that says nothing about the rest."""


class ClerkApiDown(GatewayError):
    """Clerk's Backend API cannot be reached, or does not answer as it should; `detail` says how."""

    status, code, title = 503, "clerk_unavailable", "Service Unavailable"
    retry_after_s = 5


class ClerkApiRefused(ClerkApiDown):
    """Clerk's Backend API does not take the secret key (401, 403); `reason` is Clerk's own word for why."""

    retry_after_s = 60


class ClerkApiBusy(ClerkApiDown):
    """Clerk's Backend API has been asked too often (429) and wants to be left alone for `retry_after_s`."""

    def __init__(self, retry_after_s: float, *, detail: str | None = None) -> None:
        super().__init__(detail=detail)
        self.retry_after_s = max(1, min(math.ceil(retry_after_s), MAX_RETRY_AFTER_S))


class WebhooksNotConfigured(GatewayError):
    """No signing secret is configured, so no webhook can be told from a made-up one."""

    status, code, title = 503, "webhooks_not_configured", "Service Unavailable"
    retry_after_s = 60


class Overloaded(GatewayError):
    """A limit of the gateway's own is reached."""

    status, code, title = 503, "overloaded", "Service Unavailable"
    retry_after_s = 1


class Draining(GatewayError):
    """The gateway is stopping and takes no new upgrades."""

    status, code, title = 503, "draining", "Service Unavailable"
    retry_after_s = 1


class UpstreamTimeout(GatewayError):
    """The upstream did not connect, answer or go on in time."""

    status, code, title = 504, "upstream_timeout", "Gateway Timeout"


class SocketRefused(Exception):
    """An open WebSocket has to be closed for what its client sent; `reason` is what the Close frame says."""

    def __init__(self, code: int, reason: bytes) -> None:
        super().__init__(code, reason)
        self.code, self.reason = code, reason


class SyncRefused(Exception):
    """The directory is not reconciled now: another run is under way, or it would be with another instance's users."""


class SyncUnderway(SyncRefused):
    """Another run is under way, which does as well."""


class ConfigError(Exception):
    """The configuration cannot be used; `findings` are its problems, one printable line or object each."""

    def __init__(self, findings: tuple[object, ...]) -> None:
        super().__init__("\n".join(str(finding) for finding in findings))
        self.findings = findings
