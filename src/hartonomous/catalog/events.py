"""The change feed: events written with the change that they tell of, read in the order of commits.

SQLite lets one transaction write at a time, so there ids are in that order. On PostgreSQL an id is
given when a row is written, and its transaction may be committed after others with later ids: who
reads what is beyond the last id it saw loses such events. So each row has its transaction's number,
and only rows of transactions are read of which no earlier one is still going on
(``pg_snapshot_xmin``), in the order of these numbers. What a subject's changes are serialised by
(the publication's lock, a locked row) must be taken before the transaction writes anything: then
the numbers of its transactions are in order too.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import msgspec
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    FromClause,
    Text,
    cast,
    delete,
    func,
    literal,
    not_,
    or_,
    select,
    true,
    tuple_,
    type_coerce,
)

from hartonomous.catalog import properties
from hartonomous.catalog.batches import batches, insert_or_skip, insert_rows
from hartonomous.catalog.columns import Words, damaged, decode_json
from hartonomous.catalog.schema import event, store_property
from hartonomous.core.event import (
    BEGINNING,
    MAX_DATA_BYTES,
    NewEvent,
    Position,
    check_type,
    parse_position,
)

_ERA = "event-era"
_SHED = "events-shed"
"""The property that says behind which event the feed begins."""

_SNAPSHOT = func.pg_current_snapshot()
_PLACE = (event.c.era, event.c.transaction_number, event.c.id)
_WRITTEN = (
    event.c.era, event.c.transaction_number, event.c.type, event.c.subject, event.c.time_us,
    event.c.data,
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRow:
    """An event as it is kept; ``time_us`` is microseconds UTC."""

    position: Position
    type: str
    subject: str | None
    time_us: int
    data: dict[str, Any]


def append(
    tx: Connection, type: str, subject: str | None, data: dict[str, Any], *, now_us: int
) -> None:
    """Write an event in the transaction that makes the change; see ``append_all``."""
    append_all(tx, [NewEvent(type, subject, data)], now_us=now_us)


def append_all(tx: Connection, events: Sequence[NewEvent], *, now_us: int) -> None:
    """Write events in the transaction that makes the changes.

    Raises ValueError for a type that is none, an empty subject, and data of more than
    ``MAX_DATA_BYTES`` as JSON: who makes an event bounds what is in it.
    """
    if not events:
        return
    told = []
    for one in events:
        data = msgspec.json.encode(one.data, order="deterministic")
        if len(data) > MAX_DATA_BYTES or one.subject == "":
            raise ValueError(f"an event {one.type} of {len(data)} bytes about {one.subject!r}")
        told.append((check_type(one.type), one.subject, now_us, data.decode()))
    place = _writing_at(tx, now_us)
    insert_rows(tx, _WRITTEN, [(*place, *one) for one in told])


def begin_era(tx: Connection, now_us: int) -> None:
    """Give the events from here on ids that no former event of this store has.

    For a catalog that is put in the place of another one: restored, or copied to another database.
    """
    former = _held_era(tx)
    _, last_us = properties.last_publication(tx)
    properties.put(tx, _ERA, str(max(now_us, last_us + 1, 0 if former is None else former + 1)))


def _writing_at(tx: Connection, now_us: int) -> tuple[int, int]:
    """Return the era that is on and this transaction's number; the first event begins an era.

    Its number is a time behind every former publication's, so that it is a new one after a repair,
    which knows the publications only. Rows that came from another database begin one too: the last
    one has a transaction's number that none of this database has yet. So it is where rows were
    dumped here and restored there, or copied from one engine to another.
    """
    held, number, foreign = tx.execute(_standing(tx.dialect.name)).one()
    era = _number_of_era(held)
    if era is None:
        _, last_us = properties.last_publication(tx)
        new = {"name": _ERA, "value": str(max(now_us, last_us + 1))}
        tx.execute(insert_or_skip(store_property, tx).values(new))  # or another one did meanwhile
    elif foreign == era:
        begin_era(tx, now_us)
    else:
        return era, number
    era = _held_era(tx)
    assert era is not None, "the row is there, ours or another's"
    return era, number


@lru_cache
def _standing(dialect: str) -> Any:
    """Select the era held, this transaction's number, and the last event's era if it is foreign."""
    held = select(store_property.c.value).where(store_property.c.name == _ERA)
    newest = (
        select(event.c.era, event.c.transaction_number)
        .order_by(*(one.desc() for one in _PLACE))
        .limit(1)
        .subquery()
    )
    ours: ColumnElement[int] = literal(0, BigInteger)
    if dialect == "postgresql":
        ours = cast(cast(func.pg_current_xact_id(), Text), BigInteger)
    foreign = select(newest.c.era).where(
        _foreign(dialect, newest), newest.c.transaction_number != ours
    )
    return select(
        type_coerce(held.scalar_subquery(), Words(optional=True)),
        ours,
        type_coerce(foreign.scalar_subquery(), BigInteger),
    )


def _foreign(dialect: str, rows: FromClause) -> ColumnElement[bool]:
    number: ColumnElement[int] = rows.c.transaction_number
    if dialect != "postgresql":
        return number != 0
    return number >= cast(cast(func.pg_snapshot_xmax(_SNAPSHOT), Text), BigInteger)


def _held_era(tx: Connection) -> int | None:
    return _number_of_era(properties.get(tx, _ERA))


def _number_of_era(value: str | None) -> int | None:
    try:
        return None if value is None else int(value)
    except ValueError as error:
        raise damaged(f"the property {_ERA} is no number") from error


def _settled(tx: Connection) -> ColumnElement[bool]:
    """Rows that no row can come in front of any more."""
    if tx.dialect.name != "postgresql":
        return true()
    oldest = cast(cast(func.pg_snapshot_xmin(_SNAPSHOT), Text), BigInteger)
    return or_(
        event.c.transaction_number < oldest,
        event.c.era < (_held_era(tx) or 0),
        # A row that can be seen and has a number that is not given yet.
        _foreign(tx.dialect.name, event),
    )


def after(tx: Connection, position: Position, *, limit: int) -> list[EventRow]:
    """Return the events behind a position, in order, at most ``limit``."""
    settled = _settled(tx)
    rows: list[EventRow] = []
    for beyond in _beyond(position):
        query = (
            select(*_PLACE, event.c.type, event.c.subject, event.c.time_us, event.c.data)
            .where(*beyond, settled)
            .order_by(*_PLACE)
            .limit(limit - len(rows))
        )
        rows += [_row(row) for row in tx.execute(query)]
        if len(rows) >= limit:
            break
    return rows


def _beyond(position: Position) -> Iterator[tuple[ColumnElement[bool], ...]]:
    """Yield what is behind a position as three ranges, each of which is one search in the index.

    Of a comparison of all three columns at once SQLite takes the first two, since the third is the
    row's own key, and reads everything of the same transaction number.
    """
    era = event.c.era == position.era
    transaction = event.c.transaction_number == position.transaction
    yield era, transaction, event.c.id > position.number
    yield era, event.c.transaction_number > position.transaction
    yield (event.c.era > position.era,)


def _row(row: Any) -> EventRow:
    era, transaction, number = row[:3]
    return EventRow(
        position=Position(era, transaction, number),
        type=row.type,
        subject=row.subject,
        time_us=row.time_us,
        data=_data(row.data),
    )


def _data(text: str) -> dict[str, Any]:
    if len(text) > MAX_DATA_BYTES:
        raise damaged(f"an event has {len(text)} characters of data")
    return decode_json(text, dict[str, Any])


def last(tx: Connection) -> Position:
    """Return the position behind all events that can be read now."""
    query = select(*_PLACE).where(_settled(tx)).order_by(*(one.desc() for one in _PLACE)).limit(1)
    row = tx.execute(query).one_or_none()
    return max(shed_up_to(tx), BEGINNING if row is None else Position(*row))


def is_ahead(tx: Connection, position: Position) -> bool:
    """Say whether a position is one that no reader got to, so that events would be missed there.

    One of a former era misses nothing: every event that comes is behind it.
    """
    era = _held_era(tx)
    return era is not None and position.era >= era and position > last(tx)


def before_time(tx: Connection, time_us: int) -> Position:
    """Return the position in front of the first event from a time on; else behind all."""
    query = (
        select(*_PLACE).where(event.c.time_us >= time_us, _settled(tx)).order_by(*_PLACE).limit(1)
    )
    row = tx.execute(query).one_or_none()
    return last(tx) if row is None else Position(row[0], row[1], row[2] - 1)


def behind(tx: Connection, position: Position) -> int:
    """Return how many events can be read behind a position."""
    query = select(func.count()).select_from(event)
    return int(tx.scalar(query.where(tuple_(*_PLACE) > tuple_(*position), _settled(tx))) or 0)


def shed_up_to(tx: Connection) -> Position:
    """Return the position up to which events are gone from the feed."""
    text = properties.get(tx, _SHED)
    if text is None:
        return BEGINNING
    position = parse_position(text)
    if position is None:
        raise damaged(f"the property {_SHED} is no position")
    return position


def sheddable(
    tx: Connection, *, before_us: int, up_to: Position | None, limit: int
) -> list[Position]:
    """Return the oldest events, as far as all are older than a time and not beyond ``up_to``."""
    query = select(*_PLACE, event.c.time_us).where(_settled(tx)).order_by(*_PLACE).limit(limit)
    found = []
    for row in tx.execute(query):
        position = Position(*row[:3])
        if row.time_us >= before_us or (up_to is not None and position > up_to):
            break
        found.append(position)
    return found


def count_sheddable(tx: Connection, *, before_us: int, up_to: Position | None) -> int:
    """Return how many events ``sheddable`` gives, however many there are."""
    stays = event.c.time_us >= before_us
    if up_to is not None:
        stays = or_(stays, tuple_(*_PLACE) > tuple_(*up_to))
    query = select(*_PLACE).where(or_(stays, not_(_settled(tx)))).order_by(*_PLACE).limit(1)
    first = tx.execute(query).one_or_none()
    count = select(func.count()).select_from(event)
    if first is not None:
        count = count.where(tuple_(*_PLACE) < tuple_(*first))
    return int(tx.scalar(count) or 0)


def shed(tx: Connection, positions: Sequence[Position]) -> None:
    """Drop events, the oldest that there are."""
    for some in batches(positions):
        tx.execute(delete(event).where(event.c.id.in_([one.number for one in some])))
    if positions:
        properties.put(tx, _SHED, str(max(positions)))
