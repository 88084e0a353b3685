"""The law of reconciliation: whatever became of a day's webhooks, after a run the directory is what Clerk has."""

import random
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, event, example, given, settings
from hypothesis import strategies as st

from gateway.core.directory import Row, membership_row, organization_row, user_row
from gateway.store.base import Arrival
from gateway.store.database import Database
from tests.fakes import clerk_events as shapes
from tests.fakes.clerk_api import World, ends
from tests.fakes.syncing import NOW_MS, Time, living, opened, synced

DAY_MS = 86_400_000
START_MS = NOW_MS - DAY_MS
MAKERS = {"users": user_row, "organizations": organization_row, "memberships": membership_row}
KIND = {"users": "user", "organizations": "organization", "memberships": "organizationMembership"}
PEOPLE, ORGS = 4, 2


class History:
    """A day at Clerk: what was done, in order, and the events that tell of it."""

    def __init__(self, steps: list[tuple[int, int, int]], *, coarse: int = 1) -> None:
        self.world, self.events = World(), list[Arrival]()
        self._coarse = coarse  # ms: imports bring their own times of creation, equal ones among them
        self._at = START_MS
        self._made = 0
        for what, who, value in steps:
            self._at += (
                1 + value % 3 * 1000
            )  # several in a millisecond are left out: updated_at is all that orders them
            self._do(what, who, value)

    def _do(self, what: int, who: int, value: int) -> None:
        if what == 0:
            self._user(who, value)
        elif what == 1:
            self._organization(who, value)
        elif what == 2:
            self._membership(who, value)
        else:
            self._delete(("users", "organizations", "memberships")[value % 3], who)

    def _user(self, who: int, value: int) -> None:
        # Who was deleted and comes back is somebody else: Clerk gives no id twice.
        self._keep("users", self._alive("users", "user", who), first_name=f"Ada{value}", banned=value % 5 == 0)

    def _organization(self, who: int, value: int) -> None:
        self._keep("organizations", self._alive("organizations", "org", who % ORGS), name=f"Acme{value}")

    def _membership(self, who: int, value: int) -> None:
        user, org = self._alive("users", "user", who), self._alive("organizations", "org", value % ORGS)
        if user not in self.world.members["users"] or org not in self.world.members["organizations"]:
            return
        for each in self.world.members["memberships"].values():
            if ends(each) == (org, user):
                self._keep("memberships", each["id"], user_id=user, org_id=org, role=f"org:r{value}")
                return
        self._made += 1
        self._keep("memberships", f"orgmem_{self._made}", user_id=user, org_id=org, role=f"org:r{value}")

    def _alive(self, of: str, prefix: str, number: int) -> str:
        found = [key for key in self.world.members[of] if key.startswith(f"{prefix}_{number}_")]
        self._made += 0 if found else 1
        return found[0] if found else f"{prefix}_{number}_{self._made}"

    def _keep(self, of: str, key: str, **members: Any) -> None:
        known, born = self.world.members[of].get(key), self._at - self._at % self._coarse
        make = {"users": shapes.user, "organizations": shapes.organization, "memberships": shapes.membership}[of]
        made = make(key, created_at=known["created_at"] if known else born, updated_at=self._at, **members)
        self.world.put(of, made)
        self._tell(f"{KIND[of]}.{'updated' if known else 'created'}", made)

    def _delete(self, of: str, who: int) -> None:
        keys = sorted(self.world.members[of])
        if keys:
            key = keys[who % len(keys)]
            data = shapes.gone(key, of.removesuffix("s"))
            if of == "memberships":
                data = self.world.members[of][key]
            self.world.delete(of, key)
            self._tell(f"{KIND[of]}.deleted", data)

    def _tell(self, kind: str, data: dict[str, Any]) -> None:
        made = shapes.event(kind, dict(data), at=self._at)
        self.events.append(Arrival(f"msg_{len(self.events)}", made, self._at + 50))


class Copied(World):
    """Gives lists as they were a while ago."""

    def __init__(self, world: World, behind_ms: int) -> None:
        super().__init__()
        self.members, self.behind_ms, self.now = world.members, behind_ms, 0
        self.kept: list[tuple[int, dict[str, dict[str, Any]]]] = []  # as it was until then

    def keep(self, now: int) -> None:
        """Keep what there is before it changes."""
        self.kept.append((now, {of: dict(each) for of, each in self.members.items()}))

    def by_creation(self, of: str) -> list[dict[str, Any]]:
        """Everything of a kind, as the copy has it."""
        members = self.members
        for until, was in reversed(self.kept):
            if until > self.now - self.behind_ms:
                members = was
        return sorted(members[of].values(), key=lambda each: (each["created_at"], each["id"]))

    def total(self, of: str, org_id: str | None = None) -> int:
        """Count what the copy has."""
        return len([each for each in self.by_creation(of) if org_id is None or ends(each)[0] == org_id])


class Always(random.Random):
    """Lets all that waits happen at once."""

    def randrange(self, start: int, stop: int | None = None, step: int = 1) -> int:
        """Give the last of them."""
        return (start if stop is None else stop) - 1


STEPS = st.lists(
    st.tuples(st.sampled_from([0, 0, 0, 1, 2, 2, 3]), st.integers(0, PEOPLE - 1), st.integers(0, 30)), max_size=25
)


