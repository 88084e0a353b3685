"""Which upstreams are told of which events: `upstreams.*.webhooks`."""

import re
from collections.abc import Mapping

from gateway.config.findings import Path, Report, closest, did_you_mean
from gateway.config.instances import CLERK, ISSUERS
from gateway.config.parties import Delivery, UpstreamSection
from gateway.config.webhooks import PATH as RECEIVED_AT
from gateway.config.webhooks import read_key, signing_key
from gateway.core.delivery import PATTERN, Subscription, is_wanted
from gateway.core.events import TYPES, WebhookPolicy
from gateway.core.model import Upstream

# With a query if need be. Sent as it stands, so nothing in it may need encoding or lead elsewhere.
PATH = re.compile(r"/(?!/)[A-Za-z0-9._~!$&'()*+,;=:@%/?-]*")
MAKE_ONE = 'Make one: whsec_ and behind it what "openssl rand -base64 32" prints'
EXAMPLE = 'Write events: ["user.*"], or "*" for every one'
KNOWN = (*TYPES, *dict.fromkeys(f"{kind.partition('.')[0]}.*" for kind in TYPES))
CATALOGUE = "Should Clerk have it (Dashboard, Webhooks, Event Catalog), it is delivered all the same"


def build_subscriptions(
    sections: Mapping[str, UpstreamSection],
    upstreams: Mapping[str, Upstream],
    report: Report,
    *,
    received: WebhookPolicy,
) -> tuple[Subscription, ...]:
    """Make the subscriptions that can be made to the webhooks that are `received`."""
    clerks = frozenset(map(signing_key, received.secrets))
    made = []
    for name, section in sections.items():
        path: Path = ("upstreams", name, "webhooks")
        if section.webhooks is None:
            continue
        if not received.needs_store and not report.is_broken(CLERK, ISSUERS, RECEIVED_AT):
            report.warning(path, "no webhooks are taken, so there is nothing to deliver", _how_to_receive(received))
        subscription = _subscription(section.webhooks, path, report, upstream=upstreams.get(name), clerks=clerks)
        if subscription is not None:
            made.append(subscription)
    return tuple(made)


def _how_to_receive(policy: WebhookPolicy) -> str:
    missing = {
        "webhooks.path (/webhooks/clerk)": not policy.paths,
        "clerk.webhook_signing_secrets (CLERK_WEBHOOK_SIGNING_SECRET)": not policy.secrets,
    }
    return "Set " + " and ".join(key for key, is_missing in missing.items() if is_missing)


def _subscription(
    section: Delivery, path: Path, report: Report, *, upstream: Upstream | None, clerks: frozenset[bytes]
) -> Subscription | None:
    where = report.tried((*path, "path"), _read_path, section.path)
    events = _read_events(section, path, report)
    key = _read_secret(section, path, report, clerks=clerks)
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
        elif not any(is_wanted((pattern,), kind) for kind in TYPES):
            message = f'"{pattern}" matches no event type that Clerk is known to have'
            report.warning((*at, number), message, did_you_mean(_meant(pattern)) or CATALOGUE)
    return section.events


def _meant(pattern: str) -> str | None:
    """Find the known pattern that one most resembles, in whatever case."""
    known = {each.lower(): each for each in KNOWN}
    return known.get(closest(pattern.lower(), known) or "")


def _read_secret(section: Delivery, path: Path, report: Report, *, clerks: frozenset[bytes]) -> bytes | None:
    at: Path = (*path, "secret")
    if section.secret is None:
        if not report.is_broken(at):
            report.error(at, "is missing: the upstream could not tell a delivery from anybody's request", MAKE_ONE)
        return None
    key = read_key(section.secret.get_secret_value(), at, report, remedy=MAKE_ONE)
    if key in clerks:
        message = (
            "is one of clerk.webhook_signing_secrets: who receives here could tell the gateway whatever Clerk could"
        )
        report.insecure(at, message, MAKE_ONE)
    return key
