import asyncio
import socket
import ssl
import threading
import time
from email.utils import formatdate

import pytest

from gateway.ops.doctor.asking import MOST_BYTES, Answer, Asker, LinkLocal, Unreached, apart, unreached
from tests.fakes.certificates import authority
from tests.fakes.upstream import Echo, ScriptedUpstream, read_request, response


def replying(*parts: bytes):
    async def script(reader, writer):
        await read_request(reader)
        for part in parts:
            writer.write(part)
        await writer.drain()

    return script


async def asked(script, *, scheme="http", path="/", **options):
    asker = {name: options.pop(name) for name in ("clock", "total_s", "connect_s") if name in options}
    async with ScriptedUpstream(script) as server, Asker(**asker) as one:
        return await one.ask(f"{scheme}://127.0.0.1:{server.port}{path}", **options)


async def test_an_answer_is_taken_as_it_came():
    found = await asked(
        replying(response(404, b"gone", fields=("Server: x", "Set-Cookie: a=b", "Content-Type: text/html")))
    )
    assert found == Answer(404, {"server": "x", "content-type": "text/html"}, b"gone")
    assert found.is_html


async def test_no_redirect_is_followed():
    found = await asked(replying(response(302, fields=("Location: https://elsewhere.example/",))))
    assert found == Answer(302, {"location": "https://elsewhere.example/"})


async def test_what_is_sent_is_what_was_meant():
    echo = Echo()
    await asked(echo, path="/a%2Fb?c=%20", method="POST", headers={"Host": "api.example.com"}, body=b"{}")
    sent = echo.last
    assert (sent.method, sent.target, sent.value("host"), sent.body) == (
        "POST",
        "/a%2Fb?c=%20",
        "api.example.com",
        b"{}",
    )
    assert sent.value("user-agent") == "gateway-doctor"


async def test_an_endless_answer_is_cut():
    found = await asked(replying(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", b"x" * (MOST_BYTES + 5)))
    assert (len(found.body), found.is_cut) == (MOST_BYTES, True)


@pytest.mark.parametrize(
    ("fields", "offset_s"),
    [
        pytest.param(("Date: " + formatdate(1000, usegmt=True),), 500.5, id="ahead"),
        pytest.param(("Date: " + formatdate(400, usegmt=True), "Age: 100"), 0.0, id="from-a-cache"),
        pytest.param(("Date: " + formatdate(500, usegmt=True), "Age: soon"), 0.0, id="odd-age"),
        pytest.param(("Date: today",), None, id="no-date"),
        pytest.param((), None, id="none"),
    ],
)
async def test_the_other_clock_is_read(fields, offset_s):
    found = await asked(replying(response(fields=fields)), clock=lambda: 500.0)
    assert found.offset_s == offset_s


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(replying(b"SSH-2.0-OpenSSH_9\r\n\r\n"), id="another-protocol"),
        pytest.param(replying(), id="closed"),
        pytest.param(replying(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx"), id="cut"),
        pytest.param(replying(b"HTTP/1.1 200 OK\r\nX: " + b"a" * 70_000 + b"\r\n\r\n"), id="huge-head"),
    ],
)
async def test_what_is_no_http_is_called_so(script):
    assert (await asked(script)).why == "not-http"


async def test_what_hangs_is_given_up():
    async def silent(reader, writer):
        await reader.read()

    assert await asked(silent, total_s=0.1) == Unreached("timeout")


async def test_nobody_there_is_refused():
    async with ScriptedUpstream(Echo()) as server:
        port = server.port
    async with Asker() as one:
        assert await one.ask(f"http://127.0.0.1:{port}/") == Unreached("refused")


async def test_a_name_that_does_not_exist_is_dns(monkeypatch):
    def fail(*_):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    async with Asker() as one:
        assert await one.ask("http://nowhere.example/") == Unreached("dns", "Name or service not known")


async def test_tls_without_tls_and_by_another_name(tmp_path):
    async def plain(reader, writer):
        await reader.read(1)
        writer.write(response(400))

    assert await asked(plain, scheme="https") == Unreached("tls", "WRONG_VERSION_NUMBER")
    pair = authority().issue("other.example").write(tmp_path, "server")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    async with server, Asker() as one:
        stranger = await one.ask(url)
        assert (stranger.why, "certificate" in stranger.detail) == ("tls", True)
        misnamed = await one.ask(url, tls=authority().trusted(), server_name="api.example")
        assert "Hostname mismatch" in misnamed.detail


async def test_a_name_that_leads_to_clouds_credentials_is_not_asked(monkeypatch):
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("169.254.169.254", 80))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: found)
    async with Asker() as one:
        assert (await one.ask("http://metadata.example/")).why == "link-local"


def test_a_resolver_that_hangs_does_not_hold_the_command(monkeypatch):
    never = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: never.wait(30))

    async def ask():
        async with Asker(total_s=0.1) as one:
            return await one.ask("http://slow.example/")

    began = time.monotonic()
    assert asyncio.run(ask()) == Unreached("timeout")  # and the loop ends without waiting for the thread
    assert time.monotonic() - began < 20
    never.set()


async def test_what_a_thread_raises_is_raised_where_it_is_awaited():
    def fail():
        raise LookupError("x")

    with pytest.raises(LookupError):
        await apart(fail)
    assert await apart(lambda a: a + 1, 1) == 2


def test_other_faults_have_a_name():
    assert unreached(OSError(113, "No route to host")) == Unreached("failed", "No route to host")
    assert unreached(ValueError("x")) == Unreached("failed", "ValueError")
    assert unreached(LinkLocal("y")).why == "link-local"


async def test_a_slow_answer_says_less_of_the_clock():
    moments = iter([500.0, 510.0])
    found = await asked(
        replying(response(fields=("Date: " + formatdate(500, usegmt=True),))), clock=lambda: next(moments)
    )
    assert found.offset_s == 0.0
