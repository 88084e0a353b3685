"""What a configuration comes to: one frozen `Config`, made of the types the code uses."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from gateway.config.findings import Finding
from gateway.core.admin import AdminPolicy
from gateway.core.assertion import AssertionPolicy
from gateway.core.cors import CorsPolicy
from gateway.core.credentials import CredentialPolicy
from gateway.core.delivery import Subscription
from gateway.core.events import WebhookPolicy
from gateway.core.forwarding import Network
from gateway.core.frontend_api import FrontendApiPolicy, FrontendApiProxy
from gateway.core.handshake import PagesPolicy
from gateway.core.identity import IdentityPolicy
from gateway.core.limits import RatePolicy
from gateway.core.machine import MachinePolicy
from gateway.core.model import BackendAddress, Limits, ListenTls, StoreAddress
from gateway.core.reconcile import SyncPolicy
from gateway.core.routing import Route
from gateway.core.verify import KeySet, TokenPolicy


@dataclass(frozen=True, slots=True)
class IssuerConfig:
    """A Clerk instance: whose tokens, checked how, with which keys."""

    name: str  # as routes say it
    key: str  # where it stands in the file
    issuer: str  # exact text of `iss`
    jwks_url: str | None  # None where the keys are given
    static_keys: KeySet | None
    token_policy: TokenPolicy
    credentials: CredentialPolicy
    backend: BackendAddress | None = None  # None without a secret key: Clerk is asked for nothing but keys
    frontend_api: FrontendApiPolicy | None = None  # None: clients speak to Clerk themselves
    machines: MachinePolicy | None = None  # None where no route takes machine tokens of it
    pages: PagesPolicy | None = None  # None: documents are as any other request


@dataclass(frozen=True, slots=True)
class LogPolicy:
    """What is written to standard output."""

    format: Literal["json", "console"]
    level: Literal["debug", "info", "warning", "error"]
    access: bool


@dataclass(frozen=True, slots=True)
class Config:
    """Everything the file and the environment decide."""

    host: str
    port: int
    admin: AdminPolicy | None  # None: off
    tls: ListenTls | None  # None: plain HTTP
    public_url: str | None
    trusted_proxies: tuple[Network, ...]
    issuers: tuple[IssuerConfig, ...]  # none only where every route is public
    routes: tuple[Route, ...]
    cors: CorsPolicy | None
    identity: IdentityPolicy
    assertion: AssertionPolicy | None  # None: nothing is signed
    rates: RatePolicy
    limits: Limits
    store: StoreAddress | None  # opened only where webhooks need it
    webhooks: WebhookPolicy
    subscriptions: tuple[Subscription, ...]  # the upstreams that events are delivered to
    backends: Mapping[str, BackendAddress]  # by the name of the Clerk instance, of those with a secret key
    sync: SyncPolicy
    logs: LogPolicy
    drain_s: float
    drain_delay_s: float
    warnings: tuple[Finding, ...]
    source: str  # file name, or "built-in"

    @property
    def issuer(self) -> IssuerConfig | None:
        """The only Clerk instance; None where there is none, and where there are several."""
        return self.issuers[0] if len(self.issuers) == 1 else None

    @property
    def backend(self) -> BackendAddress | None:
        """The Backend API of the only instance; None without a secret key, and where there are several instances."""
        return next(iter(self.backends.values()), None) if len(self.issuers) <= 1 else None

    @property
    def frontend_api_proxies(self) -> tuple[FrontendApiProxy, ...]:
        """The Frontend APIs that are had through the gateway."""
        policies = [issuer.frontend_api for issuer in self.issuers if issuer.frontend_api is not None]
        return tuple(policy.proxy for policy in policies if policy.proxy is not None)

    @property
    def needs_store(self) -> bool:
        """Whether anything has to be kept."""
        return self.webhooks.needs_store or self.identity.enrich or self.sync.every_h > 0
