"""The statements of a reconciliation: who runs it and how far it has come, and pages compared and folded in.

A page and the place behind it are one transaction, so that a run that is killed goes on where it was, and counts
nothing twice. Blocking, as `database`.
"""

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Connection, Table, bindparam, not_, or_, select, update

from gateway.core.directory import Membership, Row, User, buried
from gateway.core.reconcile import (
    STAGES,
    Known,
    Progress,
    Span,
    Stage,
    Tally,
    judge,
    may_be_gone,
    read_progress,
    settled_at,
    written,
)
from gateway.errors import SyncRefused, SyncUnderway
from gateway.store.directory import DirectoryTables, Transaction, erase, next_change, row_from
from gateway.store.tables import MEMBERSHIPS, SYNC, TABLES, inserting

LEASE_MS: Final = 60_000  # without a sign of life another may take over; renewed with each page and every 15 s
KEY: Final = "directory"
KINDS: Final[Mapping[Stage, type[Row]]] = dict(zip(STAGES, TABLES, strict=True))
Pairs = Sequence[tuple[Row | None, Row]]
Ends = tuple[str | None, str | None]  # an organisation and a user


class Outcome(NamedTuple):
    """What came of comparing."""

    tally: Tally
    changed: Pairs  # each as it was, where it was known, and as it is


class Suspects(NamedTuple):
    """What may be gone, and from when (ms) on an answer tells of all of it."""

    rows: list[Row]
    settled_at: int


class SyncTables:
    """What a run asks of the store; `read` and `write` are the database's transactions.

    `on_changed` is called within the transaction with what a page changed, but for memberships that another one
    replaces: what must follow from it is as durable.
    """

    def __init__(
        self, read: Transaction, write: Transaction, directory: DirectoryTables, *, dialect: str,
        on_changed: Callable[[Connection, Pairs, int], None] = lambda connection, pairs, now: None,
    ) -> None:  # fmt: skip
        self._read, self._write, self._directory, self.on_changed = read, write, directory, on_changed
        row = {"id": KEY, "noticed_at": bindparam("now"), "held_until": 0}
        self._noticing = inserting(SYNC, dialect).values(row).on_conflict_do_nothing(index_elements=["id"])
        self._known = {kind: _select_known(table) for kind, table in TABLES.items()}

    # --- whose turn it is --------------------------------------------------------------------------------------------

    def take(self, holder: str, *, instance: Sequence[str], now: int, anew: bool) -> Progress:
        """Begin a run, or go on with one; nobody else may while `hold` is called.

        Raises:
            SyncUnderway: another run is under way.
            SyncRefused: the store is of another instance, unless begun `anew`.
        """

        def write(connection: Connection) -> Progress:
            kept = self._row(connection, now)
            if kept["holder"] not in (None, holder) and now < kept["held_until"] <= now + LEASE_MS:
                wait_s = (kept["held_until"] - now) // 1000 + 1
                raise SyncUnderway(f"another run is under way; should it have been killed, try again in {wait_s} s")
            if not anew:
                _check_instance(instance, kept["instance"])
            progress = None if anew else read_progress(kept["progress"], now=now)
            progress = progress or Progress(started_at=now)
            self._save(connection, progress, holder=holder, held_until=now + LEASE_MS,
                       instance=" ".join(instance) or kept["instance"])  # fmt: skip
            return progress

        taken: Progress = self._in_turn(write)
        return taken

    def check_instance(self, instance: Sequence[str]) -> None:
        """Check, writing nothing, that the store is of this instance. Raises SyncRefused."""
        _check_instance(instance, self._read(lambda connection: connection.execute(select(SYNC.c.instance)).scalar()))

    def hold(self, holder: str, *, now: int) -> None:
        """Say that the run is alive. Raises SyncUnderway where another has taken over."""
        self._in_turn(lambda connection: self._renew(connection, holder, held_until=now + LEASE_MS))

    def release(self, holder: str, *, finished_at: int | None) -> None:
        """Let others run; `finished_at` (ms) where it came to its end."""
        values: dict[str, Any] = {"holder": None, "held_until": 0}
        if finished_at is not None:
            values["finished_at"] = finished_at
        self._in_turn(lambda connection: connection.execute(_held_by(holder).values(values)))

    def last(self, *, now: int) -> int:
        """Say when the last run came to its end; before the first, since when one is waited for."""
        kept = self._in_turn(lambda connection: self._row(connection, now))
        return int(kept["noticed_at"] if kept["finished_at"] is None else kept["finished_at"])

    def _row(self, connection: Connection, now: int) -> Mapping[str, Any]:
        connection.execute(self._noticing, {"now": now})
        return dict(connection.execute(select(SYNC)).mappings().one())

    def _save(self, connection: Connection, progress: Progress, **values: Any) -> None:
        connection.execute(update(SYNC).values(progress=written(progress), **values))

    def _renew(self, connection: Connection, holder: str, **values: Any) -> None:
        if not connection.execute(_held_by(holder).values(**values)).rowcount:
            raise SyncUnderway("another run has taken over")

    def _in_turn(self, what: Callable[[Connection], Any]) -> Any:
        def write(connection: Connection) -> Any:
            next_change(connection, 0)
            return what(connection)

        return self._write(write)

    # --- pages -------------------------------------------------------------------------------------------------------

    def suspects(self, stage: Stage, span: Span, present: Iterable[str], *, started_at: int, limit: int) -> Suspects:
        """Give some of what was known of a span at `started_at` and is not among `present`: it may be gone."""
        kind, here = KINDS[stage], set(present)
        table = TABLES[kind]
        conditions = (not_(table.c.deleted), table.c.changed_at < started_at, *_created_in(table, span))
        ids = select(table.c.id).where(*conditions).limit(limit + len(here))

        def read(connection: Connection) -> Suspects:
            # Nearly always all of them are present; what is not is read whole.
            missing = [key for key in connection.execute(ids).scalars() if key not in here][:limit]
            known = self._versions(connection, kind, missing).values()
            return Suspects(list(_rows(connection, kind, missing).values()), max(map(settled_at, known), default=0))

        found: Suspects = self._read(read)
        return found

    def compare(
        self, stage: Stage, rows: Sequence[Row], gone: Sequence[Row], *, asked_at: int, started_at: int,
        again: Container[str] = (),
    ) -> Outcome:  # fmt: skip
        """Say what `settle` would do."""
        found: Outcome = self._read(
            lambda connection: self._judged(
                connection, stage, rows, gone, asked_at=asked_at, started_at=started_at, again=again
            )
        )
        return found

    def settle(
        self, stage: Stage, rows: Sequence[Row], gone: Sequence[Row], *, asked_at: int, progress: Progress,
        holder: str, now: int, again: Container[str] = (), staying: Container[Ends] = (),
    ) -> tuple[Progress, Pairs]:  # fmt: skip
        """Fold in what Clerk gave and bury what is gone, and keep how far the run has come with that.

        Of those that come `again` only changes are counted. Who is `staying` in an organisation, by a membership that
        need not be known yet, loses nothing with the one that is gone.

        Raises:
            SyncUnderway: another run has taken over.
        """

        def write(connection: Connection) -> tuple[Progress, Pairs]:
            outcome = self._judged(
                connection, stage, rows, gone, asked_at=asked_at, started_at=progress.started_at, again=again
            )
            new = [row for _, row in outcome.changed]
            self._directory.merge_in(connection, new, now=now)
            erase(connection, {row.id for row in new if isinstance(row, User) and row.deleted})
            ended = [each for each in outcome.changed if not _is_replaced(connection, each[1], staying)]
            self.on_changed(connection, ended, now)
            counted = progress.counting(stage, outcome.tally)
            self._renew(connection, holder, progress=written(counted), held_until=now + LEASE_MS)
            return counted, outcome.changed

        done: tuple[Progress, Pairs] = self._in_turn(write)
        return done

    def _judged(
        self,
        connection: Connection,
        stage: Stage,
        rows: Sequence[Row],
        gone: Sequence[Row],
        *,
        asked_at: int,
        started_at: int,
        again: Container[str],
    ) -> Outcome:
        kind = KINDS[stage]
        known = self._versions(connection, kind, [row.id for row in (*rows, *gone)])
        counts = dict.fromkeys(("added", "mended", "same", "newer", "erased", "gone"), 0)
        new: list[Row] = []
        for row in rows:
            verdict, judged = judge(known.get(row.id), row, asked_at=asked_at)
            if verdict in ("added", "mended"):
                new.append(judged)
            elif row.id in again:
                continue
            counts[verdict] += 1
        for row in gone:
            # Looked at once more: a webhook may have spoken of it while Clerk was asked.
            if row.id in known and may_be_gone(known[row.id], asked_at=asked_at, started_at=started_at):
                counts["gone"] += 1
                new.append(buried(row, at=asked_at))
        old = _rows(connection, kind, [row.id for row in new if row.id in known])
        return Outcome(Tally(**counts), [(old.get(row.id), row) for row in new])

    def _versions(self, connection: Connection, kind: type[Row], ids: Sequence[str]) -> dict[str, Known]:
        if not ids:
            return {}
        found = connection.execute(self._known[kind], {"ids": list(ids)})
        return {key: Known(version, changed_at) for key, version, changed_at in found}


