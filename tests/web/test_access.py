"""The access line: every field each time, in printable ASCII, and what is remembered of the last line belongs to this one."""

import json

import pytest

from gateway.core.model import Principal
from gateway.web.access import who_line
from tests.fakes.gateway import Running, gateway, read_answer
from tests.fakes.upstream import Echo, ScriptedUpstream


async def lines(running: Running) -> list[dict[str, object]]:
    return [line for line in await running.logged() if line["event"] == "request"]


@pytest.mark.parametrize("agent", [b"\x9b31m", b"\xe4\xff", b'"\\', b"a\tb"], ids=ascii)
async def test_a_client_writes_nothing_into_the_log_but_text(agent: bytes) -> None:
    async with ScriptedUpstream(Echo()) as upstream, gateway(upstream.port) as running:
        await running.raw(b"GET /public/%%22%%5B HTTP/1.1\r\nHost: a\r\nUser-Agent: %b\r\n\r\n" % agent)
        (line,) = await lines(running)
        with open(running._log_path, "rb") as log:
            written = log.read()
    assert line["ua"] == agent.decode("latin-1")
    assert all(byte == 10 or 32 <= byte < 127 for byte in written)


async def test_a_line_says_this_requests_route_user_and_endpoint_and_not_the_last_ones() -> None:
    async with ScriptedUpstream(Echo()) as upstream, gateway(upstream.port) as running:
        reader, writer = await running.connect()
        token = running.token()
        for path in ("/x", "/public/x", "/admin/x", "/healthz", "/a//b", "/x"):
            writer.write(f"GET {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
            await read_answer(reader)
        writer.close()
        told = [(line["path"], line["route"], line["user"], line["upstream"], bool(line["endpoint"]), line["status"])
                for line in await lines(running)]  # fmt: skip
    assert told == [
        ("/x", "rest", "user_1", "api", True, 200),
        ("/public/x", "public", None, "api", True, 200),
        ("/admin/x", "admin", "user_1", None, False, 403),
        ("/healthz", None, None, None, False, 200),
        ("/a//b", "rest", None, None, False, 400),
        ("/x", "rest", "user_1", "api", True, 200),
    ]


async def test_a_request_nobody_could_read_still_has_every_field() -> None:
    async with ScriptedUpstream(Echo()) as upstream, gateway(upstream.port) as running:
        await running.get("/public/x")
        await running.raw(b"garbage\r\n\r\n")
        good, bad = await lines(running)
    assert set(bad) == set(good)
    assert (bad["status"], bad["method"], bad["path"], bad["client"]) == (400, None, None, "127.0.0.1")


def test_a_principal_is_written_once() -> None:
    principal = Principal("user_1", "session", {}, frozenset(), 0, 60, session_id="sess_1")
    assert json.loads(b"{%b}" % who_line(principal)) == {"user": "user_1", "session": "sess_1", "org": None}
    missed = json.loads(b"{%b}" % who_line(principal, missed=True))
    assert missed == {"user": "user_1", "session": "sess_1", "org": None, "directory": "miss"}
