"""What writers leave that are killed between a pack and its rows: collected, if that is all."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from disk import noise, pack_paths, write_pack

import hartonomous as hn
from hartonomous.catalog import packs
from hartonomous.core.record import RecordKind


@pytest.fixture
def filled(store, source):
    store.add(source("a.bin", noise(30_000, 1)))
    store.add(source("b.bin", noise(20_000, 2)))
    store.add(source("c.bin", noise(10_000, 3)))
    return store


def killed_at(point, module, work, *arguments):
    """Do some work on a store in a process that is killed when it gets to a point."""
    code = _DIES.format(module=module, point=point, work=_WORKS[work])
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        check=False, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(Path(hn.__file__).parents[1])},
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr


def listing(store):
    return [(one.name, one.number, one.labels) for one in store.ls(versions=True)]


_DIES = """
import os, signal, sys
import hartonomous as hn
from hartonomous.packs import {module}

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

with hn.open(sys.argv[1], settings={{"workers": 1}}) as store:
    {module}.{point} = die
    {work}
"""
_POINTS = [("session", "WriteSession._register"), ("publication", "Publication.finish")]
_WORKS = {
    "add": "store.add(sys.argv[2], name='new.bin', tags=['t'], metadata={'k': 'v'})",
    "update": "store.add(sys.argv[2], name='a.bin')",
    "rm": "store.rm('b.bin')",
    "label": "store.label('b.bin', 'prod')",
    "gc": "store.gc(trash_days=0, grace_s=0)",
}


@pytest.mark.parametrize("work", sorted(_WORKS))
@pytest.mark.parametrize(("module", "point"), _POINTS)
def test_what_a_writer_leaves_that_was_killed_is_collected(filled, source, module, point, work):
    """It was killed between the seal of a pack with a commit or change, and what makes it count."""
    filled.rm("c.bin")
    new = source("new.bin", noise(20_000, 77))
    for _ in range(2):  # the second one takes the number of the first
        killed_at(point, module, work, filled.path, new)
    before = listing(filled)
    assert filled.verify(files=True).faults == ()
    assert filled.gc(grace_s=3600).litter_count <= 2  # lock files; packs are too young
    if point == "WriteSession._register":
        kept = filled.gc(grace_s=0, dry_run=True)
        assert len(kept.notes) >= 2
        assert all("was killed" in note for note in kept.notes)
        assert filled.gc(trash_days=0, grace_s=0, dry_run=True).litter_count >= 2
    done = filled.gc(trash_days=0, grace_s=0)
    assert done.notes == ()
    with filled.parts.database.read() as tx:
        known = {row.key.hex() for row in packs.everything(tx)}
    assert {path.stem for path in pack_paths(filled.path)} == known
    assert listing(filled) == before
    assert filled.verify(files=True).sound
    filled.label("a.bin", "after")
    before = listing(filled)
    filled.close()
    hn.repair(filled.path)
    with hn.open(filled.path) as again:
        assert listing(again) == before


def test_beside_signs_of_an_older_catalog_nothing_is_taken_for_litter(filled, source):
    """Its last publication may have been acknowledged after the copy was made."""
    killed_at("WriteSession._register", "session", "rm", filled.path)
    content = {"version": 1, "kind": "change", "seq": 10**6, "time_us": 1, "action": "label"}
    write_pack(filled.parts, [(RecordKind.CHANGE, b"", msgspec.json.encode(content))])
    before = set(pack_paths(filled.path))
    done = filled.gc(grace_s=0)
    assert len(done.notes) == 2
    assert all("hart repair" in note for note in done.notes)
    assert before <= set(pack_paths(filled.path))
