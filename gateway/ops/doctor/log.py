"""A running gateway's log, given by hand: which refusals in it are a matter of set-up, and what they come from."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

import orjson

from gateway.config import Config
from gateway.ops.doctor.clock import SET_IT
from gateway.ops.doctor.diagnosis import Diagnosis, error, ok, skipped, warning
from gateway.ops.doctor.keys import SAME_PAGE
from gateway.ops.doctor.token import FRESH

SUBJECT: Final = "log"
MOST_LINE: Final = 65_536  # bytes


class Meaning(NamedTuple):
    """What it means that there are such lines."""

    is_error: bool
    what: str
    remedy: str


REASONS: Final[Mapping[str, Meaning]] = {
    "token-invalid-authorized-parties": Meaning(
        True, "tokens of pages that are not listed, or without azp",
        "Add the pages' origins under clerk.authorized_parties (CLERK_AUTHORIZED_PARTIES); --token says which one",
    ),
    "token-invalid-issuer": Meaning(True, "tokens of another issuer", SAME_PAGE),
    "jwk-kid-mismatch": Meaning(True, "tokens signed with a key that the issuer does not publish", SAME_PAGE),
    "token-invalid-signature": Meaning(True, "tokens that the issuer's key, or jwt_key, has not signed", SAME_PAGE),
    "token-iat-in-the-future": Meaning(True, "tokens of the future: this clock is behind", SET_IT),
    "session-token-iat-in-the-future": Meaning(True, "tokens of the future: this clock is behind", SET_IT),
    "token-not-active-yet": Meaning(True, "tokens of the future: this clock is behind", SET_IT),
    "session-token-nbf": Meaning(True, "tokens of the future: this clock is behind", SET_IT),
    "token-type-mismatch": Meaning(
        True, "tokens of a kind that the route does not take",
        "Have the page call getToken() without a template, or write token: [session, template] on the route",
    ),
    "dev-browser-missing": Meaning(
        False, "cookies of a development instance without __clerk_db_jwt", "Give the gateway production keys"
    ),
    "origin": Meaning(
        False, "cookies sent by pages of other origins (403)", "Add them under cors.origins, if they are pages of yours"
    ),
    "token-expired": Meaning(False, "expired tokens", f"{FRESH}, anew for each call; or look at clock above"),
    "session-pending": Meaning(
        False, "sessions with open tasks", "Let the page finish them, or write allow_pending: true on the route"
    ),
}  # fmt: skip
EVENTS: Final[Mapping[str, Meaning]] = {
    "jwks_failed": Meaning(False, "the issuer's keys could not be fetched", "See keys above"),
    "keys_unavailable": Meaning(True, "there were no keys at the start", "See keys above"),
    "endpoint_down": Meaning(False, "an endpoint of an upstream was left alone", "See its upstream above"),
    "store_down": Meaning(False, "the store was away", "See store above"),
    "delivery_dead": Meaning(
        False, "a webhook was given up", "Run: gateway webhooks dead; then gateway webhooks replay --dead"
    ),
    "certificate_not_read": Meaning(True, "a certificate could not be used", "gateway check says why"),
}  # fmt: skip
WEBHOOK_REASONS: Final[Mapping[str, Meaning]] = {
    "signature": Meaning(
        True, "webhooks whose signature none of the configured secrets has made",
        "Copy the signing secret of this very endpoint (Clerk Dashboard, Webhooks) into CLERK_WEBHOOK_SIGNING_SECRET; "
        "each endpoint has its own, in development and production too. Nothing in between may change the body",
    ),
    "timestamp": Meaning(True, "webhooks that are more than five minutes old or early", SET_IT),
    "instance": Meaning(True, "webhooks of another Clerk instance", f"{SAME_PAGE}; or see clerk.instance_id"),
    "webhooks_not_configured": Meaning(
        True, "webhooks, but no signing secret", "Set CLERK_WEBHOOK_SIGNING_SECRET (Clerk Dashboard, Webhooks)"
    ),
}  # fmt: skip
NO_ROUTE: Final = Meaning(
    False, "requests that no route takes (404 no_route)", "Add a route, or correct what is called"
)


def log(lines: Iterable[bytes], config: Config) -> list[Diagnosis]:
    """Judge the lines of a log in JSON; others are passed over."""
    read = list(_read(lines))
    if not read:
        return [skipped(SUBJECT, "has no line of the gateway's in JSON (logs.format: json)")]
    counted = Counter(found for line in read if (found := _meaning(line, config)) is not None)
    if not counted:
        return [ok(SUBJECT, f"{len(read):,} lines, and nothing in them that the set-up would be to blame for")]
    return [_told(meaning, count) for meaning, count in counted.most_common()]


def _read(lines: Iterable[bytes]) -> Iterator[Mapping[str, Any]]:
    for line in lines:
        begin = line.find(b"{")  # behind what a collector of logs puts in front
        if begin < 0 or len(line) > MOST_LINE:
            continue
        try:
            found = orjson.loads(line[begin:])
        except orjson.JSONDecodeError:
            continue
        if isinstance(found, dict) and isinstance(found.get("event"), str):
            yield found


def _meaning(line: Mapping[str, Any], config: Config) -> Meaning | None:
    if line["event"] != "request":
        return EVENTS.get(line["event"])
    reason, code = str(line.get("reason") or ""), str(line.get("code") or "")
    if line.get("path") in config.webhooks.paths:
        return WEBHOOK_REASONS.get(reason) or WEBHOOK_REASONS.get(code)
    if code == "no_route":
        return NO_ROUTE
    return REASONS.get(_plain(reason))


def _plain(reason: str) -> str:
    return "token-expired" if reason.startswith("session-token-expired") else reason


def _told(meaning: Meaning, count: int) -> Diagnosis:
    found = f"{count:,} × {meaning.what}"
    return (error if meaning.is_error else warning)(SUBJECT, found, meaning.remedy)
