"""`gateway sync` as a person runs it: a process of its own, against Clerk's Backend API on loopback."""

import asyncio
import json
import os
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.ops.sync import FAILED, sync
from gateway.store.database import Database
from tests.fakes.clerk import FakeClerk
from tests.fakes.clerk_api import Canned, FakeBackendApi, World, errors
from tests.fakes.clerk_events import arrival, user
from tests.fakes.gateway import settings
from tests.fakes.syncing import living

ROOT = Path(__file__).parents[2]
CLERK = FakeClerk()
DAY_AGO_MS = 1_700_000_000_000


@pytest.fixture
async def clerk() -> AsyncIterator[FakeBackendApi]:
    world = World()
    for number in range(3):
        world.add_user(f"user_{number}", created_at=1000 + number)
    world.add_organization("org_1")
    world.add_membership("orgmem_1", user_id="user_1", org_id="org_1")
    async with FakeBackendApi(world, clerk=CLERK) as served:
        yield served


def file(folder: Path, clerk: FakeBackendApi | None = None, *, store: str | None = "", **more: Any) -> str:
    """Write a configuration; `more` goes into its section `clerk`."""
    url = f"sqlite:///{folder / 'gateway.db'}" if store == "" else store
    known: dict[str, Any] = {
        "issuer": CLERK.issuer,
        "jwt_key": CLERK.pem(),
        "authorized_parties": ["https://a.example"],
    }
    if clerk is not None:
        known |= {"api_url": clerk.url, "secret_key": clerk.secret_key}
    tree = settings(3000, store={"url": url}, clerk=known | more, identity={"enrich": False})
    path = folder / "gateway.yaml"
    path.write_text(yaml.safe_dump({name: value for name, value in tree.items() if name != "cors"}))
    return str(path)


async def started(*args: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", "sync", *args, cwd=ROOT, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT, env={"PATH": os.environ["PATH"]},
    )  # fmt: skip


async def synced(*args: str) -> tuple[int | None, list[str]]:
    process = await started(*args)
    async with asyncio.timeout(50):
        out, _ = await process.communicate()
    return process.returncode, out.decode().splitlines()


def users(folder: Path) -> set[str]:
    database = Database(f"sqlite:///{folder / 'gateway.db'}")
    try:
        return {key for key in living(database) if key.startswith("user_")}
    finally:
        database.close()


async def test_a_drifted_directory_is_brought_into_step(clerk: FakeBackendApi, tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'gateway.db'}")
    for key, name in (("user_1", "old"), ("user_9", "gone")):
        data = user(key, username=name, updated_at=1)
        database.put([arrival(key, "user.created", data, received_at=DAY_AGO_MS)])
    database.close()
    path = file(tmp_path, clerk)
    code, lines = await synced("-c", path, "--dry-run")
    assert (code, lines) == (0, [
        "user_9: gone", "user_0: missing", "user_1: differs in nickname, created_at, updated_at", "user_2: missing",
        "org_1: missing", "orgmem_1: missing",
        "users: added 2, mended 1, gone 1, same 0",
        "organizations: added 1, mended 0, gone 0, same 0",
        "memberships: added 1, mended 0, gone 0, same 0",
        "nothing was written; it would be: added 4, mended 1, gone 1, same 0",
    ])  # fmt: skip
    assert users(tmp_path) == {"user_1", "user_9"}
    code, lines = await synced("-c", path)
    assert (code, lines[-1]) == (0, "added 4, mended 1, gone 1, same 0")
    assert users(tmp_path) == {"user_0", "user_1", "user_2"}
    code, lines = await synced("-c", path)
    assert (code, lines[-1]) == (0, "added 0, mended 0, gone 0, same 5")


async def test_keys_from_the_issuer_do_as_well(clerk: FakeBackendApi, tmp_path: Path) -> None:
    code, lines = await synced("-c", file(tmp_path, clerk, jwt_key=None, issuer=clerk.url))
    assert (code, lines[-1]) == (0, "added 5, mended 0, gone 0, same 0")


