"""Passages: whole text, in order, inside one section and page, about as long as wanted."""

import hypothesis.strategies as st
from hypothesis import given

from hartonomous.core.document import Block, BlockList
from hartonomous.core.passage import LEAST_WORDS, MOST_WORDS, count_words, passages

WORDS = st.sampled_from(["valve", "leak.", "und", "the", "日本語", "x-y", "end!", "a\n\nb", "…"])
TEXTS = st.lists(WORDS, min_size=1, max_size=700).map(" ".join)


@st.composite
def documents(draw):
    found = BlockList()
    for page in range(draw(st.integers(1, 3))):
        found.page(page)
        for _ in range(draw(st.integers(0, 6))):
            kind = draw(st.sampled_from(["heading", "text", "text", "code", "row"]))
            text = draw(TEXTS) if kind != "heading" else draw(st.sampled_from(["A", "B c"]))
            found.add(text, kind, level=draw(st.integers(1, 3)) if kind == "heading" else 0)
    return found.blocks


def words(text):
    return text.split()


def test_a_long_heading_is_not_repeated_whole():
    blocks = [
        Block(text="h" * 100_000, start=0, kind="heading", level=1),
        Block(text="valve " * 100, start=100_001),
    ]
    found = list(passages(blocks))
    assert found and all(len(one.heading) <= 500 and one.heading[-1] == "…" for one in found)


def test_blocks_without_words_are_counted_once():
    seen = 0

    class Counted(str):
        def __len__(self):
            nonlocal seen
            seen += 1
            return super().__len__()

    blocks = [Block(text=Counted("-"), start=2 * at) for at in range(3_000)]
    assert [one.start for one in passages(blocks)] == [0]
    assert seen < 100_000  # not three thousand times each


def test_halves_of_characters_are_replaced_one_for_one():
    found = BlockList()
    found.add("a \ud800 b")
    assert [one.text for one in found.blocks] == ["a \ufffd b"]


@given(documents())
def test_passages_hold_all_text_once_in_order(blocks):
    found = [one for one in passages(blocks) if one.kind != "heading"]
    assert words(" ".join(one.text for one in found)) == words(
        " ".join(one.text for one in blocks if one.kind != "heading")
    )


@given(documents())
def test_every_heading_is_found(blocks):
    at = 0
    said = [
        one.heading.split(" > ") + ([one.text] if one.kind == "heading" else [])
        for one in passages(blocks)
    ]
    for block in blocks:
        if block.kind == "heading":  # in the order of the passages
            at = next(n for n in range(at, len(said)) if block.text in said[n])


def test_a_heading_above_nothing_is_a_passage():
    blocks = BlockList()
    for level, heading in (
        (1, "Pump"),
        (2, "Noises"),
        (2, "Leaks"),
        (1, "Prices"),
        (1, "x" * 9_000),
    ):
        blocks.add(heading, "heading", level=level)
        if heading == "Leaks":
            blocks.add("at the valve")
    found = [(one.kind, one.heading, one.text[:9], one.start) for one in passages(blocks.blocks)]
    assert found == [
        ("heading", "Pump", "Noises", 5),
        ("text", "Pump > Leaks", "at the va", 18),
        ("heading", "", "Prices", 31),
        ("heading", "", "x" * 9, 38),
    ]


@given(documents())
def test_passages_lie_on_one_page_and_are_not_long(blocks):
    for one in passages(blocks):
        pages = {block.page for block in blocks if block.start <= one.start and block.text}
        assert one.page in pages
        assert 0 <= one.start < one.stop
        assert count_words(one.text) <= MOST_WORDS + LEAST_WORDS


def test_positions_are_those_of_the_text():
    text = " ".join(f"Sentence number {n} is here." for n in range(100))
    found = list(passages([Block(text=text, start=7)]))
    assert len(found) > 3
    for one in found:
        assert text[one.start - 7 : one.stop - 7] == one.text
        assert one.text.endswith(".")


def test_headings_stand_above_and_are_not_crossed():
    blocks = BlockList()
    for level, heading in ((1, "Top"), (2, "In"), (2, "Next"), (1, "Other")):
        blocks.add(heading, "heading", level=level)
        blocks.add("few words")
    assert [one.heading for one in passages(blocks.blocks)] == [
        "Top",
        "Top > In",
        "Top > Next",
        "Other",
    ]


def test_a_short_rest_goes_with_the_passage_before_it():
    long = " ".join(["word"] * LEAST_WORDS) + "."
    blocks = BlockList()
    blocks.add(long)
    blocks.add("a rest")
    (one,) = passages(blocks.blocks)
    assert one.text == f"{long}\na rest"


def test_texts_without_blanks_or_words_are_cut():
    for text in ("-" * 100_000, "x" * 100_000, "日" * 50_000):
        found = list(passages([Block(text=text, start=0)]))
        assert "".join(one.text for one in found) == text
        assert max(len(one.text) for one in found) <= 3_000
