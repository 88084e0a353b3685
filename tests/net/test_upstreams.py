"""Pools: what is kept, what is taken, and what cannot be connected to."""

import asyncio
import os
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from gateway.core.model import Endpoint, ListenTls, Upstream, UpstreamTls
from gateway.errors import UpstreamRefused, UpstreamTimeout
from gateway.net.deadlines import Deadlines
from gateway.net.tls import Contexts, server_context
from gateway.net.upstreams import Pool, Upstreams, is_link_local
from gateway.net.wire import Wire
from tests.fakes.certificates import authority
from tests.fakes.upstream import Echo, ScriptedUpstream


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream(Echo()) as started:
        yield started


def pool(port: int, *, host: str = "127.0.0.1", tls: UpstreamTls | None = None) -> Pool:
    endpoint = Endpoint(host, port, tls is not None)
    return Pool(endpoint, Deadlines(time.monotonic), Contexts(lambda *_, **__: None), tls or UpstreamTls())


def trusting(folder: Path) -> UpstreamTls:
    return UpstreamTls(ca=authority().write(folder))


def served_by(folder: Path, *names: str) -> ssl.SSLContext:
    pair = authority().issue(*names).write(folder, "upstream")
    return server_context(ListenTls(pair.cert, pair.key))


async def exchange(pool: Pool) -> object:
    wire = pool.take() or await pool.connect(5)
    await wire.send(b"GET / HTTP/1.1\r\n\r\n", is_head=False, response_s=5)
    assert wire.fault is None
    return wire


async def test_the_last_connection_used_is_the_next_one_taken(upstream: ScriptedUpstream) -> None:
    kept = pool(upstream.port)
    assert kept.take() is None
    first, second = await exchange(kept), await exchange(kept)
    kept.give_back(first)  # type: ignore[arg-type]
    kept.give_back(second)  # type: ignore[arg-type]
    assert [kept.take(), kept.take(), kept.take()] == [second, first, None]
    kept.close()


async def test_what_was_not_finished_is_not_kept(upstream: ScriptedUpstream) -> None:
    kept = pool(upstream.port)
    wire = await kept.connect(5)
    _ = wire.send(b"GET / HTTP/1.1\r\n", is_head=False, response_s=5)
    kept.give_back(wire)
    assert kept.take() is None
    kept.give_back(wire)
    assert kept.take() is None
    kept.close()


async def test_a_connection_that_goes_away_while_idle_is_forgotten(upstream: ScriptedUpstream) -> None:
    kept = pool(upstream.port)
    wire = await exchange(kept)
    kept.give_back(wire)  # type: ignore[arg-type]
    wire.abort()  # type: ignore[attr-defined]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert kept.take() is None


async def test_close_drops_every_connection(upstream: ScriptedUpstream) -> None:
    upstreams = Upstreams(Deadlines(time.monotonic), Contexts(lambda *_, **__: None))
    api = Upstream("api", Endpoint("127.0.0.1", upstream.port))
    assert upstreams.pool(api) is upstreams.pool(api)
    kept = upstreams.pool(api)
    busy, idle = await exchange(kept), await exchange(kept)
    kept.give_back(idle)  # type: ignore[arg-type]
    upstreams.close()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert (busy.lost, idle.lost, kept.take()) == (True, True, None)  # type: ignore[attr-defined]


async def test_nobody_there_is_told_with_the_address() -> None:
    with pytest.raises(UpstreamRefused) as refused:
        await pool(1).connect(5)
    assert "127.0.0.1:1" in (refused.value.detail or "")


async def test_a_name_that_does_not_exist_is_an_upstream_that_cannot_be_reached() -> None:
    with pytest.raises(UpstreamRefused):
        await pool(80, host="does-not-exist.invalid").connect(5)


async def test_a_connection_that_takes_too_long_is_a_time_out(upstream: ScriptedUpstream) -> None:
    with pytest.raises(UpstreamTimeout):
        await pool(upstream.port).connect(0)


async def test_a_certificate_nobody_vouches_for_is_refused(tmp_path: Path) -> None:
    async def accept(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=served_by(tmp_path, "127.0.0.1"))
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(UpstreamRefused, match="upstream_unreachable") as refused:
        await pool(port, tls=UpstreamTls()).connect(5)
    assert "certificate" in (refused.value.detail or "").lower()
    server.close()


