"""The routes in force as the admin listener shows them, and how they are exchanged: `/v1/routes`, `/v1/reload`."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any, Protocol

from aiohttp import hdrs, web

from gateway.core.cors import CorsPolicy
from gateway.core.limits import RatePolicy
from gateway.core.policy import Requirement
from gateway.core.routing import Route
from gateway.errors import BadRequest, ConfigError
from gateway.net.pool import Pool
from gateway.net.upstreams import Balancer
from gateway.web.local import Address, refusal
from gateway.web.paging import page


class Routed(Protocol):
    """A gateway, as whoever looks after its routes sees it (`web.app`)."""

    @property
    def balancers(self) -> Mapping[str, Balancer]:
        """The upstreams in use, by name."""

    @property
    def routes(self) -> Sequence[Route]:
        """The routes in force."""

    async def reload(self) -> list[str]:
        """Take up what the file says now, and name the parts that changed. Raises ConfigError, Draining."""


def route_addresses(gateway: Routed) -> tuple[Address, ...]:
    """Give the addresses."""

    async def routes(request: web.Request) -> web.StreamResponse:
        return page(request, [shown(route, gateway.balancers[route.upstream.name]) for route in gateway.routes])

    async def reload(request: web.Request) -> web.StreamResponse:
        try:
            return web.json_response({"status": "ok", "changed": await gateway.reload()})
        except ConfigError as error:
            findings = [asdict(finding) for finding in error.findings]  # type: ignore[call-overload]  # config's Finding
            return refusal(request, BadRequest("configuration"), findings=findings)

    return Address(hdrs.METH_GET, "/v1/routes", routes), Address(hdrs.METH_POST, "/v1/reload", reload)


def shown(route: Route, balancer: Balancer) -> dict[str, Any]:
    """Say what a route is, in the words of the file, and how its endpoints fare."""
    return {**described(route), "endpoints": [_endpoint(pool) for pool in balancer.pools]}


def described(route: Route) -> dict[str, Any]:
    """Say what a route is, in the words of the file."""
    upstream = route.upstream
    return {
        "name": route.name,
        "host": route.host,
        "path": route.pattern.text + ("/*" if route.pattern.below else ""),
        "methods": sorted(route.methods),
        "auth": route.auth,
        "token": sorted(route.admission.token_types),
        "audience": sorted(route.admission.audience),
        "issuer": route.admission.issuer,
        "require": _required(route.require),
        "allow_pending": route.admission.allow_pending,
        "allow_impersonation": route.require.allow_impersonation,
        "upstream": upstream.name,
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
