"""As much of a Convex deployment as its real clients need: the sync protocol, HTTP functions, an HTTP action.

Tokens are verified as Convex does it, against the fake Clerk's key. `messages:list`, `messages:send`, `whoami`, `big` and
`shout` are its functions. `GET /tokens`, asked directly, mints a fresh token for the clients' `fetchToken`.
"""

import asyncio
import base64
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any, Self

import jwt
from aiohttp import WSCloseCode, WSMsgType, web

from tests.fakes.gateway import APP, CLERK

PING_S = 5.0  # as Convex does
BIG = "x" * 5_000_000
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def timestamp(number: int) -> str:
    """Write a timestamp as the protocol has it: base64 of eight bytes, the smallest first."""
    return base64.b64encode(number.to_bytes(8, "little")).decode()


def subject_of(token: str) -> str:
    """Say whose token it is. Raises PyJWTError, as Convex refuses it."""
    key = CLERK.key.public_key()
    claims = jwt.decode(token, key, algorithms=["RS256"], audience="convex", issuer=CLERK.issuer)
    return str(claims["sub"])


class Session:
    """One open socket: its queries, its identity, and how far it has been told."""

    def __init__(self, socket: web.WebSocketResponse) -> None:
        self.socket = socket
        self.queries: dict[int, str] = {}
        self.subject: str | None = None
        self.query_set = self.identity = self.ts = 0

    def version(self) -> dict[str, Any]:
        """Where it stands."""
        return {"querySet": self.query_set, "identity": self.identity, "ts": timestamp(self.ts)}


