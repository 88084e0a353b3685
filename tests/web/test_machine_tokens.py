"""Machine tokens through a running gateway: who is let in, what an upstream hears of them, and what Clerk is asked."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.fakes.clerk import TEMPLATE, FakeClerk, FakeIssuer
from tests.fakes.clerk_api import Canned, FakeBackendApi, World
from tests.fakes.clerk_events import gone, user
from tests.fakes.ending import tell
from tests.fakes.gateway import APP, CLERK, Answer, Running, gateway, read_answer
from tests.fakes.machine_tokens import api_key, m2m_token, oauth_token
from tests.fakes.upstream import Echo, ScriptedUpstream
from tests.web.test_webhooks import SECRET

MINE, ORG, MACHINE, OAUTH = "ak_mine", "ak_org", "mt_machine", "oat_mine"
ROUTES: list[dict[str, Any]] = [
    {"name": "session", "path": "/session/*", "upstream": "api"},
    {"name": "key", "path": "/key/*", "upstream": "api", "token": "api_key"},
    {"name": "m2m", "path": "/m2m/*", "upstream": "api", "token": "m2m"},
    {"name": "oauth", "path": "/oauth/*", "upstream": "api", "token": "oauth"},
    {
        "name": "writers",
        "path": "/writers/*",
        "upstream": "api",
        "token": "any",
        "require": {"scope": ["write", "all"]},
    },
    {"name": "pro", "path": "/pro/*", "upstream": "api", "token": "any", "require": {"claims": {"plan": "pro"}}},
    {"name": "audience", "path": "/aud/*", "upstream": "api", "token": "any", "audience": ["files"]},
    {"name": "optional", "path": "/optional/*", "upstream": "api", "token": "any", "auth": "optional"},
    {"name": "any", "path": "/*", "upstream": "api", "token": ["any"]},
]


class Stage:
    """A gateway, the fake Clerk it asks, and the upstream behind it."""

    def __init__(self, running: Running, clerk: FakeBackendApi, echo: Echo) -> None:
        self.running, self.clerk, self.echo = running, clerk, echo

    @property
    def asked(self) -> list[str]:
        """The tokens that Clerk was asked about."""
        return [token for _, token, _ in self.clerk.machines.asked]

    async def get(self, target: str, token: str, **more: Any) -> Answer:
        return await self.running.get(target, token=token, **more)

    async def refusal(self, target: str, token: str, **more: Any) -> tuple[int, str, str | None]:
        answer = await self.get(target, token, **more)
        assert answer.status >= 400
        return answer.status, answer.json["code"], answer.json.get("reason")

    def told(self) -> dict[str, str]:
        """What the upstream heard last of who calls."""
        return {
            name.removeprefix("X-User-"): value for name, value in self.echo.last.fields if name.startswith("X-User-")
        }


@asynccontextmanager
async def staged(
    *, routes: Any = ROUTES, clerk: dict[str, Any] | None = None, **overrides: Any
) -> AsyncIterator[Stage]:
    echo = Echo()
    async with ScriptedUpstream(echo) as upstream, FakeBackendApi(World()) as api:
        api.machines.add(api_key("ak_1"), MINE)
        api.machines.add(api_key("ak_2", "org_1"), ORG)
        api.machines.add(m2m_token(), MACHINE)
        api.machines.add(oauth_token(), OAUTH)
        own = {
            "issuer": CLERK.issuer, "jwt_key": CLERK.pem(), "authorized_parties": [APP], "api_url": api.url,
            "secret_key": api.secret_key,
        }  # fmt: skip
        async with gateway(upstream.port, clerk=own | (clerk or {}), routes=routes, **overrides) as running:
            yield Stage(running, api, echo)


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    async with staged() as started:
        yield started


async def test_an_api_key_of_a_user(stage: Stage) -> None:
    for _ in range(3):
        assert (await stage.get("/key/x", MINE)).status == 200
        assert stage.told() == {"Id": "user_1", "Token-Type": "api_key", "Scopes": "read,write"}
        assert stage.echo.last.value("Authorization") is None
    assert stage.clerk.machines.asked == [("/api_keys/verify", MINE, stage.clerk.secret_key)]
    assert stage.clerk.last_headers["Clerk-API-Version"]


async def test_an_api_key_of_an_organisation_has_no_role(stage: Stage) -> None:
    assert (await stage.get("/key/x", ORG)).status == 200
    assert stage.told() == {"Org-Id": "org_1", "Token-Type": "api_key", "Scopes": "read,write"}


async def test_an_opaque_m2m_token(stage: Stage) -> None:
    assert (await stage.get("/m2m/x", MACHINE)).status == 200
    assert stage.told() == {"Machine-Id": "mch_1", "Token-Type": "m2m", "Scopes": "mch_2"}


async def test_an_opaque_oauth_token(stage: Stage) -> None:
    assert (await stage.get("/oauth/x", OAUTH)).status == 200
    assert stage.told() == {"Id": "user_1", "Token-Type": "oauth", "Scopes": "profile,email"}


async def test_jwts_ask_nobody(stage: Stage) -> None:
    now = stage.running.clock()
    assert (await stage.get("/m2m/x", CLERK.m2m_token(now))).status == 200
    assert stage.told() == {"Machine-Id": "mch_1", "Token-Type": "m2m", "Scopes": "mch_2,mch_3"}
    assert (await stage.get("/oauth/x", CLERK.oauth_token(now))).status == 200
    assert stage.told() == {"Id": "user_1", "Token-Type": "oauth", "Scopes": "profile,email"}
    assert stage.asked == []


# --- which types -----------------------------------------------------------------------------------------------------


async def test_a_form_that_a_route_does_not_take_is_refused_without_asking(stage: Stage) -> None:
    now = stage.running.clock()
    m2m, oauth, session = CLERK.m2m_token(now), CLERK.oauth_token(now), stage.running.token()
    forged = m2m[:-8] + "AAAAAAAA"
    good = {"/key/x": {MINE, ORG}, "/m2m/x": {MACHINE, m2m}, "/oauth/x": {OAUTH, oauth}, "/session/x": {session}}
    every = {*(token for tokens in good.values() for token in tokens), forged, "ak_unknown", "ak_" + "x" * 16_000}
    for target, own in good.items():
        for token in every - own - ({forged} if target == "/m2m/x" else set()):
            if target == "/key/x" and token.startswith("ak_"):
                continue
            assert await stage.refusal(target, token) == (401, "invalid_token", "token-type-mismatch"), (target, token)
    assert stage.asked == []
    for target, own in good.items():
        for token in own:
            assert (await stage.get(target, token)).status == 200
            for other in good.keys() - {target}:  # from memory too
                assert (await stage.refusal(other, token))[2] == "token-type-mismatch"


async def test_any_takes_all_but_templates(stage: Stage) -> None:
    now = stage.running.clock()
    for token in (MINE, ORG, MACHINE, OAUTH, CLERK.m2m_token(now), CLERK.oauth_token(now), stage.running.token()):
        assert (await stage.get("/x", token)).status == 200
    assert (await stage.refusal("/x", CLERK.template_token(now)))[2] == "token-type-mismatch"


@pytest.mark.parametrize("target", ["/session/x", "/x", "/optional/x"])
async def test_no_jwt_passes_as_what_it_is_not(stage: Stage, target: str) -> None:
    now = stage.running.clock()
    machine, user = CLERK.machine_claims(now, sid="sess_1", azp=APP), CLERK.session_claims(now)
    for claims, header in (
        (machine, {}), (machine, {"cat": TEMPLATE}), (user, {"cat": "cl_new"}), (user | {"sub": "mch_1"}, {}),
        (user | {"sub": "org_1"}, {"typ": "at+jwt"}), (user, {"cat": "cl_B7d4PD333AAA"}),
    ):  # fmt: skip
        assert (await stage.refusal(target, CLERK.mint(claims, header=header)))[:2] == (401, "invalid_token")
    # One of these on the way in stays what its signed header says.
    typed = CLERK.mint(user, header={"typ": "at+jwt"})
    if target == "/session/x":
        assert (await stage.refusal(target, typed))[2] == "token-type-mismatch"
    else:
        assert (await stage.get(target, typed)).status == 200
        told = stage.told()
        assert told["Token-Type"] == "oauth"
        assert "Session-Id" not in told


@pytest.mark.parametrize("token", ["opaque", "jwt"])
async def test_machines_tokens_count_in_authorization_alone(stage: Stage, token: str) -> None:
    raw = MACHINE if token == "opaque" else CLERK.m2m_token(stage.running.clock())
    uat = int(stage.running.clock()) - 9
    cookie = {"Cookie": f"__session={raw}; __client_uat={uat}"}
    socket = {
        "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Protocol": f"gateway.auth, gateway.bearer.{raw}",
    }  # fmt: skip
    for is_remembered in (False, True):
        for fields in (cookie, socket):
            answer = await stage.running.get("/x", fields=fields)
            assert (answer.status, answer.json["reason"]) == (401, "token-type-mismatch")
        answer = await stage.running.get("/optional/x", fields=cookie)
        assert len(stage.asked) == (is_remembered and token == "opaque")
        assert (answer.status, stage.told()) == (200, {})  # what cookies do not amount to is nobody's
        assert (await stage.get("/x", raw)).status == 200
    assert len(stage.asked) == (token == "opaque")


@pytest.mark.parametrize("line", [
    "Authorization: Bearer {}", "Authorization: bearer {}", "Authorization: BEARER   {}  ", "authorization:Bearer\t{}",
])  # fmt: skip
async def test_spellings_that_count(stage: Stage, line: str) -> None:
    assert (await stage.running.get("/x", lines=(line.format(MINE),))).status == 200


@pytest.mark.parametrize(("lines", "status", "reason"), [
    (("Authorization: Bearer {0} {0}",), 401, "token-invalid"), (("Authorization: Bearer {0},{0}",), 401, "token-invalid"),
    (('Authorization: Bearer "{0}"',), 401, "token-invalid"), (("Authorization: Bearer Bearer {0}",), 401, "token-invalid"),
    (("Authorization: Bearer {0}", "Authorization: Bearer {0}"), 400, "two-credentials"),
    (("Authorization: Bearer {0}\x00x",), 400, None),
    (("Authorization: {0}",), 401, "session-token-and-uat-missing"),  # CONTRACT §4: without a scheme only a JWT counts
    (("Authorization: Basic {0}",), 401, "session-token-and-uat-missing"),
    (("X-Api-Key: {0}",), 401, "session-token-and-uat-missing"),
])  # fmt: skip
async def test_spellings_that_do_not(stage: Stage, lines: tuple[str, ...], status: int, reason: str | None) -> None:
    answer = await stage.running.get("/x", lines=tuple(line.format(MINE) for line in lines))
    assert answer.status == status
    assert reason is None or answer.json["reason"] == reason
    assert stage.asked == []


async def test_the_query_is_never_read_and_csrf_is_cookies_business(stage: Stage) -> None:
    assert (await stage.running.get(f"/x?token={MINE}&api_key={MINE}")).status == 401
    fields = {"Origin": "https://elsewhere.example", "Sec-Fetch-Site": "cross-site"}
    assert (await stage.running.ask("POST", "/x", token=MINE, fields=fields, body=b"x")).status == 200


async def test_no_form_of_a_machine_token_reaches_an_upstream(stage: Stage) -> None:
    for secret in (MINE, MACHINE, OAUTH):
        await stage.get("/x", secret)
        assert secret not in str(stage.echo.last.fields)


# --- rules -------------------------------------------------------------------------------------------------------------


async def test_scopes_are_a_rule(stage: Stage) -> None:
    assert (await stage.get("/writers/x", MINE)).status == 200
    for token in (MACHINE, OAUTH, stage.running.token()):
        assert await stage.refusal("/writers/x", token) == (403, "forbidden", "scope")
    assert (await stage.get("/writers/x", CLERK.m2m_token(stage.running.clock(), scopes="read all"))).status == 200


async def test_claims_are_a_rule_and_a_header_but_name_no_person() -> None:
    headers = {"X-Plan": "plan", "X-App": "client_id", "X-Key": "jti"}
    async with staged(identity={"headers": headers}) as stage:
        claims = {"plan": "pro", "email": "boss@example.com", "name": "Boss", "sub": "user_9", "org_id": "org_9"}
        secret = stage.clerk.machines.add(api_key(claims=claims))
        assert (await stage.get("/pro/x", secret)).status == 200
        assert stage.told() == {"Id": "user_1", "Token-Type": "api_key", "Scopes": "read,write"}
        assert (stage.echo.last.value("X-Plan"), stage.echo.last.value("X-Key")) == ("pro", "ak_1")
        assert await stage.refusal("/pro/x", OAUTH) == (403, "forbidden", "claims")
        assert (await stage.get("/oauth/x", OAUTH)).status == 200
        assert stage.echo.last.value("X-App") == "client_1"


async def test_a_routes_audience_is_asked_of_every_kind(stage: Stage) -> None:
    machines, now = stage.clerk.machines, stage.running.clock()
    for good in (
        machines.add(oauth_token("oat_2", aud=["files", "x"])), machines.add(api_key("ak_3", claims={"aud": "files"})),
        CLERK.oauth_token(now, aud="files"), CLERK.m2m_token(now, aud=["files"]),
    ):  # fmt: skip
        assert (await stage.get("/aud/x", good)).status == 200
    for bad in (MINE, MACHINE, OAUTH, CLERK.oauth_token(now), CLERK.m2m_token(now), CLERK.oauth_token(now, aud=["x"])):
        assert (await stage.refusal("/aud/x", bad))[2] == "token-verification-failed"


async def test_an_instances_audience_is_strict_for_oauth() -> None:
    async with staged(clerk={"audience": ["files"]}) as stage:
        machines, now = stage.clerk.machines, stage.running.clock()
        for good in (
            MINE, MACHINE, machines.add(oauth_token("oat_2", aud=["files"])), CLERK.oauth_token(now, aud="files"),
            CLERK.m2m_token(now), stage.running.token(),
        ):  # fmt: skip
            assert (await stage.get("/x", good)).status == 200
        for bad in (OAUTH, CLERK.oauth_token(now), CLERK.m2m_token(now, aud=["x"])):
            assert (await stage.refusal("/x", bad))[2] == "token-verification-failed"


async def test_impersonation_may_be_refused() -> None:
    routes = [{"path": "/*", "upstream": "api", "token": "oauth", "allow_impersonation": False}]
    async with staged(routes=routes) as stage:
        secret = stage.clerk.machines.add(oauth_token("oat_2", act={"sub": "user_9"}))
        assert await stage.refusal("/x", secret) == (403, "forbidden", "impersonation")
        assert (await stage.get("/x", OAUTH)).status == 200


@pytest.mark.parametrize(("token", "who"), [
    (MINE, ("user_1", None)), (ORG, (None, "org_1")), (MACHINE, ("mch_1", None)), (OAUTH, ("user_1", None)),
])  # fmt: skip
async def test_the_access_line_says_who_it_is_and_no_token(stage: Stage, token: str, who: Any) -> None:
    await stage.get("/x", token)
    line = next(line for line in await stage.running.logged() if line["event"] == "request")
    assert (line["user"], line["org"], line["session"]) == (*who, None)
    assert token not in str(await stage.running.logged())


async def test_machines_are_counted() -> None:
    async with staged(rate_limits={"by_machine": "2/min"}) as stage:
        other = stage.clerk.machines.add(api_key("ak_9"))
        for token in (MINE, other, ORG, MACHINE, OAUTH):  # each API key for itself, of whomever it is
            assert [(await stage.get("/x", token)).status for _ in range(3)] == [200, 200, 429]
        again = stage.clerk.machines.add(m2m_token("mt_2"))
        assert (await stage.get("/x", again)).status == 429  # the same machine
        assert [(await stage.get("/x", stage.running.token())).status for _ in range(3)] == [200] * 3


# --- Clerk -------------------------------------------------------------------------------------------------------------


async def test_what_clerk_says_is_believed_for_a_minute(stage: Stage) -> None:
    assert (await stage.get("/x", MINE)).status == 200
    stage.clerk.machines.known[MINE]["revoked"] = True
    stage.running.clock.seconds += 59
    assert (await stage.get("/x", MINE)).status == 200
    stage.running.clock.seconds += 1
    for _ in range(2):
        assert await stage.refusal("/x", MINE) == (401, "invalid_token", "token-invalid")
    stage.clerk.machines.known[MINE]["revoked"] = False
    stage.running.pass_time(5)
    assert (await stage.get("/x", MINE)).status == 200
    assert stage.asked == [MINE] * 3


async def test_a_clock_that_is_set_back_makes_no_verdict_last(stage: Stage) -> None:
    assert (await stage.get("/key/x", MINE)).status == 200
    stage.clerk.machines.known[MINE]["revoked"] = True
    stage.running.clock.seconds -= 0.5  # as clocks are put right all the time
    stage.running.pass_time(1)
    assert (await stage.get("/key/x", MINE)).status == 200
    stage.running.clock.seconds -= 600
    stage.running.pass_time(1)
    assert (await stage.get("/key/x", MINE)).json["reason"] == "token-invalid"


async def test_no_token_outlives_its_own_end(stage: Stage) -> None:
    ends = stage.running.clock() + 30
    secret = stage.clerk.machines.add(api_key(expiration=ends * 1000))
    assert (await stage.get("/x", secret)).status == 200
    stage.running.clock.seconds += 30
    assert await stage.refusal("/x", secret) == (401, "invalid_token", "token-expired")


@pytest.mark.parametrize("target", ["/x", "/optional/x"])
@pytest.mark.parametrize("canned", [
    Canned(500), Canned(429, headers={"Retry-After": "3"}), Canned(200, b"<html>"), Canned(404, b"<html>"), Canned(403),
    Canned(401),
], ids=lambda canned: canned.status)  # fmt: skip
async def test_what_cannot_be_asked_is_neither_good_nor_bad(stage: Stage, canned: Canned, target: str) -> None:
    assert (await stage.get(target, ORG)).status == 200
    stage.clerk.canned.extend([canned] * 2)
    answer = await stage.get(target, MINE)
    assert (answer.status, answer.json["code"], "reason" in answer.json) == (503, "clerk_unavailable", False)
    assert answer.value("retry-after") is not None
    assert (await stage.get(target, ORG)).status == 200  # what is remembered goes on
    assert (await stage.get(target, stage.running.token())).status == 200
    stage.running.pass_time(5)
    stage.clerk.canned.clear()
    assert (await stage.get(target, MINE)).status == 200


async def test_a_key_that_clerk_refuses_is_told_once(stage: Stage) -> None:
    stage.clerk.secret_key = "sk_live_another"
    for number in range(3):
        answer = await stage.get("/x", f"ak_{number}")
        assert (answer.status, answer.json["code"]) == (503, "clerk_unavailable")
    told = [line for line in await stage.running.logged() if line["event"] == "clerk_key_refused"]
    assert len(told) == 1
    assert told[0]["remedy"].startswith("Put the secret_key")
    assert "sk_live" not in str(await stage.running.logged())


async def test_a_flood_of_made_up_keys_spends_so_many_calls_and_nobody_elses_patience(stage: Stage) -> None:
    for token in (MINE, MACHINE, OAUTH):
        assert (await stage.get("/x", token)).status == 200
    stage.clerk.machines.asked.clear()
    stage.running.pass_time(1)
    statuses: Counter[int] = Counter()
    flood = [asyncio.create_task(pipelined(stage.running, f"ak_{number}_{{}}", 100, statuses)) for number in range(40)]
    for seconds in (1, 2):
        while len(stage.asked) < 20 * seconds or statuses.total() < 3000:  # all but ten connections are done soon
            await asyncio.sleep(0.01)
        for token in (MINE, MACHINE, OAUTH, stage.running.token()):
            assert (await stage.get("/x", token)).status == 200
        assert len(stage.asked) == 20 * seconds
        stage.running.pass_time(1)
    for each in flood:
        each.cancel()
    await asyncio.gather(*flood, return_exceptions=True)
    assert statuses.keys() == {401, 503}
    assert statuses[401] <= 60
    assert set(stage.asked).isdisjoint({MINE, MACHINE, OAUTH})
    codes = {line["code"] for line in await stage.running.logged() if line.get("status") == 503}
    assert codes == {"overloaded"}


async def pipelined(running: Running, form: str, count: int, statuses: Counter[int]) -> None:
    """Send so many made-up keys on one connection without waiting, and count what is answered."""
    reader, writer = await running.connect()
    request = "GET /x HTTP/1.1\r\nHost: gw.example.com\r\nAuthorization: Bearer {}\r\n\r\n"
    writer.write("".join(request.format(form.format(number)) for number in range(count)).encode())
    try:
        for _ in range(count):
            statuses[(await read_answer(reader)).status] += 1
    finally:
        writer.close()


async def test_whoever_leaves_leaves_nothing_hanging(stage: Stage) -> None:
    stage.clerk.hold = asyncio.Event()
    for number in range(40):
        _reader, writer = await stage.running.connect()
        writer.write(f"GET /x HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ak_{number}\r\n\r\n".encode())
        await writer.drain()
        writer.close()
    while len(stage.clerk.requests) < 20:
        await asyncio.sleep(0.01)
    stage.clerk.hold.set()
    stage.clerk.hold = None
    stage.running.pass_time(1)
    assert (await stage.get("/x", MINE)).status == 200


# --- users -------------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def hearing(store: Path, **overrides: Any) -> AsyncIterator[Stage]:
    """With a directory, and webhooks that tell it."""
    own = {"webhook_signing_secrets": [SECRET]}
    async with staged(clerk=own, store={"url": f"sqlite:///{store}"}, **overrides) as stage:
        yield stage


async def row(stage: Stage, user_id: str) -> Any:
    return await stage.running.app.directory.user(user_id)


async def test_an_api_key_writes_nobody_down_but_asks_clerk_about_its_user(tmp_path: Path) -> None:
    async with hearing(tmp_path / "gateway.db") as stage:
        claims = {"email": "boss@example.com", "name": "Boss", "given_name": "B"}
        unknown = stage.clerk.machines.add(api_key(subject="user_7", claims=claims))
        assert (await stage.get("/x", unknown)).status == 200
        while "GET /v1/users/user_7" not in stage.clerk.requests:
            await asyncio.sleep(0.01)
        assert await row(stage, "user_7") is None
        stage.clerk.population.add_user("user_1", first_name="Ada", last_name="Lovelace")  # type: ignore[attr-defined]
        assert (await stage.get("/x", MINE)).status == 200
        while (known := await row(stage, "user_1")) is None:
            await asyncio.sleep(0.01)
        assert known.name == "Ada Lovelace"
        while stage.told().get("Name") != "Ada Lovelace":
            await asyncio.sleep(0.01)
            assert (await stage.get("/x", MINE)).status == 200


async def test_a_user_that_the_directory_knows_is_told_of(tmp_path: Path) -> None:
    async with hearing(tmp_path / "gateway.db") as stage:
        await tell(stage.running, "user.created", user("user_1", first_name="Ada"))
        for token in (MINE, OAUTH, CLERK.oauth_token(stage.running.clock())):
            assert (await stage.get("/x", token)).status == 200
            assert stage.told()["Given-Name"] == "Ada"
        assert (await stage.get("/x", ORG)).status == 200
        assert "Given-Name" not in stage.told()


@pytest.mark.parametrize(("kind", "data"), [
    ("user.updated", {"banned": True}), ("user.deleted", {"deleted": True}),
], ids=str)  # fmt: skip
async def test_whoever_is_barred_has_no_keys_either(tmp_path: Path, kind: str, data: dict[str, Any]) -> None:
    async with hearing(tmp_path / "gateway.db") as stage:
        jwt = CLERK.oauth_token(stage.running.clock())
        for token in (MINE, OAUTH, jwt):
            assert (await stage.get("/x", token)).status == 200
        await tell(stage.running, kind, gone("user_1") if kind == "user.deleted" else user("user_1", **data))
        for _ in range(2):
            for token in (MINE, OAUTH, jwt):
                assert await stage.refusal("/x", token) == (401, "invalid_token", "session-revoked")
            for token in (ORG, MACHINE):
                assert (await stage.get("/x", token)).status == 200
            stage.running.clock.seconds += 61


async def test_what_ended_otherwise_has_clerk_asked_anew(tmp_path: Path) -> None:
    async with hearing(tmp_path / "gateway.db") as stage:
        for token in (MINE, OAUTH, ORG):
            assert (await stage.get("/x", token)).status == 200
        asked = len(stage.asked)
        # The session of a user is none of a key's business.
        await tell(stage.running, "session.revoked", {"id": "sess_1", "user_id": "user_1"})
        assert (await stage.get("/x", MINE)).status == 200
        assert len(stage.asked) == asked
        # Anybody can lock anybody out by wrong passwords: the keys go on, if Clerk says so.
        stage.running.clock.seconds += 1
        await tell(stage.running, "user.updated", user("user_1", locked=True), at=stage.running.clock() - 1)
        assert (await stage.get("/x", MINE)).status == 200
        assert stage.asked[asked:] == [MINE]
        stage.clerk.machines.known[OAUTH]["revoked"] = True
        assert await stage.refusal("/x", OAUTH) == (401, "invalid_token", "token-invalid")


# --- several instances, reloads --------------------------------------------------------------------------------------------


async def test_each_instance_is_asked_about_its_own(tmp_path: Path) -> None:
    other = FakeClerk("https://clerk.two.example", kid="ins_two", key_name="other")
    routes = [
        {"path": "/one/*", "upstream": "api", "token": "any", "issuer": "one"},
        {"path": "/two/*", "upstream": "api", "token": "any", "issuer": "two"},
    ]
    async with (
        ScriptedUpstream(Echo()) as upstream, FakeBackendApi(World()) as first,
        FakeBackendApi(World(), secret_key="sk_live_anotherone") as second, FakeIssuer(CLERK) as keys,
        FakeIssuer(other) as other_keys,
    ):  # fmt: skip
        secrets = [api.machines.add(api_key(), f"ak_{name}") for api, name in ((first, "one"), (second, "two"))]
        blocks = [
            {"name": name, "issuer": clerk.issuer, "authorized_parties": [APP], "api_url": api.url,
             "secret_key": api.secret_key, "jwks_url": source.jwks_url}
            for name, clerk, api, source in (("one", CLERK, first, keys), ("two", other, second, other_keys))
        ]  # fmt: skip
        async with gateway(upstream.port, clerk={}, issuers=blocks, routes=routes) as running:
            now = running.clock()
            mine = {"one": [secrets[0], CLERK.m2m_token(now, iss="mch")], "two": [secrets[1], other.m2m_token(now)]}
            for _ in range(2):
                for name, tokens in mine.items():
                    for token in tokens:
                        assert (await running.get(f"/{name}/x", token=token)).status == 200
                        elsewhere = await running.get(f"/{'two' if name == 'one' else 'one'}/x", token=token)
                        assert elsewhere.status == 401
            assert [token for _, token, _ in first.machines.asked] == ["ak_one"]
            assert [token for _, token, _ in second.machines.asked] == ["ak_two"]
            # Refused of the one is not refused of the other.
            running.clock.seconds += 61
            for name, status in (("two", 401), ("one", 200)):
                assert (await running.get(f"/{name}/x", token="ak_one")).status == status


async def test_a_reload_takes_up_another_key_and_keeps_what_is_the_same(stage: Stage) -> None:
    assert (await stage.get("/x", MINE)).status == 200
    running, clerk = stage.running, yaml.safe_load(stage.running.file.text)["clerk"]
    port = int(yaml.safe_load(running.file.text)["upstreams"]["api"]["url"].rpartition(":")[2])
    running.file.write(port, clerk=clerk, routes=[*ROUTES[1:]])
    await running.app.reload()
    assert (await stage.get("/x", MINE)).status == 200
    assert len(stage.asked) == 1  # what was said still counts
    stage.clerk.secret_key = "sk_live_another_key"
    running.file.write(port, clerk=clerk | {"secret_key": stage.clerk.secret_key}, routes=ROUTES)
    await running.app.reload()
    assert (await stage.get("/x", MINE)).status == 200
    assert [bearer for *_, bearer in stage.clerk.machines.asked][1:] == [stage.clerk.secret_key]
    running.file.write(port, clerk=clerk, routes=[{"path": "/*", "upstream": "api"}])
    await running.app.reload()
    assert await stage.refusal("/x", MINE) == (401, "invalid_token", "token-type-mismatch")
