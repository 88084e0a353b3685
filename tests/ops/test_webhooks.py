"""`gateway webhooks` beside a store that a gateway has filled, with no gateway running."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.core.delivery import DEAD, WAITING
from gateway.ops.webhooks import DONE, FAILED, list_dead, list_webhooks, replay_dead, replay_webhook, show_webhook
from gateway.store import webhooks
from gateway.store.base import Settled
from gateway.store.database import Database
from tests.fakes.clerk_events import NOW_MS, arrival, gone, user
from tests.fakes.gateway import settings
from tests.fakes.receiver import SECRET, subscribed
from tests.store.test_deliveries import claim, delivery, done, failed, put, settle
from tests.test_cli import finished

Told = tuple[int, list[str]]


class Desk:
    """A configuration, its store, and what the commands say about it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file, self.url = folder / "gateway.yaml", f"sqlite:///{folder / 'gateway.db'}"
        self.configure(api=["user.*"], mail=["email.*", "user.created"])
        self.database = Database(self.url)

    def configure(self, **wanting: list[str]) -> None:
        clerk = settings(1)["clerk"] | {"webhook_signing_secrets": [SECRET]}
        upstreams = {"api": {"url": "http://127.0.0.1:1"}} | {
            name: subscribed(1, *events) for name, events in wanting.items()
        }
        self.file.write_text(yaml.safe_dump(settings(1, clerk=clerk, upstreams=upstreams, store={"url": self.url})))

    def say(self, command: Callable[..., int], *arguments: Any, **options: Any) -> Told:
        lines: list[str] = []
        return command(str(self.file), {}, *arguments, write=lines.append, **options), lines

    def die(self, **more: Any) -> None:
        claims = claim(self.database, **more)
        settle(self.database, *(Settled(each, DEAD, NOW_MS, 13, status=500, error=None) for each in claims))


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_a_list_of_a_type_looks_through_the_whole_inbox(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "LOOKED_AT", 1)
    for number in range(6):
        desk.database.put([arrival(f"msg_{number}", "x.y" if number % 2 else "user.created", {})])
    code, lines = desk.say(list_webhooks, kind="x.y", limit=2, as_json=True)
    assert (code, [json.loads(line)["svix_id"] for line in lines]) == (DONE, ["msg_5", "msg_3"])
    assert len(desk.say(list_webhooks, kind="x.y", limit=9, as_json=True)[1]) == 3


def test_list(desk: Desk) -> None:
    put(desk.database, "msg_1", to=("api", "mail"))
    settle(desk.database, *map(done, claim(desk.database)))
    desk.database.put([arrival("msg_2", "x.y", {}, received_at=NOW_MS + 1000)])
    code, lines = desk.say(list_webhooks, kind=None, limit=10, as_json=False)
    assert code == DONE
    assert lines == [
        "received              id     type          about   deliveries",
        "2027-01-15T08:00:01Z  msg_2  x.y           -       -",
        "2027-01-15T08:00:00Z  msg_1  user.updated  user_1  api done, mail waiting",
    ]
    assert desk.say(list_webhooks, kind="user.*", limit=10, as_json=False)[1][1:] == lines[2:]
    code, lines = desk.say(list_webhooks, kind=None, limit=1, as_json=True)
    assert [json.loads(line)["svix_id"] for line in lines] == ["msg_2"]
    assert desk.say(list_webhooks, kind="z", limit=1, as_json=False) == (DONE, ["none"])


def test_show(desk: Desk) -> None:
    put(desk.database, "msg_1", "msg_2", to=("api", "mail"))
    (claimed,) = claim(desk.database)
    settle(desk.database, failed(claimed, pause=5000))
    code, lines = desk.say(show_webhook, "msg_1", with_payload=True)
    assert code == DONE
    assert lines[:6] == [
        "id:        msg_1",
        "type:      user.updated",
        "object:    user_1",
        "user:      user_1",
        "happened:  2027-01-15T08:00:00Z",
        "received:  2027-01-15T08:00:00Z",
    ]
    assert lines[6:8] == [
        "delivery:  api: waiting, 1 attempt, last 2027-01-15T08:00:00Z: no, next 2027-01-15T08:00:05Z",
        "delivery:  mail: waiting, 0 attempts, next 2027-01-15T08:00:00Z",
    ]
    assert json.loads(lines[8])["data"]["id"] == "user_1"
    assert "secret" not in lines[8]
    behind = desk.say(show_webhook, "msg_2", with_payload=False)[1]
    assert behind[6] == "delivery:  api: waiting, 0 attempts, behind an earlier one of the same user"
    assert len(behind) == 8


def test_show_what_is_erased_what_went_to_nobody_and_what_is_not_there(desk: Desk) -> None:
    desk.database.put(
        [arrival("msg_1", "user.updated", user(), at=2**53 - 1), arrival("msg_2", "user.deleted", gone("user_1"))]
    )
    code, lines = desk.say(show_webhook, "msg_1", with_payload=True)
    assert (code, lines[4], lines[6:]) == (
        DONE,
        f"happened:  {2**53 - 1} ms",
        ["delivery:  to nobody", "payload:   erased"],
    )
    assert desk.say(show_webhook, "msg_3", with_payload=True) == (FAILED, ["msg_3: there is no such webhook"])


