"""Handshakes and frames nobody should send: what is refused, what passes as it came, and that every socket can end."""

import asyncio

import pytest

from gateway.core.frames import close_frame
from gateway.net.tunnel import CLOSE_S
from gateway.web.streams import REVOKED
from tests.fakes.gateway import gateway, read_answer
from tests.fakes.upstream import Echo, ScriptedUpstream, read_request, response
from tests.fakes.websocket import ACCEPT, KEY, SWITCHED, handshake
from tests.wire.test_tunnels import HELLO, SMUGGLED, Upstream, ending, line_of, tunnel, until

MASK = b"\x00\x00\x00\x00"

# What a client asks


def asking(*lines: str, without: tuple[str, ...] = (), target: str = "/public/ws", first: str = "") -> bytes:
    """Write a handshake with these lines more, and without those that begin so."""
    usual, *head = handshake(target).decode().split("\r\n")[:-2]
    kept = [line for line in head if not line.startswith(without or "\n")]
    return "\r\n".join([first or usual, *kept, *lines]).encode() + b"\r\n\r\n"


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param(asking("Upgrade: websocket"), id="upgrade-twice"),
        pytest.param(asking("Upgrade: h2c"), id="another-upgrade-too"),
        pytest.param(asking("Upgrade: h2c, websocket", without=("Upgrade",)), id="another-upgrade-first"),
        pytest.param(asking("Upgrade: websocket, h2c", without=("Upgrade",)), id="another-upgrade-second"),
        pytest.param(asking("Upgrade: websocket/13", without=("Upgrade",)), id="upgrade-with-a-version"),
        pytest.param(asking(f"Sec-WebSocket-Key: {KEY}"), id="key-twice"),
        pytest.param(asking("sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA=="), id="two-keys"),
        pytest.param(asking(without=("Sec-WebSocket-Key",)), id="no-key"),
        pytest.param(asking("Sec-WebSocket-Key:", without=("Sec-WebSocket-Key",)), id="empty-key"),
        pytest.param(asking("Sec-WebSocket-Version: 13"), id="version-twice"),
        pytest.param(asking("Sec-WebSocket-Version: 8"), id="two-versions"),
        pytest.param(asking("Connection: Sec-WebSocket-Key"), id="key-named-away"),
        pytest.param(asking("Content-Length: 42"), id="body"),
        pytest.param(asking("Content-Length: 0"), id="no-body-but-its-length"),
        pytest.param(asking("Transfer-Encoding: chunked"), id="chunks"),
        pytest.param(asking("Content-Length: 42", "Transfer-Encoding: chunked"), id="length-and-chunks"),
        pytest.param(asking(first="GET /public/ws HTTP/1.0"), id="http-1.0"),
        pytest.param(asking(first="POST /public/ws HTTP/1.1"), id="post"),
        pytest.param(asking("Host: b"), id="two-hosts"),
        pytest.param(asking("Authorization: Bearer a", "Authorization: Bearer b"), id="two-credentials"),
        pytest.param(asking("Connection: HTTP2-Settings", "HTTP2-Settings: AA", "Upgrade: h2c", without=("Upgrade",)),
                     id="h2c"),
    ],
)  # fmt: skip
async def test_a_bad_handshake_is_refused_and_nothing_behind_it_is_run(asked: bytes) -> None:
    async with ScriptedUpstream(Echo()) as upstream, gateway(upstream.port) as running:
        reader, writer = await running.connect()
        writer.write(asked + SMUGGLED)
        answer = await read_answer(reader)
        assert (answer.status, answer.json["code"], answer.value("connection")) == (400, "bad_request", "close")
        assert await reader.read() == b""
        writer.close()
        lines = [line for line in await running.logged() if line["event"] == "request"]
    assert upstream.connections == 0
    assert [line["status"] for line in lines] == [400]


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param(asking("Connection: Upgrade"), id="connection-twice"),
        pytest.param(asking("Connection: close"), id="connection-close-too"),
        pytest.param(asking("Upgrade: WebSocket", without=("Upgrade",)), id="upgrade-in-capitals"),
        pytest.param(asking("Sec-WebSocket-Version: 12", without=("Sec-WebSocket-Version",)), id="another-version"),
        pytest.param(asking(without=("Sec-WebSocket-Version",)), id="no-version"),
        pytest.param(asking("Sec-WebSocket-Extensions: a", "Sec-WebSocket-Extensions: b"), id="extensions-in-two-fields"),
    ],
)  # fmt: skip
async def test_what_is_no_fault_is_the_upstreams_to_judge(asked: bytes) -> None:
    upstream = Upstream()
    async with ScriptedUpstream(upstream) as listening, gateway(listening.port) as running:
        reader, writer = await running.connect()
        writer.write(asked)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        writer.close()
        upstream.over.set()
    head = upstream.heads[0].lower()
    assert (head.count(b"\r\nupgrade: websocket\r\n"), head.count(b"\r\nconnection: upgrade\r\n")) == (1, 1)
    assert (head.count(b"\r\nupgrade:"), head.count(b"\r\nconnection:")) == (1, 1)


