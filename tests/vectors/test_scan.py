"""The compressed scan: the conformance suite, its files, its segments."""

import json
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from another_space import refuses_files_of_another_space

from hartonomous.ports.vector_index import VectorIndex, VectorTruth
from hartonomous.testing.vector_index import (
    ListedVectors,
    VectorIndexContract,
    made_space,
    made_vectors,
    recall,
)
from hartonomous.vectors import codebook, rotation
from hartonomous.vectors.derived_file import open_derived, write_derived
from hartonomous.vectors.generation import FILE
from hartonomous.vectors.merging import Tiers
from hartonomous.vectors.scan import ScanIndex

pytest.importorskip("faiss")

SMALL = Tiers(least=256, factor=4)


def opened(directory: Path, truth: VectorTruth) -> ScanIndex:
    return ScanIndex(directory, truth, tiers=SMALL, first_rows=500)


class TestScan(VectorIndexContract):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.directory = tmp_path / "index"

    def open_index(self, truth: VectorTruth) -> VectorIndex:
        return opened(self.directory, truth)

    def delete_index(self, truth: VectorTruth) -> None:
        shutil.rmtree(self.directory)


class TestScanOfOddDimension(TestScan):
    dimension = 37


@pytest.fixture
def truth() -> ListedVectors:
    made = ListedVectors(made_space(48))
    made.add(made_vectors(3000, 48, 1))
    return made


def queries() -> np.ndarray:
    return made_vectors(64, 48, 2)


def test_codes_are_packed_as_faiss_packs_them() -> None:
    faiss = codebook.faiss()
    for dimension in (2, 6, 48, 130):
        rows = np.random.default_rng(0).standard_normal((96, dimension)).astype(np.float32)
        pairs = dimension // 2
        index = faiss.IndexPQFastScan(dimension, pairs, 4, faiss.METRIC_L2, 32)
        faiss.copy_array_to_vector(np.tile(codebook.POINTS, (pairs, 1)).ravel(), index.pq.centroids)
        index.is_trained = True
        index.add(rows)
        codes = codebook.encoded(rows)
        mine = codebook.packed(codes)
        assert (faiss.vector_to_array(index.codes) == mine.reshape(-1)).all()
        assert (codebook.unpacked(mine) == codes).all()


def test_a_rotation_keeps_lengths_and_angles() -> None:
    random = np.random.default_rng(0)
    for dimension in (1, 2, 3, 48, 384, 1023, 1100, 3072):
        rows = random.standard_normal((5, dimension)).astype(np.float32)
        turned = rotation.rotated(rows)
        assert turned.shape == (5, dimension + dimension % 2)
        assert np.allclose(turned @ turned.T, rows @ rows.T, rtol=1e-4, atol=1e-3)
    spike = np.zeros((1, 384), dtype=np.float32)
    spike[0, 7] = 1
    assert abs(rotation.rotated(spike)).max() < 0.35


def test_most_vectors_are_in_segments(tmp_path: Path, truth: ListedVectors) -> None:
    index = opened(tmp_path / "index", truth)
    assert index.tail_rows == 3000
    index.update()
    assert sum(index.segment_rows) == 2976 and index.tail_rows == 24
    index.close()


def test_small_segments_are_merged_and_codes_stay(tmp_path: Path, truth: ListedVectors) -> None:
    index = opened(tmp_path / "index", truth)
    index.update()
    for seed in range(12):
        truth.add(made_vectors(256, 48, 50 + seed))
        index.update()
        assert len(index.segment_rows) <= 2 * SMALL.factor
        files = {path.name for path in (tmp_path / "index").iterdir()}
        assert len(files) == len(index.segment_rows) + 2  # the list and the lock
    assert recall(index.search(queries(), 10), truth, queries()) >= 0.99
    index.close()


def test_a_segment_with_many_dead_is_written_anew(tmp_path: Path, truth: ListedVectors) -> None:
    index = opened(tmp_path / "index", truth)
    index.update()
    truth.remove(truth.ids()[::3])
    index.update()
    assert sum(index.segment_rows) + index.tail_rows == 2000
    assert index.tail_rows < 100
    assert recall(index.search(queries(), 10), truth, queries()) >= 0.99
    index.close()


