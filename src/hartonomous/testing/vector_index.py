"""Conformance suite of the vector-index port: what every engine must do.

Derive a class whose name begins with ``Test``, implement ``open_index``, and let pytest collect it.
The truth is one in memory; ``ListedVectors`` may serve other tests as well.
"""

# ruff: noqa: D102 - the name of a test says what it holds

import threading
from collections.abc import Iterator

import numpy as np

from hartonomous.core.space import Space
from hartonomous.errors import NotFoundError, UsageError
from hartonomous.ports.vector_index import Found, Ids, VectorIndex, Vectors, VectorTruth


def made_space(dimension: int = 48, metric: str = "cosine") -> Space:
    """Return a space for tests."""
    return Space(
        modality="text", encoder="made", encoder_digest="", recipe="test", quantisation="f32",
        pooling="none", dimension=dimension, metric=metric,
    )  # fmt: skip


class ListedVectors:
    """A truth in memory: ids count up from 1 and are never given twice."""

    def __init__(self, space: Space, piece: int = 1000) -> None:
        self._space = space
        self._piece = piece
        self._next = 1
        self._lock = threading.Lock()
        self._kept: tuple[Ids, Vectors] = (
            np.empty(0, dtype=np.int64),
            np.empty((0, space.dimension), dtype=np.float32),
        )

    @property
    def space(self) -> Space:
        """Whose vectors they are."""
        return self._space

    def add(self, vectors: Vectors, *, skip: int = 0) -> Ids:
        """Add rows and return their ids; ``skip`` ids before them are never used."""
        with self._lock:
            first = self._next + skip
            ids = np.arange(first, first + len(vectors), dtype=np.int64)
            self._next = first + len(vectors)
            old_ids, old = self._kept
            self._kept = (
                np.concatenate([old_ids, ids]),
                np.concatenate([old, vectors.astype(np.float32)]),
            )
            return ids

    def remove(self, ids: Ids) -> None:
        """Remove some."""
        with self._lock:
            kept = ~np.isin(self._kept[0], ids)
            self._kept = (self._kept[0][kept], self._kept[1][kept])

    def ids(self) -> Ids:
        """Return the live ids."""
        return self._kept[0]

    def vectors(self, ids: Ids) -> Vectors:
        """Return rows; NotFoundError if one of them is gone."""
        known, rows = self._kept
        at = np.searchsorted(known, ids)
        if ids.size and (not known.size or at.max() >= known.size or (known[at] != ids).any()):
            raise NotFoundError("a vector of this id is gone")
        return rows[at]

    def scan(self, after_id: int = 0) -> Iterator[tuple[Ids, Vectors]]:
        """Yield pieces."""
        known, rows = self._kept
        start = int(np.searchsorted(known, after_id, side="right"))
        for at in range(start, known.size, self._piece):
            yield known[at : at + self._piece], rows[at : at + self._piece]


def made_vectors(count: int, dimension: int, seed: int) -> Vectors:
    """Return vectors as encoders make them: in clusters, few directions strong, off the origin."""
    random = np.random.default_rng(seed)
    shared = np.random.default_rng(7)
    spread = (1.0 + np.arange(dimension)) ** -0.3
    centres = shared.standard_normal((64, dimension)) * spread
    offset = shared.standard_normal(dimension) * 0.5
    chosen = centres[random.integers(0, len(centres), count)]
    noise = random.standard_normal((count, dimension)) * spread
    return np.asarray(chosen + 0.7 * noise + offset, dtype=np.float32)


def plain_scores(queries: Vectors, rows: Vectors, metric: str) -> np.ndarray:
    """Return scores [queries, rows] by their definition, in float64."""
    wide, asked = rows.astype(np.float64), queries.astype(np.float64)
    if metric == "euclidean":
        return np.asarray(-((asked[:, None, :] - wide[None, :, :]) ** 2).sum(axis=2))
    products = asked @ wide.T
    if metric == "dot":
        return np.asarray(products)
    lengths = np.linalg.norm(asked, axis=1)[:, None] * np.linalg.norm(wide, axis=1)[None, :]
    return np.asarray(products / lengths)


def recall(
    found: Found, truth: ListedVectors, queries: Vectors, allowed: Ids | None = None
) -> float:
    """Return the share of the true nearest that was found."""
    ids = truth.ids() if allowed is None else np.intersect1d(truth.ids(), allowed)
    count = min(found.ids.shape[1], ids.size)
    got = total = 0
    for at in range(0, len(queries), 16):
        scores = plain_scores(queries[at : at + 16], truth.vectors(ids), truth.space.metric)
        for row, mine in zip(scores, found.ids[at : at + 16], strict=True):
            best = ids[np.argsort(-row, kind="stable")[:count]]
            got += np.isin(best, mine).sum()
            total += count
    return got / total if total else 1.0


