"""The path, the gateway's own addresses, the routes, CORS: everything that is decided before a credential is read."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial

from gateway.core.convex import check_request
from gateway.core.cors import CorsPolicy, Origins, answer_fields, is_preflight, preflight_fields
from gateway.core.model import Inbound
from gateway.core.routing import CanonicalPath, Route, canonical_path, mismatch, require_consent
from gateway.errors import GatewayError
from gateway.ops.explain.run import Course
from gateway.ops.explain.step import Step, bad, good, judged, listed, note, refusal_of

GRANT = b"Access-Control-Allow-Origin"


def matching_steps(course: Course, inbound: Inbound) -> Iterator[Step]:
    """Tell how the request's route was found, as far as that got."""
    try:
        path = canonical_path(inbound.path)
    except GatewayError as refused:
        yield judged("path", refused, f"{inbound.path} can be read as another path by another server")
        return
    yield note("path", _path(inbound.path, path))
    if course.witness.is_own:
        yield good("own address", "the gateway itself answers here, whatever the routes say")
        return
    if course.witness.proxy is not None:
        at = pattern(course.witness.proxy.route)
        yield good("proxy", f"everything at {at} is Clerk's Frontend API: no route, no credential, no CORS of ours")
        return
    preflight = is_preflight(inbound.method, inbound.header.seen)
    method = inbound.header.seen["access-control-request-method"].decode("latin-1") if preflight else inbound.method
    yield from _routes(course, inbound, path, method)
    route = course.deps.routes.find(inbound.header.authority, path, method)
    yield from _cors(course.deps.cors if route is None else route.cors, inbound, preflight=preflight)
    if route is None or course.witness.preflight is not None:
        return
    if path.oddities:
        unallowed = refusal_of(partial(require_consent, route, path))
        allowed = listed(sorted(route.allow_encoded))
        yield judged("allow_encoded", unallowed, f"the path has {listed(sorted(path.oddities))}; allowed: {allowed}")
    if route.upstream.convex:
        yield judged("convex", refusal_of(partial(check_request, inbound, route.upstream)), "no admin key may pass")


def _path(raw: str, path: CanonicalPath) -> str:
    return f"{raw}, compared as it came" if path.text == raw else f"{raw} is compared as {path.text}"


def _routes(course: Course, inbound: Inbound, path: CanonicalPath, method: str) -> Iterator[Step]:
    host = inbound.header.authority.decode("latin-1")
    for route in course.config.routes:
        why = mismatch(route, inbound.header.authority, path, method)
        if not why:
            yield good("route", f'"{route.name}": {_rule(route)}')
            return
        yield note("route", f'"{route.name}" is passed over: {_mismatch(route, why, host, method)}')
    none = f"none takes {method} {path.text} on host {host}"
    if course.error is None:  # a preflight, which is answered all the same
        yield note("route", f"{none}, so the answer is that without a route")
    else:
        yield judged("route", course.error, none)


def _mismatch(route: Route, why: str, host: str, method: str) -> str:
    if why == "path":
        return f"its path is {pattern(route)}"
    if why == "host":
        return f"its host is {route.host}, the request's {host or 'not said'}"
    return f"its methods are {listed(sorted(route.methods))}, the request's is {method}"


def pattern(route: Route) -> str:
    """Write a route's path as its configuration does."""
    return f"{route.pattern.text}/*" if route.pattern.below else route.pattern.text


def _rule(route: Route) -> str:
    parts = [pattern(route)]
    parts += [f"host {route.host}"] if route.host else []
    parts += [listed(sorted(route.methods))] if route.methods else []
    return f"{' '.join(parts)} to upstream {route.upstream.name}, auth: {route.auth}"


def _cors(policy: CorsPolicy | None, inbound: Inbound, *, preflight: bool) -> Iterator[Step]:
    seen = inbound.header.seen
    origin = seen.get("origin")
    if origin is None:
        return
    said = origin.decode("latin-1")
    if policy is None:
        what = "a preflight is an ordinary request" if preflight else "what the upstream says about it passes untouched"
        yield note("CORS", f"off here: {what}")
    elif not preflight:
        yield _origin(said, policy, granted=GRANT in answer_fields(policy, origin))
    else:
        yield from _preflight(policy, seen, said)


def _origin(said: str, policy: CorsPolicy, *, granted: bool) -> Step:
    if granted:
        return good("CORS", f"a page of {said} may read the answer")
    return bad("CORS", f"a page of {said} may not read the answer, which comes all the same; {_listing(policy)}")


def _preflight(policy: CorsPolicy, seen: Mapping[str, bytes], said: str) -> Iterator[Step]:
    """Ask for each part alone, with the others as they are granted."""
    method, headers = seen["access-control-request-method"], seen.get("access-control-request-headers", b"")
    usual = policy.methods[0].encode() if policy.methods else method
    yield _origin_asked(policy, said, granted=_granted(policy, seen, usual, b""))
    # As if the origin were listed, so that the rest is judged by itself.
    open_to_it = replace(policy, origins=Origins(frozenset({seen["origin"]}), (), any=False), credentials=False)
    may = _granted(open_to_it, seen, method, b"")
    verb = "may" if may else "may not"
    yield (good if may else bad)(
        "CORS", f"{method.decode('latin-1')} {verb} be used; methods: {listed(policy.methods)}"
    )
    for name in filter(None, (each.strip() for each in headers.split(b","))):
        may = _granted(open_to_it, seen, usual, name)
        verb = "may" if may else "may not"
        text = f"header {name.decode('latin-1')} {verb} be sent; headers: {listed(policy.headers)}"
        yield (good if may else bad)("CORS", text)


def _origin_asked(policy: CorsPolicy, said: str, *, granted: bool) -> Step:
    return (good if granted else bad)("CORS", f"{said} is {'' if granted else 'not '}listed; {_listing(policy)}")


def _listing(policy: CorsPolicy) -> str:
    """Name the key, for whoever wants to write theirs there."""
    return f"cors.origins (GATEWAY_CORS_ORIGINS): {listed(policy.origins.written)}"


def _granted(policy: CorsPolicy, seen: Mapping[str, bytes], method: bytes, headers: bytes) -> bool:
    asked = {"access-control-request-method": method, "access-control-request-headers": headers}
    return GRANT in preflight_fields(policy, {**seen, **asked})
