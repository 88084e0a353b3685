"""Nothing is sent on, and what would have been logged is kept."""

import pytest

from gateway.core.headers import Outbound
from gateway.errors import InternalError
from gateway.net.exchange import forward
from gateway.ops.explain import run
from gateway.ops.explain.request import Asked
from gateway.ops.explain.run import Told, Witness, carry, stage
from tests.fakes.gateway import CLERK
from tests.ops.explain.conftest import NOW, loaded


def test_events_are_kept_with_their_time():
    clock = iter((1.0, 2.0, 3.0))
    told = Told(lambda: next(clock))
    told.event("a", url="x")
    told.event("a", url="y", level="warning")
    told.event("b", url="x")
    assert told.last("a") == (2.0, {"url": "y", "level": "warning"})
    assert told.last("a", url="x") == (1.0, {"url": "x", "level": "info"})
    assert told.last("c") is None


async def test_whoever_tries_to_forward_all_the_same_reaches_nobody():
    async with stage(loaded(), now=lambda: NOW) as given:
        assert given.deps.upstreams == {"api": None}
        assert given.deps.forward is not forward
        with pytest.raises(AttributeError):
            await forward(given.deps.upstreams["api"], Witness(), None)  # type: ignore[arg-type]


@pytest.mark.parametrize("call", ["head", "body", "end"])
def test_a_witness_takes_no_answer(call):
    with pytest.raises(NotImplementedError):
        getattr(Witness(), call)(*[b""] * {"head": 2, "body": 1, "end": 0}[call])


async def test_a_witness_takes_no_socket():
    with pytest.raises(NotImplementedError):
        await Witness().switch(None)  # type: ignore[arg-type]


async def test_what_would_be_sent_is_kept():
    async with stage(loaded(), now=lambda: NOW) as given:
        course = await carry(Asked("GET", "/x", CLERK.session_token(NOW)), loaded(), given)
    assert isinstance(course.witness.outbound, Outbound)
    assert course.error is None
    assert b"\r\nX-User-Id: user_1" in course.witness.outbound.head


async def test_a_fault_of_the_gateways_own_is_told_as_it_would_be_answered(monkeypatch):
    async def fail(*_):
        raise RuntimeError("secret")

    monkeypatch.setattr(run, "handle", fail)
    async with stage(loaded(), now=lambda: NOW) as given:
        error = (await carry(Asked("GET", "/x"), loaded(), given)).error
    assert isinstance(error, InternalError)
    assert error.detail == "RuntimeError"
