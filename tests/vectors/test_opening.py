"""Which index is opened."""

import sys
from pathlib import Path

import pytest

from hartonomous.errors import UsageError
from hartonomous.testing.vector_index import ListedVectors, made_space
from hartonomous.vectors import opening
from hartonomous.vectors.codebook import simd_level
from hartonomous.vectors.exact import ExactIndex
from hartonomous.vectors.graph import GraphIndex
from hartonomous.vectors.opening import open_vectors
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
