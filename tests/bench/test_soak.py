"""The soak's own judgement: what it counts, what alarms it, what it excuses. It is not run here: that takes minutes."""

import asyncio
from pathlib import Path

import pytest

from tests.bench.crowd import Ask, Crowd, read_answer
from tests.bench.props import LogReader
from tests.bench.soak import arguments
from tests.bench.tokens import Tokens


@pytest.fixture(scope="module")
def tokens() -> Tokens:
    return Tokens()


def test_the_log_is_counted_and_what_is_alarming_is_kept(tmp_path: Path) -> None:
    pipe = tmp_path / "log"
    log = LogReader(pipe)
    with pipe.open("wb") as lines:
        for status in (200, 200, 500):
            lines.write(b'{"event":"request","status":%d}\n' % status)
        lines.write(b'{"event":"listening"}\n{"event":"request_failed"}\nTraceback\n')
    log.thread.join()
    assert log.statuses == {200: 2, 500: 1}
    assert log.events == {"listening": 1, "request_failed": 1}
    assert (log.alarms, len(log.alarming)) == (3, 3)


@pytest.mark.parametrize(
    ("status", "down", "faults", "code", "method"),
    [
        pytest.param(502, True, 0, b"other", b"GET", id="down"),
        pytest.param(504, True, 0, b"other", b"GET", id="down-slow"),
        pytest.param(503, True, 0, b'"code":"no_healthy_endpoint"', b"GET", id="left-alone"),
        pytest.param(503, True, 0, b"", b"HEAD", id="left-alone-without-a-body"),
        pytest.param(502, False, 1, b"other", b"GET", id="up"),
        pytest.param(503, False, 1, b'"code":"no_healthy_endpoint"', b"GET", id="left-alone-up"),
        pytest.param(503, True, 1, b'"code":"overloaded"', b"GET", id="full"),
        pytest.param(500, True, 1, b"other", b"GET", id="own-fault"),
        pytest.param(401, True, 1, b"other", b"GET", id="refused"),
        pytest.param(200, False, 1, b"other", b"GET", id="somebody-elses"),
    ],
)
async def test_only_an_upstream_that_is_down_excuses(
    tokens: Tokens, status: int, down: bool, faults: int, code: bytes, method: bytes
) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%b" % (status, len(code), code))
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        crowd = Crowd(port, tokens, [tokens.good], lambda: float("inf") if down else 0.0)
        async with crowd.connected() as (reader, writer):
            right = await crowd._one(reader, writer, Ask("get", method + b" / HTTP/1.1", 200, body=b"mine"))
    assert not right
    assert (crowd.fault_count, crowd.excused) == (faults, 1 - faults)


async def test_chunks_are_measured_and_shown_from_their_beginning() -> None:
    reader = asyncio.StreamReader()
    reader.feed_data(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    reader.feed_data(b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
    answer = await read_answer(reader)
    assert (answer.status, answer.size, answer.begun, answer.last) == (200, 5, b"abcde", False)


@pytest.mark.parametrize("seconds", ["1", "3600"], ids=["too-short-for-thirds", "longer-than-a-token-lives"])
def test_a_length_that_cannot_be_judged_is_told(seconds: str) -> None:
    with pytest.raises(SystemExit) as ended:
        arguments(["--seconds", seconds])
    assert ended.value.code == 2
