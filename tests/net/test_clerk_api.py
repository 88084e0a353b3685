import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import orjson
import pytest

from gateway.errors import ClerkApiDown, ClerkApiRefused
from gateway.net.clerk_api import COMMANDS, ClerkApi
from gateway.net.clerk_client import Patience, open_session
from tests.fakes.clerk_api import Canned, FakeBackendApi, World, errors

Call = Callable[[ClerkApi], Awaitable[Any]]


class Time:
    """A clock that only waiting moves."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.waits: list[float] = []

    def now(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.seconds += seconds


@pytest.fixture
async def clerk() -> AsyncIterator[FakeBackendApi]:
    async with FakeBackendApi(World()) as served:
        yield served


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
async def api(clerk: FakeBackendApi, time: Time) -> AsyncIterator[ClerkApi]:
    async with open_session() as session:
        yield make(clerk, session, time)


def make(clerk: FakeBackendApi, session: Any, time: Time, *, key: str | None = None, **patience: Any) -> ClerkApi:
    return ClerkApi(
        clerk.url, key or clerk.secret_key, session, patience=Patience(**patience), now=time.now, sleep=time.sleep,
        rng=lambda: 0.0,
    )  # fmt: skip


def population(clerk: FakeBackendApi) -> World:
    assert isinstance(clerk.population, World)
    return clerk.population


async def test_users_come_by_page_and_by_creation(clerk: FakeBackendApi, api: ClerkApi) -> None:
    for number in (3, 1, 2):
        population(clerk).add_user(f"user_{number}", created_at=number)
    assert [user["id"] for user in await api.users()] == ["user_1", "user_2", "user_3"]
    assert [user["id"] for user in await api.users(offset=1, limit=1)] == ["user_2"]
    assert [user["id"] for user in await api.users(created_after=1)] == ["user_2", "user_3"]
    assert [user["id"] for user in await api.users_of(["user_3", "user_9"])] == ["user_3"]
    assert await api.count_users() == 3


async def test_one_user_or_none(clerk: FakeBackendApi, api: ClerkApi) -> None:
    population(clerk).add_user("user_1")
    found = await api.user("user_1")
    assert found is not None
    assert found["first_name"] == "Ada"
    assert await api.user("user_2") is None


async def test_organisations_and_their_members(clerk: FakeBackendApi, api: ClerkApi) -> None:
    world = population(clerk)
    world.add_organization("org_1")
    world.add_organization("org_2", created_at=2000)
    world.add_membership("m1", user_id="user_1", org_id="org_1")
    world.add_membership("m2", user_id="user_2", org_id="org_1")
    world.add_membership("m3", user_id="user_1", org_id="org_2")
    assert [each["id"] for each in await api.organizations()] == ["org_1", "org_2"]
    assert (await api.organization("org_2") or {})["id"] == "org_2"
    assert await api.organization("org_3") is None
    assert [each["id"] for each in await api.memberships() or ()] == ["m1", "m2", "m3"]
    assert [each["id"] for each in await api.memberships("org_1", limit=1, offset=1) or ()] == ["m2"]
    assert [each["id"] for each in await api.memberships("org_1", user_ids=["user_2"]) or ()] == ["m2"]
    assert await api.memberships("org_3") is None


async def test_the_memberships_of_one_user(clerk: FakeBackendApi, api: ClerkApi) -> None:
    world = population(clerk)
    world.add_user("user_1")
    world.add_user("user_2")
    world.add_membership("m0", user_id="user_2", org_id="org_1")
    for number in range(1, 6):
        world.add_membership(f"m{number}", user_id="user_1", org_id=f"org_{number}")
    clerk.most = 2
    assert [each["id"] for each in await api.memberships_of("user_1")] == ["m1", "m2", "m3", "m4", "m5"]
    # Clerk documents nothing but limit and offset here.
    assert clerk.requests[-1] == "GET /v1/users/user_1/organization_memberships?limit=500&offset=4"
    assert await api.memberships_of("user_3") == []


@pytest.mark.parametrize(
    ("pages", "detail"),
    [
        pytest.param(['{"data": [%s], "total_count": 9}'] * 2, "its pages repeat", id="repeating"),
        pytest.param(['{"data": [], "total_count": 9}'], "gave nothing from 0 on", id="empty"),
        pytest.param(["[]", "null"][1:], "what came is null", id="null"),
        pytest.param(['[{"id": "m1", "public_user_data": {"user_id": "user_2"}}]'], "not asked for", id="anothers"),
    ],
)
async def test_memberships_that_are_not_believed(
    clerk: FakeBackendApi, api: ClerkApi, pages: list[str], detail: str
) -> None:
    clerk.canned += [Canned(200, page.replace("%s", '{"id": "m1"}').encode()) for page in pages]
    with pytest.raises(ClerkApiDown) as refused:
        await api.memberships_of("user_1")
    assert detail in str(refused.value.detail)


async def test_a_session_is_revoked(clerk: FakeBackendApi, api: ClerkApi) -> None:
    population(clerk).sessions["sess_1"] = {"id": "sess_1", "status": "active"}
    assert await api.revoke_session("sess_1")
    assert population(clerk).sessions["sess_1"]["status"] == "revoked"
    assert not await api.revoke_session("sess_2")


async def test_what_is_sent(clerk: FakeBackendApi, api: ClerkApi) -> None:
    await api.users(created_after=5)
    assert clerk.requests == ["GET /v1/users?order_by=%2Bcreated_at&limit=500&offset=0&created_at_after=5"]
    assert clerk.last_headers["Authorization"] == "Bearer sk_live_abcdefgh"
    assert clerk.last_headers["Clerk-API-Version"] == "2026-05-12"
    assert b"kid" in await api.keys()


@pytest.mark.parametrize("key", ["a/b", "a?b=c", "../users", "a#b", "%2e%2e", "ü"])
async def test_an_id_stays_one_part_of_the_path(clerk: FakeBackendApi, api: ClerkApi, key: str) -> None:
    assert await api.user(key) is None
    assert clerk.requests[0].count("/") == 3
    assert "?" not in clerk.requests[0]


@pytest.mark.parametrize("key", ["", ".", ".."])
async def test_what_is_no_id_is_not_asked_for(clerk: FakeBackendApi, api: ClerkApi, key: str) -> None:
    with pytest.raises(ClerkApiDown):
        await api.user(key)
    assert clerk.requests == []


@pytest.mark.parametrize(
    ("key", "share", "apart_s"),
    [
        ("sk_live_abcdefgh", {}, 1 / 20), ("sk_test_abcdefgh", {}, 1 / 2),
        ("sk_live_abcdefgh", {"share": COMMANDS}, 1 / 60), ("sk_test_abcdefgh", {"share": COMMANDS}, 1 / 6),
    ],
)  # fmt: skip
async def test_a_fifth_of_what_clerk_allows_is_left_to_others(
    clerk: FakeBackendApi, time: Time, key: str, share: dict[str, float], apart_s: float
) -> None:
    clerk.secret_key = key
    async with open_session() as session:
        api = ClerkApi(clerk.url, key, session, now=time.now, sleep=time.sleep, **share)
        await asyncio.gather(*(api.count_users() for _ in range(5)))
    assert time.seconds == pytest.approx(4 * apart_s)


async def test_a_retry_after_is_waited_out_by_everybody(clerk: FakeBackendApi, api: ClerkApi, time: Time) -> None:
    clerk.canned += [Canned(429, errors("too_many_requests"), {"Retry-After": "7"})]
    assert await api.count_users() == 0
    assert time.seconds >= 7
    assert len(clerk.requests) == 2


NOON, MINUTE_PAST = "Wed, 25 Nov 2026 12:00:00 GMT", "Wed, 25 Nov 2026 12:01:00 GMT"


@pytest.mark.parametrize(
    ("fields", "waited_s"),
    [
        pytest.param({"Date": NOON, "Retry-After": MINUTE_PAST}, 60, id="by-the-clock-it-is-of"),
        pytest.param({"Date": "", "Retry-After": MINUTE_PAST}, 50, id="by-ours"),
        pytest.param({"Date": MINUTE_PAST, "Retry-After": NOON}, 0.05, id="past"),  # the pace alone
    ],
)
async def test_a_retry_after_may_be_a_date(
    clerk: FakeBackendApi, time: Time, fields: dict[str, str], waited_s: float
) -> None:
    """RFC 9110 §10.2.3."""
    clerk.canned += [Canned(429, b"", fields)]
    async with open_session() as session:
        api = ClerkApi(
            clerk.url, clerk.secret_key, session, now=time.now, sleep=time.sleep, clock=lambda: 1_795_608_010.0,
            rng=lambda: 0.0,
        )  # fmt: skip
        assert await api.count_users() == 0
    assert time.seconds == pytest.approx(waited_s)


@pytest.mark.parametrize("after", ["later", "1.5", "-3", "", "Wed, 99 Nov 2026 12:00:00 GMT"])
async def test_a_retry_after_that_is_none_is_a_second(
    clerk: FakeBackendApi, api: ClerkApi, time: Time, after: str
) -> None:
    clerk.canned += [Canned(429, b"", {"Retry-After": after})]
    assert await api.count_users() == 0
    assert time.seconds == pytest.approx(1)


async def test_nobody_waits_for_ever(clerk: FakeBackendApi, api: ClerkApi) -> None:
    clerk.canned += [Canned(429, b"", {"Retry-After": "301"})]
    with pytest.raises(ClerkApiDown) as refused:
        await api.count_users()
    assert refused.value.detail == "/users/count: status 429, and to wait 301 s"
    assert refused.value.retry_after_s == 301
    clerk.canned += [Canned(429)] * 21
    with pytest.raises(ClerkApiDown):
        await api.count_users()


async def test_a_failure_is_tried_again_a_few_times(clerk: FakeBackendApi, api: ClerkApi, time: Time) -> None:
    clerk.canned += [Canned(500), Canned(503), Canned(502, b"<html>")]
    clerk.cut = True
    assert await api.users() == []
    assert [wait for wait in time.waits if wait >= 0.5] == [0.5, 1, 2, 4]
    clerk.canned += [Canned(500)] * 5
    with pytest.raises(ClerkApiDown) as refused:
        await api.users()
    assert refused.value.detail == "/users: status 500"


async def test_nobody_listening(clerk: FakeBackendApi, api: ClerkApi) -> None:
    await clerk.stop()
    with pytest.raises(ClerkApiDown, match="clerk_unavailable") as refused:
        await api.users()
    assert refused.value.detail == "/users: connection refused"


async def test_an_answer_that_does_not_end(clerk: FakeBackendApi, time: Time) -> None:
    clerk.hold = asyncio.Event()
    async with open_session() as session:
        with pytest.raises(ClerkApiDown) as refused:
            await make(clerk, session, time, total_s=0.05, attempts=2).users()
    assert refused.value.detail == "/users: timeout"
    clerk.hold.set()


async def test_an_answer_beyond_reason(clerk: FakeBackendApi, time: Time) -> None:
    clerk.canned += [Canned(200, b"[" + b" " * 2000 + b"]")] * 2
    async with open_session() as session:
        with pytest.raises(ClerkApiDown, match="clerk_unavailable") as refused:
            await make(clerk, session, time, answer_bytes=2000, attempts=2).users()
    assert refused.value.detail == "/users: too large: more than 2000 bytes"


@pytest.mark.parametrize(
    ("call", "body", "detail"),
    [
        pytest.param(ClerkApi.users, b"<html>", "/users: what came is not JSON", id="html"),
        pytest.param(ClerkApi.users, b'[{"id": "user_1"', "/users: what came is not JSON", id="cut"),
        pytest.param(ClerkApi.users, b"7", "gave no list", id="number"),
        pytest.param(ClerkApi.users, b'{"data": null}', "gave no list", id="no-data"),
        pytest.param(ClerkApi.users, b"[7]", "gave a list of something else", id="list-of-numbers"),
        pytest.param(ClerkApi.users, b'[{"id": 7}]', "gave a list of something else", id="numbered"),
        pytest.param(ClerkApi.organizations, b'"acme"', "gave no list", id="text"),
        pytest.param(ClerkApi.count_users, b"7", "/users/count: gave no object", id="bare-count"),
        pytest.param(ClerkApi.count_users, b'{"total_count": true}', "/users/count: gave no number", id="count-is-bool"),
        pytest.param(lambda api: api.user("user_1"), b'{"id": "user_2"}', "user_1: gave another object", id="other-user"),
        pytest.param(lambda api: api.user("user_1"), b"[]", "user_1: gave no object", id="list-for-one"),
        pytest.param(
            lambda api: api.users_of(["user_1"]), b'[{"id": "user_2"}]', "/users: gave users that were not asked for",
            id="unfiltered",
        ),
    ],
)  # fmt: skip
async def test_nonsense_is_no_answer(
    clerk: FakeBackendApi, api: ClerkApi, call: Call, body: bytes, detail: str
) -> None:
    clerk.canned += [Canned(200, body)]
    with pytest.raises(ClerkApiDown) as refused:
        await call(api)
    assert refused.value.detail == detail
    assert not isinstance(refused.value, ClerkApiRefused)


async def test_members_that_were_not_asked_for(clerk: FakeBackendApi, api: ClerkApi) -> None:
    world = population(clerk)
    world.add_organization("org_1")
    other = world.add_membership("m1", user_id="user_1", org_id="org_1")
    clerk.canned += [Canned(200, orjson.dumps({"data": [other]}))] * 2
    with pytest.raises(ClerkApiDown):
        await api.memberships("org_1", user_ids=["user_2"])
    with pytest.raises(ClerkApiDown):
        await api.memberships("org_2")


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        pytest.param(401, errors("clerk_key_invalid"), "clerk_key_invalid", id="wrong"),
        pytest.param(401, b"", None, id="without-words"),
        pytest.param(403, errors("authorization_invalid"), "authorization_invalid", id="forbidden"),
        pytest.param(403, b'{"errors": [{"code": "a b"}]}', None, id="no-code"),
        pytest.param(403, b'{"errors": 7}', None, id="no-errors"),
    ],
)
async def test_a_key_that_is_not_taken(
    clerk: FakeBackendApi, api: ClerkApi, status: int, body: bytes, reason: str | None
) -> None:
    clerk.canned += [Canned(status, body)]
    with pytest.raises(ClerkApiRefused) as refused:
        await api.users()
    assert refused.value.reason == reason
    assert len(clerk.requests) == 1
    assert "sk_live" not in f"{refused.value!r} {refused.value.detail}"


async def test_a_redirect_is_not_followed(clerk: FakeBackendApi, api: ClerkApi) -> None:
    clerk.canned += [Canned(302, b"", {"Location": f"{clerk.url}/v1/users"})]
    with pytest.raises(ClerkApiDown) as refused:
        await api.users()
    assert refused.value.detail == "/users: status 302, not in the words of Clerk"
    assert len(clerk.requests) == 1


@pytest.mark.parametrize("body", [b"<html>", b"", errors("no_such_route"), b'{"errors": []}'])
async def test_a_404_that_clerk_did_not_say_is_nobodys_absence(
    clerk: FakeBackendApi, api: ClerkApi, body: bytes
) -> None:
    clerk.canned += [Canned(404, body)]
    with pytest.raises(ClerkApiDown):
        await api.user("user_1")


async def test_a_closed_session(clerk: FakeBackendApi, time: Time) -> None:
    session = open_session()
    await session.close()
    with pytest.raises(ClerkApiDown):
        await make(clerk, session, time).users()


async def test_no_cookie_and_no_proxy(clerk: FakeBackendApi, api: ClerkApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    clerk.canned += [Canned(200, b"[]", {"Set-Cookie": "a=b"})]
    await api.users()
    await api.users()
    assert "Cookie" not in clerk.last_headers


@pytest.mark.parametrize(
    "ask",
    [
        pytest.param(lambda api: api.user("user_1"), id="user"),
        pytest.param(lambda api: api.organization("org_1"), id="organization"),
        pytest.param(lambda api: api.memberships("org_1"), id="memberships"),
        pytest.param(lambda api: api.revoke_session("sess_1"), id="session"),
    ],
)
async def test_null_is_not_nobody(clerk: FakeBackendApi, api: ClerkApi, ask: Call) -> None:
    """Who is missing is erased."""
    clerk.canned.append(Canned(200, b"null"))
    with pytest.raises(ClerkApiDown):
        await ask(api)


@pytest.mark.parametrize("ask", [lambda api: api.organizations(), lambda api: api.memberships()])
async def test_an_empty_page_of_a_longer_list_is_not_believed(clerk: FakeBackendApi, api: ClerkApi, ask: Call) -> None:
    clerk.canned.append(Canned(200, b'{"data": [], "total_count": 7}'))
    with pytest.raises(ClerkApiDown):
        await ask(api)
    clerk.canned.append(Canned(200, b'{"data": [], "total_count": 0}'))
    assert await ask(api) == []