def refused(call: "object", *arguments: object, **named: object) -> UsageError:
    """Return the UsageError that a call must raise."""
    assert callable(call)
    try:
        call(*arguments, **named)
    except UsageError as error:
        return error
    raise AssertionError("UsageError was expected, nothing was raised")


class VectorIndexContract:
    """Every promise of the port, as one test each. Vectors are few: engines must not need many."""

    dimension = 48
    count = 3000
    least_recall = 0.99
    metrics: tuple[str, ...] = ("cosine", "dot", "euclidean")

    def open_index(self, truth: VectorTruth) -> VectorIndex:
        """Return the index of a truth; called again for the same truth, it opens it again."""
        raise NotImplementedError("return an index of the engine under test")

    def delete_index(self, truth: VectorTruth) -> None:
        """Delete what the index keeps beside the truth."""
        raise NotImplementedError("delete what the engine under test keeps")

    def filled(self, metric: str = "cosine", count: int | None = None) -> ListedVectors:
        truth = ListedVectors(made_space(self.dimension, metric))
        truth.add(made_vectors(self.count if count is None else count, self.dimension, 1))
        return truth

    def queries(self, count: int = 64) -> Vectors:
        return made_vectors(count, self.dimension, 2)

    def built(self, truth: ListedVectors) -> VectorIndex:
        index = self.open_index(truth)
        index.update()
        return index

    def check(
        self, index: VectorIndex, truth: ListedVectors, k: int = 10, allowed: Ids | None = None
    ) -> Found:
        queries = self.queries()
        found = index.search(queries, k, allowed=allowed)
        self.check_shape(found, truth, queries, k, allowed)
        assert recall(found, truth, queries, allowed) >= self.least_recall
        return found

    def check_shape(
        self,
        found: Found,
        truth: ListedVectors,
        queries: Vectors,
        k: int,
        allowed: Ids | None = None,
    ) -> None:
        """Check that all hits are live, allowed, distinct, in order, exactly scored, and enough."""
        assert found.ids.shape == found.scores.shape == (len(queries), k)
        live = truth.ids() if allowed is None else np.intersect1d(truth.ids(), allowed)
        for query, ids, scores in zip(queries, found.ids, found.scores, strict=True):
            hits = ids[ids != -1]
            assert hits.size == min(k, live.size)
            assert (ids[hits.size :] == -1).all() and np.isneginf(scores[hits.size :]).all()
            assert np.isin(hits, live).all() and np.unique(hits).size == hits.size
            assert (np.diff(scores[: hits.size]) <= 0).all()
            if hits.size:
                order = np.argsort(hits)
                rows = truth.vectors(hits[order])
                exact = plain_scores(query[None, :], rows, truth.space.metric)[0]
                assert np.allclose(scores[: hits.size][order], exact, rtol=1e-5, atol=1e-5)

    def test_finds_the_nearest_by_each_metric(self) -> None:
        for metric in self.metrics:
            truth = self.filled(metric)
            index = self.built(truth)
            self.check(index, truth)
            self.check(index, truth, k=1)
            self.check(index, truth, k=100)
            index.close()
            self.delete_index(truth)

    def test_an_empty_truth_has_no_hits(self) -> None:
        truth = ListedVectors(made_space(self.dimension))
        index = self.built(truth)
        found = index.search(self.queries(2), 5)
        assert (found.ids == -1).all() and np.isneginf(found.scores).all()
        index.close()

    def test_no_queries_no_hits(self) -> None:
        truth = self.filled(count=100)
        index = self.built(truth)
        assert index.search(self.queries(0), 5).ids.shape == (0, 5)
        index.close()

    def test_gives_all_where_fewer_than_k_exist(self) -> None:
        truth = self.filled(count=7)
        index = self.built(truth)
        self.check(index, truth, k=20)
        index.close()

    def test_gives_k_hits_however_many_are_asked_for(self) -> None:
        truth = self.filled()
        index = self.built(truth)
        self.check_shape(index.search(self.queries(3), 1000), truth, self.queries(3), 1000)
        index.close()

    def test_keeps_to_what_is_allowed(self) -> None:
        truth = self.filled()
        index = self.built(truth)
        random = np.random.default_rng(3)
        for share in (0.01, 0.1, 0.5, 0.98):
            allowed = truth.ids()[random.random(truth.ids().size) < share]
            self.check(index, truth, allowed=allowed)
        self.check(index, truth, allowed=np.empty(0, dtype=np.int64))
        self.check(index, truth, allowed=np.array([truth.ids()[4]]))
        self.check(index, truth, allowed=np.array([2**62, 2**62 + 1]))
        index.close()

    def test_gives_k_hits_where_what_is_allowed_is_far_away(self) -> None:
        truth = self.filled()
        index = self.built(truth)
        queries = self.queries(4)
        scores = plain_scores(queries, truth.vectors(truth.ids()), "cosine").max(axis=0)
        allowed = np.sort(truth.ids()[np.argsort(scores)[: truth.ids().size // 4]])
        found = index.search(queries, 10, allowed=allowed)
        self.check_shape(found, truth, queries, 10, allowed)
        index.close()

    def test_never_gives_what_was_removed(self) -> None:
        truth = self.filled()
        index = self.built(truth)
        found = index.search(self.queries(), 10)
        truth.remove(np.unique(found.ids[:, :5]))
        self.check(index, truth)
        index.update()
        self.check(index, truth)
        truth.remove(truth.ids()[:-3])
        self.check(index, truth)
        index.update()
        self.check(index, truth)
        index.close()

    def test_finds_what_was_added_before_and_after_an_update(self) -> None:
        truth = self.filled()
        index = self.built(truth)
        new = truth.add(self.queries(), skip=1000)
        found = self.check(index, truth)
        assert (found.ids[:, 0] == new).all()
        index.update()
        found = self.check(index, truth)
        assert (found.ids[:, 0] == new).all()
        index.close()

    def test_takes_in_many_small_additions(self) -> None:
        truth = self.filled()
        index = self.built(truth)
        for seed in range(10, 22):
            truth.add(made_vectors(300, self.dimension, seed))
            truth.remove(truth.ids()[seed : seed + 20])
            index.update()
        self.check(index, truth)
        index.close()
        index = self.open_index(truth)
        self.check(index, truth)
        index.close()

    def test_takes_in_vectors_of_another_kind(self) -> None:
        truth = self.filled()
        index = self.built(truth)
        truth.add(made_vectors(self.count, self.dimension, 5) * -0.2 + 3)
        index.update()
        queries = np.concatenate([self.queries(32), self.queries(32) * -0.2 + 3])
        found = index.search(queries.astype(np.float32), 10)
        assert recall(found, truth, queries) >= self.least_recall
        index.close()

    def test_says_the_same_when_opened_again(self) -> None:
        truth = self.filled()
        index = self.built(truth)
        found = index.search(self.queries(), 10)
        index.close()
        again = self.open_index(truth)
        assert (again.search(self.queries(), 10).ids == found.ids).all()
        again.close()

    def test_says_the_same_when_deleted_and_built_again(self) -> None:
        truth = self.filled()
        index = self.built(truth)
        queries = self.queries(1000)
        found = index.search(queries, 10)
        index.close()
        self.delete_index(truth)
        again = self.built(truth)
        assert (again.search(queries, 10).ids == found.ids).all()
        again.close()

    def test_sees_what_another_one_updated(self) -> None:
        truth = self.filled()
        first, second = self.built(truth), self.open_index(truth)
        self.check(second, truth)
        new = truth.add(self.queries())
        first.update()
        assert (self.check(second, truth).ids[:, 0] == new).all()
        second.update()
        self.check(first, truth)
        first.close()
        second.close()

    def test_serves_threads_while_it_is_updated(self) -> None:
        truth = self.filled()
        index = self.built(truth)
        queries = self.queries(8)
        wrong: list[BaseException] = []

        def ask() -> None:
            try:
                for _ in range(10):
                    assert (index.search(queries, 5).ids != -1).all()
            except BaseException as error:  # noqa: BLE001 - it is told below
                wrong.append(error)

        threads = [threading.Thread(target=ask) for _ in range(2)]
        for thread in threads:
            thread.start()
        for seed in range(3):
            truth.add(made_vectors(200, self.dimension, 30 + seed))
            index.update()
        for thread in threads:
            thread.join()
        assert not wrong
        index.close()

    def test_scores_of_one_query_do_not_depend_on_others(self) -> None:
        truth = self.filled()
        index = self.built(truth)
        queries = self.queries()
        together = index.search(queries, 5)
        for at in (0, 17, 63):
            alone = index.search(queries[at : at + 1], 5)
            assert (alone.ids[0] == together.ids[at]).all()
            assert np.allclose(alone.scores[0], together.scores[at], rtol=1e-6)
        index.close()

    def test_refuses_what_cannot_be_compared(self) -> None:
        truth = self.filled(count=200)
        index = self.built(truth)
        good = self.queries(3)
        for value in (np.nan, np.inf, -np.inf):
            bad = good.copy()
            bad[1, 5] = value
            assert "query 1" in str(refused(index.search, bad, 5))
        empty = good.copy()
        empty[2] = 0
        assert "query 2" in str(refused(index.search, empty, 5))
        assert str(self.dimension) in str(refused(index.search, good[:, :-1], 5))
        refused(index.search, good[0], 5)
        for k in (0, -1, 10**9):
            refused(index.search, good, k)
        refused(index.search, good, 5, allowed=np.array([5, 3], dtype=np.int64))
        refused(index.search, good, 5, allowed=np.array([3, 3], dtype=np.int64))
        index.close()
