"""How Clerk's APIs answer: plain JSON, errors in a list, and the Backend API only who has the secret key."""

import json
from collections.abc import Awaitable, Callable
from hmac import compare_digest
from typing import Any

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.Response]]
Answer = Callable[[web.Request], object]  # in JSON, or the promise of it


class NotAuthentic(Exception):
    """A token is refused; the text says why. `code` is what Clerk's SDK spells as the reason."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def behind(secret_key: str, answer: Answer) -> Handler:
    """Answer only who has the secret key, with what `answer` gives for the request.

    Its LookupError is a 404, its ValueError a 422, its NotAuthentic a 400.
    """
    wanted = f"Bearer {secret_key}".encode()

    async def handler(request: web.Request) -> web.Response:
        sent = request.headers.get("Authorization", "").encode("utf-8", "surrogateescape")
        if not compare_digest(sent, wanted):
            return refusal(401, "clerk_key_invalid", "the secret key is another one: `gateway dev` makes one anew")
        return await answered(answer, request)

    return handler


async def answered(answer: Answer, request: web.Request) -> web.Response:
    """Give what `answer` says in JSON, or why it does not."""
    try:
        value = answer(request)
        return plain_json(await value if isinstance(value, Awaitable) else value)
    except LookupError as error:
        return refusal(404, "resource_not_found", f"nothing is known of {error.args[0]}")
    except ValueError as error:
        return refusal(422, "form_param_value_invalid", str(error))
    except NotAuthentic as error:
        return refusal(400, error.code, str(error))  # a 401 would say that the secret key is wrong


def plain_json(value: object, *, status: int = 200) -> web.Response:
    """Write JSON. Clerk's SDK reads a body as JSON only under exactly this type, without a charset."""
    headers = {"Cache-Control": "no-store"}
    return web.Response(
        body=json.dumps(value).encode(), status=status, content_type="application/json", headers=headers
    )


def refusal(status: int, code: str, message: str) -> web.Response:
    """Write an error."""
    error = {"code": code, "message": message, "long_message": message, "meta": {}}
    return plain_json({"errors": [error], "clerk_trace_id": "dev"}, status=status)


async def body_of(request: web.Request) -> dict[str, Any]:
    """Read a body that is a JSON object. Raises ValueError."""
    try:
        body = json.loads(await request.read())
    except RecursionError as error:
        raise ValueError("the body nests too deeply") from error
    if not isinstance(body, dict):
        raise ValueError("the body is a JSON object")
    return body


def text_of(body: dict[str, Any], name: str) -> str:
    """Give a member that has to be text. Raises ValueError."""
    value = body.get(name)
    if not isinstance(value, str) or not value:
        raise ValueError(f"{name} is missing or not a text")
    return value
