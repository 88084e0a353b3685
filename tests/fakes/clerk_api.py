"""Clerk's Backend API on loopback: lists, single objects, counts, refusals, in the shapes of Clerk's OpenAPI description.

world = World(); world.add_user("user_1", created_at=1)
async with FakeBackendApi(world) as clerk: ... ClerkApi(clerk.url, clerk.secret_key, session) ...

As a program it serves a crowd made up as it is asked for: python -m tests.fakes.clerk_api --users 1000000 --port 9000
"""

import argparse
import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, NamedTuple, Protocol, Self
from urllib.parse import unquote

import orjson
from aiohttp import web

from tests.fakes import clerk_events as shapes
from tests.fakes.clerk import FakeClerk
from tests.fakes.machine_tokens import PATHS, MachineTokens

Object = dict[str, Any]
PREFIX = "/v1"


class Population(Protocol):
    """Who there is. Lists are by creation; `limit` and `offset` apply last."""

    def count(self) -> int: ...
    def user(self, key: str) -> Object | None: ...
    def users(self, *, after: int | None, ids: Sequence[str], offset: int, limit: int) -> list[Object]: ...
    def organization(self, key: str) -> Object | None: ...
    def organizations(self, *, offset: int, limit: int) -> list[Object]: ...
    def memberships(self, org_id: str | None, *, users: Sequence[str], offset: int, limit: int) -> list[Object]: ...
    def total(self, of: str, org_id: str | None = None) -> int: ...
    def revoke(self, session_id: str) -> Object | None: ...


class World:
    """A few users, organisations and memberships, changed by the test as an administrator would."""

    def __init__(self) -> None:
        self.members: dict[str, dict[str, Object]] = {"users": {}, "organizations": {}, "memberships": {}}
        self.sessions: dict[str, Object] = {}

    def put(self, of: str, value: Object) -> Object:
        """Create something, or replace it."""
        self.members[of][value["id"]] = value
        return value

    def add_user(self, key: str, *, created_at: int = 1000, **members: Any) -> Object:
        """Create a user."""
        return self.put("users", shapes.user(key, created_at=created_at, **members))

    def add_organization(self, key: str, *, created_at: int = 1000, **members: Any) -> Object:
        """Create an organisation."""
        return self.put("organizations", shapes.organization(key, created_at=created_at, **members))

    def add_membership(self, key: str, *, user_id: str, org_id: str, created_at: int = 1000, **members: Any) -> Object:
        """Create a membership."""
        made = shapes.membership(key, user_id=user_id, org_id=org_id, created_at=created_at, **members)
        return self.put("memberships", made)

    def delete(self, of: str, key: str) -> Object | None:
        """Delete something, and with it the memberships it had part in."""
        for each in list(self.members["memberships"].values()):
            if of != "memberships" and key in ends(each):
                del self.members["memberships"][each["id"]]
        return self.members[of].pop(key, None)

    def by_creation(self, of: str) -> list[Object]:
        """Everything of a kind in the order of lists."""
        return sorted(self.members[of].values(), key=lambda each: (each["created_at"], each["id"]))

    def count(self) -> int:
        return len(self.members["users"])

    def user(self, key: str) -> Object | None:
        return self.members["users"].get(key)

    def users(self, *, after: int | None, ids: Sequence[str], offset: int, limit: int) -> list[Object]:
        found = [
            each
            for each in self.by_creation("users")
            if (after is None or each["created_at"] > after) and (not ids or each["id"] in ids)
        ]
        return found[offset : offset + limit]

    def organization(self, key: str) -> Object | None:
        return self.members["organizations"].get(key)

    def organizations(self, *, offset: int, limit: int) -> list[Object]:
        return self.by_creation("organizations")[offset : offset + limit]

    def memberships(self, org_id: str | None, *, users: Sequence[str], offset: int, limit: int) -> list[Object]:
        found = [
            each
            for each in self.by_creation("memberships")
            if (org_id is None or ends(each)[0] == org_id) and (not users or ends(each)[1] in users)
        ]
        return found[offset : offset + limit]

    def total(self, of: str, org_id: str | None = None) -> int:
        return len([each for each in self.members[of].values() if org_id is None or ends(each)[0] == org_id])

    def revoke(self, session_id: str) -> Object | None:
        found = self.sessions.get(session_id)
        if found is not None:
            found["status"] = "revoked"
        return found


def ends(membership: Object) -> tuple[str, str]:
    """The organisation and the user of a membership."""
    return membership["organization"]["id"], membership["public_user_data"]["user_id"]


