"""What Clerk says has ended is refused from the next request on, and what was open is closed. From webhook to Close."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import WSMsgType

from gateway.core.revocation import DAY_MS, of_session
from gateway.store.sql import READERS
from gateway.web import feed
from tests.core.test_convex import USER, written
from tests.core.test_messages import frame
from tests.fakes.clerk import FakeClerk, FakeIssuer
from tests.fakes.clerk_events import gone, membership, user
from tests.fakes.ending import ENDED, ears, hearing, tell
from tests.fakes.events import CHUNKED, EVENT_STREAM, listening, telling
from tests.fakes.gateway import CLERK, Answer, Running, gateway
from tests.fakes.upstream import Echo, ScriptedUpstream
from tests.fakes.websocket import SWITCHED, Server, behind, handshake
from tests.wire.test_convex import REVOKED, closed, convex_token, settled, tunnel
from tests.wire.test_streams import begun

V2 = {"slg": "acme", "rol": "admin"}
ORG_1, ORG_2 = ({"o": V2 | {"id": key}} for key in ("org_1", "org_2"))


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "gateway.db"


@pytest.fixture
async def running(store: Path) -> AsyncIterator[Running]:
    async with ScriptedUpstream(Echo()) as upstream, hearing(upstream.port, store) as started:
        yield started


def is_revoked(answer: Answer) -> bool:
    if answer.status != 401:
        return False
    assert (answer.json["code"], answer.json["reason"]) == ("invalid_token", "session-revoked")
    said = 'Bearer error="invalid_token", error_description="session-revoked"'
    assert answer.value("www-authenticate") == said
    return True


async def refused(running: Running, *tokens: str) -> list[bool]:
    """Say which of these tokens are refused."""
    return [is_revoked(await running.get("/x", token=token)) for token in tokens]


# --- requests --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "data", "hit", "spared"),
    [
        pytest.param("session.ended", ENDED, [{}, ORG_1], [{"sid": "sess_2"}], id="session-ended"),
        pytest.param("session.removed", ENDED, [{}], [{"sid": "sess_2"}], id="session-removed"),
        pytest.param("session.revoked", {"id": "sess_1"}, [{}], [{"sid": "sess_2"}], id="session-revoked"),
        pytest.param("user.deleted", gone("user_1"), [{}, {"sid": "sess_2"}], [{"sub": "user_2", "sid": "sess_3"}],
                     id="user-deleted"),
        pytest.param("user.updated", user(banned=True), [{}, {"sid": "sess_2"}], [{"sub": "user_2", "sid": "sess_3"}],
                     id="banned"),
        pytest.param("user.updated", user(locked=True), [{}], [{"sub": "user_2", "sid": "sess_3"}], id="locked"),
        pytest.param("organizationMembership.deleted", membership(), [ORG_1],
                     [{}, ORG_2, {"sub": "user_2", "sid": "sess_3"} | ORG_1], id="membership"),
        pytest.param("organization.deleted", gone("org_1", "organization"), [ORG_1, ORG_1 | {"sub": "user_2"}],
                     [{}, ORG_2], id="organisation"),
        pytest.param("user.updated", user(), [], [{}], id="an-ordinary-update"),
        pytest.param("session.created", ENDED, [], [{}], id="a-session-began"),
    ],
)  # fmt: skip
async def test_what_ended_is_refused_from_the_next_request_on(
    running: Running, kind: str, data: dict[str, Any], hit: list[Any], spared: list[Any]
) -> None:
    tokens = [running.token(**claims) for claims in (*hit, *spared)]
    assert await refused(running, *tokens) == [False] * len(tokens)
    assert (await tell(running, kind, data)).json == {"status": "stored"}
    for _ in range(2):
        assert await refused(running, *tokens) == [True] * len(hit) + [False] * len(spared)


async def test_a_template_token_of_a_deleted_user_is_refused_too(store: Path) -> None:
    routes = [{"path": "/*", "upstream": "api", "token": "template", "audience": ["x"]}]
    async with ScriptedUpstream(Echo()) as upstream, hearing(upstream.port, store, routes=routes) as running:
        token = CLERK.template_token(running.clock(), aud="x", exp=int(running.clock()) + 80 * 86_400)
        assert await refused(running, token) == [False]
        await tell(running, "user.deleted", gone("user_1"))
        assert await refused(running, token) == [True]
        running.clock.seconds += 79 * 86_400
        assert await refused(running, token) == [True]


async def test_cookies_of_a_session_that_ended_are_signed_out(running: Running) -> None:
    cookies = {"Cookie": f"__session={running.token()}; __client_uat={int(running.clock())}"}
    assert (await running.get("/x", fields=cookies)).status == 200
    await tell(running, "session.ended", ENDED)
    assert is_revoked(await running.get("/x", fields=cookies))
    assert (await running.get("/optional/x", fields=cookies)).status == 200  # as nobody (CONTRACT §4)
    assert is_revoked(await running.get("/optional/x", token=running.token()))
    assert (await running.get("/public/x", token=running.token())).status == 200  # where no credential is read


async def test_a_ban_that_was_lifted_ends_nothing_that_came_after_it(running: Running) -> None:
    """The events come the wrong way round: unbanned, signed in again, and only then the ban of before."""
    now = running.clock()
    await tell(running, "user.updated", user(updated_at=int((now - 60) * 1000)), at=now - 60)
    old, new = CLERK.session_token(now - 121, exp=int(now) + 60), running.token()
    assert await refused(running, old, new) == [False, False]
    late = user(banned=True, updated_at=int((now - 120) * 1000))
    await tell(running, "user.updated", late, at=now - 120)
    assert await refused(running, old, new) == [True, False]


async def test_who_was_banned_and_is_free_again_gets_in_with_a_new_token(running: Running) -> None:
    await tell(running, "user.updated", user(banned=True, updated_at=1))
    before = running.token()
    running.clock.seconds += 1
    await tell(running, "user.updated", user(updated_at=2))
    assert await refused(running, before, running.token()) == [True, False]


async def test_a_repeated_webhook_changes_nothing(running: Running) -> None:
    await tell(running, "session.created", ENDED, svix_id="msg_a")
    assert (await tell(running, "session.ended", ENDED, svix_id="msg_a")).json == {"status": "repeated"}
    assert await refused(running, running.token()) == [False]


async def test_with_the_store_down_it_is_refused_all_the_same(tmp_path: Path) -> None:
    async with ScriptedUpstream(Echo()) as upstream, hearing(upstream.port, tmp_path / "none" / "x.db") as running:
        assert (await tell(running, "session.ended", ENDED)).status == 503
        assert await refused(running, running.token(), running.token(sid="sess_2")) == [True, False]
        told = [line["event"] for line in await running.logged()]
        assert "revocations_unknown" in told  # what was revoked before the start cannot be read


async def test_once_it_is_void_nothing_of_it_is_left(running: Running) -> None:
    memory, inbox = running.app._records.revocations, running.app.inbox
    inbox._ticks = running.clock  # days that pass, not a clock that is wrong
    inbox._looked_at = running.clock(), running.clock()
    await inbox.look()
    await tell(running, "session.ended", ENDED)
    await tell(running, "user.deleted", gone("user_1"))
    for passed_ms, left in ((DAY_MS, 1), (89 * DAY_MS, 0)):
        running.clock.seconds += passed_ms / 1000
        running.app.deadlines.sweep()
        await inbox.look()
        assert len(memory) == left
        assert len(await inbox.read(lambda database: database.revocations.since(0))) == left
    running.clock.seconds += 86_400
    await inbox.look()  # now the directory has forgotten the user as well
    assert await refused(running, running.token()) == [False]


@pytest.mark.parametrize(("kind", "data"), [("user.updated", user(banned=True)), ("user.deleted", gone("user_1"))])
async def test_who_is_banned_or_deleted_still_when_the_entry_is_void_is_refused(
    running: Running, kind: str, data: dict[str, Any]
) -> None:
    token = running.token(exp=int(running.clock()) + 100 * 86_400)
    await tell(running, kind, data)
    running.clock.seconds += 90 * 86_400
    running.app.deadlines.sweep()
    assert len(running.app._records.revocations) == 0
    assert await refused(running, token) == [True]


async def test_whose_token_is_revoked_is_not_written_down(running: Running) -> None:
    await tell(running, "session.ended", ENDED)
    assert await refused(running, running.token()) == [True]
    assert await running.app.inbox.user("user_1") is None


async def test_a_token_whose_user_is_looked_up_meanwhile_is_not_taken_for_good(running: Running) -> None:
    records, stuck = running.app._records, threading.Event()
    for _ in range(READERS):
        records.store._readers.submit(stuck.wait, 10)
    asking = asyncio.ensure_future(running.get("/x", token=running.token()))
    assert records.people is not None
    while not records.people._asking:
        await asyncio.sleep(0)
    records.revocations.add(of_session("sess_1", now_ms=int(running.clock() * 1000)))
    stuck.set()
    assert is_revoked(await asking)
    assert len(running.app.listener.deps.verified) == 0


async def test_a_verdict_of_an_older_configuration_is_forgotten_too(running: Running) -> None:
    """A request that is on its way keeps the deps it began with, and with them what they remember."""
    old, token = running.app.listener.deps, running.token()
    assert await refused(running, token) == [False]
    running.file.write(1, **(ears(running.app._config.store.url) | {"identity": {"headers": {"X-Sid": "sid"}}}))
    await running.app.reload()
    assert running.app.listener.deps.verified is not old.verified
    assert len(old.verified) == 1
    await tell(running, "session.ended", ENDED)
    assert len(old.verified) == 0
    assert await refused(running, token) == [True]


async def test_a_token_that_waits_for_its_key_meanwhile_is_not_taken_for_good(store: Path) -> None:
    rotated = FakeClerk(CLERK.issuer, kid="ins_next", key_name="second")
    async with ScriptedUpstream(Echo()) as upstream, FakeIssuer(CLERK) as issuer:
        heard = ears(store, jwt_key=None, jwks_url=issuer.jwks_url)
        async with gateway(upstream.port, **heard) as running:
            running.pass_time(120)
            issuer.clerks, issuer.hold = [CLERK, rotated], asyncio.Event()
            issuer.arrived.clear()
            token = rotated.session_token(running.clock())
            asking = asyncio.ensure_future(running.get("/x", token=token))
            await issuer.arrived.wait()
            await tell(running, "session.ended", ENDED)
            issuer.hold.set()
            assert is_revoked(await asking)
            assert len(running.app.listener.deps.verified) == 0
            assert await refused(running, token, rotated.session_token(running.clock(), sid="sess_2")) == [True, False]


# --- what is open ----------------------------------------------------------------------------------------------------


async def test_a_ban_closes_the_users_sockets_and_nobody_elses(store: Path) -> None:
    async with behind(Server(), **ears(store)) as (running, session):

        async def opened(**claims: Any) -> Any:
            return await session.ws_connect("/ws", headers={"Authorization": f"Bearer {running.token(**claims)}"})

        hers = [await opened(), await opened(sid="sess_2"), await opened(**ORG_1)]
        other = await opened(sub="user_2", sid="sess_3")
        await tell(running, "organizationMembership.deleted", membership())
        await tell(running, "user.updated", user(banned=True))
        for socket in hers:
            message = await socket.receive()
            assert (message.type, message.data, message.extra) == (WSMsgType.CLOSE, 4401, "session-revoked")
        await other.send_str("still here")
        assert await other.receive_str() == "still here"
        await other.close()
        lines = [line for line in await running.logged() if line.get("reason") == "session-revoked"]
        assert {line["code"] for line in lines} == {"invalid_token"}


async def test_an_event_stream_is_cut_and_another_sessions_goes_on(store: Path) -> None:
    async with telling(**ears(store)) as (running, teller):
        async with listening(running, "/events", token=running.token()) as hers:
            ended = await begun(teller, hers)
            async with listening(running, "/events", token=running.token(sid="sess_2")) as other:
                goes_on = await begun(teller, other)
                await tell(running, "session.removed", ENDED)
                assert await hers.cut()
                await ended.left()
                goes_on.say(b"data: 1\n\n")
                assert await other.chunk() == b"data: 1\n\n"


async def test_a_late_ban_leaves_streams_of_newer_tokens_open(store: Path) -> None:
    async with telling(**ears(store)) as (running, teller):
        now = running.clock()
        old, new = CLERK.session_token(now - 121, exp=int(now) + 60), running.token()
        async with listening(running, "/events", token=old) as before:
            await begun(teller, before)
            async with listening(running, "/events", token=new) as after:
                goes_on = await begun(teller, after)
                await tell(running, "user.updated", user(banned=True), at=now - 120)
                assert await before.cut()
                goes_on.say(b"data: 1\n\n")
                assert await after.chunk() == b"data: 1\n\n"


async def test_an_answer_that_begins_after_the_end_of_its_session_is_cut(store: Path) -> None:
    async with telling(**ears(store)) as (running, teller):
        async with listening(running, "/events", token=running.token()) as client:
            exchange = await teller.asked()
            await tell(running, "session.ended", ENDED)
            exchange.head(EVENT_STREAM, CHUNKED)
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionResetError):
                await client.head()
            assert await client.cut()
            await exchange.left()
            assert len(running.app.listener.streams) == 0


async def test_a_socket_that_opens_after_the_end_of_its_session_is_closed(store: Path) -> None:
    asked, answer, over = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        asked.set()
        await answer.wait()
        writer.write(SWITCHED)
        await over.wait()

    async with ScriptedUpstream(slow) as upstream, gateway(upstream.port, **ears(store)) as running:
        reader, writer = await running.connect()
        writer.write(handshake("/ws", f"Authorization: Bearer {running.token()}"))
        await asked.wait()
        await tell(running, "session.ended", ENDED)
        answer.set()
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        assert await reader.readexactly(len(REVOKED)) == REVOKED
        writer.close()
        over.set()


async def test_a_convex_socket_that_says_an_ended_sessions_token_is_closed(store: Path) -> None:
    """Convex verifies that token itself, and would serve it until its end."""
    async with tunnel(**ears(store)) as (running, client, upstream, _):
        await settled(running, None)
        await tell(running, "session.ended", ENDED)
        sent = frame(written(USER | {"value": convex_token(running)}))
        client[1].write(sent)
        assert await client[0].readexactly(len(REVOKED)) == REVOKED
        assert await upstream[0].readexactly(len(sent)) == sent
        assert await closed(upstream) == (4401, b"session-revoked")


async def test_a_convex_socket_ends_with_the_session_it_said_last(store: Path) -> None:
    async with tunnel(**ears(store)) as (running, client, _, _):
        for user_id, session in (("user_1", "sess_1"), ("user_2", "sess_2")):
            token = convex_token(running, sub=user_id, sid=session)
            client[1].write(frame(written(USER | {"value": token})))
            await settled(running, user_id)
        await tell(running, "session.ended", ENDED)
        await tell(running, "user.deleted", gone("user_1"))
        await settled(running, "user_2")
        await tell(running, "user.deleted", gone("user_2"))
        assert await client[0].readexactly(len(REVOKED)) == REVOKED


async def test_a_convex_socket_whose_token_waits_for_its_key_meanwhile_is_closed(store: Path) -> None:
    rotated = FakeClerk(CLERK.issuer, kid="ins_next", key_name="second")
    async with FakeIssuer(CLERK) as issuer:
        async with tunnel(**ears(store, jwt_key=None, jwks_url=issuer.jwks_url)) as (running, client, _, _):
            running.pass_time(120)
            issuer.clerks, issuer.hold = [rotated], asyncio.Event()
            issuer.arrived.clear()
            token = rotated.session_token(running.clock(), aud="convex")
            client[1].write(frame(written(USER | {"value": token})))
            await issuer.arrived.wait()
            await tell(running, "session.ended", ENDED)
            issuer.hold.set()
            assert await client[0].readexactly(len(REVOKED)) == REVOKED


# --- other processes -------------------------------------------------------------------------------------------------


async def test_what_one_gateway_hears_the_others_refuse_too(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "LOOK_S", 0.02)
    async with telling(**ears(store)) as (first, teller), hearing(1, store) as second:
        async with listening(first, "/events", token=first.token()) as client:
            await begun(teller, client)
            await tell(second, "session.ended", ENDED)
            assert await client.cut()
        assert await refused(first, first.token()) == [True]
