"""Pools: what is kept, what is taken, and what cannot be connected to."""

import asyncio
import os
import socket
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.core.model import Endpoint, ListenTls, Upstream, UpstreamTls
from gateway.errors import Overloaded, UpstreamRefused, UpstreamTimeout
from gateway.net.deadlines import Deadlines
from gateway.net.pool import Pool, is_link_local
from gateway.net.tls import Contexts, server_context
from gateway.net.wire import Wire
from tests.fakes.certificates import authority
from tests.fakes.exhaustion import no_descriptors
from tests.fakes.upstream import Echo, ScriptedUpstream


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream(Echo()) as started:
        yield started


def pool(port: int, *, host: str = "127.0.0.1", tls: UpstreamTls | None = None, **settings: Any) -> Pool:
    endpoint = Endpoint(host, port, tls is not None)
    upstream = Upstream("api", (endpoint,), tls=tls or UpstreamTls(), **settings)
    return Pool(endpoint, upstream, Deadlines(time.monotonic), Contexts(lambda *_, **__: None))


def trusting(folder: Path) -> UpstreamTls:
    return UpstreamTls(ca=authority().write(folder))


def served_by(folder: Path, *names: str) -> ssl.SSLContext:
    pair = authority().issue(*names).write(folder, "upstream")
    return server_context(ListenTls(pair.cert, pair.key))


async def exchange(pool: Pool) -> object:
    return await exchange_on(pool.take() or await pool.connect(5))


async def exchange_on(wire: Wire) -> Wire:
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
    kept = pool(upstream.port)
    busy, idle = await exchange(kept), await exchange(kept)
    kept.give_back(idle)  # type: ignore[arg-type]
    kept.close()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert (busy.lost, idle.lost, kept.take()) == (True, True, None)  # type: ignore[attr-defined]


async def test_nobody_there_is_told_with_the_address() -> None:
    with pytest.raises(UpstreamRefused) as refused:
        await pool(1).connect(5)
    assert "127.0.0.1:1" in (refused.value.detail or "")


async def test_without_a_descriptor_left_the_fault_is_not_the_endpoints(upstream: ScriptedUpstream) -> None:
    full = pool(upstream.port)
    with no_descriptors(), pytest.raises(Overloaded):
        await full.connect(5)
    assert await full.connect(5)
    full.close()


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
    assert "No such file or directory" in (refused.value.detail or "")
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


async def test_a_link_local_address_is_never_connected_to() -> None:
    with pytest.raises(UpstreamRefused) as refused:
        await pool(80, host="169.254.169.254").connect(5)
    assert "link-local" in (refused.value.detail or "")


async def test_a_name_that_turns_out_link_local_is_never_connected_to() -> None:
    named = pool(80, host="metadata.internal")
    named._addresses.known = ("169.254.169.254",)
    with pytest.raises(UpstreamRefused) as refused:
        await named.connect(5)
    assert "link-local" in (refused.value.detail or "")
    named.close()


class Unlucky(Pool):
    """A pool whose connections are lost as soon as they are made."""

    async def _opened(self, within_s: float) -> Wire:
        wire = await super()._opened(within_s)
        wire.abort()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert wire.lost
        return wire


async def test_a_connection_lost_as_soon_as_made_takes_no_place(upstream: ScriptedUpstream) -> None:
    endpoint = Endpoint("127.0.0.1", upstream.port)
    kept = Unlucky(
        endpoint, Upstream("api", (endpoint,), max_connections=1), Deadlines(time.monotonic), Contexts(print)
    )
    for _ in range(3):
        assert (await kept.connect(5)).lost
    kept.close()


# --- as many as there may be --------------------------------------------------------------------------------------


async def waiting(kept: Pool, within_s: float = 5) -> "asyncio.Task[Wire]":
    task = asyncio.ensure_future(kept.connect(within_s))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not task.done()
    return task


async def test_whoever_waits_longest_gets_the_connection_that_becomes_free(upstream: ScriptedUpstream) -> None:
    kept = pool(upstream.port, max_connections=1)
    wire = await exchange(kept)
    first, second = await waiting(kept), await waiting(kept)
    kept.give_back(wire)  # type: ignore[arg-type]
    assert await first is wire
    assert kept.take() is None
    assert not second.done()
    await (await first).send(b"GET / HTTP/1.1\r\n\r\n", is_head=False, response_s=5)
    kept.give_back(await first)
    assert await second is wire
    kept.close()


async def test_a_place_that_becomes_free_is_taken_by_a_new_connection(upstream: ScriptedUpstream) -> None:
    kept = pool(upstream.port, max_connections=1)
    wire = await kept.connect(5)
    waits = await waiting(kept)
    wire.abort()
    assert await waits is not wire
    kept.close()


async def test_who_waits_while_all_ends_waits_in_vain(upstream: ScriptedUpstream) -> None:
    kept = pool(upstream.port, max_connections=1)
    await kept.connect(5)
    waits = await waiting(kept)
    kept.close()
    with pytest.raises(UpstreamRefused):
        await waits


async def test_a_tunnel_takes_no_place(upstream: ScriptedUpstream) -> None:
    kept = pool(upstream.port, max_connections=1)
    wire = await kept.connect(5)
    kept.let_go(wire)
    another = await kept.connect(5)
    waits = await waiting(kept)
    wire.abort()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not waits.done()
    another.abort()
    await waits
    kept.close()


