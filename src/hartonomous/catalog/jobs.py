"""The queue: jobs put, claimed, kept alive, ended. A worker reports with the epoch of its claim.

Each report is one UPDATE that names id, epoch and lease: what was taken back meanwhile is refused.
On PostgreSQL claims pass over rows that others are claiming (SKIP LOCKED); on SQLite a writer is
alone anyway.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, NamedTuple

import msgspec
from sqlalchemy import (
    ColumnElement,
    Connection,
    case,
    delete,
    func,
    insert,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.exc import DBAPIError

from hartonomous.catalog import events, job_rows
from hartonomous.catalog.batches import batches, insert_or_skip
from hartonomous.catalog.columns import decode_json, numbered
from hartonomous.catalog.database import ROWS_PER_TRANSACTION
from hartonomous.catalog.schema import job
from hartonomous.core.event import NewEvent, short
from hartonomous.core.job import (
    CLOCKS_DIFFER_S,
    ENDED,
    LONGEST_RETRY_S,
    MAX_KEY_CHARS,
    SECOND_US,
    Ending,
    Job,
    Status,
    after_failure,
    latest_lease_us,
    latest_retry_us,
    new_lease_us,
)
from hartonomous.errors import IntegrityError

EXPIRED_AT_ONCE = 100
_Count = Annotated[int, msgspec.Meta(ge=0)]
_TOLD = {
    Status.DONE: "job.completed",
    Status.FAILED: "job.failed",
    Status.DEAD: "job.dead",
}
"""The event of each ending that the outside is told of, in the same transaction."""
_LOST = {
    "kind": "failed",
    "message": "the worker that ran this said nothing for longer than its lease",
    "hint": "it was killed, or its machine stopped; the system log may say why",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJob:
    """A job to be put."""

    kind: str
    arguments: dict[str, Any]
    key: str | None
    priority: int
    run_after_us: int
    max_attempts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a worker says of a job while it runs; a beat of its heart."""

    stage: str | None
    record_count: int
    done_bytes: int
    total_bytes: int | None


class Ended(NamedTuple):
    """Where a job stands after a run."""

    id: int
    status: Status
    kind: str
    key: str | None
    attempts: int


def put(tx: Connection, new: NewJob, *, now_us: int) -> tuple[int, bool]:
    """Put a job; return its id, and False where an active one has the same key already."""
    values = _values(new, now_us)
    if new.key is None:
        made = tx.scalar(insert(job).values(values).returning(job.c.id))
        assert made is not None
        return made, True
    while True:
        made = tx.scalar(insert_or_skip(job, tx).values(values).returning(job.c.id))
        if made is not None:
            return made, True
        there = tx.scalar(
            select(job.c.id).where(job.c.unique_key == new.key, job.c.ended_us.is_(None))
        )
        if there is not None:  # else it ended just now, and ours goes in
            return there, False


def active_key(tx: Connection, key: str) -> bool:
    """Say whether a job with this key waits or runs."""
    query = select(job.c.id).where(job.c.unique_key == key, job.c.ended_us.is_(None))
    return tx.scalar(query) is not None


def _values(new: NewJob, now_us: int) -> dict[str, Any]:
    return {
        "kind": new.kind, "arguments": _encoded(new.arguments), "unique_key": new.key,
        "status": Status.PENDING.value, "priority": new.priority,
        "run_after_us": new.run_after_us, "attempts": 0, "max_attempts": new.max_attempts,
        "epoch": 0, "cancel_asked": 0, "created_us": now_us, "record_count": 0, "done_bytes": 0,
    }  # fmt: skip


def claim(
    tx: Connection, *, worker: str, now_us: int, limit: int, wrong: dict[int, str] | None = None
) -> list[Job]:
    """Give up to ``limit`` jobs that are due to a worker, for one lease; the first to run first.

    What was due and cannot be understood is dead then; ``wrong`` receives why, by number.
    """
    lease_us = new_lease_us(now_us)
    given = {"worker": worker, "now": now_us, "lease": lease_us, "most": limit}
    ids: list[int] = []
    try:
        rows = [tuple(row) for row in tx.execute(_CLAIM_ON[tx.dialect.name], given).all()]
        ids = [row[0] for row in rows]
        checked = msgspec.convert(rows, list[_Claimed])
        claimed = [_running(one, worker, now_us, lease_us) for one in checked]
    except (msgspec.ValidationError, IntegrityError):
        claimed = _sound(tx, ids, now_us, wrong)
    except DBAPIError as error:
        if not job_rows.is_no_text(error):
            raise
        given_now = (job.c.worker == worker) & (job.c.lease_until_us == lease_us)
        ids = list(tx.scalars(select(job.c.id).where(given_now & (job.c.started_us == now_us))))
        claimed = _sound(tx, ids, now_us, wrong)
    return sorted(claimed, key=lambda one: (one.priority, one.run_after_us, one.id))


