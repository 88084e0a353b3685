"""What a browser's session comes to: tokens, the cookies an application gets, and the Backend API's share in both.

`GET /v1/clients/handshake_payload` fetches what a handshake left behind, `POST /v1/sessions/{id}/refresh` does without
one; both need the secret key.
"""

from typing import Any

from aiohttp import web

from gateway.ops.dev import shapes
from gateway.ops.dev.answers import Answer, NotAuthentic, behind, body_of, text_of
from gateway.ops.dev.clients import Client
from gateway.ops.dev.cookies import SignedIn, directives
from gateway.ops.dev.issuer import LocalIssuer


def mint_for(issuer: LocalIssuer, client: Client, *, origin: str) -> SignedIn | None:
    """Mint a token for who is signed in with a browser, `origin` being the page's; None where nobody is any more."""
    session = issuer.clients.session(client)
    if session is None:
        return None
    try:
        person = issuer.world.person(session.user_id)
        held = {each.organisation.id for each in person.memberships}
        org = client.org if client.org in (*held, "none") else None  # who has left it is in it no more
        token = issuer.mint(
            issuer.world.now_ms() / 1000, person.id, org=org, azp=origin, expires_in=issuer.cookie_life_s
        )
    except ValueError:
        return None  # banned, locked or deleted meanwhile
    return SignedIn(token, client.changed_at, client.refresh)


def cookies_for(issuer: LocalIssuer, client: Client, *, origin: str) -> list[str]:
    """Give the directives that tell an application at `origin` who is signed in."""
    return directives(issuer.played, mint_for(issuer, client, origin=origin), browser=client.browser)


def handshake_token(issuer: LocalIssuer, payload: list[str]) -> str:
    """Sign a payload, for an application that does not come for it with a nonce."""
    times = shapes.times(issuer.world.now_ms() / 1000, shapes.LIFE_S)
    return issuer.sign(times | {"handshake": payload}, shapes.SESSION_CATEGORY)


def session_routes(issuer: LocalIssuer, secret_key: str) -> list[web.AbstractRouteDef]:
    """Give the addresses of the Backend API."""

    def payload(request: web.Request) -> dict[str, Any]:
        nonce = request.query.get("nonce", "")
        kept = issuer.clients.take_payload(nonce)
        if kept is None:
            raise LookupError("this nonce: it is fetched once, within a minute")
        return {"directives": kept}

    async def refresh(request: web.Request) -> dict[str, Any]:
        return _refreshed(issuer, request.match_info["session_id"], await body_of(request))

    table: list[tuple[str, str, Answer]] = [
        ("GET", "/v1/clients/handshake_payload", payload),
        ("POST", "/v1/sessions/{session_id}/refresh", refresh),
    ]
    return [web.route(method, path, behind(secret_key, answer)) for method, path, answer in table]


def _refreshed(issuer: LocalIssuer, session_id: str, body: dict[str, Any]) -> dict[str, Any]:
    expired, refresh, origin = (text_of(body, name) for name in ("expired_token", "refresh_token", "request_origin"))
    try:
        claims = issuer.read_expired(expired)
    except ValueError as error:
        raise NotAuthentic("session_token_invalid", str(error)) from error
    client = issuer.clients.refreshed_by(session_id, refresh)
    if client is None or claims.get("sid") != session_id:
        raise NotAuthentic("refresh_token_invalid", "the session has ended, or the refresh token is not its own")
    signed_in = mint_for(issuer, client, origin=origin)
    if signed_in is None:
        raise NotAuthentic("session_ended", "the user may not sign in any more")
    if body.get("format") != "cookie":
        return {"object": "token", "jwt": signed_in.token}
    return {"object": "cookies", "cookies": directives(issuer.played, signed_in, browser=client.browser)}
