import os
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from sqlalchemy import text

from gateway.core.directory import User
from gateway.core.events import read_event
from gateway.errors import StoreDown
from gateway.store.base import Arrival
from gateway.store.database import Database
from gateway.store.engine import open_engine
from gateway.store.look import Look, look_at
from gateway.store.migrations import LATEST
from tests.fakes import clerk_events as shapes
from tests.fakes.postgres import Postgres


def arrival(at: int) -> Arrival:
    body = {"type": "user.created", "data": shapes.user("user_1", created_at=1), "timestamp": 1, "object": "event"}
    return Arrival("msg_1", read_event(orjson.dumps(body)), at, ("api",))


def test_a_store_of_now_is_seen_with_what_is_in_it(url: str, database: Database) -> None:
    assert look_at(url, user_id="user_1") == Look(version=LATEST, last_webhook_ms=None, dead=0)
    database.put([arrival(5000)])
    seen = look_at(url, user_id="user_1")
    assert (seen.last_webhook_ms, seen.dead, seen.writable) == (5000, 0, True)
    assert isinstance(seen.user, User)
    assert look_at(url, user_id="user_2").user is None
    database.write(lambda connection: connection.execute(text("UPDATE gateway_deliveries SET state = 'dead'")))
    assert look_at(url).dead == 1


def test_an_older_schema_is_told_and_left_as_it_is(url: str, database: Database) -> None:
    database.write(lambda connection: connection.execute(text("UPDATE gateway_schema SET version = 1")))
    assert look_at(url) == Look(version=1)
    assert look_at(url) == Look(version=1)


def test_a_later_schema_is_another_gateways(url: str, database: Database) -> None:
    database.write(lambda connection: connection.execute(text("UPDATE gateway_schema SET version = 99")))
    with pytest.raises(StoreDown) as down:
        look_at(url)
    assert "made by a later gateway" in (down.value.detail or "")


def test_a_store_without_a_schema_has_version_0(url: str) -> None:
    engine = open_engine(url)  # makes SQLite's file
    with engine.connect():
        pass
    engine.dispose()
    assert look_at(url) == Look(version=0)


def test_a_file_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    file = tmp_path / "a.db"
    assert look_at(f"sqlite:///{file}") == Look(missing=True)
    assert not file.exists()


def test_looking_makes_no_files_beside_it_and_changes_none(tmp_path: Path) -> None:
    file = tmp_path / "a b.db"
    url = f"sqlite:///{file}"
    Database(url).close()
    before = file.read_bytes()
    assert look_at(url).version == LATEST
    assert file.read_bytes() == before
    assert os.listdir(tmp_path) == ["a b.db"]


def test_what_is_not_in_the_file_yet_is_seen_beside_a_gateway_that_runs(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'a.db'}"
    database = Database(url)
    database.put([arrival(7000)])  # is in the log beside the file
    assert look_at(url).last_webhook_ms == 7000
    database.close()


def test_what_is_no_database_is_down(tmp_path: Path) -> None:
    (tmp_path / "a.db").write_text("hello " * 1000)
    with pytest.raises(StoreDown) as down:
        look_at(f"sqlite:///{tmp_path / 'a.db'}")
    assert "not a database" in (down.value.detail or "")


def test_a_server_that_is_away_is_down_and_its_password_not_told() -> None:
    with pytest.raises(StoreDown) as down:
        look_at("postgresql://gateway:hunter2@127.0.0.1:1/d")
    assert "hunter2" not in (down.value.detail or "")


@pytest.fixture
def reader(postgres: Postgres) -> Iterator[str]:
    """A user who may read, but not write."""
    url = postgres.database()
    Database(url, migrating=True).close()
    engine = open_engine(url)
    with engine.begin() as connection:
        connection.execute(text("CREATE ROLE reader LOGIN; GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader"))
    yield engine.url.set(username="reader").render_as_string(hide_password=False)
    with engine.begin() as connection:
        connection.execute(text("DROP OWNED BY reader; DROP ROLE reader"))
    engine.dispose()


def test_a_user_who_may_not_write_is_found(reader: str) -> None:
    assert look_at(reader).writable is False


def test_a_file_that_may_not_be_written_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"sqlite:///{tmp_path / 'a.db'}"
    Database(url).close()
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # tests may run as root, who may
    assert look_at(url).writable is False
    assert look_at(f"sqlite:///{tmp_path / 'b.db'}") == Look(missing=True, writable=False)
