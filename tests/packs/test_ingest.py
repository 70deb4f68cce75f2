"""A file that changes between the two passes fails alone, and nothing wrong is kept of it."""

import numpy as np
import pytest
from safetensors.numpy import save_file

import hartonomous as hn
from hartonomous.packs.source_file import SourceFile


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
