"""What a route asks of a verified token, key by key: which it takes at all (401), and what it must hold (403).

Each key is asked alone, of the gateway's own function; one that is added to `core.policy` is told of by its name.
"""

from collections.abc import Iterator
from dataclasses import fields, replace
from functools import partial

from gateway.core.model import Credential, Inbound, Principal
from gateway.core.policy import Admission, Requirement, admit, authorise, claim_at, factor_ages
from gateway.core.routing import Route
from gateway.core.session import check_cookie
from gateway.ops.explain.run import Course
from gateway.ops.explain.step import Step, judged, listed, note, refusal_of
from gateway.web.identify import check_origin, check_revoked

KEYS = {
    "roles": "role", "permissions": "permission", "plans": "plan", "features": "feature", "scopes": "scope",
    "org_any": "org", "orgs": "org", "claims": "claims", "max_age_first_min": "max_age_min",
    "max_age_second_min": "max_age_min", "token_types": "token",
}  # fmt: skip


def admission_steps(principal: Principal, route: Route) -> Iterator[Step]:
    """Tell whether the route takes such a token at all."""
    anything = Admission(frozenset({principal.token_type}), allow_pending=True)
    for name, text in _admissions(principal, route.admission).items():
        alone = replace(anything, **{name: getattr(route.admission, name)})
        yield judged(f"route.{KEYS.get(name, name)}", refusal_of(partial(admit, principal, alone)), text)


def _admissions(principal: Principal, asked: Admission) -> dict[str, str]:
    """Say what is asked and what there is, of each key that asks something."""
    said = {"token_types": principal.token_type, "audience": listed(sorted(principal.audience)),
            "issuer": principal.issuer}  # fmt: skip
    usual = Admission()
    names = [each.name for each in fields(Admission) if getattr(asked, each.name) != getattr(usual, each.name)]
    told = {
        name: _compared(said.get(name, "see the token"), getattr(asked, name))
        for name in dict.fromkeys(("token_types", *names)) if name != "allow_pending"
    }  # fmt: skip
    if principal.pending or asked.allow_pending:
        standing = "pending" if principal.pending else "active"
        told["allow_pending"] = f"the session is {standing}; allow_pending: {str(asked.allow_pending).lower()}"
    return told


def cookie_steps(course: Course, inbound: Inbound, route: Route, found: Credential, known: Principal) -> Iterator[Step]:
    """Tell whether a good token may come by the cookie that it came by, and from the page that it came from."""
    minted = f"iat {known.issued_at:.0f}, __client_uat {found.client_uat}: the token must not be the older one"
    yield judged("cookie", refusal_of(partial(check_cookie, known, found)), minted)
    issuers = course.deps.issuers
    assert issuers is not None
    refused = refusal_of(partial(check_origin, inbound, route, issuers.named(known.issuer)))
    seen = inbound.header.seen
    origin = seen["origin"].decode("latin-1") if "origin" in seen else "no Origin"
    yield judged("origin", refused, f"{inbound.method} with a cookie, from {origin}")


def revocation_step(course: Course, principal: Principal) -> Step:
    """Tell whether what the token was issued for has ended."""
    if course.records.words:
        return note("revocation", f"not looked at: {course.records.words}")
    refused = refusal_of(partial(check_revoked, course.deps, principal))
    return judged(
        "revocation", refused, "by the store's directory and what has ended; sooner known to a running gateway"
    )


def requirement_steps(course: Course, principal: Principal | None, route: Route) -> Iterator[Step]:
    """Tell of each key of `require`, what is asked and what the token says."""
    asked, usual = route.require, Requirement()
    if principal is None:
        if asked.needs_principal:
            refused = refusal_of(partial(authorise, None, asked, course.deps.now))
            yield judged("require", refused, "an anonymous client holds nothing that can be required")
        return
    if not asked.allow_impersonation or principal.actor is not None or principal.claims.get("act") is not None:
        alone = Requirement(allow_impersonation=asked.allow_impersonation)
        acting = principal.actor or ("somebody" if principal.claims.get("act") is not None else "nobody")
        text = f"{acting} acts for the user; allow_impersonation: {str(asked.allow_impersonation).lower()}"
        yield judged("impersonation", refusal_of(partial(authorise, principal, alone, course.deps.now)), text)
    for name in (each.name for each in fields(Requirement) if each.init and each.name != "allow_impersonation"):
        wanted = getattr(asked, name)
        if wanted == getattr(usual, name):
            continue
        alone = Requirement(**{name: wanted})
        refused = refusal_of(partial(authorise, principal, alone, course.deps.now))
        yield judged(f"require.{KEYS.get(name, name)}", refused, _requirement(name, wanted, principal, course.now))


def _requirement(name: str, wanted: object, principal: Principal, now: float) -> str:
    if name == "claims":
        assert isinstance(wanted, tuple)
        return "; ".join(f"{path} {_value(principal, path)}, asked: {value}" for path, value in wanted)
    if name in ("max_age_first_min", "max_age_second_min"):
        second = name == "max_age_second_min"
        age = factor_ages(principal, now)[second]
        which = "second" if second else "first"
        return f"{which} factor {'never used' if age < 0 else f'used {age} min ago'}, asked: less than {wanted} min"
    said = {
        "roles": principal.org_role, "permissions": listed(principal.org_permissions),
        "plans": listed(sorted(principal.plans)), "features": listed(sorted(principal.features)),
        "scopes": listed(principal.scopes), "org_any": principal.org_id,
        "orgs": listed(filter(None, (principal.org_id, principal.org_slug))),
    }  # fmt: skip
    return _compared(said.get(name, "see the token"), wanted)


def _value(principal: Principal, path: str) -> str:
    said = claim_at(principal.claims, path)
    return repr(said)[:100] if isinstance(said, (str, int, float, bool, list, dict, type(None))) else "not said"


def _compared(said: object, wanted: object) -> str:
    if isinstance(wanted, frozenset):
        asked = listed(sorted(wanted)) if len(wanted) < 2 else f"one of {listed(sorted(wanted))}"
    else:
        asked = "any" if wanted is True else str(wanted)
    return f"{said or 'none'}, asked: {asked}"
