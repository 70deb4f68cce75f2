"""Real workers: processes that are killed, stopped, starved and told to end; none waits by time."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from sqlalchemy import text

import hartonomous as hn
from hartonomous import locks
from hartonomous.catalog import jobs
from hartonomous.core.job import Status

ROOT = Path(hn.__file__).parents[1]
LIMIT_S = 200
KILLS = int(os.environ.get("HARTONOMOUS_TEST_WORKER_KILLS", "4"))


@pytest.fixture
def place(catalog_engine, tmp_path):
    hn.init(tmp_path / "store").close()
    return tmp_path / "store"


@contextlib.contextmanager
def worker(place, *options):
    """Run ``hart worker`` for a block."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"}
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "hartonomous", "worker", "--store", str(place), "--json",
         *options],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.poll() is None:
            for child in children(process):  # one that was stopped would hold the pipes
                os.kill(child, signal.SIGKILL)
            process.kill()
        process.communicate()


def ended(process):
    """Wait for a worker's end; return its exit code and what it says it did."""
    out, err = process.communicate(timeout=LIMIT_S)
    assert "Traceback" not in err, err
    return process.returncode, json.loads(out) if out else None


def until(condition):
    limit = time.monotonic() + LIMIT_S
    while not (found := condition()):
        assert time.monotonic() < limit, "it never happened"
        time.sleep(0.05)
    return found


def children(process):
    """Return the child processes of a worker that run jobs."""
    listed = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    found = []
    for word in listed:
        with contextlib.suppress(OSError):
            if b"hartonomous.worker.child" in Path(f"/proc/{word}/cmdline").read_bytes():
                found.append(int(word))
    return found


def expire(store):
    """Let the leases of everything that is held be over, as if their time had passed."""
    with store.parts.database.write(alone=False) as tx:
        tx.execute(text("UPDATE job SET lease_until_us = 1 WHERE lease_until_us IS NOT NULL"))


def hurry(store):
    """Let every retry be due now."""
    with store.parts.database.write(alone=False) as tx:
        tx.execute(text("UPDATE job SET run_after_us = 1 WHERE status = 'failed'"))


def write_file(path, seed, rows=4):
    weights = np.random.default_rng(seed).standard_normal((rows, 256), np.float32)
    save_file({"w": weights}, path)
    return path


FILES = 5


def put_files(tmp_path, store):
    """Put a job that adds some files, each an artifact of its own."""
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(FILES):
        (folder / f"{number}.txt").write_text(f"file {number}\n" * 50)
    return store.jobs.submit("add", {"paths": [str(folder)]})


@contextlib.contextmanager
def held_up(store):
    """Keep every job that adds something from its end for a block, or until it is released."""
    lock = until(lambda: locks.try_lock(store.parts.lock_path("publish")))
    try:
        yield lock
    finally:
        lock.release()


def at_work(store, job_id):
    """Say whether a job is at work: its child has told where it stands."""
    found = store.jobs.get(job_id)
    assert found.status in ("pending", "running"), (found.status, found.error)
    return found.stage is not None


def test_each_kind_is_done(place, tmp_path):
    path = write_file(tmp_path / "a.safetensors", 1)
    with hn.open(place) as store:
        put = [
            store.jobs.submit("add", {"paths": [str(path)], "name": "a", "labels": ["prod"]}),
            store.jobs.submit("verify", {"files": True}, priority=1),
            store.jobs.submit("repack", priority=2),
            store.jobs.submit("gc", {"grace_s": 0}, priority=3),
        ]
        with worker(place, "--until-empty") as process:
            code, worked = ended(process)
        assert (code, worked["done"]) == (0, 4)
        found = [store.jobs.get(one.id) for one in put]
        assert [one.status for one in found] == ["done"] * 4
        assert [one.attempts for one in found] == [1] * 4
        assert found[0].result["artifacts"][0]["name"] == "a"
        assert found[0].record_count == 1
        assert found[1].result["faults"] == []
        assert [(one.name, one.number, one.labels) for one in store.ls()] == [("a", 1, ("prod",))]


