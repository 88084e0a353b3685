"""A tunnel alone, between two transports of ours. With real sockets it is in `tests/wire/test_tunnels.py`."""

from typing import Any

import pytest

from gateway.core.frames import close_frame
from gateway.net.deadlines import Deadlines
from gateway.net.tunnel import Tunnel
from tests.fakes.gateway import Clock

MASK = b"\x01\x02\x03\x04"
TO_CLIENT, TO_UPSTREAM = close_frame(4401, b"bye"), close_frame(4401, b"bye", mask=MASK)
HELLO, ANSWER = b"\x81\x85\x00\x00\x00\x00hello", b"\x81\x05hello"


class Transport:
    """As much of a transport as a tunnel uses; says what was done to it."""

    def __init__(self, *, half: bool = True) -> None:
        self.written, self.half, self.reading = b"", half, True
        self.closed = self.aborted = self.eof = False

    def write(self, data: bytes) -> None:
        assert not self.closed
        assert not self.eof
        self.written += data

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = self.aborted = True

    def can_write_eof(self) -> bool:
        return self.half

    def write_eof(self) -> None:
        self.eof = True

    def is_reading(self) -> bool:
        return self.reading

    def pause_reading(self) -> None:
        assert self.reading
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.reading
        self.reading = True


class Bench:
    """A tunnel, its clock, and who was told what."""

    def __init__(self, *, half: bool = True) -> None:
        self.clock = Clock(1000.0)
        self.deadlines = Deadlines(self.clock)
        self.near: Any = Transport(half=half)
        self.far: Any = Transport(half=half)
        self.told: list[str] = []
        self.tunnel = Tunnel(
            self.deadlines, (self.near, lambda _: self.told.append("client")),
            (self.far, lambda _: self.told.append("upstream")), lambda _: self.told.append("end"),
        )  # fmt: skip
        self.client, self.upstream = self.tunnel.client, self.tunnel.upstream

    def end(self) -> None:
        self.tunnel.end(4401, b"bye", mask=MASK)

    def pass_time(self, seconds: float) -> None:
        self.clock.seconds += seconds
        self.deadlines.sweep()


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_bytes_pass_both_ways_untouched_and_are_counted(bench: Bench) -> None:
    for piece in (b"\x00any", b"thing"):
        bench.client.data_received(piece)
    bench.upstream.data_received(b"\xff")
    assert (bench.far.written, bench.near.written) == (b"\x00anything", b"\xff")
    assert (bench.client.bytes, bench.upstream.bytes) == (9, 1)


def test_the_head_goes_first_and_what_came_too_early_is_not_lost(bench: Bench) -> None:
    bench.far.reading = bench.near.reading = False
    bench.tunnel.start(b"head", early=HELLO[:3], behind=ANSWER[:1])
    assert (bench.near.written, bench.far.written) == (b"head" + ANSWER[:1], HELLO[:3])
    assert bench.far.reading
    assert bench.near.reading
    bench.end()  # both directions are inside a frame, and it knows
    assert (bench.near.written, bench.far.written) == (b"head" + ANSWER[:1], HELLO[:3])


def test_who_reads_slowly_stops_the_other_side(bench: Bench) -> None:
    bench.client.pause_writing()
    assert (bench.far.reading, bench.near.reading) == (False, True)
    bench.client.pause_writing()  # said twice is said once
    bench.client.resume_writing()
    assert bench.far.reading
    bench.client.resume_writing()
    bench.upstream.pause_writing()
    assert (bench.far.reading, bench.near.reading) == (True, False)
    bench.near.closed = True
    bench.upstream.resume_writing()
    assert not bench.near.reading


def test_no_time_ends_an_open_tunnel(bench: Bench) -> None:
    bench.pass_time(1e6)
    assert (bench.near.closed, bench.far.closed) == (False, False)


# The gateway ends it


