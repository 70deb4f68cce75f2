"""Model cards: the part of YAML that they use, the title, the first paragraph."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hartonomous.core.description import Description
from hartonomous.errors import StructureError
from hartonomous.formats.model_card import MODEL_CARD, read_front_matter
from hartonomous.ports.format import Format

SENTENCE_CARD = """---
language: en
license: apache-2.0
library_name: sentence-transformers
tags:
- sentence-transformers
- feature-extraction
datasets:
- s2orc
- flax-sentence-embeddings/stackexchange_xml
pipeline_tag: sentence-similarity
---


# all-MiniLM-L6-v2
This is a [sentence-transformers](https://www.SBERT.net) model: It maps sentences.

## Usage
More.
"""

FINE_TUNE_CARD = """\ufeff---
# generated
license: "other"   # see below
license_name: 'mistral''s own'
base_model:
  - org/base-7B   # the first
  - "org/other: \\u00fc"
language: [en, 'no', "de",]
tags: []
library_name: ~
model-index:
- name: tuned
  results:
  - task:
      type: text-generation
extra_gated_prompt: >-
  You agree
  to nothing.
datasets: &all
- x
widget:
  text: hello
---
<!-- Provide a quick
summary, # not a title -->
<h1 align="center">Picture</h1>

![logo](logo.png)
[![badge](b.svg)](b)

```python
# no title either
```

Tuned Model
===========

- a list
> a quote

| a | table |

First line
of the **summary**.

Not this.
"""


class Bytes:
    """A range reader over bytes."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.size = len(content)

    def read(self, offset: int, length: int) -> bytes:
        assert offset >= 0 and 0 <= length <= 16 * 1024 * 1024
        if offset + length > self.size:
            raise StructureError("outside the file")
        return self.content[offset : offset + length]


def parse(content: str | bytes) -> Description:
    found = MODEL_CARD.parse(Bytes(content.encode() if isinstance(content, str) else content))
    assert (found.format, found.tensors) == ("model-card", ())
    assert msgspec.json.decode(msgspec.json.encode(found), type=Description) == found
    return found


def test_matches_by_name() -> None:
    form: Format = MODEL_CARD
    assert form.name == "model-card"
    assert form.matches("org/name/README.md", b"")
    assert not form.matches("README.md/other", b"---")
    assert not form.matches("notREADME.md", b"---")


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_a_sentence_model_card(line_end: str) -> None:
    found = parse(SENTENCE_CARD.replace("\n", line_end))
    assert found.metadata == {
        "license": "apache-2.0",
        "library_name": "sentence-transformers",
        "pipeline_tag": "sentence-similarity",
        "language": ["en"],
        "tags": ["sentence-transformers", "feature-extraction"],
        "datasets": ["s2orc", "flax-sentence-embeddings/stackexchange_xml"],
        "title": "all-MiniLM-L6-v2",
        "summary": "This is a [sentence-transformers](https://www.SBERT.net) model: "
        "It maps sentences.",
    }
    assert found.notices == ()


def test_a_fine_tune_card() -> None:
    found = parse(FINE_TUNE_CARD)
    assert found.metadata == {
        "license": "other",
        "license_name": "mistral's own",
        "base_model": ["org/base-7B", "org/other: ü"],
        "language": ["en", "no", "de"],
        "title": "Tuned Model",
        "summary": "First line of the **summary**.",
    }
    # model-index and extra_gated_prompt are not plain either, but nobody asks for them.
    (notice,) = found.notices
    assert notice.kind == "front-matter"
    assert "datasets" in notice.text
    assert "model-index" not in notice.text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("k: plain text", "plain text"),
        ("k: a#b # c", "a#b"),
        ("k: # c", None),
        ("k:", None),
        ("k: null", None),
        ("k: no", "no"),
        ("k: 1.10", "1.10"),
        ("k: 'a # b' # c", "a # b"),
        ('k: "a\\tb\\"c"', 'a\tb"c'),
        ("k: https://example.org/x", "https://example.org/x"),
        ("k: [a, 'b, c', \"d\"]  # e", ["a", "b, c", "d"]),
        ("k: [' # ', \"]\", x y , ] # c", [" # ", "]", "x y"]),
        ("k: [ ]", []),
        ("k:\n- a\n\n# c\n- 'b'\n-", ["a", "b", None]),
        ("k:\n  a: 1\n  b: 'x'", {"a": "1", "b": "x"}),
    ],
)
def test_yaml_that_is_read(text: str, value: object) -> None:
    assert read_front_matter(text.split("\n")) == ({"k": value}, [])


