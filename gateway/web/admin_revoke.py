"""`POST /v1/users/{id}/revoke` and `/v1/sessions/{id}/revoke`: an operator ends a session, or whatever a user has."""

from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple, Protocol

import orjson
from aiohttp import hdrs, web

from gateway.core.events import as_name
from gateway.errors import BadRequest, StoreDown
from gateway.web.local import Address, read_body, refusal

BODY_BYTES: Final = 1024
YES_NO: Final = {"true": True, "false": False}


class Revoked(NamedTuple):
    """What a revocation did."""

    streams_closed: int
    fault: StoreDown | None  # why it is known to this process alone, and only while that runs


class SessionEnder(Protocol):
    """Clerk, as far as it can end a session (`net.clerk_api`)."""

    async def revoke_session(self, session_id: str) -> object:
        """End it. Raises GatewayError."""


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
        return _answer(request, await gateway.revoke(user=_id(request)))

    async def session(request: web.Request) -> web.StreamResponse:
        session_id, ender = _id(request), gateway.session_ender
        pass_on = await _asks_clerk(request)
        if pass_on and ender is None:
            raise BadRequest("secret_key", detail="clerk.secret_key is not configured")
        done = await gateway.revoke(session=session_id)
        if pass_on and ender is not None:
            await ender.revoke_session(session_id)
        return _answer(request, done)

    return _address("users", user), _address("sessions", session)


def _address(kind: str, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> Address:
    return Address(hdrs.METH_POST, f"/v1/{kind}/{{id}}/revoke", handler)


def _answer(request: web.Request, done: Revoked) -> web.StreamResponse:
    if done.fault is not None:
        # Refused here, but a restart would forget it and other processes do not know: whoever asked has to ask again.
        return refusal(request, done.fault, streams_closed=done.streams_closed)
    return web.json_response({"status": "revoked", "streams_closed": done.streams_closed})


def _id(request: web.Request) -> str:
    """Read whom it is about. Raises BadRequest: reason `id`."""
    found = as_name(request.match_info["id"])
    if found is None:
        raise BadRequest("id")
    return found


async def _asks_clerk(request: web.Request) -> bool:
    """Read whether Clerk is to end it too: `?clerk=true`, or `{"clerk": true}`.

    Raises:
        BadRequest: reason `clerk` or `body`.
    """
    asked = YES_NO.get(request.query.get("clerk", "false"))
    if asked is None:
        raise BadRequest("clerk", detail="neither true nor false")
    body = await read_body(request, BODY_BYTES)  # 400, 413
    try:
        said = orjson.loads(body) if body else {}
    except orjson.JSONDecodeError as error:
        raise BadRequest("body", detail="not JSON") from error
    also = said.get("clerk", False) if isinstance(said, dict) else None
    if not isinstance(also, bool):
        raise BadRequest("body", detail='not {"clerk": true}')
    return asked or also
