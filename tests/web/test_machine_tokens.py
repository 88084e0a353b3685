"""Machine tokens through a running gateway: who is let in, what an upstream hears of them, and what Clerk is asked."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.fakes.clerk_api import FakeBackendApi, World
from tests.fakes.gateway import APP, CLERK, Answer, Running, gateway
from tests.fakes.machine_tokens import api_key, m2m_token, oauth_token
from tests.fakes.upstream import Echo, ScriptedUpstream

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
