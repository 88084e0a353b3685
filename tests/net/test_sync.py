import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.core.directory import claims_row
from gateway.core.reconcile import SETTLED_MS, STAGES, Tally
from gateway.core.verify import KeySet, parse_jwks
from gateway.errors import ClerkApiDown, ClerkApiRefused, SyncRefused
from gateway.net.clerk_api import ClerkApi
from gateway.net.clerk_client import open_session
from gateway.net.jwks import StaticKeys
from gateway.net.sync import BELIEVED, Page, instance_of, reconciled
from gateway.store.database import Database
from tests.fakes import clerk_events as shapes
from tests.fakes.clerk import FakeClerk
from tests.fakes.clerk_api import Canned, FakeBackendApi, World, errors
from tests.fakes.syncing import NOW_MS, Direct, Time, living, opened, run, synced

LONG_AGO = NOW_MS - 60_000


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with opened(tmp_path) as made:
        yield made


@pytest.fixture
def world() -> World:
    made = World()
    for number in range(5):
        made.add_user(f"user_{number}", created_at=1000 + number)
    made.add_organization("org_1")
    for number in range(3):
        made.add_membership(f"orgmem_{number}", user_id=f"user_{number}", org_id="org_1", created_at=2000 + number)
    return made


def heard(database: Database, kind: str, data: dict[str, Any], *, at: int = LONG_AGO) -> None:
    """Receive a webhook."""
    database.put([shapes.arrival(f"{kind} {data['id']} {at}", kind, data, at=at, received_at=at)])


def test_everything_is_filled_in(database: Database, world: World) -> None:
    done = synced(database, world, Time())
    assert set(living(database)) == {f"user_{n}" for n in range(5)} | {"org_1"} | {f"orgmem_{n}" for n in range(3)}
    assert (done.of("users").added, done.of("organizations").added, done.of("memberships").added) == (5, 1, 3)
    assert synced(database, world, Time(NOW_MS + 9)).total == Tally(same=9)


def test_what_is_gone_is_asked_for_and_then_buried(database: Database, world: World) -> None:
    for key in ("user_8", "user_9"):
        heard(database, "user.created", shapes.user(key))
    heard(database, "organization.created", shapes.organization("org_9"))
    for key, org in (("orgmem_8", "org_1"), ("orgmem_9", "org_9")):
        heard(database, "organizationMembership.created", shapes.membership(key, user_id="user_8", org_id=org))
    asked: list[str] = []
    done = synced(database, world, Time(), before=asked.append)
    assert done.total == Tally(added=9, gone=5)
    assert not set(living(database)) & {"user_8", "user_9", "org_9", "orgmem_8", "orgmem_9"}
    for path in ("/users/user_8", "/users/user_9", "/organizations/org_9", "/organizations/org_1/memberships"):
        assert path in asked


def test_who_is_there_when_asked_for_is_not_gone(database: Database, world: World) -> None:
    """A list may lack somebody: it was read while others were deleted, or it was asked for wrongly."""
    heard(database, "user.created", shapes.user("user_2", created_at=1002, username="old", updated_at=1))
    heard(database, "organization.created", shapes.organization("org_1", created_at=1000, name="Old", updated_at=1))
    lists = Hiding(world)
    done = synced(database, lists, Time())
    assert (done.of("users").mended, done.of("organizations").mended) == (1, 1)
    assert done.total.gone == 0
    assert {"user_2", "org_1"} <= set(living(database))


