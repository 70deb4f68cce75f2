"""How far each consumer of the change feed has got."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, delete, select, update

from hartonomous.catalog.batches import insert_or_skip
from hartonomous.catalog.schema import event_cursor
from hartonomous.core.event import Position


@dataclass(frozen=True, slots=True, kw_only=True)
class CursorRow:
    """A consumer's position: it has dealt with all events up to that."""

    consumer: str
    position: Position
    updated_us: int


def everything(tx: Connection) -> list[CursorRow]:
    """Return all cursors by name."""
    return [_row(row) for row in tx.execute(select(event_cursor).order_by(event_cursor.c.consumer))]


def find(tx: Connection, consumer: str) -> CursorRow | None:
    """Return a consumer's cursor, None if it has none."""
    found = tx.execute(select(event_cursor).where(event_cursor.c.consumer == consumer))
    row = found.one_or_none()
    return None if row is None else _row(row)


def begin(tx: Connection, consumer: str, position: Position, *, now_us: int) -> None:
    """Give a consumer a cursor unless it has one."""
    tx.execute(
        insert_or_skip(event_cursor, tx).values(
            consumer=consumer, updated_us=now_us, **_fields(position)
        )
    )


def put(tx: Connection, consumer: str, position: Position, *, now_us: int) -> None:
    """Set a consumer's position, whatever it was."""
    begin(tx, consumer, position, now_us=now_us)
    tx.execute(
        update(event_cursor)
        .where(event_cursor.c.consumer == consumer)
        .values(updated_us=now_us, **_fields(position))
    )


def advance(
    tx: Connection, consumer: str, former: Position, position: Position, *, now_us: int
) -> bool:
    """Move a cursor on; False if it is not at ``former`` any more, and then it stays."""
    at_former = [event_cursor.c[name] == value for name, value in _fields(former).items()]
    done = tx.execute(
        update(event_cursor)
        .where(event_cursor.c.consumer == consumer, *at_former)
        .values(updated_us=now_us, **_fields(position))
    )
    return done.rowcount == 1


def remove(tx: Connection, consumer: str) -> bool:
    """Forget a cursor; False if there is none."""
    done = tx.execute(delete(event_cursor).where(event_cursor.c.consumer == consumer))
    return done.rowcount == 1


def least(tx: Connection) -> Position | None:
    """Return the position up to which every consumer has got, None without any."""
    return min((one.position for one in everything(tx)), default=None)


def _fields(position: Position) -> dict[str, int]:
    return {
        "era": position.era, "transaction_number": position.transaction, "number": position.number,
    }  # fmt: skip


def _row(row: Row[Any]) -> CursorRow:
    return CursorRow(
        consumer=row.consumer,
        position=Position(row.era, row.transaction_number, row.number),
        updated_us=row.updated_us,
    )
