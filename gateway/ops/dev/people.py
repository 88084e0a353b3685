"""The made-up users and organisations of the local issuer. Facts only; tokens are made of them in `shapes`."""

from dataclasses import dataclass

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


@dataclass(frozen=True, slots=True)
class Membership:
    """A person's role (with `org:`) in an organisation."""

    organisation: Organisation
    role: str


@dataclass(frozen=True, slots=True)
class Person:
    """A user; the first membership is the organisation that is active when none is asked for."""

    id: str
    given_name: str = ""
    family_name: str = ""
    email: str = ""
    external_id: str = ""
    memberships: tuple[Membership, ...] = ()
    plan: str = "free"
    features: tuple[str, ...] = ()
    pending: bool = False  # signed up, with a session task still open

    @property
    def name(self) -> str:
        """The full name, "" for a user without one."""
        return f"{self.given_name} {self.family_name}".strip()


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


def find_person(wanted: str | None) -> Person:
    """Find a sample user by id or first name; None is the first, any other `user_…` a user nothing is known of.

    Raises:
        ValueError: neither a sample user nor of the form of a user id.
    """
    if wanted is None:
        return PEOPLE[0]
    for person in PEOPLE:
        if wanted in (person.id, person.given_name.lower()):
            return person
    if wanted.startswith("user_"):
        return Person(wanted)
    known = ", ".join(person.id for person in PEOPLE)
    raise ValueError(f"no user {wanted!r}: take {known}, or any id that begins with user_")


def find_organisation(wanted: str) -> Organisation:
    """Find a sample organisation by id or slug; any other `org_…` is one nothing is known of.

    Raises:
        ValueError: neither a sample organisation nor of the form of an organisation id.
    """
    for organisation in ORGANISATIONS:
        if wanted in (organisation.id, organisation.slug):
            return organisation
    if wanted.startswith("org_"):
        return Organisation(wanted, slug=wanted.removeprefix("org_").lower(), name=wanted)
    known = ", ".join(organisation.slug for organisation in ORGANISATIONS)
    raise ValueError(f"no organisation {wanted!r}: take {known}, none, or any id that begins with org_")
