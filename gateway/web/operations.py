"""What the admin listener can be asked, as data: a line for each address, and the shapes of what comes back.

A new address needs an entry in `OPERATIONS`; a new kind of answer one in `SCHEMAS`.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from gateway.core.delivery import STATES
from gateway.web.paging import MOST, PAGE


class Operation(NamedTuple):
    """What is done at one address."""

    name: str
    summary: str
    answer: str  # one of SCHEMAS
    query: tuple[str, ...] = ()  # of PARAMETERS
    refusals: tuple[int, ...] = ()  # of REFUSALS, beyond those of the guard
    body: str | None = None  # one of SCHEMAS; None: none is read
    tagged: bool = False
    is_open: bool = False


def _directory(name: str, summary: str, answer: str, *query: str, also: tuple[int, ...] = ()) -> Operation:
    return Operation(name, summary, answer, query, (400, *also, 503), tagged=True)


OPERATIONS: Final[Mapping[tuple[str, str], Operation]] = {
    ("GET", "/healthz"): Operation("healthz", "Whether the process lives", "Status", is_open=True),
    ("GET", "/readyz"): Operation("readyz", "Whether it should get traffic", "Status", (), (503,), is_open=True),
    ("GET", "/openapi.json"): Operation("openapi", "This document", "Document", tagged=True),
    ("GET", "/v1/routes"): Operation("list_routes", "The routes in force, in order", "RouteList", PAGE, (400,)),
    ("POST", "/v1/reload"): Operation("reload", "Take up what the configuration says now", "Reload", (), (400, 503)),
    ("GET", "/v1/users"): _directory(
        "list_users", "The living users, by id", "UserList", "email", "external_id", *PAGE
    ),
    ("GET", "/v1/users/{id}"): _directory("get_user", "A user", "User", also=(404,)),
    ("GET", "/v1/organizations/{id}"): _directory("get_organization", "An organisation", "Organization", also=(404,)),
    ("GET", "/v1/organizations/{id}/members"): _directory(
        "list_members", "An organisation's living memberships, by id", "MembershipList", *PAGE, also=(404,)
    ),
    ("GET", "/v1/changes"): _directory(
        "list_changes", "What changed since, each thing once and as it is now", "ChangeList", "since", *PAGE
    ),
    ("POST", "/v1/users/{id}/revoke"): Operation(
        "revoke_user", "Refuse every token a user has got so far, end sockets and streams", "Revoked", (), (400, 503),
        body="RevokeUser",
    ),
    ("POST", "/v1/sessions/{id}/revoke"): Operation(
        "revoke_session", "Refuse every token of a session, end its sockets and streams", "SessionRevoked", ("clerk",),
        (400, 503), body="RevokeSession",
    ),
    ("GET", "/v1/webhooks"): Operation(
        "list_webhooks",
        "Stored webhooks and their deliveries, the newest first. With `type` or `state` only some thousands are looked "
        "through for each answer: there may be few or none in it although more follow, as `next_cursor` says",
        "WebhookList",
        ("type", "state", *PAGE), (400, 503),
    ),
    ("GET", "/v1/webhooks/{id}"): Operation(
        "get_webhook", "A stored webhook with its payload, and its deliveries", "WebhookWhole", (), (400, 404, 503)
    ),
    ("POST", "/v1/webhooks/{id}/replay"): Operation(
        "replay_webhook", "Deliver a stored webhook once more, to all that want its type or to one of them",
        "Replayed", ("upstream",), (400, 404, 503),
    ),
}  # fmt: skip

PARAMETERS: Final[Mapping[str, Mapping[str, Any]]] = {
    "id": {"in": "path", "required": True, "schema": {"type": "string"}},
    "limit": {
        "in": "query",
        "description": "How many at most",
        "schema": {"type": "integer", "minimum": 1, "maximum": MOST, "default": MOST},
    },
    "cursor": {"in": "query", "description": "The `next_cursor` of the part before", "schema": {"type": "string"}},
    "email": {
        "in": "query",
        "description": "The primary e-mail address, in whatever case",
        "schema": {"type": "string", "minLength": 1},
    },
    "external_id": {"in": "query", "description": "Exactly this one", "schema": {"type": "string", "minLength": 1}},
    "since": {
        "in": "query",
        "description": "The `last` of the answer before; 0 for everything",
        "schema": {"type": "integer", "minimum": 0, "default": 0},
    },
    "clerk": {
        "in": "query",
        "description": "Whether Clerk is to end the session too, for which clerk.secret_key is needed",
        "schema": {"type": "boolean", "default": False},
    },
    "type": {
        "in": "query",
        "description": "A type such as user.created, or user.* for all that begin so",
        "schema": {"type": "string"},
    },
    "state": {
        "in": "query",
        "description": "Those with a delivery in this state",
        "schema": {"type": "string", "enum": list(STATES)},
    },
    "upstream": {"in": "query", "description": "To this one alone", "schema": {"type": "string"}},
    "If-None-Match": {"in": "header", "description": "The ETag of the answer before", "schema": {"type": "string"}},
}

REFUSALS: Final[Mapping[int, str]] = {
    400: "`reason` names the parameter that is wrong, or is `parameter` for one that is not known; `erased` for a "
    "webhook whose payload is gone, `not_subscribed` for one that nobody wants",
    401: "Without the admin token",
    403: "From another site, or by a name that is not this machine's",
    404: "Unknown, or deleted: then with `deleted`",
    503: "Not now: `store_unavailable`, `clerk_unavailable`, `keys_unavailable`, `draining`",
}


def shape(
    description: str = "", /, *, maybe: Mapping[str, Any] = MappingProxyType({}), **members: Any
) -> dict[str, Any]:
    """Describe an object with members that are always there, and some that `maybe` are; "string?": or null."""
    shaped = {name: _typed(each) for name, each in {**members, **maybe}.items()}
    said = {"description": description} if description else {}
    return {"type": "object", **said, "properties": shaped, "required": [*members]}


def _typed(written: str | dict[str, Any]) -> dict[str, Any]:
    if not isinstance(written, str):
        return written
    if written[0].isupper():
        return {"$ref": f"#/components/schemas/{written}"}
    kind = written.removesuffix("?")
    return {"type": kind if kind == written else [kind, "null"]}


def several(kind: str) -> dict[str, Any]:
    """Describe a list of these."""
    return {"type": "array", "items": _typed(kind)}


def listed(kind: str, description: str = "", /, **more: Any) -> dict[str, Any]:
    """Describe a part of a list."""
    return shape(description, data=several(kind), next_cursor="string?", **more)


_MS: Final = {"type": ["integer", "null"], "description": "Unix time in ms, as Clerk has it"}
_KEPT: Final[dict[str, Any]] = {"public_metadata": "object", "created_at": _MS, "updated_at": _MS, "deleted": "boolean"}

_AT_CLERK: Final = {
    "enum": ["revoked", "unknown"],
    "description": "What Clerk, where it was asked, did with the session; unknown: it has none of that id",
}
_MS_OR_NULL: Final = {"type": ["integer", "null"]}
_WEBHOOK: Final[dict[str, Any]] = {
    "id": "string", "type": "string", "object_id": "string?", "user_id": "string?", "happened_at": "integer",
    "received_at": "integer", "has_payload": "boolean", "deliveries": several("Delivery"),
}  # fmt: skip

SCHEMAS: Final[Mapping[str, Mapping[str, Any]]] = {
    "Problem": shape(
        "RFC 9457; what more there is depends on `code` and `reason`",
        type={"const": "about:blank"}, title="string", status="integer", code="string", request_id="string",
        maybe={
            "reason": "string",
            "deleted": {"const": True, "description": "It was there, and is no more"},
            "last": {"type": "integer", "description": "The last change there is: another directory, begin with 0"},
            "findings": several("Finding"),
            "streams_closed": {"type": "integer", "description": "Revoked here, but not where nothing was stored"},
            "clerk": _AT_CLERK,
        },
    ),
    "Finding": shape(
        "What is wrong with the configuration",
        file="string", line="integer?", key="string", message="string", remedy="string?",
        level={"enum": ["error", "warning", "insecure"]},
    ),
    "Status": shape(status={"enum": ["ok", "degraded"]}),
    "Document": {"type": "object", "description": "OpenAPI 3.1"},
    "Reload": shape(status={"const": "ok"}, changed=several("string")),
    "Route": shape(
        "A route in the words of the configuration, and how its endpoints fare",
        name="string", host="string?", path="string", methods=several("string"),
        auth={"enum": ["required", "optional", "public"]}, token=several("string"), audience=several("string"),
        issuer="string?", require="object", allow_pending="boolean", allow_impersonation="boolean", upstream="string",
        endpoints=several("Endpoint"), identity="boolean",
        forward_token="boolean",  # noqa: S106  # the name of a type
        host_header={"enum": ["preserve", "upstream"]}, strip_prefix="string?",
        add_prefix="string?", timeouts="object", max_body_bytes="integer", rate_limit="object",
        stream_max_age_s="number?", allow_encoded=several("string"), cors="object?",
    ),
    "Endpoint": shape(address="string", weight="integer", up="boolean", live="integer"),
    "RouteList": listed("Route"),
    "User": shape(
        "What is not known is null",
        id="string", email="string?", email_verified="boolean?", name="string?", given_name="string?",
        family_name="string?", nickname="string?", picture="string?", external_id="string?", banned="boolean",
        locked="boolean", **_KEPT,
    ),
    "UserList": listed("User"),
    "Organization": shape(id="string", name="string?", slug="string?", picture="string?", **_KEPT),
    "Membership": shape(
        "A user's place in an organisation; over once either is deleted",
        id="string", org_id="string?", user_id="string?", role="string?", **_KEPT,
    ),
    "MembershipList": listed("Membership"),
    "Change": shape(
        "The member that `kind` names is there; of what is deleted it says little more than the id",
        number="integer", changed_at={"type": "integer", "description": "Unix time in ms, when it was learnt"},
        kind={"enum": ["user", "organization", "membership"]}, id="string", deleted="boolean",
        maybe={"user": "User", "organization": "Organization", "membership": "Membership"},
    ),
    "ChangeList": listed(
        "Change", "Ask again with `since` = `last`: at once while there is a `next_cursor`, else later", last="integer"
    ),
    "Revoked": shape(status={"const": "revoked"}, streams_closed="integer"),
    "SessionRevoked": shape(status={"const": "revoked"}, streams_closed="integer", maybe={"clerk": _AT_CLERK}),
    "RevokeUser": shape("Clerk ends sessions, not users", maybe={"clerk": {"const": False}}),
    "RevokeSession": shape(maybe={"clerk": "boolean"}),
    "Delivery": shape(
        "How it stands with one upstream; times in Unix ms",
        upstream="string", state={"enum": list(STATES)}, attempts="integer", since="integer", due_at=_MS_OR_NULL,
        last_at=_MS_OR_NULL, last_status="integer?", last_error="string?",
    ),
    "Webhook": shape("Times in Unix ms", **_WEBHOOK),
    "WebhookWhole": shape("Times in Unix ms; the payload is null once it is erased", **_WEBHOOK, payload="object?"),
    "WebhookList": listed("Webhook"),
    "Replayed": shape(status={"const": "waiting"}, upstreams=several("string")),
}  # fmt: skip
