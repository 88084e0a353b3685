"""What Clerk writes into a token: session claims in both versions, template claims, and the packing of permissions.

Pure: the moment and the random id come in. `core/claims` unpacks, and tests hold both against each other.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.ops.dev.people import ORGANISATIONS, ROLE_PERMISSIONS, Organisation, Person, find_organisation

SESSION_CATEGORY = "cl_B7d4PD111AAA"
TEMPLATE_CATEGORY = "cl_B7d4PD222AAA"
LIFE_S = 60  # Clerk's session tokens
NOT_BEFORE_S = 10  # Clerk dates `nbf` back by as much
SKEW_S = 5  # what verifiers forgive by default
LONGEST_S = 315_360_000  # ten years, the most that Clerk's templates may live

_PERMISSION = re.compile(r"org:[a-z0-9_]{1,64}:[a-z0-9_]{1,64}")
_ROLE = re.compile(r"org:[a-z0-9_]{1,64}")


@dataclass(frozen=True, slots=True)
class Active:
    """The organisation a session is in, with the member's role and permissions (with `org:`)."""

    organisation: Organisation
    role: str
    permissions: tuple[str, ...]


def choose_active(
    person: Person,
    *,
    org: str | None,
    role: str | None,
    permissions: Sequence[str],
    organisations: Sequence[Organisation] = ORGANISATIONS,
) -> Active | None:
    """Decide which organisation is active, and as what; `org` is None for the person's own first, "none" for no one.

    Raises:
        ValueError: an unknown organisation, a malformed role or permission, or one of these without an organisation.
    """
    organisation = _organisation(person, org, organisations)
    if organisation is None:
        if role or permissions:
            raise ValueError("a role or permission is held in an organisation: name one with --org, for example acme")
        return None
    held = {membership.organisation.id: membership.role for membership in person.memberships}
    chosen = read_role(role) if role else held.get(organisation.id, "org:member")
    asked = tuple(dict.fromkeys(_prefixed(permission, _PERMISSION) for permission in permissions))
    return Active(organisation, chosen, asked or ROLE_PERMISSIONS.get(chosen, ()))


def _organisation(person: Person, org: str | None, organisations: Sequence[Organisation]) -> Organisation | None:
    if org is None:
        return person.memberships[0].organisation if person.memberships else None
    return None if org == "none" else find_organisation(org, organisations)


def read_role(name: str) -> str:
    """Give a role with its `org:`. Raises ValueError where it is malformed."""
    return _prefixed(name, _ROLE)


def _prefixed(name: str, form: re.Pattern[str]) -> str:
    full = name if name.startswith("org:") else f"org:{name}"
    if not form.fullmatch(full):
        raise ValueError(f"{name!r} is not of Clerk's form: a role is org:admin, a permission org:dashboard:read")
    return full


def times(now: float, expires_in: int) -> dict[str, int]:
    """Give `exp`, `iat` and `nbf`, in Unix seconds, of a token that lives `expires_in` seconds from `now`.

    Raises:
        ValueError: more than ten years ahead or back.
    """
    if abs(expires_in) > LONGEST_S:
        raise ValueError(f"a token lives at most {LONGEST_S} seconds")
    if expires_in >= 0:
        issued = int(now)
        return {"exp": issued + expires_in, "iat": issued, "nbf": issued - NOT_BEFORE_S}
    # "Expired" is meant as refused, so the forgiveness for wrong clocks is taken off; and it was good once.
    expired = int(now) + expires_in - SKEW_S
    return {"exp": expired, "iat": expired - LIFE_S, "nbf": expired - LIFE_S - NOT_BEFORE_S}


def pack_permissions(
    permissions: Iterable[str], features: Sequence[str] = ()
) -> tuple[list[str], list[str], list[int]]:
    """Pack `org:<feature>:<name>` into features, names, and a mask over the names per feature, lowest bit first."""
    names: list[str] = []
    masks = dict.fromkeys(features, 0)
    for permission in permissions:
        _, feature, name = permission.split(":")
        if name not in names:
            names.append(name)
        masks[feature] = masks.get(feature, 0) | 1 << names.index(name)
    return list(masks), names, list(masks.values())


def organisation_claims_v2(person: Person, active: Active | None) -> dict[str, Any]:
    """Give `o`, `fea` and `pla` as session tokens of version 2 have them; `o.rol` is without `org:`."""
    own = [f"u:{feature}" for feature in person.features]
    if active is None:
        return {"pla": f"u:{person.plan}"} | ({"fea": ",".join(own)} if own else {})
    organisation = active.organisation
    features, names, masks = pack_permissions(active.permissions, organisation.features)
    o = {"id": organisation.id, "slg": organisation.slug, "rol": active.role.removeprefix("org:")}
    if names:
        o |= {"per": ",".join(names), "fpm": ",".join(map(str, masks))}
    fea = [f"o:{feature}" for feature in features] + own
    return {"o": o, "pla": f"o:{organisation.plan}"} | ({"fea": ",".join(fea)} if fea else {})


def organisation_claims_v1(active: Active | None) -> dict[str, Any]:
    """Give the four `org_…` claims of version 1, none without an organisation."""
    if active is None:
        return {}
    return {
        "org_id": active.organisation.id,
        "org_slug": active.organisation.slug,
        "org_role": active.role,
        "org_permissions": list(active.permissions),
    }


def session_claims(
    person: Person, active: Active | None, *, version: int, session: Mapping[str, Any]
) -> dict[str, Any]:
    """Give what a session token says beyond the claims of every token; `session` is `sid`, `fva` and `sts`."""
    if version == 1:
        return dict(session) | organisation_claims_v1(active)
    return dict(session) | {"v": 2} | organisation_claims_v2(person, active)


def template_claims(person: Person, template: str, *, now: float) -> dict[str, Any]:
    """Give the claims of a JWT template as Convex asks for them: `aud` is the template's name, the rest OIDC's profile.

    What is not known of the person is null, as Clerk fills a shortcode without a value.
    """
    return {
        "aud": template,
        "name": person.name or None,
        "given_name": person.given_name or None,
        "family_name": person.family_name or None,
        "nickname": person.username or person.given_name.lower() or None,
        "picture": person.picture or None,
        "email": person.email or None,
        "email_verified": bool(person.email) and person.email_verified,
        "phone_number": None,
        "phone_number_verified": False,
        "updated_at": int(now),
    }
