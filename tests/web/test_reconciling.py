import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest

from gateway.core.directory import User
from gateway.web.reconciling import RETRY_S, Reconciling
from tests.fakes.clerk import FakeClerk
from tests.fakes.clerk_api import Canned, FakeBackendApi, World, errors
from tests.fakes.directory import until_up, with_directory
from tests.fakes.gateway import CLERK, Running
from tests.fakes.upstream import Echo, ScriptedUpstream

HOUR = 3600
EVERY = {"sync": {"every_h": 10}}


@pytest.fixture
async def clerk() -> AsyncIterator[FakeBackendApi]:
    world = World()
    world.add_user("user_1")
    async with FakeBackendApi(world, clerk=CLERK) as served:
        yield served


@asynccontextmanager
async def running(clerk: FakeBackendApi, folder: Path, **overrides: Any) -> AsyncIterator[Running]:
    backend = {"api_url": clerk.url, "secret_key": clerk.secret_key}
    async with (
        ScriptedUpstream(Echo()) as upstream,
        with_directory(upstream.port, folder, clerk=backend, **overrides) as made,
    ):
        await until_up(made)
        yield made


def reconciling(gateway: Running) -> Reconciling:
    kept = gateway.app._records._kept
    assert kept is not None
    return kept.reconciling


async def look(gateway: Running, *, after_h: float = 0.0) -> None:
    """Let time pass, and have it look."""
    gateway.clock.seconds += after_h * HOUR
    await reconciling(gateway).look()


async def user(gateway: Running, key: str = "user_1") -> User | None:
    return await gateway.app.inbox.user(key)


async def told(gateway: Running, event: str) -> list[dict[str, Any]]:
    return [line for line in await gateway.logged() if line["event"] == event]


async def test_a_secret_key_alone_asks_clerk_for_nothing(clerk: FakeBackendApi, tmp_path: Path) -> None:
    async with running(clerk, tmp_path) as gateway:
        await look(gateway, after_h=1000)
    assert clerk.requests == []


async def test_it_runs_so_long_after_the_last_one(clerk: FakeBackendApi, tmp_path: Path) -> None:
    async with running(clerk, tmp_path, **EVERY) as gateway:
        await look(gateway)
        await look(gateway, after_h=9.9)
        assert clerk.requests == []
        await look(gateway, after_h=1.2)  # a tenth later at most
        found = await user(gateway)
        assert found is not None
        assert found.nickname == "ada"
        (done,) = await told(gateway, "sync_done")
        assert (done["added"], done["gone"]) == (1, 0)
        clerk.requests.clear()
        await look(gateway, after_h=9.9)
        assert clerk.requests == []
    async with running(clerk, tmp_path, **EVERY) as gateway:  # which a restart does not change
        gateway.clock.seconds += 20 * HOUR
        await look(gateway)
        assert clerk.requests == []
        await look(gateway, after_h=3)
        assert (await told(gateway, "sync_done"))[0]["same"] == 1


async def test_what_fails_is_told_and_tried_again_later(clerk: FakeBackendApi, tmp_path: Path) -> None:
    async with running(clerk, tmp_path, **EVERY) as gateway:
        await look(gateway)
        clerk.canned.append(Canned(401, errors("clerk_key_invalid")))
        await look(gateway, after_h=12)
        (failed,) = await told(gateway, "sync_failed")
        assert failed["level"] == "warning"
        assert failed["detail"] == "/jwks: status 401, clerk_key_invalid"
        assert failed["remedy"] == "check clerk.secret_key"
        assert clerk.secret_key not in str(await gateway.logged())
        requests = len(clerk.requests)
        await look(gateway, after_h=(RETRY_S - 1) / HOUR)
        assert len(clerk.requests) == requests
        await look(gateway, after_h=2 / HOUR)
        assert await told(gateway, "sync_done")


async def test_failures_put_it_off_longer_and_longer(clerk: FakeBackendApi, tmp_path: Path) -> None:
    async with running(clerk, tmp_path, **EVERY) as gateway:
        await look(gateway)
        for hours in (12, 1, 1, 2, 4, 7, 7):
            clerk.canned.append(Canned(400))
            await look(gateway, after_h=hours)
        waits = [line["retry_in_s"] for line in await told(gateway, "sync_failed")]
        assert waits == [600, 1200, 2400, 4800, 9600, 19200, 21600]


async def test_the_key_of_another_instance_erases_nobody(clerk: FakeBackendApi, tmp_path: Path) -> None:
    clerk.clerk = FakeClerk(key_name="second")
    async with running(clerk, tmp_path, **EVERY) as gateway:
        await look(gateway)
        await look(gateway, after_h=12)
        (refused,) = await told(gateway, "sync_refused")
        assert "another instance" in refused["detail"]
        assert clerk.requests == ["GET /v1/jwks"]


