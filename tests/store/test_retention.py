import pytest
from sqlalchemy import Connection, event, text

from gateway.store.database import Database
from gateway.store.retention import DAY_MS, FORGET_AT_ONCE, forget
from gateway.store.tables import TABLES
from tests.fakes.clerk_events import NOW_MS, arrival, gone, membership, user
from tests.store.rows import count, payload_of


def forget_all(database: Database, *, now: int, retention_days: int = 30) -> None:
    while database.forget(now=now, retention_days=retention_days):
        pass


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
    assert database.forget(now=NOW_MS + 31 * DAY_MS, retention_days=30)
    assert count(database, "gateway_inbox") == 1
    forget_all(database, now=NOW_MS + 31 * DAY_MS)
    assert count(database, "gateway_inbox") == 0


def test_forgetting_erases_what_two_writers_missed(database: Database) -> None:
    database.put([arrival("msg_1", "user.deleted", gone("user_1"))])
    database.put([arrival("msg_2", "session.created", {"user_id": "user_2"})])
    database.write(lambda connection: connection.execute(text("UPDATE gateway_inbox SET user_id = 'user_1'")))
    database.forget(now=NOW_MS, retention_days=30)
    assert payload_of(database, "msg_2") is None


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
        forget(connection, now=NOW_MS, retention_days=30)

    database.write(forget_once)
    assert len(plans) == 6
    for plan in plans:
        assert any(name in plan for name in TOMBSTONES), plan
        for table in TABLES.values():
            assert f"SCAN {table.name}" not in plan.replace(f"SCAN {table.name} USING", "")
            assert f"Seq Scan on {table.name}" not in plan
