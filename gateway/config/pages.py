"""How documents are signed in: through Clerk's handshake, and at which page."""

from collections.abc import Sequence
from dataclasses import replace
from urllib.parse import urlsplit

from gateway.config.findings import Path, Report
from gateway.config.instances import Instance
from gateway.config.model import IssuerConfig
from gateway.config.satellites import review_satellite
from gateway.config.urls import read_url
from gateway.core.handshake import PagesPolicy
from gateway.core.routing import Route, RouteTable, canonical_path
from gateway.errors import BadRequest


def with_pages(
    issuers: Sequence[IssuerConfig], instances: Sequence[Instance], report: Report, *, public_url: str | None
) -> tuple[IssuerConfig, ...]:
    """Add to each issuer how its documents are signed in. What stands before its Frontend API has to be known."""
    by_name = {instance.name: instance for instance in instances}
    return tuple(
        replace(issuer, pages=_pages(issuer, by_name[issuer.name], report, public_url=public_url)) for issuer in issuers
    )


def _pages(issuer: IssuerConfig, instance: Instance, report: Report, *, public_url: str | None) -> PagesPolicy | None:
    """Make the policy of an instance's documents; None where they are as any other request."""
    clerk, path = instance.clerk, (*instance.at, "sign_in_url")
    development = issuer.credentials.development
    sign_in_url = report.tried(path, _read_sign_in, clerk.sign_in_url) if clerk.sign_in_url else None
    if clerk.satellite:
        is_own = sign_in_url is not None and _is_own(sign_in_url, public_url)
        review_satellite(instance, report, development=development, sign_in_url=sign_in_url, is_own=is_own)
    if clerk.handshake:
        _review_handshake(issuer, instance, report, public_url=public_url)
    if not clerk.handshake and sign_in_url is None:
        return None
    return PagesPolicy(
        frontend_api=issuer.frontend_api.proxy_url if issuer.frontend_api is not None else issuer.credentials.issuer,
        development=development,
        handshake=clerk.handshake and issuer.backend is not None,
        sign_in_url=sign_in_url,
        satellite=clerk.satellite,
        public_url=public_url,
        sync_to=frozenset(clerk.authorized_parties),
    )


def _review_handshake(issuer: IssuerConfig, instance: Instance, report: Report, *, public_url: str | None) -> None:
    clerk, at = instance.clerk, instance.at
    path: Path = (*at, "handshake")
    if issuer.backend is None and not report.is_broken((*at, "secret_key"), (*at, "api_url")):
        message = "needs secret_key: what a handshake brings is asked of Clerk's Backend API"
        report.error(path, message, 'Write secret_key: "${CLERK_SECRET_KEY}" beside it, or handshake: false')
    if public_url is None and not report.is_broken(("public_url",)):
        message = "without public_url a handshake comes back to the address that a request seems to have come to"
        report.warning(path, message, "Write public_url: https://… as browsers have it")
    if clerk.authorized_parties and clerk.azp_missing == "reject":
        # Clerk: azp is the Origin of the request that a token was minted for, and a navigation has none.
        message = "tokens from a handshake may name no party (azp), and are refused then"
        report.warning(path, message, "If users meet token-invalid-authorized-parties, write azp_missing: accept")


def review_sign_in(
    issuers: Sequence[IssuerConfig], instances: Sequence[Instance], routes: Sequence[Route], report: Report
) -> None:
    """Refuse a sign-in page behind a route that asks for a session: nobody could ever get there."""
    table, at = RouteTable(routes), {instance.name: instance.at for instance in instances}
    for issuer in issuers:
        pages = issuer.pages
        if pages is None or pages.sign_in_url is None or not _is_own(pages.sign_in_url, pages.public_url):
            continue
        route = _route_of(pages.sign_in_url, pages.public_url, table)
        if route is not None and route.auth == "required":
            message = f'leads to route "{route.name}" of this gateway, which asks for a session itself'
            report.error((*at[issuer.name], "sign_in_url"), message, "Give the page a route of its own, auth: public")


def _route_of(sign_in_url: str, public_url: str | None, table: RouteTable) -> Route | None:
    page, base = urlsplit(sign_in_url), urlsplit(public_url or "")
    # What stands in front of the gateway takes the public URL's own path away.
    path = page.path if sign_in_url.startswith("/") else page.path.removeprefix(base.path)
    try:
        return table.find((page.netloc or base.netloc).encode(), canonical_path(path or "/"), "GET")
    except BadRequest:
        return None


def _is_own(sign_in_url: str, public_url: str | None) -> bool:
    if sign_in_url.startswith("/"):
        return True
    return public_url is not None and urlsplit(sign_in_url).netloc == urlsplit(public_url).netloc


def _read_sign_in(value: str) -> str:
    """Read the address of a page: a URL, or a path of the gateway's own; its query and fragment are its business."""
    if not value.isascii() or not value.isprintable() or " " in value or "\\" in value:
        raise ValueError("must be ASCII without blanks and backslashes")
    if value.startswith("/") and not value.startswith("//"):
        return value
    read_url(value.partition("#")[0].partition("?")[0])
    return value
