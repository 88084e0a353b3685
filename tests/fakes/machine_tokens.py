"""Machine tokens as Clerk's Backend API knows them, and what it answers to who asks about one.

world = MachineTokens(); secret = world.add(api_key("ak_1")); world.known[secret]["revoked"] = True
"""

import json
from collections.abc import Mapping
from typing import Any

Object = dict[str, Any]
# Where it is asked, what the question calls the token, and the word for one that is not known.
PATHS = {
    "/api_keys/verify": ("secret", "api_key_not_found"),
    "/m2m_tokens/verify": ("token", "m2m_token_not_found"),
    "/oauth_applications/access_tokens/verify": ("access_token", "oauth_access_token_not_found"),
}
STATE: Object = {"revoked": False, "revocation_reason": None, "expired": False, "expiration": None}
BORN: Object = {"created_at": 1_745_354_860_746, "updated_at": 1_745_354_860_746}


def api_key(key: str = "ak_1", subject: str = "user_1", **members: Any) -> Object:
    """An API key, which never expires."""
    made = {
        "object": "api_key", "id": key, "type": "api_key", "name": "ci", "subject": subject, "scopes": ["read", "write"],
        "claims": {"plan": "pro"}, "created_by": None, "description": None, "last_used_at": None,
    }  # fmt: skip
    return made | STATE | BORN | members


def m2m_token(key: str = "mt_1", subject: str = "mch_1", **members: Any) -> Object:
    """An M2M token."""
    made = {"object": "machine_to_machine_token", "id": key, "subject": subject, "scopes": ["mch_2"], "claims": None}
    return made | STATE | BORN | members


def oauth_token(key: str = "oat_1", subject: str = "user_1", **members: Any) -> Object:
    """An OAuth access token; its times are in seconds."""
    made = {
        "object": "clerk_idp_oauth_access_token", "id": key, "client_id": "client_1", "type": "oauth:access_token",
        "subject": subject, "scopes": ["profile", "email"],
    }  # fmt: skip
    return made | STATE | {"created_at": 1_745_354_860, "updated_at": 1_745_354_860} | members


class MachineTokens:
    """The machine tokens of an instance, by their secrets."""

    def __init__(self) -> None:
        self.known: dict[str, Object] = {}
        self.machine_keys: set[str] = set()  # of machines, which may ask about M2M tokens
        self.asked: list[tuple[str, str, str]] = []  # path, token, bearer

    def add(self, made: Object, secret: str | None = None) -> str:
        """Know one, by a secret in the form of its kind; give that."""
        prefix = {"api_key": "ak_", "machine_to_machine_token": "mt_"}.get(made["object"], "oat_")
        secret = secret or f"{prefix}{made['id']}LCWGdaM8mv8K4PC/57IICZQXAeWfCgF30DZaFXHoGn9="
        self.known[secret] = made
        return secret

    def answer(self, path: str, headers: Mapping[str, str], body: bytes, *, secret_key: str) -> tuple[int, Any]:
        """Answer as Clerk does: 404 for what is not known or of another kind."""
        name, missing = PATHS[path]
        token, bearer = json.loads(body)[name], headers.get("Authorization", "").removeprefix("Bearer ")
        self.asked.append((path, token, bearer))
        if bearer != secret_key and not (path.startswith("/m2m") and bearer in self.machine_keys):
            return 401, {
                "errors": [{"code": "clerk_key_invalid", "message": "The provided Clerk Secret Key is invalid."}]
            }
        found = self.known.get(token)
        if found is None or not missing.startswith(_kind(found)):
            return 404, {"errors": [{"code": missing, "message": "not found"}]}
        return 200, found


def _kind(made: Object) -> str:
    return {"api_key": "api_key", "machine_to_machine_token": "m2m"}.get(made["object"], "oauth")
