"""A document that comes back from Clerk's handshake: what it brings is exchanged for cookies, its URL cleaned."""

import asyncio
import re
from collections.abc import Iterator

from gateway.core.claims import SESSION_CATEGORY, SILENT_CATEGORY
from gateway.core.directives import read_directives, session_of
from gateway.core.handshake import HANDSHAKE, NONCE, ON_THE_WAY_BACK, PageQuery, without_parameters
from gateway.core.model import Identified
from gateway.core.session import AFTER_HANDSHAKE
from gateway.core.verify import read_token, signed_claims
from gateway.errors import ClerkApiDown, GatewayError, InvalidToken, MissingCredential, Redirect
from gateway.net.handshakes import WAIT_S, Handshakes
from gateway.web.identify import judge_token
from gateway.web.issuers import Issuer
from gateway.web.page import Page, Stuck
from gateway.web.refreshing import by_cookies

_NONCE = re.compile(r"[\x21-\x7E]{1,512}")


async def by_handshake(page: Page) -> Identified:
    """Say who asks for a document by what a handshake has brought, else by the cookies there are.

    Raises:
        MissingCredential, InvalidToken: nobody does.
        Redirect: Clerk has to say it, or what was brought is to leave the URL.
        ClerkApiDown: Clerk alone knows, and does not say it.
    """
    nonce, token, in_url = _brought(page)
    if not nonce and not token:
        return await by_cookies(page)
    try:
        issuer, directives = await _exchanged(page, nonce, token)
    except ClerkApiDown as down:
        return await _by_cookies_or(page, down, in_url=in_url)  # what could not be checked is not refused
    except InvalidToken as refused:
        # Of another application on the same domain, perhaps: then the handshake is to be made once more. In a URL it
        # can only be ours, so that its key was, and nothing would change it.
        if in_url:
            raise Stuck(refused.reason, detail="a handshake's token", carrier="cookie") from refused
        return await by_cookies(page)
    if not directives:
        return await _used_up(page, in_url=in_url)
    return await _brought_in(page, issuer, directives, in_url=in_url)


def _brought(page: Page) -> tuple[str, bytes, bool]:
    """Give the nonce or token that a handshake left, and whether it stands in the URL.

    In production it comes as a cookie alone: a link must not be able to sign whoever follows it in as somebody else.
    """
    query, cookies = page.query, page.cookies
    if page.policy.development and (query.nonce or query.handshake):
        return query.nonce, query.handshake.encode("utf-8", "replace"), True
    return cookies.get(NONCE.encode(), b"").decode("latin-1"), cookies.get(HANDSHAKE.encode(), b""), False


def _clean(page: Page, *, signed_out: bool = False) -> Redirect:
    """Give the way to the same document without the traces of the handshake."""
    url = without_parameters(page.url, ON_THE_WAY_BACK)
    return Redirect(url, AFTER_HANDSHAKE, auth_status="signed-out") if signed_out else Redirect(url)


async def _exchanged(page: Page, nonce: str, token: bytes) -> tuple[Issuer, tuple[str, ...]]:
    """Give the cookies that a handshake ends in, and whose they are; none for a nonce that stands for nothing.

    Raises:
        ClerkApiDown: nobody says what the nonce stands for.
        InvalidToken: the token is not this instance's.
    """
    if not nonce:
        return page.issuer, await _of_token(page.issuer, token)
    if not _NONCE.fullmatch(nonce):
        return page.issuer, ()
    try:
        async with asyncio.timeout(WAIT_S):  # for all of them together: somebody looks at an empty page
            return await _asked(page, nonce)
    except TimeoutError:
        raise ClerkApiDown(detail=f"no answer within {WAIT_S:g} s") from None


async def _asked(page: Page, nonce: str) -> tuple[Issuer, tuple[str, ...]]:
    """Ask one instance after the other what a nonce stands for. Raises ClerkApiDown."""
    down: ClerkApiDown | None = None
    for issuer, clerk in _who_may_know(page):
        try:
            directives = await clerk.payload(nonce, address=page.address)
        except ClerkApiDown as error:
            down = down or error
            continue
        if directives:
            return issuer, directives
    if down is not None:
        raise down
    return page.issuer, ()


def _who_may_know(page: Page) -> Iterator[tuple[Issuer, Handshakes]]:
    """Give the instances that a nonce may be of, which does not say it, and whom to ask."""
    issuers = [page.issuer]
    if page.route.admission.issuer is None:
        issuers += [issuer for issuer in page.deps.issuers or () if issuer is not page.issuer]
    for issuer in issuers:
        if issuer.pages is not None and issuer.pages.clerk is not None:
            yield issuer, issuer.pages.clerk


async def _of_token(issuer: Issuer, raw: bytes) -> tuple[str, ...]:
    """Give the cookies that a signed handshake token lists. Raises InvalidToken."""
    token = read_token(raw)
    # A template's author may write a claim of that name, so its tokens are none of these.
    if token.category not in (None, SESSION_CATEGORY, SILENT_CATEGORY) or token.header.get("typ", "JWT") != "JWT":
        raise InvalidToken("token-invalid", detail="not a handshake's token")
    key = issuer.keys.find(token.kid) or await issuer.keys.fetch_for(token.kid)
    if key is None:
        raise InvalidToken("jwk-kid-mismatch")
    return read_directives(signed_claims(token, key).get("handshake"))


async def _used_up(page: Page, *, in_url: bool) -> Identified:
    """Say who comes with what stands for nothing, or no longer: another handshake could end the same way."""
    if in_url:
        raise _clean(page, signed_out=True)
    return await _by_cookies_or(page, InvalidToken(AFTER_HANDSHAKE, carrier="cookie"), in_url=False)


async def _brought_in(page: Page, issuer: Issuer, directives: tuple[str, ...], *, in_url: bool) -> Identified:
    """Say whose the session is that a handshake has brought."""
    session, identified = session_of(directives), None
    if session:
        try:
            identified = await judge_token(page.deps, session.encode(), page.route, named=issuer.name)
        except InvalidToken as refused:
            # Fresh from Clerk and not good: a clock is wrong, or the configuration. It would go on in circles.
            detail = "a session fresh from its handshake"
            stuck = Stuck(refused.reason, detail=detail, carrier="cookie")
            return await _by_cookies_or(page, stuck, in_url=in_url)
    page.follow(directives)
    if in_url:
        raise _clean(page, signed_out=identified is None)
    if identified is None:
        raise InvalidToken(AFTER_HANDSHAKE, carrier="cookie")
    return page.admitted(identified)


async def _by_cookies_or(page: Page, otherwise: GatewayError, *, in_url: bool) -> Identified:
    """Say who comes by the cookies there are, whatever a handshake has led to; where they are not good, that."""
    try:
        # The browser's name in the URL came with the handshake, and is no reason for another one.
        identified = await by_cookies(page._replace(query=PageQuery()) if in_url else page)
    except (InvalidToken, MissingCredential, Redirect) as refused:
        raise otherwise from refused
    if in_url:
        raise _clean(page)
    return identified
