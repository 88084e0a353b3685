"""The Backend API's share in machine tokens: verifying them, and taking them back. Clerk has these without `/v1`."""

from typing import Any

from aiohttp import web

from gateway.ops.dev.answers import Answer, behind, body_of, text_of
from gateway.ops.dev.machines import Machines

# Where each type is, and what the member is called that brings one ([js] api/endpoints).
_VERIFIED = {
    "api_key": ("/api_keys/verify", "secret"),
    "m2m": ("/m2m_tokens/verify", "token"),
    "oauth": ("/oauth_applications/access_tokens/verify", "access_token"),
}


def machine_routes(machines: Machines, secret_key: str) -> list[web.AbstractRouteDef]:
    """Give the addresses, for who has the secret key; and the one that takes back whatever it is told."""

    def verifying(kind: str, member: str) -> Answer:
        async def answer(request: web.Request) -> dict[str, Any]:
            return machines.verify(kind, text_of(await body_of(request), member))

        return answer

    def revoke(request: web.Request) -> dict[str, Any]:
        return machines.revoke(request.match_info["id"])

    async def revoke_any(request: web.Request) -> web.Response:
        try:
            told = machines.revoke(text_of(await body_of(request), "token"))
        except ValueError as error:
            return web.json_response({"error": str(error)}, status=400)
        except LookupError:
            return web.json_response({"error": _NOT_OURS}, status=404)
        return web.json_response(told)

    return [
        *(web.post(path, behind(secret_key, verifying(kind, member))) for kind, (path, member) in _VERIFIED.items()),
        *(web.post(path, behind(secret_key, revoke)) for path in ("/api_keys/{id}/revoke", "/m2m_tokens/{id}/revoke")),
        web.post("/dev/revoke", revoke_any),
    ]


_NOT_OURS = (
    "no opaque token that was made here: a signed one (--jwt) holds until it expires, with Clerk too, and a session's "
    "ends by `gateway dev event session.revoked --user …`"
)
