"""Satellite domains: where the sessions of a primary domain are to be known too."""

from gateway.config.findings import Path, Report
from gateway.config.instances import Instance
from gateway.config.urls import read_url


def satellite_issuer(instance: Instance, report: Report, *, development: bool) -> str | None:
    """Give the issuer of a satellite's tokens; None where it is the instance's own.

    Clerk: a satellite in production has its Frontend API at `clerk.` and its domain; one in development has none.
    """
    clerk, path = instance.clerk, (*instance.at, "domain")
    domain = report.tried(path, _read_domain, clerk.domain) if clerk.domain else None
    if domain is not None and not clerk.satellite:
        report.warning(path, "is not used without satellite: true", "Leave it out, or write satellite: true")
    return f"https://clerk.{domain}" if domain is not None and clerk.satellite and not development else None


def review_satellite(
    instance: Instance, report: Report, *, development: bool, sign_in_url: str | None, is_own: bool
) -> None:
    """Refuse what no satellite can do; `is_own`: the sign-in page is the gateway's."""
    clerk, at = instance.clerk, instance.at
    path: Path = (*at, "satellite")
    if not clerk.domain and not clerk.proxy_url:
        report.error(path, "needs domain: the domain that Clerk has this satellite under", "Write domain: example.org")
    if not clerk.handshake:
        message = "without handshake: true nobody is ever signed in here: sessions come from the primary domain by it"
        report.warning(path, message, "Write handshake: true, with secret_key")
    sign_in: Path = (*at, "sign_in_url")
    if sign_in_url is None and development and not report.is_broken(sign_in):
        message = "needs sign_in_url: a development instance asks the primary there who is signed in"
        report.error(path, message, "Write the URL of the primary's sign-in page, http://localhost:3000/sign-in")
    elif sign_in_url is not None and is_own:
        report.error(sign_in, "must be on the primary's domain: a satellite has no sign-in page", "Write its whole URL")


def _read_domain(value: str) -> str:
    if "/" in value:
        raise ValueError("is not a domain: write example.org, without https:// and without a path")
    return read_url(f"https://{value}").authority
