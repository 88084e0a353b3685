"""Clients that do not behave, each in its own way. The gateway has to end every one of them in time."""

import asyncio
import os
import random
from asyncio import StreamReader as Reader
from asyncio import StreamWriter as Writer
from collections.abc import Awaitable, Callable
from contextlib import suppress

from tests.bench.crowd import GONE, PATIENCE_S, PIECE, Crowd
from tests.bench.moody import BIG_BYTES, reset

Way = Callable[[Crowd, Reader, Writer], Awaitable[None]]
DEAF = "never reads"
SMALL_BUFFER = 4096  # of the kernel's for what a deaf client is sent
TOO_MUCH = b"10000\r\n%b\r\n" % PIECE * 200  # more than body_bytes


async def misbehave(crowd: Crowd) -> None:
    """Be one bad client after the other."""
    while True:
        name, way = random.choice(list(WAYS.items()))
        how = "ended"
        try:
            async with crowd.connected(receive_bytes=SMALL_BUFFER if name == DEAF else 0) as (reader, writer):
                async with asyncio.timeout(PATIENCE_S):
                    await way(crowd, reader, writer)
        except TimeoutError:
            crowd.fault(f"{name}: the gateway has not ended it after {PATIENCE_S:g} s")
        except GONE:
            how = "cut"
        crowd.bad[f"{name}, {how}"] += 1


def _end(reader: Reader) -> "asyncio.Task[bytes]":
    """Read until the gateway ends it, beside whatever is sent."""
    ended = asyncio.create_task(reader.read())
    ended.add_done_callback(lambda task: task.cancelled() or task.exception())  # it may end in a reset
    return ended


async def _slow_head(crowd: Crowd, reader: Reader, writer: Writer) -> None:
    ended = _end(reader)
    for byte in crowd.good_head():
        writer.write(bytes((byte,)))
        await asyncio.sleep(0.1)
        if ended.done():
            break
    await ended


async def _slow_body(crowd: Crowd, reader: Reader, writer: Writer) -> None:
    writer.write(crowd.good_head(method="POST", Content_Length="5000") + b"\r\n\r\n")
    for _ in range(random.randint(0, 3)):
        writer.write(b"x")
        await asyncio.sleep(0.5)
    await reader.read()


async def _silent(_crowd: Crowd, reader: Reader, _writer: Writer) -> None:
    await reader.read()


async def _garbage(_crowd: Crowd, reader: Reader, writer: Writer) -> None:
    writer.write(os.urandom(random.choice((10, 1000, 100_000))) + b"\r\n\r\n")
    await reader.read()


async def _half_closed(crowd: Crowd, reader: Reader, writer: Writer) -> None:
    head = crowd.good_head(method="POST", Content_Length="5000") + b"\r\n\r\n"
    writer.write(random.choice((head[:50], head, head + bytes(2500), head + bytes(5000))))
    writer.write_eof()
    await reader.read()


async def _gone_up(crowd: Crowd, _reader: Reader, writer: Writer) -> None:
    route = random.choice(("good", "moody"))
    writer.write(crowd.good_head(f"/{route}/ok/up", "POST", Content_Length=str(BIG_BYTES)) + b"\r\n\r\n")
    await crowd.upload(writer, random.choice((1000, 500_000, 4_000_000)), chunked=False)
    if random.random() < 0.5:
        reset(writer)


async def _gone_down(crowd: Crowd, reader: Reader, writer: Writer) -> None:
    writer.write(crowd.good_head(random.choice(("/good/big/x", "/good/slow/x", "/moody/never/x"))) + b"\r\n\r\n")
    with suppress(TimeoutError):
        async with asyncio.timeout(1):
            await reader.readexactly(300_000)
    if random.random() < 0.5:
        reset(writer)


async def _never_reads(crowd: Crowd, reader: Reader, writer: Writer) -> None:
    writer.write((crowd.good_head("/good/big/x") + b"\r\n\r\n") * random.choice((1, 20)))
    await asyncio.sleep(8)
    while await reader.read(1 << 20):
        pass


async def _endless_head(crowd: Crowd, reader: Reader, writer: Writer) -> None:
    ended = _end(reader)
    writer.write(crowd.good_head() + b"\r\n")
    while not ended.done():
        writer.write(b"X-%d: %b\r\n" % (random.getrandbits(30), b"x" * 7000))
        await writer.drain()
        await asyncio.sleep(0.01)
    await ended


async def _pipelines(crowd: Crowd, reader: Reader, writer: Writer) -> None:
    request = crowd.good_head() + b"\r\n\r\n"
    writer.write(request * random.choice((5, 200)) + random.choice((b"", b"garbage\r\n\r\n", request[:40])))
    await reader.read()


async def _bad_framing(crowd: Crowd, reader: Reader, writer: Writer) -> None:
    chunked, much = {"Transfer_Encoding": "chunked"}, str(64 << 20)
    head, body = random.choice((
        (crowd.good_head(method="POST", **chunked), b"5\r\nhello\r\nzz\r\n"),
        (crowd.good_head(method="POST", **chunked), TOO_MUCH),
        (crowd.good_head(method="POST", **chunked, Content_Length="5"), b"0\r\n\r\n"),
        (crowd.good_head(method="POST", Content_Length=much), PIECE * 20),
        (crowd.good_head(method="POST", Content_Length="10", Expect="100-continue"), b""),
        (crowd.good_head(Connection="Upgrade", Upgrade="websocket"), b"\x81\x00" * 100),
        (crowd.good_head().replace(b"HTTP/1.1", b"HTTP/1.0"), b""),
    ))  # fmt: skip
    writer.write(head + b"\r\n\r\n" + body)
    await reader.read()


WAYS: dict[str, Way] = {
    "slow head": _slow_head, "slow body": _slow_body, "silent": _silent, "garbage": _garbage,
    "half closed": _half_closed, "gone while sending": _gone_up, "gone while receiving": _gone_down,
    DEAF: _never_reads, "endless head": _endless_head, "pipelines": _pipelines,
    "bad framing": _bad_framing,
}  # fmt: skip
