"""What happens at the local issuer: a type of event becomes a change of its world, and what Clerk announces of it.

Events of the known types tell the state after the change. A type nothing is known of changes nothing and says what it
is told to say: any event can be had.
"""

import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from gateway.ops.dev.changes import MEMBERSHIP, ORGANISATION, RAW, USER, changed, put_all
from gateway.ops.dev.objects import Session, deleted_json, membership_json, organisation_json, session_json, user_json
from gateway.ops.dev.people import Membership, Organisation, Person
from gateway.ops.dev.shapes import read_role
from gateway.ops.dev.world import World

TYPE = re.compile(r"[!-~]{1,255}")  # what the gateway takes for a name
LONGEST_NAME = 255  # every dot in it leads a level deeper


class Happening(NamedTuple):
    """One event: its type, and what it says."""

    type: str
    data: dict[str, Any]

    @property
    def about(self) -> str:
        """Name whom or what it is about, in an id."""
        holder = self.data.get("public_user_data")
        user_id = holder.get("user_id") if isinstance(holder, dict) else self.data.get("user_id")
        return str(user_id or self.data.get("id") or "")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What shall happen: the type of its event, whom it concerns, and what changes."""

    type: str
    user: str | None = None  # as `find_person` takes it; None: the first, or for user.created a new one
    org: str | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)  # by Clerk's names, dots lead into metadata


def happen(world: World, wanted: Wanted) -> list[Happening]:
    """Let it happen; give the events in the order Clerk would send them, the one asked for first.

    Raises:
        ValueError: nobody or nothing of that name, or a change that cannot be; then nothing has changed.
    """
    if not TYPE.fullmatch(wanted.type):
        raise ValueError("a type is like user.updated: printable ASCII without blanks, 255 characters at most")
    if any(len(name) > LONGEST_NAME for name in wanted.changes):
        raise ValueError(f"a name has at most {LONGEST_NAME} characters")
    raw = {name.removeprefix(RAW): value for name, value in wanted.changes.items() if name.startswith(RAW)}
    meant = {name: value for name, value in wanted.changes.items() if not name.startswith(RAW)}
    kind, _, what = wanted.type.partition(".")
    known = _KNOWN.get((kind, what), _anything)
    if meant and known in (_user_deleted, _organisation_deleted, _membership_deleted, _session_begun, _session_over):
        raise ValueError(
            f"{wanted.type} changes nothing but that; `{RAW}{next(iter(meant))}` goes into the event alone"
        )
    first, *others = known(world, replace(wanted, changes=meant))
    return [Happening(first.type, put_all(first.data, raw)), *others]


# --- users -----------------------------------------------------------------------------------------------------------


def _user_saved(world: World, wanted: Wanted) -> list[Happening]:
    old = _user_meant(world, wanted)
    is_new = not world.is_known(old.id)
    person = changed(old, wanted.changes, USER)
    if is_new or wanted.changes:
        person = replace(person, created_at=world.now_ms()) if is_new else person
        person = world.touched(person)
        world.put_person(person)
    return [Happening(wanted.type, user_json(person)), *_signed_out(world, person)]


def _user_meant(world: World, wanted: Wanted) -> Person:
    if wanted.type != "user.created":
        return _known_user(world, wanted.user)
    found = world.person(f"user_{secrets.token_hex(6)}" if wanted.user is None else wanted.user)
    if world.is_known(found.id):
        return found
    return replace(found, email=f"{found.id.removeprefix('user_').lower()}@mail.example")


def _known_user(world: World, wanted: str | None) -> Person:
    person = world.person(wanted)
    if not world.is_known(person.id):
        raise ValueError(f"no user {person.id!r}: `user.created` makes one")
    return person


def _signed_out(world: World, person: Person) -> list[Happening]:
    # Banning revokes every session ([docs] reference/backend/user/ban-user); a lock keeps from signing in.
    session = world.session(person.id)
    if not person.banned or session is None:
        return []
    return [_session_event(person, world.end_session(session, "revoked"), "session.revoked")]


def _user_deleted(world: World, wanted: Wanted) -> list[Happening]:
    if wanted.user is None:
        raise ValueError("say who is deleted with --user")
    person = _known_user(world, wanted.user)
    left = [_left(world, person, held) for held in person.memberships]
    world.drop(person.id)
    return [Happening(wanted.type, deleted_json("user", person.id, person.external_id)), *left]


# --- organisations and memberships -----------------------------------------------------------------------------------


def _organisation_saved(world: World, wanted: Wanted) -> list[Happening]:
    old = _organisation_meant(world, wanted)
    is_new = not world.is_known(old.id)
    organisation = changed(old, wanted.changes, ORGANISATION)
    if is_new or wanted.changes:
        organisation = replace(organisation, created_at=world.now_ms()) if is_new else organisation
        organisation = world.touched(organisation)
        world.put_organisation(organisation)
    members = len(world.members(organisation.id))
    return [Happening(wanted.type, organisation_json(organisation, members=members))]


def _organisation_meant(world: World, wanted: Wanted) -> Organisation:
    if wanted.type == "organization.created":
        return world.organisation(f"org_{secrets.token_hex(6)}" if wanted.org is None else wanted.org)
    return _known_organisation(world, wanted.org)


def _known_organisation(world: World, wanted: str | None) -> Organisation:
    if wanted is None:
        raise ValueError("name an organisation with --org, for example acme")
    organisation = world.organisation(wanted)
    if not world.is_known(organisation.id):
        raise ValueError(f"no organisation {organisation.id!r}: `organization.created` makes one")
    return organisation


def _organisation_deleted(world: World, wanted: Wanted) -> list[Happening]:
    organisation = _known_organisation(world, wanted.org)
    left = [_left(world, person, held) for person, held in world.members(organisation.id)]
    world.drop(organisation.id)
    return [Happening(wanted.type, deleted_json("organization", organisation.id)), *left]


def _membership_saved(world: World, wanted: Wanted) -> list[Happening]:
    person, held = _membership_meant(world, wanted)
    changes = dict(wanted.changes)
    if "role" in changes:
        changes["role"] = read_role(str(changes["role"]))
    if held is None:
        organisation = _known_organisation(world, wanted.org)
        changed(Membership(organisation, ""), changes, MEMBERSHIP)  # raises before anybody has joined
        held = world.join(person, organisation)
    elif not changes:
        return [_membership_event(world, person, held, wanted.type)]
    held = world.touched(changed(held, changes, MEMBERSHIP))
    world.put_membership(person, held)
    return [_membership_event(world, person, held, wanted.type)]


def _membership_meant(world: World, wanted: Wanted) -> tuple[Person, Membership | None]:
    """Find the membership; None for one that is only to be."""
    person = _known_user(world, wanted.user)
    org_id = None if wanted.org is None else _known_organisation(world, wanted.org).id
    for held in person.memberships:
        if org_id in (None, held.organisation.id):
            return person, held
    if org_id is None or wanted.type != "organizationMembership.created":
        where = "any organisation" if org_id is None else org_id
        raise ValueError(f"{person.id} is no member of {where}: `organizationMembership.created --org` makes one")
    return person, None


def _membership_deleted(world: World, wanted: Wanted) -> list[Happening]:
    person, held = _membership_meant(world, wanted)
    assert held is not None
    left = _left(world, person, held)
    return [Happening(wanted.type, left.data)]


def _left(world: World, person: Person, held: Membership) -> Happening:
    # Told whole, as Clerk does: who and where would be unknown otherwise.
    told = _membership_event(world, person, world.touched(held), "organizationMembership.deleted")
    world.leave(person, held)
    return told


def _membership_event(world: World, person: Person, held: Membership, kind: str) -> Happening:
    members = len(world.members(held.organisation.id))
    return Happening(kind, membership_json(person, held, members=members))


# --- sessions --------------------------------------------------------------------------------------------------------


def check_may_sign_in(person: Person) -> None:
    """Check that Clerk would sign a user in. Raises ValueError for who is banned or locked."""
    for state, word in ((person.banned, "banned"), (person.locked, "locked")):
        if state:
            remedy = f"gateway dev event user.updated --user {person.id} --set {word}=false"
            raise ValueError(f"{person.id} is {word}, and Clerk signs nobody in who is: `{remedy}` ends it")


def sign_in(world: World, person: Person) -> tuple[Session, list[Happening]]:
    """Give a user's session; where that begins one, with what Clerk announces."""
    session = world.session(person.id)
    if session is not None:
        return session, []
    session = world.begin_session(person.id)
    # Of users nothing is known of nothing is announced either.
    told = [_session_event(person, session, "session.created")] if world.is_known(person.id) else []
    return session, told


