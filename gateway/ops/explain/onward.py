"""What would be sent on: to whom, as what, and what of the client's header would stay behind, and why."""

from collections.abc import Iterator
from typing import NamedTuple

from gateway.core.headers import HOP_BY_HOP, Outbound, folded
from gateway.core.identity import unusable_headers
from gateway.core.model import Identified
from gateway.core.routing import Route
from gateway.ops.explain.run import Course
from gateway.ops.explain.step import Step, listed, note

HOPS = frozenset(map(folded, HOP_BY_HOP))
OURS = {
    "host": "replaced by the upstream's own (host_header: upstream)",
    "authorization": "Clerk's credential stays here (forward_token: false)",
    "content-length": "framing is made anew", "transfer-encoding": "framing is made anew",
    "expect": "the gateway answers it", "tracestate": "goes on only with a trusted proxy's traceparent",
    "x-request-id": "only a trusted proxy's is taken", "traceparent": "only a trusted proxy's is taken",
    "sec-websocket-protocol": "goes on without the gateway's own entries, and only with a WebSocket's handshake",
    "sec-websocket-extensions": "compressed messages could not be judged (kind: convex)",
}  # fmt: skip


class Onward(NamedTuple):
    """A request as an upstream would get it."""

    upstream: str
    endpoints: tuple[str, ...]  # one of these
    method: str
    target: str
    fields: tuple[tuple[str, str], ...]
    dropped: tuple[tuple[str, str], ...]  # name, why


def onward_of(course: Course, outbound: Outbound) -> Onward:
    """Take the head apart that would be sent, and compare it with what came."""
    upstream = outbound.route.upstream
    line, *lines = outbound.head_for(upstream.endpoints[0]).decode("latin-1").split("\r\n")
    method, _, rest = line.partition(" ")
    fields = tuple((name, value) for name, _, value in (each.partition(": ") for each in lines))
    endpoints = tuple(f"{'https' if each.tls else 'http'}://{each.label}" for each in upstream.endpoints)
    dropped = tuple(_dropped(course, outbound, fields))
    return Onward(upstream.name, endpoints, method, rest.rpartition(" ")[0], fields, dropped)


def _dropped(course: Course, outbound: Outbound, sent: tuple[tuple[str, str], ...]) -> Iterator[tuple[str, str]]:
    assert course.received is not None
    there = {(name.lower(), value) for name, value in sent}
    names = {name for name, _ in there}
    for raw, value in course.received.message.raw_headers:
        name, low = raw.decode("latin-1"), raw.decode("latin-1").lower()
        if (low, value.decode("latin-1")) in there:
            continue
        if low == "cookie":
            some = "goes on without Clerk's" if low in names else "Clerk's stay here"
            yield name, f"{some} (forward_token: false)"
        else:
            yield name, _why(course, outbound.route, low)


def _why(course: Course, route: Route, low: str) -> str:
    fold, identity = folded(low), course.config.identity
    mine = {folded(name) for name in identity.reserved_names}
    if fold.startswith(folded(identity.prefix)) or fold in mine:
        return "who is calling is not the client's to say"
    if fold in HOPS:
        return "hop-by-hop (RFC 9110 §7.6.1)"
    if fold.startswith("x-forwarded-"):
        return "only trusted_proxies are believed"
    if low in OURS:
        return OURS[low]
    if course.deps.fields.read(((low.encode("latin-1"), b""),)).fields:
        return "named by Connection (RFC 9110 §7.6.1)"
    return "not the client's to say: somebody behind us would believe it"


def onward_steps(course: Course, identified: Identified | None, route: Route) -> Iterator[Step]:
    """Tell what else bears on what an upstream is told."""
    identity = course.config.identity
    if identified is not None and not route.upstream.identity:
        yield note("identity", f"upstream {route.upstream.name} is told nothing of who is calling (identity: false)")
    elif identified is not None:
        people = course.deps.people
        user = people.get(identified.principal.user_id) if people is not None and identity.enrich else None
        for name in unusable_headers(identified.principal.claims, identity, user):
            yield note("identity", f"{name} is left out: its claim is an object")
        if identity.enrich:
            yield note("identity", _enriched(course, known=user is not None))
    policy = course.config.assertion
    if policy is not None and identified is not None and route.upstream.identity:
        said = f"{policy.header}: signed by the gateway's own key for {policy.ttl_s:g} s at most"
        yield note("assertion", f"{said}, iss {policy.issuer}, aud {route.upstream.name}")
    limits = [*_limits(course.config.rates), *(f"{limit} of the route" for limit in _limits(route.rates))]
    if limits:
        yield note("rate limits", f"{listed(limits)}: counted by the running gateway alone")


def _enriched(course: Course, *, known: bool) -> str:
    if course.records.words:
        return f"what the token lacks is not filled from the user directory: {course.records.words}"
    return "what the token lacks is filled from the user directory" if known else "the user directory has no such user"


def _limits(policy: object) -> Iterator[str]:
    for name in ("by_ip", "by_user", "by_org", "by_machine", "by_caller"):
        rate = getattr(policy, name, None)
        if rate is not None:
            yield f"{name} {rate}"
