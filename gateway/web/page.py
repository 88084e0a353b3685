"""A request as Clerk looks at it: whose cookies count, which URL its browser has, where it may be sent."""

from collections.abc import Mapping
from typing import NamedTuple

from gateway.core.credentials import Credential, SignedOut, find_credential, read_cookies
from gateway.core.directives import cookie_lines, followed
from gateway.core.handshake import (
    HANDSHAKE,
    MAX_LOCATION,
    MOST_REDIRECTS,
    PageQuery,
    PagesPolicy,
    count_line,
    handshake_location,
    may_sync_to,
    page_url,
    read_query,
    redirects_made,
    sync_location,
    synced_location,
)
from gateway.core.limits import counted_address
from gateway.core.model import Header, Identified, Inbound
from gateway.core.policy import admit
from gateway.core.routing import Route
from gateway.core.session import PRIMARY_ANSWERS, SATELLITE, ChosenCookies, choose_cookies, uses_suffixed_cookies
from gateway.core.verify import read_token
from gateway.errors import GatewayError, InvalidToken, Redirect
from gateway.net.handshakes import Handshakes
from gateway.web.deps import Deps
from gateway.web.identify import Answering
from gateway.web.issuers import Issuer, Issuers


class Stuck(InvalidToken):
    """Neither another handshake nor signing in again would change it, so there is no redirect for it."""


class Page(NamedTuple):
    """One request, and what has been read of it."""

    deps: Deps
    inbound: Inbound
    route: Route
    client: Answering
    is_document: bool  # may be sent elsewhere
    issuer: Issuer  # whose session it would be
    policy: PagesPolicy
    clerk: Handshakes | None
    found: Credential | SignedOut
    cookies: Mapping[bytes, bytes]
    chosen: ChosenCookies
    suffixed: bool
    query: PageQuery
    url: str

    @property
    def by_header(self) -> bool:
        """Whether its credential stands in the header, which no cookie replaces."""
        return isinstance(self.found, Credential) and self.found.source == "header"

    @property
    def token(self) -> bytes:
        """The session token that Clerk is shown."""
        return self.chosen.session or (self.found.token if isinstance(self.found, Credential) else b"")

    @property
    def dev_browser(self) -> str:
        """What a development instance knows the browser by."""
        return self.query.dev_browser or self.chosen.dev_browser.decode("latin-1")

    @property
    def address(self) -> bytes:
        """What its client's address is counted by."""
        forwarding = self.inbound.header.forwarding
        assert forwarding is not None
        return counted_address(forwarding.client)

    def admitted(self, identified: Identified) -> Identified:
        """Give whose the cookies are if the route takes such tokens. Raises InvalidToken."""
        try:
            admit(identified.principal, self.route.admission)
        except InvalidToken as refused:
            raise InvalidToken(refused.reason, detail=refused.detail, carrier="cookie") from refused
        return identified

    def follow(self, directives: tuple[str, ...]) -> None:
        """Have the answer bring these cookies, and the upstream see what the browser will have from now on."""
        self.client.added = cookie_lines(directives)
        old = self.inbound.header
        seen = dict(old.seen)
        seen["cookie"] = followed(seen.pop("cookie", b""), directives)
        header = Header(old.fields, seen, old.repeated, old.peer, old.authority)
        header.forwarding = old.forwarding
        self.client.changed = self.inbound._replace(header=header)

    def to_handshake(self, reason: str, *, message: str = "") -> GatewayError:
        """Give the redirect by which Clerk is asked; where that has led nowhere three times, the refusal."""
        made = redirects_made(self.cookies)
        if made >= MOST_REDIRECTS:
            return Stuck(reason, detail="a loop of handshakes", carrier="cookie")
        location = self._location(reason)
        if len(location) > MAX_LOCATION:
            return Stuck(reason, detail="too long for a Location", carrier="cookie")
        return Redirect(location, reason, auth_status="handshake", message=message, fields=count_line(made))

    def _location(self, reason: str) -> str:
        if reason == SATELLITE and self.policy.development:
            return sync_location(self.policy, self.url)
        if reason == PRIMARY_ANSWERS:
            return synced_location(self.query.redirect_url, dev_browser=self.dev_browser)
        return handshake_location(
            self.policy, self.url, reason=reason, suffixed=self.suffixed, session=self.token,
            dev_browser=self.dev_browser,
        )  # fmt: skip


def read_page(deps: Deps, inbound: Inbound, route: Route, client: Answering, *, is_document: bool) -> Page | None:
    """Read a request; None where its instance has no pages, or nobody says where the gateway is."""
    issuers, named, now = deps.issuers, route.admission.issuer, deps.now()
    assert issuers is not None
    found = find_credential(inbound, issuers.credentials[named], now=now)
    cookies = read_cookies(inbound.header.seen.get("cookie", b""))
    issuer = issuers.named(named) if named is not None else _whose(issuers, found, cookies)
    if issuer.pages is None:
        return None
    policy, clerk = issuer.pages.policy, issuer.pages.clerk
    url = page_url(inbound, policy)
    if url is None:
        return None
    query = read_query(inbound.target) if is_document else PageQuery()
    if query.redirect_url and not may_sync_to(policy, query.redirect_url):
        query = query._replace(redirect_url="")
    chosen = choose_cookies(cookies, issuer.credentials, now=now)
    suffixed = uses_suffixed_cookies(cookies, issuer.credentials, now=now)
    return Page(
        deps, inbound, route, client, is_document, issuer, policy, clerk, found, cookies, chosen, suffixed, query, url
    )


def _whose(issuers: Issuers, found: Credential | SignedOut, cookies: Mapping[bytes, bytes]) -> Issuer:
    """Choose the instance that is to say who this is: that of the token, or of the cookies."""
    if not issuers.is_one:
        if isinstance(found, Credential) and found.source == "cookie":
            return issuers.named(found.issuer)  # whatever its token says: a cookie is its instance's
        for raw in (found.token if isinstance(found, Credential) else b"", cookies.get(HANDSHAKE.encode(), b"")):
            claimed = _claimed(issuers, raw) if raw else None
            if claimed is not None:
                return claimed
        if found.issuer:
            return issuers.named(found.issuer)
    every = tuple(issuers)
    return next((issuer for issuer in every if issuer.pages is not None), every[0])


def _claimed(issuers: Issuers, raw: bytes) -> Issuer | None:
    try:
        return issuers.of(read_token(raw))
    except InvalidToken:
        return None
