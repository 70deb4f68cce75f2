"""Patterns of LIKE: a text stands for itself, a shell pattern for what a shell would take."""

import fnmatch

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import create_engine, literal, select

from hartonomous.catalog.patterns import as_it_is, fits, holding, of_shell

TEXTS = st.text(alphabet="ab%_\\*?[]é", max_size=6)


@pytest.fixture(scope="module")
def database():
    with create_engine("sqlite://").connect() as tx:
        yield tx


def taken(tx, text, pattern):
    rows = select(literal(text).label("text")).subquery()
    return bool(tx.execute(select(rows).where(fits(tx, rows.c.text, pattern))).all())


@given(text=TEXTS, other=TEXTS)
def test_a_text_is_taken_as_it_is(database, text, other):
    assert taken(database, text, as_it_is(text))
    assert taken(database, other, as_it_is(text)) == (text == other)
    assert taken(database, other, holding(text)) == (text in other)


@given(text=TEXTS, pattern=st.text(alphabet="ab%_\\*?é", max_size=6))
def test_a_shell_pattern_takes_what_a_shell_would(database, text, pattern):
    assert taken(database, text, of_shell(pattern)) == fnmatch.fnmatchcase(text, pattern)


def test_a_set_in_brackets_is_any_letter(database):
    assert of_shell("layer.[0-3].w_q") == "layer._.w\\_q"
    assert taken(database, "layer.2.w_q", of_shell("layer.[0-3].w_q"))
    assert not taken(database, "layer.12.w_q", of_shell("layer.[0-3].w_q"))


@given(text=TEXTS, pattern=st.text(alphabet="ab!%*?[]", max_size=8))
def test_what_a_shell_would_take_is_never_left_out(database, text, pattern):
    if fnmatch.fnmatchcase(text, pattern):
        assert taken(database, text, of_shell(pattern))


@pytest.mark.parametrize("pattern", ["a]b[c", "[", "[]", "a[b", "[!]", "]["])
def test_a_bracket_that_nothing_ends_stands_for_itself(database, pattern):
    assert taken(database, pattern, of_shell(pattern))
    assert not taken(database, "a", of_shell(pattern))
