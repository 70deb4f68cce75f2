"""The exact scan by the conformance suite, with and without rows held in memory."""

from hartonomous.ports.vector_index import VectorIndex, VectorTruth
from hartonomous.testing.vector_index import VectorIndexContract
from hartonomous.vectors.exact import ExactIndex


class TestExact(VectorIndexContract):
    least_recall = 1.0

    def open_index(self, truth: VectorTruth) -> VectorIndex:
        return ExactIndex(truth)

    def delete_index(self, truth: VectorTruth) -> None:
        pass


class TestExactWithoutMemory(TestExact):
    count = 1500

    def open_index(self, truth: VectorTruth) -> VectorIndex:
        return ExactIndex(truth, held_bytes=0)
