"""An upstream of many moods: a path's second part says how a request is answered. `python -m tests.bench.moody PORT`.

`soak` starts two of them, kills them, stops them and starts them anew.
"""

import asyncio
import re
import socket
import struct
import sys
from collections.abc import Awaitable, Callable

import uvloop

BIG_BYTES = 8 << 20
PIECE = bytes(65_536)
FOR_EVER = 3600.0
LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
USER = re.compile(rb"(?i)\r\nx-user-id: *(\S+)")

Mood = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]  # it ends by ending the connection


def answer(body: bytes) -> bytes:
    """Write a whole answer."""
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


def reset(writer: asyncio.StreamWriter) -> None:
    """End a connection without any manners."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def _never(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(FOR_EVER)


async def _stall(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + bytes(20_000))
    await asyncio.sleep(FOR_EVER)


async def _reset_head(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-")
    await writer.drain()
    reset(writer)


async def _reset_body(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
    await asyncio.sleep(0.02)
    reset(writer)


async def _close(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(answer(b"closed in a moment"))
    await asyncio.sleep(0.005)  # it is kept by then, perhaps taken for the next request


async def _unread(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    await asyncio.sleep(FOR_EVER)


def _says(data: bytes) -> Mood:
    async def say(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()

    return say


ENDING: dict[bytes, Mood] = {
    b"never": _never, b"stall": _stall, b"unread": _unread, b"close": _close,
    b"reset-head": _reset_head, b"reset-body": _reset_body,
    b"half-head": _says(b"HTTP/1.1 200 OK\r\nContent-"),
    b"half-body": _says(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + bytes(500)),
    b"half-chunk": _says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\n" + bytes(500)),
    b"garbage": _says(bytes(range(256)) * 40),
    b"surplus": _says(answer(b"one") + answer(b"and one that nobody asked for")),
    b"endless": _says(b"HTTP/1.1 200 OK\r\n" + b"X-Field: %b\r\n" % bytes(b"x" * 4000) * 100 + b"\r\n"),
    b"early": _says(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno"),
    b"interim": _says(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 20 + answer(b"at last")),
    b"until-close": _says(b"HTTP/1.1 200 OK\r\n\r\n" + bytes(200_000)),
}  # fmt: skip
BEFORE_THE_BODY = {b"early", b"unread", b"reset-head"}


async def _take_body(reader: asyncio.StreamReader, head: bytes) -> int:
    if found := LENGTH.search(head):
        left = taken = int(found[1])
        while left:
            data = await reader.read(min(left, 262_144))
            if not data:
                raise ConnectionError
            left -= len(data)
        return taken
    if b"chunked" not in head:
        return 0
    taken = 0
    while size := int(await reader.readuntil(b"\r\n"), 16):
        await reader.readexactly(size + 2)
        taken += size
    await reader.readexactly(2)
    return taken


async def _small(writer: asyncio.StreamWriter, head: bytes, taken: int) -> None:
    # Who asked, for what, with how much: so that whoever gets it knows whether it is his.
    user, target = USER.search(head), head.split(b" ", 2)[1]
    writer.write(answer(b"%b %b %d" % (user[1] if user else b"-", target, taken)))


async def _big(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % BIG_BYTES)
    for _ in range(BIG_BYTES // len(PIECE)):
        writer.write(PIECE)
        await writer.drain()


async def _chunks(writer: asyncio.StreamWriter, pieces: int, piece: bytes, wait_s: float = 0.0) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(pieces):
        writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        await writer.drain()
        if wait_s:
            await asyncio.sleep(wait_s)
    writer.write(b"0\r\n\r\n")


async def exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """Answer one request; say whether there may be another one."""
    head = await reader.readuntil(b"\r\n\r\n")
    parts = head.split(b" ", 2)[1].split(b"/")
    mood = parts[2] if len(parts) > 2 else b""
    taken = 0 if mood in BEFORE_THE_BODY else await _take_body(reader, head)
    if mood in ENDING:
        await ENDING[mood](reader, writer)
        return False
    if mood == b"big":
        await _big(writer)
    elif mood == b"chunks":
        await _chunks(writer, BIG_BYTES // len(PIECE), PIECE)
    elif mood == b"slow":
        await _chunks(writer, 10, b"slow", 0.2)
    else:
        await _small(writer, head, taken)
    await writer.drain()
    return True


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Carry one connection."""
    try:
        while await exchange(reader, writer):
            pass
    except (OSError, EOFError, asyncio.LimitOverrunError):
        pass
    finally:
        writer.close()


async def main(port: int) -> None:
    """Listen until killed."""
    server = await asyncio.start_server(serve, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
