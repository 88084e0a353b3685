"""An upstream that writes down what it received before it answers: `python -m tests.bench.ledger PORT FILE WAIT_S`.

What stands in the file was sent to it, whatever became of the answer: it is there after a SIGKILL too. Each target is
expected to be a request of its own.
"""

import asyncio
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from zlib import crc32

import uvloop

LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
HEALTH = b"/healthz"
UNWRITTEN = {HEALTH, b"/readyz"}  # `Process` asks for the latter


def reply(target: bytes, body: bytes) -> bytes:
    """Say what only this request can be told."""
    return b"%b %08x" % (target, crc32(body))


def received(path: Path) -> list[bytes]:
    """Read the targets that were written down, in the order in which they came."""
    return path.read_bytes().splitlines() if path.exists() else []


class Ledger(asyncio.Protocol):
    """One connection, one request after the other."""

    def __init__(self, file: int, wait_s: float) -> None:
        self._file, self._wait_s = file, wait_s
        self._got = b""
        self._loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._got += data
        head, end, body = self._got.partition(b"\r\n\r\n")
        length = LENGTH.search(head)
        if end and len(body) >= (int(length[1]) if length else 0):
            self._got = b""
            self._received(head.split(b" ", 2)[1], body)

    def _received(self, target: bytes, body: bytes) -> None:
        if target in UNWRITTEN:
            return self._answer(b"ok")
        os.write(self._file, target + b"\n")
        self._loop.call_later(self._wait_s, self._answer, reply(target, body))
        return None

    def _answer(self, body: bytes) -> None:
        if not self._transport.is_closing():
            write: Callable[[bytes], None] = self._transport.write  # type: ignore[attr-defined]
            write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))


async def serve(port: int, path: Path, wait_s: float) -> None:
    """Listen until killed."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Ledger(file, wait_s), "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])))
