"""`gateway sync`: bring the user directory into step with Clerk. Safe while gateways run, and to break off."""

import asyncio
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final, TypeVar

from gateway.config import Config, load
from gateway.core.reconcile import Progress
from gateway.errors import ClerkApiDown, ClerkApiRefused, ConfigError, KeysUnavailable, StoreDown, SyncRefused
from gateway.ops.progress import Report, Write, counted

if TYPE_CHECKING:
    import aiohttp

    from gateway.net.clerk_api import ClerkApi
    from gateway.net.jwks import KeySource
    from gateway.store.database import Database

DONE: Final = 0
FAILED: Final = 1
FIRST_KEYS_S: Final = 10.0
NO_KEY: Final = (
    "not synced: clerk.secret_key is not set. Set CLERK_SECRET_KEY, or write clerk.secret_key: sk_… "
    "(Clerk Dashboard, API keys)"
)
SEVERAL: Final = (
    "not synced: there are several issuers, and which users are whose is not kept. Their users come by webhooks and by "
    "their first requests"
)
NO_STORE: Final = "not synced: store.url is null, so there is no user directory. Set GATEWAY_STORE_URL, or store.url"
NO_FILE: Final = (
    "store.url is {}, and there is no such file, nor is one made by --dry-run. Run: gateway migrate, or gateway sync "
    "without --dry-run"
)
WRONG_KEY: Final = "Clerk does not take the secret key: check clerk.secret_key (CLERK_SECRET_KEY)"

T = TypeVar("T")


def sync(
    path: str | None, environ: Mapping[str, str], *, dry_run: bool, restart: bool, write: Write, terminal: bool
) -> int:
    """Reconcile the directory of a configuration's store with its Clerk instance; return the exit code."""
    try:
        config = load(path, environ)
    except ConfigError as error:
        for finding in error.findings:
            write(str(finding))
        return FAILED
    if config.backend is None or config.store is None:
        write(SEVERAL if len(config.issuers) > 1 else NO_KEY if config.backend is None else NO_STORE)
        return FAILED
    report = Report(write, terminal=terminal, dry_run=dry_run, now=time.monotonic)
    try:
        asyncio.run(_until_told(_sync(config, report, dry_run=dry_run, restart=restart)))
    except _Failed as failed:
        report.end_line()
        write(f"not synced: {failed}")
        return FAILED
    except asyncio.CancelledError:
        report.end_line()
        write("stopped; run it again within a day to go on from here, or with --restart to begin anew")
        return FAILED
    return DONE


class _Failed(Exception):
    """Why it came to nothing, in words for whoever ran it."""


async def _until_told(running: Any) -> None:
    """Run until it is done or TERM or INT comes; what is done until then stays done."""
    task = asyncio.ensure_future(running)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    try:
        await task
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


async def _sync(config: Config, report: Report, *, dry_run: bool, restart: bool) -> None:
    from gateway.net.clerk_api import COMMANDS, ClerkApi
    from gateway.net.clerk_client import open_session

    assert config.backend is not None
    async with open_session() as session:
        api = ClerkApi(config.backend.url, config.backend.secret_key, session, share=COMMANDS)
        try:
            instance = await _instance(config, api, session)
            with _Direct(config, dry_run=dry_run) as store:
                await _run(api, store, report, instance=instance, dry_run=dry_run, restart=restart)
        except ClerkApiRefused as refused:
            raise _Failed(f"{WRONG_KEY} ({refused.detail})") from refused
        except ClerkApiDown as down:
            raise _Failed(f"{config.backend.url} does not answer as it should: {down.detail}{GO_ON}") from down
        except SyncRefused as refused:
            raise _Failed(str(refused)) from refused
        except StoreDown as down:
            raise _Failed(f"the store, {config.store}: {down.detail}") from down


INCOMPLETE: Final = (
    "not all users came: Clerk counts {:,} more than it listed. What came is kept; run it again, and look at what is "
    "between here and clerk.api_url should that not help"
)
GO_ON: Final = ". What is done is kept: run it again within a day to go on from there"


async def _run(
    api: "ClerkApi", store: "_Direct", report: Report, *, instance: Sequence[str], dry_run: bool, restart: bool
) -> None:
    from gateway.net.sync import Run, reconciled

    report.expect(await api.count_users())
    if dry_run:
        if not restart:
            await store.read(lambda database: database.syncing.check_instance(instance))
        begun = Progress(_now_ms())
        done = await Run(api, store, begun, holder=None, now=_now_ms, on_page=report.page, anew=restart).all()
    else:
        done = await reconciled(api, store, instance=instance, anew=restart, now=_now_ms, on_page=report.page)
    report.end_line()
    for line in counted(done, dry_run=dry_run):
        report.write(line)
    if done.missing:
        raise _Failed(INCOMPLETE.format(done.missing))


def _now_ms() -> int:
    return int(time.time() * 1000)


# --- whose users ------------------------------------------------------------------------------------------------------


async def _instance(config: Config, api: "ClerkApi", session: "aiohttp.ClientSession") -> tuple[str, ...]:
    """Name the instance, having seen that it is the one whose tokens are taken."""
    from gateway.net.jwks import RemoteKeys, StaticKeys
    from gateway.net.sync import instance_of

    issuer = config.issuer
    keys: KeySource | None = None
    if issuer is not None and issuer.static_keys is not None:
        keys = StaticKeys(issuer.static_keys)
    theirs = await api.keys()
    if issuer is None or issuer.jwks_url is None:
        return await instance_of(theirs, keys)
    remote = RemoteKeys(issuer.jwks_url, session, on_event=lambda *_, **__: None)
    remote.start()
    try:
        await remote.first(FIRST_KEYS_S)
        return await instance_of(theirs, remote)
    except KeysUnavailable as error:
        why = f"the keys at {issuer.jwks_url.partition('?')[0]} cannot be had, so whose users these are is not known"
        raise _Failed(why) from error
    finally:
        await remote.close()


class _Direct:
    """The store, asked by one thread, so that what was begun is over before the next thing begins.

    For a dry run it is neither made nor migrated.
    """

    def __init__(self, config: Config, *, dry_run: bool) -> None:
        from gateway.store.database import Database
        from gateway.store.engine import is_missing

        assert config.store is not None
        if dry_run and is_missing(config.store.url):
            raise _Failed(NO_FILE.format(config.store))
        self._database = Database(config.store.url, migrating=False if dry_run else None)
        self._thread = ThreadPoolExecutor(1, "store")

    async def read(self, what: "Callable[[Database], T]") -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, what, self._database)

    write = read

    def __enter__(self) -> "_Direct":
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown()
        self._database.close()
