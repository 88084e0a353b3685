"""TLS on the wire: towards clients, towards upstreams, with certificates that change, and with those who do it wrong."""

import asyncio
import os
import shutil
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from gateway.net.tls import LOOK_EVERY
from gateway.web import accept
from gateway.web.listener import SPARE_PLACES
from tests.fakes.certificates import Authority, Pair, authority
from tests.fakes.gateway import Running, gateway, read_answer
from tests.fakes.upstream import Echo, ScriptedUpstream, read_request, response
from tests.fakes.websocket import Server, behind, echo, handshake

NAME = "gw.example.com"
REQUEST = b"GET /public/x HTTP/1.1\r\nHost: gw.example.com\r\n\r\n"
BIG = 8 << 20


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return authority().issue(NAME, "127.0.0.1").write(tmp_path, "server")


@asynccontextmanager
async def secured(
    pair: Pair, port: int, *, client_ca: str | None = None, trusting: ssl.SSLContext | None = None, **overrides: Any
) -> AsyncIterator[Running]:
    """A gateway with TLS; its clients trust the authority that is tested with."""
    tls = {"cert": pair.cert, "key": pair.key, "client_ca": client_ca}
    listen = {"host": "127.0.0.1", "port": 0, "tls": tls}
    async with gateway(port, listen=listen, **overrides) as running:
        running.secured = {"ssl": trusting or authority().trusted(), "server_hostname": NAME}
        yield running


async def look(running: Running) -> None:
    """Let so much time pass that files that have changed are read again."""
    for _ in range(2 * LOOK_EVERY):
        running.pass_time(0.1)


async def shown(running: Running) -> bytes:
    """Give the certificate a new client is shown."""
    _, writer = await running.connect()
    found: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    return found


def der(pair: Pair) -> bytes:
    return ssl.PEM_cert_to_DER_cert(Path(pair.cert).read_text())


# --- towards clients -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_requests_are_served_and_known_to_be_https(pair: Pair, version: ssl.TLSVersion) -> None:
    context, upstreams = authority().trusted(), Echo()
    context.minimum_version = context.maximum_version = version
    context.set_alpn_protocols(["h2", "http/1.1"])
    async with ScriptedUpstream(upstreams) as upstream, secured(pair, upstream.port, trusting=context) as running:
        reader, writer = await running.connect()
        for _ in range(2):
            writer.write(REQUEST)
            assert (await read_answer(reader)).status == 200
        assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"
        writer.close()
    last = upstreams.last
    assert (last.value("X-Forwarded-Proto"), last.value("X-Forwarded-Port")) == ("https", str(running.port))


async def test_older_versions_are_refused(pair: Pair) -> None:
    context = authority().trusted()
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    async with secured(pair, 1, trusting=context) as running:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await running.connect()


async def test_ciphers_without_forward_secrecy_are_refused(pair: Pair) -> None:
    context = authority().trusted()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE-ECDSA-AES128-SHA256:AES128-GCM-SHA256")
    async with secured(pair, 1, trusting=context) as running:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await running.connect()


async def test_a_cookie_opens_a_socket_for_the_gateways_own_page_under_https(pair: Pair) -> None:
    async with websockets_behind(pair) as (running, server):
        cookie = f"Cookie: __session={running.token()}; __client_uat=1"
        for origin, status in (("https", 101), ("http", 403)):
            reader, writer = await running.connect()
            writer.write(handshake("/ws", cookie, f"Origin: {origin}://gw.example.com"))
            assert int((await reader.readuntil(b"\r\n\r\n")).split(b" ")[1]) == status
            writer.close()
        assert len(server.requests) == 1


@asynccontextmanager
async def websockets_behind(pair: Pair) -> AsyncIterator[tuple[Running, Server]]:
    tls = {"cert": pair.cert, "key": pair.key}
    server = Server(echo)
    async with behind(server, listen={"host": "127.0.0.1", "port": 0, "tls": tls}) as (running, _):
        running.secured = {"ssl": authority().trusted(), "server_hostname": NAME}
        yield running, server


