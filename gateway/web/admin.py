"""The admin listener (CONTRACT §7): who is answered, and where. What is answered has a file for each topic.

It is a `Listener` of its own, so slow, endless and malformed requests end as they do on the main one. A new address: in
its topic's file (`admin_…`), for a new topic also a line in `_table`, and an entry in `operations`.
"""

from dataclasses import replace
from typing import Final, Protocol

from aiohttp import hdrs, web

from gateway.core.admin import AdminPolicy, check_site, check_token
from gateway.core.headers import FieldRules
from gateway.core.identity import IdentityPolicy
from gateway.core.model import Limits
from gateway.core.routing import RouteTable
from gateway.web.admin_directory import Listed, directory_addresses
from gateway.web.admin_revoke import Revoking, revoke_addresses
from gateway.web.admin_routes import Routed, route_addresses
from gateway.web.admin_webhooks import Replaying, admin_webhook_addresses
from gateway.web.deps import Deps
from gateway.web.local import Address, Handler, Serving, health, own_application
from gateway.web.openapi import document_address

# A person and a few machines, who are near.
LIMITS: Final = Limits(
    header_bytes=16_384, headers=64, body_bytes=65_536, header_read_s=5.0, body_idle_s=5.0, keepalive_s=30.0,
    connections=256,
)  # fmt: skip
OPEN: Final = frozenset({"/healthz", "/readyz"})  # on loopback


class Operated(Serving, Routed, Listed, Revoking, Replaying, Protocol):
    """The gateway as its operators see it (`web.app`)."""

    @property
    def admin(self) -> AdminPolicy:
        """Who may speak to it, now."""


class _Everything:
    """Where every path is the listener's own."""

    def __contains__(self, path: object) -> bool:
        return True


def admin_deps(deps: Deps) -> Deps:
    """Give what requests of the admin listener need: no routes, nobody trusted, every path for its application."""
    return replace(
        deps, routes=RouteTable(()), own_paths=_Everything(), cors=None, issuers=None, trusted_proxies=(),
        identity=IdentityPolicy(), fields=FieldRules(IdentityPolicy().prefix),
    )  # fmt: skip


def admin_application(gateway: Operated) -> web.Application:
    """Build the application: nothing is reached but through `_guard`."""

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        _guard(request, gateway.admin)
        return await handler(request)

    return own_application(_table(gateway), guard)


def _table(gateway: Operated) -> tuple[Address, ...]:
    addresses = (
        *health(gateway),
        *route_addresses(gateway),
        *directory_addresses(gateway),
        *revoke_addresses(gateway),
        *admin_webhook_addresses(gateway),
    )
    return (*addresses, document_address(addresses))


def _guard(request: web.Request, policy: AdminPolicy) -> None:
    """Refuse who may not ask. Whatever is served and not in `OPEN` needs the token. Raises GatewayError."""
    headers = request.headers
    check_site(policy, host=",".join(headers.getall(hdrs.HOST, ())), origins=headers.getall(hdrs.ORIGIN, ()))
    resource = request.match_info.route.resource
    path = request.path if resource is None else resource.canonical
    is_open = path in OPEN if resource is not None else not path.startswith("/v1")
    if not (is_open and policy.loopback):
        check_token(policy, headers.getall(hdrs.AUTHORIZATION, ()))
