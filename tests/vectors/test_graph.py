"""The graph by usearch: the conformance suite, and its file."""

import shutil
from functools import partial
from pathlib import Path
from typing import Any

import blake3
import pytest
from another_space import refuses_files_of_another_space

from hartonomous.errors import UsageError
from hartonomous.ports.vector_index import VectorIndex, VectorTruth
from hartonomous.testing.vector_index import (
    ListedVectors,
    VectorIndexContract,
    made_space,
    made_vectors,
    recall,
)
from hartonomous.vectors.graph import FILE, GraphIndex, GraphSettings, _coordinates

pytest.importorskip("usearch")


def opened(
    directory: Path, truth: VectorTruth, settings: GraphSettings | None = None
) -> GraphIndex:
    return GraphIndex(directory, truth, settings=settings, first_rows=500)


class TestGraph(VectorIndexContract):
    count = 2200

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.directory = tmp_path / "index"

    def open_index(self, truth: VectorTruth) -> VectorIndex:
        return opened(self.directory, truth)

    def delete_index(self, truth: VectorTruth) -> None:
        shutil.rmtree(self.directory)


@pytest.fixture
def truth() -> ListedVectors:
    made = ListedVectors(made_space(48))
    made.add(made_vectors(1200, 48, 1))
    return made


def test_a_damaged_graph_is_never_loaded(tmp_path: Path, truth: ListedVectors) -> None:
    directory, queries = tmp_path / "index", made_vectors(20, 48, 2)
    index = opened(directory, truth)
    index.update()
    assert index.tail_rows == 0
    expected = index.search(queries, 10)
    index.close()
    path = directory / FILE
    whole = path.read_bytes()
    harms = [whole[:-1], b"", whole + b"x", whole[: len(whole) // 2]]
    for at in (0, 9, 40, len(whole) // 2, len(whole) - 40, len(whole) - 1):
        harms.append(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    at = whole.index(b'"space":"') + 9
    no_text = whole[:at] + b"\xa3" + whole[at + 1 : -32]
    harms.append(no_text + blake3.blake3(no_text).digest())
    for harm in harms:
        path.write_bytes(harm)
        index = opened(directory, truth)
        assert index.notes and index.tail_rows == 1200
        assert (index.search(queries, 10).ids == expected.ids).all()
        index.close()
    index = opened(directory, truth)
    index.update()
    assert not index.notes and index.tail_rows == 0
    index.close()


def test_a_graph_is_opened_as_it_lies_and_not_built_again(
    tmp_path: Path, truth: ListedVectors, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory, queries = tmp_path / "index", made_vectors(20, 48, 2)
    first = opened(directory, truth)
    first.update()
    expected = first.search(queries, 10)
    first.close()
    before = (directory / FILE).stat()
    # Its vectors are asked for to be scored exactly, never to be put into a graph.
    monkeypatch.setattr("hartonomous.vectors.graph._coordinates", only_queries(20))
    again = opened(directory, truth)
    assert again.tail_rows == 0
    assert (again.search(queries, 10).ids == expected.ids).all()
    again.update()
    again.close()
    after = (directory / FILE).stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def only_queries(count: int) -> Any:
    """Return what makes coordinates of so many rows, and fails for any other number."""

    def made(rows: Any, frame: Any, metric: str) -> Any:
        assert len(rows) == count
        return _coordinates(rows, frame, metric)

    return made


def test_the_graph_of_another_space_is_refused(tmp_path: Path, truth: ListedVectors) -> None:
    refuses_files_of_another_space(partial(opened, tmp_path / "index"), truth)


def test_other_settings_build_another_graph(tmp_path: Path, truth: ListedVectors) -> None:
    index = opened(tmp_path / "index", truth)
    index.update()
    index.close()
    size = (tmp_path / "index" / FILE).stat().st_size
    wider = opened(tmp_path / "index", truth, GraphSettings(degree=48, build_list=200))
    wider.update()
    queries = made_vectors(20, 48, 2)
    assert recall(wider.search(queries, 10), truth, queries) >= 0.99
    assert (tmp_path / "index" / FILE).stat().st_size > size
    wider.close()


@pytest.mark.parametrize(
    "given",
    [{"degree": 1}, {"degree": 500, "build_list": 600}, {"degree": 64, "build_list": 32},
     {"search_list": 0}, {"search_list": 10**6}],
)  # fmt: skip
def test_settings_that_cannot_be_are_refused(given: dict[str, int]) -> None:
    with pytest.raises(UsageError):
        GraphSettings(**given)
