"""The gateway's own addresses (CONTRACT §7): aiohttp applications without a port of their own.

Here: how such an application answers, and the two addresses that main and admin listener share.
"""

from collections.abc import Awaitable, Callable, Iterable
from typing import Final, NamedTuple, Protocol

from aiohttp import hdrs, web
from aiohttp.typedefs import Middleware

from gateway.errors import (
    BadRequest,
    BodyTooLarge,
    Draining,
    GatewayError,
    InternalError,
    KeysUnavailable,
    MethodNotAllowed,
    NoRoute,
)
from gateway.web import respond

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Expect = Callable[[web.Request], Awaitable[web.StreamResponse | None]]
# What the connection knows of the request, and what it is to log of the answer.
REQUEST_ID: Final = web.RequestKey("request_id", str)
CORS: Final = web.RequestKey("cors", bytes)
FAULT: Final = web.RequestKey("fault", Exception)
PATHS: Final = frozenset({"/healthz", "/readyz"})


class Address(NamedTuple):
    """One address and who answers there; GET includes HEAD."""

    method: str
    path: str
    handler: Handler
    expect: Expect | None = None  # answers `Expect: 100-continue`; None: the body is always asked for


def own_application(addresses: Iterable[Address], *guards: Middleware) -> web.Application:
    """Build an application that answers every error in the contract's form; `guards` refuse before anything else."""
    app = web.Application(middlewares=(_answer_errors, *guards))
    for method, path, handler, expect in addresses:
        app.router.add_route(method, path, handler, expect_handler=expect)
        if method == hdrs.METH_GET:
            app.router.add_route(hdrs.METH_HEAD, path, handler)
    app.on_response_prepare.append(_finish)
    return app


class Serving(Protocol):
    """A gateway, as whoever asks for its health sees it (`web.app`)."""

    @property
    def draining(self) -> bool:
        """Whether it is stopping."""

    @property
    def has_keys(self) -> bool:
        """Whether tokens can be verified."""

    @property
    def is_whole(self) -> bool:
        """Whether every upstream can be reached, as far as is known."""


def health(gateway: Serving) -> tuple[Address, ...]:
    """Give `/healthz`, which says that the process lives, and `/readyz`: whether it should get traffic.

    What is not whole serves all the same: another gateway would not reach that service either.
    """

    async def healthz(_request: web.Request) -> web.StreamResponse:
        return web.json_response({"status": "ok"})

    async def readyz(_request: web.Request) -> web.StreamResponse:
        if gateway.draining:
            raise Draining
        if not gateway.has_keys:
            raise KeysUnavailable
        return web.json_response({"status": "ok" if gateway.is_whole else "degraded"})

    return Address(hdrs.METH_GET, "/healthz", healthz), Address(hdrs.METH_GET, "/readyz", readyz)


async def read_body(request: web.Request, most: int) -> bytes:
    """Read a body of at most so many bytes.

    Raises:
        BodyTooLarge: it is longer.
        BadRequest: reason `body`, where its framing is broken.
    """
    body = bytearray()
    try:
        async for chunk in request.content.iter_any():
            body += chunk
            if len(body) > most:
                raise BodyTooLarge
    except web.RequestPayloadError as error:
        raise BadRequest("body", detail=str(error)[:200]) from error
    return bytes(body)


@web.middleware
async def _answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer every error in the contract's form; aiohttp would log a traceback and send its own text."""
    try:
        return await handler(request)
    except GatewayError as error:
        return refusal(request, error)
    except web.HTTPMethodNotAllowed as error:
        return refusal(request, MethodNotAllowed(tuple(sorted(error.allowed_methods))))
    except web.HTTPException:
        return refusal(request, NoRoute())
    except Exception as error:  # whatever is wrong, the client is answered
        request[FAULT] = error
        return refusal(request, InternalError())


def refusal(request: web.Request, error: GatewayError, **more: object) -> web.Response:
    """Give the answer of an error, with what more its receiver may know."""
    request.setdefault(FAULT, error)
    fields = dict(line.strip().split(": ", 1) for line in (raw.decode() for raw in respond.refusal_fields(error)))
    return web.Response(
        status=error.status,
        body=respond.problem(error, request[REQUEST_ID].encode("latin-1"), **more),
        content_type="application/problem+json",
        headers=fields,
    )


async def _finish(request: web.Request, response: web.StreamResponse) -> None:
    response.headers.setdefault(hdrs.CACHE_CONTROL, "no-store")
    response.headers["X-Request-Id"] = request[REQUEST_ID]
    response.headers.pop(hdrs.SERVER, None)
    for line in request[CORS].decode("latin-1").split("\r\n")[1:]:
        response.headers.add(*line.split(": ", 1))
