"""Clerk's Backend API for both sides at once: each thing it may be asked about has one answer, whoever asks.

The paths are those the SDK asks for, which is what makes this a stand-in for Clerk and not for the gateway's idea of it.
"""

import json
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from tests.fakes.clerk import FakeClerk

MACHINE_PATHS = {  # no version in them; where the token stands in the body
    "/api_keys/verify": "secret",
    "/m2m_tokens/verify": "token",
    "/oauth_applications/access_tokens/verify": "access_token",
}
REFUSED = "sk_live_refused000"  # the key of an instance that is no more
UNKNOWN = (404, {"errors": [{"code": "resource_not_found", "message": "not found"}]})


class Api:
    """The API on 127.0.0.1; `instances` are known by their secret keys, `answers` by nonce or token."""

    def __init__(self, instances: Mapping[str, FakeClerk], answers: Mapping[str, tuple[int, Any]]) -> None:
        self.instances, self.answers = instances, answers
        self.requests: list[tuple[str, str]] = []  # path and what was asked about
        self.url = ""

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

    def keys_url(self, secret_key: str) -> str:
        """Where an instance publishes its keys, as on its Frontend API."""
        return f"{self.url}/{secret_key}/.well-known/jwks.json"

    async def _serve(self, request: web.Request) -> web.Response:
        body = await request.read()
        status, value = self._answer(request, json.loads(body) if body else {})
        return web.Response(status=status, body=json.dumps(value).encode(), content_type="application/json")

    def _answer(self, request: web.Request, body: Mapping[str, Any]) -> tuple[int, Any]:
        path = request.path
        if path.endswith("/.well-known/jwks.json"):
            return self._keys(path.split("/")[1])
        bearer = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if path == "/v1/jwks":
            return self._keys(bearer)
        if bearer not in self.instances and not bearer.startswith("ak_"):
            return 401, {"errors": [{"code": "clerk_key_invalid", "message": "no such key"}]}
        if path == "/v1/clients/handshake_payload":
            about = request.query.get("nonce", "")
        elif path.startswith("/v1/sessions/") and path.endswith("/refresh"):
            about = body.get("refresh_token", "")
        elif path in MACHINE_PATHS:
            about = body.get(MACHINE_PATHS[path], "")
        else:
            return 404, {"errors": [{"code": "no_such_route", "message": path}]}
        self.requests.append((path, about))
        return self.answers.get(about, UNKNOWN)

    def _keys(self, secret_key: str) -> tuple[int, Any]:
        clerk = self.instances.get(secret_key)
        if secret_key == REFUSED:
            return 401, {"errors": [{"code": "clerk_key_invalid", "message": "no such key"}]}
        if clerk is None:
            return 500, {"errors": [{"code": "internal", "message": "down"}]}
        return 200, clerk.jwks()
