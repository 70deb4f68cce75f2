"""How far each consumer of the change feed has got."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, case, delete, select, update

from hartonomous.catalog.batches import insert_or_skip
from hartonomous.catalog.schema import event_cursor
from hartonomous.core.event import Position
from hartonomous.errors import IntegrityError


@dataclass(frozen=True, slots=True, kw_only=True)
class CursorRow:
    """A consumer's position: it has dealt with all events up to that."""

    consumer: str
    position: Position
    updated_us: int


def everything(tx: Connection) -> list[CursorRow]:
    """Return all cursors by name; raises IntegrityError as ``find``."""
    # One by one: of a page in which one row is damaged the database layer gives none.
    return [row for name in names(tx) if (row := find(tx, name)) is not None]


def names(tx: Connection) -> list[str]:
    """Return the consumers that have cursors, in order."""
    return list(tx.scalars(select(event_cursor.c.consumer).order_by(event_cursor.c.consumer)))


def find(tx: Connection, consumer: str) -> CursorRow | None:
    """Return a consumer's cursor, None if it has none.

    Raises IntegrityError, which names the consumer, for one that no writer put there.
    """
    found = tx.execute(select(event_cursor).where(event_cursor.c.consumer == consumer))
    try:
        row = found.one_or_none()
    except IntegrityError as error:
        raise refused(consumer, error.message) from error
    return None if row is None else _row(row)


def refused(consumer: str, why: str) -> IntegrityError:
    """Return the error for a cursor that nobody can read on from."""
    return IntegrityError(
        f"the cursor of consumer {consumer} is damaged: {why}",
        hint=f"hart events cursors set {consumer} WHERE puts it somewhere else, hart events cursors"
        f" rm {consumer} forgets it",
    )


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
        .values(updated_us=_later(now_us), **_fields(position))
    )


def advance(tx: Connection, former: CursorRow, position: Position, *, now_us: int) -> bool:
    """Move a cursor on; False if somebody else wrote it since ``former``, and then it stays."""
    done = tx.execute(
        update(event_cursor)
        .where(
            event_cursor.c.consumer == former.consumer,
            event_cursor.c.updated_us == former.updated_us,
        )
        .values(updated_us=_later(now_us), **_fields(position))
    )
    return done.rowcount == 1


def _later(now_us: int) -> ColumnElement[int]:
    """A time that the row did not have yet, so that every write of it can be told from the last."""
    former = event_cursor.c.updated_us
    return case((former >= now_us, former + 1), else_=now_us)


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
