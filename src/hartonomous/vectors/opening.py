"""Which index a space has: exact where it must be, the compressed scan where faiss is, a graph."""

import importlib.util
import re
from pathlib import Path

from hartonomous.errors import UsageError
from hartonomous.ports.vector_index import VectorIndex, VectorTruth
from hartonomous.vectors.exact import ExactIndex
from hartonomous.vectors.graph import GraphIndex, GraphSettings
from hartonomous.vectors.scan import ScanIndex

ENGINES = ("auto", "exact", "scan", "graph")

_GRAPH = re.compile(r"graph degree=([0-9]{1,5}) build_list=([0-9]{1,5}) search_list=([0-9]{1,5})")

_EXTRAS = {"scan": ("faiss", "search"), "graph": ("usearch", "graph")}


def with_settings(graph: GraphSettings) -> str:
    """Return what a space keeps as its engine where its graph is built or searched otherwise."""
    return (
        f"graph degree={graph.degree} build_list={graph.build_list} search_list={graph.search_list}"
    )


def open_vectors(
    directory: Path,
    truth: VectorTruth,
    engine: str = "auto",
) -> VectorIndex:
    """Return the index of one space, whose files are in ``directory`` (its own; made when needed).

    Each engine needs a folder of its own. ``auto`` is ``scan`` where faiss is installed, else
    ``exact``; ``with_settings`` says how a graph is built and searched. Raises UsageError for
    another name, or naming the extra that an engine needs.
    """
    graph = None
    if (said := _GRAPH.fullmatch(engine)) is not None:
        degree, build, searched = map(int, said.groups())
        engine = "graph"
        graph = GraphSettings(degree=degree, build_list=build, search_list=searched)
    if engine not in ENGINES:
        raise UsageError(
            f"there is no engine of vectors '{engine}'", hint=f"one of {', '.join(ENGINES)}"
        )
    if engine == "auto":
        engine = "scan" if has("faiss") else "exact"
    if engine in _EXTRAS:
        module, extra = _EXTRAS[engine]
        if not has(module):
            raise UsageError(
                f"vectors by '{engine}' need {module}, which is not installed here",
                hint=f"pip install 'hartonomous[{extra}]'",
            )
    if engine == "scan":
        return ScanIndex(directory, truth)
    if engine == "graph":
        return GraphIndex(directory, truth, settings=graph)
    return ExactIndex(truth)


def has(module: str) -> bool:
    """Say whether a module is installed, without importing it."""
    return importlib.util.find_spec(module) is not None
