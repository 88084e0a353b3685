"""The nouns that travel from stage to stage. No decisions here.

Text that came from the wire stays bytes until a rule needs to read it; `str` where a rule compares it.
"""

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple, cast

from gateway.core.balance import BreakerPolicy, HealthPolicy, RetryPolicy

Claims = Mapping[str, Any]
HeaderList = tuple[tuple[bytes, bytes], ...]
MACHINE_TYPES = frozenset({"api_key", "m2m", "oauth"})
SQLITE = "sqlite:///"  # then the path, as SQLAlchemy has it: with a fourth slash where it is absolute


class Peer(NamedTuple):
    """What one client connection says about itself, fixed for its life."""

    address: str  # IP address, textual
    trusted: bool  # listed in `trusted_proxies`: its forwarding fields are believed
    scheme: str  # "http" | "https", of this connection
    port: int  # the listener's


class Forwarding(NamedTuple):
    """Whom a request comes from, as far as that may be believed (`core.forwarding`)."""

    client: str  # IP address
    scheme: str
    host: bytes  # authority the client used
    port: bytes
    lines: bytes  # X-Forwarded-*, ready for a head


class Credential(NamedTuple):
    """The one credential of a request, not yet verified."""

    token: bytes
    source: str  # "header" | "cookie"
    client_uat: int = 0  # cookie only: Unix seconds of the client's last change, see `session.check_cookie`
    refresh: str = ""  # cookie only: why Clerk would not refresh it, see `session.cookie_reason`
    issuer: str = ""  # cookie only: the name of the instance whose cookie it is


class SignedOut(NamedTuple):
    """No credential, and why."""

    reason: str  # Clerk's word
    sent: bool  # cookies came that do not amount to signed in; else nothing came at all
    issuer: str = ""  # the name of the instance that these cookies were read for


class Header:
    """A request's header as received, with everything a client may not say already taken out.

    `fields` is what may go on to an upstream: alternating ready name prefixes (`b"\\r\\nAccept: "`) and values, in the
    order received, without hop-by-hop, reserved and forwarding fields, `Host`, `Cookie` and `Authorization`.
    `seen` holds the first value of each field a rule looks at, by lower-case name (`core.headers.WATCHED`); several
    `Cookie` fields are joined by "; ", other lists by ", ". `repeated` names those that came more than once.

    A connection whose client repeats its header, as browsers do from one call to the next, gets the same object again.
    So what follows from the header alone is worked out once and remembered here, each by the stage that owns it.
    """

    # Not slots: what nobody has worked out yet costs nothing this way.
    forwarding: Forwarding | None = None  # core.forwarding
    credential: Credential | SignedOut | None = None  # core.credentials
    token_key: bytes | None = None  # web.identify
    onward: bytes = b""  # core.headers
    onward_route: object = None
    logged: bytes = b""  # web.access
    logged_route: object = None
    logged_endpoint: str = ""

    def __init__(
        self, fields: list[bytes], seen: Mapping[str, bytes], repeated: frozenset[str], peer: Peer, authority: bytes,
    ) -> None:  # fmt: skip
        self.fields, self.seen, self.repeated = fields, seen, repeated
        self.peer = peer
        self.authority = authority  # Host field as received, b"" for an HTTP/1.0 client without one


class Inbound(NamedTuple):
    """A request as received."""

    method: str
    target: bytes  # path and query in origin form, byte for byte as received
    path: str  # the target's path as received (ASCII), without the query
    header: Header
    upgrade: bool = False


class Principal(NamedTuple):
    """Who a verified token says is calling: facts of one token, whatever the route."""

    subject: str
    token_type: str  # "session" | "template" | "api_key" | "m2m" | "oauth"
    claims: Claims
    audience: frozenset[str]
    issued_at: float  # Unix seconds
    expires_at: float  # infinite for an API key without an end
    user_id: str | None = None
    machine_id: str | None = None
    session_id: str | None = None
    org_id: str | None = None
    org_slug: str | None = None
    org_role: str | None = None  # with `org:`
    org_permissions: tuple[str, ...] = ()
    plans: frozenset[str] = frozenset()  # "u:free", "o:pro"
    features: frozenset[str] = frozenset()  # "o:dashboard", "u:export"
    factor_age: tuple[int, int] | None = None  # minutes since first, second factor when minted; -1 = never
    actor: str | None = None
    pending: bool = False
    scopes: tuple[str, ...] = ()
    issuer: str = ""  # the name of the Clerk instance that it was verified for
    key_id: str | None = None  # an API key's, which is no secret

    @property
    def is_machine(self) -> bool:
        """Whether it came by a machine token: then its claims are whatever the token's maker wrote."""
        return self.token_type in MACHINE_TYPES


