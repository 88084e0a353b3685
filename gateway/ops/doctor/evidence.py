"""What a client of the gateway sent or saw, as the command line gives it: a token, an origin, header fields, a URL."""

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import IO, Final
from urllib.parse import SplitResult, urlsplit

MOST_TOKEN, MOST_LOG = 65_536, 256 * 1_048_576  # characters, bytes
SEEN: Final = ("authorization", "cookie", "origin", "host", "x-forwarded-for", "x-forwarded-proto", "forwarded", "via")
_FIELD = re.compile(r"\s*([!#$%&'*+\-.^_`|~0-9A-Za-z]+)\s*:(.*)", re.DOTALL)


class Unusable(ValueError):
    """An option says nothing that could be looked at; the text says how to write it."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of one request that did not go well; all of it may be missing."""

    token: str | None = field(default=None, repr=False)
    origin: str | None = None
    cookie: str | None = field(default=None, repr=False)
    url: SplitResult | None = None
    host: str | None = None  # of a Host field
    proxied: tuple[str, ...] = ()  # names of fields that only proxies add
    log: tuple[bytes, ...] | None = field(default=None, repr=False)  # lines

    @property
    def is_any(self) -> bool:
        """Whether there is a request to explain."""
        return any((self.token, self.origin, self.cookie, self.url, self.proxied))


def read_evidence(
    *, token: str | None = None, origin: str | None = None, cookie: str | None = None, url: str | None = None,
    headers: Sequence[str] = (), log: IO[bytes] | None = None,
) -> Evidence:  # fmt: skip
    """Read the options; "-" for a token means that it comes on standard input.

    Raises:
        Unusable: one of them cannot be meant so; it is never quoted.
    """
    if token == "-":  # noqa: S105
        if log is not None and log.name == "<stdin>":
            raise Unusable("only one of --token and --log can be read from standard input")
        token = sys.stdin.read(MOST_TOKEN)
    fields = dict(map(_read_field, headers))
    token = token if token is not None else fields.get("authorization")
    cookie = cookie if cookie is not None else fields.get("cookie")
    origin = origin if origin is not None else fields.get("origin")
    return Evidence(
        token=_bare(token) if token is not None else None,
        origin=origin.strip() if origin is not None else None,
        cookie=cookie.strip() if cookie is not None else None,
        url=_read_url(url) if url is not None else None,
        host=fields.get("host"),
        proxied=tuple(name for name in SEEN[4:] if name in fields),
        log=None if log is None else tuple(log.readlines(MOST_LOG)),
    )


def _read_field(text: str) -> tuple[str, str]:
    found = _FIELD.fullmatch(text)
    if found is None:
        raise Unusable('--header is written as the browser shows it: --header "Origin: https://app.example.com"')
    return found[1].lower(), found[2].strip()


def _bare(token: str) -> str:
    """Take off what comes along when a token is copied: blanks, quotes, the field's name, the scheme."""
    text = token.strip().strip("\"'").strip()
    text = re.sub(r"(?i)^authorization\s*:\s*", "", text)
    return re.sub(r"(?i)^bearer\s+", "", text)


def _read_url(text: str) -> SplitResult:
    wrong = "--url is what the client calls: --url https://api.example.com/orders, or a path such as /orders"
    try:
        parts = urlsplit(text.strip())
        named = parts.hostname if parts.port != 0 else None
    except ValueError:
        raise Unusable(wrong) from None
    if not (parts.scheme in ("http", "https", "ws", "wss") and named) and not (
        not parts.scheme and not parts.netloc and parts.path.startswith("/")
    ):
        raise Unusable(wrong)
    return parts