async def test_without_its_authoritys_file_an_upstream_is_not_called_at_all(upstream: ScriptedUpstream) -> None:
    with pytest.raises(UpstreamRefused) as refused:
        await pool(upstream.port, tls=UpstreamTls(ca="/nowhere/ca.pem")).connect(5)
    assert refused.value.detail == f"127.0.0.1:{upstream.port}: No such file or directory"
    assert upstream.connections == 0


async def test_a_connection_that_is_just_closing_is_not_taken(upstream: ScriptedUpstream) -> None:
    kept = pool(upstream.port)
    staying, closing = await exchange(kept), await exchange(kept)
    kept.give_back(staying)  # type: ignore[arg-type]
    kept.give_back(closing)  # type: ignore[arg-type]
    closing.eof_received()  # type: ignore[attr-defined]
    assert kept.take() is staying
    closing.abort()  # type: ignore[attr-defined]
    kept.close()


async def test_a_name_that_cannot_be_one_is_an_upstream_that_cannot_be_reached() -> None:
    with pytest.raises(UpstreamRefused):
        await pool(80, host="a..b").connect(5)


@pytest.mark.parametrize(
    ("address", "refused"),
    [
        ("169.254.169.254", True), ("169.254.0.1", True), ("fe80::1", True), ("fe80::1%eth0", True),
        ("::ffff:169.254.169.254", True), ("127.0.0.1", False), ("10.0.0.1", False), ("::1", False),
        ("fd00:ec2::1", False), ("169.253.1.1", False),
    ],
)  # fmt: skip
def test_only_its_own_link_is_link_local(address: str, refused: bool) -> None:
    assert is_link_local(address) is refused


class LinkLocal(asyncio.Transport):
    """A connection to a cloud's metadata address, of which there is none on loopback."""

    aborted = False

    def __init__(self) -> None:
        super().__init__({"peername": ("169.254.169.254", 80)})

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def abort(self) -> None:
        self.aborted = True


class Loop:
    """A loop that connects everybody to `transport`."""

    transport: asyncio.Transport
    lose = False

    async def create_connection(self, make: Callable[[], Wire], *_: object, **__: object) -> tuple[object, Wire]:
        wire = make()
        wire.connection_made(self.transport)
        if self.lose:
            wire.connection_lost(None)
        return self.transport, wire


async def test_a_connection_lost_as_soon_as_made_is_not_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = Loop()
    loop.transport, loop.lose = LinkLocal(), True
    kept = pool(80)
    monkeypatch.setattr("gateway.net.upstreams.asyncio.get_running_loop", lambda: loop)
    wire = await kept.connect(0)
    assert (wire.lost, kept._open) == (True, set())


async def test_a_connection_that_ends_up_link_local_is_dropped_unused(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = Loop()
    loop.transport = transport = LinkLocal()
    monkeypatch.setattr("gateway.net.upstreams.asyncio.get_running_loop", lambda: loop)
    with pytest.raises(UpstreamRefused) as refused:
        await pool(80).connect(0)
    assert "link-local" in (refused.value.detail or "")
    assert transport.aborted


@pytest.mark.parametrize("says_goodbye", [True, False], ids=["closed", "cut"])
async def test_under_tls_only_a_closure_alert_ends_a_body_without_a_length(tmp_path: Path, says_goodbye: bool) -> None:
    async def half(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        await asked.wait()
        if says_goodbye:
            writer.close()
        else:
            with socket.socket(fileno=os.dup(writer.get_extra_info("socket").fileno())) as underneath:
                underneath.shutdown(socket.SHUT_RDWR)
            writer.transport.abort()

    class Nobody:
        def body(self, data: bytes) -> None: ...

    asked = asyncio.Event()
    server = await asyncio.start_server(half, "127.0.0.1", 0, ssl=served_by(tmp_path, "127.0.0.1"))
    wire = await pool(server.sockets[0].getsockname()[1], tls=trusting(tmp_path)).connect(5)
    await wire.send(b"GET / HTTP/1.1\r\n\r\n", is_head=False, response_s=5)
    ended = wire.relay(Nobody(), idle_s=5)
    asked.set()
    await ended
    wire.abort()
    server.close()
    # RFC 9112 §9.8: without the alert somebody on the way may have cut it off.
    assert (wire.fault is None) is says_goodbye
