"""The gateway's own addresses on the main listener (CONTRACT §7): an aiohttp application without a port of its own."""

from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import hdrs, web

from gateway.errors import Draining, GatewayError, InternalError, KeysUnavailable, MethodNotAllowed, NoRoute
from gateway.web import respond

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
# What the connection knows of the request, and what it is to log of the answer.
REQUEST_ID: Final = web.RequestKey("request_id", str)
CORS: Final = web.RequestKey("cors", bytes)
FAULT: Final = web.RequestKey("fault", Exception)
PATHS: Final = frozenset({"/healthz", "/readyz"})


def own_application(*, is_draining: Callable[[], bool], has_keys: Callable[[], bool]) -> web.Application:
    """Build the application: `/healthz` says that the process lives, `/readyz` whether it should get traffic."""

    async def healthz(_request: web.Request) -> web.StreamResponse:
        return web.json_response({"status": "ok"})

    async def readyz(_request: web.Request) -> web.StreamResponse:
        if is_draining():
            raise Draining
        if not has_keys():
            raise KeysUnavailable
        return web.json_response({"status": "ok"})

    app = web.Application(middlewares=[_answer_errors])
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.on_response_prepare.append(_finish)
    return app


@web.middleware
async def _answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer every error in the contract's form; aiohttp would log a traceback and send its own text."""
    try:
        return await handler(request)
    except GatewayError as error:
        return _refusal(request, error)
    except web.HTTPMethodNotAllowed as error:
        return _refusal(request, MethodNotAllowed(tuple(sorted(error.allowed_methods))))
    except web.HTTPException:
        return _refusal(request, NoRoute())
    except Exception as error:  # whatever is wrong, the client is answered
        request[FAULT] = error
        return _refusal(request, InternalError())


def _refusal(request: web.Request, error: GatewayError) -> web.Response:
    request.setdefault(FAULT, error)
    fields = dict(line.strip().split(": ", 1) for line in (raw.decode() for raw in respond.refusal_fields(error)))
    return web.Response(
        status=error.status,
        body=respond.problem(error, request[REQUEST_ID].encode("latin-1")),
        content_type="application/problem+json",
        headers=fields,
    )


async def _finish(request: web.Request, response: web.StreamResponse) -> None:
    response.headers[hdrs.CACHE_CONTROL] = "no-store"
    response.headers["X-Request-Id"] = request[REQUEST_ID]
    response.headers.pop(hdrs.SERVER, None)
    for line in request[CORS].decode("latin-1").split("\r\n")[1:]:
        response.headers.add(*line.split(": ", 1))
