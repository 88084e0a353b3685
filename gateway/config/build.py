"""Settings to the one `Config`, with what the keys mean together checked on the way."""

from collections.abc import Sequence
from ipaddress import ip_network

from gateway.config.admin import build_admin
from gateway.config.assertion import build_assertion
from gateway.config.backend import build_backends, build_sync
from gateway.config.clerk import build_issuers
from gateway.config.convex import review_convex
from gateway.config.cors import build_cors
from gateway.config.deliveries import build_subscriptions
from gateway.config.findings import Path, Report
from gateway.config.frontend_api import Place, review_proxies, with_frontend_apis
from gateway.config.identity import build_identity
from gateway.config.instances import instances_of
from gateway.config.machines import with_machines
from gateway.config.model import Config, IssuerConfig, LogPolicy
from gateway.config.pages import review_sign_in, with_pages
from gateway.config.rates import build_rates
from gateway.config.review import review_routes, review_upstreams
from gateway.config.routes import Surroundings, build_routes
from gateway.config.schema import Settings
from gateway.config.tls import build_listen_tls
from gateway.config.upstreams import build_upstreams
from gateway.config.urls import read_host, read_url
from gateway.config.webhooks import OTHERS, URL, build_webhooks, read_store, review_store
from gateway.core.forwarding import Network
from gateway.core.model import Limits


def build(settings: Settings, report: Report) -> Config:
    """Make the configuration, as far as it can be made: with an error in the report it is not to be used."""
    cors = build_cors(settings.cors, ("cors",), report)
    upstreams = build_upstreams(settings.upstreams, report, own_port=settings.listen.port)
    instances = instances_of(settings, report)
    names = tuple(instance.name for instance in instances) if settings.issuers else ()
    around = Surroundings(upstreams, _named(settings, report), cors, settings.limits.body_bytes, names)
    routes = build_routes(settings, around, report)
    needed = any(section.auth != "public" for section in settings.routes)
    backends = build_backends(instances, report)
    issuers = build_issuers(instances, report, needed=needed, backends=backends)
    issuers = with_machines(issuers, instances, routes, report)
    public_url = report.tried(("public_url",), read_url, settings.public_url) if settings.public_url else None
    place = Place(public_url.text if public_url else None, settings.limits.body_bytes)
    issuers = with_frontend_apis(issuers, instances, report, place=place)
    issuers = with_pages(issuers, instances, report, public_url=place.public_url)
    review_sign_in(issuers, instances, routes, report)
    if not report.is_broken(("routes",)):
        review_routes(routes, report)
        review_convex(routes, _audience(issuers), report)
        told = [name for name, section in settings.upstreams.items() if section.webhooks is not None]
        review_upstreams(upstreams, routes, report, told=told)
    store = report.tried(URL, read_store, settings.store.url) if settings.store.url else None
    if store is not None:
        review_store(store, report)
    webhooks = build_webhooks(settings.webhooks, instances, report, store=store)
    review_proxies(issuers, instances, report, routes=routes, own=(*OTHERS, *webhooks.paths))
    return Config(
        host=_host(settings.listen.host, report),
        port=settings.listen.port,
        admin=build_admin(settings.admin, report, listen=settings.listen),
        tls=build_listen_tls(settings.listen.tls, report),
        public_url=public_url.text if public_url else None,
        trusted_proxies=_networks(settings.trusted_proxies, report),
        issuers=issuers,
        routes=routes,
        cors=cors,
        identity=build_identity(settings.identity, report, has_store=store is not None, identifies=needed),
        assertion=build_assertion(
            settings.identity,
            report,
            public_url=public_url.text if public_url else None,
            is_told=any(route.auth != "public" and route.upstream.identity for route in routes),
        ),
        rates=build_rates(settings.rate_limits, ("rate_limits",), report),
        limits=Limits(**settings.limits.model_dump()),
        store=store,
        webhooks=webhooks,
        subscriptions=build_subscriptions(settings.upstreams, upstreams, report, received=webhooks),
        backends=backends,
        sync=build_sync(settings.sync, report, backends=backends, several=len(instances) > 1, store=store),
        logs=LogPolicy(**settings.logs.model_dump()),
        drain_s=settings.drain_s,
        drain_delay_s=settings.drain_delay_s,
        warnings=tuple(finding for finding in report.sorted() if finding.level != "error"),
        source=report.file,
    )


def _audience(issuers: Sequence[IssuerConfig]) -> frozenset[str]:
    """Give what `aud` may be whosever token it is: nothing (anything) as soon as one issuer does not look at it."""
    audiences = [issuer.token_policy.audience for issuer in issuers]
    return frozenset().union(*audiences) if all(audiences) else frozenset()


def _named(settings: Settings, report: Report) -> frozenset[str]:
    """Name the upstreams of the file, broken ones too: that a route leads to one is not another error."""
    written = {str(path[1]) for path in report.places if len(path) == 2 and path[0] == "upstreams"}
    return frozenset(settings.upstreams.keys() | written)


def _host(value: str, report: Report) -> str:
    path: Path = ("listen", "host")
    remedy = 'Write an address, such as 0.0.0.0 or "::"'
    return report.tried(path, read_host, value.strip("[]"), remedy=remedy) or value


def _networks(values: tuple[str, ...], report: Report) -> tuple[Network, ...]:
    path: Path = ("trusted_proxies",)
    networks = []
    for value in values:
        if value == "*":
            remedy = "Name the networks of your proxies, such as 10.0.0.0/8"
            report.error(path, '"*": then every client could choose its own address', remedy)
            continue
        network = report.tried(path, _network, value)
        if network is None:
            continue
        if network.prefixlen == 0:
            report.insecure(path, f"{network}: every client may say it is somebody else", "Name your proxies' networks")
        networks.append(network)
    return tuple(networks)


def _network(value: str) -> Network:
    try:
        return ip_network(value)
    except ValueError:
        pass
    try:
        meant = ip_network(value, strict=False)
    except ValueError:
        raise ValueError(f'"{value}" is not a network: write 10.0.0.0/8, or one address') from None
    raise ValueError(f'"{value}" is an address within a network: write {meant} for the network')
