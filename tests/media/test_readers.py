"""What the readers take out of documents that real programs wrote, checked by eye."""

from pathlib import Path

import pytest

from hartonomous.core import document
from hartonomous.core.document import Document
from hartonomous.formats.reader import BytesReader
from hartonomous.media import decoding
from hartonomous.media.endings import worth_a_look
from hartonomous.media.reading import READERS, RECIPE, read
from hartonomous.ports.entry import load

DOCUMENTS = Path(__file__).parents[1] / "fixtures" / "documents"

# (kind, level, page, start, text) of every block.
EXPECTED = {
    "report.docx": [
        ("heading", 1, 1, 0, "Leaks"),
        ("text", 0, 1, 6, "The main valve leaks at low pressure."),
        ("row", 0, 1, 44, "part | count"),
        ("row", 0, 1, 57, "gasket | 7"),
        ("heading", 1, 2, 0, "Repairs"),
        ("heading", 2, 2, 8, "In spring"),
        ("text", 0, 2, 18, "A new gasket was fitted."),
        ("heading", 1, 0, 0, "About this document"),
        ("text", 0, 0, 20, "author: Ada"),
    ],
    "plan.pptx": [
        ("heading", 1, 1, 0, "Plan"),
        ("text", 0, 1, 5, "Train the model"),
        ("text", 0, 1, 21, "Ship it"),
        ("text", 0, 1, 29, "mention the deadline"),
        ("heading", 1, 2, 0, "Figures"),
        ("row", 0, 2, 8, "loss | 0.31"),
    ],
    "stock.xlsx": [
        ("heading", 1, 1, 0, "Stock"),
        ("row", 0, 1, 6, "part | count"),
        ("row", 0, 1, 19, "part: gasket; count: 7; far"),
        ("heading", 1, 2, 0, "Empty"),
    ],
    "text.odt": [("heading", 1, 0, 0, "Chapter"), ("text", 0, 0, 8, "Some words in it.")],
    "sheet.ods": [
        ("heading", 1, 1, 0, "Sheet A"),
        ("row", 0, 1, 8, "name | size"),
        ("row", 0, 1, 20, "name: bolt; size: M8"),
    ],
    "slides.odp": [("heading", 1, 1, 0, "First"), ("text", 0, 1, 6, "On a slide.")],
    "paper.pdf": [
        ("heading", 1, 1, 0, "Introduction"),
        ("text", 0, 1, 0, "Valves are discussed on this page."),
        ("text", 0, 2, 0, "The second page speaks of gaskets."),
        ("heading", 1, 0, 0, "About this document"),
        ("text", 0, 0, 20, "author: Grace"),
    ],
    "book.epub": [
        ("heading", 1, 1, 0, "One"),
        ("text", 0, 1, 4, "It was a dark night."),
        ("heading", 1, 2, 0, "Two"),
        ("text", 0, 2, 4, "The sun rose."),
    ],
    "study.ipynb": [
        ("heading", 1, 1, 0, "Study"),
        ("text", 0, 1, 9, "Some *notes*."),
        ("code", 0, 2, 0, "loss = 0.31\nloss"),
        ("code", 0, 2, 17, "0.31"),
    ],
    "remarks.docx": [
        ("text", 0, 1, 0, "The pump is old."),
        ("heading", 1, 0, 0, "Comments"),
        ("text", 0, 0, 9, "Which pump is meant?"),
        ("heading", 1, 0, 30, "Headers and footers"),
        ("text", 0, 0, 50, "Confidential draft"),
        ("text", 0, 0, 69, "Workshop three"),
    ],
    "remarks.xlsx": [
        ("heading", 1, 1, 0, "Costs"),
        ("row", 0, 1, 6, "part | price"),
        ("row", 0, 1, 19, "part: gasket; price: 3"),
        ("text", 0, 1, 42, "B2: without tax"),
        ("heading", 1, 2, 0, "Empty"),
    ],
    "remarks.odt": [
        ("text", 0, 0, 0, "The pump is old."),
        ("text", 0, 0, 17, "Which pump is meant?"),
        ("text", 0, 0, 38, "Built in 1971."),
        ("heading", 1, 0, 53, "Headers and footers"),
        ("text", 0, 0, 73, "Confidential draft"),
        ("text", 0, 0, 92, "Workshop three"),
    ],
}
TOLD = {
    "report.docx": ("docx", "Report on valves", "page", {"author": "Ada"}),
    "plan.pptx": ("pptx", "Plan", "slide", {}),
    "stock.xlsx": ("xlsx", "", "sheet", {}),
    "text.odt": ("odf", "Chapter", "", {}),
    "sheet.ods": ("odf", "", "sheet", {}),
    "slides.odp": ("odf", "First", "slide", {}),
    "paper.pdf": ("pdf", "A paper", "page", {"author": "Grace"}),
    "book.epub": ("epub", "A book", "chapter", {"author": "Mary"}),
    "study.ipynb": ("notebook", "Study", "cell", {}),
    "remarks.docx": ("docx", "", "page", {}),
    "remarks.xlsx": ("xlsx", "", "sheet", {}),
    "remarks.odt": ("odf", "", "", {}),
}


