"""A request's body: what frames it, how much of it is taken."""

import asyncio

import pytest
from aiohttp import web
from aiohttp.base_protocol import BaseProtocol
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader

from gateway.errors import BadRequest, BodyTooLarge, RequestTimeout
from gateway.web.upload import REPLAY_BYTES, Upload


class Patience:
    def __init__(self) -> None:
        self.asked, self.waiting = 0, 0

    def ask_for_body(self) -> None:
        self.asked += 1

    def await_body(self) -> None:
        self.waiting += 1

    def body_came(self) -> None:
        self.waiting -= 1


class Connected(asyncio.Transport):
    """As much of a connection as a reader asks for."""


def payload(*pieces: bytes, end: bool = True) -> StreamReader:
    loop = asyncio.get_running_loop()
    protocol = BaseProtocol(loop)
    protocol.connection_made(Connected())
    reader = StreamReader(protocol, 2**16, loop=loop)
    for piece in pieces:
        reader.feed_data(piece)
    if end:
        reader.feed_eof()
    return reader


@pytest.mark.parametrize(
    ("pieces", "end", "length", "chunked", "framing", "whole"),
    [
        pytest.param((b"hello",), True, 5, False, b"\r\nContent-Length: 5", b"hello", id="whole"),
        pytest.param((b"he",), False, 5, False, b"\r\nContent-Length: 5", None, id="to-come"),
        pytest.param((), True, 0, False, b"\r\nContent-Length: 0", b"", id="empty-said-so"),
        pytest.param((b"hello",), True, None, True, b"\r\nContent-Length: 5", b"hello", id="whole-chunked"),
        pytest.param((b"he",), False, None, True, b"\r\nTransfer-Encoding: chunked", None, id="chunked-to-come"),
    ],
)
async def test_the_framing_is_made_anew(
    pieces: tuple[bytes, ...], end: bool, length: int | None, chunked: bool, framing: bytes, whole: bytes | None
) -> None:
    upload = Upload(payload(*pieces, end=end), Patience(), length=length, chunked=chunked)
    assert (upload.framing, upload.whole, upload.finished) == (framing, whole, end)


async def test_no_body_has_no_framing() -> None:
    upload = Upload(EMPTY_PAYLOAD, Patience(), length=None, chunked=False)
    assert (upload.framing, upload.whole, upload.finished) == (b"", b"", True)


async def test_a_length_over_the_limit_is_refused_unread() -> None:
    upload = Upload(payload(end=False), Patience(), length=11, chunked=False)
    upload.admit(11, keep=False)
    upload.admit(0, keep=False)
    with pytest.raises(BodyTooLarge):
        upload.admit(10, keep=False)


async def test_chunks_are_counted_as_they_come() -> None:
    stream, patience = payload(b"12345", end=False), Patience()
    upload = Upload(stream, patience, length=None, chunked=True)
    upload.admit(9, keep=False)
    assert await upload.read() == b"12345"
    stream.feed_data(b"67890")
    with pytest.raises(BodyTooLarge):
        await upload.read()
    assert patience.waiting == 0


async def test_the_body_is_asked_for_once_and_only_when_read() -> None:
    patience = Patience()
    upload = Upload(payload(b"x", end=False), patience, length=2, chunked=False, awaited=True)
    upload.admit(10, keep=False)
    assert patience.asked == 0
    await upload.read()
    assert patience.asked == 1


async def test_what_ends_the_waiting_is_told_apart() -> None:
    slow = Upload(payload(end=False), Patience(), length=2, chunked=False)
    reading = asyncio.ensure_future(slow.read())
    await asyncio.sleep(0)
    slow.time_out()
    with pytest.raises(RequestTimeout):
        await reading
    broken = Upload(payload(end=False), Patience(), length=None, chunked=True)
    broken.break_off(web.RequestPayloadError("unreadable chunk"))
    with pytest.raises(BadRequest):
        await broken.read()
    gone = Upload(payload(end=False), Patience(), length=2, chunked=False)
    gone.break_off(ConnectionResetError("client gone"))
    with pytest.raises(ConnectionError):
        await gone.read()


async def test_a_little_that_was_read_is_kept_for_another_try() -> None:
    upload = Upload(payload(b"he", end=False), Patience(), length=None, chunked=True)
    upload.admit(0, keep=True)
    assert upload.replayable
    assert await upload.read() == b"he"
    assert (upload.kept, upload.replayable) == ([b"he"], True)


@pytest.mark.parametrize(("keep", "size"), [(False, 1), (True, REPLAY_BYTES + 1)], ids=["not-asked-for", "too-much"])
async def test_what_was_not_kept_cannot_be_sent_again(keep: bool, size: int) -> None:
    upload = Upload(payload(b"x" * size, end=False), Patience(), length=None, chunked=True)
    upload.admit(0, keep=keep)
    assert upload.replayable  # nothing was read yet
    await upload.read()
    assert (upload.kept, upload.replayable) == (None, False)


@pytest.mark.parametrize("chunked", [True, False])
async def test_the_end_is_no_piece_to_be_sent_again(chunked: bool) -> None:
    body = payload(b"hello", end=False)
    upload = Upload(body, Patience(), length=None if chunked else 5, chunked=chunked)
    upload.admit(0, keep=True)
    assert await upload.read() == b"hello"
    body.feed_eof()
    assert await upload.read() == b""
    assert upload.kept == [b"hello"]
