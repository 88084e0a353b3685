"""The directory as services behind ask for it, over the admin listener, from a real store."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.core.directory import Row, row_of
from tests.fakes.clerk_events import NOW_MS, event, gone, membership, organization, user
from tests.fakes.gateway import Answer, settings
from tests.fakes.openapi import Document
from tests.fakes.operator import BEARER, Operator, is_problem, operated
from tests.fakes.postgres import Postgres, binaries, running_postgres

USER = {
    "id": "user_1", "email": "user_1@example.com", "email_verified": True, "name": "Ada Lovelace", "given_name": "Ada",
    "family_name": "Lovelace", "nickname": "ada", "picture": "https://img.example.com/a.png",
    "external_id": "ext-user_1", "banned": False, "locked": False, "public_metadata": {"tier": "gold"},
    "created_at": 1000, "updated_at": 2000, "deleted": False,
}  # fmt: skip
ORGANIZATION = {
    "id": "org_1", "name": "Acme", "slug": "acme", "picture": "https://img.example.com/o.png", "public_metadata": {},
    "created_at": 1000, "updated_at": 2000, "deleted": False,
}  # fmt: skip
MEMBERSHIP = {
    "id": "orgmem_1", "org_id": "org_1", "user_id": "user_1", "role": "org:admin", "public_metadata": {},
    "created_at": 1000, "updated_at": 2000, "deleted": False,
}  # fmt: skip
PATHS = {
    "/v1/users": "/v1/users", "/v1/users/{id}": "/v1/users/user_1", "/v1/changes": "/v1/changes",
    "/v1/organizations/{id}": "/v1/organizations/org_1",
    "/v1/organizations/{id}/members": "/v1/organizations/org_1/members",
}  # fmt: skip


def row(kind: str, data: dict[str, Any]) -> Row:
    made = row_of(event(kind, data))
    assert made is not None
    return made


ACME = (
    row("user.created", user()),
    row("organization.created", organization()),
    row("organizationMembership.created", membership()),
)


class Service:
    """A service behind that knows the admin token."""

    def __init__(self, operator: Operator) -> None:
        self.operator = operator
        self.directory = operator.running.app.directory

    async def learn(self, *rows: Row) -> None:
        await self.directory.merge(rows, now=NOW_MS)

    async def get(self, target: str, *lines: str, method: str = "GET") -> Answer:
        return await self.operator.ask(method, target, BEARER, *lines)

    async def ids(self, target: str) -> list[str]:
        answer = await self.get(target)
        assert answer.status == 200, answer.body
        return [each["id"] for each in answer.json["data"]]


@asynccontextmanager
async def serving(url: str) -> AsyncIterator[Service]:
    clerk = settings(1)["clerk"] | {"webhook_signing_secrets": ["whsec_c2VjcmV0c2VjcmV0c2VjcmV0"]}
    async with operated(clerk=clerk, store={"url": url}) as operator:
        while not operator.running.app.directory.is_up:
            await asyncio.sleep(0.01)
        yield Service(operator)


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    async with serving(f"sqlite:///{tmp_path / 'gateway.db'}") as started:
        await started.learn(*ACME)
        yield started


@pytest.mark.parametrize("target", PATHS.values())
async def test_nobody_gets_in_without_the_token(service: Service, target: str) -> None:
    for method in ("GET", "HEAD", "POST"):
        assert (await service.operator.ask(method, target)).status == 401
        assert (await service.operator.ask(method, target, "Authorization: Bearer wrong")).status == 401
    assert is_problem(await service.get(target, "Origin: https://evil.example"), 403, "forbidden", "origin")


async def test_one_is_shown_in_the_contracts_shape(service: Service) -> None:
    assert (await service.get("/v1/users/user_1")).json == USER
    assert (await service.get("/v1/organizations/org_1")).json == ORGANIZATION
    assert (await service.get("/v1/organizations/org_1/members")).json == {"data": [MEMBERSHIP], "next_cursor": None}
    assert (await service.get("/v1/users")).json == {"data": [USER], "next_cursor": None}


async def test_what_is_not_known_is_null(service: Service) -> None:
    await service.learn(row("user.created", {"id": "user_2"}))
    shown = (await service.get("/v1/users/user_2")).json
    assert list(shown) == list(USER)
    assert shown == dict.fromkeys(USER) | {
        "id": "user_2", "banned": False, "locked": False, "public_metadata": {}, "deleted": False
    }  # fmt: skip


@pytest.mark.parametrize("path", ["/v1/users/user_2", "/v1/organizations/org_2", "/v1/organizations/org_2/members"])
async def test_what_nobody_knows_is_not_found(service: Service, path: str) -> None:
    answer = await service.get(path)
    assert is_problem(answer, 404, "not_found", "user" if "users" in path else "organization")
    assert "deleted" not in answer.json


async def test_what_was_deleted_is_not_found_and_says_so(service: Service) -> None:
    await service.learn(row("user.deleted", gone("user_1")), row("organization.deleted", gone("org_1")))
    for path in ("/v1/users/user_1", "/v1/organizations/org_1", "/v1/organizations/org_1/members"):
        answer = await service.get(path)
        assert is_problem(answer, 404, "not_found", "user" if "users" in path else "organization")
        assert answer.json["deleted"] is True
        assert answer.value("etag") is None
        assert b"Ada" not in answer.body
    assert await service.ids("/v1/users") == []
    assert await service.ids("/v1/users?email=user_1@example.com") == []


@pytest.mark.parametrize("key", ["x" * 5000, "%ff", "%20", "user_1%20", "%C3%9C", "'%3BDROP%20TABLE", "a%0Ab", "..x"])
@pytest.mark.parametrize("path", ["/v1/users/{}", "/v1/organizations/{}", "/v1/organizations/{}/members"])
async def test_what_is_no_id_is_answered_all_the_same(service: Service, path: str, key: str) -> None:
    assert (await service.get(path.format(key))).status in (400, 404)
    assert service.directory.is_up


async def test_an_address_that_does_not_exist_is_no_unknown_user(service: Service) -> None:
    for path in ("/v1/user/user_1", "/v1/users/", "/v1/users/user_1/", "/v1/users/user_1/x", "/v1/organizations"):
        assert is_problem(await service.get(path), 404, "no_route")


@pytest.mark.parametrize("path", PATHS.values())
async def test_nothing_is_written_here(service: Service, path: str) -> None:
    for method in ("POST", "PUT", "DELETE"):
        answer = await service.get(path, method=method)
        assert is_problem(answer, 405, "method_not_allowed")
        assert answer.value("allow") == "GET, HEAD"


# --- lists -----------------------------------------------------------------------------------------------------------


async def test_users_are_found_by_email_in_any_case_and_by_external_id(service: Service) -> None:
    await service.learn(row("user.created", user("user_2")), row("user.created", user("user_3", external_id="Ö +&1")))
    assert await service.ids("/v1/users?email=USER_2@Example.com") == ["user_2"]
    assert await service.ids("/v1/users?external_id=ext-user_1") == ["user_1"]
    assert await service.ids("/v1/users?external_id=%C3%96%20%2B%261") == ["user_3"]
    assert await service.ids("/v1/users?external_id=%C3%96+%2B%261") == ["user_3"]
    assert await service.ids("/v1/users?external_id=EXT-user_1") == []
    assert await service.ids("/v1/users?email=user_1@example.com&external_id=ext-user_1") == ["user_1"]
    assert await service.ids("/v1/users?email=user_1@example.com&external_id=ext-user_2") == []
    for nobody in ("%25", "%ED%A0%80", "%FF", "user_1@example.com%20"):
        assert await service.ids(f"/v1/users?email={nobody}") == []
    assert await service.ids(f"/v1/users?email={'x' * 5000}") == []


async def test_long_lists_come_in_parts_that_miss_nobody(service: Service) -> None:
    people = [f"user_{number}" for number in range(1, 8)]
    await service.learn(
        *(row("user.created", user(key)) for key in people),
        *(row("organizationMembership.created", membership(f"orgmem_{key}", user_id=key)) for key in people),
        row("user.deleted", gone("user_4")),
    )
    for path, expected in (
        ("/v1/users", [key for key in people if key != "user_4"]),
        ("/v1/organizations/org_1/members", ["orgmem_1"] + [f"orgmem_{key}" for key in people if key != "user_4"]),
    ):
        found, cursor = [], ""
        while cursor is not None:
            part = (await service.get(f"{path}?limit=2{cursor and f'&cursor={cursor}'}")).json
            assert len(part["data"]) <= 2
            found += [each["id"] for each in part["data"]]
            cursor = part["next_cursor"]
        assert found == expected


async def test_the_last_part_has_no_cursor_even_where_it_is_full(service: Service) -> None:
    await service.learn(row("user.created", user("user_2")))
    assert (await service.get("/v1/users?limit=2")).json["next_cursor"] is None


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("limit=0", "limit"), ("limit=501", "limit"), ("limit=x", "limit"), ("limit=", "limit"), ("limit=1&limit=2", "limit"),
        ("cursor=", "cursor"), ("cursor=!", "cursor"), ("cursor=dXNlcl8x%3D", "cursor"), ("cursor=AAAA", "cursor"),
        ("cursor=%C3%9C", "cursor"), ("cursor=a", "cursor"), (f"cursor={'YWFh' * 200}", "cursor"),
        ("unknown=1", "parameter"), ("=1", "parameter"), ("Limit=1", "parameter"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/v1/users", "/v1/organizations/org_1/members"])
async def test_a_list_asked_for_wrongly_is_refused(service: Service, path: str, query: str, reason: str) -> None:
    assert is_problem(await service.get(f"{path}?{query}"), 400, "bad_request", reason)


@pytest.mark.parametrize(
    "query",
    ["email=", "email", "email=a@example.com&email=b@example.com", "email=%00", "email=a%00b", "external_id="],
)  # fmt: skip
async def test_a_filter_that_filters_nothing_gives_nobody(service: Service, query: str) -> None:
    answer = await service.get(f"/v1/users?{query}")
    assert is_problem(answer, 400, "bad_request", query.partition("=")[0])


async def test_a_parameter_for_one_is_refused(service: Service) -> None:
    for path in ("/v1/users/user_1?fields=id", "/v1/organizations/org_1?limit=1"):
        assert is_problem(await service.get(path), 400, "bad_request", "parameter")


async def test_metadata_nested_as_deep_as_can_be_stored_is_shown_everywhere(service: Service) -> None:
    deep: Any = {}
    for _ in range(249):
        deep = {"a": deep}
    await service.learn(row("user.updated", user("user_2", public_metadata=deep)))
    assert (await service.get("/v1/users/user_2")).json["public_metadata"] == deep
    assert await service.ids("/v1/users") == ["user_1", "user_2"]
    assert "user_2" in await service.ids("/v1/changes")


# --- changes ---------------------------------------------------------------------------------------------------------


async def test_changes_are_told_in_order_each_thing_once_and_as_it_is(service: Service) -> None:
    await service.learn(row("user.updated", user(updated_at=9000, username="countess")))
    answer = (await service.get("/v1/changes")).json
    told = answer["data"]
    assert [(each["number"], each["kind"], each["id"]) for each in told] == [
        (2, "organization", "org_1"), (3, "membership", "orgmem_1"), (4, "user", "user_1"),
    ]  # fmt: skip
    assert (answer["next_cursor"], answer["last"]) == (None, 4)
    assert told[0]["organization"] == ORGANIZATION
    assert told[1]["membership"] == MEMBERSHIP
    assert told[2] == {
        "number": 4, "changed_at": NOW_MS, "kind": "user", "id": "user_1", "deleted": False,
        "user": USER | {"nickname": "countess", "updated_at": 9000},
    }  # fmt: skip


async def test_a_deletion_is_a_change_that_tells_nothing_more_of_a_person(service: Service) -> None:
    await service.learn(row("user.deleted", gone("user_1")))
    (change,) = (await service.get("/v1/changes?since=3")).json["data"]
    assert (change["deleted"], change["user"]["deleted"]) == (True, True)
    left = {name: value for name, value in change["user"].items() if value}
    assert left == {"id": "user_1", "updated_at": NOW_MS, "deleted": True}


async def test_a_follower_misses_nothing(service: Service) -> None:
    since, seen = 0, []
    for number in range(2, 6):
        await service.learn(row("user.created", user(f"user_{number}")))
        more: str | None = "yes"
        while more is not None:
            answer = (await service.get(f"/v1/changes?since={since}&limit=2")).json
            seen += [each["id"] for each in answer["data"]]
            more, since = answer["next_cursor"], answer["last"]
            assert more in (None, str(since))
    assert seen == ["user_1", "org_1", "orgmem_1", "user_2", "user_3", "user_4", "user_5"]
    assert (await service.get(f"/v1/changes?since={since}")).json == {"data": [], "next_cursor": None, "last": since}


async def test_a_cursor_goes_on_as_in_any_list(service: Service) -> None:
    first = (await service.get("/v1/changes?limit=2")).json
    assert await service.ids(f"/v1/changes?since=0&limit=2&cursor={first['next_cursor']}") == ["orgmem_1"]


@pytest.mark.parametrize(
    "query", ["since=-1", "since=x", "since=", "since=1e3", "since=9999999999999999", "since=1&since=1"]
)
async def test_a_since_that_is_no_number_is_refused(service: Service, query: str) -> None:
    assert is_problem(await service.get(f"/v1/changes?{query}"), 400, "bad_request", "since")


async def test_a_number_that_this_directory_has_not_given_is_refused(service: Service) -> None:
    answer = await service.get("/v1/changes?since=4")
    assert is_problem(answer, 400, "bad_request", "since")
    assert answer.json["last"] == 3
    assert (await service.get("/v1/changes?since=3")).status == 200
    assert is_problem(await service.get("/v1/changes?since=999999999999999"), 400, "bad_request", "since")


# --- what the client has already -------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", PATHS.values())
async def test_an_answer_can_be_asked_after(service: Service, target: str) -> None:
    answer = await service.get(target)
    tag = answer.value("etag") or ""
    assert tag.startswith('"')
    assert answer.value("cache-control") == "private, no-cache"
    for sent in (tag, f'"x", {tag}', f"W/{tag}", "*", f'"x"\r\nIf-None-Match: {tag}'):
        unchanged = await service.get(target, f"If-None-Match: {sent}")
        assert (unchanged.status, unchanged.value("etag")) == (304, tag)
        assert unchanged.value("cache-control") == "private, no-cache"
        assert unchanged.value("content-length") is None
        assert unchanged.value("content-type") is None
    for sent in ('"x"', "", tag[:-2] + '"', tag.strip('"')):
        assert (await service.get(target, f"If-None-Match: {sent}")).status == 200
    assert (await service.operator.ask("GET", target, f"If-None-Match: {tag}")).status == 401


async def test_a_tag_changes_with_what_it_stands_for(service: Service) -> None:
    before = {target: (await service.get(target)).value("etag") for target in PATHS.values()}
    await service.learn(
        row("user.updated", user(updated_at=9000, public_metadata={"tier": "lead"})),
        row("organization.updated", organization(updated_at=9000, name="Acme 2")),
        row("organizationMembership.updated", membership(updated_at=9000, role="org:member")),
    )
    for target, tag in before.items():
        answer = await service.get(target, f"If-None-Match: {tag}")
        assert answer.status == 200
        assert answer.value("etag") != tag


@pytest.mark.parametrize("target", PATHS.values())
async def test_head_gives_the_same_fields(service: Service, target: str) -> None:
    get, head = await service.get(target), await service.get(target, method="HEAD")
    for name in ("etag", "content-length", "content-type", "cache-control"):
        assert head.value(name) == get.value(name)
    assert (await service.get(target, f"If-None-Match: {get.value('etag')}", method="HEAD")).status == 304


# --- without a store -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", PATHS.values())
async def test_without_a_store_it_is_unavailable(target: str) -> None:
    async with operated() as operator:
        answer = await operator.ask("GET", target, BEARER)
    assert is_problem(answer, 503, "store_unavailable")
    assert answer.value("retry-after") == "5"


@pytest.mark.parametrize("path", ["/v1/users/{}", "/v1/organizations/{}", "/v1/organizations/{}/members"])
async def test_no_database_has_to_take_what_is_no_id(path: str) -> None:
    async with operated() as operator:
        for key in ("x" * 256, "a%20b", "%C3%9C"):
            assert is_problem(
                await operator.ask("GET", path.format(key), BEARER), 404, "not_found", path.split("/")[2][:-1]
            )


# --- as described, on either database --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def postgres() -> Any:
    if binaries() is None:
        pytest.skip("no PostgreSQL here: apt-get install postgresql")
    with running_postgres() as server:
        yield server


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_answers_are_as_the_document_says(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    if kind == "sqlite":
        url = f"sqlite:///{tmp_path / 'gateway.db'}"
    else:
        server: Postgres = request.getfixturevalue("postgres")
        url = await asyncio.to_thread(_migrated, server.database())
    async with serving(url) as service:
        await service.learn(*ACME, row("user.deleted", gone("user_2")))
        document = Document((await service.get("/openapi.json")).json)
        for path, target in PATHS.items():
            answer = await service.get(target)
            assert answer.status == 200
            document.check_answer(answer, "GET", path)
            document.check_answer(await service.get(target, f"If-None-Match: {answer.value('etag')}"), "GET", path)
            document.check_answer(await service.get(f"{target}?x=1"), "GET", path)
        for key in ("user_2", "user_3"):
            document.check_answer(await service.get(f"/v1/users/{key}"), "GET", "/v1/users/{id}")
        document.check_answer(await service.get("/v1/changes?since=99"), "GET", "/v1/changes")


def _migrated(url: str) -> str:
    from gateway.store.database import Database

    Database(url, migrating=True).close()
    return url
