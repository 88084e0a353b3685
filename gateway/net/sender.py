"""One attempt of a delivery over HTTP: signed, sent, answered or not. When and how often is `delivery`'s."""

import asyncio
import io
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final, NamedTuple

import aiohttp
from yarl import URL

from gateway.core.delivery import Answer, Subscription, sign
from gateway.core.model import Endpoint
from gateway.net.pool import is_link_local
from gateway.net.tls import Contexts, reason_of

ANSWER_S: Final = 15.0  # CONTRACT §7, as Svix
READ_BYTES: Final = 4096  # of an answer, whose status says it all; the connection of a longer one is not used again
READ_S: Final = 1.0
KEEPALIVE_S: Final = 4.0  # Node closes at 5 s
LARGE: Final = 2**20  # bytes; beyond, aiohttp wants them as a file
FIELDS: Final = (("Content-Type", "application/json"), ("User-Agent", "clerk-gateway"), ("Accept", "*/*"))
UNREACHED: Final = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)  # nothing was sent yet


class _Withdrawn(Exception):
    """It is not to be sent any more."""


class _Attempt(NamedTuple):
    subscription: Subscription
    svix_id: str
    body: bytes
    still: Callable[[], Awaitable[bool]]


class Sender:
    """Sends with connections of its own, a reused one where there is one; `now` in Unix seconds."""

    def __init__(self, contexts: Contexts, *, now: Callable[[], float]) -> None:
        self._contexts, self._now = contexts, now
        self._session: aiohttp.ClientSession | None = None
        self._turn = 0  # endpoints take turns

    async def send(
        self, subscription: Subscription, svix_id: str, body: bytes, *, still: Callable[[], Awaitable[bool]]
    ) -> Answer | None:
        """Make one attempt; say how it was answered.

        Before it sends once more, `still` is asked whether it may; None where it may not.
        """
        attempt = _Attempt(subscription, svix_id, body, still)
        try:
            async with asyncio.timeout(ANSWER_S):
                response = await self._send(attempt)
        except _Withdrawn:
            return None
        except TimeoutError as error:
            unreached = isinstance(error, aiohttp.ConnectionTimeoutError)
            return Answer(None, "cannot be connected to in time" if unreached else f"no answer within {ANSWER_S:g} s")
        except (aiohttp.ClientError, OSError, ValueError) as error:  # ValueError: a name that cannot be one
            return Answer(None, _described(error))
        # Its status came in time; however long it goes on, it is an answer.
        await _finish(response)
        return Answer(response.status, retry_after=response.headers.get("Retry-After"))

    async def is_there(self, subscription: Subscription) -> bool:
        """Say whether somebody takes connections at one of an upstream's endpoints; nothing is sent."""
        for endpoint in subscription.upstream.endpoints:
            with suppress(OSError, TimeoutError):
                async with asyncio.timeout(subscription.upstream.connect_s):
                    _, writer = await asyncio.open_connection(endpoint.host, endpoint.port)
                writer.close()
                return True
        return False

    async def close(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()

    async def _send(self, attempt: _Attempt) -> aiohttp.ClientResponse:
        endpoints = [end for end in attempt.subscription.upstream.endpoints if end.weight]
        self._turn += 1
        first = self._turn % len(endpoints)
        *others, last = endpoints[first:] + endpoints[:first]
        for endpoint in others:
            with suppress(*UNREACHED):
                return await self._send_to(endpoint, attempt)
            await _check(attempt)
        return await self._send_to(last, attempt)

    async def _send_to(self, endpoint: Endpoint, attempt: _Attempt) -> aiohttp.ClientResponse:
        try:
            return await self._post(endpoint, attempt)
        except aiohttp.ClientConnectorError:
            raise
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
            # An upstream may end a connection just as it is used again. Whether it got the event nobody can say, and
            # once more is what at-least-once allows.
            await _check(attempt)
            return await self._post(endpoint, attempt)

    async def _post(self, endpoint: Endpoint, attempt: _Attempt) -> aiohttp.ClientResponse:
        subscription, body, upstream = attempt.subscription, attempt.body, attempt.subscription.upstream
        scheme, more = "http", dict[str, Any]()
        if endpoint.tls:
            scheme, tls = "https", upstream.tls
            more = {"ssl": self._contexts.client(tls).context, "server_hostname": tls.server_name}
        url = URL(f"{scheme}://{endpoint.authority.decode()}{subscription.path}", encoded=True)
        fields = (*FIELDS, *sign(subscription.key, attempt.svix_id, body, now=self._now()))
        return await self._opened().post(
            url, data=body if len(body) <= LARGE else io.BytesIO(body), headers=fields, allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=upstream.connect_s), **more,
        )  # fmt: skip

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEPALIVE_S, socket_factory=_socket),
                cookie_jar=aiohttp.DummyCookieJar(), trust_env=False, auto_decompress=False,
                skip_auto_headers=("Accept-Encoding",),
            )  # fmt: skip
        return self._session


async def _check(attempt: _Attempt) -> None:
    if not await attempt.still():
        raise _Withdrawn


async def _finish(response: aiohttp.ClientResponse) -> None:
    """Read what is little, so that the connection can be used again; end the connection of what is more."""
    with suppress(TimeoutError, aiohttp.ClientError, OSError, asyncio.IncompleteReadError):
        async with asyncio.timeout(READ_S), response:
            await response.content.readexactly(READ_BYTES)


def _socket(where: aiohttp.AddrInfoType) -> socket.socket:
    """Give a socket to connect to this address with; as in `pool`, no name may lead to what is link-local."""
    family, kind, protocol, _, address = where
    if is_link_local(str(address[0])):
        raise OSError("it is link-local")
    return socket.socket(family, kind, protocol)


def _described(error: Exception) -> str:
    """Say in words what went wrong, for the log and for whoever looks at the delivery."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        said = f"its certificate is not accepted: {error.certificate_error}"
    elif isinstance(error, aiohttp.ClientConnectorError):
        said = f"cannot be connected to: {reason_of(error.os_error)}"
    elif isinstance(error, aiohttp.ServerDisconnectedError):
        said = "ended the connection without an answer"
    else:
        said = reason_of(error) if isinstance(error, OSError) else type(error).__name__
    # It is stored: what no database takes would keep everything else from being written down, too.
    return "".join(char for char in said if char.isprintable())[:200]
