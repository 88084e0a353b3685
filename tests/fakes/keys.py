"""Signing keys of the assertion in tests: a disk that is full, and what verifies as an upstream would."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jwt

from tests.fakes.gateway import Running

ISSUER = "https://gw.example.com"
KEY_SET = "/.well-known/gateway/jwks.json"


@contextmanager
def no_space() -> Iterator[None]:
    """Let no file of this process grow, as on a full disk. Python ignores the signal and raises an OSError."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def asserted(**settings: Any) -> dict[str, Any]:
    """Give the `identity` block with the assertion on."""
    return {"assertion": {"enabled": True, "issuer": ISSUER} | settings}


async def kids(running: Running) -> list[str]:
    """Name the keys that a gateway publishes."""
    return [key["kid"] for key in (await running.get(KEY_SET)).json["keys"]]


async def verified(running: Running, token: str, *, audience: str = "api", at: float | None = None) -> dict[str, Any]:
    """Verify as an upstream does, with the set as it is now; at the test's time."""
    keys = jwt.PyJWKSet.from_dict((await running.get(KEY_SET)).json)
    key = keys[jwt.get_unverified_header(token)["kid"]]
    options: Any = {"verify_exp": False, "verify_nbf": False, "verify_iat": False}
    claims: dict[str, Any] = jwt.decode(
        token, key.key, algorithms=["ES256", "EdDSA"], audience=audience, issuer=ISSUER, options=options
    )
    now = running.clock() if at is None else at
    assert claims["nbf"] <= now < claims["exp"]
    return claims
