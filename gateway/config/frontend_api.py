"""Clerk's Frontend API behind a proxy: where the proxy is, and what the gateway needs to be it."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

from gateway.config.findings import Path, Report
from gateway.config.instances import Instance
from gateway.config.model import IssuerConfig
from gateway.config.parties import Clerk
from gateway.config.review import covers_path
from gateway.config.upstreams import read_prefix
from gateway.config.urls import Url, is_loopback, read_outbound, read_url
from gateway.config.webhooks import PLAIN
from gateway.core.balance import RetryPolicy
from gateway.core.frontend_api import FrontendApiPolicy, FrontendApiProxy
from gateway.core.model import Endpoint, Upstream
from gateway.core.routing import PathPattern, Route

PUBLIC_URL: Path = ("public_url",)
EXAMPLE = "/__clerk"
USUAL = Clerk().frontend_api_url


class Place(NamedTuple):
    """What a proxy takes from the rest of the file."""

    public_url: str | None
    body_bytes: int


def with_frontend_apis(
    issuers: Sequence[IssuerConfig], instances: Sequence[Instance], report: Report, *, place: Place
) -> tuple[IssuerConfig, ...]:
    """Add to each issuer what stands before its Frontend API."""
    by_name = {issuer.name: issuer for issuer in issuers}
    for instance in instances:
        if instance.clerk.proxy_path and instance.name not in by_name and not report.is_broken(instance.at):
            remedy = 'Write publishable_key: "${CLERK_PUBLISHABLE_KEY}" beside it'
            report.error((*instance.at, "proxy_path"), "needs to know whose Frontend API it is", remedy)
    return tuple(
        _with_frontend_api(by_name[instance.name], instance, report, place=place)
        for instance in instances if instance.name in by_name
    )  # fmt: skip


def _with_frontend_api(issuer: IssuerConfig, instance: Instance, report: Report, *, place: Place) -> IssuerConfig:
    """Add it to one; its tokens may then name that proxy as their issuer (CLERK §2.5)."""
    _review(instance, report, development=issuer.credentials.development)
    policy = _build(instance, report, place=place)
    if policy is None:
        return issuer
    tokens = issuer.token_policy
    tokens = replace(tokens, issuers=tokens.issuers | {policy.proxy_url})
    return replace(issuer, frontend_api=policy, token_policy=tokens)


def _build(instance: Instance, report: Report, *, place: Place) -> FrontendApiPolicy | None:
    name, at, clerk = instance
    path = report.tried((*at, "proxy_path"), _read_path, clerk.proxy_path) if clerk.proxy_path else None
    url = report.tried((*at, "proxy_url"), _read_proxy_url, clerk.proxy_url) if clerk.proxy_url else None
    api = report.tried((*at, "frontend_api_url"), _read_api, clerk.frontend_api_url)
    if not clerk.proxy_url and path is not None and not report.is_broken(PUBLIC_URL):
        url = _default_url(path, (*at, "proxy_path"), report, public_url=place.public_url)
    if url is None:
        return None
    if path is not None and not url.endswith(path):
        message = f"does not end in proxy_path, {path}: is there a proxy before the gateway that adds it?"
        report.warning((*at, "proxy_url"), message, f"If not, write https://HOST{path}")
    if path is None or api is None or clerk.secret_key is None:
        return FrontendApiPolicy(url)
    route = _route(f"{name}:frontend-api", path, api, body_bytes=place.body_bytes)
    return FrontendApiPolicy(url, FrontendApiProxy(url, route, clerk.secret_key.get_secret_value()))


def _default_url(path: str, at: Path, report: Report, *, public_url: str | None) -> str | None:
    if public_url is not None:
        return report.tried(PUBLIC_URL, _read_proxy_url, public_url + path)
    remedy = f"Write proxy_url: https://api.example.com{path} beside it, or the gateway's public_url"
    report.error(at, "needs a public URL: Clerk has to be told where the proxy is", remedy)
    return None


def _read_path(value: str) -> str:
    if not value.startswith("/"):
        raise ValueError(f'"{value}" does not begin with a slash: write {EXAMPLE}')
    path = read_prefix(value)
    if not path:
        raise ValueError(f"would leave no path to the routes: write one of its own, such as {EXAMPLE}")
    if not PLAIN.fullmatch(path):
        raise ValueError(f"is not a plain path, such as {EXAMPLE}: letters, digits and - . _ ~ between slashes")
    return path


def _read_api(value: str) -> Url:
    url = read_outbound(value)
    return url._replace(path=read_prefix(url.path))


def _read_proxy_url(value: str) -> str:
    if value.startswith("/"):
        raise ValueError("is a path: write the whole URL, such as https://api.example.com/__clerk")
    url = read_url(value)
    if url.scheme == "http" and not is_loopback(url.host):
        raise ValueError("must be https: users sign in there")
    return url.text


def _review(instance: Instance, report: Report, *, development: bool) -> None:
    _, at, clerk = instance
    if development and (clerk.proxy_path or clerk.proxy_url):
        key = "proxy_path" if clerk.proxy_path else "proxy_url"
        message = "this is a development instance, and Clerk has no proxy for those: it refuses what comes this way"
        report.warning((*at, key), message, "Leave it out, or take the keys of a production instance")
    if clerk.proxy_path is None:
        if clerk.frontend_api_url != USUAL:
            message = "is not used, because proxy_path is not set"
            report.warning((*at, "frontend_api_url"), message, f"Write proxy_path: {EXAMPLE}, or leave it out")
        return
    if clerk.secret_key is None and not report.is_broken((*at, "secret_key")):
        remedy = 'Write secret_key: "${CLERK_SECRET_KEY}" beside it, or leave proxy_path out'
        message = "needs secret_key: Clerk takes requests from a proxy only with it"
        report.error((*at, "proxy_path"), message, remedy)


def _route(name: str, path: str, api: Url, *, body_bytes: int) -> Route:
    """Make what a route of the file would be: limits and time-outs of forwarded requests, nobody asked who he is."""
    endpoint = Endpoint(api.host, api.port, api.scheme == "https", api.authority.encode())
    # No second try: what a GET of Clerk's has used up, such as a provider's code, it refuses the next time.
    upstream = Upstream(
        name, (endpoint,), api.path.encode(), preserve_host=False, identity=False, forward_token=True,
        retries=RetryPolicy(attempts=0),
    )  # fmt: skip
    return Route(
        name, PathPattern(path, below=True), upstream, auth="public", strip_segments=path.count("/"),
        add_prefix=upstream.base_path, max_body_bytes=body_bytes, forward_token=True,
    )  # fmt: skip


def review_proxies(
    issuers: Sequence[IssuerConfig], instances: Sequence[Instance], report: Report, *, routes: Sequence[Route],
    own: Iterable[str],
) -> None:  # fmt: skip
    """Refuse proxies in each other's way or over another of the gateway's `own` addresses; warn of routes below."""
    places = {instance.name: instance.at for instance in instances}
    patterns: list[PathPattern] = []
    urls: set[str] = set()
    for issuer in issuers:
        policy, at = issuer.frontend_api, places[issuer.name]
        if policy is not None and policy.proxy_url in urls:
            report.error((*at, "proxy_url"), "is another instance's too", "Each has its own: tokens are told by it")
        urls |= {policy.proxy_url} if policy is not None else set()
        if policy is None or policy.proxy is None:
            continue
        path, pattern = (*at, "proxy_path"), policy.proxy.route.pattern
        for address in filter(pattern.matches, own):
            report.error(path, f"{address} is another of the gateway's own addresses", f"Use {EXAMPLE}")
        for other in patterns:
            if covers_path(other, pattern) or covers_path(pattern, other):
                report.error(path, f"is in the way of another instance's, {other.text}", "Choose another path")
        for index, route in enumerate(routes):
            if covers_path(pattern, route.pattern):
                message = f"never matches: its requests go to Clerk's Frontend API, for proxy_path is {pattern.text}"
                report.warning(("routes", index), message, "Take it away, or choose another proxy_path")
        patterns.append(pattern)
