"""What an operator may revoke, by the admin listener of a running gateway."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.core.revocation import LIFE_MS, SESSION_LIFE_MS
from gateway.errors import UpstreamTimeout
from gateway.web.admin_revoke import BODY_BYTES
from gateway.web.app import Gateway
from tests.fakes.gateway import Answer, Running, gateway, settings
from tests.fakes.openapi import Document
from tests.fakes.upstream import Echo, ScriptedUpstream
from tests.web.test_admin import ADMIN, BEARER, Operator, is_problem
from tests.web.test_webhooks import SECRET


class Clerk:
    """Clerk's Backend API."""

    def __init__(self) -> None:
        self.ended: list[str] = []
        self.fails = False
        self.knows = True

    async def revoke_session(self, session_id: str) -> bool:
        if self.fails:
            raise UpstreamTimeout
        self.ended.append(session_id)
        return self.knows


@asynccontextmanager
async def revoking(url: str, **more: Any) -> AsyncIterator[tuple[Running, Operator]]:
    clerk = settings(1)["clerk"] | {"webhook_signing_secrets": [SECRET]}
    async with (
        ScriptedUpstream(Echo()) as upstream,
        gateway(upstream.port, admin=ADMIN, clerk=clerk, store={"url": url}, **more) as running,
    ):
        yield running, Operator(running)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'gateway.db'}"


async def post(operator: Operator, target: str, body: bytes = b"") -> Answer:
    head = f"POST {target} HTTP/1.1\r\nHost: localhost\r\n{BEARER}\r\nContent-Length: {len(body)}\r\n\r\n"
    return await operator.raw(head.encode() + body)


async def test_a_session_is_refused_from_now_on_for_good(url: str) -> None:
    async with revoking(url) as (running, operator):
        token, other = running.token(), running.token(sid="sess_2")
        assert (await running.get("/x", token=token)).status == 200
        answer = await post(operator, "/v1/sessions/sess_1/revoke")
        assert (answer.status, answer.json) == (200, {"status": "revoked", "streams_closed": 0})
        running.clock.seconds += 30
        for refused in (token, running.token()):
            assert is_problem(await running.get("/x", token=refused), 401, "invalid_token", "session-revoked")
        assert (await running.get("/x", token=other)).status == 200
        (stored,) = await running.app.inbox.read(lambda database: database.revocations.since(0))
        assert stored[1].until == (running.clock() - 30) * 1000 + SESSION_LIFE_MS
        (line,) = [line for line in await running.logged() if line["event"] == "revoked"]
        assert (line["session"], line["user"], line["streams_closed"]) == ("sess_1", None, 0)


async def test_a_user_is_refused_what_was_given_so_far(url: str) -> None:
    async with revoking(url) as (running, operator):
        tokens = [running.token(), running.token(sid="sess_2")]
        assert (await post(operator, "/v1/users/user_1/revoke")).json == {"status": "revoked", "streams_closed": 0}
        for token in tokens:
            assert (await running.get("/x", token=token)).json["reason"] == "session-revoked"
        assert (await running.get("/x", token=running.token(sub="user_2", sid="sess_3"))).status == 200
        running.clock.seconds += 1
        assert (await running.get("/x", token=running.token())).status == 200
        (stored,) = await running.app.inbox.read(lambda database: database.revocations.since(0))
        assert stored[1].until - stored[1].before == LIFE_MS


@pytest.mark.parametrize("kind", ["users", "sessions"])
async def test_only_whoever_has_the_token_may(url: str, kind: str) -> None:
    async with revoking(url) as (running, operator):
        for line, code in (("X: 1", "missing_credential"), (f"{BEARER}x", "invalid_token")):
            answer = await operator.ask("POST", f"/v1/{kind}/sess_1/revoke", line)
            assert (answer.status, answer.json["code"]) == (401, code)
        assert (await operator.ask("GET", f"/v1/{kind}/sess_1/revoke", BEARER)).status == 405
        assert (await running.ask("POST", f"/v1/{kind}/sess_1/revoke", lines=(BEARER,))).status == 401  # no own address
        assert (await running.get("/x", token=running.token())).status == 200


@pytest.mark.parametrize("kind", ["users", "sessions"])
@pytest.mark.parametrize("name", ["a%20b", "%C3%A4", "a" * 256])
async def test_what_names_nobody_is_a_400(url: str, kind: str, name: str) -> None:
    async with revoking(url) as (_, operator):
        assert is_problem(await post(operator, f"/v1/{kind}/{name}/revoke"), 400, "bad_request", "id")


@pytest.mark.parametrize("kind", ["users", "sessions"])
async def test_with_the_store_down_it_is_refused_here_and_a_503_says_to_ask_again(tmp_path: Path, kind: str) -> None:
    async with revoking(f"sqlite:///{tmp_path / 'none' / 'gateway.db'}") as (running, operator):
        name = "user_1" if kind == "users" else "sess_1"
        answer = await post(operator, f"/v1/{kind}/{name}/revoke")
        assert is_problem(answer, 503, "store_unavailable")
        assert (answer.json["streams_closed"], answer.value("retry-after")) == (0, "5")
        assert (await running.get("/x", token=running.token())).json["reason"] == "session-revoked"


