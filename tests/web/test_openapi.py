"""The admin listener's description: nothing served is missing from it, nothing in it is made up."""

import re
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway import __version__
from gateway.web.local import Address
from gateway.web.openapi import document
from gateway.web.operations import OPERATIONS, SCHEMAS
from tests.fakes.openapi import Document
from tests.fakes.operator import ADMIN, BEARER, Operator, is_problem, operated


@pytest.fixture
async def operator() -> AsyncIterator[Operator]:
    async with operated() as started:
        yield started


@pytest.fixture
async def described(operator: Operator) -> Document:
    return Document((await operator.ask("GET", "/openapi.json", BEARER)).json)


def served(operator: Operator) -> set[tuple[str, str]]:
    """Every address that the listener's application has, in aiohttp's own words."""
    router = operator.running.app._own[1].app.router
    return {
        (route.method, route.resource.canonical)
        for route in router.routes()
        if route.resource is not None and route.method != "HEAD"
    }


def operations(described: Document) -> dict[tuple[str, str], dict[str, Any]]:
    paths = described.content["paths"]
    return {(method.upper(), path): each for path, methods in paths.items() for method, each in methods.items()}


async def test_what_is_served_is_described_and_the_other_way_round(operator: Operator, described: Document) -> None:
    assert set(operations(described)) == served(operator)
    assert set(OPERATIONS) == served(operator)


async def test_it_is_behind_the_token_and_can_be_asked_after(operator: Operator) -> None:
    assert is_problem(await operator.ask("GET", "/openapi.json"), 401, "missing_credential")
    answer = await operator.ask("GET", "/openapi.json", BEARER)
    assert (answer.status, answer.value("content-type")) == (200, "application/json")
    assert (await operator.ask("GET", "/openapi.json", BEARER, f"If-None-Match: {answer.value('etag')}")).status == 304
    assert (await operator.ask("HEAD", "/openapi.json", BEARER)).value("etag") == answer.value("etag")


async def test_it_is_openapi(described: Document) -> None:
    content = described.content
    assert content["openapi"] == "3.1.0"
    assert content["info"]["version"] == __version__
    assert set(content) == {"openapi", "info", "servers", "security", "paths", "components"}
    assert all(re.fullmatch(r"[a-zA-Z0-9._-]+", name) for kind in content["components"].values() for name in kind)
    names = [each["operationId"] for each in operations(described).values()]
    assert len(names) == len(set(names))


async def test_every_reference_leads_somewhere_and_everything_is_referred_to(described: Document) -> None:
    references = set(described.references())
    for reference in references:
        assert described.resolved({"$ref": reference})
    kinds = described.content["components"]
    meant = {f"#/components/{kind}/{name}" for kind in kinds if kind != "securitySchemes" for name in kinds[kind]}
    assert references == meant


async def test_parameters_of_a_path_are_described(described: Document) -> None:
    for (_, path), operation in operations(described).items():
        parameters = [described.resolved(each) for each in operation.get("parameters", ())]
        named = [each["name"] for each in parameters if each["in"] == "path"]
        assert named == re.findall(r"{(\w+)}", path)
        assert all(each["required"] for each in parameters if each["in"] == "path")


async def test_what_it_says_of_the_token_is_so(operator: Operator, described: Document) -> None:
    for (method, path), operation in operations(described).items():
        status = (await operator.ask(method, path.replace("{id}", "x"))).status
        is_open = {} in operation.get("security", described.content["security"])
        assert (status != 401) is is_open, path


async def test_what_it_says_of_a_query_is_so(operator: Operator, described: Document) -> None:
    """Without a store each of these ends with 503, unless the query is refused before."""
    for (method, path), operation in operations(described).items():
        parameters = [described.resolved(each) for each in operation.get("parameters", ())]
        names = {each["name"]: each["schema"] for each in parameters if each["in"] == "query"}
        for name, schema in names.items():
            target = f"{path.replace('{id}', 'x')}?{name}="
            # "MQ" is a cursor where lists go by id.
            values = schema.get("enum", ("1", "MQ", "false"))
            statuses = {(await operator.ask(method, target + value, BEARER)).status for value in values}
            assert statuses & {200, 503}, target
        if names and method == "GET":
            unknown = await operator.ask(method, f"{path.replace('{id}', 'x')}?x=1", BEARER)
            assert is_problem(unknown, 400, "bad_request", "parameter")


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/v1/routes", "/openapi.json"])
async def test_answers_are_as_it_says(operator: Operator, described: Document, path: str) -> None:
    described.check_answer(await operator.ask("GET", path, BEARER), "GET", path)
    if path.startswith("/v1"):
        described.check_answer(await operator.ask("GET", path), "GET", path)
        described.check_answer(await operator.ask("GET", f"{path}?limit=0", BEARER), "GET", path)
    described.check_answer(await operator.ask("GET", path, BEARER, "Origin: https://evil.example"), "GET", path)


async def test_a_reload_is_as_it_says(operator: Operator, described: Document) -> None:
    described.check_answer(await operator.ask("POST", "/v1/reload", BEARER), "POST", "/v1/reload")
    operator.running.file.write(1, admin=ADMIN, listn={})
    refused = await operator.ask("POST", "/v1/reload", BEARER)
    assert refused.status == 400
    described.check_answer(refused, "POST", "/v1/reload")


async def test_a_draining_gateway_is_as_it_says(operator: Operator, described: Document) -> None:
    operator.running.app.listener.draining = True
    described.check_answer(await operator.ask("GET", "/readyz"), "GET", "/readyz")


def test_an_address_that_nobody_described_stops_the_start() -> None:
    with pytest.raises(KeyError):
        document([Address("GET", "/v1/made-up", None)])  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["User", "Organization", "Membership"])
def test_a_row_is_described_as_it_is_shown(kind: str) -> None:
    from gateway.core import directory
    from gateway.web.admin_directory import SHOWN

    assert tuple(SCHEMAS[kind]["properties"]) == SHOWN[getattr(directory, kind)] or kind != "User"
    assert set(SCHEMAS[kind]["properties"]) == set(SHOWN[getattr(directory, kind)])
