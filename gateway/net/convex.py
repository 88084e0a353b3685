"""The client's half of a tunnel to Convex: its messages are read before they pass (`core.convex`).

An unfinished message is kept until it is whole. A little of that is every socket's own, more comes out of one room that
all sockets share. What an Authenticate message means for the socket is its `Judge`'s business.
"""

import asyncio
from typing import Protocol

from gateway.core.convex import read_message
from gateway.core.messages import LARGEST, Message, Messages
from gateway.errors import SocketRefused
from gateway.net.deadlines import SWEEP_S, Deadlines
from gateway.net.tunnel import Half, Lost, Tunnel

OWN = 4096  # bytes a socket may always keep: an Authenticate with a usual token
SHARED = 4 * LARGEST  # bytes kept for all sockets together, beyond each one's own
# Convex drops a client it has heard nothing of for 120 s; a message that takes longer never was any use to it.
WHOLE_S = 120.0
TRY_AGAIN, TOO_SLOW = (1013, b"too many messages at once"), (1008, b"message too slow")


class Judge(Protocol):
    """What follows from a client's messages (`web.convex`)."""

    def authenticate(self, token: bytes | None) -> None:
        """The client says who it is from now on; None: nobody."""

    def refuse(self, code: int, reason: bytes) -> None:
        """End the socket; nothing more of the client's passes."""

    def gone(self) -> None:
        """The client is gone."""


class Room:
    """What unfinished messages of all sockets may take together."""

    __slots__ = ("deadlines", "left", "takers")

    def __init__(self, deadlines: Deadlines, shared: int = SHARED) -> None:
        self.deadlines, self.left = deadlines, shared
        self.takers: set[JudgedHalf] = set()

    def find(self, more: int, wanted: int) -> bool:
        """Find so much more for one that then takes `wanted`; where there is none, of whoever takes more than that.

        Else a few that never finish their large messages would keep out everybody else's.
        """
        while more > self.left:
            largest = max(self.takers, key=lambda taker: taker.taken, default=None)
            if largest is None or largest.taken <= wanted:
                return False
            largest.make_room()
        return True


class JudgedHalf(Half):
    """What comes from Convex's client, message by message."""

    __slots__ = ("_judge", "_messages", "_room", "deadline", "taken")

    def __init__(
        self, tunnel: Tunnel, transport: asyncio.Transport, on_lost: Lost, *, judge: Judge, room: Room
    ) -> None:
        super().__init__(tunnel, transport, on_lost)
        self._judge, self._room = judge, room
        self._messages = Messages()
        self.taken = 0  # bytes of the shared room
        self.deadline = 0.0  # for the message that takes room

    def data_received(self, data: bytes) -> None:  # noqa: D102
        self.bytes += len(data)
        passing: list[bytes] = []
        over: tuple[int, bytes] | None = None
        try:
            for piece in self._messages.feed(data):
                if isinstance(piece, Message):
                    self._read(piece.content)
                    piece = piece.frames
                passing.append(piece)
        except SocketRefused as refused:
            over = refused.code, refused.reason
        # Mostly it is one message, in one piece. Behind a Close it is nothing: what is held was dropped with it.
        self.other.write(passing[0] if len(passing) == 1 else b"".join(passing))
        if over is None and not self._has_room():
            over = TRY_AGAIN
        if over is not None:
            self._end(*over)

    def _read(self, content: bytes) -> None:
        said = read_message(content)
        if said is not None:
            self._judge.authenticate(said.token)

    def _has_room(self) -> bool:
        """Take or give back room for what is kept here, and there too while the upstream is slow to read."""
        kept = self._messages.held
        if not self.transport.is_reading():
            kept += self.other.transport.get_write_buffer_size()
        wanted, room = max(kept - OWN, 0), self._room
        if not room.find(wanted - self.taken, wanted):
            return False
        if bool(wanted) is not bool(self.taken):
            self._watch(bool(wanted))
        room.left -= wanted - self.taken
        self.taken = wanted
        return True

    def _watch(self, takes_room: bool) -> None:
        deadlines = self._room.deadlines
        if takes_room:
            self.deadline = deadlines.now + SWEEP_S + WHOLE_S
            deadlines.watch(self)
            self._room.takers.add(self)
        else:
            deadlines.unwatch(self)
            self._room.takers.discard(self)

    def read_on(self) -> None:
        """Read again: the upstream has taken what was kept for it."""
        super().read_on()
        self._has_room()

    def expire(self) -> None:
        """Give up a message that does not become whole (`net.deadlines`)."""
        self._end(*TOO_SLOW)

    def make_room(self) -> None:
        """Give up a message that others have no room for."""
        self._end(*TRY_AGAIN)

    def _end(self, code: int, reason: bytes) -> None:
        self._let_go()
        self._judge.refuse(code, reason)

    def close_with(self, frame: bytes) -> None:
        """Put this frame behind what has passed: that is always whole frames. What is held never will pass."""
        super().close_with(frame)
        self._let_go()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: D102
        self._let_go()
        self._judge.gone()
        super().connection_lost(exc)

    def _let_go(self) -> None:
        self._messages.drop()
        if self.taken:
            self._watch(False)
        self._room.left += self.taken
        self.taken = 0
