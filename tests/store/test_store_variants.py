"""A family of models in one store: fine-tunes and casts cost what differs, and nothing is lost."""

import hashlib
import subprocess
import sys
import tempfile
from fractions import Fraction
from pathlib import Path

import gguf
import numpy as np
import pytest
from disk import first_record, flip, pack_paths, records_of
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

import hartonomous as hn
from hartonomous.catalog import atoms, bases, extents
from hartonomous.core.digest import digest
from hartonomous.core.record import PREDICTED, Encoding, RecordKind
from hartonomous.errors import IntegrityError
from hartonomous.operations import collect
from hartonomous.operations.verify import verify
from hartonomous.packs import rebasing

ROWS, COLUMNS = 300, 512


def normal(seed, shape=(ROWS, COLUMNS)):
    return (np.random.default_rng(seed).standard_normal(shape) * 0.02).astype(np.float32)


def model(**tensors):
    return save({name: np.ascontiguousarray(value) for name, value in tensors.items()})


BASE = {"a": normal(1), "b": normal(2, (ROWS, 100)), "norm": normal(3, (4096,)) + 1}
TUNED = {name: value + normal(9, value.shape) * np.float32(0.005) for name, value in BASE.items()}
TWICE = {name: value + normal(10, value.shape) * np.float32(0.005) for name, value in TUNED.items()}
FILES = {"base": model(**BASE), "tuned": model(**TUNED), "twice": model(**TWICE)}


