"""First login and the whole user behind every request, from outside; below it, what is kept in memory."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from gateway.core.directory import User, claims_row, user_row
from gateway.core.model import Principal
from gateway.store.base import Directory
from gateway.store.database import Database
from gateway.store.sql import SqlStore
from gateway.web import people
from gateway.web.people import People, Source
from tests.fakes.clerk_events import gone, user
from tests.fakes.directory import send_event, until_up, with_directory
from tests.fakes.gateway import CLERK, Running
from tests.fakes.upstream import Echo, ScriptedUpstream


@pytest.fixture
def echo() -> Echo:
    return Echo()


@pytest.fixture
async def running(echo: Echo, tmp_path: Path) -> AsyncIterator[Running]:
    async with ScriptedUpstream(echo) as upstream, with_directory(upstream.port, tmp_path) as started:
        yield started


async def told(running: Running, echo: Echo, token: str | None = None) -> dict[str, str]:
    """Ask with a token; give the identity headers the upstream received."""
    answer = await running.get("/x", token=token or running.token())
    assert answer.status == 200
    fields = {name.lower(): value for name, value in echo.last.fields}
    return {name: value for name, value in fields.items() if name.startswith("x-user-")}


# --- first login -----------------------------------------------------------------------------------------------------


async def test_the_first_request_of_a_user_makes_the_row_before_the_upstream_sees_it(
    echo: Echo, tmp_path: Path
) -> None:
    seen: list[User | None] = []

    async def looking(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        database = Database(f"sqlite:///{tmp_path / 'gateway.db'}")
        seen.append(database.directory.user("user_1"))
        database.close()
        await echo(reader, writer)

    async with ScriptedUpstream(looking) as upstream, with_directory(upstream.port, tmp_path) as running:
        token = CLERK.template_token(
            running.clock(), aud="api", email="ada@example.com", email_verified=True, given_name="Ada"
        )
        running.file.write(upstream.port, **_template_route(tmp_path))
        await running.app.reload()
        assert (await running.get("/x", token=token)).status == 200
    (row,) = seen
    assert row is not None
    assert (row.email, row.email_verified, row.given_name, row.name) == ("ada@example.com", True, "Ada", None)
    assert (row.created_at, row.updated_at, row.deleted) == (None, None, False)


def _template_route(tmp_path: Path) -> dict[str, Any]:
    from tests.fakes.directory import SECRET
    from tests.fakes.gateway import settings

    route = {"path": "/*", "upstream": "api", "token": ["session", "template"], "audience": ["api"]}
    clerk = settings(1)["clerk"] | {"webhook_signing_secrets": [SECRET]}
    return {"routes": [route], "clerk": clerk, "store": {"url": f"sqlite:///{tmp_path / 'gateway.db'}"}}


async def test_a_thousand_first_requests_of_one_user_make_one_row_and_one_question(
    running: Running, echo: Echo, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    merged: list[int] = []
    store = running.app._records.store
    user_of, merge = store.user, store.merge

    async def counting_user(user_id: str) -> User | None:
        asked.append(user_id)
        return await user_of(user_id)

    async def counting_merge(rows: Any, *, now: int) -> None:
        merged.append(len(rows))
        await merge(rows, now=now)

    monkeypatch.setattr(store, "user", counting_user)
    monkeypatch.setattr(store, "merge", counting_merge)
    tokens = [running.token(jti=f"{number:020x}") for number in range(1000)]
    answers = await asyncio.gather(*(running.get("/x", token=token) for token in tokens))
    assert {answer.status for answer in answers} == {200}
    assert (asked, merged) == (["user_1"], [1])
    assert [change.row.id for change in await store.changes(since=0)] == ["user_1"]


async def test_a_store_that_does_not_answer_in_time_leaves_the_token_alone_to_serve(
    running: Running, echo: Echo, tmp_path: Path
) -> None:
    await send_event(running, "user.created", user("user_2"))
    writing = sqlite3.connect(tmp_path / "gateway.db", isolation_level=None)
    writing.execute("BEGIN IMMEDIATE")  # nobody else can write now
    try:
        assert "x-user-email" not in await told(running, echo)
        line = (await running.logged())[-1]
        assert (line["user"], line["directory"]) == ("user_1", "miss")
    finally:
        writing.execute("COMMIT")
        writing.close()
    while running.app._records.people is not None and running.app._records.people.get("user_1") is None:
        await asyncio.sleep(0.01)
    await told(running, echo)
    assert "directory" not in (await running.logged())[-1]


async def test_without_a_store_that_works_the_token_alone_serves(running: Running, echo: Echo, tmp_path: Path) -> None:
    (tmp_path / "gateway.db").rename(tmp_path / "elsewhere.db")
    known = await told(running, echo)
    assert (known["x-user-id"], "x-user-email" in known) == ("user_1", False)
    assert (await running.logged())[-1]["directory"] == "miss"


async def test_a_miss_is_mended_within_seconds_although_the_token_lives_on(
    running: Running, echo: Echo, tmp_path: Path
) -> None:
    await send_event(running, "user.created", user())
    store = running.app._records.store
    store._up = False
    token = running.token()
    assert "x-user-email" not in await told(running, echo, token)
    store._up = True
    running.clock.seconds += 6
    assert (await told(running, echo, token))["x-user-email"] == "user_1@example.com"


async def test_a_miss_does_not_outlive_its_token(running: Running, echo: Echo) -> None:
    running.app._records.store._up = False
    token = running.token()  # for 60 s
    running.clock.seconds += 62  # of the leeway's 5 s there are 3 left
    assert (await running.get("/x", token=token)).status == 200
    running.clock.seconds += 4
    assert (await running.get("/x", token=token)).json["reason"] == "token-expired"


# --- what the upstream is told ---------------------------------------------------------------------------------------


async def test_what_the_token_lacks_comes_from_the_directory(running: Running, echo: Echo) -> None:
    await send_event(running, "user.created", user())
    known = await told(running, echo)
    wanted = {
        "x-user-id": "user_1", "x-user-email": "user_1@example.com", "x-user-email-verified": "true",
        "x-user-name": "Ada Lovelace", "x-user-given-name": "Ada", "x-user-family-name": "Lovelace",
        "x-user-nickname": "ada", "x-user-picture": "https://img.example.com/a.png", "x-user-external-id": "ext-user_1",
    }  # fmt: skip
    assert wanted.items() <= known.items()


async def test_a_changed_mail_is_in_the_headers_of_the_next_request(running: Running, echo: Echo) -> None:
    token = running.token()
    await send_event(running, "user.created", user())
    assert (await told(running, echo, token))["x-user-email"] == "user_1@example.com"
    changed = [{"id": "idn_1", "email_address": "new@example.com", "verification": {"status": "unverified"}}]
    await send_event(running, "user.updated", user(updated_at=3000, email_addresses=changed))
    known = await told(running, echo, token)
    assert (known["x-user-email"], known["x-user-email-verified"]) == ("new@example.com", "false")
    await send_event(running, "user.updated", user(updated_at=2500))  # late, and older
    assert (await told(running, echo, token))["x-user-email"] == "new@example.com"


async def test_a_user_who_is_known_here_costs_no_question(
    running: Running, echo: Echo, monkeypatch: pytest.MonkeyPatch
) -> None:
    await told(running, echo)

    async def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("the store was asked")

    for name in ("user", "merge", "read", "write"):
        monkeypatch.setattr(running.app._records.store, name, refuse)
    assert (await told(running, echo, running.token(sid="sess_2")))["x-user-session-id"] == "sess_2"
    assert "directory" not in (await running.logged())[-1]


async def test_headers_may_name_what_the_directory_knows(echo: Echo, tmp_path: Path) -> None:
    headers = {"X-Tier": "public_metadata.tier", "X-Since": "created_at", "X-Gone": "deleted", "X-Odd": "version"}
    async with (
        ScriptedUpstream(echo) as upstream,
        with_directory(upstream.port, tmp_path, identity={"headers": headers}) as running,
    ):
        await send_event(running, "user.created", user())
        await told(running, echo)
        known = {name.lower(): value for name, value in echo.last.fields}
        assert (known["x-tier"], known["x-since"]) == ("gold", "1000")
        assert not {"x-gone", "x-odd"} & known.keys()


async def test_nothing_is_filled_in_where_that_is_off(echo: Echo, tmp_path: Path) -> None:
    async with (
        ScriptedUpstream(echo) as upstream,
        with_directory(upstream.port, tmp_path, identity={"enrich": False}) as running,
    ):
        await send_event(running, "user.created", user())
        assert "x-user-email" not in await told(running, echo)
        assert await running.app._records.store.user("user_1") is not None


async def test_what_another_process_writes_is_known_at_the_next_look(
    running: Running, echo: Echo, tmp_path: Path
) -> None:
    kept = running.app._records._kept
    assert kept is not None
    await kept.feed.look()
    token = running.token()
    await told(running, echo, token)
    other = Database(f"sqlite:///{tmp_path / 'gateway.db'}")
    row = user_row(user(), at=0)
    assert row is not None
    other.directory.merge([row], now=0)
    other.close()
    await kept.feed.look()
    assert (await told(running, echo, token))["x-user-email"] == "user_1@example.com"


# --- what the token did not say --------------------------------------------------------------------------------------


def alice(user_id: str = "user_1", **claims: Any) -> Principal:
    return Principal(user_id, "session", claims, frozenset(), 0.0, 60.0, user_id=user_id)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqlStore]:
    opened = SqlStore(f"sqlite:///{tmp_path / 'people.db'}", on_event=lambda *_, **__: None)
    opened.start()
    while not opened.is_up:
        await asyncio.sleep(0.01)
    yield opened
    await opened.close()


def known_by(store: Directory, source: Source | None = None, changed: list[str] | None = None) -> People:
    told_to = (changed if changed is not None else []).append
    return People(store, now=lambda: 1000.0, changed=told_to, source=lambda _issuer: source)


# --- what is kept in memory ------------------------------------------------------------------------------------------


def row(user_id: str, **members: Any) -> User:
    made = user_row(user(user_id, **members), at=0)
    assert made is not None
    return made


async def test_a_change_while_the_store_is_asked_is_not_lost(store: SqlStore) -> None:
    await store.merge([row("user_1", updated_at=1)], now=0)
    known = known_by(store)
    meeting = asyncio.ensure_future(known.meet(alice()))
    await asyncio.sleep(0)
    known.take(row("user_1", updated_at=9, username="new"))
    assert await meeting
    assert (found := known.get("user_1")) is not None
    assert found.nickname == "new"


async def test_what_was_read_of_another_directory_is_not_kept(store: SqlStore) -> None:
    await store.merge([row("user_1", updated_at=9, username="old")], now=0)
    known = known_by(store)
    first = known._looked_up

    async def looked_up(user_id: str, claims: Mapping[str, Any]) -> User | None:
        found = await first(user_id, claims)
        if not known._pasts:
            known.forget_all()
            return found
        return row(user_id, updated_at=1, username="now")

    known._looked_up = looked_up  # type: ignore[method-assign]
    await known.meet(alice())
    assert (found := known.get("user_1")) is not None
    assert found.nickname == "now"


async def test_machines_are_not_met(store: SqlStore) -> None:
    known = known_by(store)
    assert await known.meet(alice()._replace(user_id=None))
    assert len(known) == 0
    assert known.get(None) is None


async def test_a_machine_token_finds_its_user_but_writes_nobody_down(store: SqlStore) -> None:
    known = known_by(store)
    key = alice(email="boss@example.com", name="Boss")._replace(token_type="api_key")
    assert not await known.meet(key)
    assert await store.user("user_1") is None
    await store.merge([row("user_1", username="ada")], now=0)
    assert await known.meet(key)
    assert (found := known.get("user_1")) is not None
    assert (found.nickname, found.name, found.email) == ("ada", "Ada Lovelace", "user_1@example.com")
    assert await known.meet(alice("user_2"))  # which a session does


async def test_who_was_not_asked_for_longest_makes_room(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(people, "MOST", 2)
    known = known_by(store)
    for key in ("user_1", "user_2", "user_1", "user_3"):
        await known.meet(alice(key))
    assert [known.get(f"user_{number}") is not None for number in (1, 2, 3)] == [True, False, True]


async def test_large_metadata_takes_the_room_of_many(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(people, "MOST_BYTES", 10_000)
    known = known_by(store)
    await store.merge([row("user_9", public_metadata={"x": "y" * 3000})], now=0)
    for number in range(9):
        await known.meet(alice(f"user_{number}"))
    before = len(known)
    await known.meet(alice("user_9"))
    assert before > 2
    assert len(known) == 1


async def test_with_too_many_questions_open_nobody_waits(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(people, "MOST_ASKED", 1)
    known = known_by(store)
    both = await asyncio.gather(known.meet(alice("user_1")), known.meet(alice("user_2")))
    assert both == [True, False]


async def test_every_change_is_told_of_once(store: SqlStore) -> None:
    changed: list[str] = []
    known = known_by(store, changed=changed)
    await known.meet(alice())
    assert changed.pop() == "user_1"
    known.take(row("user_1", updated_at=5))
    known.take(row("user_1", updated_at=5))
    assert changed == ["user_1"]
    assert not known.notice("user_1", row("user_1", updated_at=5).version)
    assert known.notice("user_1", row("user_1", updated_at=6).version)
    assert changed == ["user_1"]
    assert not known.notice("user_2", b"")
    known.take(row("user_2"))
    assert changed == ["user_1", "user_2", "user_2"]
    known.forget_all()
    assert changed == ["user_1", "user_2", "user_2", "user_1"]


async def test_a_deleted_user_stays_deleted_whatever_a_token_says(store: SqlStore) -> None:
    known = known_by(store)
    from gateway.core.directory import row_of
    from tests.fakes.clerk_events import event

    tombstone = row_of(event("user.deleted", gone("user_1")))
    assert isinstance(tombstone, User)
    await store.merge([tombstone], now=0)
    await known.meet(alice(email="a@example.com"))
    assert (found := known.get("user_1")) is not None
    assert found.deleted
    assert claims_row("user_1", {"email": "a@example.com"}) is not None


async def test_a_gateway_that_is_up_is_whole(running: Running) -> None:
    await until_up(running)
    assert running.app.is_whole
