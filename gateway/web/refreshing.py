"""Who asks, by cookies or a token; where its time is over, after Clerk has given another one.

Clerk's `authenticateRequest` in its order. The decisions are `core/session`'s, the question to Clerk `net/handshakes`'.
"""

from gateway.core.credentials import Credential, SignedOut
from gateway.core.directives import session_of
from gateway.core.handshake import came_from_elsewhere, is_navigation, redirects_made
from gateway.core.model import Identified
from gateway.core.session import (
    CAME_ACROSS,
    EXPIRED,
    OLDER,
    TIMES,
    Handshake,
    auth_message,
    check_cookie,
    cookie_reason,
    handshake_reason,
    page_state,
    session_id_of,
)
from gateway.errors import InvalidToken, MissingCredential
from gateway.net.handshakes import Stale
from gateway.web.identify import identify, judge_token
from gateway.web.page import Page

# What Clerk is told of the request a session is refreshed for; it shows users their devices by it.
TOLD = ("user-agent", "accept-language", "origin", "referer", "sec-fetch-site", "sec-fetch-dest")
CROSSED = "Cross-origin request from satellite domain requires handshake"


async def by_cookies(page: Page) -> Identified:
    """Say who asks for a document by its cookies.

    Raises:
        MissingCredential, InvalidToken: nobody does.
        Redirect: Clerk has to say it.
    """
    policy, navigates = page.policy, is_navigation(page.inbound)
    state = page_state(
        page.chosen, page.query, development=policy.development, satellite=policy.satellite, navigates=navigates,
        name=page.issuer.name,
    )  # fmt: skip
    if isinstance(state, Handshake):
        raise page.to_handshake(state.reason)
    identified = await by_credential(page._replace(found=state))
    # What a refresh has brought is Clerk's latest word already.
    if navigates and not policy.satellite and not page.client.added and _came_across(page):
        raise page.to_handshake(CAME_ACROSS, message=CROSSED)
    return identified


def _came_across(page: Page) -> bool:
    referer = page.inbound.header.seen.get("referer", b"")
    return not redirects_made(page.cookies) and came_from_elsewhere(referer, page.url, page.policy)


async def by_credential(page: Page) -> Identified:
    """Say whose a token is. Raises as `by_cookies`; no Redirect but for documents."""
    found = page.found
    if isinstance(found, SignedOut):
        raise InvalidToken(found.reason, carrier="cookie") if found.sent else MissingCredential(found.reason)
    try:
        if found.source == "header":
            identified = await identify(page.deps, page.inbound, page.route)
            assert identified is not None  # which nobody with a token in the header is
            return identified
        identified = await judge_token(page.deps, found.token, page.route, named=page.issuer.name)
        check_cookie(identified.principal, found)
    except InvalidToken as refused:
        return await _renewed(page, found, refused)
    return page.admitted(identified)


async def _renewed(page: Page, found: Credential, refused: InvalidToken) -> Identified:
    """Say whose a token was that is not good."""
    reason, source = refused.reason or "", found.source
    spelt = cookie_reason(reason, found)
    # What in a header is no session's, a machine's token say, no handshake makes better.
    if reason not in TIMES or spelt == OLDER or (source == "header" and session_id_of(found.token) is None):
        raise InvalidToken(spelt, detail=refused.detail, carrier=source) from refused
    why = ""
    if reason == EXPIRED:
        outcome = await _refreshed(page)
        if isinstance(outcome, Identified):
            return outcome
        why = outcome
    said = handshake_reason(reason, refresh=why)
    if page.is_document:
        raise page.to_handshake(said, message=auth_message(reason, carrier=source)) from refused
    raise InvalidToken(said if source == "cookie" else reason, carrier=source) from refused


async def _refreshed(page: Page) -> Identified | str:
    """Give who is calling by the session token that Clerk gives for an expired one, or Clerk's word for why not."""
    if not page.chosen.refresh:
        return "non-eligible-no-refresh-cookie"
    if page.clerk is None:
        return "missing-api-client"
    session_id = session_id_of(page.token)
    if session_id is None:
        return "expired-session-token-missing-sid-claim"
    # Clerk would: but a token in the header that is over does not make its sender whoever the cookies are of.
    found = page.found
    if isinstance(found, Credential) and found.source == "header" and session_id_of(found.token) != session_id:
        return "non-eligible-other-session"
    outcome = await page.clerk.refresh(_stale(page, session_id))
    if not outcome.directives:
        return outcome.why
    try:
        fresh = session_of(outcome.directives).encode()
        identified = await judge_token(page.deps, fresh, page.route, named=page.issuer.name)
    except InvalidToken:
        return "invalid-session-token"
    page.follow(outcome.directives)
    return page.admitted(identified)


def _stale(page: Page, session_id: str) -> Stale:
    header, parts = page.inbound.header, page.url.split("/", 3)
    assert header.forwarding is not None
    told = {name: header.seen[name].decode("latin-1") for name in TOLD if name in header.seen}
    return Stale(
        session_id=session_id,
        expired_token=page.token.decode("latin-1"),
        refresh_token=page.chosen.refresh.decode("latin-1"),
        suffixed=page.suffixed,
        origin="/".join(parts[:3]),
        headers=told | {"host": parts[2], "x-forwarded-for": header.forwarding.client},
        address=page.address,
    )
