"""A file that changes between the two passes fails alone, and nothing wrong is kept of it."""

import numpy as np
import pytest
from safetensors.numpy import save_file
from sqlalchemy.event import listen

import hartonomous as hn
from hartonomous.packs import ingest
from hartonomous.packs.source_file import SourceFile

pytestmark = pytest.mark.usefixtures("catalog_engine")


@pytest.fixture
def store(tmp_path):
    with hn.open(tmp_path / "store", create=True) as opened:
        yield opened


def models(folder):
    random = np.random.Generator(np.random.SFC64(3))
    folder.mkdir()
    shared = random.standard_normal(3000).astype(np.float32)
    for name in ("a", "b"):
        tensors = {f"w{i}": random.standard_normal(5000 + i).astype(np.float32) for i in range(30)}
        save_file({**tensors, "w7": shared}, folder / f"{name}.safetensors")
    return folder


def test_a_changed_tensor_fails_its_file_only(store, tmp_path, monkeypatch):
    folder = models(tmp_path / "models")
    real = SourceFile.read_ahead
    spoiled = []

    def read_ahead(self, offset, length):
        piece = real(self, offset, length)
        if self.location.endswith("a.safetensors") and length == 12_000:  # the shared tensor
            spoiled.append(offset)
            return memoryview(bytes(length))
        return piece

    monkeypatch.setattr(SourceFile, "read_ahead", read_ahead)
    report = store.add([folder / "a.safetensors", folder / "b.safetensors"])
    assert len(spoiled) == 1
    outcomes = {one.source.rsplit("/", 1)[-1]: one for one in report.artifacts}
    assert outcomes["a.safetensors"].outcome == "failed"
    assert "changed while it was being read" in outcomes["a.safetensors"].error
    assert outcomes["b.safetensors"].outcome == "added"
    monkeypatch.undo()
    assert store.verify(files=True).sound
    assert store.add(folder / "a.safetensors").artifacts[0].outcome == "added"
    for name in ("a", "b"):
        out = tmp_path / f"{name}.out"
        store.get(f"{name}.safetensors", out)
        assert out.read_bytes() == (folder / f"{name}.safetensors").read_bytes()


def arrays(path, count):
    """Write an archive whose members have headers of more than 64 bytes between their numbers."""
    random = np.random.Generator(np.random.SFC64(count))
    np.savez(path, **{f"w{i}": random.standard_normal(40 + i) for i in range(count)})
    return path


def test_what_lies_between_tensors_is_looked_up_with_them(store, tmp_path):
    begun = []
    listen(store.parts.database.engine, "begin", begun.append)
    counts = []
    for count in (5, 60):
        path = arrays(tmp_path / f"{count}.npz", count)
        begun.clear()
        assert store.add(path).artifacts[0].outcome == "added"
        counts.append(len(begun))
    assert counts[1] <= counts[0]  # however many there are
    store.get("60.npz", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == path.read_bytes()


def test_what_changes_between_tensors_fails_its_file_only(store, tmp_path, monkeypatch):
    path = arrays(tmp_path / "a.npz", 5)
    real = ingest.chunks_of
    changed = []

    def chunks_of(source, piece):
        for chunk in real(source, piece):
            changed.append(len(chunk))
            yield chunk if len(changed) != 3 else bytes(len(chunk))

    monkeypatch.setattr(ingest, "chunks_of", chunks_of)
    failed = store.add([path, arrays(tmp_path / "b.npz", 7)])
    outcomes = [one.outcome for one in failed.artifacts]
    assert outcomes == ["failed", "added"]
    assert "changed while it was being read" in failed.artifacts[0].error
    monkeypatch.undo()
    assert store.add(path).artifacts[0].outcome == "added"
    assert store.verify(files=True).sound
    store.get("a.npz", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == path.read_bytes()
