"""A client connection: aiohttp's parser and transport handling, our loop over its requests, answers and timers.

One coroutine carries every request of a connection from parsed head to written answer. This is the only file that
touches aiohttp's private names; `tests/web/test_aiohttp_contract.py` names each of them. What is decided stands in
`pipeline`.
"""

import asyncio
import struct
from socket import SO_LINGER, SOL_SOCKET
from typing import TYPE_CHECKING, Any, cast

from aiohttp import web
from aiohttp.http_exceptions import LineTooLong
from aiohttp.http_parser import RawRequestMessage
from aiohttp.http_writer import StreamWriter
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web_protocol import RequestHandler, _ErrInfo
from yarl import URL

from gateway.core.model import Inbound, Peer
from gateway.errors import GatewayError, InternalError, Overloaded, RequestTimeout
from gateway.net.wire import WRITE_HIGH, WRITE_LOW
from gateway.web.local import CORS, FAULT, REQUEST_ID
from gateway.web.pipeline import cors_of_unread, handle
from gateway.web.position import BETWEEN, INSIDE, Position
from gateway.web.read import HTTP_11, LastHead, judged, read_inbound, read_peer, unreadable
from gateway.web.upload import upload_of
from gateway.web.visit import Visit

if TYPE_CHECKING:
    from gateway.web.listener import Listener

LINGER_S = 1.5
NEW, IDLE, HEAD, BUSY, UPLOAD, STALLED, ENDING = "new", "idle", "head", "busy", "upload", "stalled", "ending"
CLIENT_GONE = 499  # nobody receives it; the access log's usual word for a client that left
REMEMBERED_HEAD = 4096  # bytes: a larger one is not worth the memory of all who may be waiting

Message = RawRequestMessage | _ErrInfo | Inbound  # as parsed, as refused by the parser, as read already

receive = RequestHandler.data_received


