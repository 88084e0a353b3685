"""The gateway itself and what stands in front of it: whether it runs here, `public_url`, proxies, its webhooks."""

from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import orjson

from gateway.config import Config
from gateway.core.routing import Route
from gateway.ops.doctor.asking import Answer, Asked, Unreached
from gateway.ops.doctor.diagnosis import Diagnosis, error, listed, ok, quoted, skipped, warning
from gateway.ops.doctor.evidence import Evidence
from gateway.ops.doctor.keys import trouble
from gateway.ops.doctor.upstreams import REDIRECTS
from gateway.web.admin_routes import described

EVERYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # where to find what listens everywhere
PROXY: Final = ("via", "cf-ray")  # an answer has these of something in between only
RUN: Final = "gateway run"
TRUST: Final = "Write its networks under trusted_proxies, such as [10.0.0.0/8]"
UNTRUSTED: Final = (
    "upstreams see the proxy's address as the client's, rate_limits.by_ip count all clients as one, and what scheme a "
    "page came by is not known"
)


def local_url(config: Config) -> str | None:
    """Say where the gateway would be found on this machine; None where it cannot be."""
    if config.port == 0 or (config.tls is not None and config.tls.client_ca is not None):
        return None
    host = EVERYWHERE.get(config.host, config.host)
    return f"{'https' if config.tls else 'http'}://{f'[{host}]' if ':' in host else host}:{config.port}"


def admin_url(config: Config) -> str | None:
    """Say where the running gateway's operators ask; None where nobody is answered."""
    admin = config.admin
    if admin is None or admin.port == 0 or admin.token is None:
        return None
    host = EVERYWHERE.get(admin.host, admin.host)
    return f"http://{f'[{host}]' if ':' in host else host}:{admin.port}"


def gateway_here(config: Config, ready: Asked | None) -> Diagnosis:
    """Judge what listens at the gateway's own port here: what `/readyz` was answered."""
    subject, where = "gateway", f"{config.host}:{config.port}"
    if ready is None:
        return skipped(subject, "is not looked for: it takes any free port, or asks for a client's certificate")
    if isinstance(ready, Unreached):
        if ready.why in ("not-http", "tls"):
            return _stranger(subject, where)
        return skipped(
            subject, f"does not run on {where}, as seen from here: what only a running one tells is left out"
        )
    said = _json(ready)
    code, status = said.get("code"), said.get("status")
    if ready.status == 503 and code == "keys_unavailable":
        found = f"runs on {where}, but has had no keys since it started: every token gets 503"
        return error(subject, found, "See keys above; the log says why as jwks_failed")
    if ready.status == 503 and code == "draining":
        return warning(subject, f"on {where} is stopping", "Wait until it has, and start the next one")
    if ready.status != 200 or status not in ("ok", "degraded"):
        return _stranger(subject, where)
    if status == "degraded":
        found = f"runs on {where}, degraded: an upstream has no healthy endpoint, or the store is away"
        return warning(subject, found, "The log says which: endpoint_down, store_down")
    return ok(subject, f"runs on {where}")


def _stranger(subject: str, where: str) -> Diagnosis:
    found = f"what listens on {where} is something else"
    return error(subject, found, "Stop that, or give the gateway another port (listen.port, GATEWAY_PORT)")


def is_running(asked: Asked | None) -> bool:
    """Say whether it was a gateway that answered, as it does for `/healthz` and `/readyz`."""
    said = _json(asked) if asked is not None else {}
    return said.get("status") in ("ok", "degraded") or said.get("code") in ("keys_unavailable", "draining")


def _json(asked: Asked) -> Mapping[str, Any]:
    try:
        said = orjson.loads(asked.body) if isinstance(asked, Answer) else None
    except orjson.JSONDecodeError:
        return {}
    return said if isinstance(said, dict) else {}


# --- public_url -------------------------------------------------------------------------------------------------------


def public(config: Config, asked: Asked | None, *, runs_here: bool) -> list[Diagnosis]:
    """Judge what `/healthz` below `public_url` was answered."""
    subject, url = "public_url", config.public_url
    if url is None or asked is None:
        return []
    if isinstance(asked, Unreached):
        found, remedy = f"{url}: {trouble(asked)}", _unreached(asked)
        # Some networks do not let a machine reach itself by its public name.
        return [error(subject, found, remedy) if asked.why in ("dns", "tls") else warning(subject, found, remedy)]
    if asked.status in REDIRECTS:
        target = asked.fields.get("location", "elsewhere").partition("?")[0]
        found = f"{url}/healthz answers {asked.status} to {quoted(target)}: handshakes and webhooks would go astray"
        return [error(subject, found, "Write the address that does not redirect, with its scheme and www")]
    if asked.status == 200 and _json(asked).get("status") == "ok":
        return [ok(subject, f"{url} leads to a gateway")]
    if asked.status in (502, 503, 504) and not runs_here:
        found = f"{url} answers {asked.status}, and no gateway runs here"
        return [warning(subject, found, f"Start it ({RUN}) and ask again")]
    what = "a web page" if asked.is_html else f"{asked.status}"
    found = f"{url}/healthz does not lead to the gateway: it is answered with {what}"
    remedy = "Let DNS and whatever stands in front lead it here, with all its paths; or write another public_url"
    return [error(subject, found, remedy)]


def _unreached(asked: Unreached) -> str:
    return {
        "dns": "Make its DNS record, or correct public_url",
        "tls": "Its certificate must be of that name and good: look at whatever ends TLS there",
        "refused": f"Start the gateway ({RUN}) and what stands in front; from here its own public address may be shut",
    }.get(asked.why, "Look at what stands in front; from here its own public address may be shut")