class Hiding(World):
    """Its lists lack `user_2`, whoever asks for it in a list, and every organisation."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.members = world.members

    def users(self, **asked: Any) -> list[dict[str, Any]]:
        return [each for each in super().users(**asked) if each["id"] != "user_2"]

    def organizations(self, **asked: Any) -> list[dict[str, Any]]:
        return []

    def total(self, of: str, org_id: str | None = None) -> int:
        return 0 if of == "organizations" else super().total(of, org_id)


# --- each is counted once ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("apart", [0, 1], ids=["of-one-moment", "one-after-the-other"])
@pytest.mark.parametrize("limit", [2, 3, 4, 500])
def test_each_is_counted_once(database: Database, limit: int, apart: int) -> None:
    """As `gateway dev` has them: created together, and the pages overlap."""
    world = World()
    for number in range(4):
        world.add_user(f"user_{number}", created_at=1000 + apart * number)
    for number in range(2):
        world.add_organization(f"org_{number}", created_at=1000 + apart * number)
    for number in range(3):
        made = {"user_id": f"user_{number}", "org_id": "org_1", "created_at": 1000 + apart * number}
        world.add_membership(f"orgmem_{number}", **made)
    assert synced(database, world, Time(), limit=limit).total == Tally(added=9)
    asked: list[str] = []
    done = synced(database, world, Time(NOW_MS + 60_000), limit=limit, before=asked.append)
    assert [done.of(stage) for stage in STAGES] == [Tally(same=4), Tally(same=2), Tally(same=3)]
    assert not [path for path in asked if "_" in path.removeprefix("/organization_")]  # nobody by an id


def test_who_is_known_from_a_token_alone_is_counted_on_the_page_that_has_him(database: Database) -> None:
    """Nobody knows when he was created, so the first page has him asked for."""
    world = World()
    for number in range(6):
        world.add_user(f"user_{number}", created_at=1000 + number)
    row = claims_row("user_4", {"email": "ada@example.com"})
    assert row is not None
    database.directory.merge([row], now=LONG_AGO)
    done = synced(database, world, Time(), limit=2)
    assert (done.of("users"), done.missing) == (Tally(added=5, mended=1), 0)


@pytest.mark.parametrize("tied", [3, 5000], ids=["more-than-is-remembered", "all-remembered"])
def test_deletions_that_move_the_pages_have_nobody_counted_again(
    database: Database, monkeypatch: pytest.MonkeyPatch, tied: int
) -> None:
    monkeypatch.setattr("gateway.core.reconcile.TIED", tied)
    world = World()
    for number in range(40):
        world.add_organization(f"org_{number:02d}", created_at=number // 20)
    synced(database, world, Time(), limit=10)

    def meanwhile(path: str) -> None:
        asked.append(path)
        if path == "/organizations" and asked.count(path) == 5:
            for number in range(8):
                world.delete("organizations", f"org_{number:02d}")

    asked: list[str] = []
    done = synced(database, world, Time(NOW_MS + 60_000), limit=10, before=meanwhile).of("organizations")
    assert done.gone == 0
    assert done.same == 40 if tied == 5000 else done.same >= 40


def test_a_moment_with_more_than_is_remembered_is_counted_once(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.core.reconcile.TIED", 3)
    world = World()
    for number in range(9):
        world.add_user(f"user_{number}")
    world.add_user("user_9", created_at=1001)
    synced(database, world, Time(), limit=4)
    assert synced(database, world, Time(NOW_MS + 60_000), limit=4).of("users") == Tally(same=10)


# --- a list that is not all there is ----------------------------------------------------------------------------------


class Short(World):
    """Its list of users ends after so many."""

    def __init__(self, world: World, length: int) -> None:
        super().__init__()
        self.members, self.length = world.members, length

    def users(self, *, ids: Any, after: int | None, offset: int, limit: int) -> list[dict[str, Any]]:
        every = super().users(ids=ids, after=None, offset=0, limit=500)
        some = [each for each in every[: self.length] if after is None or each["created_at"] > after]
        return some[offset : offset + limit]


@pytest.mark.parametrize("dry", [True, False])
def test_a_list_that_ends_too_early_is_found_out(database: Database, world: World, dry: bool) -> None:
    time = Time()
    done = synced(database, Short(world, 3), time, limit=2, dry=dry)
    assert (done.missing, done.stage, done.of("memberships").added) == (2, None, 3)
    assert time.at >= NOW_MS + SETTLED_MS  # it was counted once more when every copy must know
    assert synced(database, world, time, limit=2, dry=dry).missing == 0  # begun anew


def test_that_users_are_missing_is_not_forgotten_by_who_goes_on(database: Database, world: World) -> None:
    async def twice() -> None:
        async with FakeBackendApi(Short(world, 3)) as clerk:
            clerk.before = lambda path: clerk.canned.extend([Canned(400)] if path == "/organizations" else [])
            with pytest.raises(ClerkApiDown):
                await run(database, clerk, Time())
            clerk.before = lambda path: None
            assert (await run(database, clerk, Time(NOW_MS + 60_000))).missing == 2

    asyncio.run(twice())


def test_who_comes_and_goes_meanwhile_is_not_missing(database: Database, world: World) -> None:
    def meanwhile(path: str) -> None:
        if path == "/users" and "user_9" not in world.members["users"]:
            world.delete("users", "user_3")
            world.delete("users", "user_4")
            world.add_user("user_9", created_at=9000)

    assert synced(database, world, Time(), before=meanwhile).missing == 0


async def test_a_run_that_lacks_users_is_not_done(database: Database, world: World) -> None:
    async with FakeBackendApi(Short(world, 3)) as clerk, open_session() as session:
        api = ClerkApi(clerk.url, clerk.secret_key, session, share=100)
        given: dict[str, Any] = {"instance": ["ins_1"], "anew": False, "now": lambda: NOW_MS, "on_page": lambda page: 0}
        clerk.population = Short(world, 3)
        monkey = pytest.MonkeyPatch()
        monkey.setattr("gateway.net.sync.SETTLED_MS", 1)
        try:
            assert (await reconciled(api, Direct(database), **given)).missing == 2
        finally:
            monkey.undo()
        assert finished(database) is None
        clerk.population = world
        assert (await reconciled(api, Direct(database), **given)).missing == 0
        assert finished(database) == NOW_MS


def finished(database: Database) -> Any:
    return database.read(
        lambda connection: connection.exec_driver_sql("SELECT finished_at FROM gateway_sync").scalar_one()
    )


# --- memberships ------------------------------------------------------------------------------------------------------


class Filtering(World):
    """It finds nobody in an organisation by who it is, as if the filter were another one."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.members, self.hidden = world.members, {"orgmem_1"}

    def memberships(self, org_id: str | None, *, users: Any, offset: int, limit: int) -> list[dict[str, Any]]:
        if org_id is not None and users:
            return []
        found = super().memberships(org_id, users=users, offset=offset, limit=limit)
        return [each for each in found if users or each["id"] not in self.hidden]


