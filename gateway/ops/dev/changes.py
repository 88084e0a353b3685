"""What can be changed of a user, an organisation or a membership, by the names Clerk's API gives it. Pure."""

from collections.abc import Mapping
from dataclasses import replace
from difflib import get_close_matches
from typing import Any, TypeVar

from gateway.ops.dev.people import Membership, Organisation, Person

RAW = "data."  # --set data.x=1: into the event as it stands, whatever it means

Fields = Mapping[str, tuple[str, type]]
T = TypeVar("T", Person, Organisation, Membership)

USER: Fields = {
    "first_name": ("given_name", str),
    "last_name": ("family_name", str),
    "username": ("username", str),
    "email": ("email", str),
    "email_verified": ("email_verified", bool),
    "image_url": ("image_url", str),
    "external_id": ("external_id", str),
    "public_metadata": ("public_metadata", dict),
    "private_metadata": ("private_metadata", dict),
    "unsafe_metadata": ("unsafe_metadata", dict),
    "banned": ("banned", bool),
    "locked": ("locked", bool),
}
ORGANISATION: Fields = {
    "name": ("name", str),
    "slug": ("slug", str),
    "image_url": ("image_url", str),
    "public_metadata": ("public_metadata", dict),
    "private_metadata": ("private_metadata", dict),
}
MEMBERSHIP: Fields = {
    "role": ("role", str),
    "public_metadata": ("public_metadata", dict),
    "private_metadata": ("private_metadata", dict),
}
_WORDS = {str: "text", bool: "true or false", dict: "an object, or name one of its members after a dot"}


def changed(row: T, changes: Mapping[str, Any], fields: Fields) -> T:
    """Give a row with changes by Clerk's names; null empties a field.

    Raises:
        ValueError: a name there is not, or a value of another kind.
    """
    for name, value in changes.items():
        head, _, inner = name.partition(".")
        attribute, kind = fields.get(head, ("", str))
        if not attribute or (inner and kind is not dict):
            raise ValueError(_no_such_field(name, fields))
        if inner:
            # Clerk takes a null in metadata for: away with it.
            value = put_all(getattr(row, attribute), {inner: value}, null_removes=True)
        value = kind() if value is None else value
        if not isinstance(value, kind):
            raise ValueError(f"{name} is {_WORDS[kind]}")
        change: dict[str, Any] = {attribute: value}
        row = replace(row, **change)
    return row


def _no_such_field(name: str, fields: Fields) -> str:
    near = get_close_matches(name, fields, n=1)
    meant = f"did you mean {near[0]}?" if near else f"there are {', '.join(fields)};"
    return f"no such field: {name}; {meant} {RAW}{name} puts it into the event as it stands"


def put_all(data: Mapping[str, Any], changes: Mapping[str, Any], *, null_removes: bool = False) -> dict[str, Any]:
    """Give `data` with values at dotted names."""
    made = dict(data)
    for dotted, value in changes.items():
        head, _, inner = dotted.partition(".")
        if inner:
            below = made.get(head)
            made[head] = put_all(below if isinstance(below, dict) else {}, {inner: value}, null_removes=null_removes)
        elif value is None and null_removes:
            made.pop(head, None)
        else:
            made[head] = value
    return made
