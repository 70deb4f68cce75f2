"""Long values and wide rows: all of their words are found, and where a bound remains it is told."""

import csv
import io
import json
import zipfile

import pytest
from sheet_files import sheet

from hartonomous.core import document
from hartonomous.formats.reader import BytesReader
from hartonomous.media import json_text, tabular
from hartonomous.media.reading import read


def read_bytes(content, path):
    return read(BytesReader(content), path)


def table(rows):
    made = io.StringIO()
    csv.writer(made).writerows(rows)
    return made.getvalue().encode()


LONG = "word " * 6_000 + "gasket"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", table([["name", "text"], ["one", LONG]])),
        ("a.json", json.dumps({"text": LONG}).encode()),
        ("a.jsonl", json.dumps({"text": LONG}).encode() + b"\n{}\n"),
        ("a.xlsx", sheet([["name", "text"], ["one", LONG]])),
    ],
)
def test_a_long_value_is_read_to_its_end(name, content):
    found = read_bytes(content, name)
    assert found.blocks[-1].text.endswith("word gasket")
    assert not found.notices


@pytest.mark.parametrize(("name", "made"), [("a.csv", table), ("a.xlsx", sheet)])
def test_a_wide_row_is_read_to_its_end(name, made):
    rows = [[f"c{one}" for one in range(2_000)], [*[""] * 1_999, "gasket"]]
    found = read_bytes(made(rows), name)
    assert found.blocks[-1].text == "c1999: gasket"
    assert not found.notices


def test_of_a_row_that_is_too_wide_the_beginning_is_read_and_that_is_told(monkeypatch):
    monkeypatch.setattr(tabular, "COLUMNS_LIMIT", 3)
    rows = [["a", "b", "c", "d"], ["1", "2", "3", "4", "5"], ["1", "2"]]
    for name, made in (("a.csv", table), ("a.xlsx", sheet)):
        found = read_bytes(made(rows), name)
        assert [one.text for one in found.blocks[-3:]] == [
            "a | b | c", "a: 1; b: 2; c: 3", "a: 1; b: 2",
        ]  # fmt: skip
        (notice,) = found.notices
        assert notice.text == "of 5 columns only the first 3 are searched"


def test_a_long_name_of_a_column_is_not_repeated_whole():
    found = read_bytes(table([["x" * 5_000], ["one"]]), "a.csv")
    assert len(found.blocks[0].text) == 5_000
    assert found.blocks[1].text == "x" * 200 + ": one"


def test_names_of_very_many_columns_are_not_repeated_for_all(monkeypatch):
    monkeypatch.setattr(tabular, "_NAMES_CHARS", 4)
    found = read_bytes(table([["aa", "bb", "cc"], ["1", "2", "3"], ["", "", "4"]]), "a.csv")
    assert [one.text for one in found.blocks[1:]] == ["aa: 1; bb: 2; 3", "cc: 4"]


def test_the_last_text_is_cut_where_all_of_it_has_no_room(monkeypatch):
    monkeypatch.setattr(document, "TEXT_LIMIT_CHARS", 10)
    found = read_bytes(b"first\n\nsecond\n\nthird\n", "a.txt")
    assert [one.text for one in found.blocks] == ["first", "secon"]
    assert [one.text for one in found.notices] == [
        "only the first 2 parts of its text are searched"
    ]


def test_empty_cells_in_between_leave_values_under_their_names():
    content = (
        '<x xmlns:t="urn:oasis:names:tc:opendocument:xmlns:text:1.0"'
        ' xmlns:b="urn:oasis:names:tc:opendocument:xmlns:table:1.0"'
        ' xmlns:o="urn:oasis:names:tc:opendocument:xmlns:office:1.0"><o:spreadsheet><b:table>'
        "<b:table-row><b:table-cell><t:p>first</t:p></b:table-cell>"
        '<b:table-cell b:number-columns-repeated="99"/>'
        "<b:table-cell><t:p>last</t:p></b:table-cell></b:table-row>"
        '<b:table-row><b:table-cell b:number-columns-repeated="98"/>'
        '<b:covered-table-cell b:number-columns-repeated="2"/>'
        "<b:table-cell><t:p>gasket</t:p></b:table-cell></b:table-row>"
        "</b:table></o:spreadsheet></x>"
    )
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as out:
        out.writestr("content.xml", content)
    found = read_bytes(made.getvalue(), "a.ods")
    assert [one.text for one in found.blocks] == ["first | last", "last: gasket"]


def test_bounds_of_json_are_told(monkeypatch):
    monkeypatch.setattr(json_text, "_VALUES", 3)
    found = read_bytes(b'[["a", "b", "c"], "d", ["e", "f", "g", "h"]]', "a.json")
    assert [one.text for one in found.blocks] == ["a\nb", "d", "e\nf"]
    assert [one.text for one in found.notices] == [
        "only the first 3 values of an element are searched"
    ]
    monkeypatch.undo()
    deep = b'{"a":' * 40 + b'"gasket"' + b"}" * 40
    (notice,) = read_bytes(deep, "a.json").notices
    assert notice.text == "only the first 32 levels of values within each other are searched"


def test_outputs_of_a_notebook_are_cut_and_that_is_told_errors_are_read():
    outputs = [
        {"output_type": "stream", "text": ["x" * 5_000]},
        {"output_type": "error", "ename": "ValueError", "evalue": "no gasket", "traceback": ["y"]},
    ]
    cell = {"cell_type": "code", "source": "run()", "outputs": outputs}
    found = read_bytes(json.dumps({"cells": [cell]}).encode(), "a.ipynb")
    assert [one.text for one in found.blocks] == ["run()", "x" * 4_000, "ValueError: no gasket"]
    assert [one.text for one in found.notices] == [
        "of 5,000 characters of an output only the first 4,000 are searched"
    ]


def test_rows_of_a_sheet_end_where_all_texts_do(monkeypatch):
    monkeypatch.setattr(document, "BLOCK_LIMIT", 5)
    found = read_bytes(sheet([["x"]] * 10), "a.xlsx")
    assert len(found.blocks) == 5
    assert [one.text for one in found.notices] == [
        "only the first 5 parts of its text are searched"
    ]
