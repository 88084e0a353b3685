"""Rate limits over real sockets: who is counted, what is told, and what a refusal leaves of the connection."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from tests.fakes.clerk import FakeClerk
from tests.fakes.gateway import APP, Answer, Running, gateway, read_answer
from tests.fakes.upstream import Echo, ScriptedUpstream
from tests.fakes.websocket import Server, handshake
from tests.fakes.websocket import behind as socket_server

ROUTES = [
    {"name": "public", "path": "/public/*", "upstream": "api", "auth": "public"},
    {"name": "optional", "path": "/optional/*", "upstream": "api", "auth": "optional"},
    {"name": "admin", "path": "/admin/*", "upstream": "api", "require": {"role": "org:admin"}},
    {"name": "rest", "path": "/*", "upstream": "api"},
]


def org(name: str) -> dict[str, Any]:
    return {"o": {"id": name, "slg": name, "rol": "member"}}


def limited(**limits: Any) -> list[dict[str, Any]]:
    """The usual routes, some with a limit of their own."""
    return [route | ({"rate_limit": limits[str(route["name"])]} if route["name"] in limits else {}) for route in ROUTES]


@pytest.fixture
def echo() -> Echo:
    return Echo()


@asynccontextmanager
async def behind(echo: Echo, **overrides: Any) -> AsyncIterator[Running]:
    overrides = {"routes": ROUTES} | overrides
    async with ScriptedUpstream(echo) as upstream, gateway(upstream.port, **overrides) as running:
        yield running


def told(answer: Answer) -> tuple[Any, ...]:
    return answer.status, answer.json.get("code"), answer.json.get("reason")


async def statuses(running: Running, *calls: tuple[str, dict[str, Any]]) -> list[int]:
    return [(await running.get(path, **more)).status for path, more in calls]


# --- what is told ----------------------------------------------------------------------------------------------------


async def test_too_many_calls_are_refused_and_told_when_to_come_back(echo: Echo) -> None:
    async with behind(echo, rate_limits={"by_ip": "2/min"}) as running:
        assert [(await running.get("/public/x")).status for _ in range(2)] == [200, 200]
        running.monotonic.seconds += 0.5
        refused = await running.get("/public/x", fields={"Origin": APP})
        assert told(refused) == (429, "rate_limited", "ip")
        assert refused.json["title"] == "Too Many Requests"
        assert refused.json["request_id"] == refused.value("x-request-id")
        assert refused.value("content-type") == "application/problem+json"
        assert refused.value("cache-control") == "no-store"
        assert refused.value("retry-after") == "30"
        assert refused.value("ratelimit-limit") == "2"
        assert refused.value("ratelimit-remaining") == "0"
        assert refused.value("ratelimit-reset") == "60"
        assert refused.value("access-control-allow-origin") == APP
        assert len(echo.requests) == 2
        running.monotonic.seconds += 29.5  # as long as it was told
        assert (await running.get("/public/x")).status == 200
        assert (await running.get("/public/x")).status == 429
        lines = [line for line in await running.logged() if line["event"] == "request"]
    assert [(line["status"], line["code"], line["reason"], line["route"]) for line in lines[2:5:2]] == [
        (429, "rate_limited", "ip", "public"), (429, "rate_limited", "ip", "public"),
    ]  # fmt: skip


async def test_a_whole_second_is_waited_at_least(echo: Echo) -> None:
    async with behind(echo, rate_limits={"by_ip": "1000/s burst 1"}) as running:
        await running.get("/public/x")
        refused = await running.get("/public/x")
    assert (refused.status, refused.value("retry-after"), refused.value("ratelimit-reset")) == (429, "1", "1")


async def test_an_answer_within_the_limit_says_nothing_of_it(echo: Echo) -> None:
    async with behind(echo, rate_limits={"by_ip": "5/min"}) as running:
        answer = await running.get("/public/x")
    assert not [name for name, _ in answer.fields if "ratelimit" in name]


async def test_without_limits_nothing_is_counted(echo: Echo) -> None:
    async with behind(echo) as running:
        assert running.app.listener.deps.rates is None


# --- by address ------------------------------------------------------------------------------------------------------


async def test_an_address_is_counted_before_anything_is_verified(echo: Echo) -> None:
    async with behind(echo, rate_limits={"by_ip": "3/min"}) as running:
        calls = (("/x", {}), ("/x", {"token": "nonsense"}), ("/public/x", {}), ("/x", {"token": running.token()}))
        assert await statuses(running, *calls) == [401, 401, 200, 429]


async def test_preflights_own_addresses_and_what_has_no_route_are_not_counted(echo: Echo) -> None:
    asked = {"Origin": APP, "Access-Control-Request-Method": "GET"}
    async with behind(echo, routes=limited(rest="1/h")[:1] + limited()[1:3], rate_limits={"by_ip": "1/h"}) as running:
        for _ in range(3):
            assert (await running.ask("OPTIONS", "/public/x", fields=asked)).status == 204
            assert (await running.get("/healthz")).status == 200
            assert (await running.get("/nowhere")).status == 404
        assert await statuses(running, ("/public/x", {}), ("/public/x", {})) == [200, 429]
        assert (await running.ask("OPTIONS", "/public/x", fields=asked)).status == 204
        assert (await running.get("/healthz")).status == 200


async def test_options_counts_where_it_is_a_request_of_its_route(echo: Echo) -> None:
    async with behind(echo, cors=None, rate_limits={"by_ip": "1/h"}) as running:
        asked = {"Origin": APP, "Access-Control-Request-Method": "GET"}
        assert [(await running.ask("OPTIONS", "/public/x", fields=asked)).status for _ in range(2)] == [200, 429]


async def counted_apart(running: Running, *senders: tuple[str, ...]) -> list[bool]:
    """Whether each of these header lines comes from somebody who has not called before, at 1/h."""
    return [(await running.get("/public/x", lines=lines)).status == 200 for lines in senders]


def forwarded(*values: str, name: str = "X-Forwarded-For") -> tuple[str, ...]:
    return tuple(f"{name}: {value}" for value in values)


async def test_nobody_chooses_his_own_address(echo: Echo) -> None:
    async with behind(echo, rate_limits={"by_ip": "1/h"}) as running:
        lies = [
            forwarded("203.0.113.1"), forwarded("203.0.113.2"), forwarded("203.0.113.3", "203.0.113.4"),
            forwarded("203.0.113.5", name="x-forwarded-for"), forwarded("203.0.113.6", name="X_Forwarded_For"),
            forwarded("for=203.0.113.7", name="Forwarded"), forwarded("203.0.113.8", name="X-Real-IP"),
            forwarded("203.0.113.9", name="CF-Connecting-IP"), forwarded("2001:db8::1", name="True-Client-IP"),
        ]  # fmt: skip
        assert await counted_apart(running, *lies) == [True] + [False] * (len(lies) - 1)


async def test_behind_a_trusted_proxy_its_clients_are_counted(echo: Echo) -> None:
    async with behind(
        echo, rate_limits={"by_ip": "1/h"}, trusted_proxies=["127.0.0.0/8", "10.0.0.0/8"]
    ) as running:  # fmt: skip
        assert await counted_apart(
            running,
            forwarded("203.0.113.1"),
            forwarded("203.0.113.1"),
            forwarded("203.0.113.2"),
            forwarded("198.51.100.77, 203.0.113.1"),  # left of it stands what the client wrote
            forwarded("203.0.113.9", "203.0.113.1, 10.0.0.1"),  # two fields are one list; our own are skipped
            forwarded("::ffff:203.0.113.1"),
            forwarded("203.0.113.1:4711"),
            forwarded("2001:db8:0:1::1"),
            forwarded("2001:db8:0:1:ffff::9"),
            forwarded("[2001:DB8:0:1::5]:443"),
            forwarded("2001:db8:0:2::1"),
            forwarded("unknown"),  # the proxy itself, then
            (),
            forwarded("203.0.113.1", name="X_Forwarded_For"),
            forwarded("for=203.0.113.3", name="Forwarded"),
        ) == [
            True, False, True, False, False, False, False, True, False, False, True, True, False, False, False,
        ]  # fmt: skip


# --- by who it is ----------------------------------------------------------------------------------------------------


async def test_a_user_is_counted_whatever_token_and_address_he_uses(echo: Echo) -> None:
    limits = {"by_user": "2/min"}
    async with behind(echo, rate_limits=limits, trusted_proxies=["127.0.0.1"]) as running:

        def sends(user: str, number: int) -> dict[str, Any]:
            token = running.token(sub=user, sid=f"sess_{number}")
            return {"token": token, "fields": {"X-Forwarded-For": f"203.0.113.{number}"}}

        calls = [("/x", sends("user_1", 1)), ("/optional/x", sends("user_1", 2)), ("/x", sends("user_1", 3))]
        assert await statuses(running, *calls, ("/x", sends("user_2", 4))) == [200, 200, 429, 200]
        refused = await running.get("/x", **sends("user_1", 5))
        assert told(refused) == (429, "rate_limited", "user")
        assert (await running.logged())[-1]["user"] == "user_1"


async def test_a_public_route_knows_no_users(echo: Echo) -> None:
    async with behind(echo, rate_limits={"by_user": "1/h"}) as running:
        token = running.token()
        assert await statuses(running, *[("/public/x", {"token": token})] * 3) == [200, 200, 200]


async def test_an_organisation_is_counted_over_its_members(echo: Echo) -> None:
    async with behind(echo, rate_limits={"by_user": "2/h", "by_org": "3/h"}) as running:
        one, other, third, foreign = (
            running.token(sub=user, **org(of))
            for user, of in (("user_1", "org_1"), ("user_2", "org_1"), ("user_3", "org_1"), ("user_4", "org_2"))
        )
        calls = [one, one, one, one, other, third, foreign]
        answers = [await running.get("/x", token=token) for token in calls]
    # The two that user_1 did not get are still his organisation's.
    assert [answer.status for answer in answers] == [200, 200, 429, 429, 200, 429, 200]
    assert [answers[2].json["reason"], answers[5].json["reason"]] == ["user", "org"]


async def test_who_may_not_is_counted_too(echo: Echo) -> None:
    async with behind(echo, rate_limits={"by_user": "2/h"}) as running:
        token = running.token(**org("org_1"))
        assert await statuses(running, *[("/admin/x", {"token": token})] * 3) == [403, 403, 429]


async def test_a_forged_token_spends_nothing_of_the_user_it_names(echo: Echo) -> None:
    forger = FakeClerk(key_name="other")
    async with behind(echo, rate_limits={"by_user": "1/h"}, routes=limited(rest="1/h")) as running:
        forged = forger.session_token(running.clock(), sub="user_1")
        assert await statuses(running, *[("/x", {"token": forged})] * 3) == [401, 429, 429]
        assert (await running.get("/x", token=running.token(sub="user_1"))).status == 200


# --- a route's own ---------------------------------------------------------------------------------------------------


async def test_a_route_counts_each_of_its_callers(echo: Echo) -> None:
    async with behind(echo, routes=limited(rest="2/h")) as running:
        one, other = running.token(sub="user_1"), running.token(sub="user_2")
        again = running.token(sub="user_1", sid="sess_2")
        calls = [("/x", {"token": token}) for token in (one, again, one, other)]
        assert await statuses(running, *calls) == [200, 200, 429, 200]
        assert told(await running.get("/x", token=one)) == (429, "rate_limited", "route")
        assert (await running.get("/optional/x", token=one)).status == 200


async def test_on_an_optional_route_the_anonymous_are_counted_by_address(echo: Echo) -> None:
    async with behind(echo, routes=limited(optional="1/h")) as running:
        token = running.token()
        calls = [("/optional/x", {}), ("/optional/x", {}), ("/optional/x", {"token": token})]
        assert await statuses(running, *calls, calls[2]) == [200, 429, 200, 429]


async def test_on_a_public_route_everybody_is_counted_by_address(echo: Echo) -> None:
    async with behind(echo, routes=limited(public="2/h")) as running:
        calls = [("/public/x", {}), ("/public/x", {"token": running.token()}), ("/public/x", {})]
        assert await statuses(running, *calls) == [200, 200, 429]


async def test_failed_verifications_are_counted_by_address_and_hurt_nobody_else_there(echo: Echo) -> None:
    async with behind(echo, routes=limited(rest="2/h")) as running:
        calls = [("/x", {}), ("/x", {"token": "nonsense"}), ("/x", {}), ("/x", {"token": "nonsense"})]
        assert await statuses(running, *calls) == [401, 401, 429, 429]
        assert (await running.get("/x", token=running.token())).status == 200
        stolen = {"Cookie": f"__session={running.token()}; __client_uat={int(running.clock())}"}
        assert (await running.ask("POST", "/x", fields=stolen)).status == 429  # another site's page: no user either


async def test_keys_that_cannot_be_had_are_never_the_clients_doing(echo: Echo) -> None:
    clerk = {"issuer": "https://clerk.example.com", "jwks_url": "http://127.0.0.1:1/jwks", "authorized_parties": [APP]}
    async with behind(echo, routes=limited(rest="1/h"), clerk=clerk, first_keys_s=0.01) as running:
        answers = [await running.get("/x", token=running.token()) for _ in range(3)]
    assert [answer.status for answer in answers] == [503] * 3


async def test_a_route_may_count_by_several(echo: Echo) -> None:
    routes = limited(rest={"by_ip": "5/h", "by_user": "1/h", "by_org": "2/h"})
    async with behind(echo, routes=routes) as running:
        tokens = [running.token(sub=f"user_{number}", **org("org_1")) for number in (1, 1, 2, 3)]
        answers = [await running.get("/x", token=token) for token in tokens]
        assert [answer.status for answer in answers] == [200, 429, 200, 429]
        calls = [("/x", {}), ("/x", {}), ("/public/x", {})]
        assert await statuses(running, *calls) == [401, 429, 200]


# --- the connection --------------------------------------------------------------------------------------------------


async def test_head_is_counted_and_its_refusal_has_no_body(echo: Echo) -> None:
    async with behind(echo, rate_limits={"by_ip": "1/h"}) as running:
        answers = [await running.ask("HEAD", "/public/x") for _ in range(2)]
    assert [answer.status for answer in answers] == [200, 429]
    assert answers[1].body == b""
    assert int(answers[1].value("content-length") or 0) > 0
    assert answers[1].value("retry-after") == "3600"


async def test_the_connection_stays_open_and_the_same_head_is_counted_each_time(echo: Echo) -> None:
    async with behind(echo, rate_limits={"by_ip": "2/min"}) as running:
        reader, writer = await running.connect()
        seen = []
        for number in range(6):
            writer.write(b"GET /public/%d HTTP/1.1\r\nHost: gw.example.com\r\n\r\n" % number)
            answer = await read_answer(reader)
            seen.append((answer.status, answer.value("connection")))
            if number == 3:
                running.monotonic.seconds += 30
        writer.close()
    assert seen == [(200, None), (200, None), (429, None), (429, None), (200, None), (429, None)]


async def test_pipelined_requests_are_counted_one_by_one(echo: Echo) -> None:
    async with behind(echo, rate_limits={"by_ip": "2/min"}) as running:
        reader, writer = await running.connect()
        writer.write(b"GET /public/x HTTP/1.1\r\nHost: gw.example.com\r\n\r\n" * 4)
        assert [(await read_answer(reader)).status for _ in range(4)] == [200, 200, 429, 429]
        writer.close()


@pytest.mark.parametrize("line", ["Content-Length: 1000000", "Transfer-Encoding: chunked"])
@pytest.mark.parametrize("limits", [{"by_ip": "1/h"}, {"by_user": "1/h"}], ids=["address", "user"])
async def test_an_upload_is_refused_before_its_body_is_read(echo: Echo, line: str, limits: dict[str, str]) -> None:
    async with behind(echo, rate_limits=limits) as running:
        token = running.token()
        await running.get("/x", token=token)
        head = (f"POST /x HTTP/1.1\r\nHost: gw.example.com\r\nAuthorization: Bearer {token}\r\n"
                f"Expect: 100-continue\r\n{line}\r\n\r\n")  # fmt: skip
        reader, writer = await running.connect()
        writer.write(head.encode())
        answer = await read_answer(reader)  # the final one at once: no body was asked for
        assert (answer.status, answer.value("connection")) == (429, "close")
        assert await reader.read() == b""
        writer.close()
        logged = (await running.logged())[-1]
        assert (logged["code"], logged["bytes_in"]) == ("rate_limited", 0)
    assert len(echo.requests) == 1


@pytest.mark.parametrize("limits", [{"by_ip": "1/h"}, {"by_user": "1/h"}], ids=["address", "user"])
async def test_a_websocket_is_a_request_and_its_refusal_closes_the_connection(
    echo: Echo, limits: dict[str, str]
) -> None:
    async with behind(echo, rate_limits=limits) as running:
        offered = f"Sec-WebSocket-Protocol: gateway.auth, gateway.bearer.{running.token()}, chat"
        first = await running.raw(handshake("/ws", offered))
        assert first.status != 429  # this upstream speaks no WebSocket; that it was asked is enough
        asked = len(echo.requests)
        assert asked == 1
        reader, writer = await running.connect()
        writer.write(handshake("/ws", offered, f"Origin: {APP}") + b"\x81\x85early")
        answer = await read_answer(reader)
        assert told(answer)[:2] == (429, "rate_limited")
        assert answer.value("connection") == "close"
        assert answer.value("upgrade") is None
        assert answer.value("access-control-allow-origin") == APP
        assert await reader.read() == b""
        writer.close()
    assert len(echo.requests) == asked


async def test_an_open_socket_counts_once_however_much_is_said_on_it() -> None:
    async with socket_server(Server(), rate_limits={"by_ip": "2/h"}) as (running, session):
        async with session.ws_connect("/public/ws") as socket:
            for number in range(20):
                await socket.send_str(str(number))
                assert (await socket.receive()).data == str(number)
            assert (await running.get("/public/x")).status != 429
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await session.ws_connect("/public/ws")
            assert refused.value.status == 429
            await socket.send_str("still here")
            assert (await socket.receive()).data == "still here"


async def test_while_draining_an_upgrade_is_told_so_and_not_counted(echo: Echo) -> None:
    async with behind(echo, rate_limits={"by_ip": "1/h"}) as running:
        running.app.listener.draining = True
        assert [(await running.raw(handshake())).status for _ in range(3)] == [503] * 3
        assert await statuses(running, ("/public/x", {}), ("/public/x", {})) == [200, 429]


async def test_many_at_once_get_what_was_promised_and_no_more(echo: Echo) -> None:
    async with behind(echo, rate_limits={"by_ip": "20/h"}, routes=limited(public="7/h")) as running:
        answers = await asyncio.gather(*(running.get("/public/x") for _ in range(40)))
        assert sorted(answer.status for answer in answers) == [200] * 7 + [429] * 33
        # Those the route refused were counted for their address all the same.
        assert (await running.get("/optional/x")).status == 429


async def test_buckets_that_are_full_again_are_forgotten(echo: Echo) -> None:
    async with behind(echo, rate_limits={"by_ip": "1/s"}) as running:
        await running.get("/public/x")
        buckets = running.app._buckets
        assert len(buckets) == 1
        running.pass_time(1.0)
        assert len(buckets) == 0
