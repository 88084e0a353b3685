"""Streams of bytes nobody would write by hand, through a running gateway. CI takes a few, the same ones every time;
`make fuzz` goes on for FUZZ_SECONDS with new ones and prints the seed and the stream it failed on.
"""

import asyncio
import os
import random
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import uvloop
from hypothesis import HealthCheck, example, given, seed, settings
from hypothesis import strategies as st

from tests.wire.fuzz import ADMIN, MEMBER, Reply, Stream, clients, replies
from tests.wire.laws import judge, judge_reply
from tests.wire.stage import Stage, Told

SECONDS = float(os.environ.get("FUZZ_SECONDS", "0"))  # of all tests here together; 0 for CI's few examples
SEED = os.environ.get("FUZZ_SEED")
LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
TESTS = 2 * len(LOOPS)
BRIEF, BATCH = 150, 500
GOOD = b"GET /rest/%b HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %b\r\n\r\n"


@pytest.fixture(scope="module", params=LOOPS)
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    with Stage(LOOPS[request.param]) as started:
        yield started


@pytest.fixture(scope="module")
def identities(stage: Stage) -> dict[str, list[tuple[bytes, bytes]]]:
    """What the upstream is told of each user by requests that nobody could object to."""
    found = {}
    for user, token in (("user_1", MEMBER), ("user_2", ADMIN)):
        told = stage.run(stage.converse(Stream((GOOD % (b"who", token),))))
        (seen,) = told.seen
        found[user] = [(name, value) for name, value in seen.message.fields if name.lower().startswith(b"x-user-")]
        assert (b"X-User-Id", user.encode()) in found[user]
    return found


def many(strategy: st.SearchStrategy[Any], law: Callable[[Any], None], *known: Any) -> None:
    """Try examples: a fixed few, or new ones until the time is over."""
    ends, batch = time.monotonic() + SECONDS / TESTS, 0
    while True:
        number = int(SEED) + batch if SEED else random.getrandbits(32)
        body = given(strategy)(law)
        for each in known:
            body = example(each)(body)
        count = BATCH if SECONDS else BRIEF
        body = settings(
            max_examples=count, derandomize=not SECONDS, database=None, deadline=None, print_blob=True,
            suppress_health_check=list(HealthCheck),
        )(body)  # fmt: skip
        batch += 1
        if SECONDS:
            body = seed(number)(body)
        try:
            body()
        except BaseException:
            print(f"repeat with FUZZ_SECONDS=1 FUZZ_SEED={number}")
            raise
        if time.monotonic() >= ends:
            print(f"{batch * count} examples")
            return


def test_no_stream_of_requests_breaks_a_law(stage: Stage, identities: dict[str, list[tuple[bytes, bytes]]]) -> None:
    def law(stream: Stream) -> None:
        judge(stage.run(stage.converse(stream)), stage.tokens, identities)
        assert_it_still_serves(stage, identities)

    many(clients(), law)


def test_no_answer_of_an_upstream_breaks_a_law(stage: Stage, identities: dict[str, list[tuple[bytes, bytes]]]) -> None:
    def law(reply: Reply) -> None:
        if reply.fresh:
            stage.running.pass_time(5)  # drops the connections that are kept
        body = b"hello" if reply.method in (b"POST", b"PUT") else b""
        head = b"%b /public/first HTTP/1.%d\r\nHost: a\r\n" % (reply.method, reply.minor)
        data = head + (b"Content-Length: 5\r\n\r\n" if body else b"\r\n") + body
        pipelined = reply.minor == 1 and reply.stream.patient
        if pipelined:
            data += b"GET /public/second HTTP/1.1\r\nHost: a\r\n\r\n"
        told = stage.run(stage.converse(Stream((data,), patient=True), reply))
        judge_reply(told, reply, pipelined=pipelined)
        assert_it_still_serves(stage, identities)

    many(replies(), law)


def assert_it_still_serves(stage: Stage, identities: dict[str, list[tuple[bytes, bytes]]]) -> Told:
    told = stage.run(stage.converse(Stream((GOOD % (b"after", MEMBER),))))
    assert [seen.message.target for seen in told.seen] == [b"/rest/after"]
    judge(told, stage.tokens, identities)
    assert b"200 OK" in told.got
    return told
