"""The assertion is told of and shows in the head, but no key is read or made."""

import os
from pathlib import Path

import pytest

from gateway.ops.explain.request import Asked
from gateway.ops.explain.step import NOTE
from gateway.ops.explain.written import as_lines
from tests.fakes.gateway import CLERK, gateway
from tests.fakes.upstream import Echo, ScriptedUpstream
from tests.ops.explain.conftest import NOW, both, explained, story

TOKEN = CLERK.session_token(NOW)


@pytest.mark.parametrize("algorithm", ["ES256", "EdDSA"])
async def test_an_assertion_is_told_of_and_its_keys_are_left_alone(algorithm: str, tmp_path: Path) -> None:
    directory = str(tmp_path / "keys")
    assertion = {"enabled": True, "issuer": "https://gw.example.com", "algorithm": algorithm, "keys_dir": directory}
    told = await story(asked=Asked("GET", "/x", TOKEN), identity={"assertion": assertion})
    assert explained(told, "assertion") == [
        (
            NOTE,
            "X-User-Assertion: signed by the gateway's own key for 60 s at most, iss https://gw.example.com, aud api",
        )
    ]
    assert told.onward is not None
    assert dict(told.onward.fields)["X-User-Assertion"].startswith("eyJ")
    assert "  X-User-Assertion: eyJhbG…" in list(as_lines(told))
    assert os.listdir(tmp_path) == []


async def test_the_gateway_sends_the_same_fields(tmp_path: Path) -> None:
    echo = Echo()
    assertion = {"enabled": True, "issuer": "https://gw.example.com", "keys_dir": str(tmp_path / "keys")}
    async with ScriptedUpstream(echo) as upstream:
        async with gateway(upstream.port, identity={"assertion": assertion}) as running:
            told = (await both(running, "GET", "/x", token=running.token())).story
            await both(running, "GET", "/public/x")
    assert told.onward is not None
    assert [name for name, _ in told.onward.fields] == [name for name, _ in echo.requests[0].fields]
    assert echo.last.value("X-User-Assertion") is None


async def test_without_it_nothing_is_said() -> None:
    told = await story(asked=Asked("GET", "/x", TOKEN))
    assert explained(told, "assertion") == []
