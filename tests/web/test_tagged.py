"""Answers with an entity tag; how the admin listener gives them is in `test_admin_directory`."""

import pytest
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict

from gateway.web.tagged import tagged


def asked(*tags: str) -> int:
    request = make_mocked_request("GET", "/", CIMultiDict([("If-None-Match", tag) for tag in tags]))
    return tagged(request, {"a": 1}).status


TAG = tagged(make_mocked_request("GET", "/"), {"a": 1}).headers["ETag"]


def test_a_tag_stands_for_the_bytes() -> None:
    request = make_mocked_request("GET", "/")
    assert tagged(request, {"a": 1}).headers["ETag"] == TAG
    assert tagged(request, {"a": 2}).headers["ETag"] != TAG
    assert not TAG.startswith("W/")


@pytest.mark.parametrize("sent", [(TAG,), (f"W/{TAG}",), ("*",), ('"x"', TAG), (f'"x" ,{TAG} ,"y"',), (f",,{TAG}",)])
def test_who_has_it_is_told_so(sent: tuple[str, ...]) -> None:
    assert asked(*sent) == 304


@pytest.mark.parametrize("sent", [(), ("",), (TAG[1:-1],), ('"x"',), (TAG[:-2] + '"',), (f"w/{TAG}",), (TAG.upper(),)])
def test_who_has_another_gets_it(sent: tuple[str, ...]) -> None:
    assert asked(*sent) == 200
