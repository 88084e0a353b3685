"""The statements for what is revoked: added with what says so, read by whoever starts or follows. Blocking."""

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Connection, insert, select

from gateway.core.revocation import Revocation
from gateway.store.directory import Transaction, next_change
from gateway.store.tables import REVOCATIONS

PAGE: Final = 1000


class RevocationTables:
    """Revocations in the order in which they became known; `read` and `write` are the database's transactions."""

    def __init__(self, read: Transaction, write: Transaction) -> None:
        self._read, self._write = read, write

    def add(self, revocations: Sequence[Revocation]) -> None:
        """Keep these, durably once this returns."""
        self._write(lambda connection: self.add_in(connection, revocations))

    def add_in(self, connection: Connection, revocations: Sequence[Revocation]) -> None:
        """As `add`, within the caller's transaction."""
        if revocations:
            number = next_change(connection, len(revocations))
            rows = [_values(each) | {"change": number + place} for place, each in enumerate(revocations)]
            connection.execute(insert(REVOCATIONS), rows)

    def since(self, change: int, *, limit: int = PAGE) -> tuple[tuple[int, Revocation], ...]:
        """Give what was added after change number `since`, each with its own; from 0 on, all there is."""
        query = select(REVOCATIONS).where(REVOCATIONS.c.change > change).order_by(REVOCATIONS.c.change).limit(limit)
        found = self._read(lambda connection: connection.execute(query).mappings().all())
        return tuple((each["change"], _revocation(each)) for each in found)


def _values(revocation: Revocation) -> dict[str, Any]:
    return {
        "user_id": revocation.user, "session_id": revocation.session, "org_id": revocation.org,
        "issued_until": revocation.before, "void_at": revocation.until,
    }  # fmt: skip


def _revocation(found: Any) -> Revocation:
    return Revocation(
        found["user_id"], found["session_id"], found["org_id"], found["issued_until"], found["void_at"]
    )  # fmt: skip
