"""``store.jobs``: what is put, what is refused, and how a job is looked at, cancelled, retried."""

import threading

import msgspec
import pytest
from sqlalchemy import text
from told import told

import hartonomous as hn
from hartonomous.catalog import jobs
from hartonomous.core.job import Ending, Status
from hartonomous.errors import (
    ConflictError,
    IntegrityError,
    InterruptedWorkError,
    NotFoundError,
    UsageError,
)


@pytest.fixture
def store(catalog_engine, tmp_path):
    with hn.open(tmp_path / "store", create=True) as opened:
        yield opened


def claim(store, limit=1):
    with store.parts.database.write() as tx:
        return jobs.claim(tx, worker="w", now_us=store.parts.clock(), limit=limit)


def finish(store, job, status, **more):
    with store.parts.database.write() as tx:
        ending = Ending(id=job.id, epoch=job.epoch, status=status, **more)
        return jobs.finish(tx, [ending], now_us=store.parts.clock())


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        ("dance", {}),
        ("gc", {"grace": 1}),
        ("gc", {"grace_s": "1h"}),
        ("gc", {"grace_s": float("nan")}),
        ("gc", {"trash_days": -1}),
        ("gc", {"trash_days": float("inf")}),  # JSON has no such number
        ("verify", {"subset": "0"}),
        ("verify", {"subset": "1/0"}),
        ("verify", {"subset": "9" * 5000}),
        ("verify", {"quick": True, "files": True}),
        ("repack", {"max_duration_s": []}),
        ("add", {}),
        ("add", {"paths": []}),
        ("add", {"paths": [""]}),
        ("add", {"paths": ["."], "name": "a", "update": True}),
        ("add", {"paths": ["."], "labels": ["not/a label"]}),
        ("repair", {"now": True}),
    ],
)
@pytest.mark.parametrize("catalog_engine", ["sqlite"], indirect=True)  # nothing is written
def test_wrong_arguments_are_refused_when_they_are_put(store, kind, arguments):
    with pytest.raises(UsageError):
        store.jobs.submit(kind, arguments)
    assert store.jobs.list() == []


@pytest.mark.parametrize("number", [1, -1, 2**63 - 1, 2**63, -(10**30)])
def test_a_number_that_no_job_has(store, number):
    for use in (store.jobs.get, store.jobs.cancel, store.jobs.retry):
        with pytest.raises(NotFoundError, match="there is no job"):
            use(number)


@pytest.mark.parametrize("catalog_engine", ["sqlite"], indirect=True)  # nothing is written
def test_what_no_job_may_have(store, tmp_path):
    with pytest.raises(NotFoundError):
        store.jobs.submit("add", {"paths": [str(tmp_path / "nothing")]})
    for wrong in (
        {"key": ""}, {"key": "k" * 201}, {"key": "a\nb"}, {"priority": 1001},
        {"max_attempts": 0}, {"delay_s": -1}, {"delay_s": float("nan")},
    ):  # fmt: skip
        with pytest.raises(UsageError):
            store.jobs.submit("gc", **wrong)
    many = {f"key{n}": "v" * 100 for n in range(1000)}
    with pytest.raises(UsageError, match="bytes, more than"):
        store.jobs.submit("add", {"paths": [str(tmp_path)], "metadata": many})
    name = tmp_path / b"no \xff text".decode("utf-8", "surrogateescape")
    name.write_bytes(b"x")
    with pytest.raises(UsageError, match="must be JSON"):
        store.jobs.submit("add", {"paths": [str(name)]})


