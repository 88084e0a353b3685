"""Clerk's Backend API: where it is, the key it is asked with, and when the user directory is reconciled by itself."""

import re
from collections.abc import Mapping, Sequence

from gateway.config.findings import Path, Report
from gateway.config.instances import CLERK, Instance
from gateway.config.parties import Clerk
from gateway.config.schema import Sync
from gateway.config.urls import read_outbound
from gateway.core.model import BackendAddress, StoreAddress
from gateway.core.reconcile import SyncPolicy

KEY: Path = ("clerk", "secret_key")  # where it most often stands
EVERY: Path = ("sync", "every_h")
STORE: Path = ("store", "url")
FORM = re.compile(r"sk_(live|test)_[A-Za-z0-9_-]{6,}")
WHERE = "copy it whole, from sk_ on, from the Clerk Dashboard, API keys"
DEVELOPMENT = ".accounts.dev"  # where Clerk has the issuers of development instances
LEAST_H = 0.1  # Clerk's limits and the application's share of them are worth more than this
MOST_H = 8760


def build_backends(instances: Sequence[Instance], report: Report) -> dict[str, BackendAddress]:
    """Make what the Backend API is asked with, by the name of the instance; nothing for one without a secret key."""
    made = {each.name: _build(each, report) for each in instances}
    return {name: backend for name, backend in made.items() if backend is not None}


def _build(instance: Instance, report: Report) -> BackendAddress | None:
    clerk, key_path = instance.clerk, (*instance.at, "secret_key")
    url = report.tried((*instance.at, "api_url"), read_outbound, clerk.api_url)
    if clerk.secret_key is None:
        return None
    key = clerk.secret_key.get_secret_value()
    found = FORM.fullmatch(key)
    if found is None:
        report.error(key_path, f"is not a secret key: {WHERE}")
        return None
    other = _kind(clerk)
    if other is not None and other != found[1]:
        message = f"is a key of a {_named(found[1])} instance, but tokens are taken of a {_named(other)} one"
        report.error(key_path, message, "Take both keys from the same page of the Clerk Dashboard, API keys")
    return BackendAddress(url.text, key) if url is not None else None


def build_sync(
    section: Sync, report: Report, *, backends: Mapping[str, BackendAddress], several: bool, store: StoreAddress | None
) -> SyncPolicy:
    """Make the schedule of reconciliation."""
    every_h = section.every_h
    if every_h == 0:
        return SyncPolicy()
    if not LEAST_H <= every_h <= MOST_H:
        report.error(EVERY, f"must be 0 (never), or {LEAST_H:g} to {MOST_H} hours", "24 is once a day")
    elif several:
        message = "cannot go through several Clerk instances: users come by webhooks and first requests alone"
        report.error(EVERY, message, "Write every_h: 0")
    elif not backends and not report.is_broken(CLERK):
        remedy = 'Write clerk.secret_key: "${CLERK_SECRET_KEY}", or every_h: 0'
        report.error(EVERY, "needs clerk.secret_key: Clerk gives its users to nobody else", remedy)
    elif store is None and not report.is_broken(STORE):
        report.error(EVERY, "needs store.url: there is no directory without a store", "Write store.url, or every_h: 0")
    return SyncPolicy(every_h)


def _kind(clerk: Clerk) -> str | None:
    """Say of what kind of instance tokens are taken, as far as its names tell."""
    if clerk.publishable_key:
        return next((kind for kind in ("live", "test") if clerk.publishable_key.startswith(f"pk_{kind}_")), None)
    return "test" if clerk.issuer and clerk.issuer.rstrip("/").endswith(DEVELOPMENT) else None


def _named(kind: str) -> str:
    return "production" if kind == "live" else "development"
