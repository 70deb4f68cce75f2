"""Schedules: what is put into the queue again and again."""

from typing import Any

import msgspec
from sqlalchemy import Connection, Row, delete, insert, select, update

from hartonomous.catalog.columns import decode_json
from hartonomous.catalog.schema import schedule
from hartonomous.core.schedule import Schedule


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


def listed(tx: Connection) -> list[Schedule]:
    """Return every schedule, by name."""
    return [_schedule(row) for row in tx.execute(select(*schedule.c).order_by(schedule.c.name))]


def locked(tx: Connection) -> list[Schedule]:
    """Return the schedules that nobody else is looking at, kept as they are until the end."""
    query = select(*schedule.c).order_by(schedule.c.name).with_for_update(skip_locked=True)
    return [_schedule(row) for row in tx.execute(query)]


def set_run(
    tx: Connection, name: str, *, next_us: int, last: tuple[int, int] | None = None
) -> None:
    """Say when a schedule is due next, and (time, job) of the run that was just put."""
    values: dict[str, Any] = {"next_us": next_us}
    if last is not None:
        values |= {"last_us": last[0], "last_job_id": last[1]}
    tx.execute(update(schedule).where(schedule.c.name == name).values(values))


def _encoded(arguments: dict[str, Any]) -> str:
    return msgspec.json.encode(arguments).decode()


def _schedule(row: Row[Any]) -> Schedule:
    held = dict(row._mapping)
    held["arguments"] = decode_json(held["arguments"], dict[str, Any])
    return Schedule(**held)
