"""The contract of the store, for both databases."""

import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, text

from gateway.core.directory import Membership, fold, row_of
from gateway.errors import StoreDown
from gateway.store.base import Arrival
from gateway.store.database import Database
from gateway.store.engine import Refused
from gateway.store.tables import INBOX, TABLES
from tests.fakes.clerk_events import NOW_MS, arrival, event, gone, membership, organization, user
from tests.fakes.postgres import Postgres
from tests.store.rows import count, payload_of


def test_a_webhook_is_stored_with_what_it_says(database: Database) -> None:
    came = arrival("msg_1", "user.created", user())
    assert database.put([came]) == [True]
    stored = database.get("msg_1")
    assert stored is not None
    assert stored.seq == 1
    assert (stored.type, stored.object_id, stored.user_id) == ("user.created", "user_1", "user_1")
    assert (stored.happened_at, stored.received_at, stored.payload) == (NOW_MS, NOW_MS, came.event.body)
    assert database.directory.user("user_1") == row_of(came.event)
    assert database.get("msg_2") is None
    assert database.directory.user("user_2") is None


def test_an_id_that_came_before_changes_nothing(database: Database) -> None:
    database.put([arrival("msg_1", "user.created", user())])
    again = arrival("msg_1", "user.updated", user(updated_at=9000, username="mallory"))
    assert database.put([again]) == [False]
    known, stored = database.directory.user("user_1"), database.get("msg_1")
    assert known is not None
    assert stored is not None
    assert (known.nickname, stored.type) == ("ada", "user.created")


def test_of_the_same_id_twice_in_a_group_the_first_counts(database: Database) -> None:
    came = [
        arrival("msg_1", "user.created", user()),
        arrival("msg_2", "user.created", user("user_2")),
        arrival("msg_1", "user.created", user("user_3")),
        arrival("msg_2", "user.created", user("user_2")),
    ]
    assert database.put(came) == [True, True, False, False]
    assert database.directory.user("user_3") is None
    assert database.put([*came, arrival("msg_3", "user.created", user("user_3"))]) == [False] * 4 + [True]


def test_an_unknown_type_is_stored_and_does_nothing(database: Database) -> None:
    assert database.put([arrival("msg_1", "tomorrow.invented", {"id": "x", "email": "a@b.c"})]) == [True]
    assert payload_of(database, "msg_1") is not None
    assert all(count(database, table.name) == 0 for table in TABLES.values())


def test_private_metadata_is_nowhere(database: Database, tmp_path: Path) -> None:
    database.put([arrival("msg_1", "user.created", user()), arrival("msg_2", "organization.created", organization())])
    for svix_id in ("msg_1", "msg_2"):
        payload = payload_of(database, svix_id)
        assert payload is not None
        assert b"secret" not in payload
    database.close()
    assert not [path for path in tmp_path.glob("gateway.db*") if b"secret" in path.read_bytes()]


def test_values_that_databases_trip_over_are_taken(database: Database) -> None:
    odd = user(username="a\0b", first_name="x" * 5000, external_id="ü" * 1000, updated_at=2**53 - 1, created_at=2**63)
    assert database.put([arrival("msg_1", "user.created", odd, at=2**53 - 1)]) == [True]
    known = database.directory.user("user_1")
    assert known is not None
    assert (known.nickname, known.given_name, known.external_id, known.created_at) == ("ab", None, "ü" * 1000, None)


def test_an_older_event_changes_nothing(database: Database) -> None:
    database.put([arrival("msg_2", "user.updated", user(updated_at=3000, username="new"))])
    database.put([arrival("msg_1", "user.created", user(updated_at=2000, username="old"))])
    known = database.directory.user("user_1")
    assert known is not None
    assert known.nickname == "new"


def test_of_an_erased_user_nothing_is_left_in_the_file(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'gateway.db'}")
    database.put([arrival(f"msg_{n}", "user.created", user(f"user_{n}")) for n in range(50)])
    database.put([arrival("msg_gone", "user.deleted", gone("user_7"))])
    database.close()
    kept = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"user_8@example.com" in kept
    assert b"user_7@example.com" not in kept


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("deleted_first", [True, False])
def test_a_deleted_user_is_erased_with_the_payloads(database: Database, deleted_first: bool, together: bool) -> None:
    deletion = arrival("msg_9", "user.deleted", gone("user_1"))
    others = [
        arrival("msg_1", "user.created", user()),
        arrival("msg_2", "session.created", {"id": "sess_1", "user_id": "user_1", "user": user()}),
        arrival("msg_3", "organizationMembership.created", membership()),
        arrival("msg_4", "user.created", user("user_2")),
    ]
    came = [deletion, *others] if deleted_first else [*others, deletion]
    for group in [came] if together else [[each] for each in came]:
        database.put(group)
    assert database.directory.user("user_1") == row_of(deletion.event)
    assert [payload_of(database, f"msg_{number}") for number in (1, 2, 3)] == [None] * 3
    assert payload_of(database, "msg_4") is not None
    assert payload_of(database, "msg_9") == deletion.event.body  # to be passed on: the id and no more
    assert database.directory.members("org_1", after="", limit=10) == ()


