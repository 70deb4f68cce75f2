"""get(add(f)) == f for every kind of file, and everything that the store says of it is true."""

import hashlib
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from disk import pack_paths, records_of
from hypothesis import example, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save
from sqlalchemy import func, select

import hartonomous as hn
from hartonomous.catalog import manifests
from hartonomous.catalog.schema import manifest
from hartonomous.core.digest import digest
from hartonomous.core.record import RecordKind
from hartonomous.packs.atoms import AtomReader
from hartonomous.packs.files import FileReader, load_manifest
from hartonomous.testing.strategies import GeneratedFile, any_file, file_names


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def one_store(place: Path):
    with hn.open(place / "store", create=True, settings={"workers": 2}) as opened:
        yield opened


def fresh(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def read_back(store: hn.Store, content: bytes) -> tuple[FileReader, AtomReader]:
    with store.parts.database.read() as tx:
        row = manifests.by_file_digest(tx, digest(content))
    reader = AtomReader(store.parts)
    return FileReader(reader, load_manifest(reader, row)), reader


@given(
    file=any_file(),
    mode=st.sampled_from((0o644, 0o600, 0o755, 0o444, 0o777)),
    modified_us=st.integers(0, 4_000_000_000_000_000),
)
@example(GeneratedFile(name="empty", content=b"", format="file"), 0o644, 0)
def test_a_file_comes_back_exactly(one_store, place, file, mode, modified_us):
    source = fresh(place / "in") / file.name
    source.write_bytes(file.content)
    source.chmod(mode)
    os.utime(source, ns=(modified_us * 1000, modified_us * 1000))
    (added,) = one_store.add(source, name="it").artifacts
    assert added.logical_bytes == len(file.content)

    target = fresh(place / "out") / "back"
    spec = f"it@{added.number}"
    (got,) = one_store.get(spec, target).files
    assert target.read_bytes() == file.content
    assert got.digest == f"blake3:{digest(file.content).hex()}"
    status = target.stat()
    if added.outcome != "unchanged":  # else the first one's mode and time count
        assert status.st_mode & 0o777 == mode
        assert status.st_mtime_ns == modified_us * 1000

    (shown,) = one_store.show(spec).files
    assert shown.sha256 == f"sha256:{hashlib.sha256(file.content).hexdigest()}"
    assert shown.path == file.name
    check_structure(one_store, file, shown)


def check_structure(store: hn.Store, file: GeneratedFile, shown) -> None:
    stored, reader = read_back(store, file.content)
    try:
        segments = stored.manifest.segments
        assert sum(one.length for one in segments) == len(file.content)
        at = 0
        for one in segments:
            content = file.content[at : at + one.length]
            assert (
                (one.inline == content)
                if one.inline is not None
                else (one.digest == digest(content))
            )
            assert one.length > 64 or one.inline is not None
            at += one.length
        for tensor in shown.tensors:
            content = file.content[tensor.offset : tensor.offset + tensor.logical_bytes]
            assert len(content) == tensor.logical_bytes
            assert stored.read(tensor.offset, tensor.logical_bytes) == content
            assert bytes(stored.view(tensor.offset, tensor.logical_bytes)) == content
            assert tensor.digest == f"blake3:{digest(content).hex()}"
    finally:
        reader.close()
    seen = {
        one.name: (one.dtype, one.shape, one.offset, one.logical_bytes) for one in shown.tensors
    }
    if file.tensors is not None:
        assert seen == file.tensors
        assert shown.format == file.format
        assert shown.notices == ()
    elif file.format == "file":
        assert seen == {}


@given(
    names=st.lists(file_names(), min_size=1, max_size=4, unique=True),
    files=st.lists(any_file(), min_size=4, max_size=4),
)
def test_a_model_folder_with_odd_names_comes_back_exactly(one_store, place, names, files):
    folder = fresh(place / "in") / "model"
    (folder / "sub").mkdir(parents=True)
    wanted = {b"config.json": b"{}", b"model.safetensors": files[0].content}
    for name, file in zip(names, files, strict=False):
        wanted.setdefault(b"sub/" + name, file.content)
    for path, content in wanted.items():
        Path(os.fsdecode(os.fsencode(folder) + b"/" + path)).write_bytes(content)
    (added,) = one_store.add(folder, name="folder").artifacts
    if any(name.endswith((b".lock", b".incomplete", b".tmp", b".part")) for name in names):
        return  # unfinished things of others are left out, which other tests hold
    out = place / "out-folder"
    shutil.rmtree(out, ignore_errors=True)
    one_store.get(f"folder@{added.number}", out)
    base = os.fsencode(out)
    back = {}
    for below, _, found in os.walk(base):
        for name in found:
            path = below + b"/" + name
            back[path[len(base) + 1 :]] = Path(os.fsdecode(path)).read_bytes()
    assert back == wanted


@settings(max_examples=15 if settings.default.max_examples < 1000 else 500)
@given(files=st.lists(any_file(), min_size=1, max_size=6))
def test_what_is_stored_verifies_and_adds_up(place, files):
    shutil.rmtree(place / "sums", ignore_errors=True)
    folder = fresh(place / "in")
    for number, file in enumerate(files):
        (folder / f"{number}-{file.name}").write_bytes(file.content)
    with hn.open(place / "sums", create=True, settings={"workers": 1}) as store:
        report = store.add(folder)
        assert report.failed_count == 0
        checked = store.verify(files=True)
        assert checked.sound, checked.faults[:5]
        stats = store.stats()
        contents = [file.content for file in files]
        assert stats.logical_bytes == sum(map(len, contents)) == report.logical_bytes
        assert stats.distinct_bytes == sum(map(len, set(contents)))
        inside = next(one.logical_bytes for one in stats.held if one.kind == "inside manifests")
        assert stats.distinct_bytes - stats.saved_by_equal_atoms == stats.atom_bytes + inside
        assert stats.atom_bytes - stats.saved_by_encoding == stats.stored_bytes
        assert stats.stored_bytes == report.stored_bytes
        assert stats.disk_bytes["packs"] >= stats.stored_bytes
        assert stats.disk_bytes["catalog"] > 100_000  # a file, or the tables on a server


def test_names_of_all_the_bytes_that_a_file_system_takes(store, tmp_path):
    np.save(tmp_path / "a.npy", np.ones(3, np.float32))
    store.add(tmp_path / "a.npy")
    for stem in ("ä" * 127, "x" + "ä" * 127, "y" * 255):
        target = tmp_path / stem
        store.get("a.npy", target)
        assert target.read_bytes() == (tmp_path / "a.npy").read_bytes()
    long = tmp_path / "out" / ("ä" * 121 + ".safetensors")
    store.convert("a.npy", long)
    assert [path.name for path in long.parent.iterdir()] == [long.name]


def test_shards_share_tensors_with_the_whole_file(store, source):
    tensors = {f"layers.{i}.w": np.random.default_rng(i).random(5000, "f4") for i in range(4)}
    whole = source("whole/model.safetensors", save(tensors))
    first = dict(list(tensors.items())[:2])
    rest = dict(list(tensors.items())[2:])
    folder = source("shards/config.json", b"{}").parent
    source("shards/model-00001-of-00002.safetensors", save(first))
    source("shards/model-00002-of-00002.safetensors", save(rest))
    store.add(whole)
    (sharded,) = store.add(folder).artifacts
    reasons = {one.reason: one for one in sharded.reasons}
    assert reasons["tensor already stored"].piece_count == 4
    assert reasons["tensor already stored"].logical_bytes == 4 * 20_000
    assert sharded.stored_bytes < 1000


def test_repeated_content_is_stored_once(store, source):
    block = os.urandom(300_000)
    report = store.add(source("a.bin", block * 8), name="a")
    assert report.stored_bytes < 4 * len(block)
    again = store.add([source("b.bin", block * 8), source("c.bin", block * 8)])
    assert again.stored_bytes == 0
    assert [one.reasons[0].reason for one in again.artifacts] == ["file already stored"] * 2


def test_two_paths_of_one_content_in_one_add_have_one_manifest(store, source):
    """Found by rescue: the second had a manifest of its own that compaction then dropped."""
    folder = source("m/config.json", b'{"model_type": "bert"}').parent
    source("m/model.safetensors", b"none")
    source("m/sub/copy.txt", b'{"model_type": "bert"}')
    store.add(folder)
    with store.parts.database.read() as tx:
        assert tx.scalar(select(func.count()).select_from(manifest)) == 2
    (pack,) = pack_paths(store.path)
    kinds = [header.kind for _, header in records_of(pack)]
    assert kinds.count(RecordKind.MANIFEST) == 2


def test_a_folder_that_goes_while_the_store_is_measured_is_passed_over(store, monkeypatch):
    gone = store.path / "cache" / "gone"
    gone.mkdir()
    scan = os.scandir

    def removing(place="."):
        if os.fspath(place) == str(gone):
            gone.rmdir()
        return scan(place)

    monkeypatch.setattr(os, "scandir", removing)
    assert store.stats().disk_bytes["cache"] == 0
    assert not gone.exists()
