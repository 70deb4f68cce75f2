"""Schedules: what is put into the queue again and again.

One row that cannot be understood keeps the others from nothing: where ``wrong`` is given it is
passed over, and ``wrong`` receives why, by name.
"""

from typing import Any

import msgspec
from sqlalchemy import Connection, Row, Select, delete, func, insert, select, update

from hartonomous.catalog.columns import decode_json
from hartonomous.catalog.schema import schedule
from hartonomous.core.schedule import Schedule
from hartonomous.errors import IntegrityError


def put(tx: Connection, new: Schedule) -> None:
    """Keep a schedule; one of the same name is replaced."""
    remove(tx, new.name)
    values = {**msgspec.structs.asdict(new), "arguments": _encoded(new.arguments)}
    tx.execute(insert(schedule).values(values))


def remove(tx: Connection, name: str) -> bool:
    """Forget a schedule; False if there was none."""
    return bool(tx.execute(delete(schedule).where(schedule.c.name == name)).rowcount)


def by_name(tx: Connection, name: str) -> Schedule | None:
    """Return one schedule."""
    row = tx.execute(select(*schedule.c).where(schedule.c.name == name)).one_or_none()
    return None if row is None else _schedule(row)


def count(tx: Connection) -> int:
    """Return how many schedules there are."""
    return int(tx.scalar(select(func.count()).select_from(schedule)) or 0)


def has(tx: Connection, name: str) -> bool:
    """Say whether there is a schedule of a name."""
    return tx.scalar(select(schedule.c.name).where(schedule.c.name == name)) is not None


def listed(tx: Connection, *, wrong: dict[str, str] | None = None) -> list[Schedule]:
    """Return every schedule, by name."""
    return _read(tx, select(*schedule.c).order_by(schedule.c.name), wrong)


def locked(tx: Connection, *, wrong: dict[str, str] | None = None) -> list[Schedule]:
    """Return the schedules that nobody else is looking at, kept as they are until the end."""
    query = select(*schedule.c).order_by(schedule.c.name).with_for_update(skip_locked=True)
    return _read(tx, query, wrong)


def set_run(
    tx: Connection, name: str, *, next_us: int, last: tuple[int, int] | None = None
) -> None:
    """Say when a schedule is due next, and (time, job) of the run that was just put."""
    values: dict[str, Any] = {"next_us": next_us}
    if last is not None:
        values |= {"last_us": last[0], "last_job_id": last[1]}
    tx.execute(update(schedule).where(schedule.c.name == name).values(values))


def _read(tx: Connection, query: Select[Any], wrong: dict[str, str] | None) -> list[Schedule]:
    """Return what a query for whole rows finds: together, or one by one where that fails."""
    try:
        return [_schedule(row) for row in tx.execute(query)]
    except IntegrityError:
        if wrong is None:
            raise
    found = []
    for name in list(tx.scalars(query.with_only_columns(schedule.c.name))):
        try:
            one = by_name(tx, name)
        except IntegrityError as error:
            wrong[name] = error.message
        else:
            found += [] if one is None else [one]
    return found


def _encoded(arguments: dict[str, Any]) -> str:
    return msgspec.json.encode(arguments).decode()


def _schedule(row: Row[Any]) -> Schedule:
    held = dict(row._mapping)
    held["arguments"] = decode_json(held["arguments"], dict[str, Any])
    return Schedule(**held)
