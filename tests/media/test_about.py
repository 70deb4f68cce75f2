"""What documents say of themselves is found by words, behind the text or at its place in it."""

import io
import zipfile
from pathlib import Path

import pytest

import hartonomous as hn
from hartonomous.formats.reader import BytesReader
from hartonomous.media.reading import read

DOCUMENTS = Path(__file__).parents[1] / "fixtures" / "documents"
CORE = (
    '<cp:coreProperties xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:cp="http://schemas.'
    'openxmlformats.org/package/2006/metadata/core-properties"><dc:creator>Ada</dc:creator>'
    "<dc:description>of pumps</dc:description><cp:keywords>leak, valve</cp:keywords>"
    "</cp:coreProperties>"
)
META = (
    '<x xmlns:m="urn:oasis:names:tc:opendocument:xmlns:meta:1.0"'
    ' xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:creator>Ada</dc:creator>'
    "<dc:description>of pumps</dc:description><m:keyword>leak</m:keyword>"
    "<m:keyword>valve</m:keyword></x>"
)


def told_by(name, member, content):
    made = io.BytesIO()
    with zipfile.ZipFile(DOCUMENTS / name) as given, zipfile.ZipFile(made, "w") as out:
        for one in given.namelist():
            out.writestr(one, content if one == member else given.read(one))
    return read(BytesReader(made.getvalue()), name)


@pytest.mark.parametrize("name", ["report.docx", "plan.pptx", "stock.xlsx", "text.odt"])
def test_properties_stand_behind_the_text(name):
    odf = name.endswith("odt")
    found = told_by(name, "meta.xml" if odf else "docProps/core.xml", META if odf else CORE)
    assert [(one.kind, one.page, one.text) for one in found.blocks[-2:]] == [
        ("heading", 0, "About this document"),
        ("text", 0, "author: Ada\nkeywords: leak, valve\ndescription: of pumps"),
    ]
    assert found.title != "About this document"


def test_what_a_page_says_of_itself_stands_behind_its_text():
    page = b'<meta name="description" content="of pumps"><p>text</p>'
    found = read(BytesReader(page), "a.html")
    assert [one.text for one in found.blocks] == [
        "text", "About this document", "description: of pumps",
    ]  # fmt: skip


def test_front_matter_is_text_at_its_place():
    text = (
        "---\nlayout: post\ntags:\n- gasket\n- seal\nlicense: mit\nauthor: Ada\n"
        "description: >\n  of pumps\n  and more\n---\nauthor: none\n"
    )
    found = read(BytesReader(text.encode()), "a.md")
    assert [one.text for one in found.blocks] == [
        "tags:\n- gasket\n- seal", "author: Ada", "description: >\n  of pumps\n  and more",
        "author: none",
    ]  # fmt: skip
    for one in found.blocks:
        assert text[one.start : one.start + len(one.text)] == one.text


def test_an_author_is_found(tmp_path):
    with hn.init(tmp_path / "store") as store:
        store.add(DOCUMENTS / "report.docx")
        assert [one.name for one in store.search("Ada").hits] == ["report.docx"]
