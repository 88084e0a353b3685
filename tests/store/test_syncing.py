from collections.abc import Sequence
from typing import Any

import pytest
from sqlalchemy import Connection, text

from gateway.core.directory import Row, User, buried, membership_row, organization_row, user_row
from gateway.core.reconcile import RESUMED_MS, Place, Progress, Span, Tally
from gateway.errors import SyncRefused
from gateway.store.base import Arrival
from gateway.store.database import Database
from gateway.store.syncing import LEASE_MS
from tests.fakes.clerk_events import arrival, gone, membership, organization, user
from tests.store.rows import payload_of

NOW = 1_800_000_000_000
LONG_AGO = NOW - 60_000


def made(key: str = "user_1", *, at: int = NOW, **members: Any) -> Row:
    row = user_row(user(key, **members), at=at)
    assert row is not None
    return row


def taken(
    database: Database, holder: str = "me", *, instance: Sequence[str] = ("ins_1",), now: int = NOW, anew: bool = False
) -> Progress:
    return database.syncing.take(holder, instance=instance, now=now, anew=anew)


def settled(
    database: Database, rows: Sequence[Row], gone: Sequence[Row] = (), *, progress: Progress | None = None, **more: Any
) -> tuple[Progress, Any]:
    given = {"asked_at": NOW, "holder": "me", "now": NOW + 1} | more
    return database.syncing.settle("users", rows, gone, progress=progress or Progress(NOW), **given)


def received(database: Database, arrivals: Sequence[Arrival]) -> None:
    """Put each on its own: what comes together is learnt together."""
    for each in arrivals:
        database.put([each])


# --- whose turn it is -------------------------------------------------------------------------------------------------


def test_one_run_at_a_time(database: Database) -> None:
    assert taken(database) == Progress(NOW)
    with pytest.raises(SyncRefused, match="another run is under way; should it have been killed, try again in 61 s"):
        taken(database, "other")
    taken(database, "me")  # whose it is may ask again
    database.syncing.hold("me", now=NOW + LEASE_MS - 1)
    with pytest.raises(SyncRefused):
        taken(database, "other", now=NOW + LEASE_MS + 1)
    database.syncing.release("me", finished_at=None)
    taken(database, "other")


def test_who_gives_no_sign_of_life_is_replaced(database: Database) -> None:
    taken(database)
    taken(database, "other", now=NOW + LEASE_MS)
    with pytest.raises(SyncRefused, match="another run has taken over"):
        database.syncing.hold("me", now=NOW + LEASE_MS)
    with pytest.raises(SyncRefused, match="another run has taken over"):
        settled(database, [made()])
    assert database.directory.user("user_1") is None  # with its page
    database.syncing.release("me", finished_at=NOW)  # which is not its to say any more
    with pytest.raises(SyncRefused):
        taken(database, "third", now=NOW + LEASE_MS + 1)


def test_a_lease_from_the_future_holds_nobody_up(database: Database) -> None:
    taken(database, now=NOW + 10 * LEASE_MS)
    taken(database, "other")


def test_a_run_goes_on_where_it_was(database: Database) -> None:
    progress = taken(database).at("users", Place(after=7, since=8, edge=("user_9",)))
    progress, _ = settled(database, [made()], progress=progress)
    database.syncing.release("me", finished_at=None)
    assert progress.of("users") == Tally(added=1)
    assert taken(database, "other", now=NOW + 5) == progress
    database.syncing.release("other", finished_at=None)
    assert taken(database, now=NOW + 6, anew=True) == Progress(NOW + 6)
    settled(database, [], progress=progress)
    database.syncing.release("me", finished_at=None)
    assert taken(database, now=NOW + RESUMED_MS) == Progress(NOW + RESUMED_MS)


def test_a_run_that_is_done_is_not_gone_on_with(database: Database) -> None:
    progress = taken(database)
    for stage in ("users", "organizations", "memberships"):
        progress = progress.at(stage, None)  # type: ignore[arg-type]
    settled(database, [], progress=progress)
    database.syncing.release("me", finished_at=NOW + 3)
    assert taken(database, now=NOW + 5) == Progress(NOW + 5)


def test_the_users_of_two_instances_are_kept_apart(database: Database) -> None:
    taken(database, instance=())
    taken(database, instance=["ins_1"])
    taken(database, instance=())
    with pytest.raises(SyncRefused, match="the users in this store are those of ins_1, not of ins_2"):
        taken(database, instance=["ins_2"])
    taken(database, instance=["ins_2"], anew=True)
    with pytest.raises(SyncRefused):
        taken(database, instance=["ins_1"])


