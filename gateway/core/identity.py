"""The `X-User-*` fields: what an upstream is told about a verified principal, and how it is written.

Owns the names and their order, which fact comes from the token and which from the directory, the encoding of values and
the bound on their size. That a client cannot say any of them is `headers`' work.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from urllib.parse import quote

from gateway.core.directory import User
from gateway.core.model import Claims, HeaderList, Principal
from gateway.core.policy import ABSENT, claim_at
from gateway.errors import InternalError

# Everything of 0x21-0x7E and the space, but not `%`: then one decode always restores the value.
_PLAIN = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")
_PLAIN_IN_LIST = _PLAIN.replace(",", "")
_USER_METADATA = "unsafe_metadata"
_FIELD_OVERHEAD = len(": \r\n")
# What `identity.headers` may name of a user (CONTRACT §7).
USER_FIELDS = tuple(each.name for each in fields(User) if each.name not in ("version", "deleted"))
_NOTHING: Mapping[str, object] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class IdentityPolicy:
    """What is said about a principal beyond the fixed fields, and how much in all."""

    prefix: str = "X-User-"
    headers: tuple[tuple[str, str], ...] = ()  # extra header name, claim or dotted path
    max_bytes: int = 8192  # names and values with `: ` and CRLF
    allow_unsafe_metadata: bool = False  # the user can write it, so it says nothing unless asked for
    enrich: bool = False  # fill what the token lacks from the directory
    assertion_header: str = "X-User-Assertion"  # taken from clients whatever the prefix is

    @property
    def reserved_names(self) -> tuple[str, ...]:
        """Names no client may send, beside everything under the prefix."""
        return (self.assertion_header, *(name for name, _ in self.headers))


def identity_fields(principal: Principal, policy: IdentityPolicy, user: User | None = None) -> HeaderList:
    """Write a principal as header fields, none of them empty, in a fixed order; what its token lacks is its `user`'s.

    Over `max_bytes` these go, one group after the other, and `X-User-Truncated` names what went: the picture; the
    names; permissions; extra headers, the last first; scopes; external id; e-mail. Who, on whose behalf, in which
    session and organisation, and the role always stay.

    Raises:
        InternalError: what must stay is already too much.
    """
    fields: dict[str, bytes] = {}
    facts = _facts(user)
    for name, value in _fixed_fields(principal, facts):
        if value:
            fields[policy.prefix + name] = value
    taken = {name.lower() for name in fields}
    extra = [
        (name, value) for name, value in _extra_fields(principal.claims, facts, policy) if name.lower() not in taken
    ]
    fields.update(extra)
    fields = _within_bound(fields, [name for name, _ in extra], policy)
    return tuple((name.encode("ascii"), value) for name, value in fields.items())


def identity_block(fields: HeaderList) -> bytes:
    """Join fields into lines, each begun by its CRLF and none ended by one, ready to stand inside a head."""
    return b"".join(b"\r\n" + name + b": " + value for name, value in fields)


def _facts(user: User | None) -> Mapping[str, object]:
    """Give what is known of a user by the names of CONTRACT §7."""
    return _NOTHING if user is None else {name: getattr(user, name) for name in USER_FIELDS}


def _fixed_fields(principal: Principal, facts: Mapping[str, object]) -> Iterator[tuple[str, bytes]]:
    # A machine writes its token's claims itself, as users' backends do those of API keys: they name no person.
    claims = _NOTHING if principal.is_machine else principal.claims
    email, verified = _email(claims, facts)
    yield "Id", _encoded(principal.user_id)
    yield "Machine-Id", _encoded(principal.machine_id)
    yield "Email", email
    yield "Email-Verified", verified
    yield "Name", _said(claims, "name") or _said(facts, "name")
    yield "Given-Name", _said(claims, "given_name") or _said(facts, "given_name")
    yield "Family-Name", _said(claims, "family_name") or _said(facts, "family_name")
    yield "Nickname", _said(claims, "nickname") or _said(facts, "nickname")
    yield "Picture", _said(claims, "picture") or _said(facts, "picture")
    yield "External-Id", _said(facts, "external_id")
    yield "Session-Id", _encoded(principal.session_id)
    yield "Org-Id", _encoded(principal.org_id)
    yield "Org-Slug", _encoded(principal.org_slug)
    yield "Org-Role", _encoded(principal.org_role)
    yield "Org-Permissions", encode_list(principal.org_permissions)
    yield "Token-Type", _encoded(principal.token_type)
    yield "Scopes", encode_list(principal.scopes)
    yield "Actor", _encoded(principal.actor)


def _email(claims: Claims, facts: Mapping[str, object]) -> tuple[bytes, bytes]:
    """Give an address, and whether that address is verified: the one must never come to stand beside another."""
    said, known = _said(claims, "email"), _said(facts, "email")
    if not said:
        return known, _verified(facts.get("email_verified")) if known else b""
    verified = _verified(claims.get("email_verified"))
    return said, verified or (_verified(facts.get("email_verified")) if said.lower() == known.lower() else b"")


def _droppable(extra: list[str], prefix: str) -> Iterator[list[str]]:
    fixed = (["Picture"], ["Name", "Given-Name", "Family-Name", "Nickname"], ["Org-Permissions"])
    yield from ([prefix + name for name in group] for group in fixed)
    yield from ([name] for name in reversed(extra))
    yield from (
        [prefix + name for name in group] for group in (["Scopes"], ["External-Id"], ["Email", "Email-Verified"])
    )


def _within_bound(fields: dict[str, bytes], extra: list[str], policy: IdentityPolicy) -> dict[str, bytes]:
    marker = policy.prefix + "Truncated"
    kept, left_out = dict(fields), list[str]()
    for group in _droppable(extra, policy.prefix):
        if _size(kept) <= policy.max_bytes:
            return kept
        left_out += [name for name in group if name in fields]
        kept = {name: value for name, value in fields.items() if name not in left_out}
        if left_out:
            kept[marker] = encode_list(left_out)
    if _size(kept) > policy.max_bytes:
        kept.pop(marker, None)  # its own bytes must not turn a request away that fits without them
    if _size(kept) > policy.max_bytes:
        raise InternalError(detail=f"identity fields exceed {policy.max_bytes} bytes with all left out that may be")
    return kept


def _size(fields: dict[str, bytes]) -> int:
    return sum(len(name) + len(value) + _FIELD_OVERHEAD for name, value in fields.items())


def _extra_fields(claims: Claims, facts: Mapping[str, object], policy: IdentityPolicy) -> Iterator[tuple[str, bytes]]:
    for name, path in policy.headers:
        value = _encoded_claim(_extra_fact(claims, facts, path, policy))
        if value:
            yield name, value


def _extra_fact(claims: Claims, facts: Mapping[str, object], path: str, policy: IdentityPolicy) -> object:
    if not policy.allow_unsafe_metadata and path.split(".", 1)[0] == _USER_METADATA:
        return None
    for known in (claims, facts):
        said = claim_at(known, path)
        if said is not ABSENT and said is not None:  # a template writes null for what Clerk does not have
            return said
    return None


def unusable_headers(claims: Claims, policy: IdentityPolicy, user: User | None = None) -> tuple[str, ...]:
    """Name the extra headers whose fact is there but cannot be written: an object, or a list of more than scalars."""
    facts = _facts(user)
    said = ((name, _extra_fact(claims, facts, path, policy)) for name, path in policy.headers)
    return tuple(name for name, value in said if value is not None and _encoded_claim(value) is None)


def _encoded_claim(value: object) -> bytes | None:
    if isinstance(value, list):
        texts = [_scalar_text(item) for item in value]
        return None if None in texts else encode_list(text for text in texts if text is not None)
    text = _scalar_text(value)
    return None if text is None else encode_value(text)


def _scalar_text(value: object) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else None
    return str(value) if isinstance(value, (str, int)) else None


def _said(facts: Mapping[str, object], name: str) -> bytes:
    value = facts.get(name)
    return _encoded(value) if isinstance(value, str) else b""


def _verified(value: object) -> bytes:
    # Template shortcodes can make text of a boolean; 1 and "yes" are somebody else's idea of one.
    text = _scalar_text(value) if isinstance(value, (bool, str)) else None
    return text.encode() if text in ("true", "false") else b""


def _encoded(text: str | None) -> bytes:
    return encode_value(text) if text else b""


def encode_value(text: str) -> bytes:
    """Percent-encode a value so that one decode restores it; b"" where UTF-8 has no form for it (lone surrogates)."""
    try:
        return _quoted(text, _PLAIN).encode("ascii")
    except UnicodeEncodeError:
        return b""


def encode_list(items: Iterable[str]) -> bytes:
    """Join values by commas, with the commas inside them encoded; b"" where one of them has no form."""
    try:
        return ",".join([_quoted(item, _PLAIN_IN_LIST) for item in items]).encode("ascii")
    except UnicodeEncodeError:
        return b""


def _quoted(text: str, plain: str) -> str:
    quoted = quote(text, safe=plain)
    inner = quoted.strip(" ")
    # RFC 9110 §5.5: blanks around a value are not part of it, so only those inside may stand for themselves.
    before = quoted.index(inner)
    return "%20" * before + inner + "%20" * (len(quoted) - before - len(inner))
