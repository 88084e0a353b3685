"""Several endpoints behind a running gateway: who gets a request, who is left alone, what is tried again."""

import asyncio
import contextlib
import socket
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from gateway.core.balance import BreakerPolicy
from gateway.core.model import Endpoint, Upstream
from gateway.errors import NoHealthyEndpoint, UpstreamTimeout
from gateway.net.deadlines import Deadlines
from gateway.net.tls import Contexts
from gateway.net.upstreams import Balancer, Upstreams
from gateway.net.wire import Wire
from tests.fakes.gateway import Answer, Clock, Running, gateway, read_answer
from tests.fakes.upstream import Received, ScriptedUpstream, read_request, response
from tests.fakes.websocket import SWITCHED, handshake


class Named:
    """An endpoint that answers with its name, or as `says`; what it was asked is kept."""

    def __init__(self, name: str, says: bytes | None = None) -> None:
        self.name, self.says = name, says
        self.asked: list[Received] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while (request := await read_request(reader)) is not None:
            self.asked.append(request)
            if self.says == b"":  # goes away without a word
                return
            writer.write(self.says or response(body=self.name.encode()))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


@asynccontextmanager
async def fleet(*scripts: Named | None, **settings: Any) -> AsyncIterator[Running]:
    """A gateway before these endpoints; None for one where nobody listens."""
    async with AsyncExitStack() as stack:
        ports = []
        for script in scripts:
            if script is None:
                ports.append(free_port())
            else:
                ports.append((await stack.enter_async_context(ScriptedUpstream(script))).port)
        targets = [{"url": f"http://127.0.0.1:{port}"} for port in ports]
        upstreams = {"api": {"targets": targets, **settings}}
        yield await stack.enter_async_context(gateway(0, upstreams=upstreams))


async def bodies(running: Running, count: int, method: str = "GET") -> list[str]:
    return [(await running.ask(method, "/public/x")).body.decode() for _ in range(count)]


async def events(running: Running) -> list[tuple[str, str]]:
    return [
        (line["event"], line["endpoint"]) for line in await running.logged() if line["event"].startswith("endpoint")
    ]


async def test_every_endpoint_gets_requests() -> None:
    async with fleet(Named("one"), Named("two"), Named("three")) as running:
        assert set(await bodies(running, 60)) == {"one", "two", "three"}


async def test_the_access_line_names_the_endpoint_that_answered() -> None:
    async with fleet(None, Named("two")) as running:
        await bodies(running, 10)
        lines = [line for line in await running.logged() if line["event"] == "request"]
        ports = [pool.endpoint.port for pool in running.app.listener.deps.upstreams["api"].pools]
    assert {line["endpoint"] for line in lines} == {f"127.0.0.1:{ports[1]}"}


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_what_was_never_sent_goes_to_another_endpoint_whatever_its_method(method: str) -> None:
    async with fleet(None, Named("two")) as running:
        assert await bodies(running, 30, method) == ["two"] * 30
        assert [event for event, _ in await events(running)] == ["endpoint_down"]


@pytest.mark.parametrize(
    ("method", "fields", "repeated"),
    [("GET", {}, True), ("PUT", {}, True), ("POST", {}, False), ("POST", {"Idempotency-Key": "1"}, True)],
    ids=["get", "put", "post", "post-with-key"],
)
async def test_an_endpoint_that_goes_away_without_a_word_is_passed_over(
    method: str, fields: dict[str, str], repeated: bool
) -> None:
    gone, two = Named("gone", b""), Named("two")
    async with fleet(gone, two, breaker={"failures": 0}) as running:
        answers = [await running.ask(method, "/public/x", fields=fields, body=b"hello") for _ in range(20)]
    assert gone.asked
    assert {answer.status for answer in answers} == ({200} if repeated else {200, 502})
    assert len(two.asked) + len(gone.asked) == 20 + (len(gone.asked) if repeated else 0)
    assert {request.body for request in two.asked} == {b"hello"}


async def test_there_is_one_more_try_and_no_third() -> None:
    scripts = [Named("a", b""), Named("b", b""), Named("c", b"")]
    async with fleet(*scripts, breaker={"failures": 0}) as running:
        assert (await running.get("/public/x")).status == 502
    assert sorted(len(script.asked) for script in scripts) == [0, 1, 1]