def test_paths_are_absolute_when_they_are_put(store, tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_text("a")
    monkeypatch.chdir(tmp_path)
    put = store.jobs.submit("add", {"paths": ["a.txt"]})
    assert put.arguments["paths"] == [str(tmp_path / "a.txt")]


def test_one_active_job_has_a_key(store):
    first = store.jobs.submit("gc", key="k")
    assert store.jobs.submit("gc", {"grace_s": 5}, key="k").id == first.id
    assert store.jobs.submit("gc", key="other").id != first.id
    store.jobs.cancel(first.id)
    second = store.jobs.submit("gc", key="k")
    assert second.id != first.id
    with pytest.raises(ConflictError, match="another job with the key 'k'"):
        store.jobs.retry(first.id)


def test_cancelling(store):
    waiting, running = store.jobs.submit("gc", priority=1), store.jobs.submit("gc")
    (claimed,) = claim(store)
    assert claimed.id == running.id
    assert store.jobs.cancel(waiting.id).status == "cancelled"
    asked = store.jobs.cancel(running.id)
    assert (asked.status, asked.cancel_asked) == ("running", True)
    # A run that failed by itself just then is not tried again.
    (ended,) = finish(store, claimed, Status.FAILED)
    assert ended.status == "cancelled"
    with pytest.raises(ConflictError, match="is cancelled already"):
        store.jobs.cancel(running.id)
    with pytest.raises(NotFoundError):
        store.jobs.cancel(999)


def test_retrying(store):
    put = store.jobs.submit("gc", max_attempts=1)
    (claimed,) = claim(store)
    with pytest.raises(ConflictError, match="is running"):
        store.jobs.retry(put.id)
    finish(store, claimed, Status.DEAD, error={"kind": "failed", "message": "m", "hint": None})
    again = store.jobs.retry(put.id)
    assert (again.status, again.attempts, again.ended_us) == ("pending", 0, None)
    (claimed,) = claim(store)
    assert claimed.epoch == 2
    finish(store, claimed, Status.DONE)
    with pytest.raises(ConflictError, match="is done"):
        store.jobs.retry(put.id)


def test_a_job_put_off_is_not_due(store):
    store.jobs.submit("gc", delay_s=3600)
    assert claim(store) == []


def test_waiting_for_the_end(store):
    put = store.jobs.submit("gc")
    with pytest.raises(InterruptedWorkError, match="still pending"):
        store.jobs.wait(put.id, timeout_s=0.1)
    (claimed,) = claim(store)
    timer = threading.Timer(0.2, finish, (store, claimed, Status.DONE))
    timer.start()
    assert store.jobs.wait(put.id, timeout_s=60).status == "done"
    timer.join()


def test_listing(store):
    first, second = store.jobs.submit("gc"), store.jobs.submit("verify")
    store.jobs.cancel(first.id)
    assert [one.id for one in store.jobs.list()] == [second.id, first.id]
    assert [one.id for one in store.jobs.list(kind="gc")] == [first.id]
    assert [one.id for one in store.jobs.list(statuses=["pending", "dead"])] == [second.id]
    assert len(store.jobs.list(limit=1)) == 1
    with pytest.raises(UsageError):
        store.jobs.list(statuses=["lost"])


def test_events_tell_how_jobs_ended(store):
    for status in (Status.DONE, Status.FAILED, Status.DEAD, Status.CANCELLED, Status.PENDING):
        store.jobs.submit("gc")
        (claimed,) = claim(store)
        error = None if status is Status.DONE else {"kind": "failed", "message": "m", "hint": None}
        later = store.parts.clock() + 10**12
        finish(store, claimed, status, error=error, run_after_us=later)
    found = told(store, types=["job.*"])  # each is held to its schema
    assert [one.type for one in found] == ["job.completed", "job.failed", "job.dead"]
    assert [one.subject for one in found] == ["job/1", "job/2", "job/3"]
    assert found[2].data["message"] == "m"


def test_gc_forgets_jobs_that_ended_long_ago(catalog_engine, tmp_path):
    with hn.open(tmp_path / "store", create=True, settings={"job_days": 0}) as store:
        done, waits = store.jobs.submit("gc"), store.jobs.submit("gc")
        (claimed,) = claim(store)
        finish(store, claimed, Status.DONE)
        assert store.gc(dry_run=True).job_count == 1
        assert store.gc().job_count == 1
        assert [one.id for one in store.jobs.list()] == [waits.id]
        with pytest.raises(NotFoundError):
            store.jobs.get(done.id)


def test_repair_keeps_jobs_and_schedules(catalog_engine, tmp_path):
    place = tmp_path / "store"
    with hn.open(place, create=True) as store:
        store.jobs.add_schedule("nightly", "gc", every_s=86_400)
        store.jobs.submit("gc", key="k")
        (claimed,) = claim(store)
        put = store.jobs.submit("verify", {"subset": "1/10"})
        before = {one.id: one for one in store.jobs.list()}, list(store.jobs.schedules())
    hn.repair(place)
    with hn.open(place) as store:
        after = {one.id: one for one in store.jobs.list()}, list(store.jobs.schedules())
        assert after[1] == before[1]
        assert after[0][put.id] == before[0][put.id]
        assert after[0][claimed.id].lease_until_us >= before[0][claimed.id].lease_until_us
        assert finish(store, claimed, Status.DONE)
        assert store.jobs.submit("gc").id > put.id


@pytest.mark.parametrize("catalog_engine", ["sqlite"], indirect=True)  # others refuse such values
@pytest.mark.parametrize(
    "change",
    ["status = 'lost'", "attempts = 'many'", "epoch = -1", "arguments = '[]'", "arguments = x'00'",
     "kind = x'05'", "error = '{'", "run_after_us = 'now'"],
)  # fmt: skip
def test_rows_that_nobody_writes_are_damage(store, change):
    store.jobs.submit("gc")
    with store.parts.database.write() as tx:
        tx.execute(text(f"UPDATE job SET {change}"))
    column = change.split()[0]
    with pytest.raises(IntegrityError, match=f"the catalog is damaged: job 1: .*{column}"):
        store.jobs.list()
    wrong = {}
    assert store.jobs.list(wrong=wrong) == []
    assert column in wrong[1]
    for ask in (store.jobs.get, store.jobs.cancel, store.jobs.retry, store.jobs.wait):
        with pytest.raises(IntegrityError, match="the catalog is damaged: job 1"):
            ask(1)


BAD_ARGUMENTS = "UPDATE job SET arguments = 'no JSON' WHERE id = 2"
BAD_TEXT = "UPDATE job SET kind = CAST(x'ff' AS TEXT), error = '{' WHERE id = 2"


def damage(store, statement):
    with store.parts.database.write() as tx:
        tx.execute(text(statement))


def test_a_damaged_job_is_dead_and_the_others_are_claimed(store):
    ids = [store.jobs.submit("gc", key=f"k{number}").id for number in range(3)]
    damage(store, BAD_ARGUMENTS)
    wrong = {}
    with store.parts.database.write() as tx:
        claimed = jobs.claim(tx, worker="w", now_us=store.parts.clock(), limit=5, wrong=wrong)
    assert [one.id for one in claimed] == [ids[0], ids[2]]
    assert wrong == {2: "its row cannot be understood: arguments"}
    assert store.jobs.list(statuses=["dead"], wrong=(dead := {})) == []
    assert dead == wrong
    with store.parts.database.read() as tx:
        held = tx.execute(text("SELECT arguments, lease_until_us, error FROM job WHERE id = 2"))
        arguments, lease, error = held.one()
    assert (arguments, lease) == ("no JSON", None)  # it is kept for whoever looks
    assert wrong[2] in error
    (event,) = [one for one in told(store) if one.type == "job.dead"]
    assert (event.data["key"], event.data["error"]) == ("k1", "integrity")
    for one in claimed:
        assert finish(store, one, Status.DONE)
    assert store.jobs.submit("gc", key="k1").id == 4  # its key is free


@pytest.mark.parametrize("catalog_engine", ["sqlite"], indirect=True)  # others refuse such texts
def test_texts_that_are_no_text_stop_no_other_job(store):
    ids = [store.jobs.submit("gc").id for _ in range(3)]
    damage(store, BAD_TEXT)
    assert [one.id for one in claim(store, limit=3)] == [ids[0], ids[2]]
    wrong = {}
    assert [one.id for one in store.jobs.list(wrong=wrong)] == [ids[2], ids[0]]
    assert wrong == {2: "its row cannot be understood: kind"}  # the error is the new one


@pytest.mark.parametrize("column", ["epoch", "attempts"])
def test_a_count_that_cannot_grow_stops_no_other_job(store, column):
    ids = [store.jobs.submit("gc").id for _ in range(3)]
    damage(store, f"UPDATE job SET {column} = 9223372036854775807 WHERE id = 2")
    assert [one.id for one in claim(store, limit=3)] == [ids[0], ids[2]]
    assert store.jobs.list(statuses=["dead"], wrong=(dead := {})) == []
    assert dead == {2: f"its row cannot be understood: {column}"}


def test_more_endings_than_a_statement_takes_and_two_of_one_job(store):
    now_us, count = store.parts.clock(), 501
    new = jobs.NewJob(
        kind="gc", arguments={}, key=None, priority=0, run_after_us=now_us, max_attempts=1
    )
    with store.parts.database.write() as tx:
        for _ in range(count):
            jobs.put(tx, new, now_us=now_us)
        claimed = jobs.claim(tx, worker="w", now_us=now_us, limit=count)
        endings = [
            Ending(id=one.id, epoch=one.epoch, status=Status.DONE, record_count=one.id)
            for one in claimed
        ]
        again = msgspec.structs.replace(endings[0], status=Status.DEAD, record_count=7)
        ended = jobs.finish(tx, [*endings, again], now_us=now_us)
    assert [one.id for one in ended] == [one.id for one in claimed]
    rows = {one.id: (one.status, one.record_count) for one in store.jobs.list(limit=1000)}
    events = {one.data["job"]: (one.type, one.data["record_count"]) for one in told(store)}
    assert rows == {one.id: ("done", one.id) for one in claimed} | {claimed[0].id: ("dead", 7)}
    status_of = {"job.completed": "done", "job.dead": "dead"}
    assert {job: (status_of[kind], count) for job, (kind, count) in events.items()} == rows


def test_a_damaged_job_whose_lease_is_over_is_dead(store):
    ids = [store.jobs.submit("gc").id for _ in range(3)]
    claim(store, limit=3)
    damage(store, BAD_ARGUMENTS)
    now_us, wrong = store.parts.clock() + 61_000_000, {}
    with store.parts.database.write() as tx:
        over = jobs.take_back(tx, now_us=now_us, chance=lambda: 0.5, wrong=wrong)
    assert [(one.id, one.status) for one in over] == [(ids[0], "failed"), (ids[2], "failed")]
    assert wrong.keys() == {2}
    assert store.jobs.list(statuses=["dead"], wrong=(dead := {})) == []
    assert dead == wrong


def test_an_event_is_cut_where_a_kind_and_a_key_are_too_long(store):
    store.jobs.submit("gc", key="k")
    long = "UPDATE job SET kind = '{0}', unique_key = '{0}'".format("x" * 100_000)
    damage(store, long)
    (claimed,) = claim(store)
    error = {"kind": "failed", "message": "m" * 4000, "hint": None}
    assert finish(store, claimed, Status.DEAD, error=error)
    (event,) = [one for one in told(store) if one.type == "job.dead"]
    assert [len(event.data[name]) for name in ("kind", "key", "message")] == [200, 200, 512]


def test_a_limit_is_at_least_one(store):
    for ask in (store.jobs.list, store.names):
        for limit in (0, -1):
            with pytest.raises(UsageError, match=f"limit.* {limit} is no number of"):
                ask(limit=limit)
