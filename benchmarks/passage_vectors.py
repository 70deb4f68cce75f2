"""Vectors for the documents of ``media``, so that searches go by words and by meaning.

They stand in the space of the demo's model, which encodes the queries: 384 numbers, compressed
scan, exact rescoring from the stored blocks. Encoding 124,000 passages with it takes an hour on two
cores, so theirs are hashed n-grams projected on 384 dimensions: what a search costs does not depend
on what the numbers mean.
"""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from hartonomous.core.hashed_ngrams import DIMENSION, HashedNgrams
from hartonomous.core.indexed_text import IndexedPassage
from hartonomous.core.place import Place
from hartonomous.packs.space_writer import ensure_space, writing
from hartonomous.packs.text_views import open_index
from hartonomous.packs.vector_search import update_index
from hartonomous.store import Store

ENCODER = "minilm"
_AT_ONCE = 1024


def with_vectors(store: Store, model: Path) -> None:
    """Give the store an encoder and each passage a vector in its space, unless it has them."""
    if any(one.name == ENCODER for one in store.spaces.list()):
        return
    store.encoders.add(model, name=ENCODER)
    encoder = store.encoders.get(ENCODER)
    space = encoder.space("text")
    encoder.close()
    rule = HashedNgrams()
    random = np.random.default_rng(1)
    projection = random.standard_normal((DIMENSION, space.dimension)).astype(np.float32)
    row = ensure_space(store.parts, space)
    with writing(store.parts, store.files, row) as writer:
        passages = _passages(store)
        while some := list(islice(passages, _AT_ONCE)):
            vectors = rule.encode_texts([one.text for one in some]) @ projection
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            places = [
                Place(digest=one.digest, kind="passage", page=one.page, start=one.start,
                      stop=one.stop)
                for one in some
            ]  # fmt: skip
            writer.append(places, vectors, source="the benchmark")
        writer.merge()
        update_index(store.parts, row, writer.truth)


def _passages(store: Store) -> Iterator[IndexedPassage]:
    with open_index(store.parts) as index:
        for digest in sorted(index.recipes()):
            yield from index.passages_of(digest)


def written_queries(store: Store, texts: list[str], folder: Path) -> list[Path]:
    """Write the vectors of queries to files, as ``--like`` takes them; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    encoder = store.encoders.get(ENCODER)
    try:
        vectors = encoder.encode_texts(texts, query=True)
    finally:
        encoder.close()
    paths = [folder / f"{number}.npy" for number in range(len(texts))]
    for path, vector in zip(paths, vectors, strict=True):
        np.save(path, vector)
    return paths
