"""The store as the event loop sees it, on both databases: what goes wrong there stays there."""

import asyncio
import os
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.core.directory import User, row_of, user_row
from gateway.errors import StoreDown, StoreSlow
from gateway.store import sql
from gateway.store.base import Directory, Inbox
from gateway.store.database import Database
from gateway.store.retention import DAY_MS
from gateway.store.sql import SqlStore
from tests.fakes.clerk_events import NOW_MS, arrival, event, gone, membership, organization, user
from tests.fakes.postgres import Postgres


class Log(list[tuple[str, dict[str, Any]]]):
    def __call__(self, event: str, *, level: str = "info", **fields: Any) -> None:
        self.append((event, fields))

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self]


@asynccontextmanager
async def store_at(url: str, **options: Any) -> AsyncIterator[tuple[SqlStore, Log]]:
    """A store that nobody looks after: the test says when."""
    log = Log()
    store = SqlStore(url, on_event=log, **options)
    try:
        await store.look()
        yield store, log
    finally:
        await store.close()


@pytest.fixture
async def store(url: str) -> AsyncIterator[SqlStore]:
    Database(url, migrating=True).close()
    async with store_at(url) as (opened, log):
        assert log.names == ["store_up"]
        yield opened


async def test_it_is_an_inbox_and_a_directory(store: SqlStore) -> None:
    inbox: Inbox = store
    directory: Directory = store
    came = arrival("msg_1", "user.created", user())
    assert await inbox.put(came)
    assert not await inbox.put(came)
    stored = await inbox.get("msg_1")
    assert stored is not None
    assert stored.payload == came.event.body
    assert await directory.user("user_1") == row_of(came.event)
    rows = [
        row_of(event("organization.created", organization())),
        row_of(event("organizationMembership.created", membership())),
    ]
    await directory.merge([row for row in rows if row is not None], now=NOW_MS)
    assert await directory.organization("org_1") == rows[0]
    assert await directory.members("org_1") == (rows[1],)
    assert await directory.members("org_1", after="orgmem_1", limit=5) == ()


async def test_many_at_once_are_few_commits_and_all_are_kept(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    commit = store._group._commit
    store._group._commit = lambda items: sizes.append(len(items)) or commit(items)  # type: ignore[func-returns-value]
    came = [arrival(f"msg_{number % 200}", "user.updated", user(f"user_{number}")) for number in range(300)]
    new = await asyncio.gather(*map(store.put, came))
    assert sum(new) == 200
    assert len(sizes) < 10


async def test_many_who_come_for_the_first_time_are_few_commits_and_one_that_is_refused_is_alone(
    store: SqlStore,
) -> None:
    sizes: list[int] = []
    commit = store._merging._commit
    store._merging._commit = lambda items: sizes.append(len(items)) or commit(items)  # type: ignore[func-returns-value]
    rows = [user_row(user(f"user_{number}"), at=0) for number in range(300)]
    bad = User("user_x", version=None)  # type: ignore[arg-type]
    results = await asyncio.gather(
        *(store.merge([row], now=NOW_MS) for row in (*rows, bad) if row is not None), return_exceptions=True
    )
    assert results[:-1] == [None] * 300
    assert isinstance(results[-1], StoreDown)
    assert store.is_up
    assert len(sizes) < 10
    assert [await store.user(row.id) for row in rows if row is not None] == rows


async def test_closing_commits_what_waits(url: str) -> None:
    Database(url, migrating=True).close()
    async with store_at(url) as (store, _):
        waiting = asyncio.ensure_future(store.put(arrival("msg_1", "x.y", {})))
        await asyncio.sleep(0)
    assert await waiting
    database = Database(url)
    assert database.get("msg_1") is not None
    database.close()


async def test_before_it_is_open_it_is_down(tmp_path: Path) -> None:
    store = SqlStore(f"sqlite:///{tmp_path / 'a.db'}", on_event=Log())
    assert not store.is_up
    for asked in (store.put(arrival("m", "x.y", {})), store.get("m"), store.user("u"), store.merge([], now=0)):
        with pytest.raises(StoreDown):
            await asked
    await store.close()


async def test_it_is_looked_after(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql, "RETRY_S", 0.01)
    monkeypatch.setattr(sql, "LOOK_S", 0.01)
    log = Log()
    store = SqlStore(f"sqlite:///{tmp_path / 'new' / 'a.db'}", on_event=log)
    store.start()
    while not log:
        await asyncio.sleep(0.01)
    assert log.names == ["store_down"]
    assert str(tmp_path) in log[0][1]["detail"]
    assert log[0][1]["key"] == "store.url"
    assert "folder" in log[0][1]["remedy"]
    (tmp_path / "new").mkdir()
    while not store.is_up:
        await asyncio.sleep(0.01)
    assert await store.put(arrival("msg_1", "x.y", {}))
    os.rename(tmp_path / "new" / "a.db", tmp_path / "moved.db")
    with pytest.raises(StoreDown):
        await store.put(arrival("msg_2", "x.y", {}))
    while not store.is_up:
        await asyncio.sleep(0.01)
    assert await store.put(arrival("msg_2", "x.y", {}))
    await store.close()
    assert log.names == ["store_down", "store_up", "store_down", "store_up"]


async def test_a_fault_of_our_own_is_told_and_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql, "RETRY_S", 0.01)
    log = Log()
    store = SqlStore(f"sqlite:///{tmp_path / 'a.db'}", on_event=log)
    faults = [ZeroDivisionError()]
    reopen = store._reopen

    def failing() -> None:
        if faults:
            raise faults.pop()
        reopen()

    monkeypatch.setattr(store, "_reopen", failing)
    store.start()
    while not store.is_up:
        await asyncio.sleep(0.01)
    await store.close()
    assert log.names == ["store_failed", "store_up"]


