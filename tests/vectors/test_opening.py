"""Which index is opened."""

import sys
from pathlib import Path

import numpy as np
import pytest

from hartonomous.core.nearness import EXACT_ROWS
from hartonomous.errors import UsageError
from hartonomous.testing.vector_index import ListedVectors, made_space
from hartonomous.vectors import opening
from hartonomous.vectors.codebook import simd_level
from hartonomous.vectors.exact import ExactIndex
from hartonomous.vectors.graph import GraphIndex, GraphSettings
from hartonomous.vectors.opening import open_vectors, with_settings
from hartonomous.vectors.scan import ScanIndex

TRUTH = ListedVectors(made_space(8))


def test_each_engine_by_its_name(tmp_path: Path) -> None:
    pytest.importorskip("faiss")
    pytest.importorskip("usearch")
    for engine, kind in (
        ("auto", ScanIndex),
        ("scan", ScanIndex),
        ("exact", ExactIndex),
        ("graph", GraphIndex),
    ):
        assert type(open_vectors(tmp_path, TRUTH, engine)) is kind


def test_a_graph_of_the_spaces_own_settings(tmp_path: Path) -> None:
    """What a space keeps as its engine says how its graph is built, which its file shows."""
    pytest.importorskip("usearch")
    truth = ListedVectors(made_space(8))
    truth.add(np.random.default_rng(1).standard_normal((EXACT_ROWS, 8)).astype(np.float32))
    engine = with_settings(GraphSettings(degree=5, build_list=9, search_list=40))
    index = open_vectors(tmp_path, truth, engine)
    index.update()
    index.close()
    head = (tmp_path / "graph").read_bytes()[:500]
    assert b'"degree":5,"build_list":9' in head


@pytest.mark.parametrize("engine", ["graph degree=5", with_settings(GraphSettings()) + " more"])
def test_settings_that_cannot_be_read_are_refused(tmp_path: Path, engine: str) -> None:
    with pytest.raises(UsageError, match="no engine"):
        open_vectors(tmp_path, TRUTH, engine)


def test_another_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="flat"):
        open_vectors(tmp_path, TRUTH, "flat")


def test_without_the_extras(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "has", lambda module: False)
    assert type(open_vectors(tmp_path, TRUTH)) is ExactIndex
    for engine, extra in (("scan", "search"), ("graph", "graph")):
        with pytest.raises(UsageError) as caught:
            open_vectors(tmp_path, TRUTH, engine)
        assert f"hartonomous[{extra}]" in str(caught.value.hint)


def test_the_level_of_instructions_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("faiss")
    assert simd_level()
    monkeypatch.setitem(sys.modules, "faiss", None)
    assert simd_level() is None
