"""The shape of what the gateway stands between: Clerk instances and upstreams (CONTRACT §2)."""

from typing import Literal

from pydantic import SecretStr

from gateway.config.types import (
    Count,
    Flag,
    PublishableKey,
    Real,
    SecretKey,
    Secrets,
    Section,
    Skew,
    Strings,
    Timeout,
    Whole,
    setting,
)


class Clerk(Section):
    """One Clerk instance whose tokens are taken."""

    publishable_key: PublishableKey | None = setting(None, "pk_…: gives issuer, key set, cookie suffix")
    issuer: str | None = setting(None, "Issuer of the tokens, with or without https://; default: the publishable key's")
    jwks_url: str | None = setting(None, "URL of the key set; default: issuer + /.well-known/jwks.json")
    jwt_key: str | None = setting(None, "PEM public key: verification without network")
    secret_key: SecretKey | None = setting(None, "sk_live_… or sk_test_…: Clerk's Backend API")
    machine_secret_key: SecretStr | None = setting(None, "ak_…: verification of machine tokens")
    api_url: str = setting("https://api.clerk.com", "Clerk's Backend API")
    frontend_api_url: str = setting("https://frontend-api.clerk.dev", "Where proxy_path leads")
    authorized_parties: Strings = setting((), "Origins whose tokens are taken (azp); empty = not checked, insecure")
    azp_missing: Literal["reject", "accept"] = setting("reject", "Tokens without azp, where azp is checked")
    audience: Strings = setting((), "Accepted aud, where the token has one; empty = not checked")
    clock_skew_s: Skew = setting(5, "Seconds the clocks may differ")
    proxy_path: str | None = setting(None, "Clerk's Frontend API through the gateway, such as /__clerk")
    proxy_url: str | None = setting(None, "The public URL of proxy_path")
    satellite: Flag = setting(False, "This domain is a satellite of another")
    domain: str | None = setting(None, "The satellite's domain")
    handshake: Flag = setting(False, "Send documents whose cookies need refreshing through Clerk's handshake")
    sign_in_url: str | None = setting(None, "Where a signed-out document GET is sent")
    instance_id: str | None = setting(None, "ins_…: webhooks of another instance are refused")
    machine_verify_per_s: Real = setting(20, "Outbound verifications of opaque machine tokens per second")
    webhook_signing_secrets: Secrets = setting((), "whsec_…; several while a secret is being rotated")


class NamedClerk(Clerk):
    """One of several Clerk instances."""

    name: str | None = setting(None, "The name routes use")


class Target(Section):
    """One of several addresses of an upstream."""

    url: str | None = setting(None, "http:// or https:// URL")
    weight: Whole = setting(1, "Share of the requests; 0 = none")


class Timeouts(Section):
    """How long an upstream may take."""

    connect_s: Timeout = setting(5, "Seconds to connect")
    response_s: Timeout = setting(30, "Seconds to the head of the answer")
    idle_s: Timeout = setting(300, "Seconds without a byte either way")


class RouteTimeouts(Section):
    """The timeouts in which a route differs from its upstream."""

    connect_s: Timeout | None = setting(None, "Seconds to connect")
    response_s: Timeout | None = setting(None, "Seconds to the head of the answer")
    idle_s: Timeout | None = setting(None, "Seconds without a byte either way")


class Retries(Section):
    """Trying again where nothing was answered."""

    attempts: Count = setting(1, "Extra tries of an idempotent request; 0 = none", ge=0, le=10)
    budget_percent: Count = setting(20, "Retries per hundred requests", ge=0, le=100)


class Health(Section):
    """Asking endpoints whether they are well."""

    path: str | None = setting(None, "Path to ask for, as the endpoint knows it; 2xx and 3xx are well; null = off")
    interval_s: Timeout = setting(5, "Seconds between two questions")
    timeout_s: Timeout = setting(2, "Seconds to answer")
    unhealthy_after: Whole = setting(3, "Failures before an endpoint is left out")
    healthy_after: Whole = setting(1, "Successes before it is back")


class Breaker(Section):
    """Leaving a failing endpoint alone."""

    failures: Whole = setting(5, "Failures in a row that open it; 0 = off")
    open_s: Timeout = setting(10, "Seconds until it is tried again")


class UpstreamTls(Section):
    """TLS towards an upstream."""

    verify: Flag = setting(True, "Check the upstream's certificate")
    ca: str | None = setting(None, "PEM file of its authority; null = the system's")
    client_cert: str | None = setting(None, "PEM file shown to the upstream")
    client_key: str | None = setting(None, "Its private key")
    server_name: str | None = setting(None, "Name to check and send (SNI)")


class Delivery(Section):
    """Verified webhook events sent on to an upstream."""

    path: str = setting("/webhooks/clerk", "Path at the upstream, behind its URL's own")
    events: Strings = setting((), "Event types: exact, user.* for all that begin so, * for every one")
    secret: SecretStr | None = setting(None, "whsec_… the deliveries are signed with, known to this upstream alone")


class UpstreamSection(Section):
    """A service requests are forwarded to."""

    url: str | None = setting(None, "http:// or https:// URL; its own path is prepended")
    targets: tuple[Target, ...] = setting((), "Several addresses instead of url")
    kind: Literal["http", "convex"] = setting("http", "convex: implied by *.convex.cloud and *.convex.site")
    host_header: Literal["preserve", "upstream"] = setting("preserve", "The Host it sees: the client's, or its own")
    identity: Flag = setting(True, "false: no X-User-* is injected; stripping stays")
    forward_token: Flag = setting(False, "true: Authorization and Clerk's cookies go on to the upstream")
    timeouts: Timeouts = setting(Timeouts(), "How long it may take")
    retries: Retries = setting(Retries(), "Trying again")
    health: Health = setting(Health(), "Active health checks")
    breaker: Breaker = setting(Breaker(), "Leaving a failing endpoint alone")
    max_connections: Whole = setting(512, "Connections per endpoint, sockets not counted; 0 = unlimited")
    max_pending: Whole = setting(1024, "Requests that may wait for a connection")
    tls: UpstreamTls = setting(UpstreamTls(), "TLS towards it")
    allow_convex_admin: Flag = setting(False, "Let admin credentials through to Convex")
    webhooks: Delivery | None = setting(None, "Deliver verified webhook events here")