def quantised(**tensors):
    """Return a GGUF file of tensors in Q8_0, as its own library quantises and writes them."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.gguf"
        writer = gguf.GGUFWriter(path, "llama")
        kind = gguf.GGMLQuantizationType.Q8_0
        for name, value in tensors.items():
            writer.add_tensor(name, gguf.quants.quantize(value, kind), raw_dtype=kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path.read_bytes()


FILES["q8"] = quantised(a=BASE["a"])
FILES["half"] = model(**{name: value.astype(np.float16) for name, value in BASE.items()})


@pytest.fixture
def family(store, source):
    """A store with the family, each added on its own, in this order."""
    for name, content in FILES.items():
        store.add(source(f"{name}.safetensors", content), name=name)
    return store


def kinds(report):
    return {one.reason.removeprefix("tensor stored ") for one in report.artifacts[0].reasons}


def got(store, name, out):
    target = out / f"{name}-{len(list(out.iterdir()))}"
    store.get(name, target)
    found = target if target.is_file() else next(target.iterdir())
    return found.read_bytes()


def check_all(store, out, names=tuple(FILES)):
    out.mkdir(exist_ok=True)
    for name in names:
        assert got(store, name, out) == FILES[name], name
    report = store.verify(files=True)
    assert report.sound, report.faults


def edges(store):
    with store.parts.database.read() as tx:
        return sorted(
            tx.exec_driver_sql(
                "SELECT a.digest, b.digest FROM atom_base JOIN atom a ON a.id = atom_id"
                " JOIN atom b ON b.id = base_atom_id"
            ).all()
        )


def depth_of(store, name, tensor="a"):
    return store.explain(name, tensor).pieces[0].depth


def test_relatives_cost_what_differs(store, source, tmp_path):
    reports = {
        name: store.add(source(f"{name}.safetensors", content), name=name)
        for name, content in FILES.items()
    }
    assert "delta" in kinds(reports["tuned"])
    assert "cast" in kinds(reports["half"])
    assert "derived" in kinds(reports["q8"])
    assert reports["q8"].stored_bytes < 0.1 * len(FILES["q8"])
    assert reports["tuned"].stored_bytes < 0.75 * reports["base"].stored_bytes
    assert reports["half"].stored_bytes < 2000
    held = {one.kind: one for one in store.stats().held}
    assert held["delta"].count >= 2
    assert (held["computed exactly"].count, held["computed exactly"].stored_bytes) == (3, 0)
    told = store.explain("half", "a")
    assert told.pieces[0].encoding == "cast"
    assert told.pieces[0].bases == (f"blake3:{digest(BASE['a'].tobytes()).hex()}",)
    assert "cast to F16" in told.reason
    check_all(store, tmp_path / "out")


def test_without_delta_nothing_is_built_on_others(store, source, tmp_path):
    store.add(source("base.safetensors", FILES["base"]), name="base")
    store.add(source("tuned.safetensors", FILES["tuned"]), name="tuned", delta=False)
    assert edges(store) == []
    with hn.open(store.path, settings={"variants": False}) as other:
        other.add(source("half.safetensors", FILES["half"]), name="half")
    with hn.open(store.path, settings={"max_depth": 0}) as other:
        other.add(source("twice.safetensors", FILES["twice"]), name="twice")
    assert edges(store) == []
    check_all(store, tmp_path / "out", ("base", "tuned", "half", "twice"))


def test_chains_are_no_longer_than_the_setting(store, source):
    chain = [BASE["a"]]
    for seed in range(20, 25):
        chain.append(chain[-1] + normal(seed) * np.float32(0.002))
    with hn.open(store.path, settings={"max_depth": 2}) as other:
        for at, value in enumerate(chain):
            other.add(source(f"{at}.safetensors", model(a=value)), name=f"m{at}")
        depths = [depth_of(other, f"m{at}") for at in range(len(chain))]
    assert depths[0] == 0
    assert max(depths) <= 2
    assert sum(depth > 0 for depth in depths) >= 3


def test_a_removed_base_stays_as_long_as_it_is_needed(family, tmp_path, monkeypatch):
    monkeypatch.setattr(collect, "SMALL_PACKS", 1)
    # As if more were built on it than are looked at: test_store_order has those that are given up.
    monkeypatch.setattr(rebasing, "_MOST_DEPENDENTS", 0)
    before = edges(family)
    assert before
    family.rm("base")
    family.gc(trash_days=0, grace_s=0)
    stats = family.stats()
    assert stats.kept_as_bases.count >= 2
    assert stats.kept_as_bases.logical_bytes >= BASE["a"].nbytes
    assert edges(family) == before
    check_all(family, tmp_path / "out", ("tuned", "twice", "half", "q8"))
    for name in ("tuned", "twice", "half", "q8"):
        family.rm(name)
    dry = family.gc(trash_days=0, grace_s=0, dry_run=True)
    real = family.gc(trash_days=0, grace_s=0)
    assert (dry.atom_count, dry.manifest_count) == (real.atom_count, real.manifest_count)
    assert edges(family) == []
    assert family.stats().atom_count == 0
    assert family.verify(files=True).sound


def test_undo_brings_a_base_back(family, tmp_path):
    family.rm("base")
    family.gc(trash_days=30, grace_s=0)
    family.undo()
    check_all(family, tmp_path / "out")


def test_compaction_keeps_bases_and_plans(family, tmp_path, monkeypatch):
    monkeypatch.setattr(collect, "SMALL_PACKS", 1)
    before = set(pack_paths(family.path))
    family.rm("twice")
    family.gc(trash_days=0, grace_s=0)
    after = set(pack_paths(family.path))
    assert not before & after
    headers = [one for pack in after for _, one in records_of(pack)]
    assert any(one.encoding is Encoding.DELTA and one.bases and one.params for one in headers)
    check_all(family, tmp_path / "out", ("base", "tuned", "half"))


def test_repair_finds_the_bases_again(family, tmp_path):
    family.rm("base")
    before = edges(family)
    with family.parts.database.read() as tx:
        depths = dict(tx.exec_driver_sql("SELECT digest, depth FROM atom").all())
    family.close()
    done = hn.repair(family.path)
    assert (done.damaged, done.lost, done.recovered) == ((), (), ())
    with hn.open(family.path) as store:
        assert edges(store) == before
        with store.parts.database.read() as tx:
            assert dict(tx.exec_driver_sql("SELECT digest, depth FROM atom").all()) == depths
        store.undo()
        check_all(store, tmp_path / "out")
        store.gc(trash_days=0, grace_s=0)
        check_all(store, tmp_path / "out")


def test_repair_says_what_a_lost_base_costs(family):
    name = digest(BASE["a"].tobytes())
    [pack] = [
        pack for pack in pack_paths(family.path)
        if any(one.digest == name for _, one in records_of(pack))
    ]  # fmt: skip
    family.close()
    pack.unlink()
    done = hn.repair(family.path)
    lost = " ".join(done.lost)
    assert all(f"{name}@1" in lost for name in ("tuned", "half"))


def test_verify_finds_a_damaged_base_and_names_what_needs_it(family, source, tmp_path):
    name = digest(BASE["a"].tobytes())
    with family.parts.database.read() as tx:
        (place,) = extents.of_atoms(tx, [name])[name]
    pack = next(one for one in pack_paths(family.path) if one.stem == place.pack_key.hex())
    header = next(one for at, one in records_of(pack) if one.digest == name)
    flip(pack, header.offset + 1000)
    with hn.open(family.path) as store:
        report = store.verify()
        wrong = {one.where: one for one in report.faults}
        base = wrong.pop(f"atom blake3:{name.hex()}")
        needing = " ".join(base.files)
        assert all(f"{one}@1" in needing for one in ("base", "tuned", "half"))
        half = wrong[f"atom blake3:{digest(BASE['a'].astype(np.float16).tobytes()).hex()}"]
        assert name.hex() in half.what
        with pytest.raises(IntegrityError, match=name.hex()):
            store.get("half", tmp_path / "half")
        # The base alone is added again; what needs it is whole again, and verify says so.
        store.add(source("base.safetensors", FILES["base"]), name="base")
        check_all(store, tmp_path / "out")
        with store.parts.database.read() as tx:
            assert atoms.damaged_ids(tx) == set()


def test_a_damaged_dependent_is_mended_on_its_own(family, source, tmp_path):
    name = digest(TUNED["a"].tobytes())
    with family.parts.database.read() as tx:
        (place,) = extents.of_atoms(tx, [name])[name]
    pack = next(one for one in pack_paths(family.path) if one.stem == place.pack_key.hex())
    header = next(one for at, one in records_of(pack) if one.digest == name)
    assert header.encoding in PREDICTED
    flip(pack, header.offset + 1000)
    with hn.open(family.path) as store:
        assert not store.verify().sound
        store.add(source("tuned.safetensors", FILES["tuned"]), name="tuned")
        with store.parts.database.read() as tx:
            found = bases.find(tx, [name])[name]
        assert found.depth == 0  # others may be built on it: it is not built on them
        check_all(store, tmp_path / "out")


def test_a_subset_of_verify_looks_at_what_needs_the_damaged(family):
    """Whatever part of the atoms is chosen: a damaged base has its dependents looked at too."""
    name = digest(BASE["a"].tobytes())
    with family.parts.database.read() as tx:
        (place,) = extents.of_atoms(tx, [name])[name]
    pack = next(one for one in pack_paths(family.path) if one.stem == place.pack_key.hex())
    header = next(one for at, one in records_of(pack) if one.digest == name)
    flip(pack, header.offset + 1000)
    half = f"atom blake3:{digest(BASE['a'].astype(np.float16).tobytes()).hex()}"
    turn = int.from_bytes(name[:8], "big") * 64 >> 64
    with hn.open(family.path) as store:
        report = verify(store.parts, subset=Fraction(1, 64), turn=turn)
        assert f"atom blake3:{name.hex()}" in {one.where for one in report.faults}
        assert half in {one.where for one in report.faults}


def test_verify_compares_the_catalog_with_the_records(family):
    with family.parts.database.write() as tx:
        tx.exec_driver_sql("DELETE FROM atom_base")
    report = family.verify(quick=True)
    assert any("as a base" in one.what for one in report.faults)
    assert any("bases below each other" in one.what for one in report.faults)


def test_rescue_reads_what_is_built_on_others(family, tmp_path):
    family.rm("base")
    family.close()
    out = tmp_path / "rescued"
    done = subprocess.run(
        [sys.executable, family.path / "rescue.py", "restore", family.path, out],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for name in ("tuned", "twice", "half", "q8"):
        found = next((out / name).iterdir())
        assert found.read_bytes() == FILES[name]
    done = subprocess.run(
        [sys.executable, family.path / "rescue.py", "verify", family.path],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@settings(max_examples=12)
@given(data=st.data())
def test_whatever_the_relation_the_file_comes_back(data):
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        with hn.open(place / "store", create=True, settings={"workers": 2}) as store:
            files = relatives(data)
            for at, content in enumerate(files):
                path = place / f"{at}.safetensors"
                path.write_bytes(content)
                store.add(path, name=f"m{at}")
            for at, content in enumerate(files):
                store.get(f"m{at}", place / f"out{at}")
                assert (place / f"out{at}").read_bytes() == content
            store.parts.frames.clear()
            assert store.verify(files=True).sound


def relatives(data):
    """Return safetensors files of one base and of things made from it in some way."""
    rows = data.draw(st.sampled_from([64, 1100, 2048]))
    base = normal(data.draw(st.integers(0, 3)), (rows, 64))
    files = [model(w=base)]
    for _ in range(data.draw(st.integers(1, 3))):
        files.append(model(w=relative(base, data)))
    return files


def relative(base, data):
    what = data.draw(
        st.sampled_from(
            ["tuned", "half", "bfloat", "turned", "grown", "cut", "scaled", "other", "nan"]
        )
    )
    rows = base.shape[0]
    if what == "tuned":
        return base + normal(data.draw(st.integers(4, 9)), base.shape) * np.float32(0.003)
    if what == "half":
        return base.astype(np.float16)
    if what == "bfloat":
        return ((base.view(np.uint32) + 0x8000) >> 16).astype(np.uint16)
    if what == "turned":
        return base.T
    if what == "grown":
        return np.concatenate([base, normal(11, (7, base.shape[1]))])
    if what == "cut":
        return base[: rows - 3]
    if what == "scaled":
        return base * np.float32(0.5)
    if what == "nan":
        odd = base.copy()
        odd.view(np.uint32)[::97] = 0x7FC01234
        return odd
    return normal(data.draw(st.integers(20, 30)), base.shape)


def test_equal_bytes_are_the_same_whichever_way_they_are_kept(family):
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()}
    for name, expected in digests.items():
        (file,) = family.show(name).files
        assert file.sha256 == f"sha256:{expected}"
    assert first_record(pack_paths(family.path)[0], RecordKind.EXTENT)
