"""What may be asked of the local issuer: the options of `gateway token`, their JSON form, and the asking itself."""

from dataclasses import asdict, dataclass, fields
from typing import Any

from gateway.ops.dev.asking import ask, stranger


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
    return TokenOptions(**(body | {"permissions": tuple(body.get("permissions", ()))}))


def _check(name: str, value: object) -> None:
    if name == "permissions":
        good = isinstance(value, list) and all(isinstance(item, str) for item in value)
    elif name == "expires_in":
        good = isinstance(value, int) and not isinstance(value, bool)
    elif name in ("foreign", "v1", "pending"):
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
