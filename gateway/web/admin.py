"""The admin listener (CONTRACT §7): who is answered, where, and what. A new address: a function and a line in `_table`.

It is a `Listener` of its own, so slow, endless and malformed requests end as they do on the main one.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, fields, replace
from typing import Any, Final, Protocol

from aiohttp import hdrs, web

from gateway.core.admin import AdminPolicy, check_site, check_token
from gateway.core.cors import CorsPolicy
from gateway.core.headers import FieldRules
from gateway.core.identity import IdentityPolicy
from gateway.core.limits import RatePolicy
from gateway.core.model import Limits
from gateway.core.policy import Requirement
from gateway.core.routing import Route, RouteTable
from gateway.errors import BadRequest, ConfigError
from gateway.net.pool import Pool
from gateway.net.upstreams import Balancer
from gateway.web.admin_revoke import Revoking, revoke_addresses
from gateway.web.deps import Deps
from gateway.web.local import Address, Handler, Serving, health, own_application, refusal

# A person and a few machines, who are near.
LIMITS: Final = Limits(
    header_bytes=16_384, headers=64, body_bytes=65_536, header_read_s=5.0, body_idle_s=5.0, keepalive_s=30.0,
    connections=256,
)  # fmt: skip
OPEN: Final = frozenset({"/healthz", "/readyz"})  # on loopback
MOST: Final = 500  # of a list


class Operated(Serving, Revoking, Protocol):
    """The gateway as its operators see it (`web.app`)."""

    @property
    def admin(self) -> AdminPolicy:
        """Who may speak to it, now."""

    @property
    def balancers(self) -> Mapping[str, Balancer]:
        """The upstreams in use, by name."""

    @property
    def routes(self) -> Sequence[Route]:
        """The routes in force."""

    async def reload(self) -> list[str]:
        """Take up what the file says now, and name the parts that changed. Raises ConfigError, Draining."""


class _Everything:
    """Where every path is the listener's own."""

    def __contains__(self, path: object) -> bool:
        return True


def admin_deps(deps: Deps) -> Deps:
    """Give what requests of the admin listener need: no routes, nobody trusted, every path for its application."""
    return replace(
        deps, routes=RouteTable(()), own_paths=_Everything(), cors=None, issuer=None, trusted_proxies=(),
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
    return (
        *health(gateway),
        *revoke_addresses(gateway),
        Address(hdrs.METH_GET, "/v1/routes", _on(gateway, _routes)),
        Address(hdrs.METH_POST, "/v1/reload", _on(gateway, _reload)),
    )


def _on(gateway: Operated, answer: Callable[[Operated, web.Request], Awaitable[web.StreamResponse]]) -> Handler:
    async def handler(request: web.Request) -> web.StreamResponse:
        return await answer(gateway, request)

    return handler


def _guard(request: web.Request, policy: AdminPolicy) -> None:
    """Refuse who may not ask. Whatever is served and not in `OPEN` needs the token. Raises GatewayError."""
    headers = request.headers
    check_site(policy, host=",".join(headers.getall(hdrs.HOST, ())), origins=headers.getall(hdrs.ORIGIN, ()))
    resource = request.match_info.route.resource
    path = request.path if resource is None else resource.canonical
    is_open = path in OPEN if resource is not None else not path.startswith("/v1")
    if not (is_open and policy.loopback):
        check_token(policy, headers.getall(hdrs.AUTHORIZATION, ()))


def page(request: web.Request, items: Sequence[Any]) -> web.Response:
    """Answer with a part of a list: `?limit=`, at most `MOST`, and `?cursor=` from the part before.

    Raises:
        BadRequest: reason `limit` or `cursor`.
    """
    limit, at = _number(request, "limit", MOST), _number(request, "cursor", 0)
    if not 1 <= limit <= MOST:
        raise BadRequest("limit")
    following = at + limit
    return web.json_response(
        {"data": items[at:following], "next_cursor": str(following) if following < len(items) else None}
    )


def _number(request: web.Request, name: str, default: int) -> int:
    text = request.query.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise BadRequest(name)
    return int(text)


async def _routes(gateway: Operated, request: web.Request) -> web.StreamResponse:
    return page(request, [shown(route, gateway.balancers[route.upstream.name]) for route in gateway.routes])


async def _reload(gateway: Operated, request: web.Request) -> web.StreamResponse:
    try:
        return web.json_response({"status": "ok", "changed": await gateway.reload()})
    except ConfigError as error:
        findings = [asdict(finding) for finding in error.findings]  # type: ignore[call-overload]  # config's Finding
        return refusal(request, BadRequest("configuration"), findings=findings)


def shown(route: Route, balancer: Balancer) -> dict[str, Any]:
    """Say what a route is, in the words of the file, and how its endpoints fare."""
    upstream = route.upstream
    return {
        "name": route.name,
        "host": route.host,
        "path": route.pattern.text + ("/*" if route.pattern.below else ""),
        "methods": sorted(route.methods),
        "auth": route.auth,
        "token": sorted(route.admission.token_types),
        "audience": sorted(route.admission.audience),
        "require": _required(route.require),
        "allow_pending": route.admission.allow_pending,
        "allow_impersonation": route.require.allow_impersonation,
        "upstream": upstream.name,
        "endpoints": [_endpoint(pool) for pool in balancer.pools],
        "identity": upstream.identity,
        "forward_token": route.forward_token,
        "host_header": "preserve" if upstream.preserve_host else "upstream",
        "strip_prefix": route.stripped.decode() or None,
        "add_prefix": route.add_prefix.decode() or None,
        "timeouts": {"connect_s": route.connect_s, "response_s": route.response_s, "idle_s": route.idle_s},
        "max_body_bytes": route.max_body_bytes,
        "rate_limit": _rates(route.rates),
        "stream_max_age_s": route.stream_max_age_s,
        "allow_encoded": sorted(route.allow_encoded),
        "cors": route.cors and _cors(route.cors),
    }


def _endpoint(pool: Pool) -> dict[str, Any]:
    standing = pool.standing
    return {"address": pool.label, "weight": standing.weight, "up": standing.is_up, "live": standing.live}


def _required(require: Requirement) -> dict[str, Any]:
    """Give the keys that ask for something."""
    ages = {"first": require.max_age_first_min, "second": require.max_age_second_min}
    asked = {
        "role": sorted(require.roles),
        "permission": sorted(require.permissions),
        "org": require.org_any or sorted(require.orgs),
        "plan": sorted(require.plans),
        "feature": sorted(require.features),
        "scope": sorted(require.scopes),
        "claims": dict(require.claims),
        "max_age_min": {name: minutes for name, minutes in ages.items() if minutes is not None},
    }
    return {name: value for name, value in asked.items() if value}


def _rates(policy: RatePolicy) -> dict[str, str]:
    """Give the limits that are set."""
    rates = ((each.name, getattr(policy, each.name)) for each in fields(policy))
    return {name: str(rate) for name, rate in rates if rate is not None}


def _cors(policy: CorsPolicy) -> dict[str, Any]:
    return {
        "origins": policy.origins.written,
        "methods": policy.methods,
        "headers": policy.headers,
        "expose": policy.expose,
        "credentials": policy.credentials,
        "max_age_s": policy.max_age_s,
        "private_network": policy.private_network,
    }