def test_nothing_is_buried_because_a_filter_finds_nothing(database: Database, world: World) -> None:
    synced(database, world, Time())
    heard(database, "organizationMembership.created", shapes.membership("orgmem_9", user_id="user_1", org_id="org_1"))
    done = synced(database, Filtering(world), Time(NOW_MS + 60_000))
    assert done.of("memberships") == Tally(same=3, gone=1)
    assert {"orgmem_0", "orgmem_1", "orgmem_2"} <= set(living(database))


def test_who_left_is_refused_and_who_came_back_is_not(database: Database, world: World) -> None:
    """Of neither a webhook came."""
    synced(database, world, Time())
    for key in ("orgmem_1", "orgmem_2"):
        world.delete("memberships", key)
    world.add_membership("orgmem_9", user_id="user_1", org_id="org_1", created_at=9000)
    done = synced(database, world, Time(NOW_MS + 60_000))
    assert done.of("memberships") == Tally(same=1, added=1, gone=2)
    assert refused(database) == [("user_2", "org_1")]


def test_who_came_back_on_a_later_page_is_not_refused(database: Database, world: World) -> None:
    synced(database, world, Time())
    world.delete("memberships", "orgmem_0")
    world.add_membership("orgmem_9", user_id="user_0", org_id="org_1", created_at=9000)
    done = synced(database, world, Time(NOW_MS + 60_000), limit=2)
    assert done.of("memberships") == Tally(same=2, added=1, gone=1)
    assert refused(database) == []


def test_a_backfill_refuses_nobody(database: Database, world: World) -> None:
    world.add_user("user_7", banned=True)
    world.add_user("user_8", locked=True)
    synced(database, world, Time())
    assert refused(database) == []
    world.add_user("user_1", created_at=1001, banned=True, updated_at=5000)
    synced(database, world, Time(NOW_MS + 60_000))
    assert refused(database) == [("user_1", None)]


def refused(database: Database) -> list[tuple[str | None, str | None]]:
    return [(each.user, each.org) for _, each in database.revocations.since(0)]


