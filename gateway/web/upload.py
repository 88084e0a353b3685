"""A request's body as an exchange reads it: bounded, timed, `100 Continue` only once somebody wants it."""

from typing import Protocol

from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web import RequestPayloadError

from gateway.core.model import Inbound
from gateway.errors import BadRequest, BodyTooLarge, GatewayError, RequestTimeout

REPLAY_BYTES = 65_536  # of a body in pieces, for the case that an endpoint fails before it answers


class Patience(Protocol):
    """Whoever limits how long the client may take for its next bytes (`web.connection`)."""

    def ask_for_body(self) -> None:
        """Send `100 Continue`."""

    def await_body(self) -> None:
        """Start waiting for bytes of the body."""

    def body_came(self) -> None:
        """Stop waiting."""


class Upload:
    """See `net.exchange.Upload`."""

    __slots__ = ("_awaited", "_fault", "_limit", "_patience", "_payload", "chunked", "framing", "kept", "length",
                 "received", "whole")  # fmt: skip

    def __init__(
        self, payload: StreamReader, patience: Patience, *, length: int | None, chunked: bool, awaited: bool = False
    ) -> None:
        self._payload, self._patience, self._awaited = payload, patience, awaited
        self._limit = 0
        self._fault: GatewayError | None = None
        self.length, self.chunked, self.received = length, chunked, 0
        self.whole: bytes | None = None
        self.kept: list[bytes] | None = None
        if payload is EMPTY_PAYLOAD or length == 0:
            self.whole = b""
        elif payload.is_eof() and payload.exception() is None:
            self.whole = payload.read_nowait()  # the whole body came with the head
            self.received = len(self.whole)
        self.framing = self._framing()

    def _framing(self) -> bytes:
        if self.length is not None:
            return b"\r\nContent-Length: %d" % self.length
        if not self.chunked:
            return b""
        if self.whole is not None:
            return b"\r\nContent-Length: %d" % len(self.whole)
        return b"\r\nTransfer-Encoding: chunked"

    @property
    def finished(self) -> bool:
        """Whether the client has sent all of it."""
        return self.whole is not None or (self._payload.is_eof() and self._payload.exception() is None)

    @property
    def replayable(self) -> bool:
        """Whether all that was read of it can be sent once more."""
        return self.whole is not None or self.kept is not None or not self.received

    def admit(self, max_bytes: int, *, keep: bool) -> None:
        """Take only so many bytes; 0 for any number. Raises BodyTooLarge where the length already tells.

        `keep` what is read for another try, up to `REPLAY_BYTES`.
        """
        self._limit, self.kept = max_bytes, [] if keep and self.whole is None else None
        known = self.length if self.length is not None else self.received
        if max_bytes and known > max_bytes:
            raise BodyTooLarge

    async def read(self) -> bytes:
        """Give the next piece, b"" at the end."""
        if self._awaited:
            self._awaited = False
            self._patience.ask_for_body()
        self._patience.await_body()
        try:
            # `readany` would join the pieces that wait, which is one more copy; of tiny chunks it makes few large ones.
            data = await self._payload.readany() if self.chunked else (await self._payload.readchunk())[0]
        except RequestPayloadError as error:
            raise self._fault or BadRequest("body", detail=str(error)[:200]) from error
        except RuntimeError as error:  # aiohttp's word for a connection that is gone
            raise ConnectionResetError(str(error)) from error
        finally:
            self._patience.body_came()
        self.received += len(data)
        if self._limit and self.received > self._limit:
            raise BodyTooLarge
        if data and self.kept is not None:  # the empty piece would be a chunk that ends the body, sent a second time
            self._keep(data)
        return data

    def _keep(self, data: bytes) -> None:
        if self.kept is not None and self.received <= REPLAY_BYTES:
            self.kept.append(data)
        else:
            self.kept = None

    def time_out(self) -> None:
        """Give up waiting for the client."""
        self._fault = RequestTimeout()
        self._payload.set_exception(RequestPayloadError("too slow"))

    def break_off(self, error: ConnectionError | RequestPayloadError) -> None:
        """Tell whoever reads that there will be no more."""
        if not self._payload.is_eof():
            self._payload.set_exception(error)


class _NobodyWaits:
    def ask_for_body(self) -> None: ...

    def await_body(self) -> None: ...

    def body_came(self) -> None: ...


NOBODY_WAITS = _NobodyWaits()
NO_UPLOAD = Upload(EMPTY_PAYLOAD, NOBODY_WAITS, length=None, chunked=False)


def upload_of(inbound: Inbound, message: RawRequestMessage, payload: StreamReader, patience: Patience) -> Upload:
    """Give the request's body; most have none."""
    length = inbound.header.seen.get("content-length")
    if payload is EMPTY_PAYLOAD and length is None:
        return NO_UPLOAD
    # RFC 9110 §10.1.1: an HTTP/1.0 client does not know `100 Continue`.
    awaited = "expect" in inbound.header.seen and message.version >= (1, 1)
    return Upload(
        payload, patience, length=int(length) if length else None, chunked=bool(message.chunked), awaited=awaited
    )