class FakeConvex:
    """A deployment on 127.0.0.1; keeps what its clients sent, byte for byte where that matters."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.ts = 0
        self.sessions: set[Session] = set()
        self.requests: list[web.Request] = []
        self.received: list[dict[str, Any]] = []  # messages of all sockets
        self.closes: list[int | None] = []
        self.life_s = 60
        self.user, self.azp = "user_1", APP
        self.port = 0
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """Its own address."""
        return f"http://127.0.0.1:{self.port}"

    def token(self, **overrides: Any) -> str:
        """Mint a token of Clerk's template for Convex, good for `life_s`."""
        now = time.time()
        claims = {"aud": "convex", "azp": self.azp, "sub": self.user, "iat": int(now), "exp": int(now) + self.life_s}
        return CLERK.session_token(now, jti=str(time.perf_counter_ns()), **(claims | overrides))

    # --- functions ---------------------------------------------------------------------------------------------------

    def run(self, path: str, args: dict[str, Any], subject: str | None) -> Any:
        """Run one function."""
        match path.removesuffix(":default"):
            case "messages:list":
                return list(self.messages)
            case "messages:send":
                self.messages.append(f"{subject}: {args['body']}")
                return len(self.messages)
            case "whoami":
                return subject
            case "big":
                return BIG
            case "shout":
                return str(args["text"]).upper()
        raise KeyError(path)

    # --- the sync protocol -------------------------------------------------------------------------------------------

    async def _sync(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(max_msg_size=0, heartbeat=PING_S)
        await socket.prepare(request)
        session = Session(socket)
        self.sessions.add(session)
        try:
            async for message in socket:
                if message.type is not WSMsgType.TEXT:
                    await socket.close(code=WSCloseCode.UNSUPPORTED_DATA)
                    break
                said = json.loads(message.data)
                self.received.append(said)
                await self._answer(session, said)
        finally:
            self.sessions.discard(session)
            self.closes.append(socket.close_code)
        return socket

    async def _answer(self, session: Session, said: dict[str, Any]) -> None:
        match said["type"]:
            case "Authenticate":
                await self._authenticate(session, said)
            case "ModifyQuerySet":
                for change in said["modifications"]:
                    session.queries.pop(change["queryId"], None)
                    if change["type"] == "Add":
                        session.queries[change["queryId"]] = change["udfPath"]
                await self._transition(session, query_set=said["newVersion"])
            case "Mutation":
                result = self.run(said["udfPath"], said["args"][0], session.subject)
                self.ts += 1
                done = {"success": True, "result": result, "ts": timestamp(self.ts), "logLines": []}
                await self._send(session, {"type": "MutationResponse", "requestId": said["requestId"]} | done)
                for other in tuple(self.sessions):
                    await self._transition(other)
            case "Action":
                result = self.run(said["udfPath"], said["args"][0], session.subject)
                done = {"success": True, "result": result, "logLines": []}
                await self._send(session, {"type": "ActionResponse", "requestId": said["requestId"]} | done)

    async def _authenticate(self, session: Session, said: dict[str, Any]) -> None:
        try:
            session.subject = subject_of(said["value"]) if said["tokenType"] == "User" else None
        except jwt.PyJWTError as error:
            fields = {"error": str(error), "baseVersion": said["baseVersion"], "authUpdateAttempted": True}
            await self._send(session, {"type": "AuthError"} | fields)
            await session.socket.close()
            return
        await self._transition(session, identity=said["baseVersion"] + 1)

    async def _transition(self, session: Session, **changed: int) -> None:
        before = session.version()
        session.ts = self.ts
        for name, value in changed.items():
            setattr(session, name, value)
        updates = [
            {"type": "QueryUpdated", "queryId": number, "value": self.run(path, {}, session.subject)}
            | {"logLines": [], "journal": None}
            for number, path in session.queries.items()
        ]
        versions = {"startVersion": before, "endVersion": session.version()}
        await self._send(session, {"type": "Transition", "modifications": updates} | versions)

    async def _send(self, session: Session, message: dict[str, Any]) -> None:
        if not session.socket.closed:
            await session.socket.send_str(json.dumps(message))

    # --- HTTP --------------------------------------------------------------------------------------------------------

    async def _function(self, request: web.Request) -> web.Response:
        asked = await request.json()
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        try:
            subject = subject_of(token) if scheme == "Bearer" else None
        except jwt.PyJWTError as error:
            return web.json_response({"code": "Unauthenticated", "message": str(error)}, status=401)
        value = self.run(asked["path"], asked["args"][0], subject)
        return web.json_response({"status": "success", "value": value, "logLines": []})

    async def _action(self, request: web.Request) -> web.Response:
        """Answer as an HTTP action that says what it got."""
        body = (await request.read()).decode("latin-1")
        seen = {"method": request.method, "headers": list(request.headers.items()), "body": body}
        return web.json_response(seen | {"url": f"{request.headers.get('X-Forwarded-Proto', 'http')}://{request.host}"})

    async def _tokens(self, _request: web.Request) -> web.Response:
        return web.Response(text=self.token(), headers={"Access-Control-Allow-Origin": "*"})

    @web.middleware
    async def _cors(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Mirror the origin, as Convex does."""
        self.requests.append(request)
        response = await handler(request)
        if "Origin" in request.headers and not response.prepared:
            response.headers["Access-Control-Allow-Origin"] = request.headers["Origin"]
            response.headers["Access-Control-Allow-Credentials"] = "true"
        return response

    async def __aenter__(self) -> Self:
        app = web.Application(middlewares=[self._cors], client_max_size=2**25)
        app.router.add_get("/tokens", self._tokens)
        app.router.add_get("/api/{version}/sync", self._sync)
        for kind in ("query", "mutation", "action"):
            app.router.add_post(f"/api/{kind}", self._function)
        app.router.add_route("*", "/http/{path:.*}", self._action)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._runner is not None
        await asyncio.gather(*(session.socket.close() for session in tuple(self.sessions)))
        await self._runner.cleanup()


def settings(port: int, *, prefix: str = "", **upstream: Any) -> dict[str, Any]:
    """Write a gateway's settings for a deployment there, at the root or below a prefix."""
    cors = {"origins": [APP], "headers": ["Authorization", "Content-Type", "Convex-Client"]}
    route = {"name": "convex", "path": f"{prefix}/*", "upstream": "convex"}
    return {
        "upstreams": {"convex": {"url": f"http://127.0.0.1:{port}", "kind": "convex"} | upstream},
        "routes": [route | ({"strip_prefix": prefix} if prefix else {})],
        "cors": cors,
    }