def test_between_frames_both_sides_get_their_close_at_once(bench: Bench) -> None:
    bench.client.data_received(HELLO)
    bench.upstream.data_received(ANSWER)
    bench.end()
    assert bench.near.written == ANSWER + TO_CLIENT
    assert bench.far.written == HELLO + TO_UPSTREAM


def test_inside_a_frame_each_side_gets_it_behind_that_frame(bench: Bench) -> None:
    bench.client.data_received(HELLO[:4])
    bench.upstream.data_received(ANSWER + ANSWER[:6])
    bench.end()
    assert (bench.near.written, bench.far.written) == (ANSWER + ANSWER[:6], HELLO[:4])
    bench.client.data_received(HELLO[4:9])
    bench.client.data_received(HELLO[9:] + HELLO)
    assert bench.far.written == HELLO + HELLO + TO_UPSTREAM
    bench.upstream.data_received(ANSWER[6:] + ANSWER[:3])
    assert bench.near.written == ANSWER + ANSWER + TO_CLIENT


def test_behind_a_close_nothing_follows(bench: Bench) -> None:
    bench.end()
    bench.client.data_received(HELLO)
    bench.upstream.data_received(ANSWER)
    assert (bench.near.written, bench.far.written) == (TO_CLIENT, TO_UPSTREAM)


def test_it_is_ended_once(bench: Bench) -> None:
    bench.end()
    bench.tunnel.end(1001, b"going away", mask=MASK)
    assert (bench.near.written, bench.far.written) == (TO_CLIENT, TO_UPSTREAM)


def test_after_two_seconds_it_is_cut(bench: Bench) -> None:
    bench.end()
    bench.pass_time(1.9)
    assert not bench.near.aborted
    bench.pass_time(0.7)
    assert (bench.near.aborted, bench.far.aborted) == (True, True)


def test_a_side_that_has_ended_gets_the_frame_and_the_other_way_is_closed_already(bench: Bench) -> None:
    bench.client.eof_received()
    bench.end()
    assert (bench.near.written, bench.far.written) == (TO_CLIENT, b"")
    bench.pass_time(2.6)  # not the time a half-closed one has
    assert bench.near.aborted


# A side ends it


def test_a_half_closed_side_still_hears_the_last_words(bench: Bench) -> None:
    assert bench.client.eof_received() is True
    assert (bench.far.eof, bench.far.closed) == (True, False)
    bench.upstream.data_received(b"last words")
    assert bench.near.written == b"last words"
    bench.upstream.eof_received()
    assert (bench.near.closed, bench.far.closed) == (True, True)


def test_last_words_have_their_time(bench: Bench) -> None:
    bench.upstream.eof_received()
    bench.pass_time(30)
    assert not bench.near.closed
    bench.pass_time(1)
    assert bench.near.aborted


def test_where_nothing_can_be_half_closed_an_end_is_the_end() -> None:
    bench = Bench(half=False)
    assert bench.client.eof_received() is False  # asyncio's TLS would warn of anything else
    assert (bench.near.closed, bench.far.closed) == (True, True)


def test_when_one_side_is_lost_the_other_gets_what_was_written_and_goes(bench: Bench) -> None:
    bench.upstream.connection_lost(ConnectionResetError())
    assert (bench.near.closed, bench.near.aborted, bench.told) == (True, False, ["upstream"])
    bench.client.data_received(b"too late")
    bench.client.connection_lost(None)
    assert bench.told == ["upstream", "end", "client"]
    assert (bench.far.written, bench.deadlines._watched) == (b"", set())


def test_who_does_not_take_what_is_left_is_cut(bench: Bench) -> None:
    bench.client.connection_lost(None)
    assert not bench.far.aborted
    bench.pass_time(31)
    assert bench.far.aborted


def test_an_end_behind_the_other_sides_loss_writes_nothing(bench: Bench) -> None:
    bench.client.connection_lost(None)
    bench.upstream.eof_received()
    bench.end()
    assert (bench.near.written, bench.far.written, bench.far.eof) == (b"", b"", False)
