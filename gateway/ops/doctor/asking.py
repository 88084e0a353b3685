"""One bounded question over HTTP, and what became of it: an `Answer`, or why there is none (`Unreached`).

Nothing is followed, nothing kept, no proxy of the environment used, no link-local address asked. Names are resolved in
threads that nobody has to wait for, so that a resolver that hangs does not hold the command.
"""

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any, Final, TypeVar

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from gateway.net.pool import is_link_local

T = TypeVar("T")
CONNECT_S: Final = 3.0
TOTAL_S: Final = 6.0
MOST_BYTES: Final = 1_048_576
FIELDS: Final = ("location", "server", "via", "content-type", "cf-ray", "age", "x-request-id")
WHY: Final = ("dns", "refused", "tls", "timeout", "not-http", "link-local", "failed")


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered."""

    status: int
    fields: Mapping[str, str] = field(default_factory=dict)  # those of `FIELDS` that came
    body: bytes = b""
    offset_s: float | None = None  # how far the answering clock is ahead of ours; None: it did not say
    is_cut: bool = False  # longer than `MOST_BYTES`

    @property
    def is_html(self) -> bool:
        """Whether it is a page for people."""
        kind = self.fields.get("content-type", "").partition(";")[0].strip().lower()
        return kind == "text/html" or self.body.lstrip()[:15].lower().startswith((b"<!doctype html", b"<html"))


@dataclass(frozen=True, slots=True)
class Unreached:
    """Why there is no answer."""

    why: str  # one of WHY
    detail: str = ""  # in the system's words


Asked = Answer | Unreached


async def apart(work: Callable[..., T], *args: Any) -> T:
    """Have a thread do this that ends with the process, not before it."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(set_outcome: Callable[[Any], None], outcome: Any) -> None:
        if not done.done():
            set_outcome(outcome)

    def run() -> None:
        try:
            outcome, tell = work(*args), done.set_result
        except Exception as error:  # whatever it is, it is raised where it is awaited
            outcome, tell = error, done.set_exception  # type: ignore[assignment]
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, tell, outcome)

    threading.Thread(target=run, daemon=True).start()
    return await done


class LinkLocal(OSError):
    """A name leads to where clouds keep their credentials."""


class Resolver(AbstractResolver):
    """The system's, in a thread that nobody waits for."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Give the addresses of a name. Raises OSError."""
        found = await apart(lambda: socket.getaddrinfo(host, port, family, socket.SOCK_STREAM))
        addresses = [(str(where[0]), kind) for kind, _, _, _, where in found]
        if any(is_link_local(address) for address, _ in addresses):
            raise LinkLocal(f"{host} leads to a link-local address")
        return [
            ResolveResult(hostname=host, host=address, port=port, family=kind, proto=0, flags=socket.AI_NUMERICHOST)
            for address, kind in addresses
        ]

    async def close(self) -> None:
        """Nothing is open."""


class Asker:
    """Asks; `async with` it. `clock` gives Unix seconds, with which answers' dates are compared."""

    def __init__(
        self, *, clock: Callable[[], float] = time.time, connect_s: float = CONNECT_S, total_s: float = TOTAL_S
    ) -> None:
        self._clock = clock
        self._timeout = aiohttp.ClientTimeout(total=total_s, sock_connect=connect_s)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> "Asker":
        connector = aiohttp.TCPConnector(resolver=Resolver(), force_close=True, use_dns_cache=False)
        self._session = aiohttp.ClientSession(
            connector=connector, trust_env=False, auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar()
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._session is not None
        await self._session.close()

    async def ask(
        self, url: str, *, method: str = "GET", headers: Mapping[str, str] | None = None, body: bytes | None = None,
        tls: ssl.SSLContext | None = None, server_name: str | None = None,
    ) -> Asked:  # fmt: skip
        """Ask once. Never raises but where it is cancelled."""
        assert self._session is not None
        sent = {"Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": "gateway-doctor"} | dict(headers or {})
        began = self._clock()
        try:
            async with self._session.request(
                method, URL(url, encoded=True), headers=sent, data=body, allow_redirects=False, timeout=self._timeout,
                ssl=tls if tls is not None else True, server_hostname=server_name,
            ) as answer:  # fmt: skip
                offset_s = _offset_s(answer.headers, began, self._clock())
                content, is_cut = await _read(answer)
                fields = {name: value for name in FIELDS if (value := answer.headers.get(name)) is not None}
                return Answer(answer.status, fields, content, offset_s, is_cut)
        except (aiohttp.ClientError, OSError, ValueError) as fault:
            return unreached(fault)


async def _read(answer: aiohttp.ClientResponse) -> tuple[bytes, bool]:
    body = bytearray()
    async for chunk in answer.content.iter_any():
        body += chunk
        if len(body) > MOST_BYTES:
            return bytes(body[:MOST_BYTES]), True
    return bytes(body), False


def _offset_s(fields: Mapping[str, str], began: float, ended: float) -> float | None:
    """Say how far a clock is ahead, by an answer's Date and by its Age in caches; 0 where it may be none at all.

    A Date is in whole seconds, and of some moment between the question and the answer.
    """
    try:
        there = parsedate_to_datetime(fields["Date"]).timestamp()
    except (KeyError, ValueError, TypeError, OverflowError):
        return None
    age = fields.get("Age", "0").strip()
    kept_s = int(age) if age.isdecimal() and len(age) < 9 else 0
    offset_s = there + 0.5 + kept_s - (began + ended) / 2
    return offset_s if abs(offset_s) > 0.5 + (ended - began) / 2 else 0.0


def unreached(fault: Exception) -> Unreached:
    """Say why there is no answer."""
    cause = getattr(fault, "os_error", None) or getattr(fault, "certificate_error", None) or fault
    if isinstance(cause, LinkLocal) or isinstance(fault.__cause__, LinkLocal):
        return Unreached("link-local", str(fault.__cause__ or cause))
    if isinstance(fault, aiohttp.ClientConnectorDNSError) or isinstance(cause, socket.gaierror):
        return Unreached("dns", getattr(cause, "strerror", None) or "")
    if isinstance(cause, ssl.SSLError):
        return Unreached("tls", getattr(cause, "verify_message", None) or cause.reason or str(cause))
    if isinstance(fault, TimeoutError) or isinstance(cause, TimeoutError):
        return Unreached("timeout")
    if isinstance(cause, ConnectionRefusedError):
        return Unreached("refused")
    if isinstance(fault, aiohttp.ClientResponseError):
        return Unreached("not-http")
    if isinstance(fault, (aiohttp.ServerDisconnectedError, aiohttp.ClientPayloadError, ConnectionResetError)):
        return Unreached("not-http", "the connection was closed without an answer")
    return Unreached("failed", getattr(cause, "strerror", None) or type(fault).__name__)
