"""Machine tokens, API keys, M2M and OAuth tokens: told apart by form, and who one stands for.

A token is opaque, and Clerk is asked about it, or a JWT, which its instance's keys verify. What only sessions have
(authorized parties, issuer, organisation roles) is not looked for here, as in Clerk's SDK.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from gateway.core.claims import (
    M2M_CATEGORY,
    MACHINE_PREFIX,
    OTHER_KINDS,
    SESSION_CATEGORY,
    SILENT_CATEGORY,
    TEMPLATE_CATEGORY,
    as_text,
    as_texts,
    audience_of,
    member,
)
from gateway.core.model import MACHINE_TYPES, BackendAddress, Claims, Principal
from gateway.core.policy import Admission
from gateway.core.verify import (
    OAUTH_TYPES,
    SignedToken,
    TokenPolicy,
    check_addressed,
    check_times,
    claimed,
    numeric_date,
)
from gateway.errors import InvalidToken

API_KEY: Final = "api_key"
M2M: Final = "m2m"
OAUTH: Final = "oauth"

LIFE_S: Final = 60.0  # that a verdict of Clerk's is believed at most: as long as a revoked token goes on working
PREFIXES: Final = ((b"ak_", API_KEY), (b"mt_", M2M), (b"m2m_", M2M), (b"oat_", OAUTH))
_ANY_PREFIX = tuple(prefix for prefix, _ in PREFIXES)
# What Clerk makes such tokens of, and far longer than any. What looks otherwise need not be asked about.
_OPAQUE = re.compile(rb"[a-z0-9]{2,3}_[A-Za-z0-9_/+=-]{1,509}")
ORG_PREFIX: Final = "org_"
# In milliseconds no moment since 1973 is below this, in seconds none before the year 5138 above it.
MILLISECONDS: Final = 1e11


@dataclass(frozen=True, slots=True)
class MachinePolicy:
    """How a Clerk instance is asked about opaque tokens, and how often."""

    keyed: BackendAddress | None  # about API keys and OAuth tokens; None: no route takes them
    machine: BackendAddress | None  # about M2M tokens: with the machine's own key where there is one
    per_s: float = 20.0

    def address(self, kind: str) -> BackendAddress | None:
        """Give whom to ask about this kind."""
        return self.machine if kind == M2M else self.keyed


# --- form -------------------------------------------------------------------------------------------------------------


def opaque_kind(raw: bytes) -> str | None:
    """Tell what kind of opaque token this claims to be; None for none."""
    if not raw.startswith(_ANY_PREFIX):
        return None
    return next(kind for prefix, kind in PREFIXES if raw.startswith(prefix))


def taken_by(admission: Admission, *, in_authorization: bool) -> frozenset[str]:
    """Give the types that a route takes there: machines' tokens only in `Authorization`.

    Clerk reads them nowhere else. Cookies are browsers', and what names a sub-protocol is meant to be seen.
    """
    return admission.token_types if in_authorization else admission.token_types - MACHINE_TYPES


def check_carried(principal: Principal) -> None:
    """Check that a token that did not come in `Authorization`, but may be remembered from there, is a user's.

    Raises:
        InvalidToken: it is a machine's.
    """
    if principal.is_machine:
        raise InvalidToken("token-type-mismatch")


def check_opaque(raw: bytes) -> None:
    """Check that an opaque token can be one of Clerk's. Raises InvalidToken."""
    if _OPAQUE.fullmatch(raw) is None:
        raise InvalidToken("token-invalid", detail="not the form of a machine token")


def jwt_kind(token: SignedToken) -> str | None:
    """Tell what kind of machine's JWT this claims to be, None for a user's; verified as such, or not at all."""
    # Hardly a user's payload holds one of these, so that it is parsed but once.
    may_be_machine = b"mch_" in token.payload or b"\\u" in token.payload
    if may_be_machine and (claimed(token, "sub") or "").startswith(MACHINE_PREFIX):
        return M2M
    return OAUTH if token.header.get("typ") in OAUTH_TYPES else None


def check_type(kind: str | None, category: str | None, taken: frozenset[str]) -> None:
    """Check before anything is verified that a token has a form that is taken.

    `kind` is a machine's; of a user's token (None) its `category` tells the type, as far as it tells anything.

    Raises:
        InvalidToken: it has another.
    """
    if kind is not None:
        types = frozenset({kind})
    elif category in (None, SILENT_CATEGORY):
        types = frozenset({"session", "template"})
    else:
        types = _BY_CATEGORY.get(category or "", frozenset())
    if types.isdisjoint(taken):
        raise InvalidToken("token-type-mismatch")


_BY_CATEGORY = {SESSION_CATEGORY: frozenset({"session"}), TEMPLATE_CATEGORY: frozenset({"template"})}


# --- JWT --------------------------------------------------------------------------------------------------------------


def check_class(kind: str, token: SignedToken) -> None:
    """Check that a JWT was minted as the machine token it looks like: sessions are signed with the same key.

    Raises:
        InvalidToken: it was not.
    """
    if kind == OAUTH:
        return  # its `typ` says so, which is signed and no other token's (RFC 9068 §2.1, RFC 8725 §3.11)
    if token.header.get("typ", "JWT") != "JWT":
        raise InvalidToken("token-verification-failed", detail="typ")
    if token.category not in (None, M2M_CATEGORY):
        raise InvalidToken("token-invalid", detail="cat")


