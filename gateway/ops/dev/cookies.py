"""The cookies Clerk's Frontend API has a browser keep for the application, as Set-Cookie fields. Pure.

They leave as directives, by a handshake or a refresh, and the application sets them on its own domain.
"""

from typing import NamedTuple

from gateway.ops.dev.instance import Instance

NONCE, HANDSHAKE, DEV_BROWSER = "__clerk_handshake_nonce", "__clerk_handshake", "__clerk_db_jwt"
CLIENT = "__client"  # on the Frontend API's own domain: who is signed in with this browser
_KEPT = "Path=/; Max-Age=315360000; SameSite=Lax"  # ten years: what they say ends by itself, or is replaced
_GONE = "Path=/; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=0; SameSite=Lax"  # aiohttp takes only the second for it


class SignedIn(NamedTuple):
    """What a browser is told of its session; `changed_at` in Unix seconds."""

    token: str
    changed_at: int  # signed in
    refresh: str  # what a new token is had for without a redirect


def directives(instance: Instance, signed_in: SignedIn | None, *, browser: str) -> list[str]:
    """Give the directives that make an application's cookies say what holds now; `browser` is `__clerk_db_jwt`."""
    made = [_gone(HANDSHAKE), _gone(NONCE), *client_uat(instance, signed_in)]
    made += _browser(instance, browser) if instance.development else []
    suffixed_refresh, sessions = f"__refresh_{instance.suffix}", ("__session", f"__session_{instance.suffix}")
    if signed_in is None:
        return [*made, *map(_gone, (suffixed_refresh, *sessions))]
    made.append(f"{suffixed_refresh}={signed_in.refresh}; {_KEPT}; HttpOnly")
    return [*made, *(f"{name}={signed_in.token}; {_KEPT}" for name in sessions)]


def client_uat(instance: Instance, signed_in: SignedIn | None) -> list[str]:
    """Give the two directives of `__client_uat`: since when somebody is signed in, 0 for nobody."""
    value = 0 if signed_in is None else signed_in.changed_at
    return [f"{name}={value}; {_KEPT}" for name in ("__client_uat", f"__client_uat_{instance.suffix}")]


def carrying(name: str, value: str) -> str:
    """Give the cookie that takes a handshake back to an application on the same domain."""
    return f"{name}={value}; Path=/; Max-Age=60; SameSite=Lax; HttpOnly"


def client(secret: str) -> str:
    """Give the Frontend API's own cookie."""
    return f"{CLIENT}={secret}; {_KEPT}; HttpOnly"


def _browser(instance: Instance, browser: str) -> list[str]:
    return [f"{name}={browser}; {_KEPT}" for name in (DEV_BROWSER, f"{DEV_BROWSER}_{instance.suffix}")]


def _gone(name: str) -> str:
    return f"{name}=; {_GONE}"