def _running(one: "_Claimed", worker: str, now_us: int, lease_us: int) -> Job:
    return Job(
        id=one.id, kind=one.kind, arguments=decode_json(one.arguments, dict[str, Any]),
        key=one.key, status=Status.RUNNING, priority=one.priority,
        run_after_us=one.run_after_us, attempts=one.attempts, max_attempts=one.max_attempts,
        epoch=one.epoch, worker=worker, lease_until_us=lease_us, heartbeat_us=now_us,
        cancel_asked=bool(one.cancel_asked), created_us=one.created_us, started_us=now_us,
        ended_us=None, stage=None, record_count=0, done_bytes=0, total_bytes=None,
        error=job_rows.error_of(one.error), result=None,
    )  # fmt: skip


def _sound(
    tx: Connection, ids: Sequence[int], now_us: int, wrong: dict[int, str] | None
) -> list[Job]:
    """Return the jobs that were claimed and can be understood; the others end."""
    found = job_rows.one_by_one(tx, ids)
    job_rows.end_damaged(tx, found.damaged, now_us=now_us, wrong=wrong)
    return found.jobs


def any_due(tx: Connection, *, now_us: int) -> bool:
    """Say whether a job could be claimed now."""
    query = select(job.c.id).where(_waits(), job.c.run_after_us <= now_us)
    return tx.scalar(query.limit(1)) is not None


def any_failed(tx: Connection) -> bool:
    """Say whether a job waits for its retry."""
    query = select(job.c.id).where(_waits(), job.c.status == Status.FAILED.value)
    return tx.scalar(query.limit(1)) is not None


def beat(tx: Connection, claimed: Job, report: Report, *, now_us: int) -> bool | None:
    """Lengthen a lease and tell the progress; return whether to stop, None where the job is lost.

    To stop means that somebody asked for the job to be cancelled.
    """
    asked = tx.scalar(
        update(job)
        .where(job.c.id == claimed.id, job.c.epoch == claimed.epoch, _is_leased())
        .values(
            lease_until_us=new_lease_us(now_us), heartbeat_us=now_us, stage=report.stage,
            record_count=report.record_count, done_bytes=report.done_bytes,
            total_bytes=report.total_bytes,
        )
        .returning(job.c.cancel_asked)
    )  # fmt: skip
    return None if asked is None else bool(asked)


def finish(tx: Connection, endings: Sequence[Ending], *, now_us: int) -> list[Ended]:
    """End runs, in one statement for each 500; return where those jobs stand that were still held.

    A run whose job was given to another worker, or taken back, is refused: it is not returned. What
    would wait for another run is cancelled where somebody asked for that meanwhile. Of several
    endings of one job the last counts.
    """
    by_id = {one.id: one for one in endings}
    ended = sorted(
        Ended(job_id, job_rows.status_of(status), kind, key, attempts)
        for piece in batches(list(by_id.values()))
        for job_id, status, kind, key, attempts in _end(tx, piece, now_us)
    )
    told = [_event(one, by_id[one.id]) for one in ended if one.status in _TOLD]
    events.append_all(tx, told, now_us=now_us)
    return ended


def _end(tx: Connection, endings: Sequence[Ending], now_us: int) -> Sequence[Any]:
    given = [
        (
            one.id, one.epoch, one.status.value, one.attempts, int(one.status not in ENDED),
            one.run_after_us, one.record_count, one.done_bytes, _encoded(one.error),
            _encoded(one.result),
        )
        for one in endings
    ]  # fmt: skip
    if tx.dialect.name == "sqlite":
        values = [value for row in given for value in row]
        return tx.exec_driver_sql(_finish_many(len(given)), (*values, now_us)).all()
    rows = [dict(zip(_GIVEN, row, strict=True)) for row in given]
    return tx.execute(_FINISH_RECORDS, {"given": _encoded(rows), "now": now_us}).all()


