"""The queue against a model of it: every job is held by one worker at most and ends once.

What the model holds a job for is written down anew here, not taken from the code.
"""

import threading
from dataclasses import dataclass

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import text

import hartonomous as hn
from hartonomous.catalog import jobs
from hartonomous.core.job import Ending, Job, Status

SECOND = 1_000_000
LEASE = 60 * SECOND
START = 1_800_000_000 * SECOND
ACTIVE = ("pending", "running", "failed")
CHANCE = 0.5


@dataclass
class Model:
    """One job as it should be."""

    id: int
    key: str | None
    priority: int
    run_after: int
    max_attempts: int
    status: str = "pending"
    attempts: int = 0
    epoch: int = 0
    lease: int | None = None
    cancel_asked: bool = False
    created: int = 0

    def retry_or_die(self, now: int) -> None:
        """A run failed."""
        self.lease = None
        if self.cancel_asked:
            self.status = "cancelled"
        elif self.attempts >= self.max_attempts:
            self.status = "dead"
        else:
            self.status = "failed"
            wait = CHANCE * min(3600, 10 * 2 ** (self.attempts - 1))
            self.run_after = now + int(wait * SECOND)


class Queue(RuleBasedStateMachine):
    """Puts, claims, ends, loses, cancels and retries jobs."""

    def __init__(self, database) -> None:
        super().__init__()
        self.database = database
        with database.write(durable=False) as tx:
            for table in ("job", "event"):
                tx.execute(text(f"DELETE FROM {table}"))
        self.now = START
        self.model: dict[int, Model] = {}
        self.last_id = 0
        self.claims: list[Job] = []  # all that ever were, stale ones too

    def write(self):
        return self.database.write(durable=False, alone=False)

    @rule(
        key=st.sampled_from([None, None, "a", "b"]),
        priority=st.integers(-1, 1),
        delay=st.sampled_from([0, 0, 30]),
        attempts=st.integers(1, 3),
    )
    def put(self, key, priority, delay, attempts):
        new = jobs.NewJob(
            kind="gc", arguments={"n": len(self.model)}, key=key, priority=priority,
            run_after_us=self.now + delay * SECOND, max_attempts=attempts,
        )  # fmt: skip
        with self.write() as tx:
            job_id, made = jobs.put(tx, new, now_us=self.now)
        held = [m.id for m in self.model.values() if m.key == key and m.status in ACTIVE]
        if key is not None and held:
            assert (job_id, made) == (held[0], False)
        else:
            assert made and job_id > self.last_id
            self.last_id = job_id
            self.model[job_id] = Model(job_id, key, priority, self.now + delay * SECOND, attempts)
            self.model[job_id].created = self.now

    @rule(limit=st.integers(1, 4), worker=st.sampled_from(["w1", "w2"]))
    def claim(self, limit, worker):
        due = sorted(
            (m.priority, m.run_after, m.id)
            for m in self.model.values()
            if m.status in ("pending", "failed") and m.run_after <= self.now
        )
        with self.database.read() as tx:
            assert jobs.any_due(tx, now_us=self.now) is bool(due)
        with self.write() as tx:
            found = jobs.claim(tx, worker=worker, now_us=self.now, limit=limit)
        assert [one.id for one in found] == [job_id for _, _, job_id in due[:limit]]
        for one in found:
            m = self.model[one.id]
            m.status, m.lease = "running", self.now + LEASE
            m.attempts += 1
            m.epoch += 1
            assert (one.epoch, one.attempts, one.worker) == (m.epoch, m.attempts, worker)
            self.claims.append(one)

    def _holds(self, claim: Job) -> bool:
        m = self.model[claim.id]
        return m.status == "running" and m.epoch == claim.epoch

    @precondition(lambda self: self.claims)
    @rule(data=st.data(), done=st.integers(0, 2**40))
    def beat(self, data, done):
        claim = data.draw(st.sampled_from(self.claims))
        report = jobs.Report(stage="s", record_count=1, done_bytes=done, total_bytes=None)
        with self.write() as tx:
            answer = jobs.beat(tx, claim, report, now_us=self.now)
        if not self._holds(claim):
            assert answer is None
            return
        m = self.model[claim.id]
        assert answer is m.cancel_asked
        m.lease = self.now + LEASE
        with self.database.read() as tx:
            held = jobs.by_id(tx, claim.id)
        assert (held.stage, held.record_count, held.done_bytes) == ("s", 1, done)

    @precondition(lambda self: self.claims)
    @rule(data=st.data(), words=st.lists(st.sampled_from(
        ["done", "failed", "dead", "cancelled", "pending"]), min_size=4, max_size=4))  # fmt: skip
    def finish(self, data, words):
        """End several runs in one statement, some of them lost long ago."""
        chosen = data.draw(
            st.lists(st.sampled_from(self.claims), min_size=1, max_size=4, unique_by=lambda c: c.id)
        )
        endings = [
            Ending(
                id=c.id, epoch=c.epoch, status=Status(word), record_count=c.id, done_bytes=7,
                result={"of": c.id} if word == "done" else None, run_after_us=self.now + SECOND,
                attempts=c.attempts - 1 if word == "pending" else c.attempts,
            )
            for c, word in zip(chosen, words, strict=False)
        ]  # fmt: skip
        ours = [(c, word) for c, word in zip(chosen, words, strict=False) if self._holds(c)]
        with self.write() as tx:
            ended = jobs.finish(tx, endings, now_us=self.now)
            stored = [jobs.by_id(tx, one.id) for one in ended]
        assert [one.id for one in ended] == sorted(c.id for c, _ in ours)
        for c, word in ours:
            m = self.model[c.id]
            m.lease = None
            again = word in ("failed", "pending")
            m.status = "cancelled" if again and m.cancel_asked else word
            if again:
                m.run_after = self.now + SECOND
                m.attempts = c.attempts - 1 if word == "pending" else c.attempts
        for one in stored:
            assert one.record_count == one.id
            assert one.result == ({"of": one.id} if one.status == "done" else None)

    @rule()
    def take_back(self):
        over = [m for m in self.model.values() if m.status == "running"]
        for m in over:
            if m.lease > self.now + LEASE + 60 * SECOND:
                m.lease = self.now + LEASE
        for m in self.model.values():
            if m.status == "failed" and m.run_after > self.now + 3660 * SECOND:
                m.run_after = self.now + 3600 * SECOND
            if m.status == "pending" and m.created > self.now + 60 * SECOND:
                m.run_after = self.now + max(m.run_after - m.created, 0)
                m.created = self.now
        lost = sorted(m.id for m in over if m.lease <= self.now)
        with self.write() as tx:
            taken = jobs.take_back(tx, now_us=self.now, chance=lambda: CHANCE)
        assert [one.id for one in taken] == lost
        for job_id in lost:
            self.model[job_id].retry_or_die(self.now)
        with self.database.read() as tx:
            assert not jobs.any_over(tx, now_us=self.now)

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def cancel(self, data):
        m = self.model[data.draw(st.sampled_from(sorted(self.model)))]
        if m.status not in ACTIVE:
            return
        with self.write() as tx:
            jobs.cancel(tx, jobs.by_id(tx, m.id, lock=True), now_us=self.now)
        if m.status == "running":
            m.cancel_asked = True
        else:
            m.status = "cancelled"

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def put_again(self, data):
        m = self.model[data.draw(st.sampled_from(sorted(self.model)))]
        if m.status not in ("failed", "dead", "cancelled"):
            return
        taken = m.key is not None and any(
            one.key == m.key and one.status in ACTIVE and one.id != m.id
            for one in self.model.values()
        )
        with self.write() as tx:
            done = jobs.put_again(tx, jobs.by_id(tx, m.id, lock=True), now_us=self.now)
        assert done is not taken
        if done:
            m.status, m.attempts, m.run_after, m.cancel_asked = "pending", 0, self.now, False

    @rule(seconds=st.sampled_from([1, 5, 31, 61, 4000]))
    def time_passes(self, seconds):
        self.now += seconds * SECOND

    @rule(seconds=st.sampled_from([30, 300, 100_000]))
    def clock_is_set_back(self, seconds):
        self.now -= seconds * SECOND

    @rule(age=st.integers(0, 5000))
    def shed(self, age):
        """Forget what ended long ago; the model does not know when, so it asks."""
        with self.write() as tx:
            before = {one.id: one for one in jobs.listed(tx, limit=1000).jobs}
            count = jobs.shed(tx, ended_before_us=self.now - age * SECOND, limit=1000)
            left = {one.id for one in jobs.listed(tx, limit=1000).jobs}
        gone = before.keys() - left
        assert len(gone) == count
        for job_id, one in before.items():
            old = one.ended_us is not None and one.ended_us < self.now - age * SECOND
            assert (job_id in gone) is old
        for job_id in gone:
            assert self.model.pop(job_id).status not in ACTIVE
        self.claims = [c for c in self.claims if c.id not in gone]

    @invariant()
    def everything_is_as_it_should_be(self):
        with self.database.read() as tx:
            rows = {one.id: one for one in jobs.listed(tx, limit=1000).jobs}
        assert rows.keys() == self.model.keys()
        for job_id, m in self.model.items():
            one = rows[job_id]
            assert (one.status, one.attempts, one.epoch) == (m.status, m.attempts, m.epoch)
            assert one.lease_until_us == m.lease
            assert (one.ended_us is None) is (m.status in ACTIVE)
            assert (one.lease_until_us is not None) is (m.status == "running")
            if m.status in ("pending", "failed"):
                assert one.run_after_us == m.run_after
        keys = [m.key for m in self.model.values() if m.key and m.status in ACTIVE]
        assert len(keys) == len(set(keys))


