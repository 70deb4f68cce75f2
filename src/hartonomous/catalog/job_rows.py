"""Rows of the queue as jobs; one that cannot be understood is told beside the others.

A catalog may come from somebody else, or from a failing disk: one damaged row must not keep all
others from being run or shown. Rows are read together, and one by one only where that fails.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Column, Connection, Row, Select, select, update
from sqlalchemy.exc import DBAPIError

from hartonomous.catalog import events
from hartonomous.catalog.columns import damaged, decode_json
from hartonomous.catalog.schema import job
from hartonomous.core.event import NewEvent, short
from hartonomous.core.job import MAX_KEY_CHARS, Job, Status
from hartonomous.errors import IntegrityError


class Found(NamedTuple):
    """Jobs in the order of their query, and what is wrong with each damaged row, by number."""

    jobs: list[Job]
    damaged: dict[int, str]


def read(tx: Connection, query: Select[Any]) -> Found:
    """Return what a query for whole rows finds."""
    try:
        return Found([job_of(row) for row in tx.execute(query)], {})
    except IntegrityError:
        pass
    except DBAPIError as error:
        if not is_no_text(error):
            raise
    return one_by_one(tx, list(tx.scalars(query.with_only_columns(job.c.id))))


def one_by_one(tx: Connection, ids: Iterable[int]) -> Found:
    """Return the jobs of these numbers, each read by itself."""
    found = Found([], {})
    for job_id in ids:
        try:
            row = tx.execute(select(*job.c).where(job.c.id == job_id)).one_or_none()
            if row is not None:
                found.jobs.append(job_of(row))
        except IntegrityError as error:
            found.damaged[job_id] = _what_is_wrong(tx, job_id, error.message)
        except DBAPIError as error:
            if not is_no_text(error):
                raise
            found.damaged[job_id] = _what_is_wrong(tx, job_id, str(error.orig))
    return found


def refused(job_id: int, why: str) -> IntegrityError:
    """Return the error of who asks for a damaged job."""
    return IntegrityError(
        f"the catalog is damaged: job {job_id}: {why}",
        hint="a worker ends it as dead and runs the others; put its work as a new job",
    )


def end_damaged(
    tx: Connection, found: dict[int, str], *, now_us: int, wrong: dict[int, str] | None
) -> None:
    """End damaged jobs as dead, whatever their rows hold, and tell of it; ``wrong`` receives why.

    The columns that cannot be understood stay as they are: who looks sees them, and nothing is run
    with arguments that nobody gave.
    """
    told = []
    for job_id, why in found.items():
        error = {"kind": IntegrityError.kind, "message": why, "hint": None}
        tx.execute(
            update(job)
            .where(job.c.id == job_id)
            .values(
                status=Status.DEAD.value, ended_us=now_us, lease_until_us=None,
                error=msgspec.json.encode(error).decode(),
            )
        )  # fmt: skip
        told.append(NewEvent("job.dead", f"job/{job_id}", _legible(tx, job_id, error)))
    events.append_all(tx, told, now_us=now_us)
    if wrong is not None:
        wrong.update(found)


def is_no_text(error: DBAPIError) -> bool:
    """Say whether SQLite's driver found a text that is no UTF-8; other databases refuse to keep it.

    The statement was carried out all the same.
    """
    return "decode to UTF-8" in str(error.orig)


def status_of(word: str) -> Status:
    """Return the status of a column; raises IntegrityError."""
    try:
        return Status(word)
    except ValueError as error:
        raise damaged(f"{word[:40]!r} is no status of a job") from error


def job_of(row: Row[Any]) -> Job:
    """Return a row as a job; raises IntegrityError."""
    held = row._mapping
    return Job(
        id=held["id"], kind=held["kind"], arguments=_arguments(held["arguments"]),
        key=held["unique_key"], status=status_of(held["status"]), priority=held["priority"],
        run_after_us=held["run_after_us"], attempts=held["attempts"],
        max_attempts=held["max_attempts"], epoch=held["epoch"], worker=held["worker"],
        lease_until_us=held["lease_until_us"], heartbeat_us=held["heartbeat_us"],
        cancel_asked=bool(held["cancel_asked"]), created_us=held["created_us"],
        started_us=held["started_us"], ended_us=held["ended_us"], stage=held["stage"],
        record_count=held["record_count"], done_bytes=held["done_bytes"],
        total_bytes=held["total_bytes"], error=error_of(held["error"]),
        result=_result(held["result"]),
    )  # fmt: skip


def error_of(text: str | None) -> dict[str, str | None] | None:
    """Return what the column of the error says; raises IntegrityError."""
    return None if text is None else decode_json(text, dict[str, str | None])


def _arguments(text: str) -> dict[str, Any]:
    return decode_json(text, dict[str, Any])


def _result(text: str | None) -> dict[str, Any] | None:
    return None if text is None else decode_json(text, dict[str, Any])


_DECODED: dict[str, Callable[[Any], object]] = {
    "arguments": _arguments, "status": status_of, "error": error_of, "result": _result,
}  # fmt: skip


def _value(tx: Connection, job_id: int, column: Column[Any]) -> Any:
    """Return one column of a row; raises IntegrityError where it cannot be understood."""
    try:
        found = tx.scalar(select(column).where(job.c.id == job_id))
    except DBAPIError as error:
        if not is_no_text(error):
            raise
        raise damaged("a text is no UTF-8") from error
    if column.name in _DECODED:
        _DECODED[column.name](found)
    return found


def _what_is_wrong(tx: Connection, job_id: int, otherwise: str) -> str:
    wrong = []
    for column in job.c:
        try:
            _value(tx, job_id, column)
        except IntegrityError:
            wrong.append(column.name)
    return f"its row cannot be understood: {', '.join(wrong) or otherwise}"


def _legible(tx: Connection, job_id: int, error: dict[str, str | None]) -> dict[str, Any]:
    """Return the data of the event that tells of a damaged job, as far as they can be read."""
    data: dict[str, Any] = {"job": job_id}
    columns: dict[str, tuple[Column[Any], Any]] = {
        "kind": (job.c.kind, ""), "key": (job.c.unique_key, None), "attempts": (job.c.attempts, 0),
        "record_count": (job.c.record_count, 0), "done_bytes": (job.c.done_bytes, 0),
    }  # fmt: skip
    for name, (column, otherwise) in columns.items():
        try:
            value = _value(tx, job_id, column)
        except IntegrityError:
            value = otherwise
        data[name] = value[:MAX_KEY_CHARS] if isinstance(value, str) else value
    return {**data, "error": error["kind"], "message": short(error["message"] or "")}
