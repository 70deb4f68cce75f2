"""What stands beside the text of documents, put in by hand where no library at hand writes it.

Notes of DOCX, comments on slides, conversations on cells, deletions of OpenDocument; and such parts
damaged, which must not cost the text.
"""

import io
import zipfile
from pathlib import Path

import pytest

from hartonomous.formats.reader import BytesReader
from hartonomous.media.reading import read

DOCUMENTS = Path(__file__).parents[1] / "fixtures" / "documents"
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
MICROSOFT = "http://schemas.microsoft.com/office"
END = b"</Relationships>"


def document(name, members, replaced=()):
    """Return what is read of a fixture with members added, and members changed in places.

    ``replaced`` holds (member, bytes that it has, bytes instead of these).
    """
    made = io.BytesIO()
    with zipfile.ZipFile(DOCUMENTS / name) as given, zipfile.ZipFile(made, "w") as out:
        contents = {one: given.read(one) for one in given.namelist()}
        for member, old, new in replaced:
            assert old in contents[member]
            contents[member] = contents[member].replace(old, new)
        for one, content in {**contents, **members}.items():
            out.writestr(one, content)
    return read(BytesReader(made.getvalue()), name)


def texts(name, members, replaced=()):
    """Return the texts of such a document, of which nothing is to be told."""
    found = document(name, members, replaced)
    assert not found.notices
    return [one.text for one in found.blocks]


def related(rels, kind, target):
    """Return the change of a member with relations by which one more is there."""
    one = f'<Relationship Id="more" Type="{kind}" Target="{target}"/>'.encode()
    return rels, END, one + END


def test_notes_of_a_text():
    w = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
    notes = (
        f'<w:footnotes xmlns:w="{w}"><w:footnote w:type="separator" w:id="-1"><w:p><w:r>'
        '<w:separator/></w:r></w:p></w:footnote><w:footnote w:id="1"><w:p><w:r><w:footnoteRef/>'
        "</w:r><w:r><w:t>Built in 1971.</w:t></w:r></w:p></w:footnote></w:footnotes>"
    )
    rels = related("word/_rels/document.xml.rels", f"{OFFICE}/footnotes", "footnotes.xml")
    found = texts("report.docx", {"word/footnotes.xml": notes}, [rels])
    assert found[6:9] == ["A new gasket was fitted.", "Notes", "Built in 1971."]


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        (f"{OFFICE}/comments",
         '<p:cmLst xmlns:p="http://schemas.openxmlformats.org/presentationml/2006/main">'
         '<p:cm authorId="0" idx="1"><p:pos x="1" y="1"/><p:text>too optimistic</p:text></p:cm>'
         "</p:cmLst>"),
        (f"{MICROSOFT}/2018/10/relationships/comments",
         f'<p188:cmLst xmlns:p188="{MICROSOFT}/powerpoint/2018/8/main"'
         ' xmlns:a="http://schemas.openxmlformats.org/drawingml/2006/main"><p188:cm id="{0}">'
         "<p188:txBody><a:bodyPr/><a:p><a:r><a:t>too optimistic</a:t></a:r></a:p></p188:txBody>"
         "</p188:cm></p188:cmLst>"),
    ],
)  # fmt: skip
def test_comments_on_a_slide(kind, content):
    rels = related("ppt/slides/_rels/slide1.xml.rels", kind, "../comments/one.xml")
    found = texts("plan.pptx", {"ppt/comments/one.xml": content}, [rels])
    assert found[3:6] == ["mention the deadline", "too optimistic", "Figures"]


