import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from gateway.core.directory import User, user_row
from gateway.core.model import Principal
from gateway.core.revocation import LIFE_MS, of_session, of_user
from gateway.errors import StoreDown
from gateway.store.database import Database
from gateway.store.sql import SqlStore
from gateway.web import feed as feeds
from gateway.web.feed import Feed
from gateway.web.people import People
from tests.fakes.clerk_events import user
from tests.fakes.revoked import NOW_MS, Memory


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'feed.db'}"


@pytest.fixture
async def store(url: str) -> AsyncIterator[SqlStore]:
    opened = SqlStore(url, on_event=lambda *_, **__: None)
    await opened.look()
    opened.looked.set()
    yield opened
    await opened.close()


def row(number: int, **members: object) -> User:
    made = user_row(user(f"user_{number}", **members), at=0)  # type: ignore[arg-type]
    assert made is not None
    return made


async def meet(people: People, number: int) -> None:
    await people.meet(Principal("", "session", {}, frozenset(), 0.0, 60.0, user_id=f"user_{number}"))


async def test_changes_of_known_users_are_read_and_of_others_told(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds, "PAGE", 2)
    changed: list[str] = []
    people = People(store, now=lambda: 0.0, changed=changed.append)
    feed = Feed(store, people, Memory(), on_event=lambda *_, **__: None)
    await feed.look()
    await store.merge([row(number) for number in range(5)], now=0)
    await meet(people, 0)
    await store.merge([row(0, updated_at=9000, username="new")], now=0)
    changed.clear()
    await feed.look()
    assert (known := people.get("user_0")) is not None
    assert known.nickname == "new"
    assert changed == ["user_1", "user_2", "user_3", "user_4", "user_0"]
    await feed.look()
    assert len(changed) == 5


async def test_before_the_first_look_nothing_is_sure(store: SqlStore) -> None:
    people = People(store, now=lambda: 0.0, changed=lambda _: None)
    await store.merge([row(0)], now=0)
    await meet(people, 0)
    feed = Feed(store, people, Memory(), on_event=lambda *_, **__: None)
    await feed.look()
    assert len(people) == 0
    await meet(people, 0)
    await feed.look()
    assert len(people) == 1


async def test_a_backup_in_its_place_is_another_past(store: SqlStore) -> None:
    people = People(store, now=lambda: 0.0, changed=lambda _: None)
    feed = Feed(store, people, Memory(), on_event=lambda *_, **__: None)
    await store.merge([row(0)], now=0)
    await feed.look()
    await meet(people, 0)
    feed._users = 99
    await feed.look()
    assert len(people) == 0


async def test_it_looks_by_itself_until_closed(store: SqlStore) -> None:
    people = People(store, now=lambda: 0.0, changed=lambda _: None)
    feed = Feed(store, people, Memory(), on_event=lambda *_, **__: None)
    store._up = False
    feed.start()
    await asyncio.sleep(0)  # a store that is down is no end of it
    assert feed._looking is not None
    assert not feed._looking.done()
    await feed.close()
    assert feed._looking.cancelled()


async def test_a_row_that_cannot_be_read_hides_nothing_behind_it(store: SqlStore) -> None:
    people = People(store, now=lambda: 0.0, changed=lambda _: None)
    feed = Feed(store, people, Memory(), on_event=lambda *_, **__: None)
    await feed.look()
    for number in (1, 2):
        await store.merge([row(number)], now=0)
        await meet(people, number)
    await store.merge([row(1, updated_at=9000), row(2, updated_at=9000, username="new")], now=0)
    broken = text("UPDATE gateway_users SET public_metadata = '{' WHERE id = 'user_1'")
    await store.write(lambda database: database.write(lambda connection: connection.execute(broken)))
    await feed.look()
    assert (known := people.get("user_2")) is not None
    assert known.nickname == "new"
    assert store.is_up


async def test_a_fault_of_our_own_does_not_end_it(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "LOOK_S", 0.0)
    told: list[str] = []
    people = People(store, now=lambda: 0.0, changed=lambda _: None)
    feed = Feed(store, people, Memory(), on_event=lambda event, **_: told.append(event))
    looked = feed.look

    async def look() -> None:
        if not told:
            raise ValueError
        await looked()

    monkeypatch.setattr(feed, "look", look)
    feed.start()
    while not feed.is_whole:
        await asyncio.sleep(0.01)
    await feed.close()
    assert told == ["feed_failed"]