class Connection(RequestHandler):
    """A client connection: one request after the other, each a `Visit`."""

    __slots__ = (
        "_head", "_head_bytes", "_last", "_phase", "_position", "_rules", "closing", "deadline", "listener", "peer",
        "spare", "visit",
    )  # fmt: skip

    def __init__(self, listener: "Listener", **settings: Any) -> None:
        super().__init__(listener, **settings)
        self.listener = listener
        self.peer = Peer("", trusted=False, scheme="http", port=0)
        self._phase, self.deadline = NEW, 0.0
        self.closing = False  # once this request is answered
        self.spare = False  # no place for it, but for a question how the gateway is (`Listener.opened`)
        self._position = Position()
        self._head_bytes = 0  # of a head that did not come in one piece
        self.visit: Visit | None = None
        self._last: LastHead | None = None
        self._head = b""  # of the message that waits, if it came whole and alone

    # --- what the event loop calls -----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:  # noqa: D102
        listener = self.listener
        stream = cast("asyncio.Transport", transport)
        stream.set_write_buffer_limits(WRITE_HIGH, WRITE_LOW)
        self._rules, self.peer = listener.deps.fields, read_peer(stream, listener.port, listener.deps.trusted_proxies)
        is_welcome = listener.opened(self, self.peer.address)
        # Python 3.12 runs `start()` within this call, so everything it needs is set before.
        super().connection_made(transport)
        if not is_welcome:
            self._turn_away(Overloaded())

    def data_received(self, data: bytes) -> None:  # noqa: D102
        phase = self._phase
        if not data:  # aiohttp goes on with what it has
            return receive(self, data)
        if phase is not IDLE and phase is not NEW:
            return self._further(data)
        self._phase = HEAD
        if phase is IDLE and self._is_repeated(data):
            return None
        receive(self, data)
        self._head = self._position.began(data, self._messages)
        if not self._messages:
            self._head_bytes = len(data)
            if phase is IDLE:
                # Not moved on by further bytes: a head that trickles in has `header_read_s` in all.
                self.deadline = self.listener.after(self.listener.limits.header_read_s)
        return None

    def _is_repeated(self, data: bytes) -> bool:
        """Take a request that differs from the last one in its target alone; the parser, between two, is not asked."""
        last, listener, waiter = self._last, self.listener, self._waiter
        if last is None or waiter is None or self._position.place is not BETWEEN:
            return False
        inbound = last.again(data, header_bytes=listener.limits.header_bytes)
        if inbound is None:
            return False
        self._messages.append(cast("Any", (inbound, EMPTY_PAYLOAD)))
        if not waiter.done():
            waiter.set_result(None)
        return True

    def _further(self, data: bytes) -> None:
        """Take bytes that are not the beginning of a request on a waiting connection."""
        if self._close:
            return
        in_body, queued = self._in_body(), len(self._messages)
        receive(self, data)
        grew = len(self._messages) > queued
        self._position.went_on(data, self._messages, grew=grew, in_body=in_body)
        if in_body:
            self._break_off_upload()
        elif grew:
            self._head_bytes = 0
        else:
            self._head_bytes += len(data)
            if self._head_bytes > self.listener.limits.header_bytes and not self._upgraded:
                self._refuse_endless_head()

    def _in_body(self) -> bool:
        """Say whether what comes now belongs to the body of the last request, taken up or still waiting."""
        if self._messages:
            return not self._messages[-1][1].is_eof()
        return self.visit is not None and not self.visit.upload.finished

    def _break_off_upload(self) -> None:
        # A chunk that cannot be read never reaches whoever reads the body, who would wait for ever. It is the only
        # message that can stand behind a body without an end.
        if self.visit is not None and self._messages and isinstance(self._messages[0][0], _ErrInfo):
            self.visit.upload.break_off(web.RequestPayloadError("unreadable chunk"))

    def _refuse_endless_head(self) -> None:
        # aiohttp bounds each line and their number: 128 lines of 32 KiB would be 4 MiB held for a head.
        self._close = True
        endless = _ErrInfo(status=431, exc=LineTooLong(b"", self._head_bytes), message="")
        self._messages.append((endless, EMPTY_PAYLOAD))
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def connection_lost(self, exc: BaseException | None) -> None:  # noqa: D102
        task = self._task_handler
        self.listener.closed(self, self.peer.address)
        super().connection_lost(exc)  # forgets the task
        if task is not None:
            task.cancel()

    def pause_writing(self) -> None:  # noqa: D102
        super().pause_writing()
        if self._phase is not UPLOAD:  # whose own clock goes on
            self._stall()
        if self.visit is not None and self.visit.wire is not None:
            self.visit.wire.hold()

    def _stall(self) -> None:
        route = self.visit.route if self.visit is not None else None
        patience_s = route.idle_s if route is not None else self.listener.limits.keepalive_s
        self._phase, self.deadline = STALLED, self.listener.after(patience_s)

    def resume_writing(self) -> None:  # noqa: D102
        super().resume_writing()
        if self._phase is STALLED:
            self._phase, self.deadline = BUSY, 0.0
        if self.visit is not None and self.visit.wire is not None:
            self.visit.wire.unhold()

    def expire(self) -> None:
        """Act on the deadline that passed (`net.deadlines`); never answers while the coroutine may be answering."""
        if self._phase is UPLOAD and self.visit is not None:
            self.visit.upload.time_out()
        elif self._phase is not HEAD:
            self.abort()
        elif not self._messages:  # else it came in this very moment
            self._turn_away(RequestTimeout())

    def _turn_away(self, error: GatewayError) -> None:
        """Refuse a client that has not sent a request."""
        visit = Visit(self)
        self.closing = True
        visit.refuse(error)
        self.listener.log_request(visit)
        self._linger()

    @property
    def is_idle(self) -> bool:
        """Whether it waits for its next request."""
        return self._phase is IDLE

    def drain(self) -> None:
        """Finish what runs and take nothing more."""
        self.closing = True
        if self._phase in (IDLE, NEW):
            self._hang_up()

    # --- the loop over requests --------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Serve the connection's requests in order. Overrides aiohttp's loop, which costs a Task per request."""
        messages = self._messages
        try:
            while not self._force_close:
                if not messages:
                    self._waiter = self._loop.create_future()
                    try:
                        await self._waiter
                    finally:
                        self._waiter = None
                # No name here holds on to a large message while the connection waits for its next one.
                if not await self._serve(*messages.popleft()):
                    break
                if not messages:
                    self._await_next()
        except (asyncio.CancelledError, ConnectionError):
            # The client left or the connection was closed under us: `connection_lost`, `abort`.
            self.force_close()
        finally:
            if self._phase is not ENDING:
                self._hang_up()

    def _await_next(self) -> None:
        limits, more = self.listener.limits, self._position.place is INSIDE
        self._phase = HEAD if more else IDLE
        self.deadline = self.listener.after(limits.header_read_s if more else limits.keepalive_s)

    async def _serve(self, message: Message, payload: StreamReader) -> bool:
        """Answer one request; say whether another one may follow."""
        self._consumed()
        self._phase, self.deadline = BUSY, 0.0
        listener = self.listener
        visit = self.visit = Visit(self)
        visit.spare = self.spare
        try:
            await handle(visit.deps, visit, self._read(visit, message, payload))
        except GatewayError as error:
            self._refuse(visit, error, message)
        except asyncio.CancelledError:
            visit.status = visit.status or CLIENT_GONE
            raise
        except Exception as error:  # the one catch-all: whatever is wrong, the client is answered
            visit.refuse(InternalError())
            listener.log_fault(visit, error)
        finally:
            if visit.stream is not None:
                listener.streams.close(visit.stream)
            listener.log_request(visit)
        if self._paused:
            await self._drain_helper()  # a client that asks and never reads would fill our memory
        self.visit = None
        return self._may_go_on(message, payload)

    def _consumed(self) -> None:
        """Tell the parser that a message was taken; it stops reading while too many wait."""
        if self._parser is not None:
            self._parser.message_consumed()
        if self._buffer_paused and len(self._messages) <= self._msg_queue_resume_size:
            self._resume_reading_if_drained()

    def _read(self, visit: Visit, message: Message, payload: StreamReader) -> Inbound:
        rules = visit.deps.fields
        if isinstance(message, Inbound):
            visit.inbound = message
            if self._rules is rules:
                return message
            message, payload = self.as_parsed(visit)
        if self._rules is not rules:
            # A reload since the last request: nothing that was remembered of it may count (`web.generation`).
            self._last, self._rules, self.peer = None, rules, judged(self.peer, visit.deps.trusted_proxies)
        if isinstance(message, _ErrInfo):
            raise unreadable(message.exc)
        head, self._head = self._head, b""  # what comes while this request is served is another one's
        visit.http_10 = message.version < HTTP_11
        visit.is_head = message.method == "HEAD"
        # Behind an upgrade that is refused may stand bytes meant for another protocol: never read them as HTTP.
        # Behind chunks aiohttp's parser puts their last trailer into the head of the next request.
        if message.should_close or message.upgrade or message.chunked:
            self.closing = True
        limit = self.listener.limits.header_bytes
        inbound = read_inbound(message, self.peer, rules, header_bytes=limit, size=len(head))
        visit.inbound, visit.received = inbound, (message, payload)
        if payload is not EMPTY_PAYLOAD or "content-length" in inbound.header.seen:
            visit.upload = upload_of(inbound, message, payload, visit)
            if not visit.upload.finished:
                self._break_off_upload()
        elif 0 < len(head) <= REMEMBERED_HEAD and message.path[0] == "/" and not (self.closing or visit.http_10):
            self._last = LastHead(message, inbound.header, head)
        return inbound

    def _refuse(self, visit: Visit, error: GatewayError, message: Message) -> None:
        cors = None
        if visit.inbound is None:
            self.closing = True
            if isinstance(message, RawRequestMessage):  # the page that sent it, if one did, may know why
                deps = visit.deps
                seen = deps.fields.read(message.raw_headers).seen
                cors = cors_of_unread(deps, message.method, message.path, seen)
        visit.refuse(error, cors=cors)
        self.listener.log_fault(visit, error)

    def _may_go_on(self, message: Message, payload: StreamReader) -> bool:
        if self._force_close or self.transport is None:
            return False
        if isinstance(message, _ErrInfo) or not payload.is_eof() or (self._message_tail and not self._messages):
            self._linger()
            return False
        return not self.closing and not self.listener.draining

    def _linger(self) -> None:
        # Closing at once would reset the connection under a client that is still sending, and take the answer with it
        # (RFC 9112 §9.6). So: our side ends, what still comes is read and dropped, and after a while it is over.
        self._close = True
        self._phase, self.deadline = ENDING, self.listener.after(LINGER_S)
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
        self._phase, self.deadline = ENDING, self.listener.after(max(self.listener.limits.keepalive_s, LINGER_S))
        if self.transport is not None:
            self.transport.close()

    # --- what a visit asks of its connection -------------------------------------------------------------------------

    def abort(self) -> None:
        """Cut the connection, so that the client sees a truncation."""
        self.closing = self._force_close = True
        if self.transport is None:
            return
        socket = self.transport.get_extra_info("socket")
        if socket is not None and self.visit is not None and self.visit.answered:
            # Where only the connection's end ends a body, a plain end would look like it.
            socket.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def hand_over(self, protocol: asyncio.Protocol) -> bytes:
        """Let another protocol have the transport; give what came behind the head of the upgrade."""
        assert self.transport is not None
        self.transport.set_protocol(protocol)
        early, self._message_tail = self._message_tail, b""
        return early

    def await_body(self) -> None:
        """Give the client `body_idle_s` for its next bytes."""
        self._phase, self.deadline = UPLOAD, self.listener.after(self.listener.limits.body_idle_s)

    def body_came(self) -> None:
        """Stop that clock."""
        if self._phase is UPLOAD:
            self._phase, self.deadline = BUSY, 0.0
            if self._paused:
                self._stall()

    async def serve_own(self, visit: Visit) -> None:
        """Let aiohttp's application machinery answer this request (`web/local.py`)."""
        own = self.listener.own
        message, payload = self.as_parsed(visit)
        if visit.upload.whole:  # it was taken out of the reader that the parser had filled
            payload = StreamReader(self, len(visit.upload.whole), loop=self._loop)
            payload.feed_data(visit.upload.whole)
            payload.feed_eof()
        if self.closing or self.listener.draining or not visit.upload.finished:
            self.closing, message = True, message._replace(should_close=True)
        task = self._task_handler or asyncio.current_task()
        writer = StreamWriter(self, self._loop)
        request = own.request_factory(message, payload, self, writer, cast("asyncio.Task[None]", task))
        request[REQUEST_ID], request[CORS] = visit.request_id.decode("latin-1"), visit.cors()
        visit.answered = True
        response, reset = await self._handle_request(request, None, own.request_handler)
        visit.status, visit.bytes_out = response.status, cast("web.Response", response).body_length
        if reset or not response.keep_alive:
            self.closing = True
        self._note_refusal(visit, request.get(FAULT))

    def as_parsed(self, visit: Visit) -> tuple[RawRequestMessage, StreamReader]:
        """Give the request as the parser gave it, or would have."""
        if visit.received is not None:
            return visit.received
        inbound, last = visit.inbound, self._last
        assert inbound is not None
        assert last is not None
        target = inbound.target.decode()
        url = URL.build(path=inbound.path, query_string=target.partition("?")[2], encoded=True)
        return last.message._replace(method=inbound.method, path=target, url=url), EMPTY_PAYLOAD

    def _note_refusal(self, visit: Visit, error: Exception | None) -> None:
        if isinstance(error, GatewayError):
            visit.code, visit.reason = error.code, error.reason or ""
        elif error is not None:
            visit.code = InternalError.code
            self.listener.log_fault(visit, error)
