"""What the store knows bears on a request as it does in the running gateway that uses it, and nothing is written there."""

import os
from pathlib import Path
from typing import Any

import pytest

from gateway.core.revocation import of_session
from gateway.errors import StoreDown
from gateway.ops.explain.request import Asked
from gateway.ops.explain.step import BAD, GOOD, NOTE
from gateway.store.database import Database
from gateway.store.revocations import PAGE
from tests.fakes.clerk_events import user
from tests.fakes.directory import SECRET, send_event, with_directory
from tests.fakes.gateway import CLERK, settings
from tests.fakes.upstream import Echo, ScriptedUpstream
from tests.ops.explain.conftest import NOW, both, explained, story


def keeping(path: Path) -> dict[str, Any]:
    clerk = settings(1)["clerk"] | {"webhook_signing_secrets": [SECRET]}
    return {"clerk": clerk, "store": {"url": f"sqlite:///{path}"}}


def last_change(path: Path) -> int:
    database = Database(f"sqlite:///{path}", migrating=False)
    try:
        return database.directory.last_change()
    finally:
        database.close()


async def test_what_the_token_lacks_is_the_directorys(tmp_path: Path) -> None:
    echo = Echo()
    async with ScriptedUpstream(echo) as upstream, with_directory(upstream.port, tmp_path) as running:
        await send_event(running, "user.created", user())
        known = await both(running, "GET", "/x", token=running.token())
        sent = echo.last
        changes = last_change(tmp_path / "gateway.db")
        told = known.story
        # Somebody new, whose token says more than the directory knows: the running gateway would write it down.
        stranger = CLERK.session_token(running.clock(), sub="user_2", email="bob@example.com")
        asked = Asked("GET", "/x", stranger)
        unknown = await story(asked=asked, now=running.clock(), **keeping(tmp_path / "gateway.db"))
        assert last_change(tmp_path / "gateway.db") == changes
    assert told.onward is not None
    fields = dict(told.onward.fields)
    assert fields["X-User-Email"] == sent.value("X-User-Email") == "user_1@example.com"
    assert fields["X-User-External-Id"] == sent.value("X-User-External-Id") == "ext-user_1"
    assert explained(told, "identity") == [(NOTE, "what the token lacks is filled from the user directory")]
    assert explained(told, "revocation")[0][0] == GOOD
    assert unknown.onward is not None
    assert dict(unknown.onward.fields)["X-User-Email"] == "bob@example.com"


@pytest.mark.parametrize("how", ["banned", "deleted", "session"])
async def test_what_has_ended_is_refused(how: str, tmp_path: Path) -> None:
    events = {
        "banned": ("user.updated", user(banned=True)),
        "deleted": ("user.deleted", {"id": "user_1", "object": "user", "deleted": True}),
        "session": ("session.ended", {"id": "sess_1", "object": "session", "user_id": "user_1", "status": "ended"}),
    }
    async with ScriptedUpstream(Echo()) as upstream, with_directory(upstream.port, tmp_path) as running:
        await send_event(running, *events[how])
        found = await both(running, "GET", "/x", token=running.token())
    verdict = found.story.verdict
    assert (verdict.status, verdict.reason) == (found.answer.status, found.answer.json["reason"])
    assert (verdict.status, verdict.reason) == (401, "session-revoked")
    ((outcome, text),) = explained(found.story, "revocation")
    assert outcome == BAD
    assert text.endswith("(session-revoked)")
    assert verdict.remedy


async def test_all_that_has_ended_is_read_however_much_it_is(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'gateway.db'}")
    now_ms = int(NOW * 1000)
    database.revocations.add([of_session(f"sess_{2 * PAGE - number}", now_ms=now_ms) for number in range(2 * PAGE)])
    database.close()
    told = await story(asked=Asked("GET", "/x", CLERK.session_token(NOW)), **keeping(tmp_path / "gateway.db"))
    assert told.verdict.reason == "session-revoked"


async def test_a_store_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    told = await story(asked=Asked("GET", "/x", CLERK.session_token(NOW)), **keeping(tmp_path / "gateway.db"))
    assert os.listdir(tmp_path) == []
    assert told.onward is not None
    why = f"sqlite:///{tmp_path}/gateway.db is not there yet, so nothing is known"
    assert explained(told, "revocation") == [(NOTE, f"not looked at: {why}")]
    assert explained(told, "identity") == [(NOTE, f"what the token lacks is not filled from the user directory: {why}")]


async def test_a_store_that_cannot_be_read_is_said_and_the_rest_is_told(tmp_path: Path) -> None:
    (tmp_path / "gateway.db").write_text("this is no database, whatever its name says\n" * 100)
    told = await story(asked=Asked("GET", "/x", CLERK.session_token(NOW)), **keeping(tmp_path / "gateway.db"))
    assert told.onward is not None
    ((outcome, text),) = explained(told, "revocation")
    assert outcome == NOTE
    assert "gateway.db cannot be read (DatabaseError" in text


async def test_a_store_that_fails_while_it_is_read_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Database(f"sqlite:///{tmp_path / 'gateway.db'}").close()
    closed = []
    monkeypatch.setattr("gateway.store.revocations.RevocationTables.since", _fail)
    monkeypatch.setattr(Database, "close", lambda self: closed.append(self))
    told = await story(asked=Asked("GET", "/x", CLERK.session_token(NOW)), **keeping(tmp_path / "gateway.db"))
    assert len(closed) == 1
    assert "cannot be read (gone)" in explained(told, "revocation")[0][1]
    for database in closed:
        database._engine.dispose()


def _fail(*_: object) -> None:
    raise StoreDown(detail="gone")