def test_an_instance_that_changes_its_keys_stays_the_same(database: Database) -> None:
    for names in (["ins_1"], ["ins_1", "ins_2"], ["ins_2"], ["ins_2", "ins_3"], ["ins_3"]):
        database.syncing.check_instance(names)
        taken(database, instance=names)
    for refused in (lambda: database.syncing.check_instance(["ins_1"]), lambda: taken(database, instance=["ins_1"])):
        with pytest.raises(
            SyncRefused, match=r"those of ins_3, not of ins_1. Should that be .* gateway sync --restart"
        ):
            refused()
    database.syncing.check_instance([])


def test_a_store_of_nobodys_is_anybodys(database: Database) -> None:
    database.syncing.check_instance(["ins_1"])


def test_when_the_last_one_was(database: Database) -> None:
    assert database.syncing.last(now=NOW) == NOW  # since when one is waited for
    assert database.syncing.last(now=NOW + 5) == NOW
    taken(database, now=NOW + 6)
    database.syncing.release("me", finished_at=None)
    assert database.syncing.last(now=NOW + 7) == NOW
    taken(database, now=NOW + 8)
    database.syncing.release("me", finished_at=NOW + 9)
    assert database.syncing.last(now=NOW + 10) == NOW + 9


# --- pages ------------------------------------------------------------------------------------------------------------


def test_a_page_is_folded_in_and_counted(database: Database) -> None:
    received(database, [
        arrival("m1", "user.created", user("same"), received_at=LONG_AGO),
        arrival("m2", "user.created", user("old", username="old", updated_at=1), received_at=LONG_AGO),
        arrival("m3", "user.updated", user("newer", updated_at=NOW + 1), received_at=NOW),
        arrival("m4", "user.deleted", gone("erased"), received_at=LONG_AGO),
        arrival("m5", "user.created", user("lost"), received_at=LONG_AGO),
    ])  # fmt: skip
    before = database.directory.last_change()
    taken(database)
    lost, old = database.directory.user("lost"), database.directory.user("old")
    assert lost is not None
    rows = [made(key) for key in ("new", "same", "old", "newer", "erased")]
    expected = Tally(added=1, mended=1, same=1, newer=1, erased=1, gone=1)
    would = database.syncing.compare("users", rows, [lost], asked_at=NOW, started_at=NOW)
    assert would.tally == expected
    assert database.directory.last_change() == before  # nothing was written
    progress, changed = settled(database, rows, [lost])
    assert progress.of("users") == expected
    assert [(was, row.id) for was, row in changed] == [(None, "new"), (old, "old"), (lost, "lost")]
    assert [row for _, row in would.changed] == [row for _, row in changed]
    assert database.directory.user("new") == rows[0]
    assert database.directory.user("old") == rows[2]
    buried = database.directory.user("lost")
    assert buried is not None
    assert (buried.deleted, buried.updated_at, buried.email) == (True, NOW, None)
    assert payload_of(database, "m5") is None  # of the erased nothing is kept
    assert payload_of(database, "m2") is not None
    assert database.directory.last_change() == before + 4  # three rows, and that whoever is gone is refused
    again, _ = settled(database, rows[:3])
    assert again.of("users") == Tally(same=3)


def test_what_a_webhook_has_just_told_is_not_buried(database: Database) -> None:
    database.put([arrival("m1", "user.created", user("user_1"), received_at=LONG_AGO)])
    taken(database)
    known = database.directory.user("user_1")
    assert known is not None
    database.put([arrival("m2", "user.updated", user("user_1", updated_at=9000), received_at=NOW)])
    progress, changed = settled(database, [], [known, User("user_9")])
    assert (progress.total, list(changed)) == (Tally(), [])
    found = database.directory.user("user_1")
    assert found is not None
    assert not found.deleted


def test_what_follows_from_a_change_is_in_its_transaction(database: Database) -> None:
    taken(database)

    def refuse(connection: Connection, pairs: Any, now: int) -> None:
        assert [row.id for _, row in pairs] == ["user_1"]
        assert now == NOW + 1
        connection.execute(text("UPDATE gateway_sync SET instance = 'changed'"))
        raise LookupError

    database.syncing.on_changed = refuse
    with pytest.raises(LookupError):
        settled(database, [made()])
    assert database.directory.user("user_1") is None
    taken(database, instance=["ins_1"])