VERBS = ["created", "updated", "deleted"]
EVENTS = st.one_of(
    st.builds(
        lambda verb, key, name, when, at: event(f"user.{verb}", user(key, username=name, updated_at=when), at=at),
        st.sampled_from(VERBS), st.sampled_from(["user_1", "user_2"]), st.sampled_from("ab"), st.integers(0, 2),
        st.integers(0, 2),
    ),
    st.builds(
        lambda verb, key, name, when: event(f"organization.{verb}", organization(key, name=name, updated_at=when)),
        st.sampled_from(VERBS), st.sampled_from(["org_1", "org_2"]), st.sampled_from("ab"), st.integers(0, 2),
    ),
    st.builds(
        lambda verb, user_id, when: event(f"organizationMembership.{verb}", membership(user_id=user_id, updated_at=when)),
        st.sampled_from(VERBS), st.sampled_from(["user_1", "user_2"]), st.integers(0, 2),
    ),
)  # fmt: skip


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=st.lists(EVENTS, max_size=10), data=st.data())
def test_any_order_and_grouping_gives_the_rows_that_folding_gives(
    database: Database, events: list[Any], data: st.DataObject
) -> None:
    for table in (*TABLES.values(), INBOX):
        database.write(lambda connection, table=table: connection.execute(delete(table)))  # type: ignore[misc]
    arrivals = [Arrival(f"msg_{number}", each, NOW_MS) for number, each in enumerate(events)]
    again = data.draw(st.lists(st.sampled_from(arrivals), max_size=5)) if arrivals else []
    shuffled, size = data.draw(st.permutations(arrivals + again)), data.draw(st.integers(1, 5))
    for start in range(0, len(shuffled), size):
        database.put(shuffled[start : start + size])
    rows: dict[str, Any] = {}
    for each in events:
        row: Any = row_of(each)
        rows[row.id] = fold(rows.get(row.id), row)
    for key in ("user_1", "user_2"):
        assert database.directory.user(key) == rows.get(key)
    for key in ("org_1", "org_2"):
        assert database.directory.organization(key) == rows.get(key)
    dead = {key for key, row in rows.items() if row.deleted}
    member: Membership | None = rows.get("orgmem_1")
    living = member is not None and not {member.id, member.user_id, member.org_id} & dead
    assert database.directory.members("org_1", after="", limit=9) == ((member,) if living else ())
    assert count(database, "gateway_inbox") == len(events)
    for each in arrivals:
        erased = each.event.user_id in dead and each.event.type != "user.deleted"
        assert (payload_of(database, each.svix_id) is None) == erased


# --- several writers, and what goes wrong ----------------------------------------------------------------------------


def test_writers_in_several_threads_and_connections_lose_nothing(database: Database, url: str) -> None:
    others = [Database(url) for _ in range(3)]
    faults: list[BaseException] = []

    def write(each: Database, offset: int) -> None:
        try:
            for start in range(0, 40, 4):
                # The same ids and users from everywhere, in another order from each.
                numbers = [(start + step * (1 if offset % 2 else -1)) % 40 for step in range(4)]
                each.put([
                    arrival(f"msg_{n}", "user.updated", user(f"user_{n % 5}", updated_at=n, username=f"name{n}"))
                    for n in numbers
                ])  # fmt: skip
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=write, args=(each, number)) for number, each in enumerate([database, *others])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for each in others:
        each.close()
    assert not faults
    assert count(database, "gateway_inbox") == 40
    for key in range(5):
        known = database.directory.user(f"user_{key}")
        assert known is not None
        assert known.nickname == f"name{35 + key}"


def test_a_webhook_the_database_refuses_takes_no_other_along(database: Database) -> None:
    trap = {
        "sqlite": """CREATE TRIGGER trap BEFORE INSERT ON gateway_inbox WHEN NEW.svix_id = 'bad'
                     BEGIN SELECT RAISE(ABORT, 'no'); END""",
        "postgresql": "ALTER TABLE gateway_inbox ADD CONSTRAINT trap CHECK (svix_id <> 'bad')",
    }
    database.write(lambda connection: connection.execute(text(trap[connection.dialect.name])))
    results = database.put([arrival(name, "x.y", {}) for name in ("good", "bad", "better")])
    assert results[0] is True
    assert isinstance(results[1], Refused)
    assert results[2] is True


def test_a_later_gateway_s_schema_is_left_alone(database: Database, url: str) -> None:
    database.write(lambda connection: connection.execute(text("UPDATE gateway_schema SET version = 99")))
    for migrating in (True, False):
        with pytest.raises(StoreDown) as down:
            Database(url, migrating=migrating)
        assert "99" in str(down.value.detail)


def test_a_shared_database_is_migrated_by_hand_only(postgres: Postgres) -> None:
    url = postgres.database()
    with pytest.raises(StoreDown) as down:
        Database(url)
    assert "gateway migrate" in str(down.value.detail)
    Database(url, migrating=True).close()
    Database(url).close()


def test_probing(database: Database) -> None:
    database.probe(now=7, writing=False)
    database.probe(now=7, writing=True)
    assert database.read(lambda c: c.execute(text("SELECT probed_at FROM gateway_schema")).scalar_one()) == 7
