"""Schedules: due once, whoever looks, however late, and whatever the clock does."""

import threading

import msgspec
import pytest
from sqlalchemy import text

import hartonomous as hn
from hartonomous.catalog import jobs
from hartonomous.core.job import Ending, Status
from hartonomous.errors import ConflictError, IntegrityError, NotFoundError, UsageError
from hartonomous.operations import schedules

DAY_S = 86_400
START_US = 1_800_000_000_000_000  # a Friday, 08:00 UTC


class Clock:
    now_us = START_US

    def __call__(self):
        return self.now_us

    def pass_s(self, seconds):
        self.now_us += int(seconds * 1_000_000)


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("hartonomous.opening.now_us", clock)
    return clock


@pytest.fixture
def store(catalog_engine, clock, tmp_path):
    with hn.open(tmp_path / "store", create=True) as opened:
        yield opened


def end_all(store, status=Status.DONE):
    database, now = store.parts.database, store.parts.clock()
    with database.write() as tx:
        claimed = jobs.claim(tx, worker="w", now_us=now, limit=100)
        jobs.finish(
            tx, [Ending(id=c.id, epoch=c.epoch, status=status) for c in claimed], now_us=now
        )
    return [c.id for c in claimed]


def test_every_day_at_the_same_time(store, clock):
    store.jobs.add_schedule("nightly", "gc", every_s=DAY_S)
    assert schedules.put_due(store.parts) == []
    clock.pass_s(DAY_S - 1)
    assert schedules.put_due(store.parts) == []
    clock.pass_s(3601)  # an hour late
    (first,) = schedules.put_due(store.parts)
    assert store.jobs.get(first).key == "schedule:nightly"
    assert schedules.put_due(store.parts) == []
    assert end_all(store) == [first]
    clock.pass_s(DAY_S - 3600)
    assert len(schedules.put_due(store.parts)) == 1  # and in time again
    (shown,) = store.jobs.schedules()
    assert shown.next_us == START_US + 3 * DAY_S * 1_000_000


def test_what_was_missed_is_done_once(store, clock):
    store.jobs.add_schedule("often", "gc", every_s=60)
    clock.pass_s(100 * DAY_S)
    assert len(schedules.put_due(store.parts)) == 1
    assert schedules.put_due(store.parts) == []
    (shown,) = store.jobs.schedules()
    assert 0 < shown.next_us - clock() <= 60_000_000


def test_one_job_of_a_schedule_is_active_at_a_time(store, clock):
    store.jobs.add_schedule("often", "gc", every_s=60)
    clock.pass_s(61)
    (first,) = schedules.put_due(store.parts)
    clock.pass_s(61)
    assert schedules.put_due(store.parts) == []  # it waits still
    assert end_all(store, Status.DEAD) == [first]
    clock.pass_s(61)
    assert len(schedules.put_due(store.parts)) == 1


