import os
import sqlite3
import stat
from pathlib import Path

import pytest
import sqlalchemy
from sqlalchemy import text

from gateway.errors import StoreDown, StoreSlow
from gateway.store.database import Database
from gateway.store.engine import LIBPQ, FileWatch, Refused, is_deadlock, open_engine, told
from tests.fakes.clerk_events import arrival
from tests.fakes.postgres import Postgres


def opened(path: Path) -> Database:
    return Database(f"sqlite:///{path}")


def test_sqlite_is_set_up_for_durability(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path / 'a.db'}")
    with engine.connect() as connection:
        settings = {
            name: connection.execute(text(f"PRAGMA {name}")).scalar_one()
            for name in ("journal_mode", "synchronous", "busy_timeout", "secure_delete")
        }
    engine.dispose()
    assert settings == {"journal_mode": "wal", "synchronous": 2, "busy_timeout": 5000, "secure_delete": 1}


def test_a_new_file_is_for_nobody_else(tmp_path: Path) -> None:
    database = opened(tmp_path / "a.db")
    database.probe(now=1, writing=True)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    database.close()
    assert modes == {"a.db": 0o600, "a.db-wal": 0o600, "a.db-shm": 0o600}


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "sqlite:///", "nonsense", "mysql://x/y"])
def test_urls_that_are_no_store(url: str) -> None:
    with pytest.raises(StoreDown):
        open_engine(url)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreDown) as down:
        opened(tmp_path / "no" / "a.db")
    assert f"{tmp_path}/no/a.db" in str(down.value.detail)


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "a.db").write_bytes(b"something else entirely" * 100)
    with pytest.raises(StoreDown) as down:
        opened(tmp_path / "a.db")
    assert down.value.is_fault
    assert "not a database" in str(down.value.detail)


def test_a_full_disk(tmp_path: Path) -> None:
    database = opened(tmp_path / "a.db")
    with database._engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
    with pytest.raises(StoreDown) as down:
        database.write(lambda c: [
            c.exec_driver_sql(f"PRAGMA max_page_count = {pages}"),
            c.exec_driver_sql("CREATE TABLE much (x)"),
            c.exec_driver_sql("INSERT INTO much VALUES (zeroblob(1000000))"),
        ])  # fmt: skip
    database.close()
    assert down.value.is_fault
    assert "full" in str(down.value.detail)


def test_a_locked_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.store.engine.BUSY_S", 0.05)
    database = opened(tmp_path / "a.db")
    other = sqlite3.connect(tmp_path / "a.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreDown) as down:
        database.probe(now=1, writing=True)
    database.probe(now=1, writing=False)  # reading goes on
    other.execute("COMMIT")
    other.close()
    database.probe(now=1, writing=True)
    database.close()
    assert "locked" in str(down.value.detail)


@pytest.mark.parametrize("how", ["removed", "replaced"])
def test_a_file_that_is_not_the_one_that_was_opened_any_more(tmp_path: Path, how: str) -> None:
    database = opened(tmp_path / "a.db")
    database.put([arrival("msg_1", "x.y", {})])
    os.rename(tmp_path / "a.db", tmp_path / "b.db")
    if how == "replaced":
        (tmp_path / "a.db").touch()
    with pytest.raises(StoreDown) as down:
        database.probe(now=1, writing=True)
    database.close()
    assert "moved" in str(down.value.detail)
    assert (tmp_path / "b.db").stat().st_size > 4096  # all of it is in there
    for beside in tmp_path.glob("*.db-*"):
        beside.unlink()
    moved = opened(tmp_path / "b.db")
    assert moved.get("msg_1") is not None
    moved.close()


def test_the_watch_knows_its_file(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    FileWatch(str(tmp_path / "a")).check()


def test_a_fault_s_words_hold_no_values(postgres: Postgres) -> None:
    database = Database(postgres.database(), migrating=True)
    create = "CREATE TABLE t (email TEXT UNIQUE)"
    insert = "INSERT INTO t VALUES (:email)"
    with pytest.raises(Refused) as refused:
        database.write(lambda c: [
            c.execute(text(create)), c.execute(text(insert), {"email": "ada@example.com"}),
            c.execute(text(insert), {"email": "ada@example.com"}),
        ])  # fmt: skip
    database.close()
    assert "UniqueViolation" in str(refused.value.detail)
    assert "ada" not in str(refused.value.detail)
    assert not is_deadlock(refused.value)


def test_an_unreachable_server_is_down_and_its_password_unsaid() -> None:
    with pytest.raises(StoreDown) as down:
        Database("postgresql://gateway:hunter2@127.0.0.1:1/none")
    assert "hunter2" not in str(down.value.detail)
    assert down.value.is_fault


LONG = (
    """WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000000) SELECT count(*) FROM n"""
)


def test_what_reads_for_too_long_is_ended(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.store.engine.READ_S", 0.05)
    monkeypatch.setitem(LIBPQ, "options", "-c statement_timeout=50")
    Database(url, migrating=True).close()
    database = Database(url)
    with pytest.raises(StoreSlow):
        database.read(lambda connection: connection.execute(text(LONG)).all())
    monkeypatch.setattr("gateway.store.engine.READ_S", 10.0)
    database.probe(now=1, writing=False)
    database.close()


def test_what_writes_is_not_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.store.engine.READ_S", 0.0)
    database = opened(tmp_path / "a.db")
    counting = LONG.replace("1000000000", "1000000")
    with database._engine.connect() as connection:  # so that the one that writes has been read with
        connection.execute(text("SELECT 1"))
    assert database.write(lambda connection: connection.execute(text(counting)).scalar_one()) == 1_000_000
    database.close()


def test_a_deadlock_is_recognised() -> None:
    class Deadlock(Exception):
        sqlstate = "40P01"

    with pytest.raises(StoreDown) as down, told():
        raise sqlalchemy.exc.OperationalError("statement", {}, Deadlock())
    assert is_deadlock(down.value)


@pytest.mark.parametrize("error", [sqlalchemy.exc.TimeoutError(), sqlite3.OperationalError("x"), OSError("y")])
def test_whatever_the_database_s_side_raises_is_ours(error: Exception) -> None:
    with pytest.raises(StoreDown), told():
        raise error
