"""A machine's token: whether the routes take its kind. Whether it is good only Clerk knows, whom `explain` asks."""

from collections.abc import Sequence
from typing import Final

from gateway.core.machine import jwt_kind, opaque_kind
from gateway.core.routing import Route
from gateway.core.verify import read_token
from gateway.errors import InvalidToken
from gateway.ops.doctor.admission import SUBJECT
from gateway.ops.doctor.diagnosis import Diagnosis, error, listed, skipped

WORDS: Final = {"api_key": "an API key", "m2m": "an M2M token", "oauth": "an OAuth access token"}


def machine_kind(raw: str) -> str | None:
    """Tell what kind of machine's token this claims to be; None for none."""
    if not raw.isascii():
        return None
    if (kind := opaque_kind(raw.encode())) is not None:
        return kind
    try:
        return jwt_kind(read_token(raw.encode()))
    except InvalidToken:
        return None


def machine_token(kind: str, routes: Sequence[Route]) -> Diagnosis:
    """Say whether any of these routes takes it."""
    guarded = [route for route in routes if route.auth != "public"]
    takers = [route.name for route in guarded if kind in route.admission.token_types]
    if takers:
        found = f"is {WORDS[kind]}, which route {listed(takers)} takes; whether it is good is not asked here"
        return skipped(SUBJECT, f"{found}: gateway explain GET PATH --token - asks")
    names = listed(route.name for route in guarded)
    found = f"is {WORDS[kind]}, which {f'route {names} does not take' if names else 'no route takes'}"
    remedy = f"Write token: {kind} on the route, or token: [session, {kind}], if it is meant to come in so"
    return error(SUBJECT, f"{found} (401 token-type-mismatch)", remedy)
