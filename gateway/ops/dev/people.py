"""The made-up users and organisations the local issuer begins with, and how one is looked up.

Values only: `world` keeps what becomes of them, `shapes` makes tokens of them, `objects` what Clerk's API says of them.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

USER_ID = re.compile(r"user_[A-Za-z0-9_]{0,100}")
ORG_ID = re.compile(r"org_[A-Za-z0-9_]{0,100}")
MOST_NAMED = 10
BEGINNING_MS = 1_767_225_600_000  # 2026-01-01: when the samples signed up

ROLE_PERMISSIONS = {
    "org:admin": ("org:dashboard:read", "org:dashboard:manage", "org:teams:read", "org:teams:manage"),
    "org:member": ("org:dashboard:read", "org:teams:read"),
}


@dataclass(frozen=True, slots=True)
class Organisation:
    """An organisation and the features its plan brings."""

    id: str
    slug: str
    name: str
    plan: str = "free"
    features: tuple[str, ...] = ()
    image_url: str = ""
    public_metadata: Mapping[str, Any] = field(default_factory=dict)
    private_metadata: Mapping[str, Any] = field(default_factory=dict)
    created_at: int = BEGINNING_MS
    updated_at: int = BEGINNING_MS


@dataclass(frozen=True, slots=True)
class Membership:
    """A person's role (with `org:`) in an organisation."""

    organisation: Organisation
    role: str
    id: str = ""
    public_metadata: Mapping[str, Any] = field(default_factory=dict)
    private_metadata: Mapping[str, Any] = field(default_factory=dict)
    created_at: int = BEGINNING_MS
    updated_at: int = BEGINNING_MS


@dataclass(frozen=True, slots=True)
class Person:
    """A user; the first membership is the organisation that is active when none is asked for. Times in ms."""

    id: str
    given_name: str = ""
    family_name: str = ""
    email: str = ""
    external_id: str = ""
    memberships: tuple[Membership, ...] = ()
    plan: str = "free"
    features: tuple[str, ...] = ()
    pending: bool = False  # signed up, with a session task still open
    username: str = ""
    image_url: str = ""
    email_verified: bool = True
    banned: bool = False
    locked: bool = False
    public_metadata: Mapping[str, Any] = field(default_factory=dict)
    private_metadata: Mapping[str, Any] = field(default_factory=dict)
    unsafe_metadata: Mapping[str, Any] = field(default_factory=dict)
    created_at: int = BEGINNING_MS
    updated_at: int = BEGINNING_MS

    @property
    def name(self) -> str:
        """The full name, "" for a user without one."""
        return f"{self.given_name} {self.family_name}".strip()

    @property
    def picture(self) -> str:
        """The address of a picture, "" for a user nothing is known of."""
        return self.image_url or (f"https://img.example/{self.id}.png" if self.email else "")


ACME = Organisation("org_acme", "acme", "Acme", plan="pro", features=("dashboard", "exports", "teams"))
GLOBEX = Organisation("org_globex", "globex", "Globex", features=("dashboard",))
ORGANISATIONS = (ACME, GLOBEX)

PEOPLE = (
    Person(
        "user_alice",
        given_name="Alice",
        family_name="Åberg",  # not ASCII, so that the encoding of X-User-Name is seen at work
        email="alice@acme.example",
        external_id="1001",
        memberships=(Membership(ACME, "org:admin"), Membership(GLOBEX, "org:member")),
    ),
    Person(
        "user_bob",
        given_name="Bob",
        family_name="Brown",
        email="bob@acme.example",
        external_id="1002",
        memberships=(Membership(ACME, "org:member"),),
    ),
    Person(
        "user_carol",
        given_name="Carol",
        family_name="Chen",
        email="carol@mail.example",
        external_id="1003",
        plan="plus",
        features=("exports",),
    ),
    Person("user_dave", given_name="Dave", family_name="Diaz", email="dave@mail.example", pending=True),
)


def find_person(wanted: str | None, people: Sequence[Person] = PEOPLE) -> Person:
    """Find one of `people` by id, with or without `user_`, or by first name; None is the first.

    Any other `user_…` is a user nothing is known of.

    Raises:
        ValueError: neither one of them nor of the form of a user id.
    """
    if wanted is None and people:
        return people[0]
    for person in people if wanted else ():
        if wanted in (person.id, person.id.removeprefix("user_")):
            return person
    for person in people if wanted else ():
        if wanted == person.given_name.lower():
            return person
    if wanted is not None and USER_ID.fullmatch(wanted):
        return Person(wanted)
    known = ", ".join(person.id for person in people[:MOST_NAMED])
    raise ValueError(f"no user {wanted!r}: take {known}, or any id that begins with user_")


def find_organisation(wanted: str, organisations: Sequence[Organisation] = ORGANISATIONS) -> Organisation:
    """Find one of `organisations` by id or slug; any other `org_…` is one nothing is known of.

    Raises:
        ValueError: neither one of them nor of the form of an organisation id.
    """
    for organisation in organisations:
        if wanted and wanted in (organisation.id, organisation.slug):
            return organisation
    if ORG_ID.fullmatch(wanted):
        return Organisation(wanted, slug=wanted.removeprefix("org_").lower(), name=wanted)
    known = ", ".join(organisation.slug for organisation in organisations[:MOST_NAMED])
    raise ValueError(f"no organisation {wanted!r}: take {known}, none, or any id that begins with org_")