def test_organisations_and_memberships(database: Database) -> None:
    taken(database)
    company, place = organization_row(organization(), at=NOW), membership_row(membership(), at=NOW)
    assert company is not None
    assert place is not None
    given: dict[str, Any] = {"asked_at": NOW, "holder": "me", "now": LONG_AGO}
    progress, _ = database.syncing.settle("organizations", [company], [], progress=Progress(NOW), **given)
    progress, _ = database.syncing.settle("memberships", [place], [], progress=progress, **given)
    assert database.directory.organization("org_1") == company
    assert database.directory.members("org_1", after="", limit=9) == (place,)
    suspects = database.syncing.suspects("memberships", Span(None, None), [], started_at=NOW, limit=9).rows
    assert suspects == [place]
    progress, _ = database.syncing.settle("memberships", [], suspects, progress=progress, **given)
    assert database.directory.members("org_1", after="", limit=9) == ()
    assert progress.of("memberships") == Tally(added=1, gone=1)


def place(key: str, **members: Any) -> Row:
    made = membership_row(membership(key, **members), at=LONG_AGO)
    assert made is not None
    return made


def buried_member(database: Database, others: Sequence[Row] = (), *, staying: Any = ()) -> int:
    """Bury the membership of user_1 in org_1, others being known; count who is refused for it."""
    taken(database)
    left = place("orgmem_1", user_id="user_1", org_id="org_1")
    database.directory.merge([left, *others], now=LONG_AGO)
    progress, _ = database.syncing.settle("memberships", [], [left], asked_at=NOW, progress=Progress(NOW), holder="me",
                                          now=NOW, staying=staying)  # fmt: skip
    assert progress.of("memberships") == Tally(gone=1)
    return len(database.revocations.since(0))


@pytest.mark.parametrize(
    ("user_id", "org_id", "gone", "refused"),
    [("user_1", "org_1", False, 0), ("user_2", "org_1", False, 1), ("user_1", "org_2", False, 1),
     ("user_1", "org_1", True, 1)],
)  # fmt: skip
def test_who_has_another_membership_is_not_refused(
    database: Database, user_id: str, org_id: str, gone: bool, refused: int
) -> None:
    other = place("orgmem_2", user_id=user_id, org_id=org_id)
    assert buried_member(database, [buried(other, at=LONG_AGO) if gone else other]) == refused


@pytest.mark.parametrize(("ends", "refused"), [(("org_1", "user_1"), 0), (("org_2", "user_1"), 1)])
def test_who_is_said_to_stay_is_not_refused(database: Database, ends: tuple[str, str], refused: int) -> None:
    assert buried_member(database, staying={ends}) == refused


def test_what_comes_again_is_counted_only_if_it_changed(database: Database) -> None:
    taken(database)
    settled(database, [made("user_1")])
    progress, _ = settled(database, [made("user_1"), made("user_2")], again=frozenset({"user_1", "user_2"}))
    assert progress.of("users") == Tally(added=1)


def suspected(database: Database, span: Span, *present: str, limit: int = 100) -> list[str]:
    found = database.syncing.suspects("users", span, present, started_at=NOW, limit=limit).rows
    return sorted(row.id for row in found)


def test_who_may_be_gone(database: Database) -> None:
    received(database, [
        *(arrival(f"m{n}", "user.created", user(f"u{n}", created_at=n * 10), received_at=LONG_AGO) for n in range(5)),
        arrival("m6", "user.created", user("undated", created_at=None), received_at=LONG_AGO),
        arrival("m7", "user.created", user("young", created_at=20), received_at=NOW - 1),
        arrival("m9", "user.created", user("since", created_at=20), received_at=NOW),
        arrival("m8", "user.deleted", gone("erased"), received_at=LONG_AGO),
    ])  # fmt: skip
    assert suspected(database, Span(None, None)) == ["u0", "u1", "u2", "u3", "u4", "undated", "young"]
    assert suspected(database, Span(None, 20)) == ["u0", "u1", "undated"]
    assert suspected(database, Span(20, 40)) == ["u2", "u3", "young"]
    assert suspected(database, Span(20, None)) == ["u2", "u3", "u4", "young"]
    assert suspected(database, Span(20, None), "u2", "u4", "u9") == ["u3", "young"]
    assert len(suspected(database, Span(None, None), "u0", "u1", limit=2)) == 2


def test_a_page_of_nobody(database: Database) -> None:
    taken(database)
    progress, changed = settled(database, [])
    assert (progress.total, list(changed)) == (Tally(), [])


@pytest.mark.parametrize("stage", ["users", "organizations", "memberships"])
def test_spans_are_looked_up_by_an_index(database: Database, stage: str) -> None:
    if database.read(lambda connection: connection.dialect.name) != "sqlite":
        pytest.skip("PostgreSQL reads a table that is as small as this one from end to end")
    query = (
        f"EXPLAIN QUERY PLAN SELECT id FROM gateway_{stage} WHERE deleted = 0 AND created_at >= 5 AND created_at < 9"
    )
    plan = database.read(lambda connection: connection.exec_driver_sql(query).all())
    assert f"gateway_{stage}_created" in str(plan)