async def test_attempts_0_tries_once() -> None:
    gone = Named("gone", b"")
    async with fleet(gone, Named("two"), breaker={"failures": 0}, retries={"attempts": 0}) as running:
        statuses = [(await running.get("/public/x")).status for _ in range(20)]
    assert statuses.count(502) == len(gone.asked) > 0


async def test_a_single_endpoint_is_asked_once_more_itself() -> None:
    class Once(Named):
        async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.says = b"" if not self.asked else None
            await super().__call__(reader, writer)

    only = Once("only")
    async with fleet(only) as running:
        assert await bodies(running, 1) == ["only"]
    assert len(only.asked) == 2


@pytest.mark.parametrize(
    ("fields", "method", "tried_again"),
    [((), "GET", True), (("Retry-After: 0",), "GET", True), (("Retry-After: 5",), "GET", False), ((), "POST", False)],
    ids=["plain", "at-once", "asks-for-a-pause", "not-idempotent"],
)
async def test_a_503_that_asks_for_no_pause_is_asked_elsewhere(
    fields: tuple[str, ...], method: str, tried_again: bool
) -> None:
    busy, free = Named("busy", response(503, b"busy", fields=fields)), Named("free")
    async with fleet(busy, free) as running:
        answers = await bodies(running, 30, method)
    assert busy.asked
    assert set(answers) == ({"free"} if tried_again else {"free", "busy"})


async def test_a_503_that_nobody_can_better_is_the_answer() -> None:
    async with fleet(Named("one", response(503, b"one")), Named("two", response(503, b"two"))) as running:
        answer = await running.get("/public/x")
    assert (answer.status, answer.body in (b"one", b"two")) == (503, True)


async def test_retries_end_with_their_budget() -> None:
    only = Named("only", response(503, b"busy"))
    async with fleet(only, retries={"attempts": 1, "budget_percent": 0}) as running:
        await bodies(running, 40)
    assert len(only.asked) == 40 + 30


async def test_an_answer_that_has_begun_is_never_asked_for_again() -> None:
    half = Named("half", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")

    class Breaks(Named):
        async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.asked.append(await read_request(reader))  # type: ignore[arg-type]
            writer.write(half.says or b"")

    first, second = Breaks("one"), Breaks("two")
    async with fleet(first, second) as running:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionResetError):
            await running.get("/public/x")
    assert len(first.asked) + len(second.asked) == 1


# --- left alone ---------------------------------------------------------------------------------------------------


async def test_when_all_are_out_it_is_503_at_once_and_one_probe_later() -> None:
    async with fleet(None, None, breaker={"failures": 2, "open_s": 10}, retries={"attempts": 0}) as running:
        statuses = [(await running.get("/public/x")).status for _ in range(4)]
        assert statuses == [502] * 4
        answer = await running.get("/public/x")
        assert (answer.status, answer.json["code"], answer.value("retry-after")) == (503, "no_healthy_endpoint", "1")
        running.pass_time(10.1)
        assert [(await running.get("/public/x")).status for _ in range(3)] == [502, 502, 503]
        running.pass_time(10.1)
        assert (await running.get("/public/x")).status == 503  # each failed probe doubles the pause
        running.pass_time(10.1)
        assert (await running.get("/public/x")).status == 502


async def test_a_gateway_whose_upstream_is_out_is_ready_but_degraded() -> None:
    async with fleet(None, Named("two"), breaker={"failures": 1}) as running:
        await bodies(running, 20)
        assert (await running.get("/readyz")).json == {"status": "ok"}  # one of two still serves
    async with fleet(None, breaker={"failures": 1}) as running:
        assert (await running.get("/readyz")).json == {"status": "ok"}
        await bodies(running, 1)
        answer = await running.get("/readyz")
        assert (answer.status, answer.json) == (200, {"status": "degraded"})


