"""Clerk's Backend API, as much of it as the gateway asks for: users, organisations, memberships, ending a session.

Asked slower than Clerk allows, so that the application's own calls have room. How it is asked is `clerk_client`.
Raises `ClerkApiDown`, and `ClerkApiRefused` where the secret key is not taken; nothing else. The key is never logged.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, Protocol
from urllib.parse import quote

import aiohttp
import orjson

from gateway.core.directory import both_ends
from gateway.core.events import as_name, member
from gateway.errors import ClerkApiDown
from gateway.net.clerk_client import ClerkClient, Patience, Query

PAGE: Final = 500  # the most Clerk gives at once
IDS_AT_ONCE: Final = 100  # the most it takes in one filter
PER_S: Final = {"live": 100.0, "test": 10.0}  # what Clerk lets all that have an instance's key ask together
COMMANDS: Final = 0.6  # of that, for `gateway sync`,
OURS: Final = 0.2  # and for a running gateway beside it; the rest is left to the application
Object = Mapping[str, Any]


class Source(Protocol):
    """Where the truth about users is (`ClerkApi`). Lists come by creation, oldest first."""

    async def users(self, *, created_after: int | None = None, offset: int = 0, limit: int = PAGE) -> list[Object]:
        """Give a page of users, of those created after a time in ms."""

    async def users_of(self, ids: Sequence[str]) -> list[Object]:
        """Give those of these users that exist; `IDS_AT_ONCE` at most."""

    async def user(self, user_id: str) -> Object | None:
        """Give a user; None where there is none."""

    async def count_users(self) -> int:
        """Count the users."""

    async def organizations(self, *, offset: int = 0, limit: int = PAGE) -> list[Object]:
        """Give a page of organisations."""

    async def organization(self, org_id: str) -> Object | None:
        """Give an organisation; None where there is none."""

    async def memberships(
        self, org_id: str | None = None, *, user_ids: Sequence[str] = (), offset: int = 0, limit: int = PAGE
    ) -> list[Object] | None:
        """Give a page of memberships, of one organisation (None where there is none) or of all."""

    async def memberships_of(self, user_id: str) -> list[Object]:
        """Give all memberships of a user; none where there is no such user."""


class ClerkApi:
    """The Backend API at `api_url`, asked with `secret_key`. The session is the caller's: see `open_session`.

    `share` is how much of Clerk's rate limit it may take. `now` measures, `clock` gives Unix seconds.
    """

    def __init__(
        self,
        api_url: str,
        secret_key: str,
        session: aiohttp.ClientSession,
        *,
        share: float = OURS,
        patience: Patience | None = None,
        now: Callable[[], float] = time.monotonic,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self._client = ClerkClient(
            f"{api_url.rstrip('/')}/v1", secret_key, session,
            per_s=share * PER_S["test" if secret_key.startswith("sk_test_") else "live"],
            patience=patience, now=now, clock=clock, sleep=sleep, rng=rng,
        )  # fmt: skip

    # --- users -------------------------------------------------------------------------------------------------------

    async def users(self, *, created_after: int | None = None, offset: int = 0, limit: int = PAGE) -> list[Object]:
        """Give a page of users by creation, of those created after a time in ms."""
        query = _page(offset, limit)
        if created_after is not None:
            query.append(("created_at_after", str(created_after)))
        return _objects(await self._get("/users", query))

    async def users_of(self, ids: Sequence[str]) -> list[Object]:
        """Give those of these users that exist; `IDS_AT_ONCE` at most."""
        found = _objects(await self._get("/users", _page(0, IDS_AT_ONCE) + _many("user_id", ids)))
        if not {user["id"] for user in found} <= set(ids):
            raise ClerkApiDown(detail="/users: gave users that were not asked for")
        return found

    async def user(self, user_id: str) -> Object | None:
        """Give a user; None where there is none."""
        return _object(await self._get(f"/users/{_part(user_id)}", missing=True), user_id)

    async def count_users(self) -> int:
        """Count the users."""
        count = _as_object(await self._get("/users/count"), "/users/count").get("total_count")
        if isinstance(count, bool) or not isinstance(count, int):
            raise ClerkApiDown(detail="/users/count: gave no number")
        return count

    # --- organisations -----------------------------------------------------------------------------------------------

    async def organizations(self, *, offset: int = 0, limit: int = PAGE) -> list[Object]:
        """Give a page of organisations by creation."""
        return _counted(await self._get("/organizations", _page(offset, limit)), offset)

    async def organization(self, org_id: str) -> Object | None:
        """Give an organisation; None where there is none."""
        return _object(await self._get(f"/organizations/{_part(org_id)}", missing=True), org_id)

    async def memberships(
        self, org_id: str | None = None, *, user_ids: Sequence[str] = (), offset: int = 0, limit: int = PAGE
    ) -> list[Object] | None:
        """Give a page of memberships by creation, of one organisation (None where there is none) or of all."""
        query = _page(offset, limit) + _many("user_id", user_ids)
        if org_id is None:
            return _counted(await self._get("/organization_memberships", query), offset)
        found = await self._get(f"/organizations/{_part(org_id)}/memberships", query, missing=True)
        return None if found is None else _members(_objects(found), org_id, user_ids)

    async def memberships_of(self, user_id: str) -> list[Object]:
        """Give all memberships of a user; none where there is no such user."""
        path, found = f"/users/{_part(user_id)}/organization_memberships", list[Object]()
        while True:
            query = [("limit", str(PAGE)), ("offset", str(len(found)))]  # all that it takes
            answer = await self._get(path, query, missing=True)
            page = [] if answer is None else _counted(answer, len(found))
            if found and page and page[0]["id"] == found[0]["id"]:
                raise ClerkApiDown(detail=f"{path}: does not go on: its pages repeat")
            if any(both_ends(each)[1] not in (None, user_id) for each in page):
                raise ClerkApiDown(detail=f"{path}: gave memberships that were not asked for")
            found += page
            total = answer.get("total_count") if isinstance(answer, dict) else None
            if not page or (len(found) >= total if isinstance(total, int) else len(page) < PAGE):
                return found

    # --- the rest ----------------------------------------------------------------------------------------------------

    async def revoke_session(self, session_id: str) -> bool:
        """End a session; False where there is none."""
        return await self._client.ask("POST", f"/sessions/{_part(session_id)}/revoke", missing=True) is not None

    async def keys(self) -> bytes:
        """Give the instance's key set, which says whose secret key this is."""
        return orjson.dumps(_as_object(await self._get("/jwks"), "/jwks"))

    async def _get(self, path: str, query: Query = (), *, missing: bool = False) -> Any:
        return await self._client.ask("GET", path, query, missing=missing)


