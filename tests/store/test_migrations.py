import multiprocessing
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, inspect, text

from gateway.errors import StoreDown
from gateway.store import database as databases
from gateway.store.engine import WRITES, open_engine
from gateway.store.migrations import LATEST, STEPS, check_version, migrate, version_of
from gateway.store.tables import METADATA


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    opened = open_engine(url)
    yield opened
    opened.dispose()


def migrated(engine: Engine, **more: Any) -> tuple[int, int]:
    with engine.connect().execution_options(**{WRITES: True}) as connection, connection.begin():
        return migrate(connection, **more)


def test_the_schema_is_what_the_statements_expect(engine: Engine) -> None:
    assert migrated(engine) == (0, LATEST)
    found = inspect(engine)
    assert set(found.get_table_names()) >= set(METADATA.tables)
    for table in METADATA.tables.values():
        columns = {column["name"]: column["nullable"] for column in found.get_columns(table.name)}
        expected = {column.name: column.nullable and not column.primary_key for column in table.columns}
        # SQLite calls its own kinds of primary key nullable, which they are not for what is written here.
        keys = {column.name for column in table.primary_key}
        assert columns.keys() == expected.keys()
        assert {name: null for name, null in columns.items() if name not in keys} == {
            name: null for name, null in expected.items() if name not in keys
        }
        assert found.get_pk_constraint(table.name)["constrained_columns"] == [
            column.name for column in table.primary_key
        ]


def test_migrating_again_does_nothing(engine: Engine) -> None:
    migrated(engine)
    assert migrated(engine) == (LATEST, LATEST)


def test_an_older_schema_is_brought_up_to_date_and_keeps_what_it_has(engine: Engine) -> None:
    migrated(engine)
    with engine.begin() as connection:
        connection.execute(
            text("INSERT INTO gateway_organizations (id, version, deleted, changed_at) VALUES ('o', 'v', false, 0)")
        )
    later = (*STEPS, ("ALTER TABLE gateway_organizations ADD COLUMN extra TEXT DEFAULT 'x'",))
    assert migrated(engine, steps=later) == (LATEST, LATEST + 1)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT id, extra FROM gateway_organizations")).all() == [("o", "x")]
        assert version_of(connection) == LATEST + 1


def test_a_step_that_fails_leaves_nothing_behind(engine: Engine) -> None:
    migrated(engine)
    broken = (*STEPS, ("CREATE TABLE gateway_new (id TEXT)", "CREATE TABLE gateway_new (id TEXT)"))
    with pytest.raises(Exception, match="gateway_new"):
        migrated(engine, steps=broken)
    assert not inspect(engine).has_table("gateway_new")
    with engine.connect() as connection:
        assert version_of(connection) == LATEST


def test_a_later_schema_is_not_touched() -> None:
    check_version(LATEST)
    with pytest.raises(StoreDown):
        check_version(LATEST + 1)


def _open(url: str, results: Any) -> None:
    try:
        opened = databases.Database(url, migrating=True)
        results.put(opened.migrated)
        opened.close()
    except BaseException as error:
        results.put(repr(error))


def test_processes_that_start_at_once_migrate_once(url: str) -> None:
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    processes = [context.Process(target=_open, args=(url, results)) for _ in range(4)]
    for process in processes:
        process.start()
    told = [results.get(timeout=50) for _ in processes]
    for process in processes:
        process.join()
    assert sorted(told) == [(0, LATEST)] + [(LATEST, LATEST)] * 3