async def test_an_endpoint_that_is_back_is_used_again() -> None:
    port = free_port()
    two = Named("two")
    async with ScriptedUpstream(two) as other:
        targets = [{"url": f"http://127.0.0.1:{port}"}, {"url": f"http://127.0.0.1:{other.port}"}]
        settings = {"targets": targets, "breaker": {"failures": 1, "open_s": 10}}
        async with gateway(0, upstreams={"api": settings}) as running:
            assert set(await bodies(running, 20)) == {"two"}
            async with ScriptedUpstream(Named("one"), port=port):
                assert set(await bodies(running, 20)) == {"two"}
                running.pass_time(10.1)
                await bodies(running, 30)
                running.pass_time(10)  # it gets its share by and by
                assert set(await bodies(running, 30)) == {"one", "two"}
                label = f"127.0.0.1:{port}"
                assert await events(running) == [("endpoint_down", label), ("endpoint_up", label)]


async def test_a_service_that_was_restarted_is_back_before_the_pause_is_over() -> None:
    port = free_port()
    settings = {"url": f"http://127.0.0.1:{port}", "breaker": {"failures": 1, "open_s": 1000}}
    async with gateway(0, upstreams={"api": settings}) as running:
        assert [(await running.get("/public/x")).status for _ in range(2)] == [502, 503]
        knocking = running.app.listener.deps.upstreams["api"]._knocking
        running.pass_time(1.1)
        await asyncio.wait(knocking._tasks.values())
        assert (await running.get("/public/x")).status == 503
        async with ScriptedUpstream(Named("back"), port=port):
            running.pass_time(0.5)
            assert not knocking._tasks  # once a second
            running.pass_time(0.6)
            await asyncio.wait(knocking._tasks.values())
            assert await bodies(running, 2) == ["back", "back"]


async def failing_once(running: Running, script: Named) -> None:
    """Let the breaker open, and its pause be over."""
    script.says = b""
    while (await running.get("/public/x")).status != 503:
        pass
    script.says = None
    running.pass_time(10.1)


async def test_a_client_that_sends_its_body_drop_by_drop_does_not_keep_an_endpoint_from_all_others() -> None:
    only = Named("only")
    async with fleet(only, breaker={"failures": 1, "open_s": 10}, retries={"attempts": 0}) as running:
        await failing_once(running, only)
        standing = running.app.listener.deps.upstreams["api"].pools[0].standing
        _, writer = await running.connect()
        writer.write(b"POST /public/x HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n")
        while not standing.live:
            await asyncio.sleep(0)
        assert (await running.get("/public/x")).status == 503
        for _ in range(4):
            writer.write(b"x")
            await asyncio.sleep(0.01)
            running.pass_time(20)
        assert standing.live == 1
        assert await bodies(running, 1) == ["only"]
        writer.close()


async def test_a_stream_that_was_the_probe_keeps_nobody_out_when_the_endpoint_fails_again() -> None:
    class Streams(Named):
        async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if self.says == b"stream":
                self.says = None
                await read_request(reader)
                writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                await reader.read()
            await super().__call__(reader, writer)

    only = Streams("only")
    async with fleet(only, breaker={"failures": 1, "open_s": 10}, retries={"attempts": 0}) as running:
        await failing_once(running, only)
        only.says = b"stream"
        reader, writer = await running.connect()
        writer.write(b"GET /public/x HTTP/1.1\r\nHost: a\r\n\r\n")
        assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
        await failing_once(running, only)
        running.pass_time(10.1)  # the second pause is twice the first
        assert await bodies(running, 1) == ["only"]
        writer.close()


async def knocked(running: Running) -> None:
    """Let a second pass, and whoever is knocked at answer."""
    running.pass_time(1.1)
    await over(running.app.listener.deps.upstreams["api"]._knocking._tasks)


async def over(tasks: Mapping[Any, asyncio.Task[None]]) -> None:
    """Wait until none is under way."""
    while tasks:
        await asyncio.wait(tasks.values())


async def test_one_that_is_there_and_fails_is_left_alone_for_all_of_the_pause() -> None:
    gone = Named("gone", b"")
    async with fleet(gone, breaker={"failures": 1, "open_s": 10}, retries={"attempts": 0}) as running:
        assert [(await running.get("/public/x")).status for _ in range(2)] == [502, 503]
        for _ in range(3):
            await knocked(running)
        assert (await running.get("/public/x")).status == 503
        assert len(gone.asked) == 1