async def test_another_database_in_its_place_makes_everybody_unknown(store: SqlStore) -> None:
    people = People(store, now=lambda: 0.0, changed=lambda _: None)
    feed = Feed(store, people, Memory(), on_event=lambda *_, **__: None)
    await feed.look()
    await meet(people, 0)
    store._tell(StoreDown())
    await store.look()
    await feed.look()
    assert len(people) == 0


# --- what is revoked -------------------------------------------------------------------------------------------------


@pytest.fixture
def elsewhere(url: str) -> Iterator[Database]:
    """The same database in another process."""
    opened = Database(url)
    yield opened
    opened.close()


@pytest.fixture
def memory() -> Memory:
    return Memory()


@pytest.fixture
async def feed(elsewhere: Database, store: SqlStore, memory: Memory) -> Feed:
    """A feed that brings what it has to when the test says so."""
    return Feed(store, People(store, now=lambda: 0.0, changed=lambda _: None), memory, on_event=memory.told)


def who(user_id: str = "user_1") -> Principal:
    return Principal(user_id, "session", {}, frozenset(), 0.0, 60.0, user_id=user_id)


async def test_all_is_brought_and_then_what_is_new(feed: Feed, elsewhere: Database, memory: Memory) -> None:
    elsewhere.revocations.add([of_session(f"sess_{number}", now_ms=NOW_MS) for number in range(1500)])
    elsewhere.revocations.add([of_user("gone", now_ms=NOW_MS - LIFE_MS)])
    assert not feed.is_whole
    await feed.look()
    assert feed.is_whole
    assert (len(memory), len(memory.ended)) == (100, 1500)  # as many as it keeps; what is void is nothing
    elsewhere.revocations.add([of_user("user_2", now_ms=NOW_MS)])
    await feed.look()
    await feed.look()
    assert (memory.is_revoked(who("user_2")), len(memory.ended)) == (True, 1501)


async def test_another_database_in_its_place_is_read_from_its_beginning(
    feed: Feed, elsewhere: Database, memory: Memory
) -> None:
    elsewhere.revocations.add([of_user(f"user_{number}", now_ms=NOW_MS) for number in range(9)])
    await feed.look()
    elsewhere.write(lambda connection: connection.exec_driver_sql("DELETE FROM gateway_revocations"))
    elsewhere.write(lambda connection: connection.exec_driver_sql("UPDATE gateway_schema SET changes = 0"))
    feed._store._tell(StoreDown())
    with pytest.raises(StoreDown):
        await feed.look()
    elsewhere.revocations.add([of_user("user_new", now_ms=NOW_MS)])
    await feed._store.look()
    await feed.look()
    assert memory.is_revoked(who("user_new"))
    assert memory.is_revoked(who("user_1"))  # what is known stays known


async def test_it_follows_by_itself_whatever_happens(
    feed: Feed, elsewhere: Database, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds, "LOOK_S", 0.01)
    faults: list[Exception] = [ZeroDivisionError(), StoreDown()]
    look = feed.look

    async def failing() -> None:
        if faults:
            raise faults.pop()
        await look()

    monkeypatch.setattr(feed, "look", failing)
    feed.start()
    await feed.first(10)
    assert not feed.is_whole
    elsewhere.revocations.add([of_user("user_1", now_ms=NOW_MS)])
    while not memory.is_revoked(who()):
        await asyncio.sleep(0.01)
    await feed.close()
    assert [name for name, _ in memory.told] == ["revocations_unknown", "feed_failed", "revocations_known"]


async def test_nobody_waits_long_for_it(feed: Feed) -> None:
    await feed.first(0.01)  # it has not begun
    assert not feed.is_whole
    await feed.close()


async def test_that_it_goes_on_without_is_said_until_all_is_known(feed: Feed, memory: Memory) -> None:
    await feed.first(0.01)
    ((event, fields),) = memory.told
    assert (event, fields["level"]) == ("revocations_unknown", "warning")
    assert "still waiting for the store" in fields["effect"]
    for _ in range(2):
        await feed.look()
    assert [name for name, _ in memory.told] == ["revocations_unknown", "revocations_known"]


async def test_of_a_store_that_is_new_nothing_is_unknown(feed: Feed, memory: Memory) -> None:
    feed._store.is_new = True
    await feed.first(0.01)
    assert not memory.told
