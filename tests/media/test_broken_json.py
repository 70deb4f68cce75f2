"""JSON that is damaged in places: what is whole is read, and what is not is told."""

import json

from hartonomous.formats.reader import BytesReader
from hartonomous.media.reading import read


def read_bytes(content, path):
    return read(BytesReader(content), path)


def texts(document):
    return [one.text for one in document.blocks]


def test_a_line_that_is_cut_costs_only_itself():
    found = read_bytes(b'{"t": "one"}\n\n{"t": "two"}\n{"t": "thr', "log.jsonl")
    assert texts(found) == ["t: one", "t: two"]
    (notice,) = found.notices
    assert notice.text == "1 of 3 lines are no JSON and are not searched: line 4"


def test_the_first_line_may_be_the_bad_one():
    found = read_bytes(b'"one"}\n{"t": "two"}\n{"t": "three"}\n', "log.jsonl")
    assert texts(found) == ["t: two", "t: three"]
    assert "line 1" in found.notices[0].text


def test_of_many_bad_lines_the_first_are_named():
    lines = [b'{"t": "one"}' if one % 2 else b"[" * 2_000 for one in range(1, 41)]
    found = read_bytes(b"\n".join(lines), "log.ndjson")
    assert texts(found) == ["t: one"] * 20
    (notice,) = found.notices
    assert notice.text == ("20 of 40 lines are no JSON and are not searched: line 2, 4, 6, 8, 10 …")


def test_a_first_line_that_is_long_is_a_line_too():
    lines = [json.dumps({"t": "word " * 20_000}).encode(), b'{"t": "two"}', b"{"]
    assert texts(read_bytes(b"\n".join(lines), "log.jsonl"))[1:] == ["t: two"]


def test_a_value_over_several_lines_is_one():
    content = b'[\n{"t": "one"}\n,\n{"t": "two"}\n,\n{"t": "three"}\n,\n{"t": "four"}\n]'
    found = read_bytes(content, "a.json")
    assert texts(found) == ["t: one", "t: two", "t: three", "t: four"]
    assert not found.notices


def test_json_that_is_broken_is_read_as_plain_text():
    for content in (b'{\n  "t": "gasket",\n  // note\n}\n', b'[\n  {"t": "gasket"},\n'):
        found = read_bytes(content, "a.json")
        assert (found.kind, texts(found)) == ("text", [content.decode().strip()])
        (notice,) = found.notices
        assert notice.kind == "structure"
        assert notice.text.startswith("read as plain text, it is no JSON: ")


def test_a_notebook_that_is_broken_is_read_as_plain_text():
    content = b'{"cells": [{"source": "gasket"}, {"image/png": "' + b"iVBOR" * 2_000 + b'"'
    found = read_bytes(content, "a.ipynb")
    assert found.kind == "text"
    (block,) = found.blocks
    assert "gasket" in block.text
    assert "iVBOR" not in block.text
    assert "read as plain text" in found.notices[0].text


def test_what_is_too_deep_is_not_read():
    for name in ("a.json", "a.ipynb"):
        assert not read_bytes(b"[" * 200_000, name).blocks
