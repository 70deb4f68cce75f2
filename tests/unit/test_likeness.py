"""Terms of texts, and words that are like one another."""

import hypothesis.strategies as st
import pytest
from hypothesis import given

from hartonomous.core.diversity import diverse
from hartonomous.core.likeness import alike, asked_keys, edit_distance, kept_keys
from hartonomous.core.terms import terms

WORD = st.text("abcde", min_size=4, max_size=8)


def test_terms_are_runs_of_letters_in_lower_case_without_accents():
    assert terms("Válve_3, don't ﬁt") == ["valve", "3", "don", "t", "fit"]
    assert terms("東京 tower") == ["東", "京", "tower"]
    assert terms("x" * 100) == ["x" * 64]


@given(st.text(max_size=80))
def test_terms_of_terms_are_the_same(text):
    found = terms(text)
    assert terms(" ".join(found)) == found


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [("valve", "valve", 0), ("vlave", "valve", 1), ("valv", "valve", 1), ("value", "valve", 1),
     ("gaskett", "gasket", 1), ("abcd", "dcba", 3), ("ab", "abcde", 3)],
)  # fmt: skip
def test_the_distance_counts_changes(a, b, expected):
    assert edit_distance(a, b, limit=2) == expected


@given(WORD, WORD)
def test_words_that_differ_by_one_change_share_a_key(a, b):
    distance = edit_distance(a, b, limit=2)
    assert distance == edit_distance(b, a, limit=2)
    if distance <= 1:
        assert kept_keys(a) & asked_keys(b)


def test_words_that_are_alike():
    vocabulary = ["valve", "valves", "value", "gasket", "leak", "leaks", "leaked", "leap"]
    assert alike("vlave", vocabulary)[0] == "valve"
    assert set(alike("leaking", vocabulary)) == {"leak", "leaks", "leaked"}
    assert alike("zebra", vocabulary) == []


@given(st.lists(st.sets(st.sampled_from("abcdefg")), max_size=12))
def test_a_varied_order_has_every_hit_once_and_the_best_first(hits):
    order = diverse(hits)
    assert sorted(order) == list(range(len(hits)))
    assert order[:1] == list(range(len(hits)))[:1]
