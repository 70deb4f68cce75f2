"""What dead processes leave in a store's directory goes with gc; what lives stays."""

import io
import os
import time

import pytest

import hartonomous as hn
from hartonomous import locks
from hartonomous.objects.local import new_temporary


@pytest.fixture
def store(tmp_path):
    with hn.open(tmp_path / "store", create=True) as opened:
        yield opened


def age(path, hours):
    then = time.time() - hours * 3600
    os.utime(path, (then, then))


def test_gc_removes_unfinished_objects_and_spools_of_the_dead(store):
    (store.path / "tmp" / "stream-0123").write_bytes(b"left by an older program")
    living, file = new_temporary(store.path)
    assert store.gc().litter_count == 1
    assert living.exists()
    file.close()
    assert store.gc().litter_count == 1
    assert not living.exists()


def test_a_gc_beside_a_stream_leaves_its_spool_alone(store):
    class Stream(io.BytesIO):
        def read(self, size=-1):
            store.gc()
            return super().read(size)

    report = store.add_stream(Stream(b"content" * 1000), name="from/stdin")
    assert report.artifacts[0].outcome == "added"
    assert list((store.path / "tmp").iterdir()) == []


def test_gc_removes_old_replacements_only(store):
    old = store.path / ".store.json.123-0123456789abcdef.tmp"
    young = store.path / ".store.json.124-0123456789abcdef.tmp"
    strange = store.path / ".somebody.tmp"
    for path in (old, young, strange):
        path.write_text("{}")
    age(old, 2)
    age(strange, 2)
    store.gc(grace_s=0)
    assert not old.exists()
    assert young.exists()
    assert strange.exists()


def test_gc_removes_locks_of_dead_writers_only(store):
    dead = store.parts.writer_lock(bytes(16))
    living = store.parts.writer_lock(bytes(15) + b"1")
    dead.touch()
    lock = locks.try_lock(living)
    assert lock is not None
    assert store.gc().litter_count == 1
    assert not dead.exists()
    assert living.exists()
    lock.release()
    assert (store.path / "locks" / "store.lock").exists()
