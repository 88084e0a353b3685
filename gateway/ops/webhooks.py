"""`gateway webhooks`: the inbox and its deliveries, out of the store itself, so that no gateway need run."""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from gateway.config import Config, load
from gateway.core.delivery import subscribers
from gateway.errors import ConfigError, StoreDown
from gateway.store.base import Delivery, Kept

if TYPE_CHECKING:
    from gateway.store.database import Database

DONE: Final = 0
FAILED: Final = 1
Write = Callable[[str], Any]
Environ = Mapping[str, str]


class _Refusal(Exception):
    """Why it cannot be done."""


def list_webhooks(
    path: str | None, environ: Environ, *, kind: str | None, limit: int, as_json: bool, write: Write
) -> int:
    """List the newest webhooks and return the exit code."""

    def work(_: Config, database: "Database") -> None:
        found, following = database.webhooks.latest(kind=kind, limit=limit)
        while following is not None and len(found) < limit:
            more, following = database.webhooks.latest(kind=kind, before=following, limit=limit - len(found))
            found += more
        if as_json:
            _lines([_shown(kept) for kept in found], write)
            return
        rows = [(_time(kept.stored.received_at), kept.stored.svix_id, kept.stored.type, kept.stored.user_id or
                 kept.stored.object_id or "-", _standing(kept)) for kept in found]  # fmt: skip
        _table(("received", "id", "type", "about", "deliveries"), rows, write)

    return _done(path, environ, work, write=write)


def show_webhook(path: str | None, environ: Environ, svix_id: str, *, with_payload: bool, write: Write) -> int:
    """Show a webhook and return the exit code."""

    def work(_: Config, database: "Database") -> None:
        kept = database.webhooks.show(svix_id)
        if kept is None:
            raise _Refusal(f"{svix_id}: there is no such webhook")
        stored = kept.stored
        facts = {"id": stored.svix_id, "type": stored.type, "object": stored.object_id, "user": stored.user_id,
                 "happened": _time(stored.happened_at), "received": _time(stored.received_at)}  # fmt: skip
        for name, value in facts.items():
            write(f"{name + ':':10} {value or '-'}")
        for each in kept.deliveries:
            write(f"delivery:  {each.upstream}: {_story(each)}")
        if not kept.deliveries:
            write("delivery:  to nobody")
        if with_payload:
            write("payload:   erased" if stored.payload is None else json.dumps(json.loads(stored.payload), indent=2))

    return _done(path, environ, work, write=write)


def replay_webhook(path: str | None, environ: Environ, svix_id: str, upstream: str | None, *, write: Write) -> int:
    """Have a webhook delivered again and return the exit code."""

    def work(config: Config, database: "Database") -> None:
        kept = database.webhooks.show(svix_id)
        if kept is None:
            raise _Refusal(f"{svix_id}: there is no such webhook")
        wanting = subscribers(config.subscriptions, kept.stored.type)
        chosen = [name for name in wanting if upstream in (None, name)]
        if not chosen:
            who = f"{upstream} does not want" if upstream else "no upstream wants"
            raise _Refusal(f"{svix_id}: {who} {kept.stored.type} (upstreams.*.webhooks.events)")
        if not database.webhooks.replay(svix_id, chosen, now=_now()).has_payload:
            raise _Refusal(f"{svix_id}: its payload is erased, so there is nothing to deliver")
        write(f"{svix_id}: waits for {', '.join(chosen)}")

    return _done(path, environ, work, write=write)


def replay_dead(path: str | None, environ: Environ, upstream: str | None, *, write: Write) -> int:
    """Have everything that died delivered again and return the exit code."""

    def work(config: Config, database: "Database") -> None:
        served = [each.name for each in config.subscriptions if upstream in (None, each.name)]
        if not served:
            raise _Refusal(f"{upstream or 'no upstream'}: has no webhooks in the configuration")
        count = after = 0
        while True:
            some, after = database.webhooks.replay_dead(served, now=_now(), after=after)
            if not some:
                break
            count += some
        write(f"{count} {'delivery waits' if count == 1 else 'deliveries wait'} again")

    return _done(path, environ, work, write=write)


def list_dead(path: str | None, environ: Environ, *, limit: int, as_json: bool, write: Write) -> int:
    """List what died last and return the exit code."""

    def work(_: Config, database: "Database") -> None:
        found = database.webhooks.dead(limit=limit)
        if as_json:
            _lines([{"type": kind, **asdict(each)} for kind, each in found], write)
            return
        rows = [
            (_time(each.last_at), each.svix_id, kind, each.upstream, str(each.attempts), _why(each))
            for kind, each in found
        ]
        _table(("last attempt", "id", "type", "upstream", "attempts", "why"), rows, write)

    return _done(path, environ, work, write=write)


# --- the store --------------------------------------------------------------------------------------------------------


def _done(path: str | None, environ: Environ, work: "Callable[[Config, Database], None]", *, write: Write) -> int:
    try:
        config = load(path, environ)
    except ConfigError as error:
        for finding in error.findings:
            write(str(finding))
        return FAILED
    try:
        with _opened(config) as database:
            work(config, database)
    except StoreDown as down:
        if isinstance(down.__cause__, UnicodeEncodeError):  # bytes of the command line that are no text
            write("what is asked for is not UTF-8, so there is no such webhook")
        else:
            write(f"{config.store}: {down.detail}")
        return FAILED
    except _Refusal as refusal:
        write(str(refusal))
        return FAILED
    return DONE


@contextmanager
def _opened(config: Config) -> "Iterator[Database]":
    from sqlalchemy import make_url

    from gateway.store.database import Database

    if config.store is None:
        raise _Refusal("store.url is null, so there is no store")
    url = make_url(config.store.url)
    # To open it would make it, and whoever is in the wrong folder would be told that there is nothing.
    if url.get_backend_name() == "sqlite" and not Path(str(url.database)).exists():
        raise _Refusal(
            f"{config.store}: there is no such file; the gateway makes it when it starts, where it is started"
        )
    database = Database(config.store.url, migrating=False)
    try:
        yield database
    finally:
        database.close()


def _now() -> int:
    return int(time.time() * 1000)


# --- what is written --------------------------------------------------------------------------------------------------


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], write: Write) -> None:
    if not rows:
        write("none")
        return
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    for row in (head, *rows):
        write("  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())


def _lines(items: Sequence[Mapping[str, Any]], write: Write) -> None:
    for item in items:
        write(json.dumps(item))


def _shown(kept: Kept) -> dict[str, Any]:
    stored = asdict(kept.stored)
    for name in ("seq", "payload"):
        del stored[name]
    return stored | {"has_payload": kept.has_payload, "deliveries": [asdict(each) for each in kept.deliveries]}


def _standing(kept: Kept) -> str:
    return ", ".join(f"{each.upstream} {each.state}" for each in kept.deliveries) or "-"


def _story(each: Delivery) -> str:
    parts = [each.state, f"{each.attempts} attempt{'s' * (each.attempts != 1)}"]
    if each.last_at is not None:
        parts.append(f"last {_time(each.last_at)}: {_why(each)}")
    if each.due_at is not None:
        parts.append(f"next {_time(each.due_at)}")
    elif each.state == "waiting":
        parts.append("behind an earlier one of the same user")
    return ", ".join(parts)


def _why(each: Delivery) -> str:
    why = each.last_error or (f"status {each.last_status}" if each.last_status else "-")
    return "".join(char if char.isprintable() else "?" for char in why)


def _time(ms: int | None) -> str:
    if not ms:
        return "-"
    try:
        return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):  # beyond every calendar, but that is what was sent
        return f"{ms} ms"
