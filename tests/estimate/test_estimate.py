"""Estimates of real files: near the true size, from a hundredth of the bytes, nothing stored."""

import json
import os
import shutil
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

import hartonomous as hn
from hartonomous.core.dtype import DTYPES
from hartonomous.errors import NotFoundError
from hartonomous.opening import estimate_paths
from hartonomous.packs import forecast
from hartonomous.packs.source_file import SourceFile

MIB = 1 << 20
QUANTS = Path(__file__).parents[1] / "fixtures" / "quants"


def write_model(folder: Path, tensors: dict[str, np.ndarray]) -> Path:
    folder.mkdir(parents=True)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps({"model_type": "bert", "name": folder.name}))
    return folder


def make_base(seed: int = 0, layers: int = 3) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {
        f"layer.{layer}.{name}": (random.standard_normal(shape) * 0.02).astype(np.float32)
        for layer in range(layers)
        for name, shape in (("q", (256, 512)), ("up", (256, 768)), ("norm", (512,)))
    }


@pytest.fixture(scope="module")
def family(tmp_path_factory):
    """A base, its casts, a renamed copy, a copy, one with a changed layer, a text and noise."""
    folder = tmp_path_factory.mktemp("set") / "family"
    base = make_base()
    write_model(folder / "base", base)
    casts = {"bf16": ml_dtypes.bfloat16, "f16": np.float16}
    for name, dtype in casts.items():
        write_model(folder / name, {key: value.astype(dtype) for key, value in base.items()})
    write_model(folder / "renamed", {f"bert.{key}": value for key, value in base.items()})
    write_model(folder / "tuned", {**base, "layer.2.q": base["layer.2.q"] + np.float32(0.001)})
    shutil.copytree(folder / "base", folder / "copy")
    random = np.random.default_rng(5)
    words = [f"word{number}" for number in range(500)]
    text = " ".join(words[number] for number in random.zipf(1.4, 60_000) % 500)
    (folder / "corpus.txt").write_text(text)
    (folder / "noise.bin").write_bytes(random.bytes(700_000))
    return folder


def disk_bytes(store: Path) -> int:
    places = (*(store / "packs").rglob("*.pack"), store / "catalog.sqlite3")
    return sum(path.stat().st_size for path in places)


def snapshot(store: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path.relative_to(store)): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in store.rglob("*")
        if path.is_file()
    }


def by_kind(found) -> dict[str, object]:
    return {one.kind: one for one in found.classes}


def test_the_estimate_is_near_the_true_size(family, tmp_path):
    found = estimate_paths(family)
    with hn.open(tmp_path / "store", create=True):
        pass
    before = disk_bytes(tmp_path / "store")
    with hn.open(tmp_path / "store") as store:
        store.add(family)
    true = disk_bytes(tmp_path / "store") - before
    half = max(found.high_bytes - found.estimated_bytes, found.estimated_bytes - found.low_bytes)
    assert abs(found.estimated_bytes - true) <= 2 * half
    assert abs(found.estimated_bytes - true) <= 0.15 * true
    assert found.low_bytes <= found.estimated_bytes <= found.high_bytes <= 1.25 * true
    assert found.logical_bytes == sum(
        path.stat().st_size for path in family.rglob("*") if path.is_file()
    )
    assert found.read_bytes <= found.read_limit_bytes == found.logical_bytes // 100
    assert (found.artifact_count, found.file_count, found.compared) == (8, 14, False)
    assert found.tensor_count == 6 * 9


def test_classes_are_told_by_dtype(family):
    found = by_kind(estimate_paths(family))
    assert found["tensors F32"].piece_count == 9
    assert found["tensors F32 like others"].piece_count == 1  # of the tuned
    computed = found["probably computed from others"]
    assert (computed.piece_count, computed.estimated_bytes) == (12, 0)  # of the casts
    assert found["tensors BF16"].piece_count == 3  # too small to be compared
    equal = found["probably equal within the set"]
    assert equal.estimated_bytes == 0
    assert equal.logical_bytes > 2 * found["tensors F32"].logical_bytes
    text = found["other data"]
    assert 700_000 < text.estimated_bytes < text.logical_bytes


