"""As much of Clerk's Backend API as the gateway asks for, answered from the local issuer's world.

`gateway sync` and the fetch at a first login work against it as against Clerk; its secret key is made at each start.
"""

from collections.abc import Callable, Sequence
from typing import Any

from aiohttp import web

from gateway.ops.dev.answers import Answer, behind
from gateway.ops.dev.happenings import Happening, Wanted, happen
from gateway.ops.dev.issuer import LocalIssuer
from gateway.ops.dev.objects import membership_json, organisation_json, session_json, user_json
from gateway.ops.dev.people import Membership, Person
from gateway.ops.dev.world import World

DEFAULT_LIMIT = 10
MOST = 500  # of a page
MOST_DIGITS = 15


def backend_routes(
    issuer: LocalIssuer, tell: Callable[[Sequence[Happening]], object], secret_key: str
) -> list[web.AbstractRouteDef]:
    """Give the addresses below `/v1`; `tell` gets what Clerk would announce of what is asked for there."""
    api = _Api(issuer.world, tell)
    table: list[tuple[str, str, Answer]] = [
        ("GET", "/v1/jwks", lambda _: issuer.jwks()),
        ("GET", "/v1/users", api.users),
        ("GET", "/v1/users/count", api.count),
        ("GET", "/v1/users/{user_id}", api.user),
        ("GET", "/v1/users/{user_id}/organization_memberships", api.memberships_of_user),
        ("POST", "/v1/users/{user_id}/{deed:ban|unban|lock|unlock}", api.judge),
        ("GET", "/v1/organizations", api.organisations),
        ("GET", "/v1/organizations/{org_id}", api.organisation),
        ("GET", "/v1/organizations/{org_id}/memberships", api.memberships),
        ("GET", "/v1/organization_memberships", api.every_membership),
        ("POST", "/v1/sessions/{session_id}/revoke", api.revoke),
    ]
    return [web.route(method, path, behind(secret_key, answer)) for method, path, answer in table]


class _Api:
    def __init__(self, world: World, tell: Callable[[Sequence[Happening]], object]) -> None:
        self._world, self._tell = world, tell

    # --- users -------------------------------------------------------------------------------------------------------

    def users(self, request: web.Request) -> list[Any]:
        """List users: a bare array."""
        return _page(request, [user_json(person) for person in self._found(request)])

    def count(self, request: web.Request) -> dict[str, Any]:
        """Count them."""
        return {"object": "total_count", "total_count": len(self._found(request))}

    def _found(self, request: web.Request) -> list[Person]:
        query = request.query
        people = list(self._world.people)
        for name, attribute in (("user_id", "id"), ("email_address", "email"), ("external_id", "external_id")):
            wanted = set(query.getall(name, [])) | set(query.getall(f"{name}[]", []))
            if wanted:
                people = [person for person in people if getattr(person, attribute) in wanted]
        after = _number(request, "created_at_after", -1)
        people = [person for person in people if person.created_at > after]
        # Clerk's own order: the newest first.
        order = query.get("order_by", "-created_at")
        key = order.lstrip("+-")
        if key not in ("created_at", "updated_at"):
            raise ValueError("order_by is created_at or updated_at, with + or -")
        people.sort(key=lambda person: (getattr(person, key), person.id), reverse=order.startswith("-"))
        return people

    def user(self, request: web.Request) -> dict[str, Any]:
        """Give one."""
        return user_json(self._person(request.match_info["user_id"]))

    def judge(self, request: web.Request) -> dict[str, Any]:
        """Ban or lock one, or end that."""
        person, deed = self._person(request.match_info["user_id"]), request.match_info["deed"]
        name = "banned" if deed.endswith("ban") else "locked"
        wanted = Wanted("user.updated", person.id, changes={name: not deed.startswith("un")})
        told = happen(self._world, wanted)
        self._tell(told)
        return told[0].data

    def memberships_of_user(self, request: web.Request) -> dict[str, Any]:
        """List one's memberships."""
        person = self._person(request.match_info["user_id"])
        return self._listed(request, [(person, held) for held in person.memberships])

    def _person(self, user_id: str) -> Person:
        for person in self._world.people:
            if person.id == user_id:
                return person
        raise LookupError(user_id)

    # --- organisations -----------------------------------------------------------------------------------------------

    def organisations(self, request: web.Request) -> dict[str, Any]:
        """List organisations."""
        every = [self._organisation(organisation.id) for organisation in self._world.organisations]
        return _counted(request, every)

    def organisation(self, request: web.Request) -> dict[str, Any]:
        """Give one, by id or slug."""
        return self._organisation(request.match_info["org_id"])

    def memberships(self, request: web.Request) -> dict[str, Any]:
        """List one's memberships."""
        return self._listed(request, self._world.members(str(self.organisation(request)["id"])))

    def every_membership(self, request: web.Request) -> dict[str, Any]:
        """List those of all organisations."""
        return self._listed(request, [(person, held) for person in self._world.people for held in person.memberships])

    def _organisation(self, wanted: str) -> dict[str, Any]:
        for organisation in self._world.organisations:
            if wanted in (organisation.id, organisation.slug):
                return organisation_json(organisation, members=len(self._world.members(organisation.id)))
        raise LookupError(wanted)

    def _listed(self, request: web.Request, held: Sequence[tuple[Person, Membership]]) -> dict[str, Any]:
        users = request.query.getall("user_id", [])
        every = [
            membership_json(person, each, members=len(self._world.members(each.organisation.id)))
            for person, each in held
            if not users or person.id in users
        ]
        return _counted(request, every)

    # --- sessions ----------------------------------------------------------------------------------------------------

    def revoke(self, request: web.Request) -> dict[str, Any]:
        """Revoke a session."""
        session = self._world.session_by_id(request.match_info["session_id"])
        if session is None:
            raise LookupError(request.match_info["session_id"])
        self._tell(happen(self._world, Wanted("session.revoked", session.user_id)))
        return session_json(session) | {"status": "revoked"}


def _counted(request: web.Request, items: list[dict[str, Any]]) -> dict[str, Any]:
    """Give a page of a list that says how long it is, by creation: who is new comes at the end and moves nobody."""
    items.sort(key=lambda item: (item["created_at"], item["id"]))
    return {"data": _page(request, items), "total_count": len(items)}


def _page(request: web.Request, items: list[Any]) -> list[Any]:
    limit, offset = _number(request, "limit", DEFAULT_LIMIT), _number(request, "offset", 0)
    if not 1 <= limit <= MOST:
        raise ValueError(f"limit is a number from 1 to {MOST}")
    return items[offset : offset + limit]


def _number(request: web.Request, name: str, default: int) -> int:
    text = request.query.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS):
        raise ValueError(f"{name} is a number")
    return int(text)