@pytest.fixture
def database(catalog_engine, tmp_path):
    with hn.open(tmp_path / "store", create=True) as store:
        yield store.parts.database


def test_the_queue_against_its_model(database):
    run_state_machine_as_test(
        lambda: Queue(database), settings=settings(max_examples=40, stateful_step_count=40)
    )


def test_a_job_survives_being_written_as_json(database):
    with database.write() as tx:
        new = jobs.NewJob(
            kind="add", arguments={"paths": ["/ä"]}, key="k", priority=3, run_after_us=5,
            max_attempts=2,
        )  # fmt: skip
        jobs.put(tx, new, now_us=4)
        (found,) = jobs.listed(tx, limit=1).jobs
    assert msgspec.json.decode(msgspec.json.encode(found), type=Job) == found


def put_some(database, count):
    new = jobs.NewJob(
        kind="gc", arguments={}, key=None, priority=0, run_after_us=START, max_attempts=5
    )
    with database.write() as tx:
        for _ in range(count):
            jobs.put(tx, new, now_us=START)


def test_threads_that_claim_at_once_never_get_the_same_job(database):
    put_some(database, 300)
    held, lock = [], threading.Lock()

    def work(number):
        mine = []
        while True:
            with database.write(alone=False) as tx:
                claimed = jobs.claim(tx, worker=f"w{number}", now_us=START, limit=7)
            if not claimed:
                break
            mine.extend(claimed)
            endings = [Ending(id=c.id, epoch=c.epoch, status=Status.DONE) for c in claimed]
            with database.write(alone=False) as tx:
                assert len(jobs.finish(tx, endings, now_us=START)) == len(claimed)
        with lock:
            held.extend(mine)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(held) == 300
    assert len({c.id for c in held}) == 300
    with database.read() as tx:
        ended = jobs.listed(tx, limit=1000).jobs
    assert [(c.status, c.epoch) for c in ended] == [(Status.DONE, 1)] * 300


