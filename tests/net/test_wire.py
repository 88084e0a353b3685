"""A wire alone: what it makes of an answer, when it can be used again, how it holds the flow."""

import asyncio
from typing import Any

import pytest

from gateway.errors import BadUpstreamResponse, UpstreamTimeout
from gateway.net.deadlines import Deadlines
from gateway.net.wire import Wire
from tests.fakes.gateway import Clock

GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


class Transport:
    """As much of a transport as a wire uses; says what was done to it."""

    def __init__(self) -> None:
        self.written, self.aborted, self.reading = b"", False, True

    def write(self, data: bytes) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return self.aborted

    def abort(self) -> None:
        self.aborted = True

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def get_extra_info(self, _name: str) -> None:
        return None

    def set_write_buffer_limits(self, high: int, low: int) -> None:
        assert high > low


class Pieces:
    """A sink that keeps what it gets."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []

    def body(self, data: bytes) -> None:
        self.taken.append(data)


class Bench:
    """A wire on a transport of ours, its clock, and who was told that it is gone."""

    def __init__(self) -> None:
        self.clock, self.lost = Clock(1000.0), []
        self.deadlines = Deadlines(self.clock)
        self.transport: Any = Transport()
        self.wire = Wire(self.deadlines, self.lost.append)
        self.wire.connection_made(self.transport)

    def ask(self, *, is_head: bool = False) -> "asyncio.Future[None]":
        return self.wire.send(b"GET", is_head=is_head, response_s=30)

    def pass_time(self, seconds: float) -> None:
        self.clock.seconds += seconds
        self.deadlines.sweep()


@pytest.fixture
async def bench() -> Bench:
    return Bench()


async def test_a_small_answer_is_whole_at_one_wake_up(bench: Bench) -> None:
    answered = bench.ask()
    bench.wire.data_received(GOOD)
    await answered
    wire = bench.wire
    assert (wire.status, wire.length, wire.body, wire.complete, wire.fault) == (200, 2, [b"hi"], True, None)
    assert wire.finish(idle_s=4)


async def test_what_comes_before_the_relay_begins_is_not_lost(bench: Bench) -> None:
    answered = bench.ask()
    bench.wire.data_received(GOOD[:-2])
    await answered
    bench.wire.data_received(b"h")  # before whoever waits for the head has run
    sink = Pieces()
    sink.taken += bench.wire.body
    bench.wire.body.clear()
    ended = bench.wire.relay(sink, idle_s=9)
    bench.wire.data_received(b"i")
    await ended
    assert (sink.taken, bench.wire.fault) == ([b"h", b"i"], None)


async def test_a_connection_that_breaks_in_mid_body_ends_the_relay_with_a_fault(bench: Bench) -> None:
    answered = bench.ask()
    bench.wire.data_received(GOOD[:-2])
    await answered
    ended = bench.wire.relay(Pieces(), idle_s=9)
    bench.wire.connection_lost(None)
    await ended
    assert isinstance(bench.wire.fault, BadUpstreamResponse)
    assert bench.lost == [bench.wire]


async def test_an_end_of_connection_is_an_end_only_without_a_length_and_without_an_error(bench: Bench) -> None:
    for error, complete in ((None, True), (ConnectionResetError(), False)):
        other = Bench()
        answered = other.ask()
        other.wire.data_received(b"HTTP/1.1 200 OK\r\n\r\nhi")
        await answered
        if error is None:
            other.wire.eof_received()
        other.wire.connection_lost(error)
        assert (other.wire.complete, other.wire.fault is None) == (complete, complete)
        assert not other.wire.finish(idle_s=4)


async def test_a_truncated_chunked_answer_is_no_end(bench: Bench) -> None:
    answered = bench.ask()
    bench.wire.data_received(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n")
    await answered
    bench.wire.connection_lost(None)
    assert not bench.wire.complete


@pytest.mark.parametrize(
    ("answer", "reusable"),
    [
        pytest.param(GOOD, True, id="keep-alive"),
        pytest.param(GOOD.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"), False, id="close"),
        pytest.param(GOOD.replace(b"HTTP/1.1", b"HTTP/1.0"), False, id="http-1.0"),
        pytest.param(GOOD[:-1], False, id="half-read"),
    ],
)
async def test_only_a_whole_answer_on_a_lasting_connection_leaves_it_reusable(
    bench: Bench, answer: bytes, reusable: bool
) -> None:
    answered = bench.ask()
    bench.wire.data_received(answer)
    await answered
    assert bench.wire.finish(idle_s=4) is reusable
    assert bench.transport.aborted is not reusable


async def test_a_body_behind_an_answer_to_head_ends_the_connection(bench: Bench) -> None:
    answered = bench.ask(is_head=True)
    bench.wire.data_received(GOOD)
    await answered
    assert (bench.wire.length, bench.wire.body) == (2, [])
    assert not bench.wire.finish(idle_s=4)


async def test_a_cut_body_behind_an_answer_to_head_ends_it_too(bench: Bench) -> None:
    answered = bench.ask(is_head=True)
    bench.wire.data_received(GOOD[:-1])
    await answered
    assert (bench.wire.complete, bench.wire.body) == (True, [])
    assert not bench.wire.finish(idle_s=4)


async def test_a_second_exchange_begins_clean(bench: Bench) -> None:
    for body in (b"hi", b"ho"):
        answered = bench.ask()
        bench.wire.data_received(b"HTTP/1.1 200 OK\r\nX: %b\r\nContent-Length: 2\r\n\r\n%b" % (body, body))
        await answered
        assert (bench.wire.body, bench.wire.head) == ([body], [b"\r\nX: " + body])
        assert bench.wire.finish(idle_s=4)


async def test_bytes_nobody_asked_for_end_the_connection(bench: Bench) -> None:
    bench.wire.data_received(GOOD)
    assert bench.transport.aborted


async def test_deadlines_of_head_body_and_idleness(bench: Bench) -> None:
    answered = bench.ask()
    bench.pass_time(31)
    await answered
    assert isinstance(bench.wire.fault, UpstreamTimeout)

    other = Bench()
    answered = other.ask()
    other.wire.data_received(GOOD[:-2])
    await answered
    ended = other.wire.relay(Pieces(), idle_s=9)
    other.pass_time(8)
    other.wire.data_received(b"h")
    other.pass_time(8)
    assert not ended.done()  # each piece gives it new time
    other.pass_time(2)
    await ended
    assert isinstance(other.wire.fault, UpstreamTimeout)

    idle = Bench()
    answered = idle.ask()
    idle.wire.data_received(GOOD)
    await answered
    assert idle.wire.finish(idle_s=4)
    idle.pass_time(5)
    assert idle.transport.aborted


async def test_a_held_wire_reads_nothing_and_does_not_time_out(bench: Bench) -> None:
    answered = bench.ask()
    bench.wire.data_received(GOOD[:-2])
    await answered
    ended = bench.wire.relay(Pieces(), idle_s=9)
    bench.wire.hold()
    assert not bench.transport.reading
    bench.pass_time(100)
    assert not ended.done()
    bench.wire.unhold()
    assert bench.transport.reading
    bench.pass_time(10)
    await ended


async def test_waiting_for_the_endpoint_to_read_ends_with_the_connection(bench: Bench) -> None:
    bench.wire.pause_writing()
    waiting = asyncio.ensure_future(bench.wire.drained())
    await asyncio.sleep(0)
    assert not waiting.done()
    bench.wire.resume_writing()
    await waiting
    bench.wire.pause_writing()
    waiting = asyncio.ensure_future(bench.wire.drained())
    await asyncio.sleep(0)
    bench.wire.connection_lost(None)
    await waiting


async def test_writing_to_a_connection_that_is_gone_is_no_error(bench: Bench) -> None:
    bench.wire.abort()
    bench.wire.write(b"x")
    bench.wire.connection_lost(None)
    bench.wire.write(b"x")
    bench.wire.hold()
    bench.wire.abort()
    assert bench.transport.written == b""


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(GOOD.replace(b"OK", b"O\x00K"), id="nul-in-the-reason"),
        pytest.param(GOOD.replace(b"OK", b"O\x1b[2JK"), id="escape-in-the-reason"),
        pytest.param(GOOD.replace(b"OK", b"O\rK"), id="bare-cr-in-the-reason"),
        pytest.param(b"HTTP/1.1 000 X\r\n\r\n", id="status-000"),
        pytest.param(b"HTTP/1.1 099 X\r\n\r\n", id="status-099"),
        pytest.param(b"HTTP/1.1 101 X\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n", id="unasked-101"),
        pytest.param(GOOD.replace(b"200", b"199") + GOOD, id="interim-with-a-length"),
        pytest.param(CHUNKED.replace(b"200", b"103") + GOOD, id="interim-in-chunks"),
        pytest.param(GOOD.replace(b"2\r\n\r\n", b"%d\r\n\r\n" % 2**63), id="length-beyond-63-bits"),
        pytest.param(GOOD.replace(b": 2", b": +2"), id="length-with-a-sign"),
        pytest.param(GOOD.replace(b": 2", b": 2, 2"), id="length-list"),
        pytest.param(GOOD.replace(b": 2", b":"), id="length-empty"),
        pytest.param(CHUNKED.replace(b"chunked", b"chunked, chunked") + b"0\r\n\r\n", id="chunked-twice"),
        pytest.param(
            CHUNKED.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n") + b"0\r\n\r\n",
            id="chunked-in-two-fields",
        ),
        pytest.param(CHUNKED.replace(b"chunked", b"identity") + b"hi", id="identity"),
        pytest.param(CHUNKED + b"-1\r\n", id="negative-chunk"),
        pytest.param(CHUNKED + b"f" * 17 + b"\r\n", id="huge-chunk"),
        pytest.param(CHUNKED + b"1\nh\n0\n\n", id="chunks-with-bare-lf"),
        pytest.param(GOOD.replace(b"\r\n", b"\n"), id="bare-lf"),
        pytest.param(GOOD.replace(b"\r\n\r\n", b"\r\nX: a\rb\r\n\r\n"), id="bare-cr-in-a-field"),
        pytest.param(GOOD.replace(b"\r\n\r\n", b"\r\nX: a\r\n b\r\n\r\n"), id="folded-field"),
        pytest.param(GOOD.replace(b"\r\n\r\n", b"\r\nX : a\r\n\r\n"), id="space-before-colon"),
        pytest.param(GOOD.replace(b"\r\n\r\n", b"\r\n: a\r\n\r\n"), id="field-without-a-name"),
        pytest.param(GOOD + GOOD, id="second-answer"),
        pytest.param(GOOD.replace(b"200", b"204"), id="body-behind-204"),
        pytest.param(GOOD.replace(b"200", b"304"), id="body-behind-304"),
    ],
)
async def test_an_answer_in_doubt_is_none(bench: Bench, answer: bytes) -> None:
    answered = bench.ask()
    bench.wire.data_received(answer)
    assert answered.done()
    assert isinstance(bench.wire.fault, BadUpstreamResponse)
    assert not bench.wire.finish(idle_s=4)
    assert bench.transport.aborted


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"HTTP/1.1 100 Continue\r\nContent-Length: 0\r\nX-Interim: 1\r\n\r\n" + GOOD, id="empty-interim"),
        pytest.param(GOOD.replace(b": 2", b": 2 \t"), id="space-behind-the-length"),
        pytest.param(
            GOOD.replace(b"\r\n\r\n", b"\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n"), id="offered-upgrade"
        ),
        pytest.param(
            GOOD.replace(b"\r\n\r\n", b"\r\nAccess-Control-Max-Age: 1\r\nConnection: access-control-max-age\r\n\r\n"),
            id="nominated-cors",
        ),
    ],
)
async def test_what_says_nothing_to_the_client_is_dropped(bench: Bench, answer: bytes) -> None:
    answered = bench.ask()
    bench.wire.data_received(answer)
    await answered
    wire = bench.wire
    assert (wire.fault, wire.status, wire.reason, wire.length, wire.body) == (None, 200, b"OK", 2, [b"hi"])
    assert (wire.head, wire.cors) == ([], [])
    assert wire.finish(idle_s=4)


@pytest.mark.parametrize("size", [1, 2, 3, 7])
async def test_pieces_of_any_size_make_the_same_answer(bench: Bench, size: int) -> None:
    data = b"HTTP/1.1 103 Hints\r\nA: b\r\n\r\nHTTP/1.1 200 Fine Indeed\r\nX-One:\r\nX-Two: 2\r\n" + CHUNKED[17:]
    data += b"5;ext=1\r\nhello\r\n6\r\n world\r\n0\r\nX-Trailer: 1\r\n\r\n"
    answered, sink = bench.ask(), Pieces()
    ended = None
    for at in range(0, len(data), size):
        bench.wire.data_received(data[at : at + size])
        if answered.done() and ended is None:
            sink.taken += bench.wire.body
            bench.wire.body.clear()
            ended = bench.wire.relay(sink, idle_s=9)
    assert ended is not None
    await ended
    assert (bench.wire.reason, bench.wire.head) == (b"Fine Indeed", [b"\r\nX-One: ", b"\r\nX-Two: 2"])
    assert (b"".join(sink.taken), bench.wire.fault) == (b"hello world", None)
    assert bench.wire.finish(idle_s=4)


async def test_the_end_of_an_empty_chunked_body_behind_an_answer_to_head_ends_the_connection(bench: Bench) -> None:
    answered = bench.ask(is_head=True)
    bench.wire.data_received(CHUNKED + b"0\r\n\r\n")
    await answered
    assert (bench.wire.complete, bench.wire.body, bench.wire.length) == (True, [], None)
    assert not bench.wire.finish(idle_s=4)


async def test_a_second_answer_behind_one_to_head_is_seen(bench: Bench) -> None:
    answered = bench.ask(is_head=True)
    bench.wire.data_received(GOOD[:-2])
    bench.wire.data_received(GOOD)
    await answered
    assert isinstance(bench.wire.fault, BadUpstreamResponse)


async def test_our_own_abort_is_never_the_end_of_a_body(bench: Bench) -> None:
    answered = bench.ask()
    bench.wire.data_received(b"HTTP/1.1 200 OK\r\n\r\nhalf")
    await answered
    ended = bench.wire.relay(Pieces(), idle_s=9)
    bench.wire.abort()
    bench.wire.connection_lost(None)
    await ended
    assert isinstance(bench.wire.fault, BadUpstreamResponse)


async def test_an_end_while_a_request_is_still_being_sent_is_judged_at_once(bench: Bench) -> None:
    answered = bench.ask()
    bench.wire.pause_writing()
    bench.wire.eof_received()  # the transport would first wait until the endpoint has read what is left
    await answered
    assert isinstance(bench.wire.fault, BadUpstreamResponse)


async def kept(bench: Bench) -> Wire:
    answered = bench.ask()
    bench.wire.data_received(GOOD)
    await answered
    assert bench.wire.finish(idle_s=4)
    return bench.wire


async def test_a_kept_connection_that_ends_before_its_first_byte_is_stale(bench: Bench) -> None:
    wire = await kept(bench)
    answered = bench.ask()
    wire.connection_lost(None)
    await answered
    assert wire.stale
    assert wire.fault is not None


async def test_a_new_connection_is_never_stale(bench: Bench) -> None:
    answered = bench.ask()
    bench.wire.connection_lost(ConnectionResetError())
    await answered
    assert (bench.wire.stale, bench.wire.fault is not None) == (False, True)


async def test_an_answer_that_had_begun_is_not_stale(bench: Bench) -> None:
    wire = await kept(bench)
    answered = bench.ask()
    wire.data_received(b"H")
    wire.connection_lost(None)
    await answered
    assert (wire.stale, wire.fault is not None) == (False, True)


async def test_a_time_out_on_a_kept_connection_is_a_time_out_and_not_stale(bench: Bench) -> None:
    wire = await kept(bench)
    answered = bench.ask()
    bench.pass_time(31)
    wire.connection_lost(None)  # as our own abort brings about before anybody looks
    await answered
    assert (wire.stale, type(wire.fault)) == (False, UpstreamTimeout)


async def test_sending_on_a_connection_that_is_gone_tells_so_at_once(bench: Bench) -> None:
    bench.wire.connection_lost(None)
    answered = bench.ask()
    assert answered.done()
    assert isinstance(bench.wire.fault, BadUpstreamResponse)


async def test_a_deadline_never_comes_too_early(bench: Bench) -> None:
    bench.clock.seconds += 0.45  # the coarse clock has not noticed yet
    answered = bench.wire.send(b"GET", is_head=False, response_s=0.2)
    bench.pass_time(0.1)
    assert not answered.done()
    bench.pass_time(1)
    assert answered.done()


async def test_a_client_that_was_slow_before_the_relay_is_not_the_upstreams_fault(bench: Bench) -> None:
    answered = bench.ask()
    bench.wire.data_received(GOOD[:-2])
    await answered
    bench.wire.hold()
    ended = bench.wire.relay(Pieces(), idle_s=9)
    bench.pass_time(100)
    assert not ended.done()
    bench.wire.unhold()
    bench.wire.data_received(b"hi")
    await ended
    assert bench.wire.finish(idle_s=4)


async def test_an_endpoint_that_has_not_read_the_request_gets_no_other_one(bench: Bench) -> None:
    answered = bench.ask()
    bench.wire.pause_writing()
    bench.wire.data_received(GOOD)
    await answered
    assert not bench.wire.finish(idle_s=4)


@pytest.mark.parametrize("endless", [b"1;" + b"x" * 9_998, b"0\r\nX: " + b"y" * 9_995], ids=["extension", "trailer"])
async def test_what_is_no_body_is_bounded(bench: Bench, endless: bytes) -> None:
    answered = bench.ask()
    bench.wire.data_received(CHUNKED)
    await answered
    sink = Pieces()
    ended = bench.wire.relay(sink, idle_s=9)
    bench.wire.data_received(endless)
    for _ in range(30):
        bench.wire.data_received(b"x" * 10_000)
    await ended
    assert isinstance(bench.wire.fault, BadUpstreamResponse)


async def test_a_long_stream_of_little_chunks_is_not_taken_for_overhead(bench: Bench) -> None:
    answered = bench.ask()
    bench.wire.data_received(CHUNKED)
    await answered
    sink = Pieces()
    ended = bench.wire.relay(sink, idle_s=9)
    for _ in range(40):
        bench.wire.data_received(b"1;" + b"x" * 10_000)
        bench.wire.data_received(b"\r\ny\r\n")
    assert (not ended.done(), len(sink.taken)) == (True, 40)
    bench.wire.data_received(b"0\r\n\r\n")
    await ended
    assert bench.wire.fault is None


async def test_a_head_of_several_reads_is_bounded_to_its_last_byte(bench: Bench) -> None:
    answered = bench.ask()
    bench.wire.data_received(b"HTTP/1.1 200 OK\r\n" + b"X: %b\r\n" % (b"x" * 200_000))
    bench.wire.data_received(b"Y: %b\r\nContent-Length: 5\r\n\r\nhello" % (b"y" * 70_000))
    await answered
    assert isinstance(bench.wire.fault, BadUpstreamResponse)


SWITCHED = b"HTTP/1.1 101 S\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: a\r\n\r\n"


async def test_behind_a_101_that_was_asked_for_nothing_is_read_as_http(bench: Bench) -> None:
    answered = bench.wire.send(b"GET", is_head=False, response_s=30, upgrade=True)
    bench.wire.data_received(SWITCHED + GOOD)
    await answered
    wire = bench.wire
    assert (wire.status, wire.fault, wire.head) == (101, None, [b"\r\nSec-WebSocket-Accept: a"])
    assert wire.take_body() == GOOD
    assert not bench.transport.reading  # until somebody says where it goes
    assert not wire.complete
    assert not wire.finish(idle_s=4)  # and it is never kept


async def test_who_asked_once_has_not_asked_for_ever(bench: Bench) -> None:
    await_answer = bench.wire.send(b"GET", is_head=False, response_s=30, upgrade=True)
    bench.wire.data_received(GOOD)
    await await_answer
    assert bench.wire.finish(idle_s=4)
    answered = bench.ask()
    bench.wire.data_received(SWITCHED)
    await answered
    assert isinstance(bench.wire.fault, BadUpstreamResponse)


@pytest.mark.parametrize(
    "upgrade", [b"h2c", b"websocket, h2c", b"websocket\r\nUpgrade: h2c"], ids=["other", "list", "two"]
)
async def test_a_101_to_another_protocol_is_a_fault(bench: Bench, upgrade: bytes) -> None:
    answered = bench.wire.send(b"GET", is_head=False, response_s=30, upgrade=True)
    bench.wire.data_received(SWITCHED.replace(b"websocket", upgrade))
    await answered
    assert isinstance(bench.wire.fault, BadUpstreamResponse)
