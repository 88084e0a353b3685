"""The scenes' own judgement, and each of them once with small numbers. What it costs, and how fast it is, is not judged."""

import asyncio
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.core.events import read_event
from gateway.store.base import Arrival
from gateway.store.database import Database
from tests.bench.ground import Outcome
from tests.bench.killed import FIRST_MS, Message, Post, judged
from tests.bench.ledger import Ledger, received, reply
from tests.bench.process import find_program, kept_port
from tests.bench.resilience import PROMISES, arguments, report
from tests.bench.scenes import Killed
from tests.bench.steady import BODY, Failure, Steady, Tally
from tests.fakes.postgres import binaries

ROOT = Path(__file__).parents[2]
Answering = Callable[[bytes, int], bytes | None]  # target and number on this connection; None ends it without a word


def whole(body: bytes, fields: bytes = b"", status: int = 200) -> bytes:
    return b"HTTP/1.1 %d X\r\n%bContent-Length: %d\r\n\r\n%b" % (status, fields, len(body), body)


async def until(condition: Callable[[], bool]) -> None:
    """Let the event loop go on until this is so."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


async def asked(
    answering: Answering, enough: Callable[[Tally], bool], *, requests: int = 1_000_000, **options: Any
) -> Tally:
    """Let one client ask a server that answers so, and so many requests of a connection, until there is enough."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            for number in range(requests):
                head = await reader.readuntil(b"\r\n\r\n")
                if b"Content-Length" in head:
                    await reader.readexactly(len(BODY))
                answer = answering(head.split(b" ", 2)[1], number)
                if answer is None:
                    break
                writer.write(answer)
        except (OSError, EOFError):
            pass
        finally:
            writer.close()

    tally = Tally()
    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        steady = Steady(server.sockets[0].getsockname()[1], 1, tally, fields={}, **options)
        await until(lambda: enough(tally))
        await steady.stop()
    return tally


@pytest.mark.parametrize(("method", "body"), [("GET", b""), ("POST", BODY)])
async def test_the_right_answer_counts(method: str, body: bytes) -> None:
    tally = await asked(lambda target, _: whole(reply(target, body)), lambda tally: tally.answered > 2, method=method)
    assert (tally.failures, tally.lost, tally.refused, tally.announced) == ([], 0, 0, 0)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (whole(reply(b"/api/other/1", b"")), "200 b'/api/other/1"),
        (whole(b"no", status=502), "502 b'no'"),
        (None, "IncompleteReadError"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", "EOFError('cut"),
    ],
    ids=["somebody-elses", "refused", "not-answered", "cut"],
)
async def test_any_other_answer_is_a_failure(answer: bytes | None, why: str) -> None:
    tally = await asked(lambda *_: answer, lambda tally: bool(tally.failures), requests=1)
    assert tally.answered == 0
    assert tally.failures[0].why.startswith(why)


async def test_a_request_that_meets_the_end_of_a_kept_connection_has_failed() -> None:
    tally = await asked(
        lambda target, number: whole(reply(target, b"")) if number == 0 else None, lambda tally: bool(tally.failures)
    )
    assert tally.answered >= 1
    assert tally.failures[0].why.endswith("on a kept connection")


async def test_an_announced_end_is_no_failure() -> None:
    tally = await asked(
        lambda target, _: whole(reply(target, b""), b"Connection: close\r\n"), lambda tally: tally.announced > 1
    )
    assert (tally.failures, tally.lost) == ([], 0)


async def test_a_connection_that_ends_between_two_requests_is_lost() -> None:
    tally = await asked(
        lambda target, _: whole(reply(target, b"")), lambda tally: tally.lost > 0, requests=1, pause_s=0.05
    )
    assert tally.answered > 0


async def test_refused_connects_are_counted_and_tried_again() -> None:
    tally = Tally()
    steady = Steady(kept_port(), 1, tally, fields={})
    await until(lambda: tally.refused > 1)
    await steady.stop()
    assert tally.failures == []


