"""A request as somebody types it, and what the gateway reads of it: by the same parser, under the same limits."""

import asyncio
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import urlsplit

from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import HttpRequestParser, RawRequestMessage
from aiohttp.streams import StreamReader

from gateway.config import Config
from gateway.core.headers import FieldRules
from gateway.core.model import Inbound, Peer
from gateway.errors import BadRequest
from gateway.web.read import judged, read_inbound, unreadable

CLIENT = "127.0.0.1"  # whom it is said to come from
EVERYWHERE = frozenset({"0.0.0.0", "::"})  # noqa: S104  which no client writes into its Host


@dataclass(frozen=True, slots=True)
class Asked:
    """What was typed. Raises ValueError for what no client could send."""

    method: str
    target: str  # path and query, or a whole URL
    token: str | None = None
    origin: str | None = None
    headers: tuple[str, ...] = ()  # "Name: value"

    def __post_init__(self) -> None:
        for text in (self.method, self.target, self.token or "", self.origin or "", *self.headers):
            if "\r" in text or "\n" in text:
                raise ValueError("a line break cannot be part of a request's line or header")
        for line in self.headers:
            if not line.partition(":")[1] or not line.partition(":")[0].strip():
                raise ValueError(f'--header "{line.split()[0] if line.split() else ""}": write NAME: VALUE')

    @property
    def fields(self) -> tuple[tuple[str, str], ...]:
        """Its header, but for the Host."""
        fields = [] if self.token is None else [("Authorization", f"Bearer {self.token}")]
        fields += [] if self.origin is None else [("Origin", self.origin)]
        parted = (line.partition(":") for line in self.headers)
        return (*fields, *((name.strip(), value.strip()) for name, _, value in parted))


class Received(NamedTuple):
    """A request as the parser gives it; `inbound` as the stages see it."""

    message: RawRequestMessage
    payload: StreamReader
    inbound: Inbound


def head_of(asked: Asked, config: Config) -> bytes:
    """Write the request as a client would send it."""
    fields = list(asked.fields)
    if all(name.lower() != "host" for name, _ in fields):
        fields.insert(0, ("Host", _usual_host(config)))
    lines = [f"{asked.method} {asked.target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields)]
    return "\r\n".join(lines).encode("utf-8", "surrogateescape") + b"\r\n\r\n"


def _usual_host(config: Config) -> str:
    """Give the Host of a client that comes by the address there is."""
    if config.public_url is not None:
        return urlsplit(config.public_url).netloc
    name = "localhost" if config.host in EVERYWHERE else config.host
    usual = 80 if config.tls is None else 443
    name = f"[{name}]" if ":" in name else name
    return name if config.port == usual else f"{name}:{config.port}"


def peer_of(config: Config) -> Peer:
    """Say who is at the other end: somebody on this machine."""
    scheme = "http" if config.tls is None else "https"
    return judged(Peer(CLIENT, trusted=False, scheme=scheme, port=config.port), config.trusted_proxies)


def receive(asked: Asked, config: Config, rules: FieldRules) -> Received:
    """Read it as `web.connection` does. Raises GatewayError: what the client would be refused with."""
    head, limits = head_of(asked, config), config.limits
    message, payload = _parsed(head, header_bytes=limits.header_bytes, headers=limits.headers)
    inbound = read_inbound(message, peer_of(config), rules, header_bytes=limits.header_bytes, size=len(head))
    return Received(message, payload, inbound)


def _parsed(head: bytes, *, header_bytes: int, headers: int) -> tuple[RawRequestMessage, StreamReader]:
    loop = asyncio.get_running_loop()
    # As `web.listener` has its connections made.
    parser = HttpRequestParser(
        BaseProtocol(loop), loop, 2**16, max_line_size=header_bytes, max_field_size=header_bytes, max_headers=headers,
        auto_decompress=False,
    )  # fmt: skip
    try:
        messages, _, _ = parser.feed_data(head)
    except HttpProcessingError as error:
        raise unreadable(error) from error
    if not messages:
        raise BadRequest("malformed", detail="no whole head")
    message, payload = messages[0]
    return message, payload