async def test_sockets_talk_through_tls_and_end_with_their_clients(pair: Pair) -> None:
    async with websockets_behind(pair) as (running, server):
        async with aiohttp.ClientSession() as session:
            url = f"wss://127.0.0.1:{running.port}/public/ws"
            async with session.ws_connect(url, ssl=authority().trusted(), max_msg_size=0) as socket:
                for size in (0, 100, 70_000, 5 << 20):
                    await socket.send_bytes(bytes(size))
                    assert len((await socket.receive()).data) == size
        while running.app.listener.streams:
            await asyncio.sleep(0)
    assert server.codes == [1000]


async def test_large_bodies_pass_both_ways(pair: Pair) -> None:
    async def serves(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while (request := await read_request(reader)) is not None:
            writer.write(response(body=request.body))
            await writer.drain()

    async with ScriptedUpstream(serves) as upstream:
        async with secured(pair, upstream.port, limits={"body_bytes": 0}) as running:
            body = os.urandom(BIG)
            reader, writer = await running.connect()
            writer.write(REQUEST.replace(b"GET", b"PUT")[:-2] + b"Content-Length: %d\r\n\r\n" % BIG)
            answer = asyncio.ensure_future(read_answer(reader))
            for at in range(0, BIG, 65_536):
                writer.write(body[at : at + 65_536])
                await writer.drain()
            assert (await answer).body == body
            writer.close()


async def test_a_client_that_half_closes_is_gone(pair: Pair) -> None:
    async with ScriptedUpstream(Echo()) as upstream, secured(pair, upstream.port) as running:
        _, writer = await running.connect()
        writer.close()
        while running.app.listener._open:
            await asyncio.sleep(0)


# --- clients that show certificates ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("shows", "is_let_in"), [("its own", True), ("none", False), ("another's", False)])
async def test_where_clients_must_be_certified_nobody_else_gets_in(
    pair: Pair, tmp_path: Path, shows: str, is_let_in: bool
) -> None:
    clients = {"its own": Authority("clients"), "another's": Authority("strangers")}
    client_ca = clients["its own"].write(tmp_path, "clients")
    own = clients[shows].issue().write(tmp_path, "client") if shows in clients else None
    async with secured(pair, 1, client_ca=client_ca, trusting=authority().trusted(own)) as running:
        if is_let_in:
            assert (await running.get("/healthz")).status == 200
            return
        with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
            await running.get("/healthz")
        assert not running.app.listener._open
        assert not [line for line in await running.logged() if line["event"] == "request"]


# --- files that change -----------------------------------------------------------------------------------------------


async def test_a_new_certificate_is_the_next_clients_and_open_connections_live_on(pair: Pair, tmp_path: Path) -> None:
    async with ScriptedUpstream(Echo()) as upstream, secured(pair, upstream.port) as running:
        reader, writer = await running.connect()
        before = der(pair)
        assert await shown(running) == before
        authority().issue(NAME).write(tmp_path, "server")
        await look(running)
        assert await shown(running) == der(pair) != before
        writer.write(REQUEST)
        assert (await read_answer(reader)).status == 200
        writer.close()


async def test_a_pair_that_does_not_match_changes_nothing_until_it_does(pair: Pair, tmp_path: Path) -> None:
    async with secured(pair, 1) as running:
        before, newer = der(pair), authority().issue(NAME)
        newer.write(tmp_path, "newer")
        shutil.copy(tmp_path / "newer.pem", pair.cert)
        await look(running)
        await look(running)
        assert await shown(running) == before
        shutil.copy(tmp_path / "newer.key", pair.key)
        await look(running)
        assert await shown(running) == der(pair) != before
        told = [line for line in await running.logged() if line["event"].startswith("certificate")]
    assert [(line["event"], line["level"]) for line in told] == [
        ("certificate_not_read", "error"), ("certificate_read", "info"),
    ]  # fmt: skip
    assert told[0]["why"] == "certificate and key do not belong together"


# --- those who do it wrong -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "said", [REQUEST, os.urandom(600), b"\x16\x03\x01\xff\xff" + bytes(70_000), b"\x16\x03\x01"],
    ids=["plain-http", "garbage", "endless-record", "gone-in-the-middle"],
)  # fmt: skip
async def test_what_is_no_handshake_ends_at_once_and_is_counted(
    pair: Pair, said: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with secured(pair, 1) as running:
        running.app.deadlines.stop()
        for _ in range(3):
            reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
            writer.write(said)
            writer.write_eof()
            with suppress(ConnectionError):
                assert b"HTTP" not in await reader.read()
            writer.close()
        while running.app._acceptor._arriving:
            await asyncio.sleep(0)
        assert (await running.get("/healthz")).status == 200
        running.pass_time(0)
        running.pass_time(0)
        told = [line for line in await running.logged() if line["event"] not in ("listening", "request")]
    assert [(line["event"], line["count"]) for line in told] == [("connections_not_made", 3)]
    assert caplog.records == []


async def test_who_never_finishes_the_handshake_is_cut(pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
    async with secured(pair, 1, limits={"header_read_s": 0.1}) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        assert await reader.read() == b""
        writer.close()
    assert caplog.records == []


async def test_handshakes_count_as_places(pair: Pair) -> None:
    async with secured(pair, 1, limits={"connections": 1}) as running:
        sides = [await asyncio.open_connection("127.0.0.1", running.port) for _ in range(20)]
        while running.app.listener.when_free is None:
            await asyncio.sleep(0)
        assert len(running.app._acceptor._arriving) == running.app.listener.places == 17
        for _, writer in sides[:4]:
            writer.close()
        assert (await running.get("/healthz")).status == 200
        for _, writer in sides:
            writer.close()


async def test_beyond_the_cap_handshakes_have_a_moment_only(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    # Else who begins enough of them and says nothing keeps health checks out for `header_read_s`, over and over.
    monkeypatch.setattr(accept, "BRIEF_S", 0.1)
    async with secured(pair, 1, limits={"connections": 1}) as running:
        sides = [await asyncio.open_connection("127.0.0.1", running.port) for _ in range(1 + SPARE_PLACES)]
        async with asyncio.timeout(5):
            assert (await running.get("/healthz")).status == 200
        for _, writer in sides:
            writer.close()


async def test_an_address_has_only_so_many_handshakes_under_way(pair: Pair) -> None:
    async with secured(pair, 1, limits={"connections_per_ip": 2}) as running:
        sides = [await asyncio.open_connection("127.0.0.1", running.port) for _ in range(3)]
        assert await sides[2][0].read() == b""
        assert len(running.app._acceptor._arriving) == 2
        for _, writer in sides[:2]:
            writer.close()
        while running.app._acceptor._arriving:
            await asyncio.sleep(0)
        assert (await running.get("/healthz")).status == 200
        assert not running.app._acceptor._arriving_from
        sides[2][1].close()


async def test_a_stopping_gateway_does_not_wait_for_handshakes_that_do_not_end(
    pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    async with secured(pair, 1) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        while not running.app._acceptor._arriving:
            await asyncio.sleep(0)
    assert await reader.read() == b""
    writer.close()
    assert caplog.records == []


# --- towards upstreams -----------------------------------------------------------------------------------------------


@asynccontextmanager
async def behind_tls(folder: Path, *names: str, client_ca: str | None = None, **tls: Any) -> AsyncIterator[Running]:
    """A gateway before an upstream whose certificate has these names, with these settings towards it."""
    own = authority().issue(*names).write(folder, "upstream")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own.cert, own.key)
    if client_ca is not None:
        context.load_verify_locations(client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    server_names = list[str | None]()
    context.sni_callback = lambda _socket, name, _context: server_names.append(name)
    script = Echo()
    server = await asyncio.start_server(script, "127.0.0.1", 0, ssl=context)
    url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with gateway(1, upstreams={"api": {"url": url, "tls": tls}}) as running:
        running.server_names = server_names  # type: ignore[attr-defined]
        yield running
    server.close()


async def test_an_upstream_is_verified_by_its_authority_and_its_address(tmp_path: Path) -> None:
    async with behind_tls(tmp_path, "127.0.0.1", ca=authority().write(tmp_path)) as running:
        assert (await running.get("/public/x")).status == 200


@pytest.mark.parametrize(
    ("names", "tls"),
    [
        pytest.param(["127.0.0.1"], {}, id="not-the-systems"),
        pytest.param(["127.0.0.1"], {"ca": "stranger"}, id="another-authority"),
        pytest.param(["127.0.0.2", "localhost"], {"ca": "own"}, id="another-name"),
        pytest.param(["127.0.0.1"], {"ca": "own", "server_name": "api.internal"}, id="not-the-name-asked-for"),
    ],
)
async def test_an_upstream_that_cannot_be_verified_gets_no_request(
    tmp_path: Path, names: list[str], tls: dict[str, str]
) -> None:
    files = {"own": authority().write(tmp_path), "stranger": Authority("stranger").write(tmp_path, "stranger")}
    if "ca" in tls:
        tls = tls | {"ca": files[tls["ca"]]}
    async with behind_tls(tmp_path, *names, **tls) as running:
        answer = await running.get("/public/x")
        (told,) = [line for line in await running.logged() if line["event"] == "upstream_unreachable"]
    assert (answer.status, answer.json["code"]) == (502, "upstream_unreachable")
    assert "certificate" in told["detail"].lower()


async def test_a_server_name_is_sent_and_checked(tmp_path: Path) -> None:
    tls = {"ca": authority().write(tmp_path), "server_name": "api.internal"}
    async with behind_tls(tmp_path, "api.internal", **tls) as running:
        assert (await running.get("/public/x")).status == 200
        assert running.server_names == ["api.internal"]  # type: ignore[attr-defined]


async def test_without_verification_the_name_is_sent_all_the_same(tmp_path: Path) -> None:
    async with behind_tls(tmp_path, "wrong.example", verify=False, server_name="api.internal") as running:
        assert (await running.get("/public/x")).status == 200
        assert running.server_names == ["api.internal"]  # type: ignore[attr-defined]


async def test_a_client_certificate_is_shown_and_reread(tmp_path: Path) -> None:
    clients = Authority("clients")
    own = authority().issue().write(tmp_path, "client")  # of an authority the upstream does not know
    tls = {"ca": authority().write(tmp_path), "client_cert": own.cert, "client_key": own.key}
    async with behind_tls(tmp_path, "127.0.0.1", client_ca=clients.write(tmp_path, "clients"), **tls) as running:
        assert (await running.get("/public/x")).status == 502
        clients.issue().write(tmp_path, "client")
        await look(running)
        assert (await running.get("/public/x")).status == 200


async def test_sockets_pass_on_through_tls_both_sides(pair: Pair, tmp_path: Path) -> None:
    own = authority().issue("127.0.0.1").write(tmp_path, "upstream")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own.cert, own.key)
    app = web.Application()
    app.router.add_get("/{path:.*}", Server(echo).handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    up = {"url": f"https://127.0.0.1:{runner.addresses[0][1]}", "tls": {"ca": authority().write(tmp_path)}}
    async with secured(pair, 1, upstreams={"api": up}) as running, aiohttp.ClientSession() as session:
        url = f"wss://127.0.0.1:{running.port}/public/ws"
        async with session.ws_connect(url, ssl=authority().trusted(), max_msg_size=0) as socket:
            await socket.send_bytes(bytes(3 << 20))
            assert len((await socket.receive()).data) == 3 << 20
    await runner.cleanup()
