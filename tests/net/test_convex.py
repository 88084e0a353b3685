"""The half that reads, alone. With a gateway around it, it is in `tests/wire/test_convex.py`."""

from typing import Any

import pytest

from gateway.core.frames import close_frame
from gateway.net.convex import OWN, SHARED, WHOLE_S, JudgedHalf, Room
from gateway.net.deadlines import Deadlines
from gateway.net.tunnel import Tunnel
from tests.core.test_convex import ADMIN, NONE, USER, written
from tests.core.test_messages import MASK, MORE, PING, frame
from tests.fakes.gateway import Clock
from tests.net.test_tunnel import Transport


class Slow(Transport):
    """A transport that says how much waits in it."""

    waiting = 0

    def get_write_buffer_size(self) -> int:
        return self.waiting


class Judge:
    """Keeps what it is told, and ends the tunnel when asked to."""

    def __init__(self) -> None:
        self.said: list[bytes | None] = []
        self.refused: list[tuple[int, bytes]] = []
        self.left = 0
        self.tunnel: Any = None

    def authenticate(self, token: bytes | None) -> None:
        self.said.append(token)

    def refuse(self, code: int, reason: bytes) -> None:
        self.refused.append((code, reason))
        self.tunnel.end(code, reason, mask=MASK)

    def gone(self) -> None:
        self.left += 1


class House:
    """A clock and a room, and as many tunnels in it as are wanted."""

    def __init__(self, shared: int = SHARED) -> None:
        self.clock = Clock(1000.0)
        self.deadlines = Deadlines(self.clock)
        self.room = Room(self.deadlines, shared)

    def open(self) -> tuple[Any, Any, Judge]:
        """Give the client's half, its upstream's transport, and its judge."""
        near: Any = Transport()
        far: Any = Slow()
        judge = Judge()
        tunnel = Tunnel(
            self.deadlines, (near, lambda _: None), (far, lambda _: None), lambda _: None,
            lambda *args: JudgedHalf(*args, judge=judge, room=self.room),
        )  # fmt: skip
        judge.tunnel = tunnel
        return tunnel.client, far, judge

    def pass_time(self, seconds: float) -> None:
        self.clock.seconds += seconds
        self.deadlines.sweep()


@pytest.fixture
def house() -> House:
    return House()


SEEN = frame(written(USER)) + frame(b"hello") + frame(written(NONE)) + frame(b"?", PING)


def test_messages_pass_as_they_came_and_authenticate_is_told(house: House) -> None:
    client, far, judge = house.open()
    client.data_received(SEEN)
    assert far.written == SEEN
    assert judge.said == [b"a.b.c", None]
    assert client.bytes == len(SEEN)


def test_split_at_every_byte(house: House) -> None:
    for at in range(len(SEEN)):
        client, far, judge = house.open()
        client.data_received(SEEN[:at])
        client.data_received(SEEN[at:])
        assert (far.written, judge.said) == (SEEN, [b"a.b.c", None])


def test_an_admins_message_never_arrives_however_it_is_cut(house: House) -> None:
    good, sent = frame(b"good"), frame(written(ADMIN))
    for at in range(len(good), len(good + sent)):
        client, far, judge = house.open()
        for piece in ((good + sent)[:at], (good + sent)[at:], frame(b"after")):
            client.data_received(piece)
        assert far.written == good + close_frame(4403, b"convex-admin", mask=MASK)
        assert client.transport.written == close_frame(4403, b"convex-admin")
        assert judge.refused == [(4403, b"convex-admin")]


def test_an_admin_hidden_in_fragments_behind_pings_is_found(house: House) -> None:
    client, far, judge = house.open()
    text, ping = written(ADMIN), frame(b"?", PING)
    client.data_received(frame(text[:1], final=False))
    for at in range(1, len(text)):
        client.data_received(ping + frame(text[at : at + 1], MORE, final=False))
    assert far.written == ping * (len(text) - 1)
    client.data_received(frame(b"", MORE))
    assert judge.refused == [(4403, b"convex-admin")]


def test_a_broken_frame_ends_both_sides(house: House) -> None:
    client, far, judge = house.open()
    client.data_received(frame(b"good") + frame(b"x", reserved=0x40))
    assert judge.refused[0][0] == 1002
    assert far.written.startswith(frame(b"good") + b"\x88")
    assert client.transport.written.startswith(b"\x88")