def read_bytes(content: bytes, path: str) -> Document:
    return read(BytesReader(content), path)


def blocks(document: Document) -> list[tuple]:
    return [(one.kind, one.level, one.page, one.start, one.text) for one in document.blocks]


@pytest.mark.parametrize("name", EXPECTED)
def test_documents_by_real_writers(name):
    found = read_bytes((DOCUMENTS / name).read_bytes(), name)
    assert blocks(found) == EXPECTED[name]
    kind, title, pages, metadata = TOLD[name]
    assert (found.kind, found.title, found.pages) == (kind, title, pages)
    assert metadata.items() <= found.metadata.items()
    assert worth_a_look(name)


def test_a_page_without_text_is_told():
    (notice,) = read_bytes((DOCUMENTS / "paper.pdf").read_bytes(), "paper.pdf").notices
    assert notice.kind == "pages"
    assert "1 of 3 pages" in notice.text


def test_a_word_divided_at_the_end_of_a_line_of_a_pdf_is_whole():
    lines = ["Ask the other main-", "tainers, or else a Non-", "Maintainer does a well-known task."]
    shown = " ".join(f"({line}) Tj 0 -14 Td" for line in lines)
    stream = f"BT /F1 12 Tf 72 700 Td {shown} ET".encode()
    parts = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R"
        b" /Resources << /Font << /F1 5 0 R >> >> >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    content, places = b"%PDF-1.4\n", []
    for number, part in enumerate(parts, 1):
        places.append(len(content))
        content += b"%d 0 obj\n%s\nendobj\n" % (number, part)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    end = b"trailer << /Size 6 /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF" % len(content)
    content += b"xref\n0 6\n0000000000 65535 f \n" + table + end
    text = " ".join(" ".join(one.text for one in read_bytes(content, "a.pdf").blocks).split())
    assert text == "Ask the other maintainers, or else a Non-Maintainer does a well-known task."


def test_markdown():
    text = (
        "---\ntitle: A card\nlicense: mit\ntags: [a]\n---\n"
        "# Model\n\nIt was *trained*.\nFor long.\n\nSetext\n------\n\n"
        "```py\n# no heading\n\nx\n```\n- item\n"
    )
    found = read_bytes(text.encode(), "README.md")
    assert (found.kind, found.title) == ("markdown", "A card")
    assert found.metadata == {"title": "A card", "license": "mit", "tags": "[a]"}
    assert [(one.kind, one.level, one.text) for one in found.blocks] == [
        ("text", 0, "tags: [a]"),
        ("heading", 1, "Model"),
        ("text", 0, "It was *trained*.\nFor long."),
        ("heading", 2, "Setext"),
        ("code", 0, "# no heading\n\nx"),
        ("text", 0, "- item"),
    ]
    for one in found.blocks:
        if one.kind != "heading":
            assert text[one.start : one.start + len(one.text)] == one.text


def test_html():
    text = """<!doctype html><html><head><title> A page </title><style>p{}</style>
      <meta name="author" content="Ada"></head><body><nav>menu</nav><h2>Head<em>ing</em></h2>
      <p>One   two.<script>evil()</script></p><table><tr><td>a</td><td>b</td></tr></table>
      <pre>x  =  1
y</pre><p>unclosed <b>bold</p>end &amp; more</body>"""
    found = read_bytes(text.encode(), "page.html")
    assert (found.title, found.metadata) == ("A page", {"author": "Ada"})
    assert [(one.kind, one.level, one.text) for one in found.blocks] == [
        ("heading", 2, "Heading"),
        ("text", 0, "One two."),
        ("text", 0, "a | b"),
        ("code", 0, "x  =  1\ny"),
        ("text", 0, "unclosed bold"),
        ("text", 0, "end & more"),
        ("heading", 1, "About this document"),
        ("text", 0, "author: Ada"),
    ]


