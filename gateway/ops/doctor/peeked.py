"""A token as it says itself, read without believing it; and what else people take for one."""

import base64
import binascii
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import orjson

from gateway.core.verify import MAX_BRACKETS, MAX_TOKEN_BYTES
from gateway.errors import InvalidToken
from gateway.ops.doctor.admission import SUBJECT
from gateway.ops.doctor.backend import DASHBOARD, SESSION
from gateway.ops.doctor.diagnosis import Diagnosis, error, quoted

COPY: Final = "Copy the whole token: three parts with a dot between, as await Clerk.session.getToken() gives it"


class Peeked(NamedTuple):
    """A token's header and claims as it says them itself: nothing of it is proven."""

    header: Mapping[str, Any]
    claims: Mapping[str, Any]

    def text(self, name: str) -> str | None:
        """Give a claim that is text."""
        value = self.claims.get(name)
        return value if isinstance(value, str) and value else None

    @property
    def user_id(self) -> str | None:
        """Whom it names, where that is a user of Clerk's and fit to be asked for."""
        subject = self.text("sub")
        fit = subject is not None and subject.startswith("user_") and subject.isascii() and subject.isprintable()
        return subject if fit and len(subject or "") < 100 and "/" not in (subject or "") else None


def peek(token: str) -> Peeked | None:
    """Read what a token says of itself; None where it is none."""
    parts = token.split(".")
    if len(parts) != 3 or len(token) > 4 * MAX_TOKEN_BYTES or not token.isascii():
        return None
    try:
        header, claims = (_json(part) for part in parts[:2])
    except (ValueError, binascii.Error):
        return None
    return Peeked(header, claims) if isinstance(header, dict) and isinstance(claims, dict) else None


def _json(part: str) -> Any:
    raw = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    if raw.count(b"[") + raw.count(b"{") > MAX_BRACKETS:
        raise ValueError("nested too deeply")
    return orjson.loads(raw)


def formless(raw: str) -> Diagnosis:
    """Say what it is that is no token."""
    if raw.startswith("sk_"):
        return error(
            SUBJECT, "is a secret key, no token", "If it came from a browser, roll it now: Clerk Dashboard, API keys"
        )
    if raw.startswith("pk_"):
        return error(SUBJECT, "is a publishable key, no token", COPY)
    if not raw:
        return error(
            SUBJECT, "is empty", "The page asked before it was signed in: await Clerk.load(), and look at Clerk.session"
        )
    if raw in ("null", "undefined", "[object Promise]", "[object Object]"):
        found = f"is the word {raw}: what getToken() gave was written into the header as it was"
        return error(SUBJECT, found, "Write await before getToken(), and send no Authorization where it gives null")
    if len(raw) > MAX_TOKEN_BYTES:
        found = f"is longer than {MAX_TOKEN_BYTES} bytes, the most that is read (401 token-invalid)"
        return error(SUBJECT, found, f"Take claims out of the session token or template ({SESSION})")
    parts = raw.count(".") + 1
    what = "cannot be read" if parts == 3 else f"has {parts} part{'s' if parts > 1 else ''} instead of three"
    return error(SUBJECT, f"{what}: cut, or no JWT at all (401 token-invalid)", COPY)


def misshapen(peeked: Peeked, refused: InvalidToken) -> Diagnosis:
    """Say why a token is not even taken apart."""
    algorithm = peeked.header.get("alg")
    if refused.reason == "token-invalid-algorithm":
        found = f"is signed with {quoted(algorithm)}, and only RS256 is taken (401 {refused.reason})"
        return error(SUBJECT, found, f"Turn the template's custom signing key off ({DASHBOARD}); or it is not Clerk's")
    return error(SUBJECT, f"is not taken: {refused.detail} (401 {refused.reason})", COPY)