def take_back(
    tx: Connection, *, now_us: int, chance: Callable[[], float], limit: int = EXPIRED_AT_ONCE,
    wrong: dict[int, str] | None = None,
) -> list[Ended]:  # fmt: skip
    """End the runs whose leases are over; return their jobs, which wait for a retry or are dead.

    Those that cannot be understood are dead, and not returned; ``wrong`` receives why, by number.
    ``chance`` gives numbers from 0 to 1. Times that only a clock ahead of this one can have written
    are cut to what this one would write.
    """
    delay = job.c.run_after_us - job.c.created_us
    tx.execute(
        update(job)
        .where(_waits(), _of_the_future(now_us))
        .values(run_after_us=case((delay > 0, delay + now_us), else_=now_us), created_us=now_us)
    )
    tx.execute(
        update(job)
        .where(job.c.lease_until_us > latest_lease_us(now_us))
        .values(lease_until_us=new_lease_us(now_us))
    )
    tx.execute(
        update(job)
        .where(
            _waits(),
            job.c.status == Status.FAILED.value,
            job.c.run_after_us > latest_retry_us(now_us),
        )
        .values(run_after_us=now_us + LONGEST_RETRY_S * SECOND_US)
    )
    found = job_rows.read(
        tx,
        select(*job.c)
        .where(job.c.lease_until_us <= now_us)
        .order_by(job.c.lease_until_us)
        .limit(limit)
        .with_for_update(skip_locked=True),
    )
    job_rows.end_damaged(tx, found.damaged, now_us=now_us, wrong=wrong)
    over = [after_failure(one, _LOST, now_us=now_us, chance=chance) for one in found.jobs]
    return finish(tx, over, now_us=now_us)


def any_over(tx: Connection, *, now_us: int) -> bool:
    """Say whether ``take_back`` has something to do."""
    over = or_(job.c.lease_until_us <= now_us, job.c.lease_until_us > latest_lease_us(now_us))
    late = select(job.c.id).where(
        _waits(), job.c.status == Status.FAILED.value, job.c.run_after_us > latest_retry_us(now_us)
    )
    early = select(job.c.id).where(_waits(), _of_the_future(now_us))
    found = (select(job.c.id).where(over), late, early)
    return any(tx.scalar(one.limit(1)) is not None for one in found)


def cancel(tx: Connection, found: Job, *, now_us: int) -> None:
    """Cancel a job that was locked: at once while it waits, else at its next heartbeat."""
    if found.status == Status.RUNNING:
        values: dict[str, Any] = {"cancel_asked": 1}
    else:
        values = {"status": Status.CANCELLED.value, "ended_us": now_us}
    tx.execute(update(job).where(job.c.id == found.id).values(values))


def put_again(tx: Connection, found: Job, *, now_us: int) -> bool:
    """Let a locked job wait anew, with all its attempts; False if its key is taken by another."""
    if found.key is not None and found.status in ENDED:
        other = select(job.c.id).where(
            job.c.unique_key == found.key, job.c.ended_us.is_(None), job.c.id != found.id
        )
        if tx.scalar(other.limit(1)) is not None:
            return False
    tx.execute(
        update(job)
        .where(job.c.id == found.id)
        .values(
            status=Status.PENDING.value, ended_us=None, attempts=0, run_after_us=now_us,
            cancel_asked=0,
        )
    )  # fmt: skip
    return True


def by_id(tx: Connection, job_id: int, *, lock: bool = False) -> Job | None:
    """Return one job; ``lock`` keeps it as it is until the transaction ends.

    None where there is none of this number, however large that is; raises IntegrityError where it
    is damaged.
    """
    query = select(*job.c).where(numbered(job.c.id, job_id))
    found = job_rows.read(tx, query.with_for_update() if lock else query)
    for number, why in found.damaged.items():
        raise job_rows.refused(number, why)
    return next(iter(found.jobs), None)


def listed(
    tx: Connection, *, statuses: Sequence[Status] = (), kind: str | None = None, limit: int
) -> job_rows.Found:
    """Return jobs, the newest first, and those that are damaged."""
    query = select(*job.c).order_by(job.c.id.desc()).limit(limit)
    if statuses:
        query = query.where(job.c.status.in_([one.value for one in statuses]))
    if kind is not None:
        query = query.where(job.c.kind == kind)
    return job_rows.read(tx, query)


def shed(tx: Connection, *, ended_before_us: int, limit: int) -> int:
    """Forget some jobs that ended before a time; return how many."""
    old = select(job.c.id).where(job.c.ended_us < ended_before_us).limit(limit)
    return tx.execute(delete(job).where(job.c.id.in_(old))).rowcount


def count_ended(tx: Connection, *, before_us: int) -> int:
    """Return how many jobs ended before a time."""
    query = select(func.count()).select_from(job).where(job.c.ended_us < before_us)
    return int(tx.scalar(query) or 0)


def count_open(tx: Connection) -> int:
    """Return how many jobs have not ended."""
    query = select(func.count()).select_from(job).where(job.c.status.not_in(sorted(ENDED)))
    return int(tx.scalar(query) or 0)


def _waits() -> ColumnElement[bool]:
    return job.c.lease_until_us.is_(None) & job.c.ended_us.is_(None)


def _of_the_future(now_us: int) -> ColumnElement[bool]:
    """Jobs that a clock put which has been set back since: their delay counts from now on."""
    fresh = job.c.status == Status.PENDING.value
    return fresh & (job.c.created_us > now_us + CLOCKS_DIFFER_S * SECOND_US)


