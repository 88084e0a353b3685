"""A client connection: aiohttp's parser and transport handling, our loop over its requests, answers and timers.

One coroutine carries every request of a connection from parsed head to written answer. This is the only file that
touches aiohttp's private names; `tests/web/test_aiohttp_contract.py` names each of them. What is decided stands in
`pipeline`.
"""

import asyncio
from typing import TYPE_CHECKING, Any, cast

from aiohttp import web
from aiohttp.http_exceptions import LineTooLong
from aiohttp.http_parser import RawRequestMessage
from aiohttp.http_writer import StreamWriter
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web_protocol import RequestHandler, _ErrInfo

from gateway.core.headers import is_trusted
from gateway.core.model import Identified, Inbound, Peer
from gateway.core.routing import Route
from gateway.errors import GatewayError, InternalError, Overloaded, RequestTimeout
from gateway.net.exchange import Answer
from gateway.net.wire import WRITE_HIGH, WRITE_LOW, Wire
from gateway.web import respond
from gateway.web.local import CORS, FAULT, REQUEST_ID
from gateway.web.pipeline import cors_of_unread, handle
from gateway.web.read import read_inbound, unreadable
from gateway.web.upload import NO_UPLOAD, Upload, upload_of

if TYPE_CHECKING:
    from gateway.web.listener import Listener

LINGER_S = 1.5
NEW, IDLE, HEAD, BUSY, UPLOAD, STALLED, ENDING = "new", "idle", "head", "busy", "upload", "stalled", "ending"
NO_ID = b"-"
CLIENT_GONE = 499  # nobody receives it; the access log's usual word for a client that left


