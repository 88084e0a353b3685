"""What Clerk is asked about a user of whom nothing is known but a token: once, in the background."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import StoreDown
from gateway.store.sql import SqlStore
from gateway.web import people
from gateway.web.people import People
from tests.fakes.clerk_events import user
from tests.fakes.gateway import Clock
from tests.web.test_people import alice, known_by


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqlStore]:
    opened = SqlStore(f"sqlite:///{tmp_path / 'people.db'}", on_event=lambda *_, **__: None)
    opened.start()
    while not opened.is_up:
        await asyncio.sleep(0.01)
    yield opened
    await opened.close()


class Asked:
    """A directory's Clerk, as `Source`."""

    def __init__(self, found: Mapping[str, Any] | None) -> None:
        self.found, self.questions = found, 0
        self.down = False

    async def user(self, user_id: str) -> Mapping[str, Any] | None:
        self.questions += 1
        await asyncio.sleep(0)
        if self.down:
            raise StoreDown
        return self.found


async def fetched(known: People) -> None:
    while known._asking or known._fetching:
        await asyncio.sleep(0.01)


async def test_clerk_is_asked_once_about_who_is_new(store: SqlStore) -> None:
    source = Asked(user())
    known = known_by(store, source)
    await asyncio.gather(*(known.meet(alice()) for _ in range(1000)))
    await fetched(known)
    found = known.get("user_1")
    assert found is not None
    assert found.email == "user_1@example.com"
    assert await store.user("user_1") == found
    again = known_by(store, source)
    await again.meet(alice())
    assert source.questions == 1


async def test_clerk_that_cannot_be_asked_is_asked_again_after_a_while(store: SqlStore) -> None:
    source, clock = Asked(user()), Clock(1000.0)
    source.down = True
    known = People(store, now=clock, changed=lambda _: None, source=lambda _issuer: source)
    for _ in range(2):
        await known.meet(alice())
        await fetched(known)
    assert source.questions == 1  # not by everybody who comes
    source.down = False
    clock.seconds += people.REST_S
    await known.meet(alice())
    await fetched(known)
    assert source.questions == 2
    assert (found := known.get("user_1")) is not None
    assert found.nickname == "ada"
    await known.meet(alice())
    assert source.questions == 2


async def test_whoever_there_was_no_room_to_ask_about_is_asked_about_later(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Asked(user())
    known = known_by(store, source)
    monkeypatch.setattr(people, "MOST_FETCHED", 0)
    await known.meet(alice())
    monkeypatch.setattr(people, "MOST_FETCHED", 1)
    await known.meet(alice())
    await fetched(known)
    assert source.questions == 1


@pytest.mark.parametrize("answer", [None, user("user_2"), {"id": 7}])
async def test_what_clerk_does_not_know_is_not_asked_again(store: SqlStore, answer: dict[str, Any] | None) -> None:
    source = Asked(answer)
    known = known_by(store, source)
    for _ in range(2):
        await known.meet(alice())
        await fetched(known)
        known.forget_all()
    assert source.questions == 1
