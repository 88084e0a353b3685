"""Pools: what is kept, what is taken, and what cannot be connected to."""

import asyncio
import datetime
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID

from gateway.core.model import Endpoint
from gateway.errors import UpstreamRefused, UpstreamTimeout
from gateway.net.deadlines import Deadlines
from gateway.net.upstreams import Pool, Upstreams
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
    endpoint = Endpoint("127.0.0.1", upstream.port)
    assert upstreams.pool(endpoint) is upstreams.pool(Endpoint("127.0.0.1", upstream.port))
    kept = upstreams.pool(endpoint)
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
