"""A page opens a WebSocket with its token among the sub-protocols, as the README says."""

from typing import Any

from tests.browser.test_cross_origin import site
from tests.fakes.gateway import CLERK
from tests.fakes.websocket import Server, behind

TALK = """([url, protocols, messages]) => new Promise((done) => {
  const socket = new WebSocket(url, protocols), got = [];
  socket.onopen = () => { window.opened = true; messages.forEach((message) => socket.send(message)); };
  socket.onmessage = (event) => {
    got.push(event.data);
    if (got.length === messages.length && !messages.includes("wait")) socket.close(4000, "enough");
  };
  socket.onclose = (event) => done({got, protocol: socket.protocol, code: event.code, reason: event.reason});
})"""


def settings(origin: str) -> dict[str, Any]:
    clerk = {"issuer": CLERK.issuer, "jwt_key": CLERK.pem(), "authorized_parties": [origin]}
    return {"clerk": clerk, "cors": {"origins": [origin]}}


async def test_a_page_opens_a_socket_with_its_token(page: Any) -> None:
    server = Server(protocols=("chat",))
    async with site() as origin, behind(server, **settings(origin)) as (running, _):
        await page.goto(origin)
        url = f"ws://127.0.0.1:{running.port}/ws"
        protocols = ["gateway.auth", f"gateway.bearer.{running.token(azp=origin)}"]
        plain = await page.evaluate(TALK, [url, protocols, ["hello", "x" * 100_000]])
        chosen = await page.evaluate(TALK, [url, [*protocols, "chat"], ["hello"]])
        refused = await page.evaluate(TALK, [url, protocols[:1], ["hello"]])
    assert (plain["got"], plain["protocol"]) == (["hello", "x" * 100_000], "gateway.auth")
    assert (chosen["got"], chosen["protocol"]) == (["hello"], "chat")
    assert server.codes == [4000, 4000]
    assert (refused["got"], refused["code"]) == ([], 1006)
    assert [request.headers.get("Sec-WebSocket-Protocol") for request in server.requests] == [None, "chat"]
    assert {request.headers["X-User-Id"] for request in server.requests} == {"user_1"}


LARGE = """([url, size]) => new Promise((done) => {
  const socket = new WebSocket(url), sent = new Uint8Array(size).map((_, at) => at * 7), got = [];
  socket.binaryType = "arraybuffer";
  socket.onopen = () => { socket.send(sent); socket.send("x".repeat(size)); };
  socket.onmessage = (event) => {
    got.push(event.data);
    if (got.length === 2) socket.close(4000, "both are back");
  };
  socket.onclose = () => done({
    same: got.length === 2 && new Uint8Array(got[0]).every((byte, at) => byte === sent[at]) && got[1] === "x".repeat(size),
    extensions: socket.extensions,
  });
})"""


async def test_frames_of_five_megabytes_come_back_compressed(page: Any) -> None:
    server = Server()
    async with site() as origin, behind(server, **settings(origin)) as (running, _):
        await page.goto(origin)
        url = f"ws://127.0.0.1:{running.port}/public/ws"
        seen = await page.evaluate(LARGE, [url, 5 * 2**20])
    assert seen == {"same": True, "extensions": "permessage-deflate"}
    assert server.codes == [4000]


async def test_a_page_learns_that_its_session_ended(page: Any) -> None:
    async with site() as origin, behind(Server(), **settings(origin)) as (running, _):
        await page.goto(origin)
        url = f"ws://127.0.0.1:{running.port}/ws"
        protocols = ["gateway.auth", f"gateway.bearer.{running.token(azp=origin)}"]
        await page.evaluate(
            "([talk, args]) => { window.ended = eval(talk)(args); }", [TALK, [url, protocols, ["wait"]]]
        )
        await page.wait_for_function("() => window.opened")
        assert running.app.listener.streams.revoke(session="sess_1") == 1
        ended = await page.evaluate("() => window.ended")
    assert (ended["code"], ended["reason"]) == (4401, "session-revoked")
