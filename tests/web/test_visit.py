"""The client's side of one request: how its answer is framed, when the connection ends with it, when it is cut."""

import asyncio

import pytest

from tests.fakes.gateway import gateway, read_answer
from tests.fakes.upstream import Echo, ScriptedUpstream, read_request, response

CHUNKS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"


async def test_an_answer_of_unknown_length_goes_out_in_chunks_of_our_own() -> None:
    async def unknown(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(CHUNKS)
        await begun.wait()
        writer.write(b"2;x=y\r\nde\r\n0\r\nTrailer: 1\r\n\r\n")

    begun = asyncio.Event()
    async with ScriptedUpstream(unknown) as upstream, gateway(upstream.port) as running:
        reader, writer = await running.connect()
        writer.write(b"GET /public/x HTTP/1.1\r\nHost: a\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"\r\nTransfer-Encoding: chunked\r\n" in head
        begun.set()
        assert await reader.readuntil(b"0\r\n\r\n") == b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
        writer.close()


@pytest.mark.parametrize(
    ("line", "field", "said"),
    [
        pytest.param("GET /public/x HTTP/1.1", "", None, id="1.1"),
        pytest.param("GET /public/x HTTP/1.1", "Connection: close\r\n", "close", id="1.1-close"),
        pytest.param("GET /public/x HTTP/1.0", "", "close", id="1.0"),
        pytest.param("GET /public/x HTTP/1.0", "Connection: keep-alive\r\n", "keep-alive", id="1.0-keep-alive"),
    ],
)
async def test_a_client_is_told_what_becomes_of_its_connection(line: str, field: str, said: str | None) -> None:
    async with ScriptedUpstream(Echo()) as upstream, gateway(upstream.port) as running:
        answer = await running.raw(f"{line}\r\nHost: a\r\n{field}\r\n".encode())
    assert answer.value("connection") == said


async def test_a_fault_behind_the_head_cuts_the_connection_and_is_logged_with_the_status_that_left() -> None:
    async def dies(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(CHUNKS)

    async with ScriptedUpstream(dies) as upstream, gateway(upstream.port) as running:
        with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
            await running.get("/public/x")
        (line,) = [line for line in await running.logged() if line["event"] == "request"]
    assert (line["status"], line["code"]) == (200, "bad_upstream_response")


async def test_continue_is_asked_for_only_while_there_is_no_answer() -> None:
    async def early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(response(403, b"no"))
        await reader.read()

    async with ScriptedUpstream(early) as upstream, gateway(upstream.port) as running:
        reader, writer = await running.connect()
        writer.write(b"POST /public/x HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
        first = await read_answer(reader)
        answer = await read_answer(reader) if first.status == 100 else first
        assert (answer.status, answer.value("connection")) == (403, "close")
        assert await reader.read() == b""
        writer.close()


async def test_what_an_answer_cost_is_in_its_line() -> None:
    async with ScriptedUpstream(Echo()) as upstream, gateway(upstream.port) as running:
        reader, writer = await running.connect()
        writer.write(b"PUT /public/x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello")
        sent = len(await reader.readuntil(b"\r\n\r\n"))
        sent += len(await reader.readuntil(b'"hello"}'))
        (line,) = [line for line in await running.logged() if line["event"] == "request"]
        writer.close()
    assert (line["bytes_in"], line["bytes_out"]) == (5, sent)
    assert 0 < line["upstream_s"] <= line["duration_s"]
