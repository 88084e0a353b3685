"""Turn a user's verified claims into a `Principal`: token class, organisation (v1, v2), plans, features, who acts.

Expects claims that `core/verify` has accepted. An optional claim of the wrong type counts as absent: it can take rights
away, never give any. Machines' tokens are `core/machine`'s; what a route asks of a principal is `core/policy`'s.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

from gateway.core.model import Claims, Principal
from gateway.core.verify import OAUTH_TYPES, SignedToken, numeric_date
from gateway.errors import InvalidToken

# Clerk's `cat` header: what a token was minted as; all are signed with the same key.
SESSION_CATEGORY = "cl_B7d4PD111AAA"
TEMPLATE_CATEGORY = "cl_B7d4PD222AAA"
M2M_CATEGORY = "cl_B7d4PD333AAA"
SILENT_CATEGORY = "cl_I7d4PD111III"  # says nothing, like a token from before the member existed

MACHINE_PREFIX = "mch_"
OTHER_KINDS = (MACHINE_PREFIX, "org_", "ak_", "mt_", "m2m_", "oat_")  # subjects that are no users

_ORG_SCOPES = ("o", "ou", "uo")


class _Organisation(NamedTuple):
    id: str | None = None
    slug: str | None = None
    role: str | None = None
    permissions: tuple[str, ...] = ()


_NO_ORGANISATION = _Organisation()


def principal_from(claims: Claims, token: SignedToken) -> Principal:
    """Say who is calling, from the claims of a verified token and the class in its header.

    Raises:
        InvalidToken: a machine's or an unknown class of token, a session token without a session, a claim that every
            token has missing, or features that cannot be read.
    """
    subject = as_text(claims.get("sub"))
    issued, expires = (numeric_date(claims, name) for name in ("iat", "exp"))
    if subject is None or issued is None or expires is None:
        raise InvalidToken("token-verification-failed", detail="sub, iat or exp missing")
    features = _list(claims.get("fea"))
    if any(":" not in element for element in features):
        raise InvalidToken("token-invalid", detail="fea has an element without a scope")
    organisation = _organisation(claims, features)
    return Principal(
        subject=subject,
        token_type=_token_type(subject, claims, token),
        claims=claims,
        audience=audience_of(claims.get("aud")),
        issued_at=issued,
        expires_at=expires,
        user_id=None if subject.startswith(OTHER_KINDS) else subject,
        session_id=as_text(claims.get("sid")),
        org_id=organisation.id,
        org_slug=organisation.slug,
        org_role=organisation.role,
        org_permissions=organisation.permissions,
        plans=_scoped(_list(claims.get("pla"))),
        features=_scoped(features),
        factor_age=_factor_age(claims.get("fva")),
        actor=as_text(member(claims.get("act"), "sub")),
        pending=claims.get("sts") == "pending",
    )


def _token_type(subject: str, claims: Claims, token: SignedToken) -> str:
    if subject.startswith(MACHINE_PREFIX) or token.header.get("typ") in OAUTH_TYPES:
        raise InvalidToken("token-type-mismatch", detail="a machine token")
    has_session = as_text(claims.get("sid")) is not None
    if token.category == TEMPLATE_CATEGORY:
        return "template"
    if token.category == SESSION_CATEGORY:
        if not has_session:
            raise InvalidToken("token-verification-failed", detail="a session token without sid")
        return "session"
    if token.category in (None, SILENT_CATEGORY):
        return "session" if has_session else "template"
    raise InvalidToken("token-type-mismatch", detail="unknown cat")


def _organisation(claims: Claims, features: list[str]) -> _Organisation:
    if claims.get("v") == 2:  # the number: neither "2" nor true equals it
        # Without `o` there is no organisation: `org_id` and the like can only be custom claims here.
        return _organisation_v2(claims.get("o"), features)
    return _named(
        claims.get("org_id"), claims.get("org_slug"), claims.get("org_role"), as_texts(claims.get("org_permissions"))
    )


def _organisation_v2(claim: Any, features: list[str]) -> _Organisation:
    permissions = _permissions(features, _list(member(claim, "per")), _list(member(claim, "fpm")))
    return _named(member(claim, "id"), member(claim, "slg"), member(claim, "rol"), permissions)


def _named(org_id: Any, slug: Any, role: Any, permissions: tuple[str, ...]) -> _Organisation:
    # A role or permission is held in an organisation; without one it is held nowhere.
    if as_text(org_id) is None:
        return _NO_ORGANISATION
    name = as_text(role)
    prefixed = name if name is None or name.startswith("org:") else f"org:{name}"
    return _Organisation(as_text(org_id), as_text(slug), prefixed, permissions)


def _permissions(features: list[str], names: list[str], maps: list[str]) -> tuple[str, ...]:
    """Decode the feature-permission map: bit i of a feature's number stands for the i-th name, lowest first.

    The numbers follow the organisation's features alone: a user's in between has none.
    """
    owned = [name for scope, _, name in (feature.partition(":") for feature in features) if scope in _ORG_SCOPES]
    return tuple(
        f"org:{feature}:{name}"
        for feature, bits in zip(owned, map(_bits, maps), strict=False)
        for index, name in enumerate(names)
        if bits >> index & 1 and feature and name
    )


def _bits(text: str) -> int:
    # Decimal of any size Python reads (4300 digits); anything else grants nothing.
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 4300 else 0


def _scoped(elements: Iterable[str]) -> frozenset[str]:
    """Give every scope letter its own entry: `ou:export` is both `o:export` and `u:export`."""
    parts = (element.partition(":") for element in elements)
    return frozenset(
        f"{letter}:{name}" for scope, _, name in parts if name and scope in ("u", *_ORG_SCOPES) for letter in scope
    )


def audience_of(value: Any) -> frozenset[str]:
    """Read `aud`, a text or a list of texts; empty for anything else."""
    return frozenset(as_texts(value if isinstance(value, list) else [value]))


def _factor_age(value: Any) -> tuple[int, int] | None:
    # Below -1 (= never) it is no age, and would pass for a very fresh one.
    if isinstance(value, list) and len(value) == 2 and all(type(age) is int and age >= -1 for age in value):
        return value[0], value[1]
    return None


def member(value: Any, name: str) -> Any:
    """Give a member of what may not be an object; None where there is none."""
    return value.get(name) if isinstance(value, dict) else None


def as_text(value: Any) -> str | None:
    """Give a text that is one and not empty."""
    return value if isinstance(value, str) and value else None


def as_texts(value: Any) -> tuple[str, ...]:
    """Give a list of such texts; nothing of one with anything else in it."""
    return tuple(value) if isinstance(value, list) and all(as_text(each) is not None for each in value) else ()


def _list(value: Any) -> list[str]:
    return [element.strip() for element in value.split(",")] if isinstance(value, str) and value else []
