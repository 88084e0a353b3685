"""The way of a request through the gateway, in order. No other file decides the order."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from gateway.core.convex import check_request
from gateway.core.cors import answer_fields, is_preflight, preflight_fields
from gateway.core.forwarding import forwarding, trace
from gateway.core.frontend_api import FrontendApiProxy
from gateway.core.headers import build_outbound
from gateway.core.model import Identified, Inbound
from gateway.core.policy import authorise
from gateway.core.routing import CanonicalPath, Route, canonical_path, require_consent
from gateway.errors import GatewayError, Overloaded
from gateway.net.exchange import Client, forward
from gateway.web.deps import Deps
from gateway.web.frontend_api import pass_on
from gateway.web.identify import Answering, identify
from gateway.web.rates import Rates


class Visitor(Client, Answering, Protocol):
    """The client as the stages see it: what they find out is kept for the answer and the access line."""

    spare: bool  # there is no place for it
    request_id: bytes
    route: Route | None
    proxy: FrontendApiProxy | None
    identified: Identified | None

    @property
    def raw_fields(self) -> Sequence[tuple[bytes, bytes]]:
        """The client's header as it was received."""

    async def serve_own(self) -> None:
        """Let the gateway's own application answer."""

    def answer_preflight(self, fields: bytes) -> None:
        """Send a preflight's 204."""

    def check_upgrade(self) -> None:
        """Raise Draining where no new upgrade is taken."""


async def handle(deps: Deps, client: Visitor, inbound: Inbound) -> None:
    """Carry one request through every stage. Raises GatewayError: what to answer."""
    header = inbound.header
    forwarding(header, deps.trusted_proxies)
    ids = trace(header, deps.random_bits(192))
    client.request_id = ids.request_id
    path = canonical_path(inbound.path)  # 400 ambiguous
    if path.text in deps.own_paths:
        return await client.serve_own()
    if client.spare:
        client.route = deps.routes.find(header.authority, path, inbound.method)  # whose CORS the answer has
        raise Overloaded
    if deps.frontend_apis is not None and (proxy := deps.frontend_apis.find(path.text)) is not None:
        return await pass_on(deps, client, inbound, path, proxy=proxy)  # preflights too: their answer is Clerk's
    if inbound.method == "OPTIONS" and _answered_preflight(deps, client, inbound, path):
        return None  # carries no credential, so before identification (Fetch standard, "CORS-preflight fetch")
    route = client.route = deps.routes.match(header.authority, path, inbound.method)  # 404, 405
    if path.oddities:
        require_consent(route, path)  # 400 ambiguous
    if inbound.upgrade:
        client.check_upgrade()  # 503 draining
    if route.upstream.convex:
        check_request(inbound, route.upstream)  # 403: admin keys stay out, on public routes too
    if deps.rates is None:
        identified = client.identified = await identify(deps, inbound, route, client)  # 401, 503; 302, 307
    else:
        identified = await _identify_and_count(deps, deps.rates, client, inbound, route)  # 429 too
    authorise(identified.principal if identified else None, route.require)  # 403
    assertion = b"" if deps.assertions is None else deps.assertions.line(identified, route.upstream)
    outbound = build_outbound(client.changed or inbound, route, identified, ids, assertion=assertion)
    return await forward(deps.upstreams[route.upstream.name], client, outbound)  # 413, 502, 504


def _answered_preflight(deps: Deps, client: Visitor, inbound: Inbound, path: CanonicalPath) -> bool:
    """Answer a preflight by the route its request would take; where CORS is off it is an ordinary request."""
    if not is_preflight(inbound.method, inbound.header.seen):
        return False
    method = inbound.header.seen["access-control-request-method"].decode("latin-1")
    route = deps.routes.find(inbound.header.authority, path, method)
    client.route, policy = route, deps.cors if route is None else route.cors
    if policy is None:
        return False
    client.answer_preflight(preflight_fields(policy, inbound.header.seen))
    return True


async def _identify_and_count(
    deps: Deps, rates: Rates, client: Visitor, inbound: Inbound, route: Route
) -> Identified | None:
    """Identify between two counts: of the address first, since verifying costs; then of whoever it turns out to be."""
    header = inbound.header
    rates.spend_address(header, route)  # 429
    try:
        identified = client.identified = await identify(deps, inbound, route, client)  # 401, 503; 302, 307
    except GatewayError as refused:
        if refused.status < 500:  # keys that cannot be had are not the client's doing
            rates.spend_unnamed(header, route)  # 429
        raise
    if identified is None:
        rates.spend_unnamed(header, route)  # 429
    else:
        rates.spend_principal(route, identified.principal)  # 429
    return identified


def cors_of_unread(deps: Deps, method: str, target: str, seen: Mapping[str, bytes]) -> bytes:
    """Give the CORS fields for a request refused before it was read: those of the route it would have taken."""
    try:
        route = deps.routes.find(seen.get("host", b""), canonical_path(target.partition("?")[0]), method)
    except GatewayError:
        route = None
    return answer_fields(deps.cors if route is None else route.cors, seen.get("origin"))
