import sqlite3

import pytest

from gateway.core.directory import User
from gateway.errors import StoreDown
from gateway.ops.doctor.store import look, store, user, webhooks
from gateway.store.look import Look
from gateway.store.migrations import LATEST
from tests.ops.doctor.world import KEYED, NOW, configured, levels, said

SECRET = "whsec_c2VjcmV0c2VjcmV0c2VjcmV0"
FILE, SERVER = "{url: 'sqlite:////data/gateway.db'}", "{url: 'postgresql://gw:hunter2@db.internal/gateway'}"
RECEIVING = f"{{issuer: clerk.example.com, webhook_signing_secrets: [{SECRET}]}}"
GOOD = Look(version=LATEST, dead=0)


@pytest.mark.parametrize(
    ("where", "seen", "level", "words"),
    [
        pytest.param(FILE, GOOD, "ok", f"schema version {LATEST}", id="good"),
        pytest.param(FILE, Look(missing=True), "ok", "gateway run makes it", id="not-there-yet"),
        pytest.param(FILE, Look(missing=True, writable=False), "error", "may not make it", id="may-not-make-it"),
        pytest.param(FILE, Look(version=1), "ok", "gateway run brings it up to date", id="older-file"),
        pytest.param(FILE, Look(version=1, writable=False), "error", "gateway migrate", id="older-file-read-only"),
        pytest.param(SERVER, Look(version=1), "error", f"version 1 of {LATEST} -> Run: gateway migrate", id="not-migrated"),
        pytest.param(SERVER, Look(version=0), "error", "it has no schema yet -> Run: gateway migrate", id="never-migrated"),
        pytest.param(SERVER, GOOD._replace(writable=False), "error", "primary server", id="read-only-server"),
        pytest.param(FILE, GOOD._replace(writable=False), "error", "chown", id="read-only-file"),
        pytest.param(SERVER, StoreDown(detail="OperationalError: connection refused"), "error", "connection refused; nothing needs it", id="away"),
        pytest.param(FILE, StoreDown(detail="DatabaseError: file is not a database"), "error", "Is it the gateway's SQLite file", id="no-database"),
        pytest.param(SERVER, StoreDown(detail="its schema has version 99, made by a later gateway; this one knows 7"), "error", "Start that version", id="later"),
    ],
)  # fmt: skip
def test_how_it_stands_with_the_store_is_judged(where, seen, level, words):
    found = store(configured(store=where, identity="{enrich: false}"), seen)
    assert found.level == level
    assert words in said(found)
    assert "hunter2" not in said(found)


def test_a_store_that_is_needed_and_away_says_what_that_means():
    found = store(configured(store=SERVER, clerk=RECEIVING), StoreDown(detail="x"))
    assert "webhooks get 503" in found.found


def test_without_a_store_that_is_said():
    assert store(configured(store="{url: null}", identity="{enrich: false}"), None).level == "skipped"


@pytest.mark.parametrize(
    ("seen", "level", "words"),
    [
        pytest.param(GOOD, ["warning"], ["none has come yet", "https://<gateway>/webhooks/clerk", "--log"], id="none-came"),
        pytest.param(GOOD._replace(last_webhook_ms=int((NOW - 90) * 1000)), ["ok"], ["90 s ago"], id="one-came"),
        pytest.param(GOOD._replace(last_webhook_ms=1, dead=3), ["ok", "warning"], ["3 given up", "replay --dead"], id="dead"),
        pytest.param(StoreDown(), [], [], id="down"),
        pytest.param(Look(missing=True), [], [], id="missing"),
        pytest.param(None, [], [], id="not-asked"),
    ],
)  # fmt: skip
def test_the_inbox_tells_whether_webhooks_come(seen, level, words):
    found = webhooks(configured(clerk=RECEIVING), seen, now=NOW)
    assert levels(found) == level
    for word in words:
        assert word in said(found)


def test_webhooks_that_are_off_are_not_missed():
    assert webhooks(configured(webhooks="{path: null}"), GOOD, now=NOW) == []
    assert levels(webhooks(configured(), GOOD, now=NOW)) == ["skipped"]


@pytest.mark.parametrize(
    ("known", "level", "words"),
    [
        pytest.param(None, ["warning"], "gateway sync", id="not-in-it"),
        pytest.param(User("user_1", email="a@b.c", name="Ada"), ["ok"], "with e-mail and name", id="whole"),
        pytest.param(User("user_1"), ["warning"], "without email and name", id="half"),
        pytest.param(User("user_1", deleted=True), ["error"], "was deleted", id="deleted"),
        pytest.param(User("user_1", banned=True), ["error"], "is banned", id="banned"),
        pytest.param(User("user_1", locked=True), ["error"], "is locked", id="locked"),
    ],
)
def test_the_directory_is_asked_for_a_tokens_user(known, level, words):
    found = user(configured(), "user_1", GOOD._replace(user=known))
    assert levels(found) == level
    assert words in said(found)


def test_with_a_secret_key_the_gateway_asks_for_who_is_not_in_it():
    assert levels(user(configured(clerk=KEYED), "user_1", GOOD)) == ["ok"]


def test_a_directory_that_cannot_be_asked_says_nothing_of_a_user():
    for seen in (None, StoreDown(), Look(version=1)):
        assert user(configured(), "user_1", seen) == []
    assert levels(user(configured(), "user_1", Look(missing=True))) == ["warning"]


def test_looking_gives_what_is_wrong(tmp_path):
    (tmp_path / "a.db").write_bytes(b"no database" * 100)
    assert isinstance(look(f"sqlite:///{tmp_path / 'a.db'}", None), StoreDown)
    sqlite3.connect(tmp_path / "b.db").close()
    assert look(f"sqlite:///{tmp_path / 'c.db'}", None) == Look(missing=True)
