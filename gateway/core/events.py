"""A verified webhook body to an `Event`: what it is about, and what of it is kept.

What an event does to the directory is `directory`'s; that it is genuine has been checked before (`web/webhooks`).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from gateway.errors import BadRequest

# Those that Clerk announces, as far as is known (CLERK.md §6). Others are taken as well: its catalogue grows.
_KINDS: Final = {
    "user": "created updated deleted",
    "session": "created ended removed revoked",
    "email": "created",
    "sms": "created",
    "organization": "created updated deleted",
    "organizationDomain": "created updated deleted",
    "organizationMembership": "created updated deleted",
    "organizationInvitation": "created accepted revoked",
    "role": "created updated deleted",
    "permission": "created updated deleted",
    "waitlistEntry": "created updated",
    "subscription": "created updated active pastDue",
    "subscriptionItem": "created updated active canceled upcoming ended abandoned incomplete pastDue freeTrialEnding",
    "paymentAttempt": "created updated",
}
TYPES: Final = tuple(f"{kind}.{what}" for kind, words in _KINDS.items() for what in words.split())
MAX_MS: Final = 2**53  # beyond it no two JSON readers agree on an integer (RFC 8259 §6)
# What names something: a message, a type, an object. Bounded, since it becomes a key in the store.
NAME: Final = re.compile(r"[!-~]{1,255}")
PRIVATE: Final = "private_metadata"
# What the application itself keeps there is its own, whatever it calls it, and browsers see it anyway.
_OWN: Final = frozenset({"public_metadata", "unsafe_metadata"})
_NESTED: Final = (dict, list)  # as orjson makes them


@dataclass(frozen=True, slots=True)
class Sender:
    """A Clerk instance, as whoever sends webhooks."""

    issuer: str  # its name in the configuration
    secrets: tuple[str, ...] = field(default=(), repr=False)  # whsec_…
    instance: str | None = None  # ins_…; None: the one whose keys verify its tokens


@dataclass(frozen=True, slots=True)
class WebhookPolicy:
    """Where webhooks are taken, from whom, and what is kept of them."""

    paths: tuple[str, ...] = ()  # empty: nowhere
    senders: tuple[Sender, ...] = ()
    max_body_bytes: int = 1_048_576
    private_metadata: bool = False
    retention_days: int = 30

    @property
    def secrets(self) -> tuple[str, ...]:
        """All that a webhook may be signed with; none: no webhook can be verified."""
        return tuple(secret for sender in self.senders for secret in sender.secrets)

    @property
    def needs_store(self) -> bool:
        """Whether anything can come in that has to be kept."""
        return bool(self.paths and self.secrets)


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened at Clerk. Unknown types are events like others."""

    type: str  # such as user.updated
    data: Mapping[str, Any]
    at: int  # ms; 0 where Clerk does not say
    instance: str | None  # ins_…
    object_id: str | None  # whom or what it is about
    user_id: str | None  # the user whose personal data it may hold
    body: bytes  # what is stored and passed on


def read_event(body: bytes, *, keep_private: bool = False) -> Event:
    """Read an event; unless told to `keep_private`, without any private_metadata.

    Raises:
        BadRequest: reason `event`: not JSON, not an object, without a type or data, or nested beyond reason.
    """
    try:
        payload = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadRequest("event", detail="not JSON") from error
    if not isinstance(payload, dict):
        raise BadRequest("event", detail="not an object")
    kind, data = as_name(payload.get("type")), payload.get("data")
    if kind is None or not isinstance(data, dict):
        raise BadRequest("event", detail="without type or data")
    if not keep_private:
        _cut_private(payload)
    try:
        # Written anew: what is stored is what was understood, a member that came twice included.
        kept = orjson.dumps(payload)
    except orjson.JSONEncodeError as error:
        raise BadRequest("event", detail="nested too deeply") from error
    return Event(
        type=kind,
        data=data,
        at=as_ms(payload.get("timestamp")) or 0,
        instance=as_name(payload.get("instance_id")),
        object_id=as_name(data.get("id")),
        user_id=_concerned(kind, data),
        body=kept,
    )


def check_instance(event: Event, instances: frozenset[str]) -> None:
    """Check that an event is of one of these Clerk instances; none known, or none said: it is.

    Raises:
        BadRequest: reason `instance`.
    """
    # Its signature has named the endpoint already, so an event that does not say where it is from is not refused.
    if instances and event.instance is not None and event.instance not in instances:
        raise BadRequest("instance", detail=event.instance)


def as_name(value: Any) -> str | None:
    """Give a value if it can name something: printable ASCII, 255 characters at most."""
    return value if isinstance(value, str) and NAME.fullmatch(value) else None


def as_ms(value: Any) -> int | None:
    """Give a value if it is a time in ms."""
    # bool is an int in Python.
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < MAX_MS else None


def member(data: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Give an object's member that is an object, empty where it is none."""
    value = data.get(name)
    return value if isinstance(value, dict) else {}


def _cut_private(payload: dict[str, Any]) -> None:
    # Without recursion: orjson reads 1,024 levels, which is more than Python's stack takes.
    waiting: list[Any] = [payload]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            node.pop(PRIVATE, None)
            waiting += [value for name, value in node.items() if type(value) in _NESTED and name not in _OWN]
        else:
            waiting += [value for value in node if type(value) in _NESTED]


def _concerned(kind: str, data: Mapping[str, Any]) -> str | None:
    """Name the user an event speaks of: sessions, mails and memberships hold a person's data as well."""
    if kind.startswith("user."):
        return as_name(data.get("id"))
    for holder in (data, member(data, "public_user_data"), member(data, "payer")):
        found = as_name(holder.get("user_id"))
        if found is not None:
            return found
    return as_name(member(data, "user").get("id"))