@pytest.mark.parametrize("catalog_engine", ["postgresql"], indirect=True)  # SQLite has one writer
def test_a_claim_passes_over_what_another_transaction_holds(database):
    put_some(database, 3)
    with database.write(alone=False) as first:
        (one,) = jobs.claim(first, worker="a", now_us=START, limit=1)
        with database.write(alone=False) as second:
            others = jobs.claim(second, worker="b", now_us=START, limit=5)
    assert one.id not in {c.id for c in others}
    assert len(others) == 2


def test_one_key_is_put_once_by_many_at_once(database):
    found = []

    def put():
        new = jobs.NewJob(
            kind="gc", arguments={}, key="k", priority=0, run_after_us=START, max_attempts=5
        )
        with database.write(alone=False) as tx:
            found.append(jobs.put(tx, new, now_us=START))

    threads = [threading.Thread(target=put) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({job_id for job_id, _ in found}) == 1
    assert [made for _, made in found].count(True) == 1


@pytest.mark.parametrize("catalog_engine", ["sqlite"], indirect=True)  # its own words of plans
def test_claims_use_their_index(database):
    with database.read() as tx:
        for query, index in (
            (
                "SELECT id FROM job WHERE lease_until_us IS NULL AND ended_us IS NULL"
                " AND run_after_us <= 5 ORDER BY priority, run_after_us, id LIMIT 3",
                "ix_job_waiting",
            ),
            ("SELECT id FROM job WHERE lease_until_us <= 5", "ix_job_leased"),
            ("SELECT id FROM job WHERE ended_us < 5", "ix_job_ended"),
            ("SELECT id FROM job WHERE unique_key = 'a' AND ended_us IS NULL", "uq_job_active"),
        ):
            plan = " ".join(row[-1] for row in tx.execute(text(f"EXPLAIN QUERY PLAN {query}")))
            assert index in plan
            assert "TEMP B-TREE" not in plan
