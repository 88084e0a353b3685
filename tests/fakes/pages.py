"""Documents of browsers: the fields they ask with, Clerk's cookies, and a gateway that signs them in.

async with pages(upstream.port, api) as running: answer = await running.get("/x", fields=DOCUMENT | cookies(token, uat))
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from gateway.config.clerk import cookie_suffix
from tests.config.files import KEY, publishable_key
from tests.fakes.clerk import FakeClerk
from tests.fakes.clerk_api import FakeBackendApi
from tests.fakes.gateway import APP, CLERK, Answer, Running, gateway

DOCUMENT = {"Sec-Fetch-Dest": "document"}
FETCH = {"Sec-Fetch-Dest": "empty"}
SUFFIX = cookie_suffix(KEY)
DEV = FakeClerk("https://happy-otter-1.clerk.accounts.dev", kid="ins_dev")
DEV_KEY = publishable_key("happy-otter-1.clerk.accounts.dev", "test")
SIGN_IN = "https://accounts.example.com/sign-in"


def block(api: FakeBackendApi, clerk: FakeClerk = CLERK, **more: Any) -> dict[str, Any]:
    """Write the settings of an instance whose documents go through the handshake."""
    if clerk is DEV:
        api.secret_key = "sk_test_abcdefgh"  # as the other key of a development instance is
    return {
        "publishable_key": DEV_KEY if clerk is DEV else KEY, "jwt_key": clerk.pem(), "authorized_parties": [APP],
        "handshake": True, "secret_key": api.secret_key, "api_url": api.url,
    } | more  # fmt: skip


@asynccontextmanager
async def pages(
    upstream_port: int, api: FakeBackendApi, clerk: FakeClerk = CLERK, *, public_url: str | None = APP,
    settings: dict[str, Any] | None = None, **more: Any,
) -> AsyncIterator[Running]:  # fmt: skip
    """Start a gateway; `more` goes into the instance's settings, `settings` beside them."""
    overrides = {"clerk": block(api, clerk, **more), "public_url": public_url} | (settings or {})
    async with gateway(upstream_port, **overrides) as running:
        yield running


def cookies(*parts: str, **named: object) -> dict[str, str]:
    """Write a Cookie field: parts as they stand, and Clerk's by their names."""
    return {"Cookie": "; ".join([*parts, *(f"{name}={value}" for name, value in named.items())])}


def session(token: str, client_uat: object) -> dict[str, str]:
    """Name the cookies of a session, under both spellings as Clerk sets them."""
    return {
        "__session": token, f"__session_{SUFFIX}": token, "__client_uat": str(client_uat),
        f"__client_uat_{SUFFIX}": str(client_uat),
    }  # fmt: skip


def location(answer: Answer) -> tuple[str, dict[str, str]]:
    """Take a Location apart: its address, and its parameters."""
    found = urlsplit(answer.value("location") or "")
    return f"{found.scheme}://{found.netloc}{found.path}", dict(parse_qsl(found.query, keep_blank_values=True))
