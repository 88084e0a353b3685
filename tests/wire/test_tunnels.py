"""Upgrades byte by byte: what is passed on when, what is refused, how a tunnel holds the flow and ends."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.core.frames import close_frame
from gateway.net.tunnel import Tunnel
from gateway.web.sockets import Socket
from tests.fakes.certificates import authority
from tests.fakes.gateway import APP, Running, gateway, read_answer
from tests.fakes.upstream import ScriptedUpstream, read_request, response
from tests.fakes.websocket import ACCEPT, KEY, SWITCHED, handshake
from tests.net.test_pool import served_by

SMUGGLED = b"GET /public/smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
MUCH = bytes(range(256)) * 8192  # 2 MiB
HELLO, ANSWER = b"\x81\x85\x00\x00\x00\x00hello", b"\x81\x05hello"

Reader, Writer = asyncio.StreamReader, asyncio.StreamWriter
Side = tuple[Reader, Writer]


class Upstream:
    """Accepts every upgrade and hands its side of each tunnel to the test."""

    def __init__(self, head: bytes = SWITCHED) -> None:
        self.head = head
        self.sides: asyncio.Queue[Side] = asyncio.Queue()
        self.heads: list[bytes] = []
        self.over = asyncio.Event()

    async def __call__(self, reader: Reader, writer: Writer) -> None:
        self.heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(self.head)
        await self.sides.put((reader, writer))
        await self.over.wait()


@asynccontextmanager
async def tunnel(upstream: Upstream | None = None) -> AsyncIterator[tuple[Running, Side, Side]]:
    """Open one; give the gateway, the client's side and the upstream's."""
    script = upstream or Upstream()
    async with ScriptedUpstream(script) as listening, gateway(listening.port) as running:
        reader, writer = await running.connect()
        writer.write(handshake())
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        try:
            yield running, (reader, writer), await script.sides.get()
        finally:
            writer.close()
            script.over.set()


def tunnel_of(running: Running) -> Tunnel:
    (stream,) = running.app.listener.streams._open
    assert isinstance(stream.carried, Socket)
    return stream.carried.tunnel


async def line_of(running: Running) -> dict[str, object]:
    """Give the access line, once it is there."""
    while True:
        for line in await running.logged():
            if line["event"] == "request":
                return line


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0)


def reset(writer: Writer) -> None:
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


# The handshake


async def test_both_heads_are_rebuilt() -> None:
    more = b"Server: own\r\nConnection: X-Hop\r\nX-Hop: 1\r\nX-Request-Id: theirs\r\nKeep-Alive: 1\r\nSec-WebSocket-Extensions: e\r\n\r\n"
    upstream = Upstream(SWITCHED[:-2] + more)
    async with ScriptedUpstream(upstream) as listening, gateway(listening.port) as running:
        reader, writer = await running.connect()
        writer.write(
            handshake("/public/ws?x=%2f", f"Origin: {APP}", "X-User-Id: evil", "Sec-WebSocket-Extensions: e; f")
        )
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[:-2]
        sent = upstream.heads[0].decode().split("\r\n")[:-2]
        upstream.over.set()
        writer.close()
    assert head[0] == "HTTP/1.1 101 Switching Protocols"
    (request_id,) = [line for line in head if line.startswith("X-Request-Id: ")]
    assert sorted(head[1:]) == sorted([
        f"Sec-WebSocket-Accept: {ACCEPT}", "Server: own", "Sec-WebSocket-Extensions: e", request_id, "Connection: Upgrade",
        "Upgrade: websocket", f"Access-Control-Allow-Origin: {APP}", "Access-Control-Allow-Credentials: true",
        "Vary: Origin",
    ])  # fmt: skip
    assert sent[0] == "GET /public/ws?x=%2f HTTP/1.1"
    assert request_id in sent
    assert [line for line in sent if line.startswith(("Connection", "Upgrade", "Sec-", "X-User", "Keep"))] == [
        "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {KEY}", "Sec-WebSocket-Extensions: e; f", "Connection: Upgrade",
        "Upgrade: websocket",
    ]  # fmt: skip


async def test_bytes_before_and_behind_the_101_arrive_in_order_and_are_never_read_as_http() -> None:
    async def waits(reader: Reader, writer: Writer) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await asked.wait()
        writer.write(SWITCHED + b"HTTP/1.1 200 OK\r\n\r\n")
        got.append(await reader.readexactly(len(SMUGGLED) * 2))
        writer.write(b"behind")
        await reader.read()

    asked, got = asyncio.Event(), list[bytes]()
    async with ScriptedUpstream(waits) as upstream, gateway(upstream.port) as running:
        reader, writer = await running.connect()
        writer.write(handshake() + SMUGGLED[:10])
        await until(lambda: upstream.connections == 1)
        writer.write(SMUGGLED[10:])
        await writer.drain()
        asked.set()
        await reader.readuntil(b"\r\n\r\n")
        writer.write(SMUGGLED)
        assert await reader.readexactly(25) == b"HTTP/1.1 200 OK\r\n\r\nbehind"
        writer.close()
    assert got == [SMUGGLED * 2]
    assert upstream.connections == 1


async def test_more_early_bytes_than_are_kept_wait_in_the_socket() -> None:
    async def waits(reader: Reader, writer: Writer) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await asked.wait()
        writer.write(SWITCHED)
        assert await reader.readexactly(len(MUCH)) == MUCH
        writer.write(b"all")
        await reader.read()

    asked = asyncio.Event()
    async with ScriptedUpstream(waits) as upstream, gateway(upstream.port) as running:
        reader, writer = await running.connect()
        writer.write(handshake() + MUCH)
        await until(lambda: any(connection._buffer_paused for connection in running.app.listener._open))
        asked.set()
        await reader.readuntil(b"\r\n\r\n")
        assert await reader.readexactly(3) == b"all"
        writer.close()


async def test_a_101_that_comes_byte_by_byte_is_one() -> None:
    async def slowly(reader: Reader, writer: Writer) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for byte in SWITCHED + ANSWER:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0)
        await reader.read()

    async with ScriptedUpstream(slowly) as upstream, gateway(upstream.port) as running:
        reader, writer = await running.connect()
        writer.write(handshake())
        await reader.readuntil(b"\r\n\r\n")
        assert await reader.readexactly(len(ANSWER)) == ANSWER
        writer.close()


async def test_interim_answers_before_the_101_are_dropped() -> None:
    async with tunnel(Upstream(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + SWITCHED)) as (_, near, far):
        far[1].write(ANSWER)
        assert await near[0].readexactly(len(ANSWER)) == ANSWER


# The upstream does not want to


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(response(403, b"no", fields=("X-Why: because",)), id="refused"),
        pytest.param(response(200, b"no", fields=("X-Why: because",)), id="taken-for-an-ordinary-one"),
        pytest.param(b"HTTP/1.1 426 Upgrade Required\r\nX-Why: because\r\nUpgrade: h2c\r\nConnection: upgrade\r\n"
                     b"Transfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n", id="chunked"),
    ],
)  # fmt: skip
async def test_its_own_answer_is_passed_on_and_nothing_behind_it_is_run(answer: bytes) -> None:
    async def refuses(reader: Reader, writer: Writer) -> None:
        while await read_request(reader):
            heads.append(1)
            writer.write(answer)

    heads: list[int] = []
    async with ScriptedUpstream(refuses) as upstream, gateway(upstream.port) as running:
        reader, writer = await running.connect()
        writer.write(handshake() + SMUGGLED)
        passed = await read_answer(reader)
        assert await reader.read() == b""
        writer.close()
        line = await line_of(running)
    assert (passed.status, passed.body, passed.value("x-why")) == (int(answer[9:12]), b"no", "because")
    assert (passed.value("connection"), passed.value("upgrade")) == ("close", None)
    assert line["status"] == passed.status
    assert len(heads) == 1


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(SWITCHED.replace(b"Upgrade: websocket\r\n", b""), id="no-upgrade"),
        pytest.param(SWITCHED.replace(b"Connection: Upgrade\r\n", b""), id="no-connection"),
        pytest.param(SWITCHED.replace(ACCEPT.encode(), b"x"), id="another-key"),
        pytest.param(SWITCHED.replace(b"Sec-WebSocket-Accept", b"X-A"), id="no-accept"),
        pytest.param(SWITCHED[:-2] + b"Content-Length: 5\r\n\r\nhello", id="length"),
        pytest.param(SWITCHED[:-2] + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", id="chunked"),
        pytest.param(b"HTTP/1.1 102 Processing\r\n\r\n" + SWITCHED[:40], id="cut"),
        pytest.param(
            SWITCHED.replace(b"Connection: Upgrade\r\n", b"") + response(200, b"no"), id="an-answer-behind-none"
        ),
        pytest.param(SWITCHED.replace(b"HTTP/1.1", b"HTTP/1.7"), id="version"),
    ],
)
async def test_a_101_that_is_none_is_a_502(answer: bytes) -> None:
    async def breaks(reader: Reader, writer: Writer) -> None:
        await read_request(reader)
        writer.write(answer)

    async with ScriptedUpstream(breaks) as upstream, gateway(upstream.port) as running:
        reader, writer = await running.connect()
        writer.write(handshake() + SMUGGLED)
        passed = await read_answer(reader)
        assert await reader.read() == b""
        writer.close()
    assert (passed.status, passed.json["code"], passed.value("connection")) == (502, "bad_upstream_response", "close")
    assert upstream.connections == 1


async def test_a_refused_client_that_is_still_sending_reads_the_answer() -> None:
    async with ScriptedUpstream(Upstream()) as upstream, gateway(upstream.port) as running:
        reader, writer = await running.connect()
        writer.write(handshake("/ws") + MUCH)
        answer = await read_answer(reader)
        assert (answer.status, answer.value("connection")) == (401, "close")
        assert await reader.read() == b""
        await writer.drain()
        writer.close()
    assert upstream.connections == 0


async def test_a_101_to_an_ordinary_request_stays_a_502() -> None:
    async with ScriptedUpstream(Upstream()) as upstream, gateway(upstream.port) as running:
        lines = (f"Sec-WebSocket-Key: {KEY}",)
        assert (await running.get("/public/x", lines=lines)).status == 502


async def test_an_upstream_that_does_not_answer_or_is_not_there() -> None:
    upstream = Upstream(b"")
    async with ScriptedUpstream(upstream) as listening, gateway(listening.port) as running:
        reader, writer = await running.connect()
        writer.write(handshake())
        await upstream.sides.get()
        running.pass_time(31)
        assert (await read_answer(reader)).status == 504
        assert await reader.read() == b""
        writer.close()
        listening._server.close()
        assert (await running.raw(handshake())).status == 502
        upstream.over.set()


async def test_a_kept_connection_is_used_and_a_stale_one_replaced() -> None:
    async def once(reader: Reader, writer: Writer) -> None:
        request = await read_request(reader)
        while request is not None and request.value("upgrade") is None:
            writer.write(response(200, b"ok"))
            request = await read_request(reader)
            if closes and request is not None:
                return
        writer.write(SWITCHED + ANSWER)
        await reader.read()

    closes: list[int] = []
    async with ScriptedUpstream(once) as upstream, gateway(upstream.port) as running:
        for expected in (1, 3):
            assert (await running.get("/public/x")).status == 200
            reader, writer = await running.connect()
            writer.write(handshake())
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
            assert await reader.readexactly(len(ANSWER)) == ANSWER
            assert upstream.connections == expected
            writer.close()
            closes.append(1)


async def test_an_upstream_may_speak_tls_which_cannot_be_half_closed(tmp_path: Path) -> None:
    async def serves(reader: Reader, writer: Writer) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(SWITCHED + ANSWER)
        got.append(await reader.readexactly(len(MUCH)))
        writer.write(MUCH)
        got.append(await reader.read())
        over.set()
        writer.close()

    over, got = asyncio.Event(), list[bytes]()
    server = await asyncio.start_server(serves, "127.0.0.1", 0, ssl=served_by(tmp_path, "127.0.0.1"))
    port = server.sockets[0].getsockname()[1]
    tls = {"ca": authority().write(tmp_path)}
    async with gateway(port, upstreams={"api": {"url": f"https://127.0.0.1:{port}", "tls": tls}}) as running:
        reader, writer = await running.connect()
        writer.write(handshake() + MUCH)
        await reader.readuntil(b"\r\n\r\n")
        assert await reader.readexactly(len(ANSWER) + len(MUCH)) == ANSWER + MUCH
        writer.write_eof()
        assert await reader.read() == b""
        await over.wait()
        await until(lambda: not running.app.listener.streams and not running.app.listener._open)
        writer.close()
    assert got == [MUCH, b""]
    server.close()


# Holding the flow


async def stalled(side: Side, size: int) -> int:
    """Write until nobody takes any more; give how many bytes were taken."""
    side[1].transport.set_write_buffer_limits(0)
    piece, taken = bytes(65_536), 0
    while taken < size:
        side[1].write(piece)
        taken += len(piece)
        for _ in range(200):
            if not side[1].transport.get_write_buffer_size():
                break
            await asyncio.sleep(0)
        else:
            return taken
    return taken


@pytest.mark.parametrize("upwards", [True, False], ids=["to-the-upstream", "to-the-client"])
async def test_who_does_not_read_holds_the_other_side_and_memory_is_bounded(upwards: bool) -> None:
    async with tunnel() as (running, near, far):
        source, sink = (near, far) if upwards else (far, near)
        sink[1].transport.pause_reading()
        size = 256 * 2**20
        taken = await stalled(source, size)
        assert taken < size
        carried = tunnel_of(running)
        buffered = carried.client.transport, carried.upstream.transport
        # What was in its buffer when it said stop, and one read: 64 KiB and at most 256 KiB.
        assert sum(transport.get_write_buffer_size() for transport in buffered) <= 65_536 + 2 * 262_144
        sink[1].transport.resume_reading()
        rest = taken
        while rest:
            rest -= len(await sink[0].read(2**20))
        source[1].write(b"end")
        assert await sink[0].readexactly(3) == b"end"


async def test_the_system_looks_whether_both_machines_are_still_there() -> None:
    async with tunnel() as (running, _, _):
        carried = tunnel_of(running)
        for half in (carried.client, carried.upstream):
            assert half.transport.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


# Ends


@pytest.mark.parametrize("by_client", [True, False], ids=["client", "upstream"])
async def test_a_half_closed_side_hears_the_others_last_words(by_client: bool) -> None:
    async with tunnel() as (running, near, far):
        first, second = (near, far) if by_client else (far, near)
        first[1].write(b"bye")
        first[1].write_eof()
        assert await second[0].read() == b"bye"
        second[1].write(b"last words")
        second[1].write_eof()
        assert await first[0].read() == b"last words"
        await until(lambda: not running.app.listener.streams and not running.app.listener._open)
        line = await line_of(running)
    assert (line["status"], line["bytes_in"]) == (101, 3 if by_client else 10)


@pytest.mark.parametrize("by_client", [True, False], ids=["client", "upstream"])
async def test_a_half_closed_tunnel_does_not_last_for_ever(by_client: bool) -> None:
    async with tunnel() as (running, near, far):
        first, second = (near, far) if by_client else (far, near)
        first[1].write_eof()
        assert await second[0].read() == b""
        running.pass_time(29)
        assert len(running.app.listener.streams) == 1
        running.pass_time(3)
        await until(lambda: not running.app.listener.streams and not running.app.listener._open)


@pytest.mark.parametrize("by_client", [True, False], ids=["client", "upstream"])
@pytest.mark.parametrize("ends", [reset, lambda writer: writer.close()], ids=["reset", "close"])
async def test_when_a_side_goes_so_does_the_other(by_client: bool, ends: Callable[[Writer], None]) -> None:
    async with tunnel() as (running, near, far):
        first, second = (near, far) if by_client else (far, near)
        first[1].write(b"bye")
        assert await second[0].readexactly(3) == b"bye"
        ends(first[1])
        assert await second[0].read() == b""
        second[1].close()
        await until(lambda: not running.app.listener.streams and not running.app.listener._open)
        assert (await line_of(running))["status"] == 101
        (pool,) = running.app.listener.deps.upstreams["api"].pools
        assert (pool._open, pool._idle) == (set(), [])


async def test_a_client_that_leaves_before_the_101_is_gone_for_the_upstream_too() -> None:
    upstream = Upstream(b"")
    async with ScriptedUpstream(upstream) as listening, gateway(listening.port) as running:
        _, writer = await running.connect()
        writer.write(handshake())
        reader, _ = await upstream.sides.get()
        writer.close()
        assert await reader.read() == b""
        assert (await line_of(running))["status"] == 499
        upstream.over.set()


# The gateway ends it


async def test_a_close_waits_for_the_end_of_the_frame_and_the_cut_for_two_seconds() -> None:
    async with tunnel() as (running, near, far):
        far[1].write(ANSWER + ANSWER[:3])
        near[1].write(HELLO[:7])
        assert await near[0].readexactly(10) == ANSWER + ANSWER[:3]
        assert await far[0].readexactly(7) == HELLO[:7]
        running.app.listener.streams.drain(30)
        far[1].write(ANSWER[3:] + ANSWER[:2])
        near[1].write(HELLO[7:] + HELLO[:1])
        to_client = close_frame(1001, b"going away")
        assert await near[0].readexactly(4 + len(to_client)) == ANSWER[3:] + to_client
        to_upstream = await far[0].readexactly(4 + len(to_client) + 4)
        assert to_upstream[:6] == HELLO[7:] + bytes((0x88, 0x80 | 12))
        near[1].write(HELLO[1:])  # what follows a Close goes nowhere
        running.pass_time(1)
        assert len(running.app.listener.streams) == 1
        running.pass_time(2)
        assert await ending(near) == await ending(far) == b""
        await until(lambda: not running.app.listener.streams and not running.app.listener._open)


async def ending(side: Side) -> bytes:
    try:
        return await side[0].read()
    except ConnectionResetError:
        return b""


async def test_a_socket_that_opens_while_stopping_is_closed_at_once() -> None:
    async def waits(reader: Reader, writer: Writer) -> None:
        await read_request(reader)
        asked.set()
        await go.wait()
        writer.write(SWITCHED)
        got.append(await reader.read())

    asked, go, got = asyncio.Event(), asyncio.Event(), list[bytes]()
    async with ScriptedUpstream(waits) as upstream, gateway(upstream.port) as running:
        reader, writer = await running.connect()
        writer.write(handshake())
        await asked.wait()
        stopping = asyncio.ensure_future(running.app.listener.drain(30))
        await asyncio.sleep(0)
        go.set()
        await reader.readuntil(b"\r\n\r\n")
        assert await reader.readexactly(14) == close_frame(1001, b"going away")
        writer.close()
        assert await stopping
        await until(lambda: bool(got))
    assert got[0][0] == 0x88


async def test_whoever_does_not_answer_a_close_is_cut_with_the_rest() -> None:
    upstream = Upstream()
    async with ScriptedUpstream(upstream) as listening, gateway(listening.port) as running:
        reader, writer = await running.connect()
        writer.write(handshake())
        await reader.readuntil(b"\r\n\r\n")
        far = await upstream.sides.get()
        assert not await running.app.listener.drain(0)
        assert (await ending((reader, writer)))[:1] in (b"", b"\x88")
        await ending(far)
        await until(lambda: not running.app.listener.streams)
        writer.close()
        upstream.over.set()


async def test_what_an_upstream_never_takes_does_not_outlast_the_gateway() -> None:
    async with tunnel() as (running, near, far):
        far[1].transport.pause_reading()
        await stalled(near, 256 * 2**20)
        assert not await running.app.listener.drain(0)
        for _ in range(10):
            await asyncio.sleep(0)
        assert len(running.app.listener.streams) == 0
        far[1].transport.abort()


async def test_a_pipelined_upgrade_has_its_turn() -> None:
    async def serves(reader: Reader, writer: Writer) -> None:
        while (request := await read_request(reader)) is not None:
            if request.value("upgrade"):
                writer.write(SWITCHED)
                assert await reader.readexactly(len(HELLO)) == HELLO
                writer.write(ANSWER)
            else:
                writer.write(response(200, b"first"))

    async with ScriptedUpstream(serves) as upstream, gateway(upstream.port) as running:
        reader, writer = await running.connect()
        writer.write(b"GET /public/x HTTP/1.1\r\nHost: a\r\n\r\n" + handshake() + HELLO)
        assert (await read_answer(reader)).body == b"first"
        await reader.readuntil(b"\r\n\r\n")
        assert await reader.readexactly(len(ANSWER)) == ANSWER
        writer.close()
