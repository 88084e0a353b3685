"""CORS decisions: which origin may read an answer, and what a preflight is told (Fetch standard, "CORS protocol").

Owns the policy's types, the reading of configured origins and both decisions. Nothing here refuses a request: a page
that may not read an answer gets one without `Access-Control-Allow-*`, and its browser does the refusing.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv6Address
from typing import NamedTuple
from urllib.parse import urlsplit

# Fetch standard, "CORS-safelisted request-header": a browser sends these without asking.
SAFELISTED = frozenset({"accept", "accept-language", "content-language", "content-type", "range"})
TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110 §5.6.2
SCHEME = re.compile(r"[a-z][a-z0-9+.-]*")  # RFC 3986 §3.1
HOST = re.compile(r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*\.?")
DEFAULT_PORTS = {"http": 80, "https": 443}
LABEL = "[a-z0-9_-]+"
VARY_ORIGIN = b"\r\nVary: Origin"
VARY_PREFLIGHT = b"\r\nVary: Origin, Access-Control-Request-Method, Access-Control-Request-Headers"


class Origins(NamedTuple):
    """Configured origins, sorted by how they are compared."""

    exact: frozenset[bytes]
    patterns: tuple[re.Pattern[bytes], ...]
    any: bool

    @property
    def written(self) -> tuple[str, ...]:
        """The origins as a configuration has them."""
        patterns = (re.sub(r"\\(.)", r"\1", each.pattern.decode().replace(LABEL, "*")) for each in self.patterns)
        return (*sorted(origin.decode() for origin in self.exact), *patterns, *(("*",) if self.any else ()))


@dataclass(frozen=True, slots=True)
class CorsPolicy:
    """What pages of other origins may do on a route; header names compare in lower case."""

    origins: Origins
    methods: tuple[str, ...] = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
    headers: tuple[str, ...] = ("Authorization", "Content-Type")  # ("*",): what the browser asks for is granted
    expose: tuple[str, ...] = ()
    credentials: bool = True
    max_age_s: int = 600
    private_network: bool = False
    _granted: dict[bytes, bytes] = field(default_factory=dict, init=False, repr=False, compare=False)
    _answers: dict[bytes | None, bytes] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.origins.any and self.credentials:
            raise ValueError('"*" cannot go with credentials: name the origins, or set credentials: false')
        self._granted.update((origin, self._grant(origin)) for origin in self.origins.exact)
        self._answers[None] = VARY_ORIGIN
        self._answers.update((origin, grant + VARY_ORIGIN) for origin, grant in self._granted.items())

    def names(self, origin: bytes) -> bool:
        """Say whether the origin is listed, exactly or by pattern; a bare `*` lists nobody."""
        return origin in self._granted or any(pattern.fullmatch(origin) for pattern in self.origins.patterns)

    def granted(self, origin: bytes) -> bytes:
        """Give the fields that let this origin read an answer, ready for a head; b"" when it may not."""
        if ready := self._granted.get(origin):
            return ready
        if origin != b"null" and (self.origins.any or self.names(origin)):
            return self._grant(origin)
        return b""

    def answer(self, origin: bytes | None) -> bytes:
        """Give the CORS fields of an answer to this origin, ready for a head: the grant, and `Vary`."""
        # Even with "*": `null` and those without an Origin get another answer, which a cache must not give to the rest
        # (Fetch standard, "CORS protocol and HTTP caches").
        ready = self._answers.get(origin)
        return self.granted(origin or b"") + VARY_ORIGIN if ready is None else ready

    def _grant(self, origin: bytes) -> bytes:
        allowed = b"*" if self.origins.any else origin
        lines = [b"\r\nAccess-Control-Allow-Origin: ", allowed]
        if self.credentials:
            lines.append(b"\r\nAccess-Control-Allow-Credentials: true")
        if self.expose:
            lines.append(b"\r\nAccess-Control-Expose-Headers: " + ", ".join(self.expose).encode())
        return b"".join(lines)


def answer_fields(policy: CorsPolicy | None, origin: bytes | None) -> bytes:
    """Give the CORS fields of an answer, b"" where there is no CORS."""
    return b"" if policy is None else policy.answer(origin)


def is_preflight(method: str, seen: Mapping[str, bytes]) -> bool:
    """Tell a preflight from an ordinary OPTIONS (Fetch standard, "CORS-preflight request")."""
    return method == "OPTIONS" and "origin" in seen and "access-control-request-method" in seen


def preflight_fields(policy: CorsPolicy, seen: Mapping[str, bytes]) -> bytes:
    """Give the fields of a preflight's answer, ready for a head; only `Vary` when it is refused.

    `seen` holds Origin, Access-Control-Request-Method, -Headers and -Private-Network by lower-case name.
    """
    granted = policy.granted(seen["origin"])
    asked = _asked_headers(seen.get("access-control-request-headers", b""))
    method = seen["access-control-request-method"].decode("latin-1")
    if not granted or method not in policy.methods or asked is None or not _all_allowed(policy, asked):
        return VARY_PREFLIGHT
    # "*" in Allow-Headers means the literal name once credentials are sent, so what was asked for is named.
    allowed = asked if policy.headers == ("*",) else [name.encode() for name in policy.headers]
    lines = [
        granted,
        b"\r\nAccess-Control-Allow-Methods: ",
        ", ".join(policy.methods).encode(),
        b"\r\nAccess-Control-Max-Age: %d" % policy.max_age_s,
    ]
    if allowed:
        lines += (b"\r\nAccess-Control-Allow-Headers: ", b", ".join(allowed))
    if policy.private_network and seen.get("access-control-request-private-network") == b"true":
        lines.append(b"\r\nAccess-Control-Allow-Private-Network: true")
    return b"".join((*lines, VARY_PREFLIGHT))


def _asked_headers(value: bytes) -> list[bytes] | None:
    """Split the header names a preflight asks for; None when one is no header name at all, so never echoed."""
    names = [name.strip(b" \t") for name in value.split(b",") if name.strip(b" \t")]
    return names if all(TOKEN.fullmatch(name) for name in names) else None


def _all_allowed(policy: CorsPolicy, asked: list[bytes]) -> bool:
    if policy.headers == ("*",):
        return True
    allowed = {name.lower() for name in policy.headers} | SAFELISTED
    return all(name.decode().lower() in allowed for name in asked)


def read_origins(values: Iterable[str]) -> Origins:
    """Read configured origins.

    Raises:
        ValueError: one that no browser would ever send, with the form it would send.
    """
    exact, patterns, everybody = set(), [], False
    for value in values:
        if value == "*":
            everybody = True
        elif "*" in value:
            patterns.append(_pattern(value))
        else:
            exact.add(_exact(value).encode())
    return Origins(frozenset(exact), tuple(patterns), everybody)


def _exact(value: str) -> str:
    if value.lower() == "null":
        raise ValueError('"null" is every sandboxed frame and local file, and is never granted: leave it out')
    serialised = _serialised(value)
    if value != serialised:
        raise ValueError(f'a browser sends this origin as "{serialised}": write it so')
    return serialised


def _serialised(value: str) -> str:
    """Serialise as the HTML standard does ("ASCII serialisation of an origin")."""
    wrong = ValueError(f'"{value}" is not an origin: write scheme://host or scheme://host:port')
    try:
        parts = urlsplit(value)
        port, host = parts.port, _serialised_host(parts.hostname or "")
    except ValueError:
        raise wrong from None
    if not host or not SCHEME.fullmatch(parts.scheme) or "@" in parts.netloc:
        raise wrong
    suffix = "" if port in (None, DEFAULT_PORTS.get(parts.scheme)) else f":{port}"
    return f"{parts.scheme}://{host}{suffix}"


def _serialised_host(name: str) -> str:
    """Serialise a host, b"" for what is none. Raises ValueError."""
    if ":" in name:
        return "" if "%" in name else f"[{IPv6Address(name)}]"
    host = name if name.isascii() else name.encode("idna").decode()
    return host if HOST.fullmatch(host) else ""


def _pattern(value: str) -> re.Pattern[bytes]:
    head, _, tail = value.partition("*")
    whole_label = head.endswith(("://", ".")) and (tail.startswith(".") and "." in tail[1:])
    if "*" in tail or not whole_label:
        raise ValueError(f'"{value}": one * stands for exactly one whole label, as in https://*.example.com')
    example = f"{head}any--label{tail}"
    serialised = _serialised(example)
    if serialised != example:
        raise ValueError(f'a browser sends such origins as "{serialised.replace("any--label", "*")}": write it so')
    return re.compile(re.escape(head).encode() + LABEL.encode() + re.escape(tail).encode())
