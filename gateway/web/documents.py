"""What is asked for where an instance has pages: signed in by its session, Clerk's handshake or a refresh.

`web/identify` hands over to this, and any request whose own credential is good goes back to it. A document that stays
signed out is sent to the sign-in page; everything else is refused as it is elsewhere.
"""

from typing import Final

from gateway.core.handshake import MAX_LOCATION, is_document, is_sign_in_page, sign_in_location
from gateway.core.model import Identified, Inbound
from gateway.core.routing import Route
from gateway.core.session import NOTHING, auth_message
from gateway.errors import Forbidden, InvalidToken, MissingCredential, SignInRedirect
from gateway.web.deps import Deps
from gateway.web.identify import Answering, check_origin, identify
from gateway.web.page import Page, Stuck, read_page
from gateway.web.refreshing import by_credential
from gateway.web.returning import by_handshake

# What another session of the same user would be refused for, too: it is the configuration's to change.
VAIN: Final = frozenset({"token-invalid-authorized-parties"})


async def identify_client(deps: Deps, inbound: Inbound, route: Route, client: Answering) -> Identified | None:
    """Say who asks, as `identify` does. Raises as `identify`, and ClerkApiDown where Clerk alone knows."""
    if "session" not in route.admission.token_types:
        return await identify(deps, inbound, route)  # machines come back from nowhere, and no cookie is theirs
    if is_document(inbound):
        page = read_page(deps, inbound, route, client, is_document=True)
        if page is not None:
            return await _identify_document(page)
    elif b"__refresh_" in inbound.header.seen.get("cookie", b""):
        return await _identify_call(deps, inbound, route, client)
    return await identify(deps, inbound, route)


async def _identify_call(deps: Deps, inbound: Inbound, route: Route, client: Answering) -> Identified | None:
    """Say who calls that has a refresh token, which is looked at only where nothing else is good."""
    refused: InvalidToken | None = None
    try:
        identified = await identify(deps, inbound, route)
        if identified is not None:
            return identified
    except InvalidToken as error:
        refused = error
    page = read_page(deps, inbound, route, client, is_document=False)
    if page is not None and page.policy.handshake:
        try:
            # Clerk's SDK does this for GET alone, since it has its script in the page to keep the cookie fresh. Here a
            # form has to be taken too that was open for longer than a token lives, if the page is one that may send it.
            check_origin(inbound, route, page.issuer)
            return await by_credential(page)
        except (InvalidToken, MissingCredential):
            if refused is not None:
                raise
        except Forbidden:
            pass  # nothing is asked for another site's sake
    if refused is not None:
        raise refused
    return None


async def _identify_document(page: Page) -> Identified | None:
    try:
        if not page.policy.handshake:
            identified = await identify(page.deps, page.inbound, page.route)
        elif page.by_header:
            identified = await by_credential(page)
        else:
            identified = await by_handshake(page)
        if identified is None and page.route.require.needs_principal:
            raise MissingCredential(NOTHING)
    except (MissingCredential, InvalidToken) as refused:
        _sign_in(page, refused)
        return None
    return identified


def _sign_in(page: Page, refused: MissingCredential | InvalidToken) -> None:
    """Let a document that stays signed out be nobody's, where the route allows it.

    Raises:
        SignInRedirect: it is sent to the sign-in page.
        MissingCredential, InvalidToken: there is none, or it would lead back here.
    """
    policy, route = page.policy, page.route
    if route.auth == "optional" and not page.by_header and not route.require.needs_principal:
        return
    # Whoever is signed in at Clerk already would come straight back, and be sent there again.
    is_vain = isinstance(refused, Stuck) or refused.reason in VAIN
    if policy.sign_in_url is None or is_vain or is_sign_in_page(policy, page.url):
        raise refused
    location = sign_in_location(policy, page.url, dev_browser=page.dev_browser)
    if len(location) > MAX_LOCATION:
        raise refused
    carrier = refused.carrier if isinstance(refused, InvalidToken) else ""
    message = auth_message(refused.reason, carrier=carrier)
    raise SignInRedirect(location, refused.reason, auth_status="signed-out", message=message) from refused
