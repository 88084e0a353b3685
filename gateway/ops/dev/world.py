"""What has become of the samples: users, organisations, memberships and sessions as the local issuer knows them now.

Kept in memory for one run. It changes only through `happenings`, which says what Clerk would announce of each change.
"""

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from gateway.ops.dev.objects import Session
from gateway.ops.dev.people import (
    ORGANISATIONS,
    PEOPLE,
    Membership,
    Organisation,
    Person,
    find_organisation,
    find_person,
)

T = TypeVar("T", Person, Organisation, Membership, Session)


class World:
    """Begins with the samples; `now` in Unix seconds."""

    def __init__(
        self,
        people: Sequence[Person] = PEOPLE,
        organisations: Sequence[Organisation] = ORGANISATIONS,
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._now = now
        self._people = {person.id: replace(person, memberships=()) for person in people}
        self._organisations = {organisation.id: organisation for organisation in organisations}
        self._memberships = {
            (person.id, held.organisation.id): replace(held, id=_membership_id(person.id, held.organisation.id))
            for person in people
            for held in person.memberships
        }
        self._sessions: dict[str, Session] = {}  # each user's open one
        self._gone: set[str] = set()

    def copy(self) -> "World":
        """Give another one that is alike, to see what a change would do."""
        made = World((), (), now=self._now)
        made._people, made._organisations = dict(self._people), dict(self._organisations)
        made._memberships, made._sessions, made._gone = dict(self._memberships), dict(self._sessions), set(self._gone)
        return made

    def now_ms(self) -> int:
        """Give the moment in ms."""
        return int(self._now() * 1000)

    def touched(self, row: T) -> T:
        """Give a row changed just now: later than it ever was, so that two changes in one ms are told apart."""
        return replace(row, updated_at=max(self.now_ms(), row.updated_at + 1))

    # --- looking -----------------------------------------------------------------------------------------------------

    @property
    def people(self) -> tuple[Person, ...]:
        """Everybody, with their memberships."""
        return tuple(self._with_memberships(person) for person in self._people.values())

    @property
    def organisations(self) -> tuple[Organisation, ...]:
        """Every organisation."""
        return tuple(self._organisations.values())

    def is_known(self, key: str) -> bool:
        """Whether a user or an organisation is there: any other id of the right form is one nothing is known of."""
        return key in self._people or key in self._organisations

    def person(self, wanted: str | None) -> Person:
        """Find a user as `find_person` does. Raises ValueError, also for one who was deleted."""
        found = find_person(wanted, self.people)
        self._check_not_gone(found.id)
        return found

    def organisation(self, wanted: str) -> Organisation:
        """Find an organisation as `find_organisation` does. Raises ValueError, also for one that was deleted."""
        found = find_organisation(wanted, self.organisations)
        self._check_not_gone(found.id)
        return found

    def _check_not_gone(self, key: str) -> None:
        if key in self._gone:
            raise ValueError(f"{key} was deleted, and Clerk never gives an id again: take another")

    def members(self, org_id: str) -> list[tuple[Person, Membership]]:
        """Give an organisation's members, in the order they joined."""
        held = {user_id: each for (user_id, key), each in self._memberships.items() if key == org_id}
        return [(self._people[user_id], self._whole(each)) for user_id, each in held.items()]

    def session(self, user_id: str) -> Session | None:
        """Give a user's open session."""
        return self._sessions.get(user_id)

    def session_by_id(self, session_id: str) -> Session | None:
        """Give an open session."""
        return next((session for session in self._sessions.values() if session.id == session_id), None)

    def _with_memberships(self, person: Person) -> Person:
        held = [each for (user_id, _), each in self._memberships.items() if user_id == person.id]
        return replace(person, memberships=tuple(map(self._whole, held)))

    def _whole(self, held: Membership) -> Membership:
        return replace(held, organisation=self._organisations[held.organisation.id])

    # --- changing ----------------------------------------------------------------------------------------------------

    def put_person(self, person: Person) -> None:
        """Keep a user as it is now; memberships are kept apart."""
        self._people[person.id] = replace(person, memberships=())

    def put_organisation(self, organisation: Organisation) -> None:
        """Keep an organisation as it is now."""
        self._organisations[organisation.id] = organisation

    def join(self, person: Person, organisation: Organisation) -> Membership:
        """Make a membership. Who left and comes back has another one, with an id of its own."""
        key = f"{_membership_id(person.id, organisation.id)}_{secrets.token_hex(3)}"
        moment = self.now_ms()
        held = Membership(organisation, "org:member", key, created_at=moment, updated_at=moment)
        self.put_membership(person, held)
        return held

    def put_membership(self, person: Person, held: Membership) -> None:
        """Keep a membership as it is now."""
        self._memberships[person.id, held.organisation.id] = held

    def leave(self, person: Person, held: Membership) -> None:
        """End a membership."""
        del self._memberships[person.id, held.organisation.id]

    def begin_session(self, user_id: str) -> Session:
        """Sign a user in anew."""
        moment = self.now_ms()
        key = f"sess_{user_id.removeprefix('user_')}_{secrets.token_hex(4)}"
        self._sessions[user_id] = Session(key, user_id, moment, moment)
        return self._sessions[user_id]

    def end_session(self, session: Session, status: str) -> Session:
        """End a session; give it as it ended."""
        self._sessions.pop(session.user_id, None)
        return replace(self.touched(session), status=status)

    def drop(self, key: str) -> None:
        """Take a user or an organisation away, with memberships and session, for good."""
        self._people.pop(key, None)
        self._organisations.pop(key, None)
        self._sessions.pop(key, None)
        self._memberships = {ends: held for ends, held in self._memberships.items() if key not in ends}
        self._gone.add(key)


def _membership_id(user_id: str, org_id: str) -> str:
    return f"orgmem_{user_id.removeprefix('user_')}_{org_id.removeprefix('org_')}"
