"""One attempt of a delivery, to upstreams that are near, secured, several, rude or not there at all."""

import asyncio
import base64
import socket
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.core.delivery import Answer, Subscription
from gateway.core.model import Endpoint, Upstream, UpstreamTls
from gateway.net import sender as senders
from gateway.net.sender import READ_BYTES, Sender
from gateway.net.tls import Contexts
from tests.fakes.certificates import authority
from tests.fakes.receiver import PATH, SECRET, Receiver, verified
from tests.fakes.upstream import ScriptedUpstream, read_request, response
from tests.net.test_upstreams import free_port

KEY = base64.b64decode(SECRET.removeprefix("whsec_"))
BODY = b'{"type":"user.created","data":{}}'


def at(*ports: int, tls: UpstreamTls | None = None, path: str = PATH, weights: tuple[int, ...] = ()) -> Subscription:
    ends = tuple(
        Endpoint("127.0.0.1", port, tls is not None, b"127.0.0.1:%d" % port, weight)
        for port, weight in zip(ports, weights or (1,) * len(ports), strict=True)
    )
    return Subscription(Upstream("api", ends, tls=tls or UpstreamTls(), connect_s=1.0), path, ("*",), KEY)


async def yes() -> bool:
    """Let it be sent once more."""
    return True


@pytest.fixture
async def sender() -> AsyncIterator[Sender]:
    made = Sender(Contexts(lambda *_, **__: None), now=time.time)
    yield made
    await made.close()


async def test_a_connection_is_used_again(sender: Sender) -> None:
    async with (receiver := Receiver()).upstream() as upstream:
        for _ in range(3):
            assert await sender.send(at(upstream.port, path="/v1/in?x=%2f"), "msg_1", BODY, still=yes) == Answer(200)
        assert upstream.connections == 1
    assert {request.target for request in receiver.seen} == {"/v1/in?x=%2f"}
    assert verified(receiver.seen[0])["type"] == "user.created"


async def test_cookies_are_not_kept_and_redirects_not_followed(sender: Sender) -> None:
    async with (receiver := Receiver()).upstream() as upstream:
        receiver.answer = lambda _: response(307, fields=("Location: /elsewhere", "Set-Cookie: a=b; Path=/"))
        assert await sender.send(at(upstream.port), "msg_1", BODY, still=yes) == Answer(307)
        await sender.send(at(upstream.port), "msg_1", BODY, still=yes)
    assert [request.target for request in receiver.seen] == [PATH, PATH]
    assert all(request.value("cookie") is None for request in receiver.seen)