def test_many_workers_put_one_job(store, clock):
    store.jobs.add_schedule("nightly", "gc", cron="0 9 * * *")
    clock.pass_s(DAY_S)
    put = []
    threads = [
        threading.Thread(target=lambda: put.extend(schedules.put_due(store.parts)))
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(put) == 1
    assert len(store.jobs.list()) == 1


def test_a_clock_that_was_years_ahead_stops_nothing(store, clock):
    store.jobs.add_schedule("nightly", "gc", cron="0 9 * * *")
    store.jobs.add_schedule("often", "verify", {"quick": True}, every_s=3600)
    clock.pass_s(3650 * DAY_S)
    assert len(schedules.put_due(store.parts)) == 2
    end_all(store)
    clock.pass_s(-3650 * DAY_S)
    assert schedules.put_due(store.parts) == []  # not at once
    clock.pass_s(3600)
    assert len(schedules.put_due(store.parts)) == 2


def test_a_job_that_waits_since_a_clock_was_years_ahead_runs(store, clock):
    store.jobs.add_schedule("nightly", "gc", cron="0 9 * * *")
    clock.pass_s(3650 * DAY_S)
    (nightly,) = schedules.put_due(store.parts)
    delayed = store.jobs.submit("verify", {"quick": True}, delay_s=3600).id
    clock.pass_s(-3650 * DAY_S)
    look_for_lost_leases(store)
    assert schedules.put_due(store.parts) == []
    assert end_all(store) == [nightly]
    clock.pass_s(3599)
    look_for_lost_leases(store)
    assert end_all(store) == []
    clock.pass_s(1)
    assert end_all(store) == [delayed]
    assert len(schedules.put_due(store.parts)) == 1


def look_for_lost_leases(store):
    database, now = store.parts.database, store.parts.clock()
    with database.read() as tx:
        if not jobs.any_over(tx, now_us=now):
            return
    with database.write() as tx:
        jobs.take_back(tx, now_us=now, chance=lambda: 1.0)


@pytest.mark.parametrize(
    "values",
    [
        "every_s = 0",
        "every_s = NULL",
        "every_s = 9223372036854775807",
        "every_s = NULL, cron = '@yearly'",
        "every_s = NULL, cron = '0 0 31 2 *'",
    ],
)
def test_times_that_this_version_cannot_read_stop_no_other_schedule(store, clock, values):
    store.jobs.add_schedule("a", "gc", every_s=60)
    store.jobs.add_schedule("b", "gc", every_s=60)
    with store.parts.database.write() as tx:
        tx.execute(text(f"UPDATE schedule SET {values} WHERE name = 'a'"))
    clock.pass_s(61)
    wrong = {}
    (put,) = schedules.put_due(store.parts, wrong=wrong)
    assert store.jobs.get(put).key == "schedule:b"
    assert list(wrong) == ["a"]
    clock.pass_s(-DAY_S)
    assert schedules.put_due(store.parts) == []
    assert {one.name for one in store.jobs.schedules()} == {"a", "b"}


def test_a_clock_that_goes_back_a_little_puts_nothing_twice(store, clock):
    store.jobs.add_schedule("nightly", "gc", cron="0 9 * * *")
    clock.pass_s(3601)
    assert len(schedules.put_due(store.parts)) == 1
    end_all(store)
    clock.pass_s(-5)
    assert schedules.put_due(store.parts) == []
    clock.pass_s(10)
    assert schedules.put_due(store.parts) == []


def test_a_damaged_schedule_stops_no_other_and_can_be_removed(store, clock):
    for name in ("bad", "good"):
        store.jobs.add_schedule(name, "verify", every_s=DAY_S)
    with store.parts.database.write() as tx:
        tx.execute(text("UPDATE schedule SET arguments = 'x' WHERE name = 'bad'"))
    clock.pass_s(DAY_S)
    wrong: dict[str, str] = {}
    assert len(schedules.put_due(store.parts, wrong=wrong)) == 1
    assert list(wrong) == ["bad"]
    told: dict[str, str] = {}
    assert [one.name for one in store.jobs.schedules(wrong=told)] == ["good"]
    assert told == wrong
    with pytest.raises(IntegrityError):
        store.jobs.schedules()
    assert store.jobs.remove_schedule("bad") is None
    assert [one.name for one in store.jobs.schedules()] == ["good"]


def test_what_a_schedule_may_not_be(store):
    add = store.jobs.add_schedule
    for wrong in ({}, {"every_s": 5}, {"every_s": 60, "cron": "* * * * *"}, {"cron": "never"}):
        with pytest.raises(UsageError):
            add("a", "gc", **wrong)
    with pytest.raises(UsageError, match="no kind"):
        add("a", "dance", every_s=60)
    with pytest.raises(UsageError, match="left alone for -1"):
        add("a", "gc", {"grace_s": -1}, every_s=60)
    made = add("a", "gc", every_s=60)
    with pytest.raises(ConflictError, match="a schedule a already"):
        add("a", "gc", every_s=90)
    assert add("a", "gc", every_s=90, replace=True).every_s == 90
    later = msgspec.structs.replace(made, every_s=90, next_us=made.next_us + 30_000_000)
    assert store.jobs.schedules() == [later]
    assert store.jobs.remove_schedule("a").every_s == 90
    with pytest.raises(NotFoundError):
        store.jobs.remove_schedule("a")


def test_the_last_schedule_that_fits_may_be_replaced(store, monkeypatch):
    monkeypatch.setattr(schedules, "MOST_SCHEDULES", 1)
    store.jobs.add_schedule("a", "gc", every_s=60)
    with pytest.raises(ConflictError, match="1 schedules already"):
        store.jobs.add_schedule("b", "gc", every_s=60)
    assert store.jobs.add_schedule("a", "gc", every_s=90, replace=True).every_s == 90
