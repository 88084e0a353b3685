"""Clerk's Frontend API through the gateway (CONTRACT §7, everything under `clerk.proxy_path`).

A forwarded request with its own rules for its header: Clerk says who passes, and gives its own CORS and caching.
"""

from typing import TYPE_CHECKING, Any, Final

from gateway.core.frontend_api import FrontendApiProxy, to_clerk
from gateway.core.model import Inbound
from gateway.core.routing import CanonicalPath, require_consent
from gateway.errors import GatewayError
from gateway.net.exchange import forward

if TYPE_CHECKING:
    from gateway.web.deps import Deps
    from gateway.web.pipeline import Visitor

FOR_NOW: Final = "This does not work for the moment. Please try again in a little while."
NEVER: Final = "This request cannot be taken."


async def pass_on(
    deps: "Deps", client: "Visitor", inbound: Inbound, path: CanonicalPath, *, proxy: FrontendApiProxy
) -> None:
    """Carry a request to Clerk. Raises GatewayError: what to answer."""
    client.proxy, client.route = proxy, proxy.route
    require_consent(proxy.route, path)  # 400: it gives none
    if deps.rates is not None:
        deps.rates.spend_address(inbound.header, proxy.route)  # 429
    forwarded, apis = inbound.header.forwarding, deps.frontend_apis
    assert forwarded is not None
    assert apis is not None
    outbound = to_clerk(inbound, apis.fields.onward(client.raw_fields), proxy, forwarded=forwarded)
    await forward(deps.upstreams[proxy.route.upstream.name], client, outbound)  # 413, 502, 503, 504


def as_clerk_says(error: GatewayError) -> dict[str, Any]:
    """Say an error once more in the form of Clerk's own: its components show their users `errors`, and nothing else."""
    text = FOR_NOW if error.status >= 500 or error.retry_after_s is not None else NEVER
    return {"errors": [{"code": error.code, "message": error.title, "long_message": text}]}
