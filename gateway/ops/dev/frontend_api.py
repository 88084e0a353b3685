"""As much of Clerk's Frontend API as a browser meets: the handshake, session tokens, signing in and out.

A browser is known by its cookie here or, at a development instance, by the `__clerk_db_jwt` that the application has.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from gateway.ops.dev import cookies
from gateway.ops.dev.answers import answered, refusal
from gateway.ops.dev.clients import Client
from gateway.ops.dev.happenings import Wanted, check_may_sign_in, happen, sign_in
from gateway.ops.dev.issuer import LocalIssuer
from gateway.ops.dev.redirects import check_redirect, origin_of, with_query
from gateway.ops.dev.sessions import cookies_for, handshake_token, mint_for
from gateway.ops.dev.sign_in_page import sign_in_page

LONGEST_COOKIE = 4096 - len("Path=/")  # with its name and attributes, as browsers have it
NO_STORE = {"Cache-Control": "no-store"}


def frontend_routes(issuer: LocalIssuer, *, home: str) -> list[web.AbstractRouteDef]:
    """Give the addresses; `home` is where to go for who has not said."""
    api = _Api(issuer, home)
    return [
        web.get("/v1/client/handshake", _or_refused(api.handshake), allow_head=False),
        web.post("/v1/client/sessions/{session_id}/tokens", api.token),
        web.get("/sign-in", _or_refused(api.show), allow_head=False),
        web.post("/sign-in", _or_refused(api.sign_in)),
        web.get("/sign-out", _or_refused(api.sign_out), allow_head=False),
    ]


def _or_refused(
    handler: Callable[[web.Request], Awaitable[web.Response]],
) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(request: web.Request) -> web.Response:
        try:
            return await handler(request)
        except ValueError as error:
            return refusal(400, "form_param_value_invalid", str(error))

    return answer


class _Api:
    def __init__(self, issuer: LocalIssuer, home: str) -> None:
        self._issuer, self._clients, self._home = issuer, issuer.clients, home

    # --- handshake ---------------------------------------------------------------------------------------------------

    async def handshake(self, request: web.Request) -> web.Response:
        """Tell an application who is signed in, by way of the browser."""
        url = check_redirect(request.query.get("redirect_url", ""))
        client = self._known(request)
        self._activate(client, request.query.get("organization_id"))
        payload = cookies_for(self._issuer, client, origin=origin_of(url))
        name, value = cookies.HANDSHAKE, ""
        if request.query.get("format") == "nonce":
            name, value = cookies.NONCE, self._clients.put_payload(payload)
        return self._back(url, client, name, value or handshake_token(self._issuer, payload))

    def _back(self, url: str, client: Client, name: str, value: str) -> web.Response:
        carried = cookies.carrying(name, value)
        if self._issuer.played.development:
            return self._redirect(with_query(url, {name: value, cookies.DEV_BROWSER: client.browser}), client, 307)
        if len(carried) > LONGEST_COOKIE:  # browsers drop those, and the application would ask again and again
            return self._redirect(with_query(url, {name: value}), client, 307)
        return self._redirect(url, client, 307, carried)

    def _activate(self, client: Client, org: str | None) -> None:
        """Take the organisation that the application's address names, where the user is in it; "" is none at all."""
        session = self._clients.session(client)
        if org is None or session is None:
            return
        held = [each.organisation for each in self._issuer.world.person(session.user_id).memberships]
        found = [each.id for each in held if org in (each.id, each.slug)]
        client.org = "none" if not org else next(iter(found), client.org)

    # --- signing in and out ------------------------------------------------------------------------------------------

    async def show(self, request: web.Request) -> web.Response:
        """Show who may sign in."""
        return self._page(request, request.query.get("redirect_url", self._home))

    async def sign_in(self, request: web.Request) -> web.Response:
        """Sign one in with this browser, and go on to the application."""
        form = await request.post()
        url = check_redirect(str(form.get("redirect_url", "")))
        try:
            person = self._issuer.world.person(str(form.get("user", "")))
            check_may_sign_in(person)
        except ValueError as error:
            return self._page(request, url, why=str(error))
        client = self._known(request)
        session, told = sign_in(self._issuer.world, person)
        self._issuer.tell(told)
        self._clients.sign_in(client, session)
        return self._on(url, client)

    async def sign_out(self, request: web.Request) -> web.Response:
        """End the session of this browser, and go on."""
        url = check_redirect(request.query.get("redirect_url", f"{self._issuer.url}/sign-in"))
        client = self._known(request)
        session = self._clients.session(client)
        if session is not None:
            self._issuer.tell(happen(self._issuer.world, Wanted("session.removed", session.user_id)))
        self._clients.sign_out(client)
        return self._on(url, client)

    def _page(self, request: web.Request, url: str, *, why: str = "") -> web.Response:
        client = self._found(request)
        session = client and self._clients.session(client)
        return sign_in_page(
            self._issuer.world.people, check_redirect(url), signed_in=session.user_id if session else None, why=why
        )

    def _on(self, url: str, client: Client) -> web.Response:
        """Send to the application such that it asks by a handshake what has changed."""
        if self._issuer.played.development:
            # Its cookies are out of reach; the browser's name in the query has it ask ([js] `dev-browser-sync`).
            return self._redirect(with_query(url, {cookies.DEV_BROWSER: client.browser}), client, 303)
        signed_in = mint_for(self._issuer, client, origin=origin_of(url))
        return self._redirect(url, client, 303, *cookies.client_uat(self._issuer.played, signed_in))

    # --- tokens ------------------------------------------------------------------------------------------------------

    async def token(self, request: web.Request) -> web.Response:
        """Mint a session token for a page, as Clerk's browser SDK asks for one."""

        def answer(_: web.Request) -> dict[str, Any]:
            client, wanted = self._found(request), request.match_info["session_id"]
            origin = request.headers.get("Origin", "")
            signed_in = mint_for(self._issuer, client, origin=origin) if client else None
            if client is None or signed_in is None or client.session_id != wanted:
                raise LookupError(f"{wanted} in this browser")
            return {"object": "token", "jwt": signed_in.token}

        return await answered(answer, request)

    # --- browsers ----------------------------------------------------------------------------------------------------

    def _found(self, request: web.Request) -> Client | None:
        browser = request.query.get(cookies.DEV_BROWSER) if self._issuer.played.development else None
        return self._clients.find(secret=request.cookies.get(cookies.CLIENT), browser=browser)

    def _known(self, request: web.Request) -> Client:
        return self._found(request) or self._clients.make()

    def _redirect(self, url: str, client: Client, status: int, *more: str) -> web.Response:
        response = web.Response(status=status, headers=NO_STORE | {"Location": url})
        for each in (cookies.client(client.secret), *more):
            response.headers.add("Set-Cookie", each)
        return response
