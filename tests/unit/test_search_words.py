"""Queries, snippets and the fusion of ranks."""

import hypothesis.strategies as st
import pytest
from hypothesis import given

from hartonomous.core.query import parse_query
from hartonomous.core.rank_fusion import fuse, ranks
from hartonomous.core.search_page import Hit, search_page
from hartonomous.core.snippet import snippet
from hartonomous.errors import UsageError


def test_a_query_has_words_phrases_and_what_must_not_be_there():
    found = parse_query('Leaking valve "main pump" -sea -"dead end" valve')
    assert found.words == ("Leaking", "valve")
    assert found.phrases == ("main pump",)
    assert found.without == ("sea", "dead end")
    assert found.terms == ("leaking", "valve", "main", "pump")
    match = found.match()
    assert match.any_of == (("leaking",), ("valve",))
    assert match.all_of == (("main", "pump"),)
    assert match.none_of == (("sea",), ("dead", "end"))
    assert match.terms == ("main", "pump", "leaking", "valve")
    assert found.meant == "Leaking valve main pump valve"
    assert parse_query("why - do pumps  leak?").meant == "why - do pumps  leak?"


@pytest.mark.parametrize(
    "text", ["", "  ", "-only", '"" !', "x" * 5_000, " ".join(f"w{n}" for n in range(65))]
)
def test_a_query_without_words_or_with_too_many_is_refused(text):
    with pytest.raises(UsageError):
        parse_query(text)


@given(st.text(max_size=200), st.lists(st.text(min_size=1, max_size=9), max_size=5))
def test_marks_of_a_snippet_lie_in_it_in_order(text, terms):
    found = snippet(text, terms)
    at = 0
    for start, stop in found.marks:
        assert at <= start < stop <= len(found.text)
        at = stop


def test_a_snippet_shows_the_words_that_match():
    text = " ".join([*["before"] * 100, "the", "Válve", "leaks", *["after"] * 100])
    found = snippet(text, ["valve", "leaks"])
    assert [found.text[start:stop] for start, stop in found.marks] == ["Válve", "leaks"]
    assert found.text.startswith("… before")
    assert found.text.endswith("after …")


def test_a_snippet_marks_what_is_similar_where_nothing_is_equal():
    found = snippet("A new gasket was fitted", ["gaskett"])
    assert [found.text[start:stop] for start, stop in found.marks] == ["gasket"]


def test_ranks_are_fused_by_their_reciprocals():
    found = fuse([(["a", "b", "c"], 1.0), (["b", "d"], 1.0), (["d"], 0.5)])
    assert [key for key, _ in found] == ["b", "d", "a", "c"]
    assert found[0][1] == pytest.approx(1 / 62 + 1 / 61)
    assert ranks({"words": ["a", "b"], "letters": ["b"]}, "b") == {"words": 2, "letters": 1}


def test_the_page_of_hits_escapes_everything():
    hit = Hit("<a>@1", "<p> 1", "<h>", "x <b> y", ((2, 5),), {"words": 1})
    page = search_page("<q>", [hit])
    assert "<mark>&lt;b&gt;</mark>" in page
    for text in ("<a>", "<p>", "<h>", "<b>", "<q>", "http://", "https://", "<script"):
        assert text not in page.replace("<body>", "")


def test_the_page_of_hits_has_those_of_one_file_together():
    hits = [
        Hit(file, "", "", text, (), {}) for file, text in (("a", "1st"), ("b", "2nd"), ("a", "3rd"))
    ]
    assert "<p" not in search_page("x", hits)
    assert '<p class="place">no &lt;one&gt;</p>' in search_page("x", hits, note="no <one>")
    page = search_page("x", hits)
    assert page.count("<h2>a</h2>") == page.count("<h2>b</h2>") == 1
    assert page.index("1st") < page.index('<li value="3">') < page.index("3rd") < page.index("2nd")
