"""The user directory for the services behind (CONTRACT §7): one by id, lists, and what changed since."""

from dataclasses import fields
from functools import partial
from typing import Any, Final, Protocol

import orjson
from aiohttp import hdrs, web

from gateway.core.directory import Membership, Organization, Row, User
from gateway.core.events import as_name
from gateway.errors import BadRequest, NotFound
from gateway.store.base import Change, Directory
from gateway.web.local import Address, refusal
from gateway.web.paging import PAGE, after, limit_of, number, part, query
from gateway.web.tagged import tagged

KINDS: Final[dict[type[Row], str]] = {User: "user", Organization: "organization", Membership: "membership"}
SHOWN: Final = {kind: tuple(each.name for each in fields(kind) if each.name != "version") for kind in KINDS}


class Listed(Protocol):
    """A gateway, as whoever asks for its directory sees it (`web.app`)."""

    @property
    def directory(self) -> Directory:
        """The directory. Raises StoreDown where there is none."""


def directory_addresses(gateway: Listed) -> tuple[Address, ...]:
    """Give the addresses."""
    asked = {
        "/v1/users": users,
        "/v1/users/{id}": user,
        "/v1/organizations/{id}": organization,
        "/v1/organizations/{id}/members": members,
        "/v1/changes": changes,
    }
    return tuple(Address(hdrs.METH_GET, path, partial(answer, gateway)) for path, answer in asked.items())


async def users(gateway: Listed, request: web.Request) -> web.StreamResponse:
    """List the living users, or those with an e-mail address or an external id."""
    given = query(request, "email", "external_id", *PAGE)
    limit = limit_of(given)
    email = given.get("email")
    found = await gateway.directory.users(
        email=email and email.lower(),  # as Clerk keeps them
        external_id=given.get("external_id"),
        after=after(given),
        limit=limit + 1,
    )
    return tagged(request, part(found, limit, shown=shown))


async def user(gateway: Listed, request: web.Request) -> web.StreamResponse:
    """Show a user."""
    query(request)
    key = _key(request, User)
    return _one(request, await gateway.directory.user(key), User)


async def organization(gateway: Listed, request: web.Request) -> web.StreamResponse:
    """Show an organisation."""
    query(request)
    key = _key(request, Organization)
    return _one(request, await gateway.directory.organization(key), Organization)


async def members(gateway: Listed, request: web.Request) -> web.StreamResponse:
    """List an organisation's living memberships."""
    given = query(request, *PAGE)
    limit, key = limit_of(given), _key(request, Organization)
    of = await gateway.directory.organization(key)
    if of is None or of.deleted:
        return _one(request, of, Organization)
    found = await gateway.directory.members(key, after=after(given), limit=limit + 1)
    return tagged(request, part(found, limit, shown=shown))


async def changes(gateway: Listed, request: web.Request) -> web.StreamResponse:
    """List what changed since, each thing once and as it is now.

    Whoever follows asks again with `since` = `last`: at once while there is a `next_cursor`, else a little later.
    """
    given = query(request, "since", *PAGE)
    limit = limit_of(given)
    since = number(given, "cursor" if "cursor" in given else "since")
    found = await gateway.directory.changes(since=since, limit=limit + 1)
    if not found and (last := await gateway.directory.last_change()) < since:
        # Another directory than the one that was followed: an older backup, or a new one. Its changes would be missed.
        return refusal(request, BadRequest("since"), last=last)
    told = found[:limit]
    last = told[-1].number if told else since
    cursor = str(last) if len(found) > limit else None
    return tagged(request, {"data": list(map(_change, told)), "next_cursor": cursor, "last": last})


def _change(change: Change) -> dict[str, Any]:
    row = change.row
    kind = KINDS[type(row)]
    return {
        "number": change.number, "changed_at": change.changed_at, "kind": kind, "id": row.id, "deleted": row.deleted,
        kind: shown(row),
    }  # fmt: skip


def _key(request: web.Request, kind: type[Row]) -> str:
    """Give the id in the path. Raises NotFound for what is none, so that no database has to take it."""
    key = as_name(request.match_info["id"])
    if key is None:
        raise NotFound(KINDS[kind])
    return key


def _one(request: web.Request, row: Row | None, kind: type[Row]) -> web.Response:
    if row is None:
        raise NotFound(KINDS[kind])
    if row.deleted:
        return refusal(request, NotFound(KINDS[kind]), deleted=True)
    return tagged(request, shown(row))


def shown(row: Row) -> dict[str, Any]:
    """Give a row in CONTRACT §7's shape."""
    content = {name: getattr(row, name) for name in SHOWN[type(row)]}
    # By itself: within an answer it may be nested deeper than orjson writes (254), and would take the others along.
    content["public_metadata"] = orjson.Fragment(orjson.dumps(row.public_metadata or {}))
    return content