def test_a_close_of_the_gateways_goes_between_messages_and_nothing_behind_it(house: House) -> None:
    client, far, _ = house.open()
    client.data_received(frame(b"one") + frame(b"x" * 9000)[:-1])
    assert house.room.left < SHARED
    far_close = close_frame(4401, b"bye", mask=MASK)
    client.close_with(far_close)
    assert far.written == frame(b"one") + far_close
    client.data_received(frame(b"x" * 9000)[-1:])
    assert far.written == frame(b"one") + far_close
    assert house.room.left == SHARED


# How much is kept


def test_a_little_is_each_sockets_own(house: House) -> None:
    for _ in range(10_000):
        client, _, judge = house.open()
        client.data_received(frame(b"x" * (OWN - 8))[:-1])
        assert judge.refused == []
    assert house.room.left == SHARED


def test_ten_thousand_half_messages_stay_within_the_room() -> None:
    house = House(100_000)
    sent, refused, clients = frame(b"x" * 9000), 0, []
    for _ in range(10_000):
        client, _, judge = house.open()
        client.data_received(sent[:-1])
        clients.append(client)
        refused += judge.refused == [(1013, b"too many messages at once")]
    kept = sum(client._messages.held for client in clients)
    assert refused == 10_000 - 100_000 // (len(sent) - 1 - OWN)
    assert kept <= 100_000 + (10_000 - refused) * OWN
    for client in clients:
        client.connection_lost(None)
    assert house.room.left == 100_000


def test_the_largest_message_makes_room_for_a_smaller_one() -> None:
    house = House(100_000)
    greedy, far, greedy_judge = house.open()
    greedy.data_received(frame(b"x" * 200_000)[:95_000])
    modest, modest_far, judge = house.open()
    sent = frame(b"x" * 30_000)
    modest.data_received(sent[:-1])
    assert (greedy_judge.refused, judge.refused) == ([(1013, b"too many messages at once")], [])
    assert far.written == close_frame(1013, b"too many messages at once", mask=MASK)
    modest.data_received(sent[-1:])
    assert (modest_far.written, house.room.left, house.room.takers) == (sent, 100_000, set())


def test_a_message_that_is_whole_gives_its_room_back(house: House) -> None:
    client, far, _ = house.open()
    sent = frame(b"x" * 1_000_000)
    for at in range(0, len(sent), 100_000):
        client.data_received(sent[at : at + 100_000])
        assert house.room.left == SHARED - max(0, client._messages.held - OWN)
    assert (far.written, house.room.left, client._messages.held) == (sent, SHARED, 0)
    house.pass_time(WHOLE_S + 2)
    assert client.transport.written == b""


def test_room_comes_back_when_the_client_leaves(house: House) -> None:
    client, _, judge = house.open()
    client.data_received(frame(b"x" * 9000, final=False))
    assert house.room.left < SHARED
    client.connection_lost(None)
    assert (house.room.left, judge.left) == (SHARED, 1)


def test_a_message_in_large_pieces_that_does_not_get_whole_is_given_up(house: House) -> None:
    client, far, judge = house.open()
    client.data_received(frame(b"x" * 9000, final=False))
    house.pass_time(WHOLE_S - 1)
    client.data_received(frame(b"x", MORE, final=False))  # that it goes on is no excuse
    assert judge.refused == []
    house.pass_time(2)
    assert judge.refused == [(1008, b"message too slow")]
    assert (house.room.left, far.written) == (SHARED, close_frame(1008, b"message too slow", mask=MASK))


def test_what_a_slow_upstream_has_not_taken_counts_too(house: House) -> None:
    client, far, judge = house.open()
    client.data_received(frame(b"x" * 50_000)[:-1])
    far.waiting = 50_000
    client.other.pause_writing()  # as its transport would, within the write
    client.data_received(frame(b"x" * 50_000)[-1:])
    assert house.room.left == SHARED - 50_000 + OWN
    far.waiting = 0
    client.other.resume_writing()
    assert (house.room.left, judge.refused) == (SHARED, [])
    assert client.transport.reading


def test_without_room_for_a_slow_upstream_the_socket_ends() -> None:
    house = House(10_000)
    client, far, judge = house.open()
    far.waiting = 50_000
    client.other.pause_writing()
    client.data_received(frame(b"x" * 100))
    assert judge.refused == [(1013, b"too many messages at once")]
    assert house.room.left == 10_000


def test_a_small_message_may_take_its_time(house: House) -> None:
    client, _, judge = house.open()
    client.data_received(frame(b"x", final=False))
    house.pass_time(WHOLE_S * 2)
    assert judge.refused == []
