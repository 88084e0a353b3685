"""Pools: what is kept, what is taken, and what cannot be connected to."""

import asyncio
import datetime
import os
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID

from gateway.core.model import Endpoint, Upstream
from gateway.errors import UpstreamRefused, UpstreamTimeout
from gateway.net.deadlines import Deadlines
from gateway.net.upstreams import Pool, Upstreams, is_link_local
from gateway.net.wire import Wire
from tests.fakes.clerk import rsa_key
from tests.fakes.upstream import Echo, ScriptedUpstream


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream(Echo()) as started:
        yield started


def pool(port: int, *, host: str = "127.0.0.1", tls: bool = False) -> Pool:
    return Pool(Endpoint(host, port, tls), Deadlines(time.monotonic))


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
    upstreams = Upstreams(Deadlines(time.monotonic))
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


def self_signed(folder: Path) -> ssl.SSLContext:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(rsa_key().public_key())
        .serial_number(1).not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
        .sign(rsa_key(), hashes.SHA256())
    )  # fmt: skip
    plain = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    key = rsa_key().private_bytes(serialization.Encoding.PEM, *plain)
    (folder / "both.pem").write_bytes(key + certificate.public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "both.pem")
    return context


async def test_a_certificate_nobody_vouches_for_is_refused(tmp_path: Path) -> None:
    async def accept(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=self_signed(tmp_path))
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(UpstreamRefused, match="upstream_unreachable") as refused:
        await pool(port, tls=True).connect(5)
    assert "certificate" in (refused.value.detail or "").lower()
    server.close()


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
async def test_under_tls_only_a_closure_alert_ends_a_body_without_a_length(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says_goodbye: bool
) -> None:
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
    server = await asyncio.start_server(half, "127.0.0.1", 0, ssl=self_signed(tmp_path))
    monkeypatch.setattr("gateway.net.upstreams._tls", lambda: _trusting())
    wire = await pool(server.sockets[0].getsockname()[1], tls=True).connect(5)
    await wire.send(b"GET / HTTP/1.1\r\n\r\n", is_head=False, response_s=5)
    ended = wire.relay(Nobody(), idle_s=5)
    asked.set()
    await ended
    wire.abort()
    server.close()
    # RFC 9112 §9.8: without the alert somebody on the way may have cut it off.
    assert (wire.fault is None) is says_goodbye


def _trusting() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


# --- another configuration's upstreams ---------------------------------------------------------------------------------


def named(port: int, **more: object) -> Upstream:
    return Upstream("api", Endpoint("127.0.0.1", port), **more)  # type: ignore[arg-type]


async def used(upstreams: Upstreams, upstream: Upstream) -> Wire:
    """Exchange once; give the wire, which is idle now."""
    pool = upstreams.pool(upstream)
    wire = pool.take() or await pool.connect(1.0)
    await wire.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", is_head=False, response_s=9.0)
    pool.give_back(wire)
    return wire


async def test_the_pool_of_an_equal_upstream_lives_on() -> None:
    async with ScriptedUpstream(Echo()) as server:
        upstreams = Upstreams(Deadlines(time.monotonic))
        old, new = named(server.port), named(server.port)
        wire = await used(upstreams, old)
        upstreams.adopt([new])
        assert upstreams.pool(new) is upstreams.pool(old)
        assert await used(upstreams, new) is wire
        assert server.connections == 1
        upstreams.close()


async def test_an_idle_connection_of_one_that_is_gone_is_closed() -> None:
    async with ScriptedUpstream(Echo()) as server:
        upstreams = Upstreams(Deadlines(time.monotonic))
        wire = await used(upstreams, named(server.port))
        upstreams.adopt([])
        while not wire.lost:
            await asyncio.sleep(0)
        upstreams.close()


@pytest.mark.parametrize("after", [[], [named(1)]], ids=["gone", "changed"])
async def test_a_busy_connection_of_one_that_is_gone_ends_with_its_exchange(after: list[Upstream]) -> None:
    async with ScriptedUpstream(Echo()) as server:
        upstreams = Upstreams(Deadlines(time.monotonic))
        old = named(server.port)
        pool = upstreams.pool(old)
        wire = await pool.connect(1.0)
        answered = wire.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", is_head=False, response_s=9.0)
        upstreams.adopt(after)
        await answered
        assert (wire.status, wire.fault, wire.lost) == (200, None, False)
        pool.give_back(wire)
        while not wire.lost:
            await asyncio.sleep(0)
        assert pool.take() is None
        upstreams.close()


async def test_a_request_that_began_before_goes_where_it_was_meant_to() -> None:
    async with ScriptedUpstream(Echo()) as server, ScriptedUpstream(Echo()) as elsewhere:
        upstreams = Upstreams(Deadlines(time.monotonic))
        old, new = named(server.port), named(elsewhere.port)
        await used(upstreams, old)
        upstreams.adopt([new])
        await used(upstreams, new)
        late = await used(upstreams, old)
        assert (server.connections, elsewhere.connections) == (2, 1)
        while not late.lost:  # nothing of it is kept
            await asyncio.sleep(0)
        await used(upstreams, new)
        assert elsewhere.connections == 1
        upstreams.close()


async def test_close_drops_what_is_retired_too() -> None:
    async with ScriptedUpstream(Echo()) as server:
        upstreams = Upstreams(Deadlines(time.monotonic))
        wire = await upstreams.pool(named(server.port)).connect(1.0)
        upstreams.adopt([named(1)])
        upstreams.adopt([named(2)])  # a second one, while it is still busy
        upstreams.close()
        while not wire.lost:
            await asyncio.sleep(0)
