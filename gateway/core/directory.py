"""The directory's rows, and how they come from what Clerk says of a user, an organisation or a membership.

Events come in any order, twice, or never. Each gives a whole row, rows of one object are totally ordered by `version`,
and the greatest stays: so any order of the same events leaves the same rows, and repeating one changes nothing.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any, Final, TypeVar

import orjson

from gateway.core.events import Event, as_ms, as_name, member

MAX_TEXT_BYTES: Final = 2000  # PostgreSQL takes 2,704 bytes into an index (BTMaxItemSize)
DIGEST_BYTES: Final = 16
# Claims of a token, by the names that OpenID Connect Core §5.1 and a user's row share.
_CLAIMED: Final = ("email", "name", "given_name", "family_name", "nickname", "picture")
SAID_BY_CLERK: Final = 8  # bytes of a version, deletion and the higher ones of `updated_at`: 0 until 256 ms into 1970


@dataclass(frozen=True, slots=True)
class User:
    """A user as CONTRACT §7 shapes one; times in ms. Of a deleted one nothing is left but the id and when."""

    id: str
    version: bytes = b""
    email: str | None = None  # the primary one
    email_verified: bool | None = None  # None without an e-mail
    name: str | None = None
    given_name: str | None = None
    family_name: str | None = None
    nickname: str | None = None
    picture: str | None = None
    external_id: str | None = None
    banned: bool = False
    locked: bool = False
    public_metadata: Mapping[str, Any] | None = None
    created_at: int | None = None
    updated_at: int | None = None
    deleted: bool = False


@dataclass(frozen=True, slots=True)
class Organization:
    """An organisation."""

    id: str
    version: bytes = b""
    name: str | None = None
    slug: str | None = None
    picture: str | None = None
    public_metadata: Mapping[str, Any] | None = None
    created_at: int | None = None
    updated_at: int | None = None
    deleted: bool = False


@dataclass(frozen=True, slots=True)
class Membership:
    """A user's place in an organisation. Who leaves and comes back has another one, with an id of its own."""

    id: str
    version: bytes = b""
    org_id: str | None = None
    user_id: str | None = None
    role: str | None = None
    public_metadata: Mapping[str, Any] | None = None
    created_at: int | None = None
    updated_at: int | None = None
    deleted: bool = False


Row = User | Organization | Membership
R = TypeVar("R", User, Organization, Membership)


def fold(known: R | None, new: R) -> R:
    """Give the one of two rows of the same object that counts."""
    return new if known is None or new.version > known.version else known


def row_of(event: Event) -> Row | None:
    """Give the row an event makes; None where it says nothing about the directory."""
    kind, _, what = event.type.partition(".")
    make = _MAKERS.get(kind)
    if make is None or event.object_id is None:
        return None
    if what == "deleted":
        return _tombstone(kind, event)
    return make(event.data, at=event.at) if what in ("created", "updated") else None


def user_row(data: Mapping[str, Any], *, at: int) -> User | None:
    """Make the row of Clerk's user object as it was at `at` (ms); None for what is none."""
    key = as_name(data.get("id"))
    if key is None:
        return None
    email, verified = _primary_email(data)
    given, family = _text(data.get("first_name")), _text(data.get("last_name"))
    return _versioned(
        User(
            id=key,
            email=email,
            email_verified=verified,
            name=_text(" ".join(part for part in (given, family) if part)),
            given_name=given,
            family_name=family,
            nickname=_text(data.get("username")),
            picture=_text(data.get("image_url")),
            external_id=_text(data.get("external_id")),
            banned=data.get("banned") is True,
            locked=data.get("locked") is True,
            public_metadata=member(data, "public_metadata"),
            created_at=as_ms(data.get("created_at")),
            updated_at=as_ms(data.get("updated_at")),
        ),
        at,
    )


def claims_row(user_id: str, claims: Mapping[str, Any]) -> User | None:
    """Make the row of a user of whom nothing is known but a verified token; None where the id can name none.

    Older than anything Clerk says of the user, whatever came first; of two, the one that says more counts.
    """
    if as_name(user_id) is None:
        return None
    said = {name: _text(claims.get(name)) for name in _CLAIMED}
    verified = claims.get("email_verified")
    known: dict[str, Any] = {name: value for name, value in said.items() if value is not None}
    row = User(
        id=user_id, email_verified=verified if said["email"] and isinstance(verified, bool) else None,
        public_metadata={}, **known,
    )  # fmt: skip
    return _versioned(row, len(known))


def is_provisional(user: User) -> bool:
    """Say whether a row was made of a token's claims alone."""
    return not user.deleted and user.version[:SAID_BY_CLERK] == bytes(SAID_BY_CLERK)