def test_many_are_gone_at_once(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.net.sync.SUSPECTS", 4)
    for number in range(9):
        heard(database, "user.created", shapes.user(f"user_{number}"))
    world = World()
    world.add_user("user_4", created_at=1000)
    pages: list[Page] = []
    dry = synced(database, world, Time(), dry=True, pages=pages)
    assert dry.total.gone == 8
    assert [new.deleted for page in pages for _, new in page.changed] == [True] * 8
    assert len(living(database)) == 9
    assert synced(database, world, Time()).total.gone == 8
    assert list(living(database)) == ["user_4"]


def test_a_dry_run_writes_nothing(database: Database, world: World) -> None:
    heard(database, "user.created", shapes.user("user_9"))
    before = database.directory.last_change()
    done = synced(database, world, Time(), dry=True)
    assert done.total == Tally(added=9, gone=1)
    assert database.directory.last_change() == before
    assert database.syncing.last(now=7) == 7  # nobody was ever waited for, or ran


def test_a_run_that_is_broken_off_goes_on_there(database: Database) -> None:
    world = World()
    for number in range(10):
        world.add_user(f"user_{number}", created_at=1000 + number)
    time = Time()

    async def twice() -> None:
        async with FakeBackendApi(world) as clerk:
            clerk.before = lambda path: clerk.canned.extend([Canned(400)] if len(clerk.requests) == 4 else [])
            with pytest.raises(ClerkApiDown):
                await run(database, clerk, time, limit=4)
            known = len(living(database))
            assert 4 <= known < 10
            clerk.before = lambda path: None
            clerk.requests.clear()
            done = await run(database, clerk, time, limit=4)
            assert done.total == Tally(added=10)
            assert "created_at_after" in next(asked for asked in clerk.requests if "/users?" in asked)

    asyncio.run(twice())
    assert len(living(database)) == 10


def test_an_instance_without_organisations(database: Database, world: World) -> None:
    heard(database, "organization.created", shapes.organization("org_9"))

    async def served() -> None:
        async with FakeBackendApi(world) as clerk:
            clerk.with_organizations = False
            done = await run(database, clerk, Time())
            assert done.total == Tally(added=5)
            assert done.stage is None

    asyncio.run(served())
    assert "org_9" in living(database)  # switched off is not deleted


def test_a_key_that_is_refused_ends_the_run(database: Database, world: World) -> None:
    async def served() -> None:
        async with FakeBackendApi(world) as clerk:
            clerk.canned.append(Canned(401, errors("clerk_key_invalid")))
            with pytest.raises(ClerkApiRefused):
                await run(database, clerk, Time())
            clerk.canned += [Canned(200, b'{"total_count": 0}'), Canned(200, b"[]"), Canned(200, b'{"total_count": 0}')]
            clerk.canned += [Canned(403, errors("authorization_invalid"))]
            with pytest.raises(ClerkApiRefused):
                await run(database, clerk, Time())

    asyncio.run(served())


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 8, 9, 50])
@pytest.mark.parametrize("most", [500, 3], ids=["as-asked", "fewer-than-asked-for"])
def test_all_of_one_moment_are_found(database: Database, size: int, most: int) -> None:
    """As after an import that gives everybody the same date."""
    world = World()
    for number in range(size):
        world.add_user(f"user_{number}")
        world.add_organization(f"org_{number}")

    async def served() -> Tally:
        async with FakeBackendApi(world) as clerk:
            clerk.most = most
            return (await run(database, clerk, Time(), limit=4)).total

    assert asyncio.run(served()) == Tally(added=2 * size)
    assert len(living(database)) == 2 * size


def test_deletions_that_move_the_pages_hide_nobody(database: Database) -> None:
    world = World()
    for number in range(60):
        world.add_organization(f"org_{number:02d}", created_at=number)

    def meanwhile(path: str) -> None:
        asked.append(path)
        if path == "/organizations" and asked.count(path) == 3:
            for number in range(15):
                world.delete("organizations", f"org_{number:02d}")

    asked: list[str] = []
    synced(database, world, Time(), limit=10, before=meanwhile)
    assert {f"org_{number:02d}" for number in range(15, 60)} <= set(living(database))


def test_a_tombstone_stands(database: Database, world: World) -> None:
    heard(database, "user.deleted", shapes.gone("user_1"))
    done = synced(database, world, Time())
    assert done.of("users") == Tally(added=4, erased=1)
    found = database.directory.user("user_1")
    assert found is not None
    assert found.deleted


async def test_only_one_runs_and_lets_go(database: Database, world: World) -> None:
    pages: list[Page] = []
    async with FakeBackendApi(world) as clerk, open_session() as session:
        api = ClerkApi(clerk.url, clerk.secret_key, session)
        clerk.hold = asyncio.Event()
        given: dict[str, Any] = {"instance": ["ins_1"], "anew": False, "now": lambda: NOW_MS, "on_page": pages.append}
        first = asyncio.create_task(reconciled(api, Direct(database), **given))
        while not clerk.requests:
            await asyncio.sleep(0.001)
        with pytest.raises(SyncRefused):
            await reconciled(api, Direct(database), **given)
        clerk.hold.set()
        assert (await first).total.added == 9
        assert pages[-1].progress.stage is None
        assert database.syncing.last(now=0) == NOW_MS
        # One that is broken off lets go as well.
        clerk.hold = asyncio.Event()
        second = asyncio.create_task(reconciled(api, Direct(database), **given))
        clerk.requests.clear()
        while not clerk.requests:
            await asyncio.sleep(0.001)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        clerk.hold.set()
        assert (await reconciled(api, Direct(database), **given)).total.same == 9