class Asserted(NamedTuple):
    """A signed assertion, ready for the wire, with what it was signed with and when it may be given out."""

    line: bytes  # b"\\r\\nX-User-Assertion: eyJ…"
    key: object
    made_at: float  # Unix seconds
    renew_at: float


NOTHING_ASSERTED: MutableMapping[str, Asserted] = cast(MutableMapping[str, Asserted], MappingProxyType({}))


class Identified(NamedTuple):
    """A principal with the identity fields made ready for the wire, remembered per token."""

    principal: Principal
    fields: bytes  # b"\\r\\nX-User-Id: user_1\\r\\n…" without a trailing CRLF; b"" when nothing is to be said
    logged: bytes  # who it is, as the access line says it
    skew_s: float = 0.0  # for so long after `exp` the token is taken
    asserted: MutableMapping[str, Asserted] = NOTHING_ASSERTED  # by upstream: what was signed is forgotten with it


@dataclass(frozen=True, slots=True)
class StoreAddress:
    """Where users and webhooks are kept; as text it is without the password."""

    url: str = field(repr=False)

    @property
    def file(self) -> str | None:
        """The path of a SQLite file; None for a server."""
        return self.url.removeprefix(SQLITE) if self.url.startswith(SQLITE) else None

    def __str__(self) -> str:
        shown = self.url.partition("?")[0]  # libpq takes a password there too
        before, at, behind = shown.rpartition("@")
        return f"{before.partition('//')[0]}//…@{behind}" if at else shown


@dataclass(frozen=True, slots=True)
class BackendAddress:
    """Clerk's Backend API, and the key it is asked with."""

    url: str
    secret_key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class ListenTls:
    """TLS towards clients: PEM files."""

    cert: str  # chain, the gateway's own first
    key: str
    client_ca: str | None = None  # clients must show a certificate of this authority


@dataclass(frozen=True, slots=True)
class UpstreamTls:
    """TLS towards an upstream, where its URL is https: PEM files, and whether and as whom it is verified."""

    verify: bool = True
    ca: str | None = None  # instead of the system's authorities
    client_cert: str | None = None
    client_key: str | None = None
    server_name: str | None = None  # to send and to check, instead of the URL's host


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One address of an upstream."""

    host: str
    port: int
    tls: bool = False
    authority: bytes = b""  # Host value for `host_header: upstream`
    weight: int = 1  # share of the requests; 0 = none
    label: str = field(init=False, compare=False)  # `host:port`, as logs and metrics name it

    def __post_init__(self) -> None:
        host = f"[{self.host}]" if ":" in self.host else self.host
        object.__setattr__(self, "label", f"{host}:{self.port}")


@dataclass(frozen=True, slots=True)
class Upstream:
    """A service the gateway forwards to, and how."""

    name: str
    endpoints: tuple[Endpoint, ...]
    base_path: bytes = b""  # prepended to every path, no trailing slash
    preserve_host: bool = True
    identity: bool = True
    forward_token: bool = False
    connect_s: float = 5.0
    response_s: float = 30.0
    idle_s: float = 300.0
    tls: UpstreamTls = field(default_factory=UpstreamTls)
    retries: RetryPolicy = field(default_factory=RetryPolicy)
    breaker: BreakerPolicy = field(default_factory=BreakerPolicy)
    health: HealthPolicy = field(default_factory=HealthPolicy)
    max_connections: int = 512  # to each endpoint; 0 = unlimited
    max_pending: int = 1024  # requests that wait for one of them
    convex: bool = False  # see `core.convex`
    allow_convex_admin: bool = False


@dataclass(frozen=True, slots=True)
class Limits:
    """What one client may cost; 0 for `connections_per_ip` and `body_bytes` means unlimited."""

    header_bytes: int = 32_768  # request line and fields together
    headers: int = 128
    body_bytes: int = 10_485_760
    header_read_s: float = 10.0  # from the first byte to the end of the head
    body_idle_s: float = 30.0  # between two pieces of a body
    keepalive_s: float = 75.0
    connections: int = 10_000
    connections_per_ip: int = 0