def test_what_the_store_has_costs_nothing_and_the_store_is_not_changed(family, tmp_path):
    with hn.open(tmp_path / "store", create=True) as store:
        store.add([family / "base", family / "corpus.txt"])
    before = snapshot(tmp_path / "store")
    with hn.open(tmp_path / "store") as store:
        copy = store.estimate(family / "copy")
        renamed = by_kind(store.estimate(family / "renamed"))
        text = by_kind(store.estimate(family / "corpus.txt"))
        tuned = by_kind(store.estimate(family / "tuned"))
        other = store.estimate(write_model(tmp_path / "other", make_base(seed=9)))
    assert snapshot(tmp_path / "store") == before
    assert copy.compared
    assert copy.estimated_bytes < 20_000
    assert "tensors F32" not in renamed
    assert renamed["probably already stored"].piece_count >= 9
    assert "other data" not in text
    (changed,) = (one for kind, one in tuned.items() if kind.startswith("tensors"))
    assert changed.kind == "tensors F32 like others"
    assert changed.piece_count == 1
    assert changed.estimated_bytes < 0.7 * changed.logical_bytes
    assert by_kind(other)["tensors F32"].piece_count == 9
    assert by_kind(other)["probably already stored"].logical_bytes < 2000  # the same header


def test_a_large_file_is_read_to_a_hundredth_at_most(tmp_path, monkeypatch):
    count, each = 60, 4 * MIB
    header = {
        f"t{number}": {
            "dtype": "F32",
            "shape": [each // 4],
            "data_offsets": [number * each, (number + 1) * each],
        }
        for number in range(count)
    }
    content = json.dumps(header).encode()
    path = tmp_path / "large.safetensors"
    block = np.random.default_rng(1).standard_normal(each // 4).astype(np.float32).tobytes()
    with path.open("wb") as out:
        out.write(len(content).to_bytes(8, "little") + content)
        for number in range(count):  # every second tensor is a hole, the others differ
            if number % 2:
                out.write(number.to_bytes(4, "little") + block[4:])
            else:
                out.seek(each, os.SEEK_CUR)
        out.truncate(8 + len(content) + count * each)
    size = path.stat().st_size
    assert size >= 200_000_000
    read = []
    real = SourceFile.read

    def counted(self, offset, length):
        read.append(length)
        return real(self, offset, length)

    monkeypatch.setattr(SourceFile, "read", counted)
    found = estimate_paths(path)
    assert found.read_limit_bytes == size // 100
    assert sum(read) < found.read_bytes <= size // 100  # the parser's reads are counted too
    assert found.logical_bytes == size
    kinds = by_kind(found)
    # Holes are equal to each other; so seem to be tensors that differ in four bytes.
    assert kinds["probably equal within the set"].piece_count >= 29
    assert kinds["tensors F32"].estimated_bytes <= 31 * each


def test_of_a_sparse_file_of_any_size_no_more_is_read_than_of_a_large_one(tmp_path, monkeypatch):
    monkeypatch.setattr(forecast, "MOST_READ_BYTES", 4 * MIB)
    path = tmp_path / "sparse.bin"
    with path.open("wb") as out:
        out.write(b"a beginning" * 1000)
        out.truncate(3_000_000_000_000)
    found = estimate_paths(path)
    assert found.logical_bytes == 3_000_000_000_000
    assert found.read_bytes <= found.read_limit_bytes == 4 * MIB


def test_many_small_files_keep_to_the_least_limit(tmp_path):
    random = np.random.default_rng(2)
    for number in range(300):
        folder = tmp_path / "set" / f"{number // 100}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.bin").write_bytes(random.bytes(20_000))
    found = estimate_paths(tmp_path / "set")
    assert found.read_bytes <= found.read_limit_bytes == 60_000
    assert 6_000_000 <= found.estimated_bytes <= 7_000_000
    assert any("the headers of" in note for note in found.notes)


def test_links_to_one_file_count_once(tmp_path):
    path = tmp_path / "set" / "a.bin"
    path.parent.mkdir()
    path.write_bytes(np.random.default_rng(3).bytes(100_000))
    (path.parent / "b.bin").hardlink_to(path)
    found = by_kind(estimate_paths(path.parent))
    assert found["other data"].piece_count == 1
    assert found["probably equal within the set"].logical_bytes == 100_000


@pytest.mark.parametrize("path", sorted(QUANTS.glob("*.gguf")), ids=lambda one: one.name)
def test_files_of_every_quantised_type_are_estimated(path):
    """Also those of whose blocks no values are known (IQ1, IQ2, IQ3)."""
    found = estimate_paths(path)
    assert found.logical_bytes == path.stat().st_size
    assert 0 < found.estimated_bytes < found.logical_bytes + 20_000


@pytest.mark.parametrize("dtype", sorted(DTYPES))
def test_tensors_of_every_type_are_estimated(tmp_path, dtype):
    known = DTYPES[dtype]
    size = known.block_bytes * 2048
    header = {"t": {"dtype": dtype, "shape": [8, known.block_elements * 256],
                    "data_offsets": [0, size]}}  # fmt: skip
    text = json.dumps(header).encode()
    content = np.random.default_rng(1).bytes(size)
    path = tmp_path / "one.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + content)
    assert 0 < estimate_paths(path).estimated_bytes < 1.1 * size + 20_000


@pytest.mark.parametrize("content", [b"", b"x", b"GGUF" * 5000, b"\xff" * 70_000])
def test_odd_files_are_estimated_too(tmp_path, content):
    path = tmp_path / "odd.gguf"
    path.write_bytes(content)
    found = estimate_paths(path)
    assert found.logical_bytes == len(content)
    assert 0 < found.estimated_bytes < len(content) + 20_000


def test_a_header_that_is_too_long_leaves_the_file_without_structure(tmp_path):
    names = {f"{'n' * 200}{number}": np.zeros(1, np.float32) for number in range(8000)}
    save_file(names, tmp_path / "m.safetensors")
    found = estimate_paths(tmp_path / "m.safetensors")
    assert found.tensor_count == 0
    assert found.read_bytes <= MIB
    assert any("more than" in note for note in found.notes)


def test_wrong_paths_and_files_that_vanish(tmp_path):
    with pytest.raises(NotFoundError):
        estimate_paths(tmp_path / "nowhere")
    secret = tmp_path / "set"
    secret.mkdir()
    found = estimate_paths(secret)
    assert found.file_count == 0
    assert found.estimated_bytes == 0
    assert len(found.skipped) == 1


def test_patterns(family):
    found = estimate_paths(family, include=["*.txt"])
    assert found.file_count == 1
    assert found.artifact_count == 1


def test_a_file_that_shrinks_meanwhile_is_noted_and_the_others_are_told(tmp_path, monkeypatch):
    write_model(tmp_path / "sound", {"a": np.random.default_rng(1).random((300, 300))})
    shrinking = tmp_path / "shrinking.bin"
    shrinking.write_bytes(np.random.default_rng(2).bytes(300_000))
    read = SourceFile.read

    def shrunk(source, offset, length):
        if Path(source.location) == shrinking:
            os.truncate(shrinking, 10)
        return read(source, offset, length)

    monkeypatch.setattr(SourceFile, "read", shrunk)
    told = estimate_paths([tmp_path / "sound", shrinking])
    assert any("not as it was" in one and "shrinking.bin" in one for one in told.notes)
    assert told.logical_bytes > 1_000_000
    assert told.estimated_bytes > 500_000
    assert told.read_bytes <= told.read_limit_bytes
