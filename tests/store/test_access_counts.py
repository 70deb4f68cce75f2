"""What is read is counted, in batches, and never in the way of reading."""

import numpy as np
import pytest

import hartonomous as hn
from hartonomous.catalog import accesses
from hartonomous.catalog.database import Database
from hartonomous.errors import HartonomousError


def test_reads_are_counted_when_the_store_closes(tmp_path):
    place = tmp_path / "s"
    with hn.open(place, create=True) as store:
        store.add_tensors({"a": np.arange(9.0)}, "m")
        assert store.show("m").read_count == 0
        for _ in range(3):
            store.tensor("m", "a")
        store.get("m", tmp_path / "out")
        store.get("m", tmp_path / "out2", dry_run=True)
        store.parts.accesses.write()
        shown = store.show("m")
        assert shown.read_count == 4
        before = shown.last_read_us
        with store.file("m") as file:
            file.read()
    with hn.open(place) as store:
        shown = store.show("m")
        assert shown.read_count == 5
        assert shown.last_read_us >= before
        assert store.stats().read_count == 5
        digest = bytes.fromhex(shown.files[0].digest.removeprefix("blake3:"))
        with store.parts.database.read() as tx:
            assert accesses.of(tx, accesses.FILE, digest)[0] == 2


def test_counting_can_be_turned_off(tmp_path):
    with hn.open(tmp_path / "s", create=True, settings={"access_counts": False}) as store:
        store.add_tensors({"a": np.arange(9.0)}, "m")
        store.tensor("m", "a")
        assert store.parts.accesses is None
        assert store.show("m").read_count == 0


def test_a_count_that_cannot_be_written_is_forgotten(tmp_path, monkeypatch):
    with hn.open(tmp_path / "s", create=True) as store:
        store.add_tensors({"a": np.arange(9.0)}, "m")
        store.tensor("m", "a")

        def refuse(*_args, **_kwargs):
            raise HartonomousError("the catalog may not be written")

        with monkeypatch.context() as patch:
            patch.setattr(Database, "write", refuse)
            store.parts.accesses.write()
            with pytest.raises(HartonomousError):
                store.label("m", "prod")
        store.parts.accesses.write()
        assert store.show("m").read_count == 0