def _session_begun(world: World, wanted: Wanted) -> list[Happening]:
    person = world.person(wanted.user)
    return [_session_event(person, world.begin_session(person.id), wanted.type)]


def _session_over(world: World, wanted: Wanted) -> list[Happening]:
    person = world.person(wanted.user)
    session = world.session(person.id) or world.begin_session(person.id)  # one that nobody has heard of
    ended = world.end_session(session, wanted.type.removeprefix("session."))
    return [_session_event(person, ended, wanted.type)]


def _session_event(person: Person, session: Session, kind: str) -> Happening:
    org_id = person.memberships[0].organisation.id if person.memberships else None
    return Happening(kind, session_json(session, org_id=org_id) | {"user": user_json(person)})


# --- anything else ---------------------------------------------------------------------------------------------------


def _anything(world: World, wanted: Wanted) -> list[Happening]:
    kind = wanted.type.partition(".")[0]
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", kind).lower()
    data: dict[str, Any] = {"object": words, "id": f"{words}_{secrets.token_hex(6)}"}
    if wanted.user is not None:
        data["user_id"] = world.person(wanted.user).id
    if wanted.org is not None:
        data["organization_id"] = world.organisation(wanted.org).id
    return [Happening(wanted.type, put_all(data, wanted.changes))]


_KNOWN: Mapping[tuple[str, str], Callable[[World, Wanted], list[Happening]]] = {
    ("user", "created"): _user_saved,
    ("user", "updated"): _user_saved,
    ("user", "deleted"): _user_deleted,
    ("organization", "created"): _organisation_saved,
    ("organization", "updated"): _organisation_saved,
    ("organization", "deleted"): _organisation_deleted,
    ("organizationMembership", "created"): _membership_saved,
    ("organizationMembership", "updated"): _membership_saved,
    ("organizationMembership", "deleted"): _membership_deleted,
    ("session", "created"): _session_begun,
    ("session", "ended"): _session_over,
    ("session", "removed"): _session_over,
    ("session", "revoked"): _session_over,
}
TYPES = tuple(f"{kind}.{what}" for kind, what in _KNOWN)