class Crowd(World):
    """So many users, made when they are asked for; a millisecond between any two."""

    FIRST_MS = 1_600_000_000_000

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def count(self) -> int:
        return self.size

    def user(self, key: str) -> Object | None:
        number = key.removeprefix("user_")
        return self.numbered(int(number)) if number.isdecimal() and int(number) < self.size else None

    def users(self, *, after: int | None, ids: Sequence[str], offset: int, limit: int) -> list[Object]:
        if ids:
            return [found for key in sorted(ids) if (found := self.user(key)) is not None]
        first = (0 if after is None else max(0, after - self.FIRST_MS + 1)) + offset
        return [self.numbered(number) for number in range(first, min(self.size, first + limit))]

    def numbered(self, number: int) -> Object:
        """Make a user with as much to it as Clerk's have, about 3 KB."""
        at = self.FIRST_MS + number
        made = shapes.user(
            f"user_{number:027d}", created_at=at, updated_at=at + 60_000, first_name=f"Ada{number}",
            username=f"ada{number}", phone_numbers=[], web3_wallets=[], passkeys=[], unsafe_metadata={},
            external_accounts=[account(number)], last_sign_in_at=at, last_active_at=at, two_factor_enabled=False,
            public_metadata={"tier": "gold", "seats": number % 50, "flags": ["a", "b", "c"]},
        )  # fmt: skip
        return made | dict.fromkeys(FLAGS, False)


# What else there is in Clerk's user object, so that a page weighs what it weighs there.
FLAGS = (
    "password_enabled", "totp_enabled", "backup_code_enabled", "delete_self_enabled", "create_organization_enabled",
    "has_image", "deprovisioned", "mfa_enabled_at", "mfa_disabled_at", "legal_accepted_at", "bypass_client_trust",
)  # fmt: skip


def account(number: int) -> Object:
    """Write an external account, the largest part of a user."""
    return {
        "object": "external_account", "id": f"eac_{number:027d}", "provider": "oauth_google", "identification_id": "idn_2",
        "provider_user_id": f"{number:021d}", "approved_scopes": "email https://www.googleapis.com/auth/userinfo.email "
        "https://www.googleapis.com/auth/userinfo.profile openid profile", "email_address": f"ada{number}@example.com",
        "first_name": f"Ada{number}", "last_name": "Lovelace", "avatar_url": "https://img.example.com/" + "a" * 120,
        "image_url": "https://img.example.com/" + "b" * 240, "username": None, "public_metadata": {}, "label": None,
        "created_at": 1, "updated_at": 2, "verification": {"status": "verified", "strategy": "oauth_google",
        "attempts": None, "expire_at": 3},
    }  # fmt: skip