async def test_one_that_was_cut_off_and_then_nobody_was_there_is_back_with_its_service() -> None:
    port = free_port()
    settings = {
        "url": f"http://127.0.0.1:{port}",
        "breaker": {"failures": 1, "open_s": 1000},
        "retries": {"attempts": 0},
    }
    async with gateway(0, upstreams={"api": settings}) as running:
        async with ScriptedUpstream(Named("gone", b""), port=port):
            assert (await running.get("/public/x")).status == 502
        await knocked(running)
        assert (await running.get("/public/x")).status == 503
        async with ScriptedUpstream(Named("back"), port=port):
            await knocked(running)
            assert await bodies(running, 1) == ["back"]


async def test_a_service_that_is_back_is_asked_for_its_health_at_once() -> None:
    port = free_port()
    settings = {"url": f"http://127.0.0.1:{port}", "health": {"path": "/up", "interval_s": 1000, "unhealthy_after": 1}}
    async with gateway(0, upstreams={"api": settings}) as running:
        balancer = running.app.listener.deps.upstreams["api"]
        assert balancer._checks is not None
        await over(balancer._checks._tasks)
        assert not balancer.is_up
        await knocked(running)
        async with ScriptedUpstream(Named("back"), port=port):
            await knocked(running)
            await over(balancer._checks._tasks)
            assert await bodies(running, 1) == ["back"]