async def test_a_ledger_writes_down_what_it_has_not_answered_yet(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    with path.open("ab") as file:
        ledger = Ledger(file.fileno(), 3600)
        ledger.data_received(b"POST /api/1 HTTP/1.1\r\nContent-Length: 4\r\n\r\nha")
        assert received(path) == []
        ledger.data_received(b"lf")
    assert received(path) == [b"/api/1"]


@pytest.mark.parametrize(
    ("target", "began", "ended", "why", "excused"),
    [
        pytest.param(b"mortal", 9.9, 10.1, "cut", True, id="had-received-it"),
        pytest.param(b"nobody", 9.9, 10.1, "cut", True, id="had-not-read-it"),
        pytest.param(b"nobody", 10.03, 10.04, "cut", True, id="sent-before-its-end-was-read"),
        pytest.param(b"nobody", 9.9, 10.1, "503 no_healthy_endpoint", False, id="was-not-sent"),
        pytest.param(b"other", 9.9, 10.1, "cut", False, id="another-endpoint-had-it"),
        pytest.param(b"mortal", 9.0, 9.5, "cut", False, id="it-was-alive"),
        pytest.param(b"nobody", 10.2, 10.3, "cut", False, id="it-was-known-to-be-dead"),
    ],
)
def test_only_posts_in_flight_on_the_killed_endpoint_may_fail(
    target: bytes, began: float, ended: float, why: str, excused: bool
) -> None:
    tally = Tally(failures=[Failure(target, began, ended, why)])
    killed = Killed(tally, [(10.0, 10.01)], [[b"mortal"], [b"other"], []], "", [])
    excused_ones, blamed, _ = killed.judged()
    assert (len(excused_ones), len(blamed)) == (excused, not excused)


def test_a_request_that_arrived_twice_is_seen() -> None:
    assert Killed(Tally(), [], [[b"1", b"2"], [b"3"]], "", []).repeated == 0
    assert Killed(Tally(), [], [[b"1", b"2"], [b"2", b"2"]], "", []).repeated == 2


def posting() -> tuple[Post, list[Message]]:
    """A sender that has written 200 webhooks, and nothing of it sent."""
    post = Post(random.Random(1))
    messages = [message for _ in range(200) if (message := post.next()) is not None]
    return post, messages


def kept(tmp_path: Path, messages: list[Message]) -> str:
    """A store with these in it."""
    url = f"sqlite:///{tmp_path / 'gateway.db'}"
    database = Database(url, migrating=True)
    database.put([Arrival(message.svix_id, read_event(message.body), 1) for message in messages])
    database.close()
    return url


def test_a_store_that_has_everything_is_good_in_whatever_order_it_came(tmp_path: Path) -> None:
    post, messages = posting()
    assert len(messages) == post.open == 200
    assert any(user.deleted for user in post.expected.values())
    random.Random(2).shuffle(messages)
    assert judged(kept(tmp_path, messages), [message.svix_id for message in messages], post.expected) == []


def test_a_webhook_that_was_acknowledged_and_is_gone_is_found_and_what_it_said_too(tmp_path: Path) -> None:
    post, messages = posting()
    newest = next(user for user in post.expected.values() if user.updated_at == FIRST_MS + 199)
    faults = judged(kept(tmp_path, messages[:-1]), ["msg_199"], post.expected)
    assert faults == [
        "1 acknowledged webhooks are not in the inbox, such as msg_199",
        f"1 users are not what was sent, such as {newest.id}",
    ]


def test_a_webhook_is_sent_until_it_is_acknowledged() -> None:
    post = Post(random.Random(1))
    message = Message("msg_1", b"", 1)
    post.open = 1
    post.lost(message)
    post.told(post.waiting.pop(), 503, b"")
    assert (post.waiting, post.open, post.acknowledged, post.faults) == ([message], 1, set(), [])
    post.told(post.waiting.pop(), 200, b'{"status": "repeated"}')
    assert (post.waiting, post.open, post.acknowledged, post.repeats) == ([], 0, {"msg_1"}, 1)


@pytest.mark.parametrize(
    ("acknowledged", "status", "said", "fault"),
    [
        pytest.param(False, 400, b"no", "msg_1 was answered 400 b'no'", id="refused"),
        pytest.param(
            True, 200, b'{"status": "stored"}', "msg_1 was acknowledged, and later it was news", id="forgotten"
        ),
    ],
)
def test_an_answer_that_should_not_be_is_a_fault(acknowledged: bool, status: int, said: bytes, fault: str) -> None:
    post = Post(random.Random(1))
    post.told(Message("msg_1", b"", 1, acknowledged), status, said)
    assert post.faults == [fault]


def test_a_broken_promise_says_why() -> None:
    outcome = Outcome("seen")
    outcome.blame([Failure(b"/api/1", 0, 1, "200 b'/api/1 x'"), Failure(b"/api/2", 0, 1, "200 b'/api/2 x'")], "failed")
    outcome.blame_connections(Tally(refused=1, lost=2))
    text = report("reload", outcome)
    assert "broken" in text.splitlines()[0]
    for said in ("2 failed: 2 × 200 b'… x'", "1 connections were refused", "2 connections were closed"):
        assert said in text
    assert "kept" in report("reload", Outcome("seen")).splitlines()[0]


def test_scenes_are_chosen_by_name() -> None:
    assert arguments(["crowd", "reload"]).scenes == ["reload", "crowd"]
    assert arguments([]).scenes == list(PROMISES)
    assert arguments(["--rehearse"]).scenes == ["failover-get", "failover-post"]


@pytest.mark.parametrize("given", [["nothing"], ["--kills", "0"], ["reload", "--rehearse"]])
def test_a_wrong_argument_is_told(given: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        arguments(given)
    assert ended.value.code == 2


def played(*given: str) -> subprocess.CompletedProcess[str]:
    small = ("--kills", "1", "--reloads", "3", "--restarts", "1", "--crashes", "4", "--idle", "50", "--busy", "10")
    command = [sys.executable, "-m", "tests.bench.resilience", *small, *given]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.skipif(find_program("nginx") is None, reason="nginx not installed (apt-get install nginx-light)")
def test_failover_is_played_with_nginx() -> None:
    ended = played("failover-post", "--rehearse")
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_a_crowd_is_played() -> None:
    ended = played("crowd")
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_a_restart_is_played() -> None:
    ended = played("restart")
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.parametrize("scene", ["failover-get", "failover-post"])
def test_failover_is_played(scene: str) -> None:
    ended = played(scene)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_reloads_are_played() -> None:
    ended = played("reload")
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_kills_amid_webhooks_are_played() -> None:
    ended = played("webhooks")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "the gateway was killed 4 times" in ended.stdout


@pytest.mark.skipif(binaries() is None, reason="no PostgreSQL here: apt-get install postgresql")
def test_kills_amid_webhooks_are_played_with_postgresql() -> None:
    ended = played("webhooks-pg")
    assert ended.returncode == 0, ended.stdout + ended.stderr
