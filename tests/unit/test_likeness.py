"""Terms of texts, and words that are like one another."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from hartonomous.core.diversity import VariedHit, diverse
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


def _plainly_alike(term: str, candidates: set[str]) -> list[str]:
    """As ``alike`` has it, without its short cuts."""
    found = []
    for one in candidates - {term}:
        longer, limit = max(len(term), len(one)), 1 if len(term) < 6 else 2
        distance = edit_distance(term, one, limit=limit)
        common = next((n for n in range(longer, -1, -1) if term[:n] == one[:n] and n <= len(one)
                       and n <= len(term)), 0)  # fmt: skip
        form = 0.9 * common / longer if common >= max(4, 0.55 * longer) else 0.0
        similarity = max(1 - distance / longer if distance <= limit else 0.0, form)
        if similarity > 0:
            found.append((-similarity, one))
    return [one for _, one in sorted(found)[:6]]


@given(WORD, st.sets(st.text("abcde", min_size=1, max_size=9), max_size=30))
def test_short_cuts_change_nothing_about_which_words_are_alike(term, candidates):
    changed = {term[:at] + term[at + 1 :] for at in range(len(term))}
    swapped = {term[:at] + term[at + 1 : at + 2] + term[at] + term[at + 2 :]
               for at in range(len(term))}  # fmt: skip
    for some in (candidates, changed, swapped, {f"{term}ed", f"{term}ing", term[:4]}):
        assert alike(term, some) == _plainly_alike(term, some)


def test_words_that_are_alike():
    vocabulary = ["valve", "valves", "value", "gasket", "leak", "leaks", "leaked", "leap"]
    assert alike("vlave", vocabulary)[0] == "valve"
    assert set(alike("leaking", vocabulary)) == {"leak", "leaks", "leaked"}
    assert alike("zebra", vocabulary) == []


@given(st.lists(st.sets(st.sampled_from("abcdefg")), max_size=12))
def test_a_varied_order_has_every_hit_once_and_the_best_first(hits):
    order = diverse([VariedHit(terms=frozenset(one)) for one in hits])
    assert sorted(order) == list(range(len(hits)))
    assert order[:1] == list(range(len(hits)))[:1]


def test_hits_of_one_space_are_compared_by_their_vectors():
    def hit(word, *vector, space="s"):
        found = np.array(vector, np.float32) if vector else None
        return VariedHit(terms=frozenset([word]), space=space if vector else "", vector=found)

    a, near, far = hit("a", 3, 0), hit("b", 2, 0.1), hit("c", 0, 1)
    assert diverse([a, near, far]) == [0, 2, 1]
    assert diverse([a, hit("b"), hit("c")]) == [0, 1, 2]
    # Vectors of another space say nothing of these, nor has one without a length a direction.
    assert diverse([a, hit("b", 2, 0.1, space="t"), far]) == [0, 1, 2]
    assert diverse([a, hit("b", 0, 0), hit("a", 5, 0)]) == [0, 1, 2]