async def test_a_sign_of_life_is_given_while_clerk_is_waited_for(
    database: Database, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.net.sync.ALIVE_S", 0.01)
    now = NOW_MS
    async with FakeBackendApi(world) as clerk, open_session() as session:
        api = ClerkApi(clerk.url, clerk.secret_key, session)
        clerk.hold = asyncio.Event()
        given: dict[str, Any] = {"instance": (), "anew": False, "now": lambda: now, "on_page": lambda page: None}
        first = asyncio.create_task(reconciled(api, Direct(database), **given))
        while not clerk.requests:
            await asyncio.sleep(0.001)
        now += 50_000
        while held_until(database) < now:
            await asyncio.sleep(0.001)
        clerk.hold.set()
        await first


def held_until(database: Database) -> int:
    return (
        database.read(
            lambda connection: int(connection.exec_driver_sql("SELECT held_until FROM gateway_sync").scalar_one())
        )
        - 60_000
    )


# --- whose users ------------------------------------------------------------------------------------------------------


def jwks(clerk: FakeClerk) -> bytes:
    return orjson.dumps(clerk.jwks())


def by_kid(clerk: FakeClerk) -> StaticKeys:
    return StaticKeys(parse_jwks(jwks(clerk)))


def any_kid(clerk: FakeClerk) -> StaticKeys:
    return StaticKeys(KeySet({}, any_kid=clerk.key.public_key()))


@pytest.mark.parametrize("make", [by_kid, any_kid, lambda _: None], ids=["named", "from-pem", "unknown"])
async def test_whose_key_it_is(make: Callable[[FakeClerk], StaticKeys | None]) -> None:
    clerk = FakeClerk(kid="ins_1")
    assert await instance_of(jwks(clerk), make(clerk)) == ("ins_1",)


@pytest.mark.parametrize(
    ("other", "make"),
    [
        pytest.param(FakeClerk(kid="ins_2"), by_kid, id="another"),
        pytest.param(FakeClerk(kid="ins_1", key_name="second"), by_kid, id="other-key-of-the-same-name"),
        pytest.param(FakeClerk(key_name="second"), any_kid, id="another-from-pem"),
    ],
)
async def test_the_key_of_another_instance_is_not_asked_with(
    other: FakeClerk, make: Callable[[FakeClerk], StaticKeys]
) -> None:
    with pytest.raises(SyncRefused, match="another instance"):
        await instance_of(jwks(FakeClerk(kid="ins_1")), make(other))


async def test_several_keys_are_several_names() -> None:
    keys = FakeClerk(kid="ins_2").jwks()["keys"] + FakeClerk(kid="ins_1", key_name="second").jwks()["keys"]
    assert await instance_of(orjson.dumps({"keys": keys}), by_kid(FakeClerk(kid="ins_2"))) == ("ins_1", "ins_2")


@pytest.mark.parametrize("keys", [b"{}", b'{"keys": []}'])
async def test_a_key_set_that_is_none(keys: bytes) -> None:
    with pytest.raises(ClerkApiDown):
        await instance_of(keys, None)


def test_what_came_just_now_is_waited_for_until_clerk_must_know_it(database: Database, world: World) -> None:
    """Who was made and deleted a moment ago, and of whose end nobody told, is found all the same."""
    made = shapes.user("user_9", created_at=NOW_MS - 1000, updated_at=NOW_MS - 1000)
    heard(database, "user.created", made, at=NOW_MS - 1)
    time = Time()
    assert synced(database, world, time).of("users").gone == 1
    assert time.at > NOW_MS - 1000 + SETTLED_MS
    assert "user_9" not in living(database)


def test_what_came_late_is_not_waited_for(database: Database, world: World) -> None:
    heard(database, "user.created", shapes.user("user_9", created_at=1), at=NOW_MS - 1)
    time = Time()
    assert synced(database, world, time).of("users").gone == 1
    assert time.at < NOW_MS + SETTLED_MS // 2


@pytest.mark.parametrize(
    ("known", "anew", "gone"), [(BELIEVED, False, BELIEVED), (BELIEVED + 1, False, None), (BELIEVED + 1, True, 101)]
)
def test_that_everybody_is_gone_is_believed_when_told_to(
    database: Database, known: int, anew: bool, gone: int | None
) -> None:
    database.put([
        shapes.arrival(f"m{n}", "user.created", shapes.user(f"user_{n}"), received_at=LONG_AGO) for n in range(known)
    ])  # fmt: skip
    if gone is not None:
        assert synced(database, World(), Time(), anew=anew).total.gone == gone
        return
    with pytest.raises(ClerkApiDown) as caught:
        synced(database, World(), Time(), anew=anew)
    assert "--restart" in str(caught.value.detail)
    assert len(living(database)) == known