class Canned(NamedTuple):
    """An answer that has nothing to do with what was asked."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = {}


def errors(*codes: str) -> bytes:
    """Write a refusal as Clerk does."""
    return orjson.dumps({"errors": [{"code": code, "message": code} for code in codes], "clerk_trace_id": "trace_1"})


class FakeBackendApi:
    """The API of one instance, whose signing key is `clerk`'s, on 127.0.0.1."""

    def __init__(
        self, population: Population, *, secret_key: str = "sk_live_abcdefgh", clerk: FakeClerk | None = None
    ) -> None:
        self.population, self.secret_key, self.clerk = population, secret_key, clerk or FakeClerk()
        self.machines = MachineTokens()
        self.requests: list[str] = []
        self.last_headers: Mapping[str, str] = {}
        self.canned: deque[Canned] = deque()  # answered first, one each
        self.before: Callable[[str], None] = lambda path: None  # called with each request's path
        self.templates: list[Object] = []  # JWT templates
        self.most = 500  # on a page
        self.with_organizations = True
        self.nonces: dict[str, Any] = {}  # what a handshake's nonce stands for, once
        self.refreshes: dict[str, Any] = {}  # the cookies that a refresh token is exchanged for
        self.last_body = b""
        self.cut = False  # end in the middle of the next answer
        self.hold: asyncio.Event | None = None  # answers wait for it
        self._port = 0
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """What `clerk.api_url` is."""
        return f"http://127.0.0.1:{self._port}"

    async def start(self, port: int = 0) -> None:
        """Listen, on the port of last time if there was one."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port or port).start()
        self._port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Stop listening and let go of what is held."""
        if self.hold is not None:
            self.hold.set()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    # --- answering ---------------------------------------------------------------------------------------------------

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        path = request.rel_url.raw_path.removeprefix(PREFIX)
        self.requests.append(f"{request.method} {request.rel_url}")
        self.last_headers = request.headers
        self.last_body = await request.read()
        self.before(path)
        if self.hold is not None:
            await self.hold.wait()
        if self.canned:
            status, body, headers = self.canned.popleft()
            return web.Response(status=status, body=body, headers=headers)
        if self.cut:
            self.cut = False
            return await _broken(request)
        if request.method == "POST" and request.path in PATHS:  # not below /v1
            asked = await request.read()
            status, value = self.machines.answer(request.path, request.headers, asked, secret_key=self.secret_key)
        else:
            status, value = self._answer(request, path)
        return web.Response(status=status, body=value if isinstance(value, bytes) else orjson.dumps(value),
                            content_type="application/json")  # fmt: skip

    def _answer(self, request: web.Request, path: str) -> tuple[int, Any]:
        if request.path == "/.well-known/jwks.json":
            return 200, self.clerk.jwks()  # so that it may stand in for the issuer, too
        if not request.path.startswith(PREFIX + "/"):
            return 404, b"<html>no such page</html>"
        if request.headers.get("Authorization") != f"Bearer {self.secret_key}":
            return 401, errors("clerk_key_invalid")
        if path.startswith("/organization") and not self.with_organizations:
            return 403, errors("organization_not_enabled_in_instance")
        query = request.query
        limit, offset = int(query.get("limit", 10)), int(query.get("offset", 0))
        ids = query.getall("user_id", [])
        if (
            not 1 <= limit <= 500
            or offset < 0
            or len(ids) > 100
            or query.get("order_by", "+created_at") != "+created_at"
        ):
            return 422, errors("form_param_value_invalid")
        page = {"offset": offset, "limit": min(limit, self.most)}
        match request.method, [unquote(part) for part in path.strip("/").split("/")]:
            case "GET", ["jwks"]:
                return 200, self.clerk.jwks()
            case "GET", ["jwt_templates"]:
                return 200, self.templates
            case "GET", ["users"]:
                after = int(query["created_at_after"]) if "created_at_after" in query else None
                return 200, self.population.users(after=after, ids=ids, **page)
            case "GET", ["users", "count"]:
                return 200, {"object": "total_count", "total_count": self.population.count()}
            case "GET", ["users", key]:
                return _one(self.population.user(key))
            case "GET", ["users", key, "organization_memberships"]:
                if self.population.user(key) is None:
                    return 404, errors("resource_not_found")
                return 200, _memberships_of(self.population, key, page)
            case "GET", ["organizations"]:
                return 200, _paginated(self.population.organizations(**page), self.population.total("organizations"))
            case "GET", ["organizations", key]:
                return _one(self.population.organization(key))
            case "GET", ["organizations", key, "memberships"]:
                if self.population.organization(key) is None:
                    return 404, errors("resource_not_found")
                found = self.population.memberships(key, users=ids, **page)
                return 200, _paginated(found, self.population.total("memberships", key))
            case "GET", ["organization_memberships"]:
                found = self.population.memberships(None, users=(), **page)
                return 200, _paginated(found, self.population.total("memberships"))
            case "GET", ["clients", "handshake_payload"]:
                directives = self.nonces.pop(query.get("nonce", ""), None)
                return _one(None if directives is None else {"nonce": query["nonce"], "directives": directives})
            case "POST", ["sessions", key, "refresh"]:
                asked = orjson.loads(self.last_body)
                cookies = self.refreshes.get(asked["refresh_token"])
                return (401, errors("refresh_token_invalid")) if cookies is None else (200, {"cookies": cookies})
            case "POST", ["sessions", key, "revoke"]:
                return _one(self.population.revoke(key))
        return 404, errors("no_such_route")


def _memberships_of(population: Population, key: str, page: dict[str, int]) -> Object:
    every = population.memberships(None, users=[key], offset=0, limit=10**6)
    return _paginated(every[page["offset"] :][: page["limit"]], len(every))


async def _broken(request: web.Request) -> web.StreamResponse:
    answer = web.StreamResponse(headers={"Content-Length": "1000"})
    await answer.prepare(request)
    await answer.write(b'[{"id": "user_1", ')
    assert request.transport is not None
    request.transport.abort()
    return answer


def _one(found: Object | None) -> tuple[int, Any]:
    return (404, errors("resource_not_found")) if found is None else (200, found)


def _paginated(found: Iterable[Object], total: int) -> Object:
    return {"data": list(found), "total_count": total}


async def _serve_crowd(users: int, port: int) -> None:
    served = FakeBackendApi(Crowd(users))
    await served.start(port)
    print(served.url, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument("--port", type=int, default=0)
    asyncio.run(_serve_crowd(**vars(parser.parse_args())))