def test_damage_anywhere_is_noted_and_mended(tmp_path: Path, truth: ListedVectors) -> None:
    directory = tmp_path / "index"
    index = opened(directory, truth)
    index.update()
    expected = index.search(queries(), 10)
    index.close()
    (segment,) = directory.glob("*.segment")
    for path in (segment, directory / FILE):
        whole = path.read_bytes()
        harms = [whole[:-1], b"", whole + b"x", whole[: len(whole) // 2]]
        for at in (0, 9, 40, len(whole) // 2, len(whole) - 1):
            harms.append(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        for harm in harms:
            path.write_bytes(harm)
            index = opened(directory, truth)
            assert index.notes and index.tail_rows == 3000
            assert (index.search(queries(), 10).ids == expected.ids).all()
            index.close()
        path.write_bytes(whole)
    segment.write_bytes(b"")
    index = opened(directory, truth)
    index.update()
    assert not index.notes and index.tail_rows == 24
    index.close()


def test_other_things_in_place_of_a_segment(tmp_path: Path, truth: ListedVectors) -> None:
    directory = tmp_path / "index"
    index = opened(directory, truth)
    index.update()
    index.close()
    (segment,) = directory.glob("*.segment")
    kept = segment.read_bytes()

    def replaced_by(make: object) -> None:
        segment.unlink()
        assert callable(make)
        make(segment)
        found = opened(directory, truth)
        assert found.notes and found.tail_rows == 3000
        found.close()

    replaced_by(os.mkfifo)
    outside = tmp_path / "outside"
    outside.write_bytes(kept)
    replaced_by(lambda path: path.symlink_to(outside))
    replaced_by(lambda path: None)
    segment.mkdir()
    found = opened(directory, truth)
    assert found.notes
    found.close()


def test_files_of_another_space_are_refused(tmp_path: Path, truth: ListedVectors) -> None:
    refuses_files_of_another_space(partial(opened, tmp_path / "index"), truth)


def test_what_an_interrupted_update_left_is_removed(tmp_path: Path, truth: ListedVectors) -> None:
    directory = tmp_path / "index"
    index = opened(directory, truth)
    index.update()
    (directory / "0123.segment").write_bytes(b"unlisted")
    (directory / "0456.segment.aa.tmp").write_bytes(b"half")
    truth.add(made_vectors(300, 48, 9))
    index.update()
    assert not {"0123.segment", "0456.segment.aa.tmp"} & {one.name for one in directory.iterdir()}
    index.close()


def test_equal_vectors_are_all_found(tmp_path: Path) -> None:
    truth = ListedVectors(made_space(48))
    truth.add(np.repeat(made_vectors(1, 48, 1), 1000, axis=0))
    index = opened(tmp_path / "index", truth)
    index.update()
    found = index.search(queries()[:2], 50)
    assert (found.ids != -1).all() and np.ptp(found.scores[0]) < 1e-6
    index.close()


def test_few_vectors_have_no_files(tmp_path: Path) -> None:
    truth = ListedVectors(made_space(48))
    truth.add(made_vectors(400, 48, 1))
    index = opened(tmp_path / "index", truth)
    index.update()
    assert not (tmp_path / "index").exists()
    index.close()


@pytest.mark.parametrize(
    "names",
    [["a\0.segment"], ["../a.segment"], [".segment"], ["a.segment"] * 2, ["x" * 300 + ".segment"]],
)
def test_a_list_that_nobody_here_wrote(tmp_path: Path, truth: ListedVectors, names: list) -> None:
    directory = tmp_path / "index"
    index = opened(directory, truth)
    expected = index.search(queries(), 10).ids
    index.close()
    told = {"format": 1, "space": truth.space.key, "number": 7, "names": names}
    write_derived(directory / FILE, [json.dumps(told).encode()])
    index = opened(directory, truth)
    assert index.notes
    assert (index.search(queries(), 10).ids == expected).all()
    index.update()
    assert not index.notes
    assert (index.search(queries(), 10).ids == expected).all()
    index.close()


def refuses(
    directory: Path, truth: ListedVectors, kind: str, harm: Callable[[bytes], bytes]
) -> None:
    """Change what is in a file, digest and all: it is left out, and the hits stay the same."""
    index = opened(directory, truth)
    index.update()
    expected = index.search(queries(), 10).ids
    index.close()
    (file,) = directory.glob(kind)
    write_derived(file, [harm(bytes(open_derived(file)))])
    index = opened(directory, truth)
    assert index.notes and index.tail_rows == 3000
    assert (index.search(queries(), 10).ids == expected).all()
    index.close()


@pytest.mark.parametrize("kind", ["*.segment", "generation"])
def test_a_text_that_is_no_utf_8_behind_a_digest_that_fits(
    tmp_path: Path, truth: ListedVectors, kind: str
) -> None:
    def harm(content: bytes) -> bytes:
        at = content.index(b'"space":"') + 9
        return content[:at] + b"\xa3" + content[at + 1 :]

    refuses(tmp_path / "index", truth, kind, harm)


@pytest.mark.parametrize("first_id", [0, -1, -(10**30), 1 << 63, (1 << 63) - 1])
def test_a_segment_with_ids_that_cannot_be(
    tmp_path: Path, truth: ListedVectors, first_id: int
) -> None:
    def harm(content: bytes) -> bytes:
        length = int.from_bytes(content[8:12], "little")
        header = json.loads(content[12 : 12 + length]) | {"first_id": first_id}
        told = json.dumps(header).encode()
        told += b" " * (-(12 + len(told)) % 64)
        return content[:8] + len(told).to_bytes(4, "little") + told + content[12 + length :]

    refuses(tmp_path / "index", truth, "*.segment", harm)