@pytest.mark.parametrize(
    "text",
    [
        "k: |\n  block",
        "k: >-\n  folded",
        "k: first\n  second",
        "k: &anchor x",
        "k: *alias",
        "k: !!python/object/apply:os.system [ls]",
        "k: {a: b}",
        "k: [a, [b]]",
        "k: [a,\n  b]",
        "k: [a,, b]",
        "k: [a] b",
        "k: [a # b]",
        "k: [a]# b",
        "k: a: b",
        "k: 'open",
        'k: "\\x41"',
        "k:\n- a: b",
        "k:\n    - a\n    - b: \n",
        "k:\n- - a",
        "k:\n  a:\n    b: c",
        "k:\n- a\n  b: c",
        "k: @x",
    ],
)
def test_yaml_that_is_skipped(text: str) -> None:
    values, skipped = read_front_matter([*text.split("\n"), "after: kept"])
    assert (values, skipped) == ({"after": "kept"}, ["k"])


def test_lines_that_are_no_entries_end_an_entry() -> None:
    values, skipped = read_front_matter(["a: 1", "no entry", "  b: 2", "c: 3", "a: 4"])
    assert (values, skipped) == ({"a": "1", "c": "3"}, ["a"])


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("", {}),
        ("only text", {"summary": "only text"}),
        ("# Title #\n\ntext", {"title": "Title", "summary": "text"}),
        ("text\n\n## Later", {"title": "Later", "summary": "text"}),
        ("#hashtag\n\n#\n", {"summary": "#hashtag"}),
        ("    code\n\ttoo\n", {}),
        ("---\nnot: closed\n", {}),
        ("\n\n---\nlicense: mit\n---", {"license": "mit"}),
        ("x" * 600, {"summary": "x" * 500}),
        ("~~~\n# code\n", {}),
        ("<!-- open\n# T", {}),
    ],
)
def test_title_and_summary(body: str, found: dict[str, str]) -> None:
    assert parse(body).metadata == found


def test_front_matter_without_an_end_is_said() -> None:
    for text in ("---\nlicense: mit\n", "---\n" + "tag: x\n" * 10_000 + "---\n# T\n"):
        found = parse(text)
        assert found.metadata == {}
        assert [notice.kind for notice in found.notices] == ["front-matter"]


def test_bytes_that_are_no_text() -> None:
    with pytest.raises(StructureError, match="NUL"):
        parse(b"# a\0b")
    assert parse(b"# caf\xe9").metadata == {"title": "caf\\xe9"}


def test_only_the_beginning_is_read() -> None:
    found = parse("# T\n\n" + "é" * 200_000)
    assert found.metadata == {"title": "T", "summary": "é" * 500}


@pytest.mark.parametrize(
    "text",
    [
        "---\ntags: [" + " " * 60_000 + "x[]]\n---\n",
        "---\ntags: [" + "a," * 30_000 + "]\n---\n",
        "---\ntags: '" + "''" * 30_000 + "\n---\n",
        '---\ntags: "' + "\\a" * 30_000 + "\n---\n",
        "---\ntags: a" + " \t" * 30_000 + "b\n---\n",
        "a\n" * 120_000,
        "---\n" * 60_000,
        "```\n<!--\n" * 25_000,
    ],
    ids=["spaces", "items", "quotes", "escapes", "blanks", "lines", "rules", "fences"],
)
def test_long_cards_of_one_thing(text: str) -> None:
    found = parse(text)
    assert found.tensors == ()
    assert len(msgspec.json.encode(found)) < 2 * len(text) + 1000


@given(st.binary(max_size=200) | st.text(alphabet="-k:[]'\"# \n&a\\", max_size=60).map(str.encode))
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    for text in (content, b"---\n" + content + b"\n---\n# T\n" + content):
        try:
            parse(text)
        except StructureError:
            assert b"\0" in text


@given(st.dictionaries(st.sampled_from(["license", "tags", "x"]), st.lists(st.text(min_size=1))))
def test_json_strings_are_yaml(values: dict[str, list[str]]) -> None:
    lines = [f"{key}: [{', '.join(map(json.dumps, texts))}]" for key, texts in values.items()]
    assert read_front_matter(lines) == (values, [])
