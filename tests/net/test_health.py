"""Health checks against real endpoints, asked whenever the clock says so."""

import asyncio
import socket
from typing import Any

import pytest

from gateway.core.balance import HealthPolicy
from gateway.core.model import Endpoint, Upstream
from gateway.errors import UpstreamTimeout
from gateway.net.deadlines import Deadlines
from gateway.net.tls import Contexts
from gateway.net.upstreams import Balancer, Upstreams
from tests.fakes.exhaustion import no_descriptors
from tests.fakes.gateway import Clock
from tests.fakes.upstream import Received, ScriptedUpstream, read_request, response

POLICY = HealthPolicy("/health?deep=1", interval_s=5, timeout_s=2, unhealthy_after=2, healthy_after=2)


class Patient:
    """An endpoint that answers health checks as it is told to."""

    def __init__(self, answer: bytes | None = None) -> None:
        self.answer = answer if answer is not None else response(body=b"fine")
        self.asked: list[Received] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while (request := await read_request(reader)) is not None:
            self.asked.append(request)
            if not self.answer:
                await reader.read()
            writer.write(self.answer)


class Ward:
    """The checks of one upstream, and the clock they go by."""

    def __init__(self, *ports: int, policy: HealthPolicy = POLICY) -> None:
        self.clock, self.told = Clock(100.0), list[tuple[str, str]]()
        self.deadlines = Deadlines(self.clock)
        self.upstreams = Upstreams(self.deadlines, Contexts(print), on_event=self._tell)
        ends = tuple(Endpoint("127.0.0.1", port, authority=b"api.internal") for port in ports)
        self.upstream = Upstream("api", ends, health=policy)
        self.balancer: Balancer = self.upstreams.adopt([self.upstream])["api"]

    def _tell(self, event: str, *, level: str, endpoint: str, why: str, **_: Any) -> None:
        self.told.append((event, why))

    async def settle(self) -> None:
        """Let the checks under way finish."""
        checks = self.balancer._checks
        assert checks is not None
        while checks._tasks:
            await asyncio.wait(checks._tasks.values())

    async def round(self) -> None:
        """Let the next checks happen."""
        self.clock.seconds += 5.1
        self.deadlines.sweep()
        await self.settle()


async def test_it_is_asked_at_its_path_with_its_own_host_on_a_connection_of_its_own() -> None:
    patient = Patient()
    async with ScriptedUpstream(patient) as upstream:
        ward = Ward(upstream.port)
        await ward.settle()
        await ward.round()
        ward.upstreams.close()
    assert [(asked.method, asked.target, asked.value("host")) for asked in patient.asked] == [
        ("GET", "/health?deep=1", "api.internal")
    ] * 2
    assert upstream.connections == 2
    assert ward.told == []


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (response(500), "its health check is answered 500"),
        (response(404), "its health check is answered 404"),
        (response(200).replace(b"HTTP/1.1", b"XTTP/9"), "unreadable answer"),
    ],
)
async def test_bad_answers_in_a_row_take_it_out_and_good_ones_give_it_back(answer: bytes, why: str) -> None:
    patient = Patient(answer)
    async with ScriptedUpstream(patient) as upstream:
        ward = Ward(upstream.port)
        standing = ward.balancer.pools[0].standing
        await ward.settle()
        assert standing.well
        await ward.round()
        assert not standing.well
        assert not ward.balancer.is_up
        patient.answer = response(302)
        await ward.round()
        assert not standing.well
        await ward.round()
        assert standing.well
        ward.upstreams.close()
    assert [event for event, _ in ward.told] == ["endpoint_down", "endpoint_up"]
    assert ward.told[0][1].startswith(why)


async def test_one_that_does_not_answer_in_time_is_not_well() -> None:
    patient = Patient(b"")
    async with ScriptedUpstream(patient) as upstream:
        ward = Ward(upstream.port, policy=HealthPolicy("/", interval_s=5, timeout_s=2, unhealthy_after=1))
        while not patient.asked:
            await asyncio.sleep(0)
        ward.clock.seconds += 3
        ward.deadlines.sweep()
        await ward.settle()
        assert not ward.balancer.pools[0].standing.well
        ward.upstreams.close()


async def test_one_that_still_owes_an_answer_is_not_asked_again() -> None:
    patient = Patient(b"")
    async with ScriptedUpstream(patient) as upstream:
        ward = Ward(upstream.port, policy=HealthPolicy("/", interval_s=1, timeout_s=60))
        while not patient.asked:
            await asyncio.sleep(0)
        for _ in range(3):
            ward.clock.seconds += 2
            ward.deadlines.sweep()
        assert len(ward.balancer._checks._tasks) == 1  # type: ignore[union-attr]
        assert upstream.connections == 1
        ward.upstreams.close()


async def test_one_where_nobody_listens_is_not_well_and_its_neighbour_is() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    async with ScriptedUpstream(Patient()) as upstream:
        ward = Ward(port, upstream.port)
        await ward.settle()
        await ward.round()
        assert [pool.standing.well for pool in ward.balancer.pools] == [False, True]
        assert ward.balancer.is_up
        ward.upstreams.close()


async def test_one_that_cannot_be_asked_for_want_of_descriptors_is_as_well_as_before() -> None:
    async with ScriptedUpstream(Patient()) as upstream:
        ward = Ward(upstream.port, policy=HealthPolicy("/", interval_s=5, timeout_s=2, unhealthy_after=1))
        await ward.settle()
        with no_descriptors():
            await ward.round()
        assert ward.balancer.is_up
        ward.upstreams.close()


async def test_an_upstream_that_is_checked_no_more_counts_as_well() -> None:
    patient = Patient(response(500))
    async with ScriptedUpstream(patient) as upstream:
        ward = Ward(upstream.port)
        await ward.settle()
        await ward.round()
        pool = ward.balancer.pools[0]
        assert not pool.standing.well
        unchecked = ward.upstreams.adopt([Upstream("api", ward.upstream.endpoints)])["api"]
        assert unchecked.pools == (pool,)
        assert pool.standing.well
        asked = len(patient.asked)
        ward.clock.seconds += 60
        ward.deadlines.sweep()
        assert (len(patient.asked), unchecked._checks) == (asked, None)
        ward.upstreams.close()


async def test_an_outage_that_both_checks_and_requests_see_is_told_once() -> None:
    patient = Patient(response(500))
    async with ScriptedUpstream(patient) as upstream:
        ward = Ward(upstream.port)
        (pool,) = ward.balancer.pools
        await ward.settle()
        for _ in range(5):
            ward.balancer.failed(pool, UpstreamTimeout(detail="no answer"))
        assert ward.told == [("endpoint_down", "no answer")]
        await ward.round()
        assert not pool.standing.well
        patient.answer = response()
        await ward.round()
        await ward.round()
        assert pool.standing.well
        assert [event for event, _ in ward.told] == ["endpoint_down"]  # the breaker has not let a request through yet
        ward.balancer.answered(pool)
        ward.upstreams.close()
    assert ward.told[1:] == [("endpoint_up", "it answered again")]