async def test_broken_off_and_gone_on_with(clerk: FakeBackendApi, tmp_path: Path) -> None:
    path = file(tmp_path, clerk)
    clerk.before = lambda asked: clerk.canned.extend([Canned(400)] if asked == "/organizations" else [])
    code, lines = await synced("-c", path)
    assert (code, lines) == (1, [
        f"not synced: {clerk.url} does not answer as it should: /organizations: status 400, not in the words of Clerk. "
        "What is done is kept: run it again within a day to go on from there"
    ])  # fmt: skip
    clerk.before = lambda asked: None
    clerk.requests.clear()
    code, lines = await synced("-c", path)
    assert (code, lines[-1]) == (0, "added 5, mended 0, gone 0, same 0")
    assert not [asked for asked in clerk.requests if "/users?" in asked]


async def test_restart_begins_anew(clerk: FakeBackendApi, tmp_path: Path) -> None:
    path = file(tmp_path, clerk)
    clerk.before = lambda asked: clerk.canned.extend([Canned(400)] if asked == "/organizations" else [])
    await synced("-c", path)
    clerk.before = lambda asked: None
    code, lines = await synced("-c", path, "--restart")
    assert (code, lines[-1]) == (0, "added 2, mended 0, gone 0, same 3")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_ctrl_c_lets_others_run(clerk: FakeBackendApi, tmp_path: Path, number: signal.Signals) -> None:
    path = file(tmp_path, clerk)
    listing = asyncio.Event()

    def hold(asked: str) -> None:
        if asked == "/organizations":
            clerk.hold = asyncio.Event()
            listing.set()

    clerk.before = hold
    process = await started("-c", path)
    async with asyncio.timeout(50):
        await listing.wait()
        code, lines = await refused(clerk, path)
        assert (code, lines[0].split(";")[0]) == (1, "not synced: another run is under way")
        process.send_signal(number)
        out, _ = await process.communicate()
    assert process.returncode == 1
    assert out.decode().splitlines()[-1].startswith("stopped; run it again within a day")
    assert clerk.hold is not None
    clerk.hold.set()
    clerk.before, clerk.hold = lambda asked: None, None
    code, lines = await synced("-c", path)
    assert (code, lines[-1]) == (0, "added 5, mended 0, gone 0, same 0")


async def refused(clerk: FakeBackendApi, path: str) -> tuple[int | None, list[str]]:
    """Run a second one while the first is held."""
    held, clerk.hold, clerk.before = clerk.hold, None, lambda asked: None
    try:
        return await synced("-c", path)
    finally:
        clerk.hold = held


async def test_the_key_of_another_instance_erases_nobody(clerk: FakeBackendApi, tmp_path: Path) -> None:
    other = FakeClerk(key_name="second")
    code, lines = await synced("-c", file(tmp_path, clerk, jwt_key=other.pem()))
    assert (code, lines) == (1, ["not synced: clerk.secret_key is another instance's than the tokens that are taken"])


async def test_a_key_that_clerk_does_not_take(clerk: FakeBackendApi, tmp_path: Path) -> None:
    code, lines = await synced("-c", file(tmp_path, clerk, secret_key="sk_live_wrongwrong"))
    assert code == 1
    assert lines[0].startswith(
        "not synced: Clerk does not take the secret key: check clerk.secret_key (CLERK_SECRET_KEY)"
    )
    assert "wrongwrong" not in "".join(lines)


async def test_issuers_keys_that_cannot_be_had(clerk: FakeBackendApi, tmp_path: Path) -> None:
    path = file(tmp_path, clerk, jwt_key=None, issuer="http://127.0.0.1:1")
    code, lines = await synced("-c", path)
    assert code == 1
    assert "the keys at http://127.0.0.1:1/.well-known/jwks.json cannot be had" in lines[0]


async def test_nobody_at_clerks_address(clerk: FakeBackendApi, tmp_path: Path) -> None:
    path = file(tmp_path, clerk)
    clerk.canned += [Canned(404, errors("no_such_route"))]
    code, lines = await synced("-c", path)
    assert code == 1
    assert "/jwks: status 404, no_such_route" in lines[0]


