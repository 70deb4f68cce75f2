"""Texts as hashed runs of characters."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hartonomous.core.digest import digest
from hartonomous.core.hashed_ngrams import DIMENSION, HashedNgrams, hashed_ngrams
from hartonomous.errors import UsageError


def test_each_row_has_length_one_and_does_not_depend_on_the_others():
    texts = ["leaking valve", "", "   ", "a", "\ud800", "x" * 50_000, "日本語のテキスト", "ﬁne"]
    rows = hashed_ngrams(texts)
    assert rows.shape == (len(texts), DIMENSION)
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    for text, row in zip(texts, rows, strict=True):
        assert np.array_equal(hashed_ngrams([text])[0], row)
    assert rows[1, 0] == rows[2, 0] == 1


@given(st.lists(st.text(max_size=40), max_size=6))
def test_any_text_has_a_vector(texts):
    rows = hashed_ngrams(texts)
    assert np.isfinite(rows).all()
    assert np.allclose((rows.astype(np.float64) ** 2).sum(axis=1), 1, atol=1e-5)


def test_words_spelt_otherwise_are_nearer_than_other_words():
    rows = hashed_ngrams(["leaking valve", "Leaky valves", "valve leaking", "purple mountain"])
    near = rows[0] @ rows[1:].T
    assert near[0] > near[2] + 0.2
    assert near[1] == pytest.approx(1, abs=1e-6)


def test_the_recipe_stays_what_it_is():
    """Stored vectors were made by it: another result needs another name of the recipe."""
    row = hashed_ngrams(["The quick brown fox"])[0]
    assert digest(np.sign(row).astype(np.int8).tobytes()).hex()[:16] == "54886309a095ccfe"
    assert row[381] == pytest.approx(0.25)
    assert HashedNgrams().encode_texts(["a"], query=True).shape == (1, DIMENSION)
    with pytest.raises(UsageError, match="knows texts"):
        HashedNgrams().space("picture")