def _check_instance(names: Sequence[str], kept: str | None) -> None:
    """Compare the names of keys: one that is still there says that others are the same instance's later ones."""
    if names and kept and set(names).isdisjoint(kept.split(" ")):
        raise SyncRefused(
            f"the users in this store are those of {kept}, not of {' '.join(names)}. Should that be the same instance, "
            "with other keys, run: gateway sync --restart"
        )


def _is_replaced(connection: Connection, row: Row, staying: Container[Ends]) -> bool:
    """Say whether a membership is buried of somebody who has left and come back, and so has another one."""
    if not isinstance(row, Membership) or not row.deleted or not row.user_id or not row.org_id:
        return False
    if (row.org_id, row.user_id) in staying:
        return True
    table = MEMBERSHIPS
    both = (table.c.user_id == row.user_id, table.c.org_id == row.org_id, not_(table.c.deleted))
    return connection.execute(select(table.c.id).where(*both).limit(1)).first() is not None


def _held_by(holder: str) -> Any:
    return update(SYNC).where(SYNC.c.holder == holder)


def _select_known(table: Table) -> Any:
    return select(table.c.id, table.c.version, table.c.changed_at).where(table.c.id.in_(_IDS))


_IDS: Final[Any] = bindparam("ids", expanding=True)


def _rows(connection: Connection, kind: type[Row], ids: Sequence[str]) -> dict[str, Row]:
    if not ids:
        return {}
    table = TABLES[kind]
    found = connection.execute(select(table).where(table.c.id.in_(_IDS)), {"ids": list(ids)}).mappings()
    return {each["id"]: row_from(kind, each) for each in found}


def _created_in(table: Table, span: Span) -> list[ColumnElement[bool]]:
    created = table.c.created_at
    before = [] if span.until is None else [created < span.until]
    if span.since is not None:
        return [created >= span.since, *before]
    # The first page speaks also for what nobody knows the creation of.
    return [or_(created.is_(None), *before)] if before else []
