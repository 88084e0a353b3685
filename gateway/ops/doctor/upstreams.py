"""Upstreams: what is asked of each endpoint, as the gateway would put a request to it, and what the answers mean."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from gateway.config import Config
from gateway.core.model import Endpoint, Upstream
from gateway.ops.doctor.asking import Answer, Asked, Unreached
from gateway.ops.doctor.diagnosis import Diagnosis, error, ok, quoted, warning
from gateway.ops.doctor.keys import trouble

REDIRECTS: Final = (301, 302, 303, 307, 308)
CONVEX_PROBE: Final = "/version"  # what every Convex deployment answers on .convex.cloud
PLAIN_HTTP: Final = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "UNKNOWN_PROTOCOL", "HTTP_REQUEST")
CLOUD: Final = ".convex.cloud"


@dataclass(frozen=True, slots=True)
class Question:
    """A GET of an endpoint."""

    upstream: Upstream
    endpoint: Endpoint
    path: str
    host: str  # Host
    fields: Mapping[str, str] = field(default_factory=dict)  # X-Forwarded-*

    @property
    def subject(self) -> str:
        """What it is about."""
        return f"upstream {self.upstream.name}"

    @property
    def url(self) -> str:
        """Where it goes."""
        return f"{self.root}{self.path}"

    @property
    def root(self) -> str:
        """The endpoint's address."""
        return f"{'https' if self.endpoint.tls else 'http'}://{self.endpoint.label}"

    @property
    def is_health(self) -> bool:
        """Whether it is the one that health checks ask."""
        return self.path == self.upstream.health.path

    @property
    def own_host(self) -> str:
        """The Host that is the endpoint's own."""
        return self.endpoint.authority.decode() or self.endpoint.label


def questions(config: Config) -> list[Question]:
    """Say what to ask: each endpoint that is in use once, and once more by its own name where clients' Host goes on."""
    policies = (issuer.frontend_api for issuer in config.issuers)
    proxies = (policy.proxy for policy in policies if policy is not None and policy.proxy is not None)
    routes = (*config.routes, *(proxy.route for proxy in proxies))
    used = dict.fromkeys((*(route.upstream for route in routes), *(told.upstream for told in config.subscriptions)))
    return [question for upstream in used for end in upstream.endpoints for question in _of(config, upstream, end)]


def _of(config: Config, upstream: Upstream, endpoint: Endpoint) -> Iterable[Question]:
    own = endpoint.authority.decode() or endpoint.label
    if upstream.health.path is not None:
        yield Question(upstream, endpoint, upstream.health.path, own)
    base = upstream.base_path.decode()
    path = CONVEX_PROBE if upstream.convex and own.partition(":")[0].endswith(CLOUD) else "/"
    host = _clients_host(config, upstream)
    if upstream.convex or not upstream.preserve_host or host is None:
        yield Question(upstream, endpoint, base + path, own, {} if upstream.convex else _forwarded(config, host or own))
        return
    yield Question(upstream, endpoint, base + path, host, _forwarded(config, host))
    if host != own:
        yield Question(upstream, endpoint, base + path, own, _forwarded(config, host))
        # A Convex deployment behind a name of its own says nothing at / but this.
        yield Question(upstream, endpoint, base + CONVEX_PROBE, own)


def _clients_host(config: Config, upstream: Upstream) -> str | None:
    """Give the host that clients use, as far as the configuration tells."""
    if config.public_url is not None:
        return urlsplit(config.public_url).netloc
    hosts = (route.host for route in config.routes if route.upstream == upstream)
    return next((host for host in hosts if host is not None and not host.startswith("*.")), None)


def _forwarded(config: Config, host: str) -> dict[str, str]:
    """Write what the gateway would say of a client, with the scheme that clients use as far as that is known."""
    scheme = urlsplit(config.public_url).scheme if config.public_url else ("https" if config.tls else "http")
    return {"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Proto": scheme, "X-Forwarded-Host": host}


# --- what the answers mean --------------------------------------------------------------------------------------------


def endpoint(asked: Sequence[tuple[Question, Asked]]) -> list[Diagnosis]:
    """Judge what one endpoint answered to all that it was asked."""
    found = [fault for question, answer in asked if (fault := _fault(question, answer)) is not None]
    if fault := _wrong_host(asked):
        return [fault]
    if found:
        # One that cannot be reached is so whatever it is asked.
        return list(dict.fromkeys(found))[: 1 if any(isinstance(each, Unreached) for _, each in asked) else 2]
    question, answer = asked[0]
    assert isinstance(answer, Answer)
    where = f"{question.root}{question.path}" if question.is_health else question.root
    return [ok(question.subject, f"{where} answers{f' {answer.status}' if question.is_health else ''}")]


def _fault(question: Question, asked: Asked) -> Diagnosis | None:
    if isinstance(asked, Unreached):
        return _unreached(question, asked)
    location = asked.fields.get("location", "")
    if asked.status == 400 and not question.endpoint.tls and b"plain http" in asked.body[:4096].lower():
        remedy = f"Write upstreams.{question.upstream.name}.url: https://{question.endpoint.label}"
        return error(question.subject, f"{question.root} wants TLS and is spoken to in plain HTTP", remedy)
    if asked.status in REDIRECTS and location.lower().startswith("https:"):
        return _redirected(question, asked.status, location)
    if question.upstream.convex and asked.status == 404 and not asked.body:
        return _no_deployment(question)
    if question.is_health and not 200 <= asked.status < 400:
        found = (
            f"{question.url}: its health check is answered {asked.status}, so it is left out (503 no_healthy_endpoint)"
        )
        remedy = f"See the upstream's own log; or is upstreams.{question.upstream.name}.health.path another one?"
        return error(question.subject, found, remedy)
    if asked.status == 421:
        found = f"{question.root} answers 421: it is another server's name it was asked by, {quoted(question.host)}"
        return error(question.subject, found, _own_host_remedy(question))
    if asked.status >= 500:
        return warning(question.subject, f"{question.url} answers {asked.status}", "See the upstream's own log")
    return None


