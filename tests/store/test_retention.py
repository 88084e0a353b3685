import pytest
from sqlalchemy import Connection, event, text

from gateway.core.delivery import DEAD
from gateway.store import retention
from gateway.store.base import Position, Settled
from gateway.store.database import Database
from gateway.store.retention import DAY_MS, FORGET_AT_ONCE, forget
from gateway.store.tables import TABLES
from tests.fakes.clerk_events import NOW_MS, arrival, gone, membership, user
from tests.store.rows import count, forget_all, payload_of
from tests.store.test_deliveries import claim, put, settle

BEGINNING = Position(0, 0)


@pytest.mark.parametrize(
    ("age_days", "retention_days", "left"),
    [
        pytest.param(29.9, 30, "payload", id="within"),
        pytest.param(30.1, 30, None, id="past"),
        pytest.param(0.1, 0, "id", id="no-payloads-kept"),
        pytest.param(6.9, 0, "id", id="ids-for-a-week"),
        pytest.param(7.1, 0, None, id="and-no-longer"),
        pytest.param(6.9, 3, "id", id="payload-before-id"),
    ],
)
def test_how_long_a_webhook_is_kept(database: Database, age_days: float, retention_days: int, left: str | None) -> None:
    database.put([arrival("msg_1", "user.created", user())])
    forget_all(database, now=NOW_MS + int(age_days * DAY_MS), retention_days=retention_days)
    stored = database.get("msg_1")
    assert (left is None) == (stored is None)
    if stored is not None:
        assert (stored.payload is not None) == (left == "payload")
    assert database.directory.user("user_1") is not None


def test_how_long_a_tombstone_is_kept(database: Database) -> None:
    database.put([
        arrival("msg_1", "organizationMembership.created", membership("orgmem_1", user_id="user_1")),
        arrival("msg_2", "organizationMembership.created", membership("orgmem_2", user_id="user_2", org_id="org_2")),
        arrival("msg_3", "organizationMembership.deleted", membership("orgmem_3", user_id="user_3", org_id="org_3")),
        arrival("msg_4", "organizationMembership.created", membership("orgmem_4", user_id="user_4", org_id="org_4")),
        arrival("msg_5", "user.deleted", gone("user_1")),
        arrival("msg_6", "organization.deleted", gone("org_2", "organization")),
    ])  # fmt: skip
    forget_all(database, now=NOW_MS + 89 * DAY_MS)
    assert [count(database, table.name) for table in TABLES.values()] == [1, 1, 4]
    forget_all(database, now=NOW_MS + 91 * DAY_MS)
    assert [count(database, table.name) for table in TABLES.values()] == [0, 0, 1]
    assert len(database.directory.members("org_4", after="", limit=9)) == 1


def test_much_is_forgotten_in_steps(database: Database) -> None:
    many = FORGET_AT_ONCE + 1
    database.put([arrival(f"msg_{number}", "x.y", {}) for number in range(many)])
    assert database.forget(now=NOW_MS + 31 * DAY_MS, retention_days=30, after=BEGINNING) is not None
    assert count(database, "gateway_inbox") == 1
    forget_all(database, now=NOW_MS + 31 * DAY_MS)
    assert count(database, "gateway_inbox") == 0


def test_forgetting_erases_what_two_writers_missed(database: Database) -> None:
    database.put([arrival("msg_1", "user.deleted", gone("user_1"))])
    database.put([arrival("msg_2", "session.created", {"user_id": "user_2"})])
    database.write(lambda connection: connection.execute(text("UPDATE gateway_inbox SET user_id = 'user_1'")))
    forget_all(database, now=NOW_MS)
    assert payload_of(database, "msg_2") is None


def die(database: Database, *, at: int) -> None:
    claims = claim(database, now=at)
    assert claims
    settle(database, *(Settled(each, DEAD, at, 13, status=500) for each in claims), now=at)


@pytest.mark.parametrize("retention_days", [0, 30])
def test_what_died_is_kept_for_90_days_from_then(database: Database, retention_days: int) -> None:
    put(database, "msg_1")
    died = NOW_MS + 3 * DAY_MS
    die(database, at=died)
    for days, left in ((89.9, 1), (90.1, 0)):
        forget_all(database, now=died + int(days * DAY_MS), retention_days=retention_days)
        assert count(database, "gateway_inbox") == count(database, "gateway_deliveries") == left
        if left:
            assert payload_of(database, "msg_1") is not None


def test_what_nobody_delivers_is_kept_for_90_days_from_when_it_was_given_up(database: Database) -> None:
    put(database, "msg_1")
    given_up = NOW_MS + 50 * DAY_MS  # nobody looked before
    assert database.deliveries.expire((), now=given_up) == 1
    forget_all(database, now=given_up + 89 * DAY_MS)
    assert payload_of(database, "msg_1") is not None
    forget_all(database, now=given_up + 91 * DAY_MS)
    assert count(database, "gateway_inbox") == 0


def test_a_deleted_user_s_payloads_are_erased_although_they_died(database: Database) -> None:
    put(database, "msg_1")
    die(database, at=NOW_MS)
    database.put([arrival("msg_2", "user.deleted", gone("user_1"))])
    assert payload_of(database, "msg_1") is None


def test_what_is_kept_is_gone_through_once(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "FORGET_AT_ONCE", 2)
    put(database, *(f"msg_{number}" for number in range(5)))  # of the same moment, and waiting
    database.put([arrival("msg_last", "x.y", {})])
    after: Position | None = BEGINNING
    seen = []
    while after is not None:
        after = database.forget(now=NOW_MS + 31 * DAY_MS, retention_days=30, after=after)
        seen.append(count(database, "gateway_inbox"))
    assert seen == [6, 6, 5, 5]


TOMBSTONES = ("gateway_users_gone", "gateway_organizations_gone", "gateway_memberships_gone")


def test_tombstones_are_found_by_their_indexes(database: Database) -> None:
    """The writer waits meanwhile, and there may be a million that are none."""
    plans = []

    @event.listens_for(database._engine, "before_cursor_execute")
    def explain(connection, cursor, statement, parameters, context, many) -> None:  # type: ignore[no-untyped-def]
        if "deleted" in statement and not statement.startswith("EXPLAIN"):
            word = "EXPLAIN QUERY PLAN " if connection.dialect.name == "sqlite" else "EXPLAIN "
            plan = connection.exec_driver_sql(word + statement, parameters).all()
            plans.append("\n".join(str(line[-1]) for line in plan))

    def forget_once(connection: Connection) -> None:
        if connection.dialect.name == "postgresql":  # an empty table is read whole unless that is forbidden
            connection.execute(text("SET LOCAL enable_seqscan = off"))
        forget(connection, now=NOW_MS, retention_days=30, after=BEGINNING)

    database.write(forget_once)
    assert len(plans) == 6
    for plan in plans:
        assert any(name in plan for name in TOMBSTONES), plan
        for table in TABLES.values():
            assert f"SCAN {table.name}" not in plan.replace(f"SCAN {table.name} USING", "")
            assert f"Seq Scan on {table.name}" not in plan
