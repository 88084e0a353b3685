"""How documents are signed in: Clerk's handshake, the sign-in page, and what a satellite domain is."""

from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

from gateway.config.findings import Path, Report
from gateway.config.instances import Instance
from gateway.config.model import IssuerConfig
from gateway.config.urls import read_url
from gateway.core.handshake import PagesPolicy
from gateway.core.model import BackendAddress
from gateway.core.routing import Route, RouteTable, canonical_path
from gateway.errors import BadRequest


class Around(NamedTuple):
    """What is known of an instance already."""

    issuer: str  # of the tokens that its pages get: the satellite's, where it is one
    development: bool
    backend: BackendAddress | None
    public_url: str | None


def satellite_issuer(instance: Instance, report: Report, *, development: bool) -> str | None:
    """Give the issuer of a satellite's tokens; None where it is the instance's own.

    Clerk: a satellite in production has its Frontend API at `clerk.` and its domain; one in development has none.
    """
    clerk, path = instance.clerk, (*instance.at, "domain")
    domain = report.tried(path, _read_domain, clerk.domain) if clerk.domain else None
    if domain is not None and not clerk.satellite:
        report.warning(path, "is not used without satellite: true", "Leave it out, or write satellite: true")
    return f"https://clerk.{domain}" if domain is not None and clerk.satellite and not development else None


def build_pages(instance: Instance, around: Around, report: Report) -> PagesPolicy | None:
    """Make the policy of an instance's documents; None where they are as any other request."""
    clerk, at = instance.clerk, instance.at
    path: Path = (*at, "sign_in_url")
    sign_in_url = report.tried(path, _read_sign_in, clerk.sign_in_url) if clerk.sign_in_url else None
    if clerk.satellite:
        _review_satellite(instance, around, sign_in_url, report)
    if clerk.handshake:
        _review_handshake(instance, around, report)
    if not clerk.handshake and sign_in_url is None:
        return None
    return PagesPolicy(
        frontend_api=(clerk.proxy_url or around.issuer).rstrip("/"),
        development=around.development,
        handshake=clerk.handshake,
        sign_in_url=sign_in_url,
        satellite=clerk.satellite,
        public_url=around.public_url,
        sync_to=frozenset(clerk.authorized_parties),
    )


def _review_satellite(instance: Instance, around: Around, sign_in_url: str | None, report: Report) -> None:
    clerk, at = instance.clerk, instance.at
    path: Path = (*at, "satellite")
    if not clerk.domain and not clerk.proxy_url:
        report.error(path, "needs domain: the domain that Clerk has this satellite under", "Write domain: example.org")
    if not clerk.handshake:
        message = "without handshake: true nobody is ever signed in here: sessions come from the primary domain by it"
        report.warning(path, message, "Write handshake: true, with secret_key")
    sign_in: Path = (*at, "sign_in_url")
    if sign_in_url is None:
        if around.development and not report.is_broken(sign_in):
            message = "needs sign_in_url: a development instance asks the primary there who is signed in"
            report.error(path, message, "Write the URL of the primary's sign-in page, http://localhost:3000/sign-in")
    elif sign_in_url.startswith("/") or _is_at(sign_in_url, around.public_url):
        report.error(sign_in, "must be on the primary's domain: a satellite has no sign-in page", "Write its whole URL")


def _review_handshake(instance: Instance, around: Around, report: Report) -> None:
    clerk, at = instance.clerk, instance.at
    path: Path = (*at, "handshake")
    if around.backend is None and not report.is_broken((*at, "secret_key"), (*at, "api_url")):
        report.error(path, "needs secret_key: what a handshake brings is asked of Clerk's Backend API",
                     'Write secret_key: "${CLERK_SECRET_KEY}", or handshake: false')  # fmt: skip
    if around.public_url is None:
        message = (
            "public_url is not set: the handshake comes back to whatever address the request seems to have come to"
        )
        report.warning(path, message, "Write public_url: https://… as browsers have it")
    if clerk.authorized_parties and clerk.azp_missing == "reject":
        # Clerk: azp is the Origin of the request that a token was minted for, and a navigation has none.
        message = "tokens from a handshake may name no party (azp), and are refused then"
        report.warning(path, message, "Look for token-invalid-authorized-parties; azp_missing: accept takes them")


def review_sign_in(
    issuers: Sequence[IssuerConfig], instances: Sequence[Instance], routes: Sequence[Route], report: Report
) -> None:
    """Refuse a sign-in page behind a route that asks for a session: nobody could ever get there."""
    table, at = RouteTable(routes), {instance.name: instance.at for instance in instances}
    for issuer in issuers:
        pages = issuer.pages
        if pages is None or pages.sign_in_url is None:
            continue
        route = _own_route(pages.sign_in_url, pages.public_url, table)
        if route is not None and route.auth == "required":
            message = f'leads to route "{route.name}" of this gateway, which asks for a session itself'
            report.error((*at[issuer.name], "sign_in_url"), message, "Give the page a route of its own, auth: public")


def _own_route(sign_in_url: str, public_url: str | None, table: RouteTable) -> Route | None:
    if not sign_in_url.startswith("/") and not _is_at(sign_in_url, public_url):
        return None
    parts, base = urlsplit(sign_in_url), urlsplit(public_url or "").path
    try:
        path = canonical_path(parts.path.removeprefix(base) or "/")
        return table.find(parts.netloc.encode(), path, "GET")
    except BadRequest:
        return None


def _is_at(url: str, public_url: str | None) -> bool:
    return public_url is not None and urlsplit(url).netloc == urlsplit(public_url).netloc


def _read_domain(value: str) -> str:
    url = read_url(f"https://{value}")
    if url.path or "/" in value:
        raise ValueError("is not a domain: write example.org, without https:// and without a path")
    return url.authority


def _read_sign_in(value: str) -> str:
    """Read the address of a page: a URL, or a path of the gateway's own; queries and fragments are its business."""
    if not value.isascii() or not value.isprintable() or " " in value or "\\" in value:
        raise ValueError("must not contain blanks, backslashes, control or other than ASCII characters")
    if value.startswith("/") and not value.startswith("//"):
        return value
    read_url(value.partition("#")[0].partition("?")[0])
    return value