async def test_a_dry_run_makes_no_store_and_changes_none(clerk: FakeBackendApi, tmp_path: Path) -> None:
    path, store = file(tmp_path, clerk), tmp_path / "gateway.db"
    code, lines = await synced("-c", path, "--dry-run")
    assert (code, lines) == (1, [
        f"not synced: store.url is sqlite:///{store}, and there is no such file, nor is one made by --dry-run. Run: "
        "gateway migrate, or gateway sync without --dry-run"
    ])  # fmt: skip
    assert not store.exists()
    store.touch()
    code, lines = await synced("-c", path, "--dry-run")
    assert code == 1
    assert "its schema has version 0" in lines[0]
    assert "run `gateway migrate`" in lines[0]
    with closing(sqlite3.connect(store)) as connection:
        assert connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)


async def test_a_dry_run_sees_whose_store_it_is(clerk: FakeBackendApi, tmp_path: Path) -> None:
    path = file(tmp_path, clerk)
    database = Database(f"sqlite:///{tmp_path / 'gateway.db'}")
    database.syncing.take("me", instance=["ins_other"], now=DAY_AGO_MS, anew=False)
    database.close()
    for more in ([], ["--dry-run"]):
        code, lines = await synced("-c", path, *more)
        assert code == 1
        assert lines[0].startswith("not synced: the users in this store are those of ins_other, not of ")
    code, lines = await synced("-c", path, "--dry-run", "--restart")
    assert (code, lines[-1]) == (0, "nothing was written; it would be: added 5, mended 0, gone 0, same 0")


async def test_a_list_that_ends_too_early_is_told(clerk: FakeBackendApi, tmp_path: Path) -> None:
    clerk.population.count = lambda: 1200  # type: ignore[method-assign]
    code, lines = await synced("-c", file(tmp_path, clerk))
    assert code == 1
    assert lines[-2:] == [
        "added 5, mended 0, gone 0, same 0",
        "not synced: not all users came: Clerk counts 1,197 more than it listed. What came is kept; run it again, and "
        "look at what is between here and clerk.api_url should that not help",
    ]


async def test_a_store_that_cannot_be_opened(clerk: FakeBackendApi, tmp_path: Path) -> None:
    code, lines = await synced("-c", file(tmp_path, clerk, store="sqlite:////no/such/folder/a.db"))
    assert code == 1
    assert lines[0].startswith("not synced: the store, sqlite:////no/such/folder/a.db: FileNotFoundError")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        pytest.param({}, "clerk.secret_key is not set. Set CLERK_SECRET_KEY", id="no-key"),
        pytest.param({"secret_key": "sk_live_abcdefgh", "store": None}, "store.url is null", id="no-store"),
        pytest.param({"secret_key": "whatever"}, "is not a secret key", id="no-such-key"),
    ],
)
def test_what_is_needed_is_said(tmp_path: Path, more: dict[str, Any], said: str) -> None:
    lines: list[str] = []

    def write(message: str, *, nl: bool = True) -> None:
        lines.append(message)

    code = sync(file(tmp_path, **more), {}, dry_run=False, restart=False, write=write, terminal=False)
    assert code == FAILED
    assert said in lines[0]


def test_whose_users_are_whose_is_not_known_of_several_issuers(tmp_path: Path) -> None:
    lines: list[str] = []
    named = [{"name": name, "issuer": f"{name}.example", "secret_key": "sk_live_abcdefgh"} for name in ("a", "b")]
    path = tmp_path / "several.yaml"
    path.write_text(json.dumps({"issuers": named, "upstreams": {"api": {"url": "http://127.0.0.1:1"}},
                                "routes": [{"path": "/*", "upstream": "api"}]}))  # fmt: skip
    code = sync(str(path), {}, dry_run=False, restart=False, write=lambda line, **_: lines.append(line), terminal=False)
    assert code == FAILED
    assert "several issuers" in lines[0]
