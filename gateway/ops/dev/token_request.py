"""What may be asked of the local issuer: the options of `gateway token`, their JSON form, and the asking itself."""

import re
from dataclasses import asdict, dataclass, fields
from typing import Any

from gateway.ops.dev.asking import ask, stranger

MACHINE_TYPES = ("api_key", "m2m", "oauth")
MACHINE_ID = re.compile(r"mch_[A-Za-z0-9_]{1,100}")
_SCOPE = re.compile(r"[!#-\[\]-~]{1,200}")  # RFC 6749 §3.3
_LISTS = ("permissions", "scopes", "audience")


@dataclass(frozen=True, slots=True)
class TokenOptions:
    """Which token is wanted; as it stands, the first sample user's session, good for an hour of pasting."""

    user: str | None = None
    org: str | None = None  # id or slug; "none" for no organisation; None for the user's own
    role: str | None = None
    permissions: tuple[str, ...] = ()  # none: what the role brings
    template: str | None = None
    expires_in: int = 3600  # seconds; negative gives an expired one
    foreign: bool = False  # another issuer's, signed with its key
    v1: bool = False
    pending: bool = False
    azp: str | None = None  # None: the page that asks, else the gateway; "": none at all
    type: str = "session"  # | api_key | m2m | oauth
    scopes: tuple[str, ...] = ()  # of a machine's
    audience: tuple[str, ...] = ()
    machine: str | None = None  # whose an m2m token is
    jwt: bool = False  # signed instead of opaque

    def to_json(self) -> dict[str, Any]:
        """Give the body of `POST /dev/token`."""
        return asdict(self)


def read_options(body: object) -> TokenOptions:
    """Read the body of `POST /dev/token`; an absent member takes its default.

    Raises:
        ValueError: not an object, a member that does not exist, or one of the wrong type.
    """
    if not isinstance(body, dict):
        raise ValueError('the body is a JSON object, for example {} or {"user": "user_bob"}')
    known = {field.name for field in fields(TokenOptions)}
    if unknown := sorted(set(body) - known):
        raise ValueError(f"no such option: {', '.join(map(str, unknown))}; there are {', '.join(sorted(known))}")
    for name, value in body.items():
        _check(name, value)
    options = TokenOptions(**(body | {name: tuple(body.get(name, ())) for name in _LISTS}))
    _check_together(options)
    return options


def _check_together(options: TokenOptions) -> None:
    if options.type not in ("session", *MACHINE_TYPES):
        raise ValueError(f"no type {options.type!r}: there are session, {', '.join(MACHINE_TYPES)}")
    machines = {"scopes": options.scopes, "audience": options.audience, "jwt": options.jwt}
    people = {"template": options.template, "role": options.role, "permissions": options.permissions}
    wrong = machines if options.type == "session" else people
    if options.type == "m2m":  # it is a machine's, nobody's
        wrong = wrong | {"user": options.user, "org": options.org}
    if given := [name for name, value in wrong.items() if value]:
        verb = "does" if len(given) == 1 else "do"
        raise ValueError(f"{', '.join(given)} {verb} not go with the type {options.type}")
    if options.machine is not None and (options.type != "m2m" or not MACHINE_ID.fullmatch(options.machine)):
        raise ValueError("machine is for the type m2m, and begins with mch_")
    if bad := [scope for scope in options.scopes if not _SCOPE.fullmatch(scope)]:
        raise ValueError(f"{bad[0]!r} is no scope: one is like reports:read, without blanks")


def _check(name: str, value: object) -> None:
    if name in _LISTS:
        good = isinstance(value, list) and all(isinstance(item, str) for item in value)
    elif name == "type":
        good = isinstance(value, str)
    elif name == "expires_in":
        good = isinstance(value, int) and not isinstance(value, bool)
    elif name in ("foreign", "v1", "pending", "jwt"):
        good = isinstance(value, bool)
    else:
        good = value is None or isinstance(value, str)
    if not good:
        raise ValueError(f"{name} is of the wrong type")


async def fetch_token(issuer: str, options: TokenOptions) -> str:
    """Ask the running `gateway dev` for a token; `issuer` is its address, as `issuer_url` gives it.

    Raises:
        DevError: nothing listens there, something else does, or the options are refused; the text says which.
    """
    body = await ask(issuer, "/dev/token", options.to_json())
    if isinstance(body, dict) and isinstance(body.get("token"), str):
        return str(body["token"])
    raise stranger(issuer)


async def revoke_token(issuer: str, token: str) -> str:
    """Have the running `gateway dev` take a machine token back; give the words for it. Raises DevError."""
    body = await ask(issuer, "/dev/revoke", {"token": token})
    if not isinstance(body, dict) or not body.get("revoked"):
        raise stranger(issuer)
    return f"{body.get('id')} of {body.get('subject')} is revoked"
