from sqlalchemy import text

from gateway.store.base import Position
from gateway.store.database import Database


def payload_of(database: Database, svix_id: str) -> bytes | None:
    stored = database.get(svix_id)
    assert stored is not None
    return stored.payload


def count(database: Database, table: str) -> int:
    return database.read(lambda connection: int(connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one()))


def forget_all(database: Database, *, now: int, retention_days: int = 30) -> None:
    after: Position | None = Position(0, 0)
    while after is not None:
        after = database.forget(now=now, retention_days=retention_days, after=after)
