"""What a route asks of a principal: which tokens it admits at all (401), and what they must allow (403).

Everything here reads a `Principal`, never a token. Where Clerk's `has()` decides the same question, so does this, and
what cannot be determined is refused. Reading the configuration into these types is `config`'s.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from gateway.core.model import Claims, Principal
from gateway.errors import Forbidden, InvalidToken, MissingCredential

ABSENT: Final = object()
_ORG_PREFIX = re.compile(r"(org:)*")
_SCOPES = {"o": "o:", "org": "o:", "organization": "o:", "u": "u:", "user": "u:"}


@dataclass(frozen=True, slots=True)
class Admission:
    """Which verified tokens count on a route; one that does not is as good as none."""

    token_types: frozenset[str] = frozenset({"session"})
    audience: frozenset[str] = frozenset()  # not empty: the token must be meant for one of these
    issuer: str | None = None  # the name of the one whose tokens count; None: any that is configured
    allow_pending: bool = False  # sessions whose tasks (organisation choice, second factor) are still open


@dataclass(frozen=True, slots=True)
class Requirement:
    """What a principal must be. Every key must hold; a set means any of its members; an empty one asks nothing."""

    roles: frozenset[str] = frozenset()  # as `with_org_prefix` gives them
    permissions: frozenset[str] = frozenset()  # likewise
    plans: frozenset[str] = frozenset()  # as `with_scopes` gives them
    features: frozenset[str] = frozenset()  # likewise
    scopes: frozenset[str] = frozenset()
    org_any: bool = False
    orgs: frozenset[str] = frozenset()  # ids or slugs
    claims: tuple[tuple[str, object], ...] = ()  # name or dotted path, value; a tuple or list of values means any of
    max_age_first_min: int | None = None
    max_age_second_min: int | None = None
    allow_impersonation: bool = True
    needs_principal: bool = field(init=False, compare=False, default=False)  # an anonymous client cannot hold it

    def __post_init__(self) -> None:
        asked = (self.roles, self.permissions, self.plans, self.features, self.scopes, self.orgs, self.claims)
        ages = (self.max_age_first_min, self.max_age_second_min)
        needs = any(asked) or self.org_any or any(age is not None for age in ages)
        object.__setattr__(self, "needs_principal", needs)  # once, because `authorise` runs for each request

    @property
    def is_empty(self) -> bool:
        """Whether everybody holds it."""
        return not self.needs_principal and self.allow_impersonation


def with_org_prefix(text: str) -> str:
    """Spell a role or permission as tokens do, with one `org:`."""
    return _ORG_PREFIX.sub("org:", text, count=1)


def with_scopes(texts: Iterable[str]) -> frozenset[str]:
    """Spell plans or features as tokens do, `o:pro` or `u:pro`; one without a scope is looked for in both.

    Raises:
        ValueError: a scope that is neither an organisation's nor a user's.
    """
    return frozenset(spelling for text in texts for spelling in _scoped(text))


def _scoped(text: str) -> tuple[str, ...]:
    scope, colon, name = text.partition(":")
    if not colon:
        return (f"o:{text}", f"u:{text}")
    if scope not in _SCOPES or not name:
        raise ValueError(f"{text!r}: expected a name, o:name or u:name")
    return (_SCOPES[scope] + name,)


def admit(principal: Principal, admission: Admission) -> None:
    """Check that a verified token is of a kind the route takes.

    Raises:
        InvalidToken: another type of token, another instance's, one for another audience, or a pending session.
    """
    if admission.issuer is not None and principal.issuer != admission.issuer:
        raise InvalidToken("token-invalid-issuer")
    if principal.token_type not in admission.token_types:
        raise InvalidToken("token-type-mismatch")
    # Clerk lets a token without `aud` pass here; a route that names its audience means it.
    if admission.audience and admission.audience.isdisjoint(principal.audience):
        raise InvalidToken("token-verification-failed", detail="not meant for the route's audience")
    if principal.pending and not admission.allow_pending:
        raise InvalidToken("session-pending")


def authorise(principal: Principal | None, requirement: Requirement) -> None:
    """Check that a principal, None for an anonymous client, holds what the route requires.

    Raises:
        MissingCredential: something is required and nobody has said who is calling.
        Forbidden: the first key that does not hold.
    """
    if principal is None:
        if requirement.needs_principal:
            raise MissingCredential("session-token-and-uat-missing")
        return
    if not requirement.allow_impersonation and _is_impersonated(principal):
        raise Forbidden("impersonation")
    if requirement.needs_principal:
        _check_organization(principal, requirement)
        _check_entitlements(principal, requirement)
        _check_claims(principal.claims, requirement)
        _check_age(principal.factor_age, requirement)


def _is_impersonated(principal: Principal) -> bool:
    # An `act` without `sub` still says that somebody else is acting (RFC 8693 §4.1).
    return principal.actor is not None or principal.claims.get("act") is not None


def _check_organization(principal: Principal, requirement: Requirement) -> None:
    active = bool(principal.org_id)
    if (requirement.org_any and not active) or (requirement.orgs and not _is_in(principal, requirement.orgs)):
        raise Forbidden("org")
    # As in Clerk's has(): without an active organisation no role and no permission is held, whatever other claims say.
    if requirement.roles and not (active and principal.org_role in requirement.roles):
        raise Forbidden("role")
    if requirement.permissions and not (active and not requirement.permissions.isdisjoint(principal.org_permissions)):
        raise Forbidden("permission")


def _is_in(principal: Principal, orgs: frozenset[str]) -> bool:
    if not principal.org_id:
        return False
    # Members choose their slug: one that looks like an id must not stand for the organisation with that id.
    slug = principal.org_slug
    if slug and not slug.startswith("org_") and slug in orgs:
        return True
    return principal.org_id in orgs


def _check_entitlements(principal: Principal, requirement: Requirement) -> None:
    if requirement.plans and requirement.plans.isdisjoint(principal.plans):
        raise Forbidden("plan")
    if requirement.features and requirement.features.isdisjoint(principal.features):
        raise Forbidden("feature")
    if requirement.scopes and requirement.scopes.isdisjoint(principal.scopes):
        raise Forbidden("scope")


def _check_claims(claims: Claims, requirement: Requirement) -> None:
    for path, wanted in requirement.claims:
        said = claim_at(claims, path)
        held = said if isinstance(said, list) else (said,)
        allowed = wanted if isinstance(wanted, (list, tuple)) else (wanted,)
        if not any(_same(one, other) for one in held for other in allowed):
            raise Forbidden("claims", detail=path)


def _same(one: object, other: object) -> bool:
    # bool is an int in Python; a claim of 1 must not pass for true, nor true for 1.
    return isinstance(one, bool) == isinstance(other, bool) and one == other


def _check_age(ages: tuple[int, int] | None, requirement: Requirement) -> None:
    first, second = ages or (-1, -1)
    # Clerk's level `second_factor` falls back to the first where a user has no second. A route that names an age for
    # the second factor means that factor, so never having used one fails here.
    if not _is_fresh(first, requirement.max_age_first_min) or not _is_fresh(second, requirement.max_age_second_min):
        raise Forbidden("max_age")


def _is_fresh(age_min: int, limit_min: int | None) -> bool:
    return limit_min is None or 0 <= age_min < limit_min


def claim_at(claims: Claims, path: str) -> object:
    """Look up a claim: a top-level one of exactly that name, else a dotted path; `ABSENT` where there is none."""
    if path in claims:
        return claims[path]
    value: object = claims
    for step in path.split("."):
        if not isinstance(value, Mapping) or step not in value:
            return ABSENT
        value = value[step]
    return value
