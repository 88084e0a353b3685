"""A connection that was upgraded: bytes pass untouched both ways until someone ends it.

Each side's transport gets a `Half` as its protocol: what comes there is written to the other side, and reading stops
while the other side's buffer is full. The gateway can end it with a Close frame of its own. Whose tunnel it is, and why
it ends, is the business of `web.sockets` and `web.streams`.
"""

import asyncio
from collections.abc import Callable

from gateway.core.frames import Frames, close_frame
from gateway.net.deadlines import SWEEP_S, Deadlines

CLOSE_S = 2.0  # for the other side's Close behind ours
LAST_WORDS_S = 30.0  # for what one side still has to say or to take once the other one has ended

Lost = Callable[[Exception | None], None]


class Half(asyncio.Protocol):
    """What comes from one side of a tunnel. `other` is the half it goes to."""

    __slots__ = ("_frames", "_last", "_on_lost", "_tunnel", "bytes", "ended", "lost", "other", "transport")

    other: "Half"

    def __init__(self, tunnel: "Tunnel", transport: asyncio.Transport, on_lost: Lost) -> None:
        self._tunnel, self.transport, self._on_lost = tunnel, transport, on_lost
        self._frames = Frames()
        self._last: bytes | None = None  # a Close that waits for a boundary; b"" once it is written
        self.ended = self.lost = False  # this side says no more; it is gone altogether
        self.bytes = 0  # that came from it

    def data_received(self, data: bytes) -> None:  # noqa: D102
        self.bytes += len(data)
        boundary = self._frames.feed(data)
        if self._last is not None:
            data = self._up_to_close(data, boundary)
        self.other.write(data)

    def _up_to_close(self, data: bytes, boundary: int) -> bytes:
        if not self._last:
            return b""  # nothing may follow a Close (RFC 6455 §5.5.1)
        if boundary < 0:
            return data
        last, self._last = self._last, b""
        return data[:boundary] + last

    def close_with(self, frame: bytes) -> None:
        """Put this frame behind the one that is passing, and drop what would follow."""
        if self.ended or self._last is not None:
            return
        if self._frames.at_boundary:
            self._last = b""
            self.other.write(frame)
        else:
            self._last = frame

    def write(self, data: bytes) -> None:
        """Send to this side, unless it is gone."""
        # uvloop raises on a closed transport where asyncio is silent.
        if data and not self.transport.is_closing():
            self.transport.write(data)

    def pause_writing(self) -> None:  # noqa: D102
        if self.other.transport.is_reading():
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:  # noqa: D102
        self.other.read_on()

    def read_on(self) -> None:
        """Read, wherever that had stopped."""
        if not self.transport.is_closing() and not self.transport.is_reading():
            self.transport.resume_reading()

    def eof_received(self) -> bool:
        """Pass the end on and stay open for the other side's last words, where the transport can be half closed."""
        self.ended = True
        self._tunnel.half_closed()
        other = self.other.transport
        if self.other.ended or not other.can_write_eof():
            self._tunnel.close()
        elif not other.is_closing():
            other.write_eof()
        return self.transport.can_write_eof()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: D102
        self.ended = self.lost = True
        self._tunnel.lost()
        self._on_lost(exc)


class Tunnel:
    """Two halves, and their end.

    Each `Lost` is called when that side's connection is gone, `on_end` when both are.
    """

    __slots__ = ("_deadlines", "_on_end", "client", "deadline", "upstream")

    def __init__(
        self, deadlines: Deadlines, client: tuple[asyncio.Transport, Lost], upstream: tuple[asyncio.Transport, Lost],
        on_end: "Callable[[Tunnel], None]", client_half: "Callable[[Tunnel, asyncio.Transport, Lost], Half]" = Half,
    ) -> None:  # fmt: skip
        self._deadlines, self._on_end = deadlines, on_end
        self.deadline = 0.0  # none while both sides talk
        self.client, self.upstream = client_half(self, *client), Half(self, *upstream)
        self.client.other, self.upstream.other = self.upstream, self.client

    def start(self, head: bytes, *, early: bytes, behind: bytes) -> None:
        """Send the 101's head and what came `behind` it to the client, what it had sent `early` to the upstream."""
        self.client.read_on()
        self.upstream.read_on()
        self.client.write(head)
        if behind:
            self.upstream.data_received(behind)
        if early:
            self.client.data_received(early)

    def end(self, code: int, reason: bytes, *, mask: bytes) -> None:
        """Say goodbye to both sides, each at the next frame boundary of its direction; then cut.

        `mask` is four bytes of chance for the upstream's frame.
        """
        self._within(CLOSE_S)
        self.upstream.close_with(close_frame(code, reason))
        self.client.close_with(close_frame(code, reason, mask=mask))

    def half_closed(self) -> None:
        """Give the side that still talks a while."""
        self._within(LAST_WORDS_S)

    def close(self) -> None:
        """End both connections once what was written to them has left."""
        self._within(LAST_WORDS_S)
        self.client.transport.close()
        self.upstream.transport.close()

    def expire(self) -> None:
        """Cut what is left (`net.deadlines`)."""
        self.client.transport.abort()
        self.upstream.transport.abort()

    def _within(self, seconds: float) -> None:
        """Be over in so many seconds, or sooner if that was said before."""
        deadline = self._deadlines.now + SWEEP_S + seconds
        if not self.deadline:
            self._deadlines.watch(self)
        self.deadline = min(deadline, self.deadline or deadline)

    def lost(self) -> None:
        """Note that a side is gone; the other one gets what was written to it and goes too."""
        if self.client.lost and self.upstream.lost:
            self._deadlines.unwatch(self)
            self._on_end(self)
        else:
            self.close()