def organization_row(data: Mapping[str, Any], *, at: int) -> Organization | None:
    """Make the row of Clerk's organisation object as it was at `at` (ms); None for what is none."""
    key = as_name(data.get("id"))
    if key is None:
        return None
    return _versioned(
        Organization(
            id=key,
            name=_text(data.get("name")),
            slug=_text(data.get("slug")),
            picture=_text(data.get("image_url")),
            public_metadata=member(data, "public_metadata"),
            created_at=as_ms(data.get("created_at")),
            updated_at=as_ms(data.get("updated_at")),
        ),
        at,
    )


def membership_row(data: Mapping[str, Any], *, at: int) -> Membership | None:
    """Make the row of Clerk's membership object as it was at `at` (ms); None for what is none."""
    key, org_id, user_id = as_name(data.get("id")), *both_ends(data)
    if key is None or org_id is None or user_id is None:
        return None
    return _versioned(
        Membership(
            id=key,
            org_id=org_id,
            user_id=user_id,
            role=_text(data.get("role")),
            public_metadata=member(data, "public_metadata"),
            created_at=as_ms(data.get("created_at")),
            updated_at=as_ms(data.get("updated_at")),
        ),
        at,
    )


_MAKERS: Final[Mapping[str, Callable[..., Row | None]]] = {
    "user": user_row,
    "organization": organization_row,
    "organizationMembership": membership_row,
}


def buried(row: Row, *, at: int) -> Row:
    """Say that something is gone since `at` (ms), and nothing more: an erased person stays erased."""
    bare: Any = type(row)(row.id, updated_at=at, deleted=True)
    if isinstance(row, Membership):
        bare = replace(bare, org_id=row.org_id, user_id=row.user_id)
    tombstone: Row = _versioned(bare, at)
    return tombstone


def _tombstone(kind: str, event: Event) -> Row:
    key = event.object_id or ""
    if kind == "user":
        return buried(User(key), at=event.at)
    if kind == "organization":
        return buried(Organization(key), at=event.at)
    org_id, user_id = both_ends(event.data)
    return buried(Membership(key, org_id=org_id, user_id=user_id), at=event.at)


def is_buried(version: bytes) -> bool:
    """Say whether a version is that of something deleted."""
    return version[:1] == b"\1"


def updated_at(version: bytes) -> int:
    """Say when Clerk last changed what has this version, in ms; 0 where Clerk has said nothing of it."""
    return int.from_bytes(version[1:9], "big")


def has_content(row: Row, version: bytes) -> bool:
    """Say whether what had this version was the same as this row in everything but when it was heard of."""
    return version[-DIGEST_BYTES:] == row.version[-DIGEST_BYTES:]


def outranking(row: Row, version: bytes) -> Row:
    """Give a row a version just above another's, for where the row is known to be right whatever the times say."""
    at = int.from_bytes(version[9:17], "big") + 1
    return replace(row, version=version[:9] + at.to_bytes(8, "big") + row.version[-DIGEST_BYTES:])


def _versioned(row: R, at: int) -> R:
    """Place a row among all of its object: the deleted last, else by Clerk's `updated_at`, then the event's own time.

    Two that agree in all of this differ by their content alone, whose hash decides the same way everywhere. One
    comparison of bytes, so that a database orders them as Python does.
    """
    said_at = row.updated_at if row.updated_at is not None else at
    content = {name: getattr(row, name) for name in row.__slots__} | {"version": None}  # asdict would copy metadata too
    digest = sha256(orjson.dumps(content, option=orjson.OPT_SORT_KEYS)).digest()
    order = b"%b%b%b" % (bytes([row.deleted]), said_at.to_bytes(8, "big"), at.to_bytes(8, "big"))
    return replace(row, version=order + digest[:DIGEST_BYTES])


def _primary_email(data: Mapping[str, Any]) -> tuple[str | None, bool | None]:
    wanted, entries = data.get("primary_email_address_id"), data.get("email_addresses")
    if wanted is not None and isinstance(entries, list):
        for entry in entries:
            if isinstance(entry, dict) and entry.get("id") == wanted:
                email = _text(entry.get("email_address"))
                return email, None if email is None else member(entry, "verification").get("status") == "verified"
    return None, None


def both_ends(data: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """Give the organisation and the user of Clerk's membership object."""
    organization = as_name(member(data, "organization").get("id"))
    return organization, as_name(member(data, "public_user_data").get("user_id"))


def _text(value: Any) -> str | None:
    """Give a text as every database takes it; None where it is empty or too long, since half a value would be wrong."""
    if not isinstance(value, str):
        return None
    clean = value.replace("\0", "")  # PostgreSQL has no text with NUL
    return clean if clean and len(clean.encode()) <= MAX_TEXT_BYTES else None
