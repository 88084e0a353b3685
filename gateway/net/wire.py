"""One HTTP/1.1 connection to an endpoint: send a request, read its answer, hold the flow in both directions.

llhttp (httptools) reads the framing; this file decides what a broken one means. Pools and retries live in `upstreams`
and `exchange`. An answer's head waits in `head`, its body goes to a `Sink` as it comes.
"""

import asyncio
import re
import ssl
from collections.abc import Callable
from typing import Any, Protocol, cast

import httptools

from gateway.errors import BadUpstreamResponse, GatewayError, UpstreamTimeout
from gateway.net.deadlines import SWEEP_S, Deadlines
from gateway.net.fields import CODING, CORS, DROP, LENGTH, UPGRADE, judge, judged
from gateway.net.salvage import last_words

WRITE_HIGH = 65_536  # bytes; uvloop's own low-water mark would be 16 bytes, so both are set
WRITE_LOW = 16_384
MAX_OVERHEAD = 262_144  # bytes that are no body: a head with all before it, or chunk extensions and trailers in a row
MAX_LENGTH = 2**63 - 1  # llhttp counts to 2**64; whoever stands before us may not
CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
NOTHING: frozenset[bytes] = frozenset()


class Sink(Protocol):
    """Where the pieces of an answer's body go once its head has left."""

    def body(self, data: bytes) -> None:
        """Take one piece."""