def _is_leased() -> ColumnElement[bool]:
    return job.c.lease_until_us.is_not(None)


class _Claimed(msgspec.Struct, frozen=True, array_like=True):
    """What a claim returns of a job, in the order of its columns; decoding checks the types."""

    id: int
    kind: str
    arguments: str
    key: str | None
    priority: int
    run_after_us: int
    attempts: _Count
    max_attempts: _Count
    epoch: _Count
    cancel_asked: _Count
    created_us: int
    error: str | None


# What no worker can have counted up to becomes what is seen to be damage, and ends that one job:
# PostgreSQL would refuse to add 1, and with that every claim.
_NEXT = "CASE WHEN {0} < 9223372036854775807 THEN {0} + 1 ELSE -1 END"
_CLAIM = """\
WITH due AS (
  SELECT id FROM job
  WHERE lease_until_us IS NULL AND ended_us IS NULL AND run_after_us <= :now
  ORDER BY priority, run_after_us, id LIMIT :most {lock}
)
UPDATE job SET status = 'running', epoch = {epoch}, attempts = {attempts}, worker = :worker,
  lease_until_us = :lease, heartbeat_us = :now, started_us = :now, stage = NULL, record_count = 0,
  done_bytes = 0, total_bytes = NULL, result = NULL
WHERE id IN (SELECT id FROM due)
RETURNING id, kind, arguments, unique_key, priority, run_after_us, attempts, max_attempts, epoch,
  cancel_asked, created_us, error"""
_CLAIM_ON = {
    name: text(
        _CLAIM.format(lock=lock, epoch=_NEXT.format("epoch"), attempts=_NEXT.format("attempts"))
    )
    for name, lock in (("sqlite", ""), ("postgresql", "FOR UPDATE SKIP LOCKED"))
}

_FINISH = """\
WITH given({names}) AS ({rows})
UPDATE job SET
  status = CASE WHEN given.again = 1 AND job.cancel_asked = 1 THEN 'cancelled'
    ELSE given.status END,
  ended_us = CASE WHEN given.again = 1 AND job.cancel_asked = 0 THEN NULL
    ELSE CAST({now} AS BIGINT) END,
  run_after_us = CASE WHEN given.again = 1 THEN given.run_after_us ELSE job.run_after_us END,
  attempts = CASE WHEN given.again = 1 THEN given.attempts ELSE job.attempts END,
  record_count = given.record_count,
  done_bytes = given.done_bytes,
  error = given.error,
  result = given.result,
  lease_until_us = NULL
FROM given
WHERE job.id = given.id AND job.epoch = given.epoch AND job.lease_until_us IS NOT NULL
RETURNING job.id, job.status, job.kind, job.unique_key, job.attempts"""
_GIVEN = {
    "id": "bigint", "epoch": "bigint", "status": "text", "attempts": "bigint", "again": "bigint",
    "run_after_us": "bigint", "record_count": "bigint", "done_bytes": "bigint", "error": "text",
    "result": "text",
}  # fmt: skip
_NAMES = ", ".join(_GIVEN)
# PostgreSQL gets the endings as one JSON text: a statement with a value for each column of each row
# would be another for each number of rows, for the server to plan anew.
_FINISH_RECORDS = text(
    _FINISH.format(
        names=_NAMES,
        rows="SELECT * FROM json_to_recordset(CAST(:given AS json)) AS one({})".format(  # noqa: S608
            ", ".join(f"{name} {kind}" for name, kind in _GIVEN.items())
        ),
        now=":now",
    )
)


@lru_cache(maxsize=ROWS_PER_TRANSACTION)
def _finish_many(count: int) -> str:
    """Return SQLite's statement for so many endings; read from a JSON they take twice as long."""
    row = f"({', '.join('?' * len(_GIVEN))})"
    return _FINISH.format(names=_NAMES, rows=f"VALUES {', '.join([row] * count)}", now="?")


def _event(ended: Ended, ending: Ending) -> NewEvent:
    data: dict[str, Any] = {
        # Cut: who wrote the row may not have kept to what a job may have.
        "job": ended.id, "kind": ended.kind[:MAX_KEY_CHARS],
        "key": None if ended.key is None else ended.key[:MAX_KEY_CHARS],
        "attempts": ended.attempts,
        "record_count": ending.record_count, "done_bytes": ending.done_bytes,
    }  # fmt: skip
    if ended.status != Status.DONE:
        error = ending.error or {}
        data["error"] = error.get("kind") or "failed"
        data["message"] = short(error.get("message") or "")
    return NewEvent(_TOLD[ended.status], f"job/{ended.id}", data)


def _encoded(value: object) -> str | None:
    return None if value is None else msgspec.json.encode(value).decode()