@pytest.mark.parametrize("damaged", [False, True])
def test_charts_of_a_slide(damaged):
    c = "http://schemas.openxmlformats.org/drawingml/2006/chart"
    a = "http://schemas.openxmlformats.org/drawingml/2006/main"

    def points(*texts):
        made = (f'<c:pt idx="{at}"><c:v>{one}</c:v></c:pt>' for at, one in enumerate(texts))
        return "".join(made)

    chart = (
        f'<c:chartSpace xmlns:c="{c}" xmlns:a="{a}"><c:chart><c:title><c:tx><c:rich><a:p><a:r>'
        "<a:t>Sales of gaskets</a:t></a:r></a:p></c:rich></c:tx></c:title><c:plotArea><c:barChart>"
        f"<c:ser><c:tx><c:strRef><c:strCache>{points('2024')}</c:strCache></c:strRef></c:tx>"
        f"<c:cat><c:strRef><c:strCache>{points('North', 'South')}</c:strCache></c:strRef></c:cat>"
        f"<c:val><c:numRef><c:numCache>{points('4.3', '2.5')}</c:numCache></c:numRef></c:val>"
        "</c:ser></c:barChart></c:plotArea></c:chart></c:chartSpace>"
    )
    rels = related("ppt/slides/_rels/slide1.xml.rels", f"{OFFICE}/chart", "../charts/chart1.xml")
    chart = chart[:-9] if damaged else chart
    read_one = document("plan.pptx", {"ppt/charts/chart1.xml": chart}, [rels])
    assert ["chart1.xml" in one.text for one in read_one.notices] == [True] * damaged
    found = [one.text for one in read_one.blocks]
    said = [] if damaged else ["Sales of gaskets", "2024: North 4.3; South 2.5"]
    assert found[3 : 5 + len(said)] == ["mention the deadline", *said, "Figures"]


def test_a_conversation_on_a_cell_is_read_once():
    said = (
        f'<ThreadedComments xmlns="{MICROSOFT}/spreadsheetml/2018/threadedcomments">'
        '<threadedComment ref="B2" id="{1}"><text>without tax?</text></threadedComment>'
        '<threadedComment ref="B2" id="{2}" parentId="{1}"><text>with</text></threadedComment>'
        "</ThreadedComments>"
    )
    kind = f"{MICROSOFT}/2017/10/relationships/threadedComment"
    rels = related("xl/worksheets/_rels/sheet1.xml.rels", kind, "/xl/threadedComments/one.xml")
    found = texts("remarks.xlsx", {"xl/threadedComments/one.xml": said}, [rels])
    assert found[3:] == ["B2: without tax?", "B2: with", "Empty"]


def test_the_table_of_contents_is_no_chapter_of_a_book():
    changes = [
        ("OPS/book.opf", b"<manifest>", b'<manifest><item id="n" href="nav.xhtml" properties="nav"'
         b' media-type="application/xhtml+xml"/>'),
        ("OPS/book.opf", b"<spine>", b'<spine><itemref idref="n"/>'),
    ]  # fmt: skip
    nav = "<!DOCTYPE html><html><body><h1>Contents</h1><p>One, two</p></body></html>"
    assert texts("book.epub", {"OPS/nav.xhtml": nav}, changes) == [
        "One", "It was a dark night.", "Two", "The sun rose.",
    ]  # fmt: skip


def test_what_was_deleted_is_no_text():
    gone = (
        b"<office:text><text:tracked-changes><text:changed-region><text:deletion>"
        b"<text:p>The old price.</text:p></text:deletion></text:changed-region>"
        b"</text:tracked-changes>"
    )
    found = texts("text.odt", {}, [("content.xml", b"<office:text>", gone)])
    assert found == ["Chapter", "Some words in it."]


@pytest.mark.parametrize(
    ("name", "member", "left", "lost"),
    [
        ("remarks.docx", "word/comments.xml", "The pump is old.", "its comments"),
        ("remarks.docx", "docProps/core.xml", "The pump is old.", "its properties"),
        ("plan.pptx", "ppt/notesSlides/notesSlide1.xml", "Plan", "what is said of slide 1"),
        ("remarks.xlsx", "xl/comments/comment1.xml", "Costs", "comments on sheet 1"),
        ("remarks.odt", "styles.xml", "The pump is old.", "its headers and footers"),
        ("remarks.odt", "meta.xml", "The pump is old.", "its properties"),
    ],
)
@pytest.mark.parametrize("content", [b"<a>", b"<!DOCTYPE a><a/>", b""])
def test_such_a_part_that_is_damaged_costs_only_itself(name, member, left, lost, content):
    found = document(name, {member: content})
    assert found.blocks[0].text == left
    (notice,) = found.notices
    assert (notice.kind, lost in notice.text) == ("structure", True)