def test_words_that_stand_for_pictures_are_read():
    text = '<p>See <img src="a.png" alt="a  gasket">here</p><img alt="a pump"/><svg><img alt="no">'
    found = read_bytes(f"<html><body>{text}".encode(), "page.html")
    assert [one.text for one in found.blocks] == ["See a gasket here", "a pump"]


@pytest.mark.parametrize("unclosed", ["<a ", "<!-- x ", "<!x ", "<?x ", "</a ", '<a b="'])
def test_a_page_that_ends_in_tags_without_an_end_takes_no_hours(unclosed):
    """The library's parser would look for an end from each of them to the end of the page."""
    text = "<html><body><p>before</p>" + unclosed * 200_000
    found = read_bytes(text.encode(), "page.html")
    assert found.blocks[0].text == "before"
    assert found.blocks[1].text == (unclosed * 200_000).strip()


def test_hidden_elements_within_each_other_take_no_hours():
    text = "<html><body>" + "<svg>" * 300_000 + "</math>" * 300_000 + "</svg>" * 300_000 + "<p>x"
    assert [one.text for one in read_bytes(text.encode(), "page.html").blocks] == ["x"]


def test_of_a_page_with_too_many_parts_the_first_are_read_and_that_is_told(monkeypatch):
    monkeypatch.setattr(document, "BLOCK_LIMIT", 3)
    found = read_bytes(b"<html><body>" + b"<p>x" * 10, "page.html")
    assert len(found.blocks) == 3
    assert [one.text for one in found.notices] == [
        "only the first 3 parts of its text are searched"
    ]


@pytest.mark.parametrize(
    ("content", "text", "guessed"),
    [
        ("Käse".encode(), "Käse", False),
        ("Käse".encode("utf-16"), "Käse", False),
        (b"\xef\xbb\xbf" + "Käse".encode(), "Käse", False),
        (b"K\xe4se", "Käse", True),
    ],
)
def test_encodings_are_known_or_guessed_and_told(content, text, guessed):
    found = read_bytes(content, "a.txt")
    assert [one.text for one in found.blocks] == [text]
    assert [one.kind for one in found.notices] == (["encoding"] if guessed else [])


def test_html_in_the_encoding_that_it_declares():
    page = '<html><meta charset="iso-8859-2"><body><p>żółw</p></body></html>'
    found = read_bytes(page.encode("iso-8859-2"), "a.html")
    assert [one.text for one in found.blocks] == ["żółw"]
    assert found.notices == ()


def test_tables_and_json():
    found = read_bytes(b"name;size\nbolt;M8\n;;\nnut;M6;extra\n", "a.csv")
    assert [one.text for one in found.blocks] == [
        "name | size",
        "name: bolt; size: M8",
        "name: nut; size: M6; extra",
    ]
    found = read_bytes(b'[{"a": "x y", "b": {"c": ["p", 3, null, "q"]}}, "lone"]', "a.json")
    assert [one.text for one in found.blocks] == ["a: x y\nb.c: p\nb.c: q", "lone"]
    found = read_bytes(b'{"t": "one"}\n{"t": "two"}\n', "a.jsonl")
    assert [one.text for one in found.blocks] == ["t: one", "t: two"]


def test_code_and_text_keep_their_places():
    text = "def f():\n    return 1\n\n\nclass A:\n    pass\n"
    for name in ("a.py", "notes.txt"):
        found = read_bytes(text.encode(), name)
        assert [text[one.start : one.start + len(one.text)] for one in found.blocks] == [
            "def f():\n    return 1",
            "class A:\n    pass",
        ]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("m/config.json", b'{"architectures": ["BertModel"], "hidden_act": "gelu"}'),
        ("m/1_Pooling/config.json", b'{"pooling_mode_cls_token": true, "of": "words"}'),
        ("m/modules.json", b'[{"idx": 0, "type": "sentence_transformers.models.Transformer"}]'),
        ("m/special_tokens_map.json", b'{"cls_token": "[CLS]"}'),
    ],
)
def test_settings_of_models_say_nothing_to_people(name, content):
    found = read_bytes(content, name)
    assert (found.kind, found.blocks, found.notices) == ("file", (), ())


