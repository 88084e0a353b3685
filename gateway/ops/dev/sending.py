"""One webhook on its way: signed as Svix signs, posted, and what was answered. To wherever it is told."""

import base64
import binascii
import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import aiohttp

from gateway.core.delivery import sign

PREFIX = "whsec_"
TIMEOUT_S = 15.0  # as long as Svix waits
SHOWN = 200  # characters of an answer


@dataclass(frozen=True, slots=True)
class Message:
    """A webhook; the id stays the same however often it is sent."""

    id: str
    type: str
    about: str  # the id of whom or what it is about
    body: bytes


@dataclass(frozen=True, slots=True)
class Manner:
    """How a message is signed: truly, unless told otherwise."""

    bad_signature: bool = False
    old_s: int = 0  # how long ago the signature says it was made; negative: in the future

    @property
    def is_true(self) -> bool:
        """Whether a receiver should take it."""
        return self == Manner()


class Answer(NamedTuple):
    """What came back: a status and the gist of the body, or no status and why."""

    status: int | None
    text: str

    @property
    def is_good(self) -> bool:
        """Whether Svix would take it for received: 2xx."""
        return self.status is not None and 200 <= self.status <= 299


def new_id() -> str:
    """Make a message's id."""
    return f"msg_{secrets.token_hex(12)}"


def new_secret() -> str:
    """Make a signing secret."""
    return PREFIX + base64.b64encode(secrets.token_bytes(24)).decode()


def key_of(secret: str) -> bytes:
    """Read a signing secret. Raises ValueError, which does not quote it."""
    try:
        key = base64.b64decode(secret.strip().removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not key:
        raise ValueError("the secret is whsec_… and then base64, as the endpoint's page in Clerk's dashboard shows it")
    return key


def signed_headers(message: Message, secret: str, manner: Manner, *, now: float) -> dict[str, str]:
    """Give the fields that sign a message at `now` (Unix seconds), as Svix writes them. Raises ValueError."""
    key = secrets.token_bytes(24) if manner.bad_signature else key_of(secret)
    fields = sign(key, message.id, message.body, now=int(now) - manner.old_s)
    return {name: value for name, value in fields if name.startswith("svix-")}


async def send(session: aiohttp.ClientSession, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
    """Post a webhook; a redirect is an answer like others, as with Svix."""
    sent = {**headers, "Content-Type": "application/json", "User-Agent": "Svix-Webhooks/1.0 (gateway dev)"}
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    try:
        async with session.post(url, data=body, headers=sent, allow_redirects=False, timeout=timeout) as response:
            return Answer(response.status, gist(await response.content.read(65_536)))
    except aiohttp.ClientConnectorError as error:
        number = error.os_error.errno or 0  # negative where a name was looked up in vain
        return Answer(None, os.strerror(number) if number > 0 else str(error.os_error))
    except TimeoutError:
        return Answer(None, f"no answer within {TIMEOUT_S:g} s")
    except (aiohttp.ClientError, OSError, ValueError) as error:
        return Answer(None, str(error) or type(error).__name__)


def gist(body: bytes) -> str:
    """Give what an answer says in short: the gateway's `status` or `code` and `reason`, else its beginning."""
    try:
        told: Any = json.loads(body)
    except (ValueError, RecursionError):
        told = None
    if isinstance(told, dict):
        words = [told.get("code") or told.get("status"), told.get("reason")]
        found = ", ".join(word for word in words if isinstance(word, str))
        if found:
            return found[:SHOWN]
    text = body[: 4 * SHOWN].decode("utf-8", "replace")
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:SHOWN]
