"""How a tensor is kept: every figure against the packs and the tensors themselves."""

import numpy as np
import pytest

import hartonomous as hn
from hartonomous.core.digest import digest
from hartonomous.errors import NotFoundError

pytestmark = pytest.mark.usefixtures("catalog_engine")

RAW = np.random.default_rng(0).integers(0, 256, 600_000, np.uint8)


def test_raw_bytes_lie_where_it_says(store):
    hn.save_file({"w": RAW}, "m", store=store)
    found = store.explain("m", "w")
    assert found.digest == f"blake3:{digest(RAW.tobytes()).hex()}"
    assert (found.stored_bytes, found.logical_bytes, found.saved_bytes) == (600_000, 600_000, 0)
    assert "2 %" in found.reason
    (piece,) = found.pieces
    (extent,) = piece.extents
    assert (extent.encoding, extent.frame_count, extent.raw_frame_count) == ("raw", 3, 3)
    content = (store.path / extent.pack).read_bytes()
    assert content[extent.pack_offset :][: extent.stored_bytes] == RAW.tobytes()
    with store.file("m") as file:
        file.seek(found.offset)
        assert file.read(found.logical_bytes) == RAW.tobytes()


def test_coded_frames_and_what_they_save(store):
    array = np.concatenate([np.zeros(1 << 18, np.uint8), RAW[: 1 << 18], np.zeros(99, np.uint8)])
    hn.save_file({"w": array}, "m", store=store)
    found = store.explain("m", "w")
    (extent,) = found.pieces[0].extents
    assert (extent.encoding, extent.frame_count, extent.raw_frame_count) == ("fields", 3, 1)
    assert found.stored_bytes == extent.stored_bytes < array.nbytes
    assert found.saved_bytes == array.nbytes - found.stored_bytes
    assert "fields" in found.reason


def test_everybody_who_shares_it(store):
    hn.save_file({"w": RAW, "copy": RAW}, "a", store=store)
    hn.save_file({"other": RAW.view(np.int8)}, "b", store=store)
    found = store.explain("b", "other")
    assert found.use_count == 3
    assert {(one.name, one.number, one.tensor, one.dtype) for one in found.uses} == {
        ("a", 1, "w", "U8"), ("a", 1, "copy", "U8"), ("b", 1, "other", "I8"),
    }  # fmt: skip
    assert found.saved_bytes == 2 * RAW.nbytes
    store.rm("a")
    assert [one.name for one in store.explain("b", "other").uses] == ["b"]


def test_few_bytes_lie_in_the_manifest_and_none_nowhere(store):
    hn.save_file({"w": np.arange(8), "empty": np.zeros((0, 4)), "x": RAW}, "m", store=store)
    found = store.explain("m", "w")
    assert (found.stored_bytes, found.saved_bytes) == (0, 0)
    assert [one.encoding for one in found.pieces] == ["inline"]
    empty = store.explain("m", "empty")
    assert (empty.pieces, empty.reason) == ((), "it has no bytes")


def test_a_tensor_larger_than_a_pack_has_several_extents(tmp_path):
    with hn.open(tmp_path / "store", create=True, settings={"pack_bytes": 1 << 20}) as store:
        array = np.random.default_rng(1).integers(0, 256, 3 << 20, np.uint8)
        hn.save_file({"w": array}, "m", store=store)
        extents = store.explain("m", "w").pieces[0].extents
        assert len(extents) > 2
        assert len({one.pack for one in extents}) == len(extents)
        assert sum(one.logical_bytes for one in extents) == array.nbytes
        assert np.array_equal(store.tensor("m", "w"), array)


def test_a_name_that_is_missing(store):
    hn.save_file({"w": RAW}, "m", store=store)
    with pytest.raises(NotFoundError, match="no tensor 'v'"):
        store.explain("m", "v")
