"""The admin listener's description for programs: `/openapi.json` (OpenAPI 3.1). What it says stands in `operations`.

It describes what this gateway answers: an address that is not served is left out, and one that is not described stops
the start.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from aiohttp import hdrs, web

from gateway import __version__
from gateway.web.local import Address
from gateway.web.operations import OPERATIONS, PARAMETERS, REFUSALS, SCHEMAS, Operation
from gateway.web.tagged import tagged

PATH: Final = "/openapi.json"
PROBLEM: Final = "application/problem+json"


def document_address(addresses: Iterable[Address]) -> Address:
    """Give the address of the document that describes these addresses and itself."""

    async def answer(request: web.Request) -> web.StreamResponse:
        return tagged(request, content)

    own = Address(hdrs.METH_GET, PATH, answer)
    content = document((*addresses, own))
    return own


def document(addresses: Iterable[Address]) -> dict[str, Any]:
    """Describe these addresses."""
    paths: dict[str, dict[str, Any]] = {}
    for address in addresses:
        described = _operation(address.path, OPERATIONS[address.method, address.path])
        paths.setdefault(address.path, {})[address.method.lower()] = described
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Clerk gateway, admin listener",
            "version": __version__,
            "description": "For operators and the services behind. Every GET answers HEAD as well.",
        },
        "servers": [{"url": "/"}],
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "description": "admin.token"}},
            "parameters": {name: {"name": name, **each} for name, each in PARAMETERS.items()},
            "responses": {str(status): _refusal(why) for status, why in REFUSALS.items()},
            "schemas": SCHEMAS,
        },
    }


def _operation(path: str, operation: Operation) -> dict[str, Any]:
    names = [*re.findall(r"{(\w+)}", path), *operation.query]
    described: dict[str, Any] = {"operationId": operation.name, "summary": operation.summary}
    if operation.is_open:
        described["security"] = [{}, {"token": []}]  # needed off loopback
    parameters = [_ref("parameters", name) for name in names]
    answers: dict[str, Any] = {"200": {"description": "OK", "content": _json(_ref("schemas", operation.answer))}}
    if operation.tagged:
        parameters.append(_ref("parameters", "If-None-Match"))
        tag = {"schema": {"type": "string"}, "description": "of exactly these bytes"}
        answers["200"]["headers"] = {"ETag": tag}
        answers["304"] = {"description": "The client has it already", "headers": {"ETag": tag}}
    for status in sorted({401, 403, *operation.refusals}):
        answers[str(status)] = _ref("responses", str(status))
    if operation.body is not None:
        described["requestBody"] = {"content": _json(_ref("schemas", operation.body))}
    return described | ({"parameters": parameters} if parameters else {}) | {"responses": answers}


def _ref(kind: str, name: str) -> dict[str, str]:
    return {"$ref": f"#/components/{kind}/{name}"}


def _json(schema: Mapping[str, Any], media_type: str = "application/json") -> dict[str, Any]:
    return {media_type: {"schema": schema}}


def _refusal(why: str) -> dict[str, Any]:
    return {"description": why, "content": _json(_ref("schemas", "Problem"), PROBLEM)}