def test_repair_runs_alone_and_ends_in_the_new_catalog(place, tmp_path):
    with hn.open(place) as store:
        store.add(write_file(tmp_path / "a.safetensors", 1), name="a")
        put = store.jobs.submit("repair")
        after = store.jobs.submit("verify", priority=1)
    with worker(place, "--until-empty", "--processes", "2") as process:
        code, worked = ended(process)
    assert (code, worked["done"]) == (0, 2), worked
    with hn.open(place) as store:
        found = store.jobs.get(put.id)
        assert (found.status, found.result["version_count"]) == ("done", 1)
        assert store.jobs.get(after.id).status == "done"
        assert [one.name for one in store.ls()] == ["a"]
    former = list(place.glob("catalog.sqlite3.before-repair-*"))
    assert former or "CATALOG" in " ".join(os.environ)


def test_repair_waits_for_others_that_have_the_store_open(place):
    with hn.open(place) as store:
        put = store.jobs.submit("repair")
        with worker(place, "--once") as process:
            code, worked = ended(process)
        found = store.jobs.get(put.id)
    assert (code, worked["failed"]) == (3, 1)
    assert (found.status, found.error["kind"]) == ("failed", "locked")


def test_what_fails_for_good_is_dead_at_once(place, tmp_path):
    path = write_file(tmp_path / "a.safetensors", 1)
    with hn.open(place) as store:
        gone = store.jobs.submit("add", {"paths": [str(path)]})
        path.unlink()
        store.add(write_file(tmp_path / "b.safetensors", 2, rows=400))
        (pack,) = (place / "packs").rglob("*.pack")
        pack.chmod(0o644)
        content = bytearray(pack.read_bytes())
        content[len(content) // 2] ^= 0xFF
        pack.write_bytes(content)
        damaged = store.jobs.submit("verify")
        with worker(place, "--once", "--processes", "2") as process:
            code, worked = ended(process)
        assert (code, worked["failed"], worked["dead"]) == (3, 1, 1)
        assert store.jobs.get(gone.id).error["kind"] == "not-found"  # it may come back
        found = store.jobs.get(damaged.id)
        assert (found.status, found.error["kind"]) == ("dead", "integrity")
        assert found.result["faults"]


def test_a_child_that_cannot_open_the_store_says_so(place, tmp_path):
    with hn.open(place) as store, worker(place) as process:
        until(lambda: "waits for jobs" in process.stderr.readline())
        card = place / "store.json"
        content = card.read_bytes()
        card.write_bytes(b"{")
        put = store.jobs.submit("verify", {"quick": True})
        found = until(lambda: (one := store.jobs.get(put.id)).error and one)
        assert found.status in ("failed", "dead")
        assert "store.json" in found.error["message"]
        card.write_bytes(content)
        store.jobs.retry(put.id)
        assert store.jobs.wait(put.id, timeout_s=LIMIT_S).status == "done"
        process.send_signal(signal.SIGTERM)
        assert ended(process)[0] == 0


def test_a_child_that_is_killed_takes_no_other_job_with_it(place, tmp_path):
    with hn.open(place) as store, worker(place, "--processes", "2") as process:
        with held_up(store):
            put = put_files(tmp_path, store)
            until(lambda: at_work(store, put.id))
            (child,) = children(process)
            other = store.jobs.submit("verify", {"quick": True})
            until(lambda: store.jobs.get(other.id).status != "pending")
            os.kill(child, signal.SIGKILL)
            assert store.jobs.wait(other.id, timeout_s=LIMIT_S).status == "done"
            found = until(lambda: (one := store.jobs.get(put.id)).error and one)
            assert "signal 9" in found.error["message"]
        hurry(store)
        assert store.jobs.wait(put.id, timeout_s=LIMIT_S).status == "done"
        process.send_signal(signal.SIGTERM)
        assert ended(process)[0] == 0
        assert len(store.ls()) == FILES
        assert store.verify().sound


def test_a_job_that_kills_its_process_each_time_is_dead_in_the_end(place, tmp_path):
    with hn.open(place) as store, held_up(store), worker(place) as process:
        put = put_files(tmp_path, store)
        for attempt in range(1, 6):
            until(lambda attempt=attempt: store.jobs.get(put.id).attempts == attempt)
            for child in until(lambda: children(process)):
                os.kill(child, signal.SIGKILL)
            until(lambda: store.jobs.get(put.id).status in ("failed", "dead"))
            hurry(store)
        found = store.jobs.get(put.id)
        assert (found.status, found.attempts) == ("dead", 5)
        subjects = [one for one in store.events(since="beginning") if one.subject == "job/1"]
        assert [one.type for one in subjects] == ["job.failed"] * 4 + ["job.dead"]


def test_a_worker_that_is_killed_leaves_no_process_and_its_job_waits(place, tmp_path):
    with hn.open(place) as store:
        with held_up(store), worker(place) as process:
            put = put_files(tmp_path, store)
            until(lambda: at_work(store, put.id))
            (child,) = children(process)
            process.kill()
            process.wait()
            # Its child learns that, gives the job back, and ends.
            until(lambda: store.jobs.get(put.id).status == "pending")
            until(lambda: not is_alive(child))
            assert "Traceback" not in process.communicate(timeout=LIMIT_S)[1]
        with worker(place, "--until-empty") as process:
            assert ended(process)[0] == 0
        assert store.jobs.get(put.id).status == "done"
        assert len(store.ls()) == FILES


def is_alive(process_id):
    with contextlib.suppress(OSError):
        return bool(Path(f"/proc/{process_id}/cmdline").read_bytes())
    return False


def test_a_whole_machine_that_stops_is_taken_back_from(place, tmp_path):
    """Worker and child are gone at once: the lease runs out."""
    with hn.open(place) as store:
        with held_up(store), worker(place) as process:
            put = put_files(tmp_path, store)
            until(lambda: at_work(store, put.id))
            (child,) = children(process)
            os.kill(process.pid, signal.SIGSTOP)  # it must not learn of its child's end
            os.kill(child, signal.SIGKILL)
            process.kill()
            process.wait()
        assert store.jobs.get(put.id).status == "running"
        expire(store)
        with worker(place) as process:
            found = until(lambda: (one := store.jobs.get(put.id)).error and one)
            assert "said nothing for longer" in found.error["message"]
            hurry(store)
            assert store.jobs.wait(put.id, timeout_s=LIMIT_S).status == "done"


def test_terminated_it_lets_running_jobs_end(place, tmp_path):
    with hn.open(place) as store, worker(place, "--drain-seconds", str(LIMIT_S)) as process:
        with held_up(store):
            put = put_files(tmp_path, store)
            until(lambda: at_work(store, put.id))
            process.send_signal(signal.SIGTERM)
            later = store.jobs.submit("gc")
        code, worked = ended(process)
        assert (code, worked["done"], worked["given_back"]) == (0, 1, 0)
        assert store.jobs.get(put.id).status == "done"
        assert store.jobs.get(later.id).status == "pending"  # none is begun any more


_HANGING = """
import sys
from pathlib import Path

if any("hartonomous.worker.child" in word for word in sys.orig_argv):
    import ctypes

    from hartonomous.operations import {module}

    sound = {module}.{name}

    def hang(*args, **options):
        mark = Path({mark!r})
        if mark.exists():
            return sound(*args, **options)
        mark.touch()
        library, mutex = ctypes.CDLL(None), ctypes.create_string_buffer(256)
        while True:  # the second time it waits for itself: for ever, and deaf to signals
            library.pthread_mutex_lock(mutex)

    {module}.{name} = hang
"""


@pytest.mark.parametrize("kind", ["verify", "repair"])
def test_a_child_that_hangs_is_ended_and_its_job_tried_again(place, tmp_path, monkeypatch, kind):
    """Its heartbeat goes on meanwhile, and it hears no signal; a repair has no heartbeat at all."""
    modules, mark = tmp_path / "modules", tmp_path / "hung"
    modules.mkdir()
    code = _HANGING.format(module=kind, name=kind, mark=str(mark))
    (modules / "sitecustomize.py").write_text(code)
    before = os.environ.get("PYTHONPATH", "")
    monkeypatch.setenv("PYTHONPATH", f"{modules}:{before}")
    with hn.open(place) as store:
        put = store.jobs.submit(kind)
    with worker(place, "--once", "--stall-seconds", "2") as process:
        code, worked = ended(process)
    assert (code, worked["failed"]) == (3, 1)
    assert mark.exists()
    with hn.open(place) as store:
        found = store.jobs.get(put.id)
        assert found.status == "failed"
        assert "no progress" in found.error["message"]
        hurry(store)
    with worker(place, "--until-empty", "--stall-seconds", str(LIMIT_S)) as process:
        assert ended(process)[0] == 0
    with hn.open(place) as store:
        assert store.jobs.get(put.id).status == "done"


def test_work_that_waits_too_long_is_interrupted(place, tmp_path):
    with hn.open(place) as store:
        put = put_files(tmp_path, store)
        with held_up(store), worker(place, "--once", "--stall-seconds", "2") as process:
            code, worked = ended(process)
        assert (code, worked["failed"]) == (3, 1)
        found = store.jobs.get(put.id)
        assert (found.status, found.attempts) == ("failed", 1)
        assert found.error["message"].startswith("no progress for 2 s")
        hurry(store)
        with worker(place, "--until-empty") as process:
            assert ended(process)[0] == 0
        assert store.jobs.get(put.id).status == "done"
        assert len(store.ls()) == FILES


@pytest.mark.parametrize("signals", [1, 2], ids=["limit", "second-signal"])
def test_terminated_it_gives_back_what_does_not_end_in_time(place, tmp_path, signals):
    drain = "0.1" if signals == 1 else str(LIMIT_S)
    with hn.open(place) as store:
        with held_up(store), worker(place, "--drain-seconds", drain) as process:
            put = put_files(tmp_path, store)
            until(lambda: at_work(store, put.id))
            process.send_signal(signal.SIGTERM)
            if signals == 2:
                until(lambda: "ending; running jobs may take" in process.stderr.readline())
                process.send_signal(signal.SIGTERM)
            code, worked = ended(process)
        assert (code, worked["given_back"]) == (0, 1)
        found = store.jobs.get(put.id)
        assert (found.status, found.attempts) == ("pending", 0)  # the run does not count
        assert found.lease_until_us is None
        assert store.verify().sound
        with worker(place, "--until-empty") as process:
            ended(process)
        assert store.jobs.get(put.id).status == "done"
        assert len(store.ls()) == FILES


def test_a_job_that_runs_is_cancelled(place, tmp_path):
    with hn.open(place) as store, worker(place) as process:
        with held_up(store):
            put = put_files(tmp_path, store)
            until(lambda: at_work(store, put.id))
            store.jobs.cancel(put.id)
            assert store.jobs.wait(put.id, timeout_s=LIMIT_S).status == "cancelled"
        other = store.jobs.submit("verify")  # by the same child, in a store that is whole
        found = store.jobs.wait(other.id, timeout_s=LIMIT_S)
        assert (found.status, found.error) == ("done", None)
        process.send_signal(signal.SIGTERM)
        code, worked = ended(process)
        assert (code, worked["cancelled"]) == (0, 1)


def test_a_job_that_waits_for_the_store_alone_is_cancelled(place, tmp_path):
    with hn.open(place) as store, worker(place, "--processes", "2") as process:
        with held_up(store):
            other = put_files(tmp_path, store)
            until(lambda: at_work(store, other.id))
            put = store.jobs.submit("repair").id
            until(lambda: store.jobs.get(put).status == "running")
            store.jobs.cancel(put)
            assert store.jobs.wait(put, timeout_s=LIMIT_S).status == "cancelled"
        assert store.jobs.wait(other.id, timeout_s=LIMIT_S).status == "done"
        process.send_signal(signal.SIGTERM)
        assert {"done": 1, "cancelled": 1}.items() <= ended(process)[1].items()


def test_a_run_whose_lease_was_over_is_not_heard(place, tmp_path):
    """Another worker has the job by then: the first one stops, and changes nothing of it."""
    with hn.open(place) as store, held_up(store), worker(place) as process:
        put = put_files(tmp_path, store)
        until(lambda: at_work(store, put.id))
        now = store.parts.clock()
        with store.parts.database.write(alone=False) as tx:
            tx.execute(text("UPDATE job SET lease_until_us = 1"))
            (lost,) = jobs.take_back(tx, now_us=now, chance=lambda: 0.0)
            (second,) = jobs.claim(tx, worker="other", now_us=now, limit=1)
        assert (lost.id, second.id, second.epoch) == (put.id, put.id, 2)
        until(lambda: f"job {put.id} (add): lost" in process.stderr.readline())
        process.send_signal(signal.SIGTERM)
        code, worked = ended(process)
        assert (code, worked["done"], worked["lost"]) == (0, 0, 1)
        found = store.jobs.get(put.id)
        assert (found.status, found.epoch, found.worker) == ("running", 2, "other")


def test_a_schedule_is_run_by_workers(place):
    with hn.open(place) as store:
        store.jobs.add_schedule("often", "verify", {"quick": True}, every_s=60)
        with store.parts.database.write(alone=False) as tx:
            tx.execute(text("UPDATE schedule SET next_us = 1"))
        with worker(place) as first, worker(place) as second:
            (found,) = until(lambda: store.jobs.list(statuses=["done"]))
            assert found.key == "schedule:often"
            for process in (first, second):
                until(lambda one=process: "waits for jobs" in one.stderr.readline())
                process.send_signal(signal.SIGTERM)
                assert ended(process)[0] == 0
        assert len(store.jobs.list()) == 1


@pytest.mark.timeout(900)
def test_whoever_is_killed_each_job_is_done_once_in_its_effect(place, tmp_path):
    """Two workers and their children are killed at random; each file is there once in the end."""
    seed = int(os.environ.get("HARTONOMOUS_TEST_SEED", str(random.SystemRandom().getrandbits(31))))
    print(f"HARTONOMOUS_TEST_SEED={seed}")
    chance = random.Random(seed)
    count = 12
    with hn.open(place) as store:
        for number in range(count):
            path = write_file(tmp_path / f"{number}.safetensors", number, rows=64)
            store.jobs.submit("add", {"paths": [str(path)], "name": f"m{number}"}, max_attempts=99)
        for _ in range(KILLS):
            with worker(place, "--processes", "2") as first, worker(place) as second:
                done = len(store.jobs.list(statuses=["done"]))
                until(lambda done=done: len(store.jobs.list(statuses=["done"])) > done
                      or not store.jobs.list(statuses=["pending", "failed"]))  # fmt: skip
                time.sleep(chance.random() * 0.3)
                victims = [*children(first), *children(second), first.pid, second.pid]
                for victim in chance.sample(victims, chance.randint(1, len(victims))):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(victim, signal.SIGKILL)
            expire(store)
            with store.parts.database.write(alone=False) as tx:
                jobs.take_back(tx, now_us=store.parts.clock(), chance=lambda: 0.0)
            hurry(store)
        until(lambda: _finished(store, place))
        found = store.jobs.list(limit=1000)
        assert [one.status for one in found] == [Status.DONE] * count
        listed = {one.name: one.number for one in store.ls(versions=True)}
        assert listed == {f"m{number}": 1 for number in range(count)}
        ends = [one.subject for one in store.events(since="beginning")
                if one.type == "job.completed"]  # fmt: skip
        assert sorted(ends) == sorted(f"job/{one.id}" for one in found)
        assert store.verify(files=True).sound


def _finished(store, place):
    expire(store)
    with store.parts.database.write(alone=False) as tx:
        jobs.take_back(tx, now_us=store.parts.clock(), chance=lambda: 0.0)
    hurry(store)
    with worker(place, "--until-empty") as process:
        ended(process)
    return not store.jobs.list(statuses=["pending", "failed", "running"])