async def test_one_that_was_killed_amid_requests_that_may_not_be_repeated_is_back_as_soon_as_it_listens() -> None:
    class Mortal(Named):
        async def __call__(self, reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
            self.asked.append(await read_request(reader))  # type: ignore[arg-type]
            await killed.wait()

    killed, mortal, port = asyncio.Event(), Mortal("mortal"), free_port()
    settings = {"url": f"http://127.0.0.1:{port}", "breaker": {"failures": 2, "open_s": 1000}}
    async with gateway(0, upstreams={"api": settings}) as running:
        async with ScriptedUpstream(mortal, port=port):
            asking = [asyncio.ensure_future(running.ask("POST", "/public/x")) for _ in range(2)]
            while len(mortal.asked) < 2:
                await asyncio.sleep(0)
        assert [(await each).status for each in asking] == [502, 502]
        assert (await running.get("/public/x")).status == 503
        knocking = running.app.listener.deps.upstreams["api"]._knocking
        await asyncio.gather(*knocking._tasks.values())
        async with ScriptedUpstream(Named("back"), port=port):
            running.pass_time(1.1)
            await asyncio.gather(*knocking._tasks.values())
            assert await bodies(running, 1) == ["back"]


async def test_a_socket_that_was_the_probe_does_not_stand_in_the_way_of_the_next_probe() -> None:
    class Moody(Named):
        async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while (request := await read_request(reader)) is not None and self.says != b"":
                writer.write(SWITCHED if request.value("upgrade") else response(body=b"well"))

    moody = Moody("moody", b"")
    async with fleet(moody, breaker={"failures": 1, "open_s": 10}, retries={"attempts": 0}) as running:
        assert (await running.get("/public/x")).status == 502
        running.pass_time(11)
        moody.says = None
        reader, writer = await running.connect()
        writer.write(handshake())
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
        moody.says = b""
        assert [(await running.get("/public/x")).status for _ in range(2)] == [502, 503]
        running.pass_time(21)
        moody.says = None
        assert await bodies(running, 1) == ["well"]
        writer.close()


async def test_a_time_out_counts_against_an_endpoint_but_is_not_tried_again() -> None:
    class Silent(Named):
        async def __call__(self, reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
            if (request := await read_request(reader)) is not None:  # else somebody only looked if it is there
                self.asked.append(request)
                await reader.read()

    silent = Silent("silent")
    async with fleet(silent, breaker={"failures": 1, "open_s": 10}) as running:
        asking = asyncio.ensure_future(running.get("/public/x"))
        while not silent.asked:
            await asyncio.sleep(0)
        running.pass_time(31)
        assert (await asking).status == 504
        assert (await running.get("/public/x")).status == 503
    assert len(silent.asked) == 1


@pytest.mark.parametrize(
    "says", [b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n"]
)
async def test_one_that_answers_nonsense_is_not_left_alone(says: bytes) -> None:
    # Else a single path that always breaks would take the whole service away from everybody.
    nonsense = Named("nonsense", says)
    async with fleet(nonsense, breaker={"failures": 1, "open_s": 10}) as running:
        assert [(await running.get("/public/x")).status for _ in range(5)] == [502] * 5
    assert len(nonsense.asked) == 5


async def test_clients_that_leave_count_against_nobody() -> None:
    class Silent(Named):
        async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.asked.append(await read_request(reader))  # type: ignore[arg-type]
            await reader.read()
            left.release()

    left = asyncio.Semaphore(0)
    silent = Silent("silent")
    async with fleet(silent, breaker={"failures": 1, "open_s": 10}) as running:
        for count in range(3):
            _, writer = await running.connect()
            writer.write(b"GET /public/x HTTP/1.1\r\nHost: a\r\n\r\n")
            while len(silent.asked) == count:
                await asyncio.sleep(0)
            writer.close()
            await left.acquire()
        standing = running.app.listener.deps.upstreams["api"].pools[0].standing
        assert (standing.failures, standing.live, standing.is_up) == (0, 0, True)


# --- beside that --------------------------------------------------------------------------------------------------


async def test_each_endpoint_gets_its_own_host_where_that_is_asked_for() -> None:
    one, two = Named("one"), Named("two")
    async with fleet(one, two, host_header="upstream") as running:
        await bodies(running, 30)
        ports = [pool.endpoint.port for pool in running.app.listener.deps.upstreams["api"].pools]
    for script, port in zip((one, two), ports, strict=True):
        assert {request.value("host") for request in script.asked} == {f"127.0.0.1:{port}"}
        assert {request.value("x-forwarded-host") for request in script.asked} == {"gw.example.com"}


async def test_one_that_gets_nothing_keeps_no_upstream_up() -> None:
    port, spare = free_port(), free_port()
    targets = [{"url": f"http://127.0.0.1:{port}"}, {"url": f"http://127.0.0.1:{spare}", "weight": 0}]
    async with gateway(0, upstreams={"api": {"targets": targets, "breaker": {"failures": 1}}}) as running:
        assert [(await running.get("/public/x")).status for _ in range(2)] == [502, 503]
        assert (await running.get("/readyz")).json == {"status": "degraded"}


async def test_a_request_is_sent_twice_at_most_however_many_kept_connections_go_away() -> None:
    asked: Counter[str] = Counter()

    async def one_each(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in (response(body=b"ok"), b""):
            if (request := await read_request(reader)) is not None:
                asked[request.target] += 1
                await asyncio.sleep(0.002)  # so that all the others wait for this connection
                writer.write(answer)

    async with ScriptedUpstream(one_each) as upstream:
        api = {"url": f"http://127.0.0.1:{upstream.port}", "max_connections": 1}
        async with gateway(0, upstreams={"api": api}) as running:
            answers = await asyncio.gather(*(running.get(f"/public/{n}") for n in range(40)))
            standing = running.app.listener.deps.upstreams["api"].pools[0].standing
            assert (standing.live, standing.failures) == (0, 0)
    assert {answer.status for answer in answers} == {200}
    assert max(asked.values()) == 2


async def test_too_many_at_once_wait_and_too_many_waiting_are_refused() -> None:
    class Held(Named):
        async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while (request := await read_request(reader)) is not None:
                self.asked.append(request)
                await go_on.wait()
                writer.write(response(body=b"done"))

    go_on, held = asyncio.Event(), Held("held")
    async with fleet(held, max_connections=2, max_pending=2) as running:
        asking = [asyncio.ensure_future(running.get("/public/x")) for _ in range(5)]
        done, _ = await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
        answer: Answer = done.pop().result()
        assert (answer.status, answer.json["code"], answer.value("retry-after")) == (503, "overloaded", "1")
        while len(held.asked) < 2:
            await asyncio.sleep(0)
        go_on.set()
        assert sorted(one.status for one in await asyncio.gather(*asking)) == [200, 200, 200, 200, 503]
        assert len(held.asked) == 4


async def test_a_websocket_is_dialled_elsewhere_too_and_counts_as_one_under_way() -> None:
    class Sockets(Named):
        async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.asked.append(await read_request(reader))  # type: ignore[arg-type]
            writer.write(SWITCHED)
            await reader.read()

    async with fleet(None, Sockets("sockets"), max_connections=1) as running:
        pools = running.app.listener.deps.upstreams["api"].pools
        writers = []
        for _ in range(3):
            reader, writer = await running.connect()
            writer.write(handshake("/public/x"))
            assert (await read_answer_head(reader)).startswith(b"HTTP/1.1 101")
            writers.append(writer)
        assert pools[1].standing.live == 3
        for writer in writers:
            writer.close()


async def read_answer_head(reader: asyncio.StreamReader) -> bytes:
    return await reader.readuntil(b"\r\n\r\n")


async def test_keep_alive_goes_on_behind_a_503_of_our_own() -> None:
    async with fleet(None, breaker={"failures": 1}, retries={"attempts": 0}) as running:
        reader, writer = await running.connect()
        for status in (502, 503, 503):
            writer.write(b"GET /public/x HTTP/1.1\r\nHost: a\r\n\r\n")
            assert (await read_answer(reader)).status == status
        writer.close()


# --- from one configuration to the next ---------------------------------------------------------------------------


def upstream(*ports: int, **settings: Any) -> Upstream:
    return Upstream("api", tuple(Endpoint("127.0.0.1", port) for port in ports), **settings)


@pytest.fixture
async def upstreams() -> AsyncIterator[Upstreams]:
    both = Upstreams(Deadlines(Clock(100.0)), Contexts(print), on_event=lambda *_, **__: None)
    yield both
    both.close()


async def test_what_did_not_change_lives_on(upstreams: Upstreams) -> None:
    before = upstreams.adopt([upstream(1, 2)])["api"]
    assert upstreams.adopt([upstream(1, 2)])["api"] is before
    wider = upstreams.adopt([upstream(2, 3)])["api"]
    assert wider.pools[0] is before.pools[1]
    slower = upstreams.adopt([upstream(2, 3, response_s=1)])["api"]
    assert (slower is wider, slower.pools) == (False, wider.pools)
    stricter = upstreams.adopt([upstream(2, 3, breaker=BreakerPolicy(failures=1))])["api"]
    assert not set(stricter.pools) & set(slower.pools)


async def used(balancer: Balancer) -> Wire:
    """Exchange once; give the wire, which is idle now."""
    pool = balancer.choose()
    wire = pool.take() or await pool.connect(1.0)
    await wire.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", is_head=False, response_s=9.0)
    pool.give_back(wire)
    return wire


async def test_a_request_that_began_before_goes_where_it_was_meant_to(upstreams: Upstreams) -> None:
    async with ScriptedUpstream(Named("a")) as server, ScriptedUpstream(Named("b")) as elsewhere:
        old = upstreams.adopt([upstream(server.port)])["api"]
        idle = await used(old)
        new = upstreams.adopt([upstream(elsewhere.port)])["api"]
        while not idle.lost:
            await asyncio.sleep(0)
        kept, late = await used(new), await used(old)
        assert (server.connections, elsewhere.connections) == (2, 1)
        while not late.lost:  # nothing of it is kept
            await asyncio.sleep(0)
        assert await used(new) is kept


async def test_close_drops_what_is_retired_too(upstreams: Upstreams) -> None:
    async with ScriptedUpstream(Named("a")) as server:
        wire = await upstreams.adopt([upstream(server.port)])["api"].choose().connect(1.0)
        upstreams.adopt([])
        upstreams.adopt([])
        assert not wire.lost
        upstreams.close()
        while not wire.lost:
            await asyncio.sleep(0)


async def test_the_only_endpoint_left_alone_is_nobody(upstreams: Upstreams) -> None:
    balancer = upstreams.adopt([upstream(1, breaker=BreakerPolicy(failures=1))])["api"]
    pool = balancer.choose()
    assert balancer.choose(besides=(pool,)) is pool
    balancer.failed(pool, UpstreamTimeout())
    with pytest.raises(NoHealthyEndpoint):
        balancer.choose()
    assert not balancer.is_up