async def test_only_so_many_wait_and_only_so_long(upstream: ScriptedUpstream) -> None:
    kept = pool(upstream.port, max_connections=1, max_pending=1)
    wire = await kept.connect(5)
    waits = await waiting(kept)
    with pytest.raises(Overloaded) as refused:
        await kept.connect(5)
    assert "1 waiting" in (refused.value.detail or "")
    waits.cancel()
    await asyncio.wait((waits,))
    with pytest.raises(Overloaded):
        await kept.connect(0)
    wire.abort()
    kept.close()


@pytest.mark.parametrize("given", ["connection", "place"])
async def test_what_was_granted_to_someone_who_left_is_passed_on(upstream: ScriptedUpstream, given: str) -> None:
    kept = pool(upstream.port, max_connections=1)
    wire = await exchange(kept)
    leaves, stays = await waiting(kept), await waiting(kept)
    if given == "connection":
        kept.give_back(wire)  # type: ignore[arg-type]
    else:
        kept.let_go(wire)  # type: ignore[arg-type]
    leaves.cancel()
    assert (await stays is wire) is (given == "connection")
    assert leaves.cancelled()
    kept.close()
    wire.abort()  # type: ignore[attr-defined]


@pytest.mark.parametrize("how", ["lost", "closing"])
async def test_a_connection_that_went_away_just_as_it_was_granted_is_given_to_nobody(
    upstream: ScriptedUpstream, how: str
) -> None:
    kept = pool(upstream.port, max_connections=1)
    wire = await exchange(kept)
    waits = await waiting(kept)
    kept.give_back(wire)  # type: ignore[arg-type]
    if how == "lost":
        wire.connection_lost(None)  # type: ignore[attr-defined]
    else:
        wire.eof_received()  # type: ignore[attr-defined]
    another = await waits
    assert another is not wire
    assert (another.keep, kept._places) == (True, 1)
    assert (await exchange_on(another)).fault is None
    kept.close()


async def test_whoever_wants_a_new_connection_takes_the_place_of_one_that_becomes_free(
    upstream: ScriptedUpstream,
) -> None:
    kept = pool(upstream.port, max_connections=1)
    wire = await exchange(kept)
    waits = asyncio.ensure_future(kept.connect(5, anew=True))
    await asyncio.sleep(0)
    kept.give_back(wire)  # type: ignore[arg-type]
    assert await waits is not wire
    await asyncio.sleep(0)
    assert (wire.lost, kept._places, kept.take()) == (True, 1, None)  # type: ignore[attr-defined]
    kept.close()


async def test_a_connection_that_fails_leaves_its_place(upstream: ScriptedUpstream) -> None:
    kept = pool(1, max_connections=1)
    for _ in range(3):
        with pytest.raises(UpstreamRefused):
            await kept.connect(5)


# --- the end of its use -------------------------------------------------------------------------------------------


async def test_a_retired_pool_lets_what_runs_finish_and_keeps_nothing(upstream: ScriptedUpstream) -> None:
    kept = pool(upstream.port)
    busy, idle = await exchange(kept), await exchange(kept)
    kept.give_back(idle)  # type: ignore[arg-type]
    kept.retire()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert (busy.lost, idle.lost) == (False, True)  # type: ignore[attr-defined]
    kept.give_back(busy)  # type: ignore[arg-type]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert busy.lost  # type: ignore[attr-defined]


async def test_connections_to_an_address_the_name_has_no_more_are_used_no_more(upstream: ScriptedUpstream) -> None:
    kept = pool(upstream.port)
    busy, idle = await exchange(kept), await exchange(kept)
    kept.give_back(idle)  # type: ignore[arg-type]
    kept._addresses_changed(frozenset({"127.0.0.1", "127.0.0.2"}))
    assert kept.take() is idle
    await idle.send(b"GET / HTTP/1.1\r\n\r\n", is_head=False, response_s=5)  # type: ignore[attr-defined]
    kept.give_back(idle)  # type: ignore[arg-type]
    kept._addresses_changed(frozenset({"127.0.0.2"}))
    assert kept.take() is None
    kept.give_back(busy)  # type: ignore[arg-type]
    assert kept.take() is None
    kept.close()


async def test_each_connection_begins_with_another_address_of_the_preferred_family() -> None:
    four, six = ("10.0.0.1", "10.0.0.2"), ("::1",)
    kept = pool(80)
    assert [kept._in_turn(four + six) for _ in range(3)] == [
        ["10.0.0.2", "10.0.0.1", "::1"], ["10.0.0.1", "10.0.0.2", "::1"], ["10.0.0.2", "10.0.0.1", "::1"],
    ]  # fmt: skip
    assert kept._in_turn(six + four) == ["::1", "10.0.0.1", "10.0.0.2"]


async def test_an_address_where_nobody_listens_is_passed_over(upstream: ScriptedUpstream) -> None:
    named = pool(upstream.port, host="api.internal")
    named._addresses.known, named._addresses._looked_at = ("127.0.0.9", "127.0.0.1"), float("inf")
    for _ in range(2):
        wire = await named.connect(5)
        assert wire.transport is not None
        assert wire.transport.get_extra_info("peername")[0] == "127.0.0.1"
    named.close()


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
