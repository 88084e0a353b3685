import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import text

from gateway.core.directory import User, user_row
from gateway.core.model import Principal
from gateway.store.sql import SqlStore
from gateway.web import feed as feeds
from gateway.web.feed import Feed
from gateway.web.people import People
from tests.fakes.clerk_events import user


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqlStore]:
    opened = SqlStore(f"sqlite:///{tmp_path / 'feed.db'}", on_event=lambda *_, **__: None)
    opened.start()
    while not opened.is_up:
        await asyncio.sleep(0.01)
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
    feed = Feed(store, people, on_event=lambda *_, **__: None)
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
    feed = Feed(store, people, on_event=lambda *_, **__: None)
    await feed.look()
    assert len(people) == 0
    await meet(people, 0)
    await feed.look()
    assert len(people) == 1


async def test_a_backup_in_its_place_is_another_past(store: SqlStore) -> None:
    people = People(store, now=lambda: 0.0, changed=lambda _: None)
    feed = Feed(store, people, on_event=lambda *_, **__: None)
    await store.merge([row(0)], now=0)
    await feed.look()
    await meet(people, 0)
    feed._seen = 99
    await feed.look()
    assert len(people) == 0


async def test_it_looks_by_itself_until_closed(store: SqlStore) -> None:
    people = People(store, now=lambda: 0.0, changed=lambda _: None)
    feed = Feed(store, people, on_event=lambda *_, **__: None)
    store._up = False
    feed.start()
    await asyncio.sleep(0)  # a store that is down is no end of it
    assert feed._looking is not None
    assert not feed._looking.done()
    await feed.close()
    assert feed._looking.cancelled()


async def test_a_row_that_cannot_be_read_hides_nothing_behind_it(store: SqlStore) -> None:
    people = People(store, now=lambda: 0.0, changed=lambda _: None)
    feed = Feed(store, people, on_event=lambda *_, **__: None)
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
    feed = Feed(store, people, on_event=lambda event, **_: told.append(event))
    looked = feed.look

    async def look() -> None:
        if not told:
            raise ValueError
        await looked()

    monkeypatch.setattr(feed, "look", look)
    feed.start()
    while feed._seen is None:
        await asyncio.sleep(0.01)
    await feed.close()
    assert told == ["feed_failed"]
