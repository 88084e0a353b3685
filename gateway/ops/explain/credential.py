"""Where the request's credential stands, and what of its cookies counts. What the token itself says is `token`'s."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from gateway.core.credentials import Credential, CredentialPolicy, SignedOut, find_credential, read_cookies
from gateway.core.headers import refuse_repeated
from gateway.core.model import Inbound
from gateway.core.routing import Route
from gateway.core.session import choose_cookies, suffixed_names
from gateway.core.upgrade import read_offer
from gateway.errors import GatewayError
from gateway.ops.explain.run import Course
from gateway.ops.explain.shown import masked
from gateway.ops.explain.step import Step, bad, good, judged, note, refusal_of


def found_credential(course: Course, inbound: Inbound, route: Route) -> Credential | SignedOut | GatewayError | None:
    """Ask the gateway's own function for it; None where no instance is configured."""
    issuers = course.deps.issuers
    if issuers is None:
        return None
    try:
        return find_credential(inbound, issuers.credentials[route.admission.issuer], now=course.now)
    except GatewayError as refused:
        return refused


def credential_steps(course: Course, inbound: Inbound, route: Route) -> Iterator[Step]:
    """Tell where a credential was looked for, and what was found."""
    if (refused := refusal_of(partial(refuse_repeated, inbound.header))) is not None:
        yield judged("credential", refused, "two Authorization fields: two servers would read two different ones")
        return
    if route.auth == "public":
        yield note("credential", "the route is public, so none is read")
        return
    found = found_credential(course, inbound, route)
    if isinstance(found, GatewayError):
        yield judged("credential", found, "a token in Authorization and in the list of sub-protocols")
    elif isinstance(found, Credential):
        yield from _found(course, inbound, route, found)
    elif found is not None:
        yield from _looked(course, inbound, route)
        yield _none(found, route)


def _none(found: SignedOut, route: Route) -> Step:
    what = "the cookies do not amount to signed in" if found.sent else "nothing was sent"
    if route.auth == "optional":
        return note("credential", f"{what} ({found.reason}): anonymous, which the route allows")
    return bad("credential", f"{what} ({found.reason})")


def _found(course: Course, inbound: Inbound, route: Route, found: Credential) -> Iterator[Step]:
    if found.source == "header":
        offered = inbound.upgrade and read_offer(inbound.header.seen.get("sec-websocket-protocol")).tokens
        where = "the WebSocket's sub-protocol gateway.bearer.…" if offered else "Authorization"
        yield good("credential", f"{where}: {masked(found.token.decode('latin-1'))}")
        if "cookie" in inbound.header.seen:
            yield note("credential", "cookies are not looked at: a token in the header always comes first")
        return
    yield from _looked(course, inbound, route)
    of = f' of "{found.issuer}"' if len(course.config.issuers) > 1 else ""
    yield good("credential", f"session cookie{of}: {masked(found.token.decode('latin-1'))}")


def _looked(course: Course, inbound: Inbound, route: Route) -> Iterator[Step]:
    """Tell what was passed over, and which of Clerk's cookies were chosen."""
    seen = inbound.header.seen
    if "authorization" in seen:
        scheme = seen["authorization"].split(b" ")[0].decode("latin-1")
        shown = scheme if b" " in seen["authorization"] else "without a scheme"
        yield note("credential", f"Authorization ({shown}) is no credential of Clerk's, so cookies are looked at")
    if "cookie" not in seen:
        return
    cookies = read_cookies(seen["cookie"])
    names = ", ".join(sorted(name.decode("latin-1") for name in cookies)) or "none of Clerk's"
    yield note("cookies", f"read: {names}")
    issuers = course.deps.issuers
    for policy in issuers.credentials[route.admission.issuer] if issuers is not None else ():
        yield _chosen(cookies, policy, course.now, several=len(course.config.issuers) > 1)


def _chosen(cookies: Mapping[bytes, bytes], policy: CredentialPolicy, now: float, *, several: bool) -> Step:
    chosen = choose_cookies(cookies, policy, now=now)
    suffixed = () if policy.cookie_suffix is None else suffixed_names(policy.cookie_suffix)
    own = [name.decode("latin-1") for name in suffixed if name in cookies]
    parts = {"session": chosen.session, "client_uat": chosen.client_uat, "db_jwt": chosen.dev_browser}
    there = ", ".join(f"{name} {'there' if value else 'missing'}" for name, value in parts.items())
    kind = "a development instance, which needs db_jwt" if policy.development else "a production instance"
    what = f'"{policy.name}"' if several else "this instance"
    return note("cookies", f"{what} ({kind}; suffix {policy.cookie_suffix}): {_spelling(own)}; {there}")


def _spelling(own: Sequence[str]) -> str:
    return f"its own are {', '.join(own)}" if own else "none with its suffix"
