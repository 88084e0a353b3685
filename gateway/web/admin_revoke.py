"""`POST /v1/users/{id}/revoke` and `/v1/sessions/{id}/revoke`: an operator ends a session, or whatever a user has."""

from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple, Protocol

import orjson
from aiohttp import hdrs, web

from gateway.core.events import as_name
from gateway.errors import BadRequest, StoreDown
from gateway.web.local import Address, read_body, refusal
from gateway.web.paging import query

BODY_BYTES: Final = 1024
CLERK: Final = "clerk"
YES_NO: Final = {"true": True, "false": False}


class Revoked(NamedTuple):
    """What a revocation did."""

    streams_closed: int
    fault: StoreDown | None  # why it is known to this process alone, and only while that runs


class SessionEnder(Protocol):
    """Clerk, as far as it can end a session (`net.clerk_api`)."""

    async def revoke_session(self, session_id: str) -> bool:
        """End it; False where there is none. Raises GatewayError."""


class Revoking(Protocol):
    """The gateway, as whoever revokes sees it (`web.app`)."""

    @property
    def session_ender(self) -> SessionEnder | None:
        """Clerk; None without a secret key."""

    async def revoke(self, *, user: str | None = None, session: str | None = None) -> Revoked:
        """Refuse what this user has got so far, or this session, from now on."""


def revoke_addresses(gateway: Revoking) -> tuple[Address, ...]:
    """Give both."""

    async def user(request: web.Request) -> web.StreamResponse:
        user_id = _id(request)
        if CLERK in request.query or await _says_clerk(request):
            # Whoever asks for it must not be told "revoked" while that user goes on signing in with Clerk.
            raise BadRequest(CLERK, detail="Clerk is asked to end sessions, one by one, not users")
        query(request)
        return _answer(request, await gateway.revoke(user=user_id))

    async def session(request: web.Request) -> web.StreamResponse:
        session_id, ender = _id(request), gateway.session_ender
        pass_on = await _asks_clerk(request)
        if pass_on and ender is None:
            raise BadRequest("secret_key", detail="clerk.secret_key is not configured")
        done = await gateway.revoke(session=session_id)
        if not pass_on or ender is None:
            return _answer(request, done)
        found = await ender.revoke_session(session_id)
        return _answer(request, done, clerk="revoked" if found else "unknown")

    return _address("users", user), _address("sessions", session)


def _address(kind: str, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> Address:
    return Address(hdrs.METH_POST, f"/v1/{kind}/{{id}}/revoke", handler)


def _answer(request: web.Request, done: Revoked, **more: str) -> web.StreamResponse:
    if done.fault is not None:
        # Refused here, but a restart would forget it and other processes do not know: whoever asked has to ask again.
        return refusal(request, done.fault, streams_closed=done.streams_closed, **more)
    return web.json_response({"status": "revoked", "streams_closed": done.streams_closed} | more)


def _id(request: web.Request) -> str:
    """Read whom it is about. Raises BadRequest: reason `id`."""
    found = as_name(request.match_info["id"])
    if found is None:
        raise BadRequest("id")
    return found


async def _asks_clerk(request: web.Request) -> bool:
    """Read whether Clerk is to end it too: `?clerk=true`, or `{"clerk": true}`.

    Raises:
        BadRequest: reason `clerk`, `parameter` or `body`.
    """
    asked = YES_NO.get(query(request, CLERK).get(CLERK, "false"))
    if asked is None:
        raise BadRequest(CLERK, detail="neither true nor false")
    return await _says_clerk(request) or asked


async def _says_clerk(request: web.Request) -> bool:
    """Read whether the body is `{"clerk": true}`. Raises BadRequest: reason `body`."""
    body = await read_body(request, BODY_BYTES)  # 400, 413
    try:
        said = orjson.loads(body) if body else {}
    except orjson.JSONDecodeError as error:
        raise BadRequest("body", detail="not JSON") from error
    also = said.get(CLERK, False) if isinstance(said, dict) else None
    if not isinstance(also, bool):
        raise BadRequest("body", detail='not {"clerk": true}')
    return also
