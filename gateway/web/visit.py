"""One request of a client connection: what the stages find out about it, and the client's side of its exchange."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import StreamReader

from gateway.core.cors import answer_fields
from gateway.core.frontend_api import FrontendApiProxy, relocate
from gateway.core.model import Credential, Identified, Inbound, Principal
from gateway.core.routing import Route
from gateway.errors import Draining, GatewayError
from gateway.net.exchange import Answer
from gateway.net.wire import Wire
from gateway.web import respond
from gateway.web.frontend_api import as_clerk_says
from gateway.web.sockets import carry
from gateway.web.streams import Ending, Stream
from gateway.web.upload import NO_UPLOAD, Upload

if TYPE_CHECKING:
    from gateway.web.connection import Connection

NO_ID = b"-"


class Visit:
    """The `pipeline.Visitor`. What has not been found out has its default here, so that making one costs little."""

    inbound: Inbound | None = None
    route: Route | None = None
    proxy: FrontendApiProxy | None = None  # it goes to Clerk
    identified: Identified | None = None
    upload: Upload = NO_UPLOAD
    wire: Wire | None = None
    request_id: bytes = NO_ID
    endpoint: str = ""
    code: str = ""
    reason: str = ""
    status: int = 0
    bytes_out: int = 0
    upstream_s: float = 0.0
    is_head: bool = False
    http_10: bool = False
    received: tuple[RawRequestMessage, StreamReader] | None = None  # as parsed, for aiohttp's application machinery
    spare: bool = False  # its connection has a spare place only
    stream: Stream | None = None  # while its answer's body is on its way
    answered: bool = False  # a final head has left, or the application machinery has begun one
    added: bytes = b""  # fields that the answer carries beside its own: cookies that Clerk has exchanged
    changed: Inbound | None = None  # what goes on instead of `inbound`, for the same reason
    _chunking: bool = False

    def __init__(self, connection: "Connection") -> None:
        self._connection = connection
        self.deps = connection.listener.deps  # of the configuration it began under, whatever comes meanwhile
        self.clock = connection.listener.clock  # seconds, for durations
        self.began = self.clock()

    @property
    def address(self) -> str:
        """The peer's IP address."""
        return self._connection.peer.address

    @property
    def raw_fields(self) -> Sequence[tuple[bytes, bytes]]:
        """The client's header as it was received."""
        return self._connection.as_parsed(self)[0].raw_headers

    @property
    def principal(self) -> Principal | None:
        """Who is calling, None for nobody."""
        return self.identified.principal if self.identified is not None else None

    def cors(self) -> bytes:
        """Give the CORS fields of this request's answer: its route's, or those of answers without one."""
        if self.inbound is None:
            return b""
        policy = self.deps.cors if self.route is None else self.route.cors
        return answer_fields(policy, self.inbound.header.seen.get("origin"))

    def forwarded_cors(self) -> bytes | None:
        """Give the CORS fields of a forwarded answer; None where the route has no CORS and the upstream's own stays."""
        return None if self.route is None or self.route.cors is None else self.cors()

    # --- the answer --------------------------------------------------------------------------------------------------

    def head(self, answer: Answer, body: bytes) -> None:
        """Send a forwarded answer's head, with as much of its body as there is."""
        connection = self._connection
        self.answered, self.status = True, answer.status
        if self.proxy is not None and self.inbound is not None:
            relocate(answer.head, self.inbound.target, self.proxy)
        framing = respond.framing(answer, len(body), is_head=self.is_head, http_10=self.http_10)
        if framing is respond.CHUNKED:
            self._chunking = True
            if body:
                body = b"%x\r\n%b\r\n" % (len(body), body)
        if framing is None or (self.upload.whole is None and not self.upload.finished):
            connection.closing = True
        line = self._connection_line()
        if self.added:
            respond.private(answer)
            line += self.added
        self._write(respond.forwarded(answer, body, self.request_id, self.forwarded_cors(), framing or b"", line))
        if not answer.complete:
            assert self.route is not None
            self.stream = connection.listener.streams.open(self, self.principal, max_age_s=self.route.stream_max_age_s)

    def _connection_line(self) -> bytes:
        connection = self._connection
        if connection.closing or connection.listener.draining:
            connection.closing = True
            return respond.CLOSE
        return respond.KEEP if self.http_10 else b""

    def body(self, data: bytes) -> None:
        """Send one piece of the body."""
        self._write(b"%x\r\n%b\r\n" % (len(data), data) if self._chunking else data)

    def end(self) -> None:
        """Send the end of the body."""
        if self._chunking:
            self._write(b"0\r\n\r\n")

    def answer_preflight(self, fields: bytes) -> None:
        """Send a preflight's 204."""
        self.answered, self.status = True, 204
        self._write(respond.no_content(request_id=self.request_id, fields=fields, connection=self._connection_line()))

    def refuse(self, error: GatewayError, *, cors: bytes | None = None) -> None:
        """Send the gateway's own no. Behind a head there is no place for another one: the connection is cut."""
        self.code, self.reason = self.code or error.code, self.reason or error.reason or ""
        if self.answered:
            return self._connection.abort()  # a second head inside the first one's body would be response splitting
        self.answered, self.status = True, error.status
        if self.request_id is NO_ID:
            self.request_id = b"%032x" % self.deps.random_bits(128)
        if not self.upload.finished:
            self._connection.closing = True
        fields = self.cors() if cors is None else cors
        more = as_clerk_says(error) if self.proxy is not None else {}
        line = self._connection_line() + self.added
        return self._write(
            respond.refusal(
                error, request_id=self.request_id, cors=fields, connection=line, is_head=self.is_head, more=more
            )
        )

    def _write(self, data: bytes) -> None:
        # uvloop raises on a closed transport where asyncio is silent.
        transport = self._connection.transport
        if transport is not None and not transport.is_closing():
            self.bytes_out += len(data)
            transport.write(data)

    # --- its end before its time (`streams.Carried`) ------------------------------------------------------------------

    @property
    def endless(self) -> bool:
        """Whether the answer is an event stream that was asked for by GET, which may be asked for again."""
        wire, inbound = self.wire, self.inbound
        if wire is None or inbound is None or inbound.method != "GET":
            return False
        return respond.is_event_stream(wire)

    @property
    def presented(self) -> tuple[bytes, Route] | None:
        """The token in `Authorization`, and the route."""
        found = self.inbound.header.credential if self.inbound is not None else None
        return (found.token, self.route) if isinstance(found, Credential) and self.route is not None else None

    def break_off(self, ending: Ending) -> None:
        """Cut the client's connection, and with it what the upstream is still sending."""
        self.note(ending)
        self._connection.abort()

    cut = break_off

    def note(self, ending: Ending) -> None:
        """Keep for the access line why it was ended; the first reason counts."""
        if not self.code:
            self.code, self.reason = ending.code, ending.reason

    async def serve_own(self) -> None:
        """Let the gateway's own application answer."""
        await self._connection.serve_own(self)

    # --- the other protocol ------------------------------------------------------------------------------------------

    def check_upgrade(self) -> None:
        """Raise Draining where no new upgrade is taken."""
        if self._connection.listener.draining:
            raise Draining

    async def switch(self, wire: Wire) -> None:
        """Pass on the 101 that has come, then bytes both ways until it is over."""
        await carry(self, self._connection, wire)

    # --- the request's body (`upload.Patience`) ----------------------------------------------------------------------

    def ask_for_body(self) -> None:
        """Send `100 Continue`, unless the answer is already there."""
        if not self.answered:
            self._write(respond.CONTINUE)

    def await_body(self) -> None:
        """Give the client `body_idle_s` for its next bytes."""
        self._connection.await_body()

    def body_came(self) -> None:
        """Stop that clock."""
        self._connection.body_came()