async def test_an_upgrade_that_connection_does_not_name_is_an_ordinary_request() -> None:
    echo = Echo()
    async with ScriptedUpstream(echo) as upstream, gateway(upstream.port) as running:
        answer = await running.raw(asking("Connection: keep-alive", without=("Connection",)))
    assert answer.status == 200
    assert (echo.last.value("upgrade"), echo.last.value("connection")) == (None, None)


@pytest.mark.parametrize(
    ("target", "lines", "status"),
    [
        pytest.param("/ws", (), 401, id="no-token"),
        pytest.param("/ws", ("Authorization: Bearer x",), 401, id="bad-token"),
        pytest.param("/ws", ("Cookie: __session={token}; __client_uat=1",), 403, id="cookie-without-origin"),
        pytest.param("/admin/ws", ("Authorization: Bearer {token}",), 403, id="no-role"),
        pytest.param("/ws//x", ("Authorization: Bearer {token}",), 400, id="ambiguous-path"),
        pytest.param("/healthz", (), 200, id="our-own-address"),
    ],
)
async def test_behind_an_upgrade_that_is_answered_nothing_is_run(
    target: str, lines: tuple[str, ...], status: int
) -> None:
    async with ScriptedUpstream(Echo()) as upstream, gateway(upstream.port) as running:
        token = running.token()
        reader, writer = await running.connect()
        writer.write(handshake(target, *(line.format(token=token) for line in lines)) + SMUGGLED)
        assert (await read_answer(reader)).status == status
        assert await reader.read() == b""
        writer.close()
    assert upstream.connections == 0


async def test_while_stopping_nothing_behind_a_refused_upgrade_is_run() -> None:
    async with ScriptedUpstream(Echo()) as upstream, gateway(upstream.port) as running:
        reader, writer = await running.connect()
        running.app.listener.draining = True
        writer.write(handshake() + SMUGGLED)
        answer = await read_answer(reader)
        assert (answer.status, answer.json["code"]) == (503, "draining")
        assert await reader.read() == b""
        writer.close()
    assert upstream.connections == 0


# What an upstream answers

PROTOCOL, EXTENSION = b"Sec-WebSocket-Protocol: ", b"Sec-WebSocket-Extensions: permessage-deflate\r\n"


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(SWITCHED[:-2] + b"Sec-WebSocket-Accept: %b\r\n\r\n" % ACCEPT.encode(), id="accept-twice"),
        pytest.param(SWITCHED[:-2] + b"sec-websocket-accept: x\r\n\r\n", id="two-accepts"),
        pytest.param(SWITCHED.replace(ACCEPT.encode(), ACCEPT.encode() + b", x"), id="a-list-of-accepts"),
        pytest.param(SWITCHED.replace(ACCEPT.encode(), ACCEPT.lower().encode()), id="accept-in-small-letters"),
        pytest.param(SWITCHED[:-2] + (PROTOCOL + b"chat\r\n") * 2 + b"\r\n", id="sub-protocol-twice"),
        pytest.param(SWITCHED[:-2] + PROTOCOL + b"chat\r\n" + PROTOCOL.lower() + b"v2\r\n\r\n", id="two-sub-protocols"),
        pytest.param(SWITCHED.replace(b"Upgrade: websocket", b"Upgrade: h2c") + SMUGGLED, id="another-protocol"),
        pytest.param(SWITCHED[:-2] + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", id="two-lengths"),
        pytest.param(SWITCHED[:-2] + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", id="both"),
        pytest.param(SWITCHED[:-2] + b"X: a\x00b\r\n\r\n", id="nul"),
        pytest.param(SWITCHED[:-2] + b"X y: z\r\n\r\n", id="space-in-a-name"),
        pytest.param(b"HTTP/1.1 100 Continue\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", id="100-alone"),
    ],
)  # fmt: skip
async def test_a_101_that_is_none_is_a_502_and_its_connection_is_not_used_again(answer: bytes) -> None:
    async def breaks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(answer)
        if answer.startswith(b"HTTP/1.1 101"):
            left.append(await reader.read())

    left: list[bytes] = []
    async with ScriptedUpstream(breaks) as upstream, gateway(upstream.port) as running:
        reader, writer = await running.connect()
        writer.write(handshake("/public/ws", "Sec-WebSocket-Protocol: chat, v2") + SMUGGLED)
        passed = await read_answer(reader)
        assert (passed.status, passed.json["code"]) == (502, "bad_upstream_response")
        assert await reader.read() == b""
        writer.close()
        await until(lambda: bool(left) or answer.startswith(b"HTTP/1.1 100"))
        assert len(running.app.listener.streams) == 0
    assert left in ([], [b""])
    assert upstream.connections == 1