def _page(offset: int, limit: int) -> list[tuple[str, str]]:
    # By creation, oldest first: who is created meanwhile comes at the end and moves nobody.
    return [("order_by", "+created_at"), ("limit", str(limit)), ("offset", str(offset))]


def _many(name: str, values: Sequence[str]) -> list[tuple[str, str]]:
    return [(name, value) for value in values]


def _part(name: str) -> str:
    """Put an id into a path. Whatever it holds, it stays one segment."""
    if name in ("", ".", ".."):
        raise ClerkApiDown(detail="an id that is none was asked for")
    return quote(name, safe="")


def _as_object(value: Any, path: str) -> Object:
    if not isinstance(value, dict):
        raise ClerkApiDown(detail=f"{path}: gave no object")
    return value


def _members(found: list[Object], org_id: str, user_ids: Sequence[str]) -> list[Object]:
    for each in found:
        user_id = member(each, "public_user_data").get("user_id")
        if member(each, "organization").get("id") != org_id or (user_ids and user_id not in user_ids):
            raise ClerkApiDown(detail=f"{org_id}: gave memberships that were not asked for")
    return found


def _object(value: Any, wanted: str) -> Object | None:
    if value is None:
        return None
    found = _as_object(value, wanted)
    if found.get("id") != wanted:
        raise ClerkApiDown(detail=f"{wanted}: gave another object")
    return found


def _counted(value: Any, offset: int) -> list[Object]:
    """Take a list that says how long it is: an empty page is not believed before the end."""
    found, total = _objects(value), value.get("total_count") if isinstance(value, dict) else None
    if not found and isinstance(total, int) and total > offset:
        raise ClerkApiDown(detail=f"gave nothing from {offset} on of a list of {total}")
    return found


def _objects(value: Any) -> list[Object]:
    """Take a list: users come bare, the rest as `data` (Clerk's OpenAPI description, `User.List`)."""
    found = value.get("data") if isinstance(value, dict) else value
    if not isinstance(found, list):
        raise ClerkApiDown(detail="gave no list")
    for each in found:
        if not isinstance(each, dict) or as_name(each.get("id")) is None:
            raise ClerkApiDown(detail="gave a list of something else")
    return found
