"""What may be asked of the local issuer's webhooks: the options of `gateway dev event`, their JSON form."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from gateway.ops.dev.happenings import Wanted
from gateway.ops.dev.sending import Manner

OLDEST_S = 315_360_000  # ten years either way


@dataclass(frozen=True, slots=True)
class EventOptions:
    """Which event is wanted, and how it is sent; as it stands, once, genuine, and true."""

    type: str | None = None
    user: str | None = None  # as `find_person` takes it; None: the first, or for user.created a new one
    org: str | None = None  # id or slug
    set: Mapping[str, Any] = field(default_factory=dict)  # what changes, by Clerk's names
    again: str | None = None  # the svix-id of one that was sent before, instead of a type
    twice: bool = False
    hold: bool = False  # until the next one has gone first
    bad_signature: bool = False
    old_s: int = 0  # seconds; negative: in the future
    send: bool = True  # False: it is only composed and given back, and nothing happens

    @property
    def manner(self) -> Manner:
        """How it is signed."""
        return Manner(self.bad_signature, self.old_s)

    @property
    def wanted(self) -> Wanted:
        """What shall happen."""
        return Wanted(self.type or "", self.user, self.org, self.set)

    def to_json(self) -> dict[str, Any]:
        """Give the body of `POST /dev/event`."""
        return asdict(self)


def read_event_options(body: object) -> EventOptions:
    """Read the body of `POST /dev/event`; an absent member takes its default.

    Raises:
        ValueError: not an object, a member that does not exist, one of the wrong type, or nothing to send.
    """
    if not isinstance(body, dict):
        raise ValueError('the body is a JSON object, for example {"type": "user.updated", "user": "user_bob"}')
    known = {each.name for each in fields(EventOptions)}
    if unknown := sorted(set(body) - known):
        raise ValueError(f"no such option: {', '.join(map(str, unknown))}; there are {', '.join(sorted(known))}")
    if isinstance(body.get("set"), list):
        body = body | {"set": read_changes(body["set"])}
    for name, value in body.items():
        if not _is_good(name, value):
            raise ValueError(f"{name} is of the wrong type, or out of range")
    options = EventOptions(**body)
    check_event_options(options)
    return options


def check_event_options(options: EventOptions) -> None:
    """Check that there is one thing to send, and a way to. Raises ValueError."""
    if (options.type is None) == (options.again is None):
        raise ValueError("name a type, such as user.updated, or with --again the svix-id of an event that was sent")
    if options.hold and (options.again is not None or not options.send):
        raise ValueError("only an event that is new and for the gateway can be held back")


def _is_good(name: str, value: object) -> bool:
    if name == "set":
        return isinstance(value, dict)
    if name == "old_s":
        return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= OLDEST_S
    if name in ("twice", "hold", "bad_signature", "send"):
        return isinstance(value, bool)
    return value is None or isinstance(value, str)


def read_changes(words: Sequence[str]) -> dict[str, Any]:
    """Read `name=value`s. A value that is JSON is what it says, so `true` is no text; anything else is text.

    Raises:
        ValueError: one without a name or `=`.
    """
    changes = {}
    for word in words:
        name, equals, value = word.partition("=") if isinstance(word, str) else ("", "", "")
        if not name or not equals:
            raise ValueError(f"--set takes name=value, such as first_name=Ada, not {word!r}")
        changes[name] = _value(name, value)
    return changes


def _value(name: str, text: str) -> Any:
    # Numbers stay text in a name and an id, where Clerk has text: external_id=1001.
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return text if is_number and "." not in name else value
