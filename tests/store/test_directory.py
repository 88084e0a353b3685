from typing import Any

import pytest
import sqlalchemy

from gateway.core.directory import Organization, User, row_of, user_row
from gateway.store.database import Database
from tests.fakes.clerk_events import NOW_MS, arrival, event, gone, membership, organization, user
from tests.store.rows import payload_of


def test_every_field_comes_back_as_it_went_in(database: Database) -> None:
    rows = [
        row_of(event("user.created", user(banned=True, locked=True, public_metadata={"a": {"b": [1, None, "ü\0"]}}))),
        row_of(event("organization.created", organization(public_metadata={"x": 1}))),
        row_of(event("organizationMembership.created", membership())),
        User("user_2", b"\0" * 33),
    ]
    database.directory.merge([row for row in rows if row is not None], now=NOW_MS)
    assert database.directory.user("user_1") == rows[0]
    assert database.directory.organization("org_1") == rows[1]
    assert database.directory.members("org_1", after="", limit=10) == (rows[2],)
    assert database.directory.user("user_2") == rows[3]


def test_a_tombstone_by_hand_erases_as_well(database: Database) -> None:
    database.put([arrival("msg_1", "user.created", user())])
    tombstone = row_of(event("user.deleted", gone("user_1")))
    assert isinstance(tombstone, User)
    database.directory.merge([tombstone], now=NOW_MS)
    assert payload_of(database, "msg_1") is None


def test_members_come_by_page_and_only_the_living(database: Database) -> None:
    came = [
        arrival(f"m{n}", "organizationMembership.created", membership(f"orgmem_{n}", user_id=f"user_{n}"))
        for n in range(6)
    ]
    came += [
        arrival("m6", "organizationMembership.deleted", membership("orgmem_1", user_id="user_1")),
        arrival("m7", "user.deleted", gone("user_2")),
        arrival("m8", "organizationMembership.created", membership("orgmem_8", org_id="org_2")),
    ]
    database.put(came)

    def ids(**page: Any) -> list[str]:
        return [each.id for each in database.directory.members("org_1", **page)]

    assert ids(after="", limit=10) == ["orgmem_0", "orgmem_3", "orgmem_4", "orgmem_5"]
    assert ids(after="", limit=2) == ["orgmem_0", "orgmem_3"]
    assert ids(after="orgmem_3", limit=2) == ["orgmem_4", "orgmem_5"]
    database.put([arrival("m9", "organization.deleted", gone("org_1", "organization"))])
    assert ids(after="", limit=10) == []


def test_rows_of_the_same_user_in_one_merge(database: Database) -> None:
    rows = [user_row(user(updated_at=when, username=name), at=0) for when, name in ((3, "new"), (1, "old"), (2, "mid"))]
    database.directory.merge([row for row in rows if row is not None], now=0)
    known = database.directory.user("user_1")
    assert known is not None
    assert known.nickname == "new"
    database.directory.merge([], now=0)
    database.directory.merge([Organization("org_1", b"\0")], now=0)
    assert database.directory.organization("org_1") == Organization("org_1", b"\0")


def changed(database: Database, **asked: Any) -> list[tuple[int, str]]:
    return [(change.number, change.row.id) for change in database.directory.changes(**{"since": 0, "limit": 9} | asked)]


def test_changes_are_numbered_over_all_tables_in_the_order_of_commits(database: Database) -> None:
    database.put([arrival("m1", "user.created", user("user_1")), arrival("m2", "user.created", user("user_2"))])
    database.put([arrival("m3", "organization.created", organization("org_1"))])
    database.put([arrival("m4", "user.updated", user("user_1", updated_at=9000))])
    assert changed(database) == [(2, "user_2"), (3, "org_1"), (4, "user_1")]
    assert changed(database, since=2, limit=1) == [(3, "org_1")]
    assert changed(database, since=4) == []
    assert database.directory.last_change() == 4


def test_what_changes_nothing_is_no_change(database: Database) -> None:
    database.put([arrival("m1", "user.updated", user(updated_at=9000))])
    database.put([arrival("m2", "user.created", user(updated_at=1000))])
    assert changed(database) == [(1, "user_1")]


def living(database: Database, *, after: str = "", limit: int = 9, **asked: str) -> list[str]:
    return [each.id for each in database.directory.users(asked, after=after, limit=limit)]


def test_users_come_by_page_and_only_the_living(database: Database) -> None:
    database.put([arrival(f"m{n}", "user.created", user(f"user_{n}")) for n in range(5)])
    database.put([arrival("gone", "user.deleted", gone("user_1"))])
    assert living(database) == ["user_0", "user_2", "user_3", "user_4"]
    assert living(database, limit=2) == ["user_0", "user_2"]
    assert living(database, after="user_2", limit=1) == ["user_3"]
    assert living(database, after="user_4") == []


def test_users_are_found_by_what_they_have(database: Database) -> None:
    shared = user("user_2", external_id="ext-user_1")
    database.put([arrival("m1", "user.created", user("user_1")), arrival("m2", "user.created", shared)])
    assert living(database, email="user_2@example.com") == ["user_2"]
    assert living(database, external_id="ext-user_1") == ["user_1", "user_2"]
    assert living(database, external_id="ext-user_1", after="user_1") == ["user_2"]
    assert living(database, external_id="ext-user_1", email="user_1@example.com") == ["user_1"]
    assert living(database, email="user_9@example.com") == []
    assert living(database, email="%") == []
    database.put([arrival("m3", "user.deleted", gone("user_1"))])
    assert living(database, external_id="ext-user_1") == ["user_2"]


@pytest.mark.parametrize("asked", [{}, {"email": "user_1@example.com"}, {"external_id": "ext-user_1"}])
def test_a_list_reads_no_more_rows_than_it_gives(database: Database, asked: dict[str, str]) -> None:
    """However many there are, and though nobody has told the planner so: an index gives them, and in their order."""
    plan: list[str] = []

    def explain(connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if "FROM gateway_users" in statement and "EXPLAIN" not in statement:
            word = "EXPLAIN QUERY PLAN" if connection.dialect.name == "sqlite" else "EXPLAIN"
            plan.extend(str(each[-1]) for each in connection.exec_driver_sql(f"{word} {statement}", parameters))

    sqlalchemy.event.listen(database._engine, "before_cursor_execute", explain)
    living(database, after="user_1", **asked)
    told = "\n".join(plan)
    assert "Index Scan" in told or "USING INDEX" in told
    assert "Sort" not in told
    assert "TEMP B-TREE" not in told
    for name in asked:
        assert f"gateway_users_{name.removesuffix('_id')}" in told


def test_no_change_is_overtaken_by_one_that_was_committed_while_it_was_looked_for(database: Database) -> None:
    """PostgreSQL gives each statement what is committed by then: a later table is seen later than an earlier one."""
    database.put([arrival("m1", "user.created", user("user_1"))])
    news = [
        arrival("m2", "user.created", user("user_2")),
        arrival("m3", "organizationMembership.created", membership()),
    ]

    def commit(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if "FROM gateway_users" in statement and news:
            database.put([news.pop(0), news.pop(0)])

    sqlalchemy.event.listen(database._engine, "after_cursor_execute", commit)
    told = [change.number for change in database.directory.changes(since=0, limit=9)]
    assert not news
    told += [change.number for change in database.directory.changes(since=told[-1], limit=9)]
    assert told == [1, 2, 3]
