"""The shape of the configuration file: every key, its type, its default and what it is for (CONTRACT §2).

Shape only: what keys mean together is `build`'s, what is not built yet is `availability`'s.
"""

from typing import Any, Literal

from pydantic import ConfigDict, SecretStr

from gateway.config.parties import Clerk, NamedClerk, RouteTimeouts, UpstreamSection
from gateway.config.types import (
    AdminPort,
    AllowEncoded,
    Count,
    Flag,
    MaxAge,
    Org,
    Plain,
    Port,
    Rate,
    RateLimit,
    Real,
    Seconds,
    Section,
    Strings,
    Timeout,
    TokenTypes,
    Whole,
    Workers,
    setting,
)


class ListenTls(Section):
    """TLS towards clients."""

    cert: str | None = setting(None, "PEM file with the certificate chain; reread when it changes")
    key: str | None = setting(None, "PEM file with the private key")
    client_ca: str | None = setting(None, "PEM file; clients must show a certificate of this authority")


class Listen(Section):
    """Where clients connect."""

    host: str = setting("0.0.0.0", 'Address to listen on; "::" for IPv6 and IPv4')  # noqa: S104  # a gateway's purpose
    port: Port = setting(8080, "Port; 0 takes a free one")
    tls: ListenTls | None = setting(None, "TLS towards clients; null = plain HTTP")


class Admin(Section):
    """The operators' listener."""

    host: str = setting("127.0.0.1", "Address; off loopback a token is required")
    port: AdminPort = setting(9901, "Port; null = off")
    token: SecretStr | None = setting(None, "Bearer token for /v1/*")


class Require(Section):
    """What a principal must be: all keys must hold, a list means any of."""

    role: Strings = setting((), "Organisation role, with or without org:")
    permission: Strings = setting((), "Organisation permission, with or without org:")
    org: Org = setting((), "true: any active organisation; or its id or slug")
    plan: Strings = setting((), "Plan, bare or with o: or u:")
    feature: Strings = setting((), "Feature, bare or with o: or u:")
    scope: Strings = setting((), "Scope of a machine token")
    claims: dict[str, Plain] = setting({}, "Claim or dotted path, and the value it must equal or contain")
    max_age_min: MaxAge | None = setting(None, "Minutes since sign-in, or {first: N, second: N}")


