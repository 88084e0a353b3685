"""Streams and sockets across reloads, and a hundred reloads under load without a failed request."""

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.errors import ConfigError
from tests.fakes.certificates import authority
from tests.fakes.clerk import FakeIssuer
from tests.fakes.gateway import CLERK, Running, gateway, read_answer
from tests.fakes.upstream import ScriptedUpstream, read_request, response
from tests.fakes.websocket import Server, behind

PUBLIC = {"name": "public", "path": "/public/*", "upstream": "api", "auth": "public"}
OTHER = {"name": "other", "path": "/other", "upstream": "api", "auth": "public"}
RELOADS, CLIENTS = 100, 16


class Ticker:
    """An upstream whose answer is an event stream that ends when the test says so."""

    def __init__(self) -> None:
        self.ticks: asyncio.Queue[bytes] = asyncio.Queue()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        while tick := await self.ticks.get():
            writer.write(b"%x\r\n%b\r\n" % (len(tick), tick))
        writer.write(b"0\r\n\r\n")


async def stream_through(overrides: dict[str, Any], *, moved: bool = False) -> None:
    """Reload in the middle of a stream, and see it go on to its end."""
    ticker = Ticker()
    async with ScriptedUpstream(ticker) as upstream, gateway(upstream.port, routes=[PUBLIC]) as running:
        reader, writer = await running.connect()
        writer.write(b"GET /public/events HTTP/1.1\r\nHost: a\r\n\r\n")
        ticker.ticks.put_nowait(b"before")
        await reader.readuntil(b"before\r\n")
        running.file.write(1 if moved else upstream.port, **overrides)
        await running.app.reload()
        ticker.ticks.put_nowait(b"behind")
        await reader.readuntil(b"behind\r\n")
        ticker.ticks.put_nowait(b"")
        assert await reader.readuntil(b"0\r\n\r\n") == b"0\r\n\r\n"
        assert (await running.get("/public/x")).status == (502 if moved else 404)
        writer.close()


async def test_a_certificate_that_goes_while_keys_are_fetched_is_not_missed(tmp_path: Path) -> None:
    first, second = (authority().issue("gw.example.com").write(tmp_path, name) for name in ("first", "second"))
    async with ScriptedUpstream(Ticker()) as upstream, FakeIssuer(CLERK) as issuer:
        listen = {"host": "127.0.0.1", "port": 0, "tls": {"cert": first.cert, "key": first.key}}
        async with gateway(upstream.port, listen=listen) as running:
            issuer.hold = asyncio.Event()
            clerk = {"issuer": CLERK.issuer, "jwks_url": issuer.jwks_url}
            moved = listen | {"tls": {"cert": second.cert, "key": second.key}}
            running.file.write(upstream.port, clerk=clerk, listen=moved)
            reloading = asyncio.ensure_future(running.app.reload())
            await issuer.arrived.wait()
            Path(second.cert).unlink()  # noqa: ASYNC240  a file in a test
            issuer.hold.set()
            assert await reloading == ["tls", "issuers"]
            assert running.app._acceptor.tls._files[0] == second.cert  # type: ignore[union-attr]


async def test_a_certificate_that_cannot_be_used_after_all_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (authority().issue("gw.example.com").write(tmp_path, name) for name in ("first", "second"))
    async with ScriptedUpstream(Ticker()) as upstream:
        listen = {"host": "127.0.0.1", "port": 0, "tls": {"cert": first.cert, "key": first.key}}
        async with gateway(upstream.port, listen=listen) as running:
            before, reread = running.app._generation, running.app._reread

            def read_and_lose() -> object:
                config = reread()
                Path(second.cert).unlink()
                return config

            running.file.write(
                upstream.port, listen=listen | {"tls": {"cert": second.cert, "key": second.key}}, routes=[PUBLIC]
            )
            monkeypatch.setattr(running.app, "_reread", read_and_lose)
            with pytest.raises(ConfigError, match=r"listen\.tls"):
                await running.app.reload()
            assert running.app._generation is before
            assert running.app.listener.deps is before.deps


async def test_a_stream_goes_on_when_its_route_is_gone() -> None:
    await stream_through({"routes": [OTHER]})


async def test_a_stream_goes_on_when_its_upstream_has_moved() -> None:
    await stream_through({"routes": [PUBLIC]}, moved=True)


async def test_an_upload_goes_on_to_where_it_began() -> None:
    got = asyncio.Event()
    bodies = []

    async def sink(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"Content-Length: 10" in head
        got.set()
        bodies.append(await reader.readexactly(10))
        writer.write(response(body=b"done"))

    async with ScriptedUpstream(sink) as upstream, gateway(upstream.port, routes=[PUBLIC]) as running:
        reader, writer = await running.connect()
        writer.write(b"POST /public/x HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n01234")
        await got.wait()
        running.file.write(1, routes=[OTHER], limits={"body_bytes": 1})
        await running.app.reload()
        writer.write(b"56789")
        assert (await read_answer(reader)).body == b"done"
        assert bodies == [b"0123456789"]
        writer.close()


async def test_a_socket_on_an_unchanged_route_stays_open() -> None:
    server = Server()
    async with behind(server, routes=[PUBLIC]) as (running, session):
        async with session.ws_connect("/public/ws") as socket:
            await say(socket, "before")
            for routes in ([PUBLIC, OTHER], [OTHER, PUBLIC], [PUBLIC]):
                running.file.write(upstream_port(running), routes=routes)
                await running.app.reload()
                await say(socket, "behind")
        assert len(server.requests) == 1


async def test_a_socket_on_a_route_that_is_gone_ends_by_itself_and_no_new_one_is_opened() -> None:
    server = Server()
    async with behind(server, routes=[PUBLIC]) as (running, session):
        async with session.ws_connect("/public/ws") as socket:
            await say(socket, "before")
            running.file.write(1, routes=[OTHER])
            await running.app.reload()
            await say(socket, "behind")
            try:
                await session.ws_connect("/public/ws")
            except aiohttp.WSServerHandshakeError as refused:
                assert refused.status == 404
        assert server.codes == [1000]


async def say(socket: aiohttp.ClientWebSocketResponse, text: str) -> None:
    await socket.send_str(text)
    assert (await socket.receive()).data == text


def upstream_port(running: Running) -> int:
    return running.app.routes[0].upstream.endpoints[0].port


async def test_a_hundred_reloads_under_load_fail_no_request() -> None:
    async def answering(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await read_request(reader):
            writer.write(response(body=b"x" * 500))

    over, statuses = asyncio.Event(), []

    async def client(running: Running) -> None:
        reader, writer = await running.connect()
        while not over.is_set():
            writer.write(b"GET /public/x HTTP/1.1\r\nHost: a\r\n\r\n")
            answer = await read_answer(reader)
            statuses.append(answer.status)
            assert answer.value("connection") is None
        writer.close()

    async with (
        ScriptedUpstream(answering) as upstream,
        ScriptedUpstream(answering) as twin,
        gateway(upstream.port) as running,
    ):
        clients = [asyncio.ensure_future(client(running)) for _ in range(CLIENTS)]
        for number in range(RELOADS):
            # In turn: nothing, another order, another upstream address.
            routes = [PUBLIC, OTHER | {"name": f"r{number}"}][:: -1 if number % 3 == 1 else 1]
            running.file.write((upstream if number % 3 else twin).port, routes=routes)
            await running.app.reload()
        over.set()
        await asyncio.gather(*clients)
    assert set(statuses) == {200}
    assert len(statuses) > RELOADS
