"""Which upstreams are told of which events: `upstreams.*.webhooks`."""

import re
from collections.abc import Mapping

from gateway.config.findings import Path, Report
from gateway.config.parties import Delivery, UpstreamSection
from gateway.config.webhooks import SECRETS, read_key
from gateway.core.delivery import PATTERN, Subscription
from gateway.core.model import Upstream

# With a query if need be. Sent as it stands, so nothing in it may need encoding or lead elsewhere.
PATH = re.compile(r"/(?!/)[A-Za-z0-9._~!$&'()*+,;=:@%/?-]*")
MAKE_ONE = 'Make one: whsec_ and behind it what "openssl rand -base64 32" prints'
EXAMPLE = 'Write events: ["user.*"], or "*" for every one'


def build_subscriptions(
    sections: Mapping[str, UpstreamSection], upstreams: Mapping[str, Upstream], report: Report, *, received: bool
) -> tuple[Subscription, ...]:
    """Make the subscriptions that can be made; `received` says whether webhooks come in at all."""
    made = []
    for name, section in sections.items():
        path: Path = ("upstreams", name, "webhooks")
        if section.webhooks is None:
            continue
        if not received and not report.is_broken(SECRETS):
            message = "no webhooks are taken, so there is nothing to deliver"
            report.warning(path, message, "Set clerk.webhook_signing_secrets (CLERK_WEBHOOK_SIGNING_SECRET)")
        subscription = _subscription(section.webhooks, path, report, upstream=upstreams.get(name))
        if subscription is not None:
            made.append(subscription)
    return tuple(made)


def _subscription(section: Delivery, path: Path, report: Report, *, upstream: Upstream | None) -> Subscription | None:
    where = report.tried((*path, "path"), _read_path, section.path)
    events = _read_events(section, path, report)
    key = _read_secret(section, path, report)
    if upstream is None or where is None or key is None or not events:
        return None
    return Subscription(upstream, upstream.base_path.decode() + where, events, key)


def _read_path(value: str) -> str:
    if not PATH.fullmatch(value) or any(part in (".", "..") for part in value.partition("?")[0].split("/")):
        raise ValueError("is not a path such as /webhooks/clerk, in ASCII and encoded where need be")
    return value


def _read_events(section: Delivery, path: Path, report: Report) -> tuple[str, ...]:
    at: Path = (*path, "events")
    if not section.events and not report.is_broken(at):
        report.error(at, "is missing, so nothing would be delivered", EXAMPLE)
    for number, pattern in enumerate(section.events):
        if not PATTERN.fullmatch(pattern):
            message = f'"{pattern}" is no event type: exact, such as user.created, or with * as its whole last part'
            report.error((*at, number), message, EXAMPLE)
    return section.events


def _read_secret(section: Delivery, path: Path, report: Report) -> bytes | None:
    at: Path = (*path, "secret")
    if section.secret is None:
        if not report.is_broken(at):
            report.error(at, "is missing: the upstream could not tell a delivery from anybody's request", MAKE_ONE)
        return None
    return read_key(section.secret.get_secret_value(), at, report, remedy=MAKE_ONE)