async def test_two_gateways_do_not_run_at_once(clerk: FakeBackendApi, tmp_path: Path) -> None:
    async with running(clerk, tmp_path, **EVERY) as one:
        await look(one)
        async with running(clerk, tmp_path, **EVERY) as other:
            listing = clerk.before = Stopping(clerk)
            first = asyncio.create_task(look(one, after_h=12))
            await listing.reached.wait()
            await look(other, after_h=12)
            for _ in range(5):  # each is told of, none is a failure: it looks again as soon as after the first
                give_sign_of_life(tmp_path, at=other.clock.seconds + RETRY_S + 1)
                await look(other, after_h=(RETRY_S + 1) / HOUR)
            assert len(await told(other, "sync_refused")) == 6
            listing.held.set()
            await first
            assert not await told(other, "sync_failed")
        assert len(await told(one, "sync_done")) == 1


def give_sign_of_life(folder: Path, *, at: float) -> None:
    """As the one who runs would at that time, which its own clock has not come to."""
    (store,) = folder.glob("*.db")
    with closing(sqlite3.connect(store)) as connection, connection:
        connection.execute("UPDATE gateway_sync SET held_until = ?", (int(at * 1000) + 30_000,))


async def test_a_list_that_ends_too_early_is_told_and_tried_again(clerk: FakeBackendApi, tmp_path: Path) -> None:
    clerk.population.count = lambda: 7  # type: ignore[method-assign]
    async with running(clerk, tmp_path, **EVERY) as gateway:
        gateway_sync = "gateway.net.sync.SETTLED_MS"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(gateway_sync, 1)
            await look(gateway)
            await look(gateway, after_h=12)
        (short,) = await told(gateway, "sync_incomplete")
        assert (short["level"], short["missing"], short["added"], short["retry_in_s"]) == ("warning", 6, 1, RETRY_S)
        assert not await told(gateway, "sync_done")
        clerk.population.count = lambda: 1  # type: ignore[method-assign]
        await look(gateway, after_h=(RETRY_S - 1) / HOUR)
        assert not await told(gateway, "sync_done")
        await look(gateway, after_h=2 / HOUR)
        assert (await told(gateway, "sync_done"))[0]["same"] == 1


class Stopping:
    """Holds the list of users; keys are given to everybody."""

    def __init__(self, clerk: FakeBackendApi) -> None:
        self.clerk, self.reached, self.held = clerk, asyncio.Event(), asyncio.Event()

    def __call__(self, path: str) -> None:
        self.clerk.hold = self.held if path == "/users" else None
        if path == "/users":
            self.reached.set()


async def test_a_gateway_that_stops_breaks_off_and_lets_others_go_on(clerk: FakeBackendApi, tmp_path: Path) -> None:
    async with running(clerk, tmp_path, **EVERY) as gateway:
        await look(gateway)
        listing = clerk.before = Stopping(clerk)
        gateway.clock.seconds += 12 * HOUR
        looking = reconciling(gateway)
        assert looking._looking is not None
        looking._looking.cancel()
        looking._looking = asyncio.create_task(looking.look())
        await listing.reached.wait()
    clerk.before, clerk.hold = lambda path: None, None
    async with running(clerk, tmp_path, **EVERY) as gateway:
        await look(gateway, after_h=12)
        assert await told(gateway, "sync_done")


async def test_a_reload_takes_the_schedule_away(clerk: FakeBackendApi, tmp_path: Path) -> None:
    async with running(clerk, tmp_path, **EVERY) as gateway:
        await look(gateway)
        gateway.file.text = gateway.file.text.replace("every_h: 10", "every_h: 0")
        assert "sync" in await gateway.app.reload()
        await look(gateway, after_h=100)
        assert clerk.requests == []


async def test_a_store_that_is_away(clerk: FakeBackendApi, tmp_path: Path) -> None:
    async with running(clerk, tmp_path, **EVERY) as gateway:
        await look(gateway)
        gateway.app.inbox._up = False
        await look(gateway, after_h=12)
        (failed,) = await told(gateway, "sync_failed")
        assert failed["why"] == "store_unavailable"


async def test_whoever_is_met_first_is_fetched_once(clerk: FakeBackendApi, tmp_path: Path) -> None:
    async with running(clerk, tmp_path) as gateway:
        for _ in range(3):
            assert (await gateway.get("/x", token=gateway.token(sub="user_1"))).status == 200
        while (found := await user(gateway)) is None or found.nickname is None:
            await asyncio.sleep(0.005)
    assert clerk.requests == ["GET /v1/users/user_1"]