def _unreached(question: Question, asked: Unreached) -> Diagnosis:
    name, label = question.upstream.name, question.endpoint.label
    found = f"{question.root}: {trouble(asked)}, so requests get 502 upstream_unreachable"
    host = question.endpoint.host
    if asked.why == "tls" and asked.detail in PLAIN_HTTP:
        found = f"{question.root}: speaks no TLS"
        return error(question.subject, found, f"Write upstreams.{name}.url: http://{label}, or let it speak TLS there")
    remedies = {
        "dns": f"Check the host in upstreams.{name}.url; in a container it is the service's name, in the same network",
        "refused": "Start it, or correct its port. In a container 127.0.0.1 is the container itself: write the "
        "service's name, or host.docker.internal; and the service must listen on 0.0.0.0",
        "timeout": "Look at firewalls and security groups between here and there, and whether it hangs",
        "tls": f"Its certificate must name {question.upstream.tls.server_name or host} and be of an authority that is "
        f"known here: set upstreams.{name}.tls.server_name, or tls.ca to the authority's file",
        "not-http": f"Check the port in upstreams.{name}.url: what listens there does not speak HTTP/1.1",
        "link-local": "The gateway never calls link-local addresses: check the name's DNS records",
        "failed": "Look at the network between here and there",
    }  # fmt: skip
    if asked.why == "tls" and "TLSV13_ALERT_CERTIFICATE_REQUIRED" in asked.detail.upper():
        return error(
            question.subject, found, f"It wants to see a certificate: upstreams.{name}.tls.client_cert, client_key"
        )
    return error(question.subject, found, remedies[asked.why])


def _redirected(question: Question, status: int, location: str) -> Diagnosis | None:
    try:
        target = urlsplit(location).netloc.lower()
    except ValueError:
        return None  # leads nowhere
    name = question.upstream.name
    if question.fields.get("X-Forwarded-Proto") == "https" and target in (question.host, question.own_host):
        found = (
            f"{question.root} answers {status} to https although X-Forwarded-Proto says https: clients go in circles"
        )
        remedy = (
            "Have it believe X-Forwarded-Proto of the gateway (Django: SECURE_PROXY_SSL_HEADER; Express: trust proxy; "
            f"Rails: config.assume_ssl), or write upstreams.{name}.url: https://…"
        )
        return error(question.subject, found, remedy)
    if target.partition(":")[0] in (question.host.partition(":")[0], question.endpoint.host):
        found = f"{question.root} answers {status} to https://{target}: it wants to be asked over https"
        remedy = (
            f"Write upstreams.{name}.url: https://{question.endpoint.host}, or, where clients come by https, say so: "
            "public_url: https://…, and trusted_proxies for what ends TLS in front of the gateway"
        )
        return error(question.subject, found, remedy)
    return None  # to a sign-in page, or wherever else: clients follow it


def _wrong_host(asked: Sequence[tuple[Question, Asked]]) -> Diagnosis | None:
    """Tell an upstream that knows its own name only, and Convex above all, by what it answers to both."""
    by_host = {
        (question.host == question.own_host, question.path.endswith(CONVEX_PROBE)): (question, answer)
        for question, answer in asked
        if not question.is_health and isinstance(answer, Answer)
    }
    clients, own = by_host.get((False, False)), by_host.get((True, False))
    if clients is None or own is None:
        return None
    (question, theirs), (_, its) = clients, own
    assert isinstance(theirs, Answer)
    assert isinstance(its, Answer)
    convex = by_host.get((True, True))
    if theirs.status == 404 and not theirs.body and convex is not None and _is_convex_version(convex[1]):
        found = f"{question.root} is Convex, which knows no {quoted(question.host)}, the client's Host: empty 404s"
        return error(question.subject, found, f"Write upstreams.{question.upstream.name}.kind: convex")
    if theirs.status in (400, 403, 404, 421) and its.status < 400:
        found = (
            f"{question.root} answers {theirs.status} to the client's Host, {quoted(question.host)}, and {its.status} "
            f"to its own, {quoted(question.own_host)}"
        )
        return error(question.subject, found, _own_host_remedy(question))
    return None


def _own_host_remedy(question: Question) -> str:
    name = question.upstream.name
    return f"Write upstreams.{name}.host_header: upstream, or have it take that name (Django: ALLOWED_HOSTS)"


def _is_convex_version(asked: Asked) -> bool:
    text = asked.body.strip() if isinstance(asked, Answer) and asked.status == 200 else b""
    return 0 < len(text) <= 64 and b"<" not in text and text.count(b".") in (0, 2)


def _no_deployment(question: Question) -> Diagnosis:
    found = (
        f"{question.root}: an empty 404, by which Convex says that no deployment has the name {quoted(question.host)}"
    )
    remedy = (
        f"Check the deployment's name in upstreams.{question.upstream.name}.url (npx convex dashboard: Settings, URL); "
        "a custom domain must be one of this deployment"
    )
    return error(question.subject, found, remedy)
