"""Files of an index that were written for another space."""

from collections.abc import Callable
from typing import Any

from hartonomous.ports.vector_index import VectorTruth
from hartonomous.testing.vector_index import ListedVectors, made_space, made_vectors


def refuses_files_of_another_space(
    opened: Callable[[VectorTruth], Any], truth: ListedVectors
) -> None:
    """Assert that files are not used where the metric is another, and are written anew."""
    index = opened(truth)
    index.update()
    left = index.tail_rows
    index.close()
    other = ListedVectors(made_space(48, "dot"))
    count = len(truth.ids())
    other.add(made_vectors(count, 48, 1))
    found = opened(other)
    assert "another space" in found.notes[0] and found.tail_rows == count
    found.update()
    assert not found.notes and found.tail_rows == left
    found.close()