@pytest.mark.parametrize(
    ("query", "body", "passed_on"),
    [
        ("", b"", False), ("?clerk=true", b"", True), ("", b'{"clerk": true}', True), ("", b'{"clerk": false}', False),
        ("", b"{}", False), ("?clerk=false", b'{"clerk": true}', True), ("?clerk=true", b'{"clerk": false}', True),
        ("?clerk=false", b"", False),
    ],
)  # fmt: skip
async def test_clerk_is_told_where_that_is_asked_for(
    url: str, query: str, body: bytes, passed_on: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    clerk = Clerk()
    monkeypatch.setattr(Gateway, "session_ender", clerk)
    async with revoking(url) as (_, operator):
        answer = await post(operator, f"/v1/sessions/sess_1/revoke{query}", body)
        assert (answer.status, answer.json["status"]) == (200, "revoked")
        assert answer.json.get("clerk") == ("revoked" if passed_on else None)
    assert clerk.ended == ["sess_1"] * passed_on


@pytest.mark.parametrize(
    ("query", "body", "reason"),
    [
        ("?clerk=true", b"", "secret_key"), ("", b'{"clerk": true}', "secret_key"), ("?clerk=yes", b"", "clerk"),
        ("?clerk", b"", "clerk"), ("?clerk=true&clerk=true", b"", "clerk"), ("?clark=true", b"", "parameter"), ("", b"{", "body"), ("", b"[]", "body"), ("", b'{"clerk": 1}', "body"),
        ("", b'{"clerk": null}', "body"), ("", b"\xff", "body"),
    ],
)  # fmt: skip
async def test_what_cannot_be_done_or_read_does_nothing(url: str, query: str, body: bytes, reason: str) -> None:
    async with revoking(url) as (running, operator):
        assert is_problem(
            await post(operator, f"/v1/sessions/sess_1/revoke{query}", body), 400, "bad_request", reason
        )  # fmt: skip
        assert (await running.get("/x", token=running.token())).status == 200


async def test_where_clerk_does_not_answer_it_is_refused_here_all_the_same(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clerk = Clerk()
    clerk.fails = True
    monkeypatch.setattr(Gateway, "session_ender", clerk)
    async with revoking(url) as (running, operator):
        answer = await post(operator, "/v1/sessions/sess_1/revoke?clerk=true")
        assert is_problem(answer, 504, "upstream_timeout")
        assert (await running.get("/x", token=running.token())).json["reason"] == "session-revoked"
        assert len(await running.app.inbox.read(lambda database: database.revocations.since(0))) == 1


async def test_a_body_that_is_too_large_is_not_read(url: str) -> None:
    async with revoking(url) as (_, operator):
        answer = await post(operator, "/v1/sessions/sess_1/revoke", b" " * (BODY_BYTES + 1))
        assert is_problem(answer, 413, "body_too_large")
        head = (
            f"POST /v1/sessions/s/revoke HTTP/1.1\r\nHost: localhost\r\n{BEARER}\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        assert (await operator.raw(f"{head}zz\r\n".encode())).status == 400


@pytest.mark.parametrize("knows", [True, False])
async def test_what_clerk_did_is_in_the_answer_as_the_document_says(
    url: str, knows: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    clerk = Clerk()
    clerk.knows = knows
    monkeypatch.setattr(Gateway, "session_ender", clerk)
    async with revoking(url) as (_, operator):
        described = Document((await operator.ask("GET", "/openapi.json", BEARER)).json)
        answer = await post(operator, "/v1/sessions/sess_1/revoke?clerk=true")
        described.check_answer(answer, "POST", "/v1/sessions/{id}/revoke")
        assert answer.json["clerk"] == ("revoked" if knows else "unknown")
        answer = await post(operator, "/v1/users/user_1/revoke")
        described.check_answer(answer, "POST", "/v1/users/{id}/revoke")
        assert "clerk" not in answer.json


async def test_with_the_store_down_what_clerk_did_is_said_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Gateway, "session_ender", Clerk())
    async with revoking(f"sqlite:///{tmp_path / 'none' / 'gateway.db'}") as (_, operator):
        described = Document((await operator.ask("GET", "/openapi.json", BEARER)).json)
        answer = await post(operator, "/v1/sessions/sess_1/revoke?clerk=true")
        assert (answer.status, answer.json["clerk"]) == (503, "revoked")
        described.check_answer(answer, "POST", "/v1/sessions/{id}/revoke")


@pytest.mark.parametrize(
    ("query", "body", "reason"),
    [
        ("?clerk=true", b"", "clerk"), ("?clerk=false", b"", "clerk"), ("", b'{"clerk": true}', "clerk"),
        ("?x=1", b"", "parameter"), ("", b"{", "body"),
    ],
)  # fmt: skip
async def test_a_user_cannot_be_ended_at_clerk_and_is_not_said_to_be(
    url: str, query: str, body: bytes, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Gateway, "session_ender", Clerk())
    async with revoking(url) as (running, operator):
        answer = await post(operator, f"/v1/users/user_1/revoke{query}", body)
        assert is_problem(answer, 400, "bad_request", reason)
        assert (await running.get("/x", token=running.token())).status == 200
        assert (await post(operator, "/v1/users/user_1/revoke", b'{"clerk": false}')).status == 200
