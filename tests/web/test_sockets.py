"""How the gateway ends a socket. From handshake to end they are in `tests/wire/test_websockets.py`, `test_tunnels.py`."""

import pytest

from gateway.core.frames import close_frame
from gateway.web.sockets import Socket
from gateway.web.streams import GOING_AWAY, REVOKED, TOO_OLD, Ending, Stream
from tests.fakes.gateway import Running
from tests.wire.test_tunnels import ANSWER, ending, line_of, tunnel, until


def only(running: Running) -> Stream:
    (stream,) = running.app.listener.streams._open
    assert isinstance(stream.carried, Socket)
    return stream


@pytest.mark.parametrize("why", [REVOKED, GOING_AWAY, TOO_OLD], ids=["revoked", "stopping", "age"])
async def test_both_sides_get_a_close_the_upstreams_masked_and_the_access_line_says_why(why: Ending) -> None:
    async with tunnel() as (running, near, far):
        far[1].write(ANSWER)
        assert await near[0].readexactly(len(ANSWER)) == ANSWER
        only(running).end(why)
        frame = close_frame(why.close_code, why.words)
        assert await near[0].readexactly(len(frame)) == frame
        masked = await far[0].readexactly(len(frame) + 4)
        assert masked == close_frame(why.close_code, why.words, mask=masked[2:6])
        near[1].write(close_frame(why.close_code, b"", mask=b"1234"))
        near[1].close()
        assert await far[0].read() == b""  # what follows a Close goes nowhere
        far[1].close()
        line = await line_of(running)
        await until(lambda: not running.app.listener.streams)
    assert (line["status"], line["code"], line["reason"]) == (101, why.code, why.reason or None)


async def test_a_socket_that_is_cut_has_no_last_words() -> None:
    async with tunnel() as (running, near, far):
        only(running).carried.cut(GOING_AWAY)
        assert await ending(near) == await ending(far) == b""
        line = await line_of(running)
    assert line["code"] == "draining"


async def test_the_first_reason_counts() -> None:
    async with tunnel() as (running, near, _):
        only(running).end(REVOKED)
        assert (await near[0].readexactly(4))[2:] == (4401).to_bytes(2, "big")
        running.app.listener.streams.cut_all()
        line = await line_of(running)
    assert (line["code"], line["reason"]) == ("invalid_token", "session-revoked")