def principal_from_jwt(kind: str, claims: Claims, policy: TokenPolicy, *, now: float) -> Principal:
    """Check the signed claims of a machine's JWT at `now` (Unix seconds), and say whose it is.

    Raises:
        InvalidToken: the first check that fails.
    """
    # Clerk: an OAuth token without `aud` is good for nobody who names an audience; an M2M token is.
    check_addressed(claims, policy, needs_audience=kind == OAUTH)
    check_times(claims, policy.leeway_s, now=now)
    issued, expires = (numeric_date(claims, name) for name in ("iat", "exp"))
    assert issued is not None
    assert expires is not None
    principal = _principal(kind, claims["sub"], claims, _scopes(kind, claims), issued, expires)
    if principal is None:
        raise InvalidToken("token-verification-failed", detail=f"sub is none that {kind} tokens have")
    return principal


def _scopes(kind: str, claims: Claims) -> tuple[str, ...]:
    if kind == OAUTH:
        return as_texts(claims["scp"]) if "scp" in claims else _words(claims.get("scope"))
    if "scopes" in claims:
        return _words(claims["scopes"])
    said = claims.get("aud")  # Clerk: where an M2M token names no scopes, the machines that it is for are them
    return as_texts(said if isinstance(said, list) else [said])


def _words(value: Any) -> tuple[str, ...]:
    return tuple(value.split()) if isinstance(value, str) else ()


# --- an answer of Clerk's ---------------------------------------------------------------------------------------------


def principal_from_answer(kind: str, answer: Any, *, asked_at: float, leeway_s: float = 0.0) -> Principal:
    """Say whose an opaque token is by what Clerk answers to the question; good from `asked_at` (Unix seconds) on.

    It counts as issued when it was asked about, since that is when Clerk vouched for it: what ended before then is for
    Clerk to know, and what ends later ends it.

    Raises:
        InvalidToken: it is revoked or has expired.
        ValueError: that is no answer to this question.
    """
    revoked, expired = member(answer, "revoked"), member(answer, "expired")
    if not isinstance(revoked, bool) or not isinstance(expired, bool):
        raise ValueError("does not say whether it is revoked or expired")
    expires = _expiration(member(answer, "expiration"))
    if revoked:
        raise InvalidToken("token-invalid", detail="revoked")
    if expired or asked_at >= expires + leeway_s:
        raise InvalidToken("token-expired")
    token_id, subject = as_text(answer.get("id")), as_text(answer.get("subject"))
    if token_id is None or subject is None:
        raise ValueError("names no id or no subject")
    claims = _claims_of(kind, answer, token_id, subject)
    principal = _principal(kind, subject, claims, as_texts(answer.get("scopes")), asked_at, expires)
    if principal is None:
        raise ValueError(f"has a subject that {kind} tokens do not have")
    return principal._replace(key_id=token_id if kind == API_KEY else None)


def check_audience(principal: Principal, policy: TokenPolicy) -> None:
    """Check that an opaque OAuth token is for whom the instance's tokens must be; the others name none.

    Raises:
        InvalidToken: it is for somebody else, or for nobody.
    """
    if principal.token_type == OAUTH and policy.audience and policy.audience.isdisjoint(principal.audience):
        raise InvalidToken("token-verification-failed", detail="aud")


def remembered_until(principal: Principal) -> float:
    """Say until when the verdict on an opaque token may be believed."""
    return min(principal.issued_at + LIFE_S, principal.expires_at)


def _expiration(value: Any) -> float:
    """Read an end in Unix seconds; Clerk has OAuth tokens' in seconds and the others' in milliseconds."""
    if value is None:
        return math.inf
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0:
        raise ValueError("ends at no time that can be read")
    return value / 1000 if value >= MILLISECONDS else float(value)


def _claims_of(kind: str, answer: Mapping[str, Any], token_id: str, subject: str) -> Claims:
    """Give what rules may ask for by the names that it has in the JWT form of such a token."""
    said = answer.get("claims") if kind != OAUTH else {name: answer.get(name) for name in ("client_id", "aud", "act")}
    claims = {name: value for name, value in said.items() if value is not None} if isinstance(said, dict) else {}
    return {**claims, "sub": subject, "jti": token_id}


# --- both -------------------------------------------------------------------------------------------------------------


def _principal(
    kind: str, subject: str, claims: Claims, scopes: tuple[str, ...], issued_at: float, expires_at: float
) -> Principal | None:
    """Say who it is; None where a token of this kind cannot be of such a subject."""
    is_machine, is_org = subject.startswith(MACHINE_PREFIX), subject.startswith(ORG_PREFIX)
    is_user = not subject.startswith(OTHER_KINDS)
    if not {M2M: is_machine, OAUTH: is_user, API_KEY: is_user or is_org}[kind]:
        return None
    return Principal(
        subject=subject,
        token_type=kind,
        claims=claims,
        audience=audience_of(claims.get("aud")),
        issued_at=issued_at,
        expires_at=expires_at,
        user_id=subject if is_user else None,
        machine_id=subject if is_machine else None,
        org_id=subject if is_org else None,
        actor=as_text(member(claims.get("act"), "sub")) if kind == OAUTH else None,
        scopes=scopes,
    )
