"""Views of raw tensors: not copied, read-only, aligned, and valid whatever becomes of the store."""

import gc
from pathlib import Path

import numpy as np
import pytest

import hartonomous as hn
from hartonomous.core.record import RAW_ALIGNMENT
from hartonomous.operations import collect

pytestmark = pytest.mark.usefixtures("catalog_engine")

RAW = np.random.default_rng(0).standard_normal((90, 1000)).astype(np.float32)


def _mapped(array: np.ndarray) -> bool:
    """Say whether an array's memory is a mapped pack."""
    at = array.__array_interface__["data"][0]
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, _, _, _, _, *path = line.split(maxsplit=5)
        low, high = (int(end, 16) for end in span.split("-"))
        if low <= at < high:
            return bool(path) and ".pack" in path[0]
    return False


@pytest.fixture
def raw(store):
    """A store with a tensor that zstd cannot make smaller."""
    noise = np.random.default_rng(1).integers(0, 256, 500_000, np.uint8)
    hn.save_file({"w": noise, "x": noise[::-1], "b": np.zeros(100_000, np.uint8)}, "m", store=store)
    return store, noise


def test_they_are_mapped_read_only_and_aligned(raw):
    store, noise = raw
    for name, wanted in (("w", noise), ("x", noise[::-1])):
        for view in (store.tensor("m", name), store.tensor_reader("m", name).array()):
            assert _mapped(view)
            assert view.ctypes.data % RAW_ALIGNMENT == 0
            assert np.array_equal(view, wanted)
            assert not view.flags.writeable
            with pytest.raises(ValueError, match="WRITEABLE"):
                view.flags.writeable = True
            with pytest.raises(ValueError, match="read-only"):
                view[0] = 1
        content = store.tensor_bytes("m", name, bytes_range=(100, 90_000))
        assert content.readonly
        assert _mapped(np.frombuffer(content, np.uint8))
        assert content == wanted.tobytes()[100:90_000]
    assert not _mapped(store.tensor("m", "b"))


def test_they_stay_when_the_store_is_closed(tmp_path):
    noise = np.random.default_rng(2).integers(0, 256, 500_000, np.uint8)
    with hn.open(tmp_path / "store", create=True) as store:
        hn.save_file({"w": noise}, "m", store=store)
        view = store.tensor("m", "w")
        part = store.tensor_bytes("m", "w", bytes_range=(7, 300_000))
    del store
    gc.collect()
    assert _mapped(view)
    assert np.array_equal(view, noise)
    assert part == noise.tobytes()[7:300_000]
    del view, part
    gc.collect()
    assert str(tmp_path) not in Path("/proc/self/maps").read_text()


def test_they_stay_when_their_pack_is_compacted_and_removed(raw, monkeypatch):
    store, noise = raw
    monkeypatch.setattr(collect, "SMALL_PACKS", 1)
    hn.save_file({"w": np.arange(90_000)}, "other", store=store)
    view = store.tensor("m", "w")
    reader = store.tensor_reader("m", "w")
    before = set((store.path / "packs").rglob("*.pack"))
    store.rm("other")
    store.gc(trash_days=0, grace_s=0)
    assert not before & set((store.path / "packs").rglob("*.pack"))
    assert np.array_equal(view, noise)
    assert np.array_equal(reader.array(), noise)
    assert np.array_equal(store.tensor("m", "w"), noise)
    store.rm("m")
    store.gc(trash_days=0, grace_s=0)
    assert np.array_equal(view, noise)
    store.close()
    assert np.array_equal(view, noise)


def test_no_pack_stays_mapped_without_a_view(tmp_path):
    with hn.open(tmp_path / "store", create=True) as store:
        hn.save_file({"w": RAW}, "m", store=store)
        with store.file("m") as file:
            file.read()
        store.tensor("m", "w", rows=(0, 3))
    assert str(tmp_path / "store" / "packs") not in Path("/proc/self/maps").read_text()