# --- proxies ----------------------------------------------------------------------------------------------------------


def proxies(config: Config, evidence: Evidence, public_answer: Asked | None) -> list[Diagnosis]:
    """Find a proxy in front of the gateway that `trusted_proxies` does not name."""
    signs = list(_signs(config, evidence, public_answer))
    if config.trusted_proxies:
        return [ok("trusted_proxies", f"{listed(map(str, config.trusted_proxies))} may say who a client is")]
    if not signs:
        return []
    found = f"a proxy stands in front ({listed(signs)}), and none is named: {UNTRUSTED}"
    return [warning("trusted_proxies", found, TRUST)]


def _signs(config: Config, evidence: Evidence, answer: Asked | None) -> Sequence[str]:
    signs = [f"the request had {name}" for name in evidence.proxied]
    if config.public_url is not None and config.tls is None and urlsplit(config.public_url).scheme == "https":
        signs.append("public_url is https, listen.tls is not set")
    if isinstance(answer, Answer):
        signs += [f"public_url answers with {name}" for name in PROXY if name in answer.fields]
    return signs


# --- the webhook address ----------------------------------------------------------------------------------------------


def webhook_address(subject: str, url: str, asked: Asked | None) -> list[Diagnosis]:
    """Judge what a delivery without an event was answered, which the configured secret has signed.

    A gateway refuses it whatever happens: by its reason `event` one sees that the signature was good.
    """
    if not isinstance(asked, Answer):
        return []
    said = _json(asked)
    if asked.status == 400 and said.get("reason") == "event":
        return [ok(subject, f"{url} takes what the configured secret has signed")]
    if asked.status == 400 and said.get("reason") == "signature":
        found = (
            f"{url} refuses what the configured secret has signed: the gateway there has another one (400 signature)"
        )
        return [error(subject, found, "Give the running gateway this secret: gateway reload, or restart it")]
    if asked.status == 400 and said.get("reason") == "timestamp":
        found = f"{url} refuses the time: its clock and this one's are more than five minutes apart (400 timestamp)"
        return [error(subject, found, "Set both clocks: Clerk's webhooks would be refused too")]
    if asked.status == 503 and said.get("code") == "webhooks_not_configured":
        found = f"{url} has no signing secret, although one is configured here (503 webhooks_not_configured)"
        return [error(subject, found, "Reload or restart the running gateway")]
    if asked.status in REDIRECTS:
        found = f"{url} answers {asked.status}: Clerk follows no redirect, so no webhook arrives"
        return [error(subject, found, "Give Clerk the address that does not redirect (Dashboard, Webhooks)")]
    found = f"{url} does not lead to the gateway's webhook address: status {asked.status}"
    remedy = "Let whatever stands in front pass that path on, POST and body unchanged, without asking for a sign-in"
    return [warning(subject, found, remedy)]


def signer(url: str, asked: Asked) -> list[Diagnosis]:
    """Judge whether the keys that assertions are signed with are where upstreams look for them."""
    subject = "assertion"
    if not isinstance(asked, Answer):
        return []
    published = _json(asked).get("keys")
    if asked.status == 200 and isinstance(published, list) and published:
        return [ok(subject, f"{url} has {len(published)} key{'s' if len(published) > 1 else ''}")]
    found = f"{url} has no keys (status {asked.status}): upstreams cannot verify the assertion"
    remedy = (
        "Give the running gateway this configuration: gateway reload, or restart it; and let whatever stands in front "
        "pass that path on. The gateway's log says why there is nothing to sign with"
    )
    return [error(subject, found, remedy)]


# --- what the running one says ----------------------------------------------------------------------------------------


def running_routes(config: Config, asked: Asked | None) -> list[Diagnosis]:
    """Judge what the admin listener says of the routes in force."""
    if not isinstance(asked, Answer):
        return []
    if asked.status == 401:
        other = "the running gateway has another admin.token than this configuration"
        return [
            warning("admin", other, "Give both the same GATEWAY_ADMIN_TOKEN; restart the gateway if it was changed")
        ]
    told = _json(asked).get("data")
    routes = [each for each in told if isinstance(each, dict)] if isinstance(told, list) else []
    if asked.status != 200 or not routes:
        return []
    found: list[Diagnosis] = []
    if not _are_those(routes, config.routes):
        found.append(warning("admin", "the running gateway has other routes than this file", "Run: gateway reload"))
    down = {end.get("address"): each.get("upstream") for each in routes for end in each.get("endpoints") or ()
            if isinstance(end, dict) and end.get("up") is False}  # fmt: skip
    for address, name in down.items():
        remedy = "See the upstream's own log; the gateway's has it as endpoint_down, with the reason"
        found.append(warning(f"upstream {name}", f"{address} is left alone by the running gateway", remedy))
    return found or [ok("admin", "the running gateway has these routes, and no endpoint is left alone")]


def _are_those(told: Sequence[dict[str, Any]], routes: Sequence[Route]) -> bool:
    """Say whether routes are those of the file, as far as a gateway tells, which may be of another version."""
    ours = [orjson.loads(orjson.dumps(described(route), default=str)) for route in routes]
    return len(told) == len(ours) and all(
        theirs.get(key) == value
        for theirs, own in zip(told, ours, strict=True)
        for key, value in own.items()
        if key == "name" or key in theirs
    )