class Connection(RequestHandler):
    """A client connection, and the `Visitor` that the pipeline sees."""

    __slots__ = (
        "_answered", "_chunking", "_closing", "_head_bytes", "_http_10", "_is_head", "_listener", "_more", "_peer",
        "_phase", "_received", "began", "bytes_out", "client", "code", "cors", "deadline", "endpoint", "identified",
        "inbound", "reason", "request_id", "route", "status", "upload", "upstream_s", "wire",
    )  # fmt: skip

    def __init__(self, listener: "Listener", **settings: Any) -> None:
        super().__init__(listener, **settings)
        self._listener = listener
        self._peer = Peer("", trusted=False, scheme="http", port=0)
        self._phase, self.deadline = NEW, 0.0
        self._closing = self._http_10 = self._is_head = self._more = False
        self._head_bytes = 0  # of a head that did not come in one piece
        self.wire: Wire | None = None
        self.began = 0.0
        self._forget()

    def _forget(self) -> None:
        """Make ready for the next request."""
        self._answered = self._chunking = False
        self._received: tuple[RawRequestMessage, StreamReader] | None = None
        self.inbound: Inbound | None = None
        self.route: Route | None = None
        self.identified: Identified | None = None
        self.upload: Upload = NO_UPLOAD
        self.cors, self.request_id = b"", NO_ID
        self.client, self.endpoint, self.code, self.reason = self._peer.address, "", "", ""
        self.status, self.bytes_out, self.upstream_s = 0, 0, 0.0

    # --- what the event loop calls -----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:  # noqa: D102
        listener = self._listener
        stream = cast("asyncio.Transport", transport)
        stream.set_write_buffer_limits(WRITE_HIGH, WRITE_LOW)
        address = (transport.get_extra_info("peername") or ("",))[0]
        trusted = bool(address) and is_trusted(address, listener.deps.trusted_proxies)
        scheme = "https" if transport.get_extra_info("sslcontext") else "http"
        self._peer = Peer(address.removeprefix("::ffff:"), trusted, scheme, listener.port)
        self.client = self._peer.address
        self.deadline = listener.after(listener.limits.header_read_s)
        has_room = listener.opened(self, self._peer.address)
        # Python 3.12 runs `start()` within this call, so everything it needs is set before.
        super().connection_made(transport)
        if not has_room:
            self._turn_away(Overloaded())

    def data_received(self, data: bytes) -> None:  # noqa: D102
        if self._phase is IDLE:
            # Not moved on by further bytes: a head that trickles in has `header_read_s` in all.
            self._phase, self.deadline = HEAD, self._listener.after(self._listener.limits.header_read_s)
        elif self._phase is NEW:
            self._phase = HEAD
        else:
            return self._further(data)
        self._head_bytes = 0
        super().data_received(data)
        self._more = bool(self._messages) and self._messages[-1][1] is EMPTY_PAYLOAD and not data.endswith(b"\r\n\r\n")
        return None

    def _further(self, data: bytes) -> None:
        """Take bytes that are not the beginning of a request on a waiting connection."""
        if self._close:
            return
        in_body, queued = not self.upload.finished, len(self._messages)
        super().data_received(data)
        if in_body:
            self._break_off_upload()
        elif len(self._messages) > queued:
            self._more, self._head_bytes = not data.endswith(b"\r\n\r\n"), 0
        else:
            self._more = True
            self._head_bytes += len(data)
            if self._head_bytes > self._listener.limits.header_bytes and not self._upgraded:
                self._refuse_endless_head()

    def _break_off_upload(self) -> None:
        # A chunk that cannot be read never reaches whoever reads the body, who would wait for ever. It is the only
        # message that can stand behind a body without an end.
        if self._messages:
            self.upload.break_off(web.RequestPayloadError("unreadable chunk"))

    def _refuse_endless_head(self) -> None:
        # aiohttp bounds each line and their number: 128 lines of 32 KiB would be 4 MiB held for a head.
        self._close = True
        endless = _ErrInfo(status=431, exc=LineTooLong(b"", self._head_bytes), message="")
        self._messages.append((endless, EMPTY_PAYLOAD))
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def connection_lost(self, exc: BaseException | None) -> None:  # noqa: D102
        task = self._task_handler
        self._listener.closed(self, self._peer.address)
        super().connection_lost(exc)  # forgets the task
        if task is not None:
            task.cancel()

    def pause_writing(self) -> None:  # noqa: D102
        super().pause_writing()
        if self._phase is not UPLOAD:  # whose own clock goes on
            self._stall()
        if self.wire is not None:
            self.wire.hold()

    def _stall(self) -> None:
        patience_s = self.route.idle_s if self.route is not None else self._listener.limits.keepalive_s
        self._phase, self.deadline = STALLED, self._listener.after(patience_s)

    def resume_writing(self) -> None:  # noqa: D102
        super().resume_writing()
        if self._phase is STALLED:
            self._phase, self.deadline = BUSY, 0.0
        if self.wire is not None:
            self.wire.unhold()

    def expire(self) -> None:
        """Act on the deadline that passed (`net.deadlines`); never answers while the coroutine may be answering."""
        if self._phase is UPLOAD:
            self.upload.time_out()
        elif self._phase is not HEAD:
            self.abort()
        elif not self._messages:  # else it came in this very moment
            self._turn_away(RequestTimeout())

    def _turn_away(self, error: GatewayError) -> None:
        """Refuse a client that has not sent a request."""
        self.began = self._listener.clock()
        self._refuse(error)
        self._listener.log_request(self)
        self._linger()

    def drain(self) -> None:
        """Finish what runs and take nothing more."""
        self._closing = True
        if self._phase in (IDLE, NEW):
            self._hang_up()

    # --- the loop over requests --------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Serve the connection's requests in order. Overrides aiohttp's loop, which costs a Task per request."""
        try:
            while not self._force_close:
                if not self._messages:
                    await self._arrival()
                message, payload = self._messages.popleft()
                self._consumed()
                self._phase, self.deadline = BUSY, 0.0
                await self._serve(message, payload)
                if self._paused:
                    await self._drain_helper()  # a client that asks and never reads would fill our memory
                if not self._may_go_on():
                    break
                self._forget()
                self._await_next()
        except (asyncio.CancelledError, ConnectionError):
            # The client left or the connection was closed under us: `connection_lost`, `abort`.
            self.force_close()
        finally:
            if self._phase is not ENDING:
                self._hang_up()

    def _await_next(self) -> None:
        if self._messages:
            return
        limits, more = self._listener.limits, self._more
        self._phase, self._more = HEAD if more else IDLE, False
        self.deadline = self._listener.after(limits.header_read_s if more else limits.keepalive_s)

    async def _arrival(self) -> None:
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _consumed(self) -> None:
        """Tell the parser that a message was taken; it stops reading while too many wait."""
        if self._parser is not None:
            self._parser.message_consumed()
        if self._buffer_paused and len(self._messages) <= self._msg_queue_resume_size:
            self._resume_reading_if_drained()

    async def _serve(self, message: RawRequestMessage | _ErrInfo, payload: StreamReader) -> None:
        listener = self._listener
        self.began = listener.clock()
        try:
            if isinstance(message, _ErrInfo):
                self._is_head = self._http_10 = False
                raise unreadable(message.exc)
            self._received = message, payload
            self._http_10 = message.version < (1, 1)
            self._is_head = message.method == "HEAD"
            # Behind an upgrade that is refused may stand bytes meant for another protocol: never read them as HTTP.
            # Behind chunks aiohttp's parser puts their last trailer into the head of the next request.
            self._closing |= message.should_close or message.upgrade or message.chunked
            limit = listener.limits.header_bytes
            inbound = self.inbound = read_inbound(message, self._peer, listener.deps.fields, header_bytes=limit)
            self.upload = upload_of(inbound, message, payload, self)
            if not self.upload.finished:
                self._break_off_upload()
            await handle(listener.deps, self, inbound)
        except GatewayError as error:
            self._refuse(error)
        except asyncio.CancelledError:
            self.status = self.status or CLIENT_GONE
            raise
        except Exception as error:  # the one catch-all: whatever is wrong, the client is answered
            self._refuse(InternalError())
            listener.log_fault(self, error)
        finally:
            listener.log_request(self)

    def _may_go_on(self) -> bool:
        if self._force_close or self.transport is None:
            return False
        if self._received is None or not self._received[1].is_eof():
            self._linger()
            return False
        return not self._closing and not self._listener.draining

    def _linger(self) -> None:
        # Closing at once would reset the connection under a client that is still sending, and take the answer with it
        # (RFC 9112 §9.6). So: our side ends, what still comes is read and dropped, and after a while it is over.
        self._close = True
        self._phase, self.deadline = ENDING, self._listener.after(LINGER_S)
        transport = self.transport
        if transport is None or transport.is_closing():
            return
        if self._reading_paused or self._buffer_paused:
            transport.resume_reading()
        if transport.can_write_eof():
            transport.write_eof()

    def _hang_up(self) -> None:
        """Close once everything written has left; who does not take it by and by is cut."""
        self._close = True
        self._phase, self.deadline = ENDING, self._listener.after(max(self._listener.limits.keepalive_s, LINGER_S))
        if self.transport is not None:
            self.transport.close()

    # --- the client's side of an exchange ----------------------------------------------------------------------------

    def head(self, answer: Answer) -> None:
        """Send a forwarded answer's head, with as much of its body as there is."""
        self._answered, self.status = True, answer.status
        framing = respond.framing(answer, is_head=self._is_head, http_10=self._http_10)
        self._chunking = framing is respond.CHUNKED
        self._closing |= framing is None or not self.upload.finished
        cors = None if self.route is None or self.route.cors is None else self.cors
        pieces = respond.answer_head(
            answer, request_id=self.request_id, cors=cors, framing=framing or b"", connection=self._connection()
        )
        body = answer.body
        if body:
            pieces.append(b"%x\r\n%b\r\n" % (len(body), body) if self._chunking else body)
        self._write(b"".join(pieces))

    def _connection(self) -> bytes:
        if self._closing or self._listener.draining:
            self._closing = True
            return respond.CLOSE
        return respond.KEEP if self._http_10 else b""

    def body(self, data: bytes) -> None:
        """Send one piece of the body."""
        self._write(b"%x\r\n%b\r\n" % (len(data), data) if self._chunking else data)

    def end(self) -> None:
        """Send the end of the body."""
        if self._chunking:
            self._write(b"0\r\n\r\n")

    def abort(self) -> None:
        """Cut the connection, so that the client sees a truncation."""
        self._closing = self._force_close = True
        if self.transport is not None:
            self.transport.abort()

    def clock(self) -> float:
        """Seconds, for durations."""
        return self._listener.clock()

    def _write(self, data: bytes) -> None:
        # uvloop raises on a closed transport where asyncio is silent.
        if self.transport is not None and not self.transport.is_closing():
            self.bytes_out += len(data)
            self.transport.write(data)

    def answer_preflight(self, fields: bytes) -> None:
        """Send a preflight's 204."""
        self._answered, self.status = True, 204
        connection = self._connection()
        self._write(respond.no_content(request_id=self.request_id, fields=fields, connection=connection))

    def _refuse(self, error: GatewayError) -> None:
        self.code, self.reason = error.code, error.reason or ""
        if self.request_id is NO_ID:
            self.request_id = b"%032x" % self._listener.deps.random_bits(128)
        self._listener.log_fault(self, error)
        if self.inbound is None:
            self._closing = True
            if self._received is not None:  # the page that sent it, if one did, may know why
                deps, message = self._listener.deps, self._received[0]
                seen = deps.fields.read(message.raw_headers).seen
                self.cors = cors_of_unread(deps, message.method, message.path, seen)
        if self._answered:
            return self.abort()  # a second head inside the first one's body would be response splitting
        self._answered, self.status = True, error.status
        self._closing |= not self.upload.finished
        ids, closing = self.request_id, self._connection()
        return self._write(
            respond.refusal(error, request_id=ids, cors=self.cors, connection=closing, is_head=self._is_head)
        )

    def ask_for_body(self) -> None:
        """Send `100 Continue`, unless the answer is already there."""
        if not self._answered:
            self._write(respond.CONTINUE)

    def await_body(self) -> None:
        """Give the client `body_idle_s` for its next bytes."""
        self._phase, self.deadline = UPLOAD, self._listener.after(self._listener.limits.body_idle_s)

    def body_came(self) -> None:
        """Stop that clock."""
        if self._phase is UPLOAD:
            self._phase, self.deadline = BUSY, 0.0
            if self._paused:
                self._stall()

    # --- the gateway's own addresses ---------------------------------------------------------------------------------

    async def serve_own(self) -> None:
        """Let aiohttp's application machinery answer this request (`web/local.py`)."""
        own = self._listener.own
        assert self._received is not None  # the pipeline only knows requests that were read
        message, payload = self._received
        if self._closing or self._listener.draining or not self.upload.finished:
            self._closing, message = True, message._replace(should_close=True)
        task = self._task_handler or asyncio.current_task()
        writer = StreamWriter(self, self._loop)
        request = own.request_factory(message, payload, self, writer, cast("asyncio.Task[None]", task))
        request[REQUEST_ID], request[CORS] = self.request_id.decode("latin-1"), self.cors
        self._answered = True
        response, reset = await self._handle_request(request, None, own.request_handler)
        self.status, self.bytes_out = response.status, cast("web.Response", response).body_length
        self._closing |= reset or not response.keep_alive
        self._note_refusal(request.get(FAULT))

    def _note_refusal(self, error: Exception | None) -> None:
        if isinstance(error, GatewayError):
            self.code, self.reason = error.code, error.reason or ""
        elif error is not None:
            self.code = InternalError.code
            self._listener.log_fault(self, error)