def test_dead(desk: Desk) -> None:
    put(desk.database, "msg_1")
    assert desk.say(list_dead, limit=9, as_json=False) == (DONE, ["none"])
    desk.die()
    code, lines = desk.say(list_dead, limit=9, as_json=False)
    assert (code, lines[1]) == (DONE, "2027-01-15T08:00:00Z  msg_1  user.updated  api       13        status 500")
    (line,) = desk.say(list_dead, limit=9, as_json=True)[1]
    assert (json.loads(line)["svix_id"], json.loads(line)["upstream"]) == ("msg_1", "api")


def test_replay_one(desk: Desk) -> None:
    put(desk.database, "msg_1")
    desk.die()
    assert desk.say(replay_webhook, "msg_1", None) == (DONE, ["msg_1: waits for api"])
    again = delivery(desk.database, "msg_1")
    assert (again.state, again.attempts) == (WAITING, 0)
    desk.database.put([arrival("msg_2", "user.created", user("user_2"))])
    assert desk.say(replay_webhook, "msg_2", "mail") == (DONE, ["msg_2: waits for mail"])
    assert desk.say(replay_webhook, "msg_2", None) == (DONE, ["msg_2: waits for api, mail"])


def test_what_cannot_be_replayed_says_why(desk: Desk) -> None:
    put(desk.database, "msg_1")
    desk.database.put([arrival("msg_2", "user.deleted", gone("user_1")), arrival("msg_3", "session.created", {})])
    assert desk.say(replay_webhook, "msg_1", None) == (
        FAILED,
        ["msg_1: its payload is erased, so there is nothing to deliver"],
    )
    assert desk.say(replay_webhook, "msg_2", "mail")[1] == [
        "msg_2: mail does not want user.deleted (upstreams.*.webhooks.events)"
    ]
    assert desk.say(replay_webhook, "msg_3", None)[1] == [
        "msg_3: no upstream wants session.created (upstreams.*.webhooks.events)"
    ]
    assert desk.say(replay_webhook, "msg_4", None) == (FAILED, ["msg_4: there is no such webhook"])


def test_replay_all_that_died(desk: Desk) -> None:
    put(desk.database, "msg_1", "msg_2", to=("api", "mail"))
    for _ in range(2):
        desk.die(to=("api", "mail"))
    assert desk.say(replay_dead, "mail") == (DONE, ["2 deliveries wait again"])
    assert delivery(desk.database, "msg_1").state == DEAD
    assert desk.say(replay_dead, None) == (DONE, ["2 deliveries wait again"])
    assert desk.say(replay_dead, None) == (DONE, ["0 deliveries wait again"])
    assert desk.say(replay_dead, "nobody") == (FAILED, ["nobody: has no webhooks in the configuration"])


def test_where_there_is_no_store_it_says_so_and_makes_none(tmp_path: Path) -> None:
    desk = Desk.__new__(Desk)
    desk.file, desk.url = tmp_path / "gateway.yaml", f"sqlite:///{tmp_path / 'none.db'}"
    desk.configure(api=["*"])
    code, lines = desk.say(list_webhooks, kind=None, limit=1, as_json=False)
    assert code == FAILED
    assert "there is no such file" in lines[0]
    assert not (tmp_path / "none.db").exists()
    desk.file.write_text(yaml.safe_dump(settings(1, store={"url": None})))
    assert "store.url is null" in desk.say(list_webhooks, kind=None, limit=1, as_json=False)[1][0]
    desk.file.write_text(yaml.safe_dump(settings(1, store={"url": "postgresql://gw:hunter2@127.0.0.1:1/d"})))
    code, lines = desk.say(list_webhooks, kind=None, limit=1, as_json=False)
    assert code == FAILED
    assert "hunter2" not in lines[0]
    desk.file.write_text("x: y")
    assert desk.say(list_webhooks, kind=None, limit=1, as_json=False)[0] == FAILED


async def test_the_commands_as_a_person_types_them(desk: Desk) -> None:
    put(desk.database, "msg_1")
    desk.die()
    config = ("-c", str(desk.file))
    for arguments, code, said in (
        (("list", *config), 0, "msg_1"),
        (("list", "--type", "user.*", "--limit", "5", "--json", *config), 0, '"svix_id": "msg_1"'),
        (("show", *config, "msg_1"), 0, "delivery:  api: dead"),
        (("show", *config, "--no-payload", "nothing"), 1, "no such webhook"),
        (("dead", *config), 0, "status 500"),
        (("replay", *config, "--dead", "--upstream", "api"), 0, "1 delivery waits again"),
        (("replay", *config, "msg_1"), 0, "waits for api"),
        (("replay", *config), 2, "Name a webhook"),
        (("replay", *config, "--dead", "msg_1"), 2, "Name a webhook"),
    ):
        ended, out, err = await finished("webhooks", *arguments, cwd=desk.folder)
        assert (ended, said in out + err) == (code, True), out + err


def test_what_is_no_text_is_not_there(desk: Desk) -> None:
    put(desk.database, "msg_1")
    said = (FAILED, ["what is asked for is not UTF-8, so there is no such webhook"])
    assert desk.say(show_webhook, "msg_\udcff", with_payload=True) == said
    assert desk.say(replay_webhook, "msg_\udcff", None) == said
    assert desk.say(list_webhooks, kind="\udcff", limit=1, as_json=False) == said