async def test_proxies_of_the_environment_are_not_asked(sender: Sender, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    async with Receiver().upstream() as upstream:
        assert await sender.send(at(upstream.port), "msg_1", BODY, still=yes) == Answer(200)


async def test_endpoints_take_turns_and_one_that_is_away_is_passed_over(sender: Sender) -> None:
    one, other = Receiver(), Receiver()
    async with one.upstream() as first, other.upstream() as second:
        ports = first.port, second.port, free_port()
        for _ in range(6):
            assert await sender.send(at(*ports), "msg_1", BODY, still=yes) == Answer(200)
        assert min(len(one.ids), len(other.ids)) >= 2
        had = len(other.ids)
        await sender.send(at(first.port, second.port, weights=(1, 0)), "msg_1", BODY, still=yes)
        assert len(other.ids) == had


async def test_a_connection_that_ends_as_it_is_used_again_is_no_failure(sender: Sender) -> None:
    served = 0

    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal served
        await read_request(reader)
        served += 1
        writer.write(response())
        await read_request(reader)  # and then it is gone, without a word

    async with ScriptedUpstream(once) as upstream:
        for _ in range(3):
            assert await sender.send(at(upstream.port), "msg_1", BODY, still=yes) == Answer(200)
    assert served == 3


async def test_who_never_answers_is_tried_twice_at_most(sender: Sender) -> None:
    asked = 0

    async def mute(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        nonlocal asked
        await read_request(reader)
        asked += 1

    async with ScriptedUpstream(mute) as upstream:
        answer = await sender.send(at(upstream.port), "msg_1", BODY, still=yes)
    assert answer == Answer(None, "ended the connection without an answer")
    assert asked == 2


async def test_what_is_withdrawn_is_not_sent_a_second_time(sender: Sender) -> None:
    asked = 0

    async def mute(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        nonlocal asked
        await read_request(reader)
        asked += 1

    async def no() -> bool:
        return False

    async with ScriptedUpstream(mute) as upstream, (receiver := Receiver()).upstream() as other:
        assert await sender.send(at(upstream.port), "msg_1", BODY, still=no) is None
        assert asked == 1
        sender._turn = 1  # the one that is not there first
        assert await sender.send(at(free_port(), other.port), "msg_1", BODY, still=no) is None
        assert await sender.send(at(other.port), "msg_1", BODY, still=no) == Answer(200)  # not asked
    assert len(receiver.ids) == 1


async def test_nobody_there(sender: Sender) -> None:
    answer = await sender.send(at(free_port()), "msg_1", BODY, still=yes)
    assert answer.status is None
    assert str(answer.error).startswith("cannot be connected to: ")


async def test_a_name_that_cannot_be_one(sender: Sender) -> None:
    end = Endpoint("a" * 70, 1, authority=b"a" * 70 + b":1")
    answer = await sender.send(Subscription(Upstream("api", (end,)), PATH, ("*",), KEY), "msg_1", BODY, still=yes)
    assert answer.status is None
    assert answer.error


def test_what_is_said_of_a_fault_can_be_stored() -> None:
    assert senders._described(OSError(1, "no\0such\x1b[31m thing" + "x" * 300)).startswith("nosuch[31m thing")
    assert len(senders._described(OSError(1, "x" * 300))) == 200


async def test_who_does_not_answer_in_time(sender: Sender, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(senders, "ANSWER_S", 0.05)
    receiver = Receiver()
    receiver.hold = asyncio.Event()
    async with receiver.upstream() as upstream:
        assert await sender.send(at(upstream.port), "msg_1", BODY, still=yes) == Answer(None, "no answer within 0.05 s")


@pytest.mark.parametrize("length", [READ_BYTES - 1, 1024 * READ_BYTES])
async def test_of_an_answer_only_the_status_counts(sender: Sender, length: int) -> None:
    async with (receiver := Receiver()).upstream() as upstream:
        receiver.answer = lambda _: response(202, b"x" * length, fields=("Content-Encoding: gzip",))
        for _ in range(2):
            assert await sender.send(at(upstream.port), "msg_1", BODY, still=yes) == Answer(202)
        assert upstream.connections == (1 if length < READ_BYTES else 2)


async def test_an_answer_whose_body_never_ends_is_one(sender: Sender, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(senders, "READ_S", 0.05)

    async def dripping(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nx")
        await reader.read()

    async with ScriptedUpstream(dripping) as upstream:
        assert await sender.send(at(upstream.port), "msg_1", BODY, still=yes) == Answer(200)


async def test_an_answer_that_begins_in_time_is_one_however_long_it_goes_on(
    sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(senders, "ANSWER_S", 0.3)

    async def late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        await asyncio.sleep(0.1)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nx")
        await reader.read()

    async with ScriptedUpstream(late) as upstream:
        assert await sender.send(at(upstream.port), "msg_1", BODY, still=yes) == Answer(200)


async def test_a_name_that_leads_to_link_local_is_not_followed(sender: Sender, monkeypatch: pytest.MonkeyPatch) -> None:
    async def resolve(*_: Any, **__: Any) -> list[dict[str, Any]]:
        return [{"hostname": "hook", "host": "169.254.169.254", "port": 80, "family": socket.AF_INET,
                 "proto": 0, "flags": 0}]  # fmt: skip

    monkeypatch.setattr("aiohttp.resolver.ThreadedResolver.resolve", resolve)
    monkeypatch.setattr("aiohttp.resolver.AsyncResolver.resolve", resolve)
    end = Endpoint("hook", 80, authority=b"hook:80")
    answer = await sender.send(Subscription(Upstream("api", (end,)), PATH, ("*",), KEY), "msg_1", BODY, still=yes)
    assert answer == Answer(None, "cannot be connected to: it is link-local")


@pytest.mark.parametrize(
    "answer", [b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100_000, b"HTTP/1.1 999999 X\r\n\r\n"]
)
async def test_an_answer_that_is_none(sender: Sender, answer: bytes) -> None:
    async with (receiver := Receiver()).upstream() as upstream:
        receiver.answer = lambda _: answer
        told = await sender.send(at(upstream.port), "msg_1", BODY, still=yes)
    assert told.status is None
    assert told.error


async def test_a_large_event(sender: Sender) -> None:
    body = b'{"type":"x.y","data":{"a":"%b"}}' % (b"a" * 2**20)
    async with (receiver := Receiver()).upstream() as upstream:
        assert await sender.send(at(upstream.port), "msg_1", body, still=yes) == Answer(200)
    assert receiver.seen[0].body == body
    assert receiver.seen[0].value("content-length") == str(len(body))
    verified(receiver.seen[0])


async def secured(folder: Path, receiver: Receiver, *names: str) -> tuple[asyncio.Server, int]:
    pair = authority().issue(*names).write(folder, "server")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await receiver(reader, writer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    return server, server.sockets[0].getsockname()[1]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        pytest.param({"server_name": "api.internal"}, None, id="by-the-configured-name"),
        pytest.param({}, "its certificate is not accepted", id="another-name"),
        pytest.param(
            {"server_name": "api.internal", "ca": None}, "its certificate is not accepted", id="another-authority"
        ),
        pytest.param({"ca": None, "verify": False}, None, id="not-verified"),
        pytest.param({"ca": "/nowhere.pem"}, "No such file", id="no-such-file"),
    ],
)
async def test_tls_is_as_configured(tmp_path: Path, sender: Sender, settings: dict[str, Any], said: str | None) -> None:
    server, port = await secured(tmp_path, receiver := Receiver(), "api.internal")
    tls = UpstreamTls(**({"ca": authority().write(tmp_path)} | settings))
    answer = await sender.send(at(port, tls=tls), "msg_1", BODY, still=yes)
    await sender.close()
    server.close()
    assert answer.status == (200 if said is None else None)
    assert said is None or said in str(answer.error)
    assert len(receiver.seen) == (1 if said is None else 0)
