"""What a row of the table is: a request to both sides, and what either of them says to it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

# What a route takes, as the gateway's `token:` and as the SDK's `acceptsToken`; its name is the route's prefix.
ACCEPTS: Mapping[str, tuple[list[str], Any]] = {
    "session": (["session"], "session_token"),
    "pending": (["session"], "session_token"),  # with `allow_pending`
    "api_key": (["api_key"], "api_key"),
    "m2m": (["m2m"], "m2m_token"),
    "oauth": (["oauth"], "oauth_token"),
    "machines": (["api_key", "m2m", "oauth"], ["api_key", "m2m_token", "oauth_token"]),
    "session_or_key": (["session", "api_key"], ["session_token", "api_key"]),
    "any": (["any"], "any"),
}


@dataclass(frozen=True)
class Case:
    """A request, how the two sides are set up for it, and what Clerk's API says when asked about it."""

    name: str
    accepts: str = "session"
    setup: str = "live"
    method: str = "GET"
    query: str = ""
    fields: tuple[tuple[str, str], ...] = ()
    api: Mapping[str, tuple[int, Any]] = field(default_factory=dict)  # by nonce, refresh token or machine token
    machine: bool = False  # only a gateway that knows machine tokens can
    handshake: bool = False  # only one with `handshake: true` can say anything to it

    @property
    def target(self) -> str:
        """The path and query asked for."""
        return f"/{self.accepts}/page" + (f"?{self.query}" if self.query else "")


class Location(NamedTuple):
    """Where a redirect leads, parameter by parameter."""

    to: str
    parameters: tuple[tuple[str, Any], ...]

    @classmethod
    def read(cls, value: str) -> "Location":
        """Take a Location apart; neither the order nor the spelling of a query matters, nor of the one inside."""
        parts = urlsplit(value)
        pairs = parse_qsl(parts.query, keep_blank_values=True)
        parameters = [(name, cls.read(text) if name == "redirect_url" else text) for name, text in pairs]
        return cls(f"{parts.scheme}://{parts.netloc}{parts.path}", tuple(sorted(parameters)))


@dataclass(frozen=True)
class Outcome:
    """What one side says to a request; fields that do not belong to the state are None or empty."""

    state: str  # signed-in, signed-out, redirect; of the gateway alone: unavailable, refused
    reason: str | None = None
    who: tuple[tuple[str, str], ...] = ()
    location: Location | None = None
    cookies: tuple[str, ...] = ()
    marks: tuple[tuple[str, str], ...] = ()  # x-clerk-auth-*, cache-control of a redirect


def named(pairs: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Put what is known of a caller into one form: names in order, lists joined, nothing for what there is not."""
    said = {name: ",".join(value) if isinstance(value, list) else value for name, value in pairs.items()}
    return tuple(sorted((name, str(value)) for name, value in said.items() if value not in (None, "")))