class CorsSection(Section):
    """What pages of other origins may do."""

    origins: Strings = setting((), 'Exact origins, or one * for one label; ["*"] only without credentials; empty = off')
    methods: Strings = setting(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"), "Methods a page may use")
    headers: Strings = setting(("Authorization", "Content-Type"), 'Request headers a page may send; ["*"]: any')
    expose: Strings = setting((), "Response headers a page may read")
    credentials: Flag = setting(True, 'Cookies may be sent; with origins ["*"] the default is false')
    max_age_s: Count = setting(600, "Seconds a browser remembers a preflight", ge=0, le=86_400)
    private_network: Flag = setting(False, "Grant Access-Control-Request-Private-Network")


class RouteSection(Section):
    """A match, who may pass, and where it goes; the first that matches wins."""

    model_config = ConfigDict(json_schema_extra={"required": ["path", "upstream"]})

    name: str | None = setting(None, "Name in logs and metrics; default: route-1, route-2, … by position")
    path: str | None = setting(None, "Exact path, or a prefix ending in /*")
    host: str | None = setting(None, "Host without port, exact or *. for one label; null = any")
    methods: Strings = setting((), "Methods; GET includes HEAD; empty = all")
    upstream: str | None = setting(None, "Name of the upstream")
    auth: Literal["required", "optional", "public"] = setting("required", "Who may pass")
    token: TokenTypes = setting(("session",), "Kinds of token: session, template, api_key, m2m, oauth, any")
    audience: Strings = setting((), "A token without one of these is 401; needed for token: template")
    issuer: str | None = setting(None, "Name of the one of issuers that counts here")
    require: Require = setting(Require(), "What a principal must be")
    strip_prefix: str | None = setting(None, "Leading path segments taken away; must lead the route's path")
    add_prefix: str | None = setting(None, "Path put in front, after strip_prefix")
    timeouts: RouteTimeouts = setting(RouteTimeouts(), "Where it differs from the upstream's")
    max_body_bytes: Whole | None = setting(None, "Bytes of a request body; 0 = unlimited; default: limits.body_bytes")
    cors: CorsSection | None = setting(None, "Replaces the whole of the general cors; null turns it off")
    rate_limit: RateLimit | None = setting(None, 'Per caller, such as "100/s" or "1000/min burst 200"; or by_ip, …')
    stream_max_age_s: Seconds | None = setting(None, "Seconds a socket or an unfinished answer may live; 0 = for ever")
    allow_encoded: AllowEncoded = setting((), "Ambiguous spellings the upstream reads as the gateway does")
    allow_pending: Flag = setting(False, "Take sessions whose tasks are still open")
    allow_impersonation: Flag = setting(True, "Take tokens of somebody acting for the user")
    forward_token: Flag | None = setting(None, "Default: the upstream's")


class Assertion(Section):
    """The signed statement of who calls."""

    enabled: Flag = setting(False, "Send it")
    header: str = setting("X-User-Assertion", "Header name")
    algorithm: Literal["ES256", "EdDSA"] = setting("ES256", "Signature algorithm")
    issuer: str | None = setting(None, "iss; default: public_url")
    ttl_s: Timeout = setting(60, "Seconds it is good for")
    keys_dir: str | None = setting(None, "Directory of the private keys")
    rotate_after_h: Whole = setting(720, "Hours until the next key; 0 = never")


class Identity(Section):
    """What an upstream is told about the caller."""

    prefix: str = setting("X-User-", "Begins the name of every identity header")
    headers: dict[str, str] = setting({}, "Extra headers: name, and claim or dotted path")
    enrich: Flag = setting(True, "Fill what the token lacks from the user directory")
    allow_unsafe_metadata: Flag = setting(False, "Let headers take unsafe_metadata, which the user can write")
    assertion: Assertion = setting(Assertion(), "The signed assertion")
    max_bytes: Count = setting(8192, "Bytes of all identity headers together", ge=1024, le=65_536)


class RateLimits(Section):
    """How often one client may call."""

    by_ip: Rate | None = setting(None, "By address; IPv6 by /64")
    by_user: Rate | None = setting(None, "By user")
    by_org: Rate | None = setting(None, "By organisation")
    by_machine: Rate | None = setting(None, "By machine")


class LimitsSection(Section):
    """What one client may take of the gateway."""

    header_bytes: Count = setting(32_768, "Bytes of a request's head", ge=8192, le=1_048_576)
    headers: Count = setting(128, "Header fields of a request", ge=16, le=10_000)
    body_bytes: Whole = setting(10_485_760, "Bytes of a request body; 0 = unlimited")
    header_read_s: Timeout = setting(10, "Seconds to send the head")
    body_idle_s: Timeout = setting(30, "Seconds without a byte of the body")
    keepalive_s: Seconds = setting(75, "Seconds an idle connection stays open")
    connections: Count = setting(10_000, "Open client connections", ge=1, le=1_000_000)
    connections_per_ip: Whole = setting(0, "Of these, from one address; 0 = unlimited")


class Store(Section):
    """Where users and webhook events are kept."""

    url: str | None = setting("sqlite:///gateway.db", "sqlite:///FILE or postgresql://…; null = none")


class Cache(Section):
    """What machines share."""

    url: str | None = setting("memory://", "memory:// or redis://…")


class Sync(Section):
    """Reconciling the user directory."""

    every_h: Real = setting(0, "Hours between two runs; 0 = off")


class Webhooks(Section):
    """Receiving Clerk's webhooks."""

    path: str | None = setting("/webhooks/clerk", "Where Clerk sends them; null = off")
    aliases: Strings = setting(("/clerk-webhook",), "Other paths for the same")
    max_body_bytes: Count = setting(1_048_576, "Bytes of one event", ge=1024, le=16_777_216)
    private_metadata: Flag = setting(False, "Store private_metadata")
    retention_days: Count = setting(30, "Days events are kept; their ids seven at least", ge=0, le=3650)


class Logs(Section):
    """What is written to standard output."""

    format: Literal["json", "console"] = setting("json", "json, or console for people")
    level: Literal["debug", "info", "warning", "error"] = setting("info", "The least important level that is written")
    access: Flag = setting(True, "One line per request")


class Metrics(Section):
    """Prometheus metrics."""

    enabled: Flag = setting(True, "Serve /metrics on the admin listener")


class Tracing(Section):
    """OpenTelemetry."""

    endpoint: str | None = setting(None, "OTLP/HTTP URL; null = off")


class Settings(Section):
    """The whole file."""

    public_url: str | None = setting(None, "Where redirects and assertions say the gateway is")
    listen: Listen = setting(Listen(), "Where clients connect")
    admin: Admin = setting(Admin(), "The operators' listener")
    workers: Workers = setting(1, "Processes: a number, or auto for one per core")
    trusted_proxies: Strings = setting((), "CIDRs whose X-Forwarded-* is believed")
    clerk: Clerk = setting(Clerk(), "The Clerk instance whose tokens are taken")
    issuers: tuple[NamedClerk, ...] = setting((), "Several Clerk instances, instead of clerk")
    upstreams: dict[str, UpstreamSection] = setting({}, "Services by name")
    routes: tuple[RouteSection, ...] = setting((), "The first that matches, in this order; none = 404")
    cors: CorsSection | None = setting(None, "For every route without its own; null = off")
    identity: Identity = setting(Identity(), "What an upstream is told about the caller")
    rate_limits: RateLimits = setting(RateLimits(), "How often one client may call")
    limits: LimitsSection = setting(LimitsSection(), "What one client may take of the gateway")
    store: Store = setting(Store(), "Where users and webhook events are kept")
    cache: Cache = setting(Cache(), "What machines share")
    sync: Sync = setting(Sync(), "Reconciling the user directory")
    webhooks: Webhooks = setting(Webhooks(), "Receiving Clerk's webhooks")
    logs: Logs = setting(Logs(), "What is written to standard output")
    metrics: Metrics = setting(Metrics(), "Prometheus metrics")
    tracing: Tracing = setting(Tracing(), "OpenTelemetry")
    drain_s: Seconds = setting(30, "Seconds for requests to finish when stopping")
    drain_delay_s: Seconds = setting(0, "Seconds between readiness 503 and the end of listening")


def json_schema() -> dict[str, Any]:
    """Describe the file for editors: `${VAR}` wherever a value may stand, comma text wherever a list may."""
    schema: dict[str, Any] = _with_variables(Settings.model_json_schema())
    return schema


def _with_variables(node: Any) -> Any:
    if isinstance(node, list):
        return [_with_variables(item) for item in node]
    if not isinstance(node, dict):
        return node
    inner = {name: _with_variables(value) for name, value in node.items() if name != "title"}
    variable = {"type": "string", "pattern": r"\$\{"}
    if inner.get("type") in ("integer", "number", "boolean", "array") or "enum" in inner:
        about = {name: inner.pop(name) for name in ("description", "default") if name in inner}
        text = {"type": "string"} if inner.get("type") == "array" else variable
        return {"anyOf": [inner, text], **about}
    return inner
