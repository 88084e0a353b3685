"""Lists come in parts, on the example of `/v1/routes`."""

from collections.abc import AsyncIterator

import pytest

from gateway.web.paging import MOST
from tests.fakes.operator import BEARER, Operator, is_problem, operated


@pytest.fixture
async def operator() -> AsyncIterator[Operator]:
    async with operated() as started:
        yield started


async def test_a_long_list_comes_in_parts(operator: Operator) -> None:
    names, cursor = [], "0"
    while cursor is not None:
        part = (await operator.ask("GET", f"/v1/routes?limit=3&cursor={cursor}", BEARER)).json
        assert len(part["data"]) <= 3
        names += [route["name"] for route in part["data"]]
        cursor = part["next_cursor"]
    assert names == ["public", "optional", "admin", "rest"]


@pytest.mark.parametrize("limit", ["0", "-1", str(MOST + 1), "x", "", "1e2", "%D9%A3", "9" * 30])
async def test_a_limit_that_is_none_is_refused(operator: Operator, limit: str) -> None:
    assert is_problem(await operator.ask("GET", f"/v1/routes?limit={limit}", BEARER), 400, "bad_request", "limit")


@pytest.mark.parametrize("cursor", ["-1", "x", "", "9" * 30])
async def test_a_cursor_that_is_none_is_refused(operator: Operator, cursor: str) -> None:
    assert is_problem(await operator.ask("GET", f"/v1/routes?cursor={cursor}", BEARER), 400, "bad_request", "cursor")