def expected(world: World) -> dict[str, Row]:
    rows = {}
    for of, make in MAKERS.items():
        for key, each in world.members[of].items():
            row = make(each, at=0)
            assert row is not None
            rows[key] = replace(row, version=b"")
    return rows


def contents(database: Database) -> dict[str, Row]:
    return {key: replace(row, version=b"") for key, row in living(database).items()}


def received(database: Database, arrivals: list[Arrival], *, at: int) -> None:
    """Deliver these: each on its own, twice where it is there twice."""
    for number, arrival in enumerate(arrivals):
        svix_id = f"{arrival.svix_id}_{number}" if number % 2 else arrival.svix_id  # a replay may get a new id
        database.put([replace(arrival, svix_id=svix_id, received_at=at)])


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(STEPS, st.data(), st.integers(2, 8), st.sampled_from([1, 5000, DAY_MS]), st.randoms(use_true_random=False))
def test_after_a_run_the_directory_is_what_clerk_has(
    steps: list[tuple[int, int, int]], data: st.DataObject, limit: int, coarse: int, chance: random.Random
) -> None:
    history = History(steps, coarse=coarse)
    fates = data.draw(
        st.lists(
            st.sampled_from(["came", "came", "lost", "twice", "late"]),
            min_size=len(history.events), max_size=len(history.events),
        )
    )  # fmt: skip
    told = list(zip(history.events, fates, strict=True))
    early = [each for each, fate in told for _ in range(2 if fate == "twice" else 1) if fate in ("came", "twice")]
    late = [each for each, fate in told if fate == "late"]
    chance.shuffle(early)
    chance.shuffle(late)
    time = Time()
    with tempfile.TemporaryDirectory() as folder, opened(Path(folder)) as database:
        received(database, early, at=NOW_MS - 1)  # a moment ago: whoever has just repaired something runs it at once
        done = synced(database, history.world, time, limit=limit)
        event(f"changed {bool(done.total.added + done.total.mended + done.total.gone)}")
        want = expected(history.world)
        assert contents(database) == want
        # Nothing is found a second time,
        time.at += 60_000
        again = synced(database, history.world, time, limit=limit).total
        assert (again.added, again.mended, again.gone, again.newer) == (0, 0, 0, 0)
        assert again.same == len(want)
        # and what comes late changes nothing that is known, except of those whose end nobody told.
        received(database, late, at=time.ms())
        now = contents(database)
        assert {key: now[key] for key in want} == want
        time.at += 60_000
        synced(database, history.world, time, limit=limit)
        assert contents(database) == want


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(STEPS, STEPS, st.integers(2, 6), st.sampled_from([0, 0, 500, 3000]), st.randoms(use_true_random=False))
# What a list from a copy makes of somebody whose webhooks came first: changed,
@example([(0, 0, 1)], [(0, 0, 2)], 6, 3000, Always())
# and deleted.
@example([(0, 0, 1)], [(3, 0, 0)], 6, 3000, Always())
def test_what_happens_during_a_run_is_not_undone_by_it(
    before: list[tuple[int, int, int]], during: list[tuple[int, int, int]], limit: int, behind_ms: int,
    chance: random.Random,
) -> None:  # fmt: skip
    """Clerk goes on changing while it is read, and tells of it by webhooks that come when they like.

    Its lists come from a copy that is `behind_ms` behind, where single objects do not.
    """
    history = History(before)
    clerk = Copied(history.world, behind_ms)
    known = len(history.events)
    time = Time()
    history._at = NOW_MS
    waiting = list(during)

    def meanwhile(path: str) -> None:
        clerk.now = time.ms()
        for _ in range(chance.randrange(3)):
            if waiting:
                history._at = max(history._at + 1, time.ms())
                clerk.keep(time.ms())
                history._do(*waiting.pop(0))
        for _ in range(chance.randrange(3)):
            pending = [each for each in history.events[known:] if each.svix_id not in told]
            if pending:
                arrival = chance.choice(pending)
                told.add(arrival.svix_id)
                database.put([replace(arrival, received_at=time.ms())])

    told: set[str] = set()
    with tempfile.TemporaryDirectory() as folder, opened(Path(folder)) as database:
        received(database, [each for each in history.events if chance.random() < 0.5], at=NOW_MS - 60_000)
        synced(database, clerk, time, limit=limit, before=meanwhile)
        rest = [each for each in history.events[known:] if each.svix_id not in told]
        chance.shuffle(rest)
        received(database, rest, at=time.ms())
        assert contents(database) == expected(history.world)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(STEPS, st.lists(st.tuples(st.just(3), st.integers(0, 9), st.integers(0, 30)), max_size=6), st.integers(2, 6))
@example([(0, 0, 1)], [(3, 0, 0)], 6)
def test_who_is_erased_stays_erased_however_old_a_list_is(
    before: list[tuple[int, int, int]], deletions: list[tuple[int, int, int]], limit: int
) -> None:
    """A deletion that was told of half a minute ago, and lists that are a minute old."""
    history = History(before)
    clerk = Copied(history.world, 60_000)
    history._at = told_at = NOW_MS - 30_000
    clerk.keep(told_at)
    for deletion in deletions:
        history._do(*deletion)
    clerk.now = NOW_MS
    with tempfile.TemporaryDirectory() as folder, opened(Path(folder)) as database:
        received(database, history.events, at=told_at)
        synced(database, clerk, Time(), limit=limit)
        assert contents(database) == expected(history.world)
