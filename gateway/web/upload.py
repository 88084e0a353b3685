"""A request's body as an exchange reads it: bounded, timed, `100 Continue` only once somebody wants it."""

from collections.abc import Callable
from typing import Protocol

from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web import RequestPayloadError

from gateway.errors import BadRequest, BodyTooLarge, GatewayError, RequestTimeout


class Patience(Protocol):
    """Whoever limits how long the client may take for its next bytes (`web.connection`)."""

    def await_body(self) -> None:
        """Start waiting for bytes of the body."""

    def body_came(self) -> None:
        """Stop waiting."""


class Upload:
    """See `net.exchange.Upload`."""

    __slots__ = ("_continue", "_fault", "_limit", "_patience", "_payload", "chunked", "framing", "length", "received",
                 "whole")  # fmt: skip

    def __init__(
        self, payload: StreamReader, patience: Patience, *, length: int | None, chunked: bool,
        ask_for_it: Callable[[], None] | None = None,
    ) -> None:  # fmt: skip
        self._payload, self._patience, self._continue = payload, patience, ask_for_it
        self._limit = 0
        self._fault: GatewayError | None = None
        self.length, self.chunked, self.received = length, chunked, 0
        self.whole: bytes | None = None
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

    def admit(self, max_bytes: int) -> None:
        """Take only so many bytes; 0 for any number. Raises BodyTooLarge where the length already tells."""
        self._limit = max_bytes
        known = self.length if self.length is not None else self.received
        if max_bytes and known > max_bytes:
            raise BodyTooLarge

    async def read(self) -> bytes:
        """Give the next piece, b"" at the end."""
        if self._continue is not None:
            ask, self._continue = self._continue, None
            ask()
        self._patience.await_body()
        try:
            data = await self._payload.readany()
        except RequestPayloadError as error:
            raise self._fault or BadRequest("body", detail=str(error)[:200]) from error
        except RuntimeError as error:  # aiohttp's word for a connection that is gone
            raise ConnectionResetError(str(error)) from error
        finally:
            self._patience.body_came()
        self.received += len(data)
        if self._limit and self.received > self._limit:
            raise BodyTooLarge
        return data

    def time_out(self) -> None:
        """Give up waiting for the client."""
        self._fault = RequestTimeout()
        self._payload.set_exception(RequestPayloadError("too slow"))

    def break_off(self, error: BaseException) -> None:
        """Tell whoever reads that there will be no more."""
        if not self._payload.is_eof():
            self._payload.set_exception(error)


class _NobodyWaits:
    def await_body(self) -> None: ...

    def body_came(self) -> None: ...


NO_UPLOAD = Upload(EMPTY_PAYLOAD, _NobodyWaits(), length=None, chunked=False)
