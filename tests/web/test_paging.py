"""Lists come in parts: those that are all there on the example of `/v1/routes`, those by id by themselves.

Over the listener, those by id are asked for in `test_admin_directory`.
"""

from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.directory import User
from gateway.core.events import NAME
from gateway.errors import BadRequest
from gateway.web.paging import MOST, after, part
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


async def test_a_parameter_that_is_not_known_is_refused(operator: Operator) -> None:
    for query, reason in (("limt=1", "parameter"), ("limit=1&limit=1", "limit"), ("cursor=1&x", "parameter")):
        assert is_problem(await operator.ask("GET", f"/v1/routes?{query}", BEARER), 400, "bad_request", reason)


@given(st.from_regex(NAME, fullmatch=True))
def test_a_cursor_leads_behind_whatever_it_was_made_of(key: str) -> None:
    given_part = part((User(key), User("next")), 1, shown=lambda user: user.id)
    assert given_part["data"] == [key]
    assert after({"cursor": given_part["next_cursor"]}) == key


def test_the_last_part_has_no_cursor() -> None:
    users = (User("a"), User("b"))
    assert part(users, 2, shown=lambda user: user.id) == {"data": ["a", "b"], "next_cursor": None}
    assert part((), 2, shown=lambda user: user.id) == {"data": [], "next_cursor": None}
    assert after({}) == ""


@given(st.text())
def test_a_cursor_is_taken_only_as_it_was_given(cursor: str) -> None:
    try:
        key = after({"cursor": cursor})
    except BadRequest as refused:
        assert refused.reason == "cursor"
    else:
        assert cursor == "" or part((User(key), User("next")), 1, shown=id)["next_cursor"] == cursor