@pytest.mark.parametrize(
    ("offer", "more", "told"),
    [
        pytest.param((), PROTOCOL + b"chat\r\n", [b"chat"], id="sub-protocol-not-offered"),
        pytest.param(("chat",), PROTOCOL + b"CHAT\r\n", [b"CHAT"], id="sub-protocol-in-capitals"),
        pytest.param(("gateway.auth",), PROTOCOL + b"chat\r\n", [b"chat"], id="chosen-before-ours"),
        pytest.param(("chat",), EXTENSION, [], id="extension-not-offered"),
    ],
)
async def test_what_the_two_agree_on_is_their_business(offer: tuple[str, ...], more: bytes, told: list[bytes]) -> None:
    upstream = Upstream(SWITCHED[:-2] + more + b"\r\n")
    async with ScriptedUpstream(upstream) as listening, gateway(listening.port) as running:
        reader, writer = await running.connect()
        writer.write(handshake("/public/ws", *(f"Sec-WebSocket-Protocol: {name}" for name in offer)))
        lines = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")
        writer.close()
        upstream.over.set()
    assert lines[0].startswith(b"HTTP/1.1 101 ")
    assert [line[len(PROTOCOL) :] for line in lines if line.startswith(PROTOCOL)] == told
    assert (EXTENSION[:-2] in lines) == (more == EXTENSION)


