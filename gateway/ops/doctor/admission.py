"""A token that is good in itself: whether the routes take it, and whether it says enough of the user."""

from collections.abc import Iterator, Sequence
from typing import Final

from gateway.core.claims import TEMPLATE_CATEGORY, principal_from
from gateway.core.model import Claims, Principal
from gateway.core.routing import Route
from gateway.core.verify import SignedToken
from gateway.errors import InvalidToken
from gateway.ops.doctor.backend import DASHBOARD, SESSION, TEXTS
from gateway.ops.doctor.diagnosis import Diagnosis, error, listed, warning
from gateway.ops.doctor.instances import Instance

SUBJECT: Final = "token"
MACHINE: Final = "Is it a machine's token? Have the page call await Clerk.session.getToken()"


def use(
    signed: SignedToken, claims: Claims, instance: Instance, routes: Sequence[Route], *, is_enriched: bool
) -> Iterator[Diagnosis]:
    """Say what becomes of a genuine token on these routes; `is_enriched`: the user directory adds what it lacks."""
    try:
        principal = principal_from(claims, signed)
    except InvalidToken as refused:
        yield error(SUBJECT, f"is genuine, but not taken: {refused.detail} (401 {refused.reason})", MACHINE)
        return
    yield from _admission(principal, instance, routes)
    told = any(route.upstream.identity and route.auth != "public" for route in routes)
    missing = [name for name in TEXTS if not isinstance(claims.get(name), str)]
    if told and missing and not is_enriched:
        yield _lacking(missing, signed)


def _admission(principal: Principal, instance: Instance, routes: Sequence[Route]) -> Iterator[Diagnosis]:
    every = [route for route in routes if route.auth != "public"]
    guarded = [route for route in every if route.admission.issuer in (None, instance.config.name)]
    if every and not guarded:
        found = (
            f"is of {instance.config.name}, whose tokens route {listed(route.name for route in every)} does not take"
        )
        yield error(
            SUBJECT, f"{found} (401 token-invalid-issuer)", "Leave issuer out on the route, or name this one there"
        )
        return
    takers = [route for route in guarded if principal.token_type in route.admission.token_types]
    kind, names = principal.token_type, listed(route.name for route in guarded)
    if guarded and not takers:
        found = f"is a {kind} token, which route {names} does not take (401 token-type-mismatch)"
        remedy = "Have the page call getToken() without a template"
        if kind == "template":
            remedy += "; or write token: [session, template] and audience: [its aud] on the route"
        yield error(SUBJECT, found, remedy)
        return
    yield from _audience(principal, takers)
    if principal.pending and takers and not any(route.admission.allow_pending for route in takers):
        found = "its session has tasks open, such as choosing an organisation (401 session-pending)"
        yield error(SUBJECT, found, "Let the page finish them, or write allow_pending: true on the route")


def _audience(principal: Principal, takers: Sequence[Route]) -> Iterator[Diagnosis]:
    wanted = [route.admission.audience for route in takers]
    if takers and all(audience and audience.isdisjoint(principal.audience) for audience in wanted):
        said, names = listed(sorted(principal.audience)) or "missing", listed(route.name for route in takers)
        asked = listed(sorted(frozenset().union(*wanted)))
        found = f"aud is {said}, and route {names} asks for {asked} (401 token-verification-failed)"
        yield error(SUBJECT, found, f"Give the template or session token that aud ({DASHBOARD}), or change audience")


def _lacking(missing: Sequence[str], signed: SignedToken) -> Diagnosis:
    where = DASHBOARD if signed.category == TEMPLATE_CATEGORY else SESSION
    added = ", ".join(TEXTS[name] for name in missing)
    names = " or ".join(f"X-User-{name.capitalize()}" for name in missing)
    found = f"has no claim {' or '.join(missing)}, and no user directory fills it in: upstreams get no {names}"
    return warning(SUBJECT, found, f"Add {added} ({where}), or set store.url and identity.enrich: true")