async def test_a_restart_of_the_server_is_survived(postgres: Postgres) -> None:
    url = postgres.database()
    Database(url, migrating=True).close()
    async with store_at(url) as (store, log):
        assert await store.put(arrival("msg_1", "user.created", user()))
        postgres.stop()
        try:
            for _ in range(2):
                with pytest.raises(StoreDown):
                    await store.put(arrival("msg_2", "user.created", user("user_2")))
            with pytest.raises(StoreDown):
                await store.user("user_1")
            await store.look()
            assert not store.is_up
        finally:
            postgres.start()
        await store.look()
        assert store.is_up
        assert await store.put(arrival("msg_2", "user.created", user("user_2")))
        assert await store.user("user_1") is not None
    assert log.names == ["store_up", "store_down", "store_up"]


async def test_a_database_without_its_schema_says_what_to_do_and_is_taken_once_it_has_it(postgres: Postgres) -> None:
    url = postgres.database()
    async with store_at(url) as (store, log):
        assert not store.is_up
        assert "gateway migrate" in log[0][1]["detail"]
        Database(url, migrating=True).close()
        await store.look()
        assert store.is_up


async def test_no_answer_is_down(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql, "ANSWER_S", 0.05)
    stuck = threading.Event()
    store._writer.submit(stuck.wait, 10)
    with pytest.raises(StoreDown):
        await store.put(arrival("msg_1", "x.y", {}))
    assert not store.is_up
    stuck.set()
    monkeypatch.setattr(sql, "ANSWER_S", 10.0)
    await store.look()
    assert store.is_up