class Wire(asyncio.Protocol):
    """A connection to an endpoint, for one exchange at a time. Behind a head nothing is read before `relay`.

    After `send` resolves: `fault` is set (`stale` too, if a kept connection went away before the first byte), or
    `status`, `reason`, `head`, `cors` (the upstream's own CORS fields), `length` (declared Content-Length, None if
    unknown) and as much of the body as has come, for `take_body`; `complete` when that is all.
    """

    __slots__ = (
        "_chunked", "_deadlines", "_drained", "_feed", "_interim", "_is_11", "_is_head", "_loop", "_nominated",
        "_on_lost", "_overhead", "_parked", "_parser", "_sink", "_until_close", "_upgrade", "_waiter", "body", "busy",
        "complete", "cors", "deadline", "fault", "fresh", "got_bytes", "got_head", "head", "held", "idle_s", "keep",
        "length", "lost", "paused", "reason", "stale", "status", "transport",
    )  # fmt: skip

    def __init__(self, deadlines: Deadlines, on_lost: "Callable[[Wire], None]") -> None:
        self._deadlines, self._on_lost = deadlines, on_lost
        self._loop = asyncio.get_running_loop()  # asked once: on Python 3.11 each time is a system call
        self.transport: asyncio.Transport | None = None
        self.deadline = self.idle_s = 0.0
        self.fresh, self.lost, self.paused, self.held, self.keep, self.busy = True, False, False, False, True, False
        self.head: list[bytes] = []
        self.cors: list[bytes] = []
        self.body: list[bytes] = []
        self._drained: asyncio.Future[None] | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._sink: Sink | None = None
        self._until_close = False
        self.status = 0
        self.length: int | None = None
        self.fault: GatewayError | None = None
        self._new_parser()
        self._reset(is_head=False)

    def _new_parser(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._feed: Callable[[bytes], None] = self._parser.feed_data

    def _reset(self, *, is_head: bool) -> None:
        self.head.clear()
        self.cors.clear()
        self.body.clear()
        self.reason, self.length, self.fault = b"", None, None
        self.got_bytes = self.got_head = self.complete = self._interim = self._chunked = self.stale = False
        self._parked = self._is_11 = False
        self._nominated, self._overhead, self._is_head = NOTHING, 0, is_head

    # --- what the exchange calls -------------------------------------------------------------------------------------

    def send(self, data: bytes, *, is_head: bool, response_s: float, upgrade: bool = False) -> "asyncio.Future[None]":
        """Begin an exchange with these bytes; the future resolves when the head has come or there is a `fault`."""
        self._reset(is_head=is_head)
        self.busy, self._upgrade = True, upgrade
        self.deadline = self._deadlines.now + SWEEP_S + response_s
        self._waiter = self._loop.create_future()
        if self.lost:
            self._ended(cleanly=False)
        elif self.transport is not None and not self.transport.is_closing():
            self.transport.write(data)
        return self._waiter

    def write(self, data: bytes) -> None:
        """Write, unless the connection is gone; `fault` then says so."""
        # uvloop raises on a closed transport where asyncio is silent.
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(data)

    def after(self, seconds: float) -> float:
        """Give the deadline so many seconds from now: at most `SWEEP_S` too late, but never too early."""
        return self._deadlines.now + SWEEP_S + seconds

    async def drained(self) -> None:
        """Wait until the endpoint has taken enough of what was written, or is gone."""
        if self.paused and not self.lost:
            self._drained = self._loop.create_future()
            await self._drained

    def relay(self, sink: Sink, *, idle_s: float) -> "asyncio.Future[None]":
        """Send the rest of the body to the sink as it comes; the future resolves at its end or with a `fault`.

        To be called before anything is awaited since `body` was taken, so that no piece comes in between.
        """
        self._waiter = self._loop.create_future()
        self._sink, self.idle_s = sink, idle_s
        self.moved()
        if self._parked:
            self._parked = False
            self._read_on()
        return self._waiter

    def moved(self) -> None:
        """Note that bytes went on, either way; while the client is being waited for, its own deadline counts."""
        if self._sink is not None:
            self.deadline = 0.0 if self.held else self.after(self.idle_s)

    def take_body(self) -> bytes:
        """Give what has come of the body and was not taken yet."""
        pieces = self.body
        if not pieces:
            return b""
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        return data

    def hold(self) -> None:
        """Read no more for now: the client is slow, and its memory is ours."""
        if self.transport is not None and not self.held:
            self.held, self.deadline = True, 0.0
            if not self._parked:
                self.transport.pause_reading()

    def unhold(self) -> None:
        """Read on."""
        if self.held:
            self.held = False
            self.moved()
            self._read_on()

    def _read_on(self) -> None:
        if self.transport is not None and not self.held and not self._parked:
            self.transport.resume_reading()

    def finish(self, *, idle_s: float) -> bool:
        """End the exchange; say whether the connection can serve another one, which must come within `idle_s`."""
        self.busy, self._sink, self._waiter, self.fresh = False, None, None, False
        if self.held:
            self.unhold()
        if self._parked:
            self._parked = False
            self._read_on()
        # Paused: an early answer, and the endpoint may never read the rest of the request.
        if not (self.complete and self.keep) or self.paused:
            self.abort()
            return False
        self.deadline = self._deadlines.now + idle_s
        return True

    def abort(self) -> None:
        """Drop the connection at once."""
        self.keep = False
        if self.transport is not None:
            self.transport.abort()

    def give_up(self) -> None:
        """Drop a connection that is still being made; the loop may make it all the same, or never say what became."""
        self._deadlines.unwatch(self)
        self.abort()

    def fail(self, fault: GatewayError) -> None:
        """End the exchange with a fault and drop the connection."""
        if self.fault is None:
            self.fault = fault
        self.abort()
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def expire(self) -> None:
        """Answer a deadline that passed (`net.deadlines`)."""
        if self.busy:
            self.fail(UpstreamTimeout())
        else:
            self.abort()

    # --- what the event loop calls -----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:  # noqa: D102
        self.transport = cast("asyncio.Transport", transport)
        if not self.keep:  # nobody waits for it any more
            return self.transport.abort()
        self.transport.set_write_buffer_limits(WRITE_HIGH, WRITE_LOW)
        return self._deadlines.watch(self)

    def data_received(self, data: bytes) -> None:  # noqa: D102
        if not self.busy:
            # Bytes nobody asked for: the next answer on this connection could be somebody else's.
            return self.abort()
        if not self.got_bytes:
            self.got_bytes, self._is_11 = True, data.startswith(b"HTTP/1.1 ")
        try:
            self._feed(data)
        except httptools.HttpParserUpgrade as switched:
            self.body.append(data[switched.args[0] :])  # another protocol's; `_head_came` reads no further
        except httptools.HttpParserError as error:
            return self.fail(BadUpstreamResponse(detail=f"unreadable answer: {error.__context__ or error}"[:200]))
        if self._sink is not None:
            return self._pass_on(len(data))
        if not self.got_head:
            return self._count_overhead(len(data))
        if self._overhead:  # a head of several reads
            self._count_overhead(len(data) - sum(map(len, self.body)))
        return self._head_came() if self.fault is None else None

    def _head_came(self) -> None:
        if self._is_head:
            # llhttp cannot be told that this answers HEAD and would eat the next head as a body. A body that came all
            # the same is forbidden (RFC 9110 §9.3.2): it goes nowhere, and who knows what follows it.
            if self.body or (self.complete and self._chunked):
                self.keep = False
            if not self.complete:
                self._new_parser()
            self.complete = True
            self.body.clear()
        if not self.complete and not self._parked and self.transport is not None:
            # Until `relay` the loop would read on: 32 times 256 KiB, for which nobody has said where they go.
            self._parked = True
            self.transport.pause_reading()
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _pass_on(self, received: int) -> None:
        assert self._sink is not None
        if self.body:
            self._overhead = 0
            self._sink.body(self.take_body())
            self.moved()
        else:
            self._count_overhead(received)
        if self.complete:
            self._wake()

    def _count_overhead(self, received: int) -> None:
        self._overhead += received
        if self._overhead > MAX_OVERHEAD:
            self.fail(BadUpstreamResponse(detail=f"over {MAX_OVERHEAD} bytes of head, chunk extensions or trailers"))

    def eof_received(self) -> None:  # noqa: D102
        self.keep = False  # the transport closes now, but first sends what is left: that may take for ever
        self._ended(cleanly=not self._cut_under_tls())

    def _cut_under_tls(self) -> bool:
        # RFC 9112 §9.8: only a closure alert is an end, else anybody on the way could shorten a body without a length.
        # The loops report both alike, so TLS itself is asked: at an end it gives b"", else it wants more.
        tls = self.transport.get_extra_info("ssl_object") if self.transport is not None and self._until_close else None
        try:
            return tls is not None and tls.read(1) != b""
        except ssl.SSLError:
            return True

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: D102
        # Many a server refuses a body it does not want with an answer and is gone; then our next piece fails.
        asking = self.transport if exc is not None and self.busy and not self.got_head else None
        if asking is not None and (words := last_words(asking)):
            self.data_received(words)
        self.lost, self.keep, self.transport, self.deadline = True, False, None, 0.0
        self._deadlines.unwatch(self)
        self._release()
        self._ended(cleanly=False)
        self._on_lost(self)

    def _ended(self, *, cleanly: bool) -> None:
        """Judge the end of the connection during an exchange."""
        if not self.busy or self.complete:
            return
        # RFC 9112 §6.3: without a length the end of the connection is the end of the body, unless it broke.
        if cleanly and self.got_head and self._until_close:
            self.complete = True
        elif self.fault is None:
            self.stale = not (self.fresh or self.got_bytes)
            self.fault = BadUpstreamResponse(detail="connection closed before the end of the answer")
        self._wake()

    def pause_writing(self) -> None:  # noqa: D102
        self.paused = True

    def resume_writing(self) -> None:  # noqa: D102
        self.paused = False
        self._release()

    def _release(self) -> None:
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    # --- what llhttp calls -------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """Refuse a second answer; begin anew behind an interim one."""
        if self.complete:
            raise ValueError("bytes behind the end of the answer")
        self._interim = False

    def on_status(self, reason: bytes) -> None:
        """Take (a piece of) the reason phrase; llhttp lets control characters pass."""
        if not reason.isalpha() and CONTROL.search(reason):
            raise ValueError("control character in the reason")
        self.reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a field of the head; fields behind it are trailers, which are dropped."""
        if self.got_head:
            return
        verdict = judged.get(name)
        if verdict is None:
            verdict = judge(name)
        if verdict.__class__ is bytes:
            self.head.append(verdict + value)
        elif verdict is not DROP:
            self._special(verdict, name, value)

    def _special(self, verdict: Any, name: bytes, value: bytes) -> None:
        if verdict is LENGTH:
            self.length = int(value)  # one and a number, and no Transfer-Encoding beside it: llhttp
            if self.length > MAX_LENGTH:
                raise ValueError("Content-Length too large")
        elif verdict is CODING:
            # Any other coding would be lost with the field that names it (RFC 9112 §6.1).
            if self._chunked or value.strip().lower() != b"chunked":
                raise ValueError("Transfer-Encoding other than chunked")
            self._chunked = True
        elif verdict is CORS:
            self.cors.append(b"\r\n%b: %b" % (name, value))
        elif verdict is UPGRADE:
            if self._parser.get_status_code() == 101 and value.lower() != b"websocket":
                raise ValueError("101 to another protocol")
        elif value != b"keep-alive":
            self._nominated |= {part.strip().lower() for part in value.split(b",")}

    def on_headers_complete(self) -> None:
        """Judge the head that is now whole."""
        self.status = self._parser.get_status_code()
        # A 101 that does not name the upgrade is an error of llhttp's own, just behind its head.
        if self.status < 200 and not (self.status == 101 and self._upgrade and not self.length and not self._chunked):
            return self._interim_came()
        if not self._is_11:
            self._check_version(self._parser.get_http_version())
        self.got_head = True
        self._until_close = self.length is None and not self._chunked
        if self._nominated:
            self.head, self.cors = self._unnominated(self.head), self._unnominated(self.cors)
        if not self._parser.should_keep_alive():
            self.keep = False
        return None

    def _check_version(self, version: str) -> None:
        if version not in ("1.1", "1.0"):
            raise ValueError(f"HTTP/{version}")
        if version == "1.0" and self._chunked:
            self.keep = False  # RFC 9112 §6.1: such a server's framing is not to be trusted any further

    def _interim_came(self) -> None:
        # 100, 102 and 103 say nothing that the client must have (RFC 9110 §15.2: a proxy may drop what it asked for).
        if self.status < 100 or self.status == 101:
            raise ValueError(f"status {self.status:03} without a request for it")
        if self.length or self._chunked:
            raise ValueError("interim answer with a body")  # llhttp would read it and give it to the final one
        self._interim, self._is_11 = True, False
        self.head.clear()
        self.cors.clear()
        self.reason, self.length, self._nominated = b"", None, NOTHING

    def _unnominated(self, lines: list[bytes]) -> list[bytes]:
        """Leave out the fields that `Connection` names (RFC 9110 §7.6.1)."""
        return [line for line in lines if line[2:].partition(b":")[0].lower() not in self._nominated]

    def on_body(self, data: bytes) -> None:
        """Take a piece of the body."""
        self.body.append(data)

    def on_message_complete(self) -> None:
        """Note the end of an answer; an interim one's end is none."""
        if not self._interim and self.status != 101:
            self.complete = True
