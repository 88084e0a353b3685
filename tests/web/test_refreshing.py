"""Sessions whose token is over: refreshed at Clerk where there is a refresh token, sent through the handshake else."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from tests.fakes.clerk import TEMPLATE
from tests.fakes.clerk_api import Canned, FakeBackendApi, World
from tests.fakes.gateway import APP, CLERK, Running, read_answer
from tests.fakes.pages import DOCUMENT, FETCH, SUFFIX, cookies, location, pages, session
from tests.fakes.upstream import Echo, ScriptedUpstream
from tests.fakes.websocket import handshake

REFRESH = f"__refresh_{SUFFIX}"
EXPIRED = "session-token-expired-refresh"


@pytest.fixture
async def api() -> AsyncIterator[FakeBackendApi]:
    async with FakeBackendApi(World()) as started:
        yield started


@pytest.fixture
async def running(api: FakeBackendApi) -> AsyncIterator[Running]:
    upstreams: dict[str, Any] = {}
    async with ScriptedUpstream(Echo()) as upstream:
        upstreams |= {"api": {"url": f"http://127.0.0.1:{upstream.port}", "forward_token": True}}
        async with pages(upstream.port, api, settings={"upstreams": upstreams}) as started:
            yield started


def old(running: Running, **claims: Any) -> str:
    now = int(running.clock())
    return running.token(**({"iat": now - 120, "nbf": now - 130, "exp": now - 60} | claims))


def expired(running: Running, refresh: str = "") -> dict[str, str]:
    more = {REFRESH: refresh} if refresh else {}
    return cookies(**session(old(running), int(running.clock()) - 300), **more)


@pytest.mark.parametrize("asked", [DOCUMENT, FETCH], ids=["document", "fetch"])
async def test_an_expired_session_is_refreshed_without_the_user_noticing(
    running: Running, api: FakeBackendApi, asked: dict[str, str]
) -> None:
    api.refreshes["r1"] = [f"__session_{SUFFIX}={running.token()}; Path=/", f"{REFRESH}=r2; Path=/; HttpOnly"]
    answer = await running.get("/x?a=1", fields=asked | expired(running, "r1") | {"User-Agent": "Firefox"})
    assert answer.status == 200
    assert answer.values("set-cookie") == api.refreshes["r1"]
    assert answer.value("cache-control") == "no-store"
    received = dict(answer.json["headers"])
    assert received["X-User-Id"] == "user_1"
    assert f"__session_{SUFFIX}={running.token()}" in received["Cookie"]
    assert f"{REFRESH}=r2" in received["Cookie"]
    assert received["Cookie"].count(f"__session_{SUFFIX}") == 1
    assert api.requests == ["POST /v1/sessions/sess_1/refresh?suffixed_cookies=true"]
    told = orjson.loads(api.last_body)
    assert (told["request_origin"], told["expired_token"]) == (APP, old(running))
    assert told["request_headers"]["user-agent"] == ["Firefox"]
    assert "cookie" not in told["request_headers"]


async def test_a_refresh_is_word_enough_for_a_link_from_another_site(running: Running, api: FakeBackendApi) -> None:
    api.refreshes["r1"] = [f"__session_{SUFFIX}={running.token()}; Path=/"]
    answer = await running.get("/x", fields=DOCUMENT | expired(running, "r1") | {"Referer": "https://sat.example/"})
    assert answer.status == 200


async def test_an_optional_route_knows_its_user_after_a_refresh(running: Running, api: FakeBackendApi) -> None:
    api.refreshes["r1"] = [f"__session_{SUFFIX}={running.token()}; Path=/"]
    for asked in (DOCUMENT, FETCH):
        answer = await running.get("/optional/x", fields=asked | expired(running, "r1"))
        assert dict(answer.json["headers"])["X-User-Id"] == "user_1"
        anonymous = await running.get("/optional/x", fields=FETCH | expired(running, "revoked"))
        assert (anonymous.status, "X-User-Id" in dict(anonymous.json["headers"])) == (200, False)


@pytest.mark.parametrize(
    ("refresh", "why"),
    [
        pytest.param("", "non-eligible-no-refresh-cookie", id="none"),
        pytest.param("revoked", "refresh_token_invalid", id="revoked"),
        pytest.param("nothing", "unexpected-sdk-error", id="nothing-came"),
        pytest.param("garbage", "invalid-session-token", id="garbage-came"),
        pytest.param("down", "fetch-error", id="clerk-is-down"),
    ],
)
async def test_where_there_is_no_refresh_the_reason_is_clerks(
    running: Running, api: FakeBackendApi, refresh: str, why: str
) -> None:
    api.refreshes |= {"nothing": [], "garbage": ["__session=garbage"]}
    api.canned.extend([Canned(500)] if refresh == "down" else [])
    answer = await running.get("/x", fields=DOCUMENT | expired(running, refresh))
    address, asked = location(answer)
    assert (answer.status, address) == (307, "https://clerk.example.com/v1/client/handshake")
    assert asked["__clerk_hs_reason"] == f"{EXPIRED}-{why}"
    assert asked["__session"] == old(running)
    assert answer.values("set-cookie") == ["__clerk_redirect_count=1; SameSite=Lax; HttpOnly; Max-Age=2"]
    assert answer.value("x-clerk-auth-status") == "handshake"
    assert answer.value("x-clerk-auth-reason") == f"{EXPIRED}-{why}"
    assert answer.value("x-clerk-auth-message") == "JWT is expired. (reason=token-expired, token-carrier=cookie)"
    answer = await running.get("/x", fields=FETCH | expired(running, refresh))
    assert (answer.status, answer.json["reason"]) == (401, f"{EXPIRED}-{why}")
    assert answer.value("x-clerk-auth-status") == "signed-out"


@pytest.mark.parametrize("fields", [{"Origin": APP}, {"Sec-Fetch-Site": "same-origin"}], ids=["listed", "own"])
async def test_a_form_may_have_been_open_for_longer_than_a_token_lives(
    running: Running, api: FakeBackendApi, fields: dict[str, str]
) -> None:
    api.refreshes["r1"] = [f"__session={running.token()}; Path=/"]
    answer = await running.ask("POST", "/x", fields=DOCUMENT | expired(running, "r1") | fields, body=b"a=1")
    assert answer.status == 200
    assert dict(answer.json["headers"])["X-User-Id"] == "user_1"
    assert answer.values("set-cookie") == api.refreshes["r1"]


FORM = "POST /x HTTP/1.1\r\nHost: gw.example.com\r\nExpect: 100-continue\r\nContent-Length: 200001\r\n"


async def test_a_form_that_waits_to_be_asked_for_is_asked_for_once_its_session_is_known(
    running: Running, api: FakeBackendApi
) -> None:
    api.refreshes["r1"] = [f"__session={running.token()}; Path=/"]
    reader, writer = await running.connect()
    writer.write(f"{FORM}Origin: {APP}\r\nCookie: {expired(running, 'r1')['Cookie']}\r\n\r\n".encode())
    assert (await read_answer(reader)).status == 100
    assert len(api.requests) == 1
    writer.write(b"a" * 200_001)
    answer = await read_answer(reader)
    writer.close()
    assert (answer.status, len(answer.json["body"])) == (200, 200_001)
    reader, writer = await running.connect()
    writer.write(f"{FORM}Origin: {APP}\r\nCookie: {expired(running, 'revoked')['Cookie']}\r\n\r\n".encode())
    answer = await read_answer(reader)
    assert (answer.status, answer.value("connection")) == (401, "close")
    writer.close()


async def test_a_form_that_comes_while_its_session_is_refreshed_is_whole(running: Running, api: FakeBackendApi) -> None:
    api.refreshes["r1"] = [f"__session={running.token()}; Path=/"]
    api.hold = asyncio.Event()
    form = FORM.replace("Expect: 100-continue\r\n", "")
    reader, writer = await running.connect()
    writer.write(f"{form}Origin: {APP}\r\nCookie: {expired(running, 'r1')['Cookie']}\r\n\r\n".encode())
    while not api.requests:
        await asyncio.sleep(0)
    writer.write(b"a" * 200_001)
    await asyncio.sleep(0)
    api.hold.set()
    answer = await read_answer(reader)
    writer.close()
    assert (answer.status, len(answer.json["body"])) == (200, 200_001)


@pytest.mark.parametrize(
    "fields",
    [{}, {"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "same-site"}],
    ids=["nobody", "another-site", "null", "sibling"],
)
async def test_no_other_sites_form_makes_anybody_ask(
    running: Running, api: FakeBackendApi, fields: dict[str, str]
) -> None:
    api.refreshes["r1"] = [f"__session={running.token()}; Path=/"]
    for target in ("/x", "/optional/x"):
        answer = await running.ask("POST", target, fields=DOCUMENT | expired(running, "r1") | fields, body=b"a=1")
        assert answer.values("set-cookie") == []
        if target == "/x":
            assert (answer.status, answer.value("x-clerk-auth-reason")) == (401, f"{EXPIRED}-non-eligible-non-get")
        else:
            assert "X-User-Id" not in dict(answer.json["headers"])
    assert api.requests == []


async def test_a_socket_and_a_token_in_the_header_are_not_refreshed(running: Running, api: FakeBackendApi) -> None:
    api.refreshes["r1"] = [f"__session={running.token()}"]
    fields = expired(running, "r1") | {"Origin": APP, "Authorization": f"Bearer {old(running)}"}
    assert (await running.ask("POST", "/x", fields=fields)).json["reason"] == "token-expired"
    upgrade = handshake("/x", f"Cookie: {expired(running, 'r1')['Cookie']}", f"Origin: {APP}")
    assert (await running.raw(upgrade)).status == 401
    assert api.requests == []


async def test_who_signed_out_meanwhile_is_not_refreshed(running: Running, api: FakeBackendApi) -> None:
    api.refreshes["r1"] = [f"__session={running.token()}"]
    came = cookies(**session(old(running), int(running.clock()) - 10), **{REFRESH: "r1"})
    answer = await running.get("/x", fields=FETCH | came)
    assert (answer.status, answer.json["reason"]) == (401, "session-token-iat-before-client-uat")
    answer = await running.get("/x", fields=DOCUMENT | came)
    assert location(answer)[1]["__clerk_hs_reason"] == "session-token-iat-before-client-uat"
    not_over = cookies(
        **session(running.token(iat=int(running.clock()) - 20), int(running.clock()) - 10), **{REFRESH: "r1"}
    )
    answer = await running.get("/x", fields=FETCH | not_over)
    assert (answer.status, answer.json["reason"]) == (401, "session-token-iat-before-client-uat")
    assert api.requests == []


async def test_a_refreshed_session_still_has_to_be_admitted(running: Running, api: FakeBackendApi) -> None:
    api.refreshes["r1"] = [f"__session={running.token(sts='pending')}"]
    answer = await running.get("/x", fields=DOCUMENT | expired(running, "r1"))
    assert (answer.status, answer.json["reason"]) == (401, "session-pending")
    assert answer.values("set-cookie") == api.refreshes["r1"]  # Clerk has exchanged it: the old one is worth nothing


async def test_a_header_token_that_is_over(running: Running, api: FakeBackendApi) -> None:
    answer = await running.get("/x", token=old(running), fields=DOCUMENT)
    assert location(answer)[1]["__session"] == old(running)
    assert location(answer)[1]["__clerk_hs_reason"] == f"{EXPIRED}-non-eligible-no-refresh-cookie"
    api.refreshes["r1"] = [f"__session={running.token()}"]
    for asked in (DOCUMENT, FETCH):
        answer = await running.get("/x", token=old(running), fields=asked | cookies(**{REFRESH: "r1"}))
        assert answer.status == 200
    answer = await running.get("/x", token=old(running), fields=FETCH | cookies(**{REFRESH: "revoked"}))
    assert (answer.status, answer.json["reason"]) == (401, "token-expired")


async def test_a_header_token_that_is_over_is_not_rescued_by_anothers_cookies(
    running: Running, api: FakeBackendApi
) -> None:
    api.refreshes["r1"] = [f"__session_{SUFFIX}={running.token()}"]
    other = old(running, sub="user_2", sid="sess_2")
    answer = await running.get("/x", token=other, fields=FETCH | expired(running, "r1"))
    assert (answer.status, answer.json["reason"], api.requests) == (401, "token-expired", [])
    answer = await running.get("/x", token=other, fields=DOCUMENT | expired(running, "r1"))
    assert location(answer)[1]["__clerk_hs_reason"] == f"{EXPIRED}-non-eligible-other-session"
    assert api.requests == []


async def test_a_header_token_of_no_session_needs_no_handshake(running: Running) -> None:
    now = int(running.clock())
    template = CLERK.mint(CLERK.template_claims(now - 300), header={"cat": TEMPLATE})
    answer = await running.get("/x", token=template, fields=DOCUMENT)
    assert (answer.status, answer.value("location")) == (401, None)


async def test_a_token_without_a_usable_session_is_not_refreshed(running: Running, api: FakeBackendApi) -> None:
    came = cookies(**session(old(running, sid="../x"), int(running.clock()) - 300), **{REFRESH: "r1"})
    answer = await running.get("/x", fields=FETCH | came)
    assert answer.json["reason"] == f"{EXPIRED}-expired-session-token-missing-sid-claim"
    assert api.requests == []


async def test_good_cookies_ask_nobody(running: Running, api: FakeBackendApi) -> None:
    good = cookies(**session(running.token(), int(running.clock()) - 300), **{REFRESH: "r1"})
    for asked in (DOCUMENT, FETCH):
        answer = await running.get("/x", fields=asked | good)
        assert (answer.status, answer.values("set-cookie")) == (200, [])
    assert api.requests == []