async def test_a_read_without_an_answer_is_its_own_matter(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    log: Log = store._on_event  # type: ignore[assignment]
    monkeypatch.setattr(sql, "ANSWER_S", 0.05)
    stuck = threading.Event()
    for _ in range(sql.READERS):
        store._readers.submit(stuck.wait, 30)
    try:
        for _ in range(2):
            with pytest.raises(StoreSlow):
                await store.get("msg_1")
        monkeypatch.setattr(sql, "ANSWER_S", 5.0)
        await store.look()  # although every reader is busy
        assert await store.put(arrival("msg_1", "x.y", {}))
    finally:
        stuck.set()
    assert await store.get("msg_1") is not None
    assert log.names == ["store_up", "store_slow"]


@pytest.mark.parametrize(("asked", "is_up"), [("read", True), ("write", False), ("look", False)])
async def test_who_is_believed_that_the_database_takes_too_long(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch, asked: str, is_up: bool
) -> None:
    def slow(*_: Any, **__: Any) -> Any:
        raise StoreSlow(detail="canceling statement due to statement timeout")

    monkeypatch.setattr(Database, "probe" if asked == "look" else "get", slow)
    if asked == "look":
        await store.look()
    else:
        with pytest.raises(StoreSlow):
            await getattr(store, asked)(lambda database: database.get("msg_1"))
    assert store.is_up is is_up


async def test_what_the_database_refuses_does_not_mean_that_it_is_down(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gateway.store.engine import Refused

    def refuse(*_: Any) -> Any:
        raise Refused(detail="no")

    monkeypatch.setattr(Database, "get", refuse)
    with pytest.raises(StoreDown):
        await store.get("msg_1")
    assert store.is_up


async def test_what_is_old_is_forgotten_as_the_hours_pass(url: str) -> None:
    Database(url, migrating=True).close()
    clock = [NOW_MS / 1000]
    async with store_at(url, now=lambda: clock[0], ticks=lambda: clock[0], retention_days=lambda: 1) as (store, _):
        await store.put(arrival("msg_1", "user.created", user()))
        await store.put(arrival("msg_2", "user.deleted", gone("user_2")))
        await store.look()
        clock[0] += 2 * DAY_MS / 1000
        await store.look()
        stored = await store.get("msg_1")
        assert stored is not None
        assert stored.payload is None
        clock[0] += 100 * DAY_MS / 1000
        await store.look()
        assert await store.get("msg_1") is None
        assert await store.user("user_2") is None
        assert await store.user("user_1") == user_row(user(), at=NOW_MS)


async def test_what_is_old_is_forgotten_after_the_clock_was_put_back(url: str) -> None:
    Database(url, migrating=True).close()
    clock = [NOW_MS / 1000 + 365 * DAY_MS / 1000]
    async with store_at(url, now=lambda: clock[0], ticks=lambda: 0.0, retention_days=lambda: 0) as (store, _):
        await store.look()
        clock[0] = NOW_MS / 1000 + 1
        await store.put(arrival("msg_1", "user.created", user()))
        await store.look()
        stored = await store.get("msg_1")
        assert stored is not None
        assert stored.payload is None


async def test_a_clock_that_jumps_ahead_has_an_hour_before_anything_is_erased(url: str) -> None:
    Database(url, migrating=True).close()
    clock, ticks = [NOW_MS / 1000], [0.0]

    async def is_kept() -> bool:
        await store.look()
        stored = await store.get("msg_1")
        return stored is not None and stored.payload is not None

    async with store_at(url, now=lambda: clock[0], ticks=lambda: ticks[0]) as (store, log):
        await store.put(arrival("msg_1", "user.created", user()))
        ticks[0] += 7200
        clock[0] += 7200 + 365 * DAY_MS / 1000
        assert await is_kept()
        ticks[0] += 3599
        clock[0] += 3599
        assert await is_kept()
        clock[0] -= 365 * DAY_MS / 1000  # somebody has put it right
        ticks[0] += 10_000
        clock[0] += 10_000
        assert await is_kept()
        clock[0] += 365 * DAY_MS / 1000
        assert await is_kept()
        ticks[0] += 3600
        clock[0] += 3600  # nobody has
        assert not await is_kept()
    assert log.names == ["store_up", "clock_jumped", "clock_jumped"]
    assert log[1][1]["ahead_s"] == 365 * 86_400


@pytest.mark.parametrize(
    ("there", "is_new"), [(None, True), (b"", True), (b"no database", False)], ids=["none", "empty", "something"]
)
async def test_a_file_that_was_not_there_is_a_new_store(tmp_path: Path, there: bytes | None, is_new: bool) -> None:
    file = tmp_path / "gateway.db"
    if there is not None:
        file.write_bytes(there)
    async with store_at(f"sqlite:///{file}") as (opened, _):
        assert opened.is_new is is_new
        assert opened.is_up is is_new


async def test_one_that_was_there_or_may_be_elsewhere_is_not_new(tmp_path: Path) -> None:
    Database(f"sqlite:///{tmp_path}/gateway.db", migrating=True).close()
    for url in (f"sqlite:///{tmp_path}/gateway.db", f"sqlite:///{tmp_path}/none/gateway.db", "postgresql://[::1]:9/x"):
        async with store_at(url) as (opened, _):
            assert not opened.is_new


async def test_a_folder_that_comes_later_does_not_make_it_new(tmp_path: Path) -> None:
    async with store_at(f"sqlite:///{tmp_path}/later/gateway.db") as (opened, _):
        (tmp_path / "later").mkdir()
        await opened.look()
        assert opened.is_up
        assert not opened.is_new