def test_settings_of_other_programs_are_text():
    found = read_bytes(b'{"greeting": "welcome aboard"}', "app/config.json")
    assert [one.text for one in found.blocks] == ["greeting: welcome aboard"]


@pytest.mark.parametrize(
    "name", ["model.safetensors", "a.bin", "tokenizer.json", "model.safetensors.index.json"]
)
def test_other_files_have_no_text(name):
    found = read_bytes(b"\0\1\2\3 not a text", name)
    assert (found.kind, found.blocks, found.notices) == ("file", (), ())


def test_the_recipe_names_that_of_each_reader():
    """A reader's recipe that is raised raises the whole one, so that files are read again."""
    assert "documents-" + ".".join(load(one).recipe for one in READERS) == RECIPE


@pytest.mark.parametrize(
    ("name", "content"),
    [("vocab.txt", b"[PAD]\n[unused0]\nthe\n##ing\n"), ("merges.txt", b"#version: 0.2\nt h\n")],
)
def test_vocabularies_of_tokenizers_are_no_text(name, content):
    assert read(BytesReader(content), name).kind == "file"
    words = b"gasket: a ring that keeps a joint tight\n"
    assert read(BytesReader(words), name).kind == "text"  # somebody's own list of words


def test_what_is_named_as_a_document_and_is_none_is_told():
    for name in ("note.md", "old.docx", "scan.pdf", "list.csv", "page.html"):
        (notice,) = read_bytes(b"\xd0\xcf\x11\xe0\0\0\0\0", name).notices
        assert "not what its name says" in notice.text
    for name in ("clip.ts", "data.json", "model.bin"):
        assert not read_bytes(b"\x47\x40\0\0\0", name).notices


@pytest.mark.parametrize(
    ("name", "line", "first"),
    [
        ("long.csv", "größe,7\n", "größe | 7"), ("long.txt", "größe\n\n", "größe"),
        ("long.md", "größe\n\n", "größe"), ("long.html", "<p>größe</p>\n", "größe"),
        ("long.py", "größe = 7\n\n", "größe = 7"),
        ("long.jsonl", '{"text": "größe"}\n', "text: größe"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("limit", [1_000, 1_001, 1_002])
def test_of_a_text_that_is_too_long_the_beginning_is_read(name, line, first, limit, monkeypatch):
    monkeypatch.setattr(decoding, "TEXT_LIMIT_CHARS", limit)  # in the middle of a letter, too
    content = line.encode() * 200
    found = read_bytes(content, name)
    (notice,) = found.notices
    assert notice.text == f"of its {len(content):,} bytes only the first {limit:,} are searched"
    assert 30 < len(found.blocks) < 150
    assert {one.text for one in found.blocks[:30]} <= {first, first.replace(" | ", ": ")} | {
        "größe: größe; 7: 7"
    }
    assert all("\ufffd" not in one.text and "Ã" not in one.text for one in found.blocks)
    with_mark = "\ufeff" + content.decode()
    (notice,) = read_bytes(with_mark.encode("utf-16-le"), name).notices
    assert "only the first" in notice.text


def test_what_is_worth_nothing_in_part_is_read_whole_or_not(monkeypatch):
    monkeypatch.setattr(decoding, "TEXT_LIMIT_CHARS", 50)
    value = b'{"cells": [], "a": "' + b"b" * 100 + b'"}'
    for name in ("study.ipynb", "long.json"):
        (notice,) = read_bytes(value, name).notices
        assert notice.text.startswith("not read as ")


def test_a_number_of_many_digits_costs_the_texts_beside_it_nothing():
    found = read_bytes(b'{"a": "gasket", "n": ' + b"9" * 1_000_000 + b"}", "one.json")
    assert [one.text for one in found.blocks] == ["a: gasket"]


def test_signs_of_permalinks_are_no_part_of_a_heading():
    text = """<title>The
      pump</title><h1>The pump<a class="headerlink" href="#p">¶</a></h1>
      <h2><a href="#s">§</a>Strange noises</h2><h3>See <a href="#b">bearings</a></h3>
      <h3>Price in € <a href="list.html">§</a></h3><p>Text<a href="#x">¶</a></p>"""
    found = read_bytes(text.encode(), "page.html")
    assert found.title == "The pump"
    assert [one.text for one in found.blocks] == [
        "The pump", "Strange noises", "See bearings", "Price in € §", "Text¶",
    ]  # fmt: skip