async def test_a_101_nobody_asked_for_is_never_a_tunnel() -> None:
    async def switches(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(SWITCHED + response(200, b"smuggled"))
        await reader.read()

    async with ScriptedUpstream(switches) as upstream, gateway(upstream.port) as running:
        for lines in ((), (f"Sec-WebSocket-Key: {KEY}", "Upgrade: websocket")):
            answer = await running.get("/public/x", lines=lines)
            assert (answer.status, answer.json["code"]) == (502, "bad_upstream_response")
        assert len(running.app.listener.streams) == 0


# Frames


def long_frame(length: int, *, masked: bool, first: int = 0x82) -> bytes:
    return bytes((first, (0x80 if masked else 0) | 127)) + length.to_bytes(8, "big") + (MASK if masked else b"")


# As a server or a client may not write them; each is whole as far as its own header says.
BROKEN = pytest.mark.parametrize(
    "frame",
    [
        pytest.param(b"\xf1\x00", id="reserved-bits"),
        pytest.param(b"\x83\x00", id="reserved-opcode"),
        pytest.param(b"\x8f\x81\x00\x00\x00\x00x", id="reserved-control-opcode"),
        pytest.param(b"\x09\x00", id="ping-in-fragments"),
        pytest.param(b"\x89\x7e\x00\x80" + bytes(128), id="long-ping"),
        pytest.param(b"\x80\x00", id="continues-nothing"),
        pytest.param(b"\x01\x01a\x01\x01b", id="begins-twice"),
        pytest.param(b"\x81\x7e\x00\x01a", id="long-form-of-a-short-length"),
        pytest.param(b"\x82\x7f" + bytes(7) + b"\x01a", id="longest-form-of-a-short-length"),
        pytest.param(b"\x81\x02\xff\xfe", id="not-utf-8"),
        pytest.param(b"\x88\x01\x03", id="close-of-one-byte"),
        pytest.param(b"\x88\x02\x03\xed", id="close-with-a-forbidden-code"),
        pytest.param(HELLO, id="masked"),
        pytest.param(HELLO.replace(b"\x85\x00\x00\x00\x00", b"\x05"), id="unmasked"),
    ],
)


@BROKEN
@pytest.mark.parametrize("upwards", [True, False], ids=["from-the-client", "from-the-upstream"])
async def test_a_broken_frame_passes_as_it_came_and_the_socket_can_still_be_ended(frame: bytes, upwards: bool) -> None:
    async with tunnel() as (running, near, far):
        source, sink = (near, far) if upwards else (far, near)
        for byte in frame:
            source[1].write(bytes([byte]))
            assert await sink[0].readexactly(1) == bytes([byte])
        (stream,) = running.app.listener.streams._open
        stream.end(REVOKED)
        expected = close_frame(4401, b"session-revoked")
        assert await near[0].readexactly(len(expected)) == expected
        masked = await far[0].readexactly(len(expected) + 4)
        assert masked == close_frame(4401, b"session-revoked", mask=masked[2:6])


@pytest.mark.parametrize("upwards", [True, False], ids=["from-the-client", "from-the-upstream"])
@pytest.mark.parametrize("length", [2**62, 2**63, 2**64 - 1], ids=["2^62", "2^63", "2^64-1"])
@pytest.mark.parametrize("first", [0x82, 0xF2, 0x89], ids=["binary", "reserved-bits", "ping"])
async def test_a_frame_without_end_does_not_keep_a_socket_open(upwards: bool, length: int, first: int) -> None:
    async with tunnel() as (running, near, far):
        source, sink = (near, far) if upwards else (far, near)
        endless = long_frame(length, masked=upwards, first=first) + b"\x88\x02\x03\xe8" * 1000
        source[1].write(endless)
        assert await sink[0].readexactly(len(endless)) == endless
        (stream,) = running.app.listener.streams._open
        stream.end(REVOKED)
        source[1].write(b"more")  # inside the frame: what it is nobody knows but those two
        assert await sink[0].readexactly(4) == b"more"
        expected = close_frame(4401, b"session-revoked")
        if upwards:
            assert await near[0].readexactly(len(expected)) == expected
        else:
            assert (await far[0].readexactly(2))[0] == 0x88
        running.pass_time(CLOSE_S - 0.1)
        assert len(running.app.listener.streams) == 1
        running.pass_time(1)
        assert (await ending(sink))[:1] in (b"", b"\x88")
        await until(lambda: not running.app.listener.streams and not running.app.listener._open)
        line = await line_of(running)
    assert (line["code"], line["reason"]) == ("invalid_token", "session-revoked")


@pytest.mark.parametrize("cut", range(1, 14))
async def test_a_header_that_never_gets_whole_does_not_keep_a_socket_open(cut: int) -> None:
    async with tunnel() as (running, near, far):
        begun = long_frame(5, masked=True)[:cut]
        near[1].write(begun)
        assert await far[0].readexactly(len(begun)) == begun
        assert running.app.listener.streams.revoke(user="nobody") == 0
        (stream,) = running.app.listener.streams._open
        stream.end(REVOKED)
        running.pass_time(CLOSE_S + 1)
        assert await ending(far) == b""
        await until(lambda: not running.app.listener.streams)


async def test_neither_side_keeps_a_socket_open_by_going_on_talking() -> None:
    async with tunnel() as (running, near, far):
        (stream,) = running.app.listener.streams._open
        stream.end(REVOKED)
        for _ in range(5):
            if near[1].transport.is_closing() or far[1].transport.is_closing():
                break
            near[1].write(HELLO * 100)
            far[1].write(b"\x81\x05hello" * 100)
            running.pass_time(0.6)
            for _ in range(20):
                await asyncio.sleep(0)
        expected = close_frame(4401, b"session-revoked")
        assert await ending(near) in (expected, b"")  # a reset may have taken it
        assert len(await ending(far)) in (len(expected) + 4, 0)
        await until(lambda: not running.app.listener.streams and not running.app.listener._open)


async def test_two_sockets_never_mix() -> None:
    upstream = Upstream()
    async with ScriptedUpstream(upstream) as listening, gateway(listening.port) as running:
        sides = []
        for _ in range(20):
            near = await running.connect()
            near[1].write(handshake())
            await near[0].readuntil(b"\r\n\r\n")
            sides.append((near, await upstream.sides.get()))
        for number, (near, far) in enumerate(sides):
            near[1].write(long_frame(2**63, masked=True) + b"up %d." % number)
            far[1].write(b"\x7f\xff\x00down %d." % number)
        for number, (near, far) in enumerate(sides):
            assert (await far[0].readuntil(b".")).endswith(b"up %d." % number)
            assert (await near[0].readuntil(b".")).endswith(b"down %d." % number)
            near[1].close()
        upstream.over.set()
