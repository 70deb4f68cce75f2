"""Single values that belong to the store as a whole, such as the last publication's number."""

import msgspec
from sqlalchemy import Connection, insert, select, update

from hartonomous.catalog.columns import damaged
from hartonomous.catalog.schema import store_property
from hartonomous.core.undecodable import UNDECODABLE

_BEGUN = "publications_begun"
_MOST_BEGUN = 256
"""Of publications that died so many are remembered; what older ones left waits for a repair."""


def get(tx: Connection, name: str) -> str | None:
    """Return a property's value, None if it was never set."""
    return tx.scalar(select(store_property.c.value).where(store_property.c.name == name))


def put(tx: Connection, name: str, value: str) -> None:
    """Set a property."""
    done = tx.execute(
        update(store_property).where(store_property.c.name == name).values(value=value)
    )
    if done.rowcount == 0:
        tx.execute(insert(store_property).values(name=name, value=value))


def last_publication(tx: Connection) -> tuple[int, int]:
    """Return the (sequence, microseconds UTC) of the newest commit or change; zeros at first."""
    return _number(tx, "sequence"), _number(tx, "sequence_time_us")


def _number(tx: Connection, name: str) -> int:
    value = get(tx, name)
    try:
        return int(value or 0)
    except ValueError as error:
        raise damaged(f"the property {name} is no number") from error


def set_last_publication(tx: Connection, sequence: int, time_us: int) -> None:
    """Remember the newest commit or change."""
    put(tx, "sequence", str(sequence))
    put(tx, "sequence_time_us", str(time_us))


def begun_publications(tx: Connection) -> list[int]:
    """Return the times of publications that began here and did not end, oldest first."""
    try:
        return msgspec.json.decode(get(tx, _BEGUN) or "[]", type=list[int])
    except UNDECODABLE as error:
        raise damaged(f"the property {_BEGUN} is no list of times") from error


def begin_publication(tx: Connection, sequence: int, time_us: int) -> None:
    """Remember a publication before there is a record of it: ``sequence`` is the last number."""
    set_last_publication(tx, sequence, time_us)
    begun = [*begun_publications(tx), time_us][-_MOST_BEGUN:]
    put(tx, _BEGUN, msgspec.json.encode(begun).decode())


def end_publication(tx: Connection, sequence: int, time_us: int) -> None:
    """Remember in the transaction of a publication that it was done, and its last number."""
    set_last_publication(tx, sequence, time_us)
    begun = [one for one in begun_publications(tx) if one != time_us]
    put(tx, _BEGUN, msgspec.json.encode(begun).decode())
