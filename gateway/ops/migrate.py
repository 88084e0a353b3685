"""`gateway migrate`: bring the store's schema up to date. Safe to run twice, at once, and while gateways run."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from gateway.config import load
from gateway.errors import ConfigError, StoreDown

DONE: Final = 0
FAILED: Final = 1
Write = Callable[[str], Any]


def migrate(path: str | None, environ: Mapping[str, str], *, write: Write) -> int:
    """Migrate the store that a configuration names, write what was done, and return the exit code."""
    from gateway.store.database import Database

    try:
        store = load(path, environ).store
    except ConfigError as error:
        for finding in error.findings:
            write(str(finding))
        return FAILED
    if store is None:
        write("not migrated: store.url is null, so there is no store")
        return FAILED
    try:
        database = Database(store.url, migrating=True)
    except StoreDown as down:
        write(f"not migrated: {store}: {down.detail}")
        return FAILED
    database.close()
    before, after = database.migrated
    done = f"is up to date, at version {after}" if before == after else f"migrated from version {before} to {after}"
    write(f"{store}: {done}")
    return DONE
