"""One damaged part of a document costs itself, and is told; the rest is read."""

import io
import zipfile
import zlib
from pathlib import Path

import pytest

from hartonomous.core.picture import address
from hartonomous.formats.reader import BytesReader
from hartonomous.media import archive as archives
from hartonomous.media.damage import Damage
from hartonomous.media.picture_reading import ENTRIES, PDF_ENTRY, content, look
from hartonomous.media.reading import read
from hartonomous.ports.entry import load

DOCUMENTS = Path(__file__).parents[1] / "fixtures" / "documents"
BROKEN = b"<a>"
PICTURE = (
    b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x20\x00\x00\x00\x20\x08\x00\x00\x00\x00"
    + zlib.crc32(b"IHDR\x00\x00\x00\x20\x00\x00\x00\x20\x08\x00\x00\x00\x00").to_bytes(4)
)


def chunk(kind, held):
    return len(held).to_bytes(4) + kind + held + zlib.crc32(kind + held).to_bytes(4)


def png(*between):
    """Return a picture of 32 x 32 pixels, with chunks in front of its pixels."""
    rows = b"".join(b"\0" + bytes((row * 8 + at) % 256 for at in range(32)) for row in range(32))
    return PICTURE + b"".join(between) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def changed(name, members):
    """Return a fixture with other contents of some members."""
    made = io.BytesIO()
    with zipfile.ZipFile(DOCUMENTS / name) as given, zipfile.ZipFile(made, "w") as out:
        contents = {one: given.read(one) for one in given.namelist()}
        for one, held in {**contents, **members}.items():
            out.writestr(one, held)
    return made.getvalue()


def without_pages(*lost):
    """Return a PDF of three pages, with numbers instead of some."""
    held = (DOCUMENTS / "paper.pdf").read_bytes()
    pages = b"/Kids [ 3 0 R 4 0 R 5 0 R ]"
    assert pages in held
    left = pages
    for page in lost:
        left = left.replace(b"%d 0 R" % (page + 2), b"99999")
    return held.replace(pages, left)


def document(held, name):
    return read(BytesReader(held), name)


def texts(found):
    return [one.text for one in found.blocks]


@pytest.mark.parametrize(
    ("name", "member", "told", "left"),
    [
        ("stock.xlsx", "xl/worksheets/sheet1.xml", "sheet 1 ('Stock')", ["Stock", "Empty"]),
        ("plan.pptx", "ppt/slides/slide1.xml", "slide 1",
         ["mention the deadline", "Figures", "loss | 0.31"]),
        ("plan.pptx", "ppt/slides/_rels/slide1.xml.rels", "what is said of slide 1",
         ["Plan", "Train the model", "Ship it", "Figures", "loss | 0.31"]),
        ("text.odt", "meta.xml", "its properties", ["Chapter", "Some words in it."]),
        ("remarks.docx", "word/_rels/document.xml.rels", "its notes, comments and headers",
         ["The pump is old."]),
    ],
)  # fmt: skip
def test_what_can_be_read_is_read(name, member, told, left):
    found = document(changed(name, {member: BROKEN}), name)
    assert texts(found) == left
    (notice,) = found.notices
    assert notice.kind == "structure"
    assert notice.text.startswith(f"not read: {told}: its member '{member}' is no XML")


def test_a_text_without_its_styles_has_no_headings():
    found = document(changed("report.docx", {"word/styles.xml": BROKEN}), "report.docx")
    assert texts(found)[0] == "Leaks"
    headings = [one.text for one in found.blocks if one.kind == "heading"]
    assert headings == ["About this document"]  # ours, not the document's
    assert found.notices[0].text.startswith("not read: its styles, which tell headings from text:")


def test_sheets_without_shared_texts_keep_numbers_and_texts_of_their_own():
    with zipfile.ZipFile(DOCUMENTS / "stock.xlsx") as given:
        sheet = given.read("xl/worksheets/sheet1.xml")
    more = (
        b'<row><c t="inlineStr"><is><t>bolt</t></is></c><c><v>9</v></c>'
        b'<c t="s"><v>0</v></c></row></sheetData>'
    )
    members = {
        "xl/sharedStrings.xml": BROKEN,
        "xl/worksheets/sheet1.xml": sheet.replace(b"</sheetData>", more),
    }
    found = document(changed("stock.xlsx", members), "stock.xlsx")
    assert texts(found) == [
        "Stock", "part | count", "part: gasket; count: 7; far", "part: bolt; count: 9", "Empty",
    ]  # fmt: skip
    assert found.notices[0].text.startswith("not read: the texts that its cells share:")


def test_a_chapter_that_is_no_text():
    with zipfile.ZipFile(DOCUMENTS / "book.epub") as given:
        first, second = (one for one in given.namelist() if one.endswith("html"))
    held = changed("book.epub", {second: b"\xff\xfe\x00\xd8"})
    found = document(held, "book.epub")
    assert texts(found) == ["One", "It was a dark night."]
    (notice,) = found.notices
    assert notice.text.startswith("not read: chapter 2: its mark says utf-16-le")
    (notice,) = look(BytesReader(held), "book.epub", formats=ENTRIES).notices
    assert "shown in chapter 2" in notice.text
    cut = "<p>The sun</p>".encode("utf-16") + b"x"
    found = document(changed("book.epub", {second: cut}), "book.epub")
    assert texts(found)[-1] == "The sun"
    assert [one.text for one in found.notices] == [
        "chapter 2: no whole utf-16-le at byte 30: the end is left out"
    ]
    found = document(
        changed("book.epub", {first: b"\xff\xfe\x00", second: b"\xff\xfe\x00"}), "b.epub"
    )
    assert (found.kind, found.blocks) == ("file", ())


def test_a_page_that_is_none():
    pytest.importorskip("pypdfium2")
    found = document(without_pages(2), "paper.pdf")
    assert texts(found)[:2] == ["Introduction", "Valves are discussed on this page."]
    assert found.notices[0].text == "not read: page 2: pdfium: Failed to load page."
    views = look(BytesReader(without_pages(2)), "paper.pdf", formats=[*ENTRIES, PDF_ENTRY])
    assert views.kind == "pdf"
    assert views.notices[0].text.startswith("not read: pictures on page 2: pdfium")
    (notice,) = content(
        BytesReader(without_pages(2)), address("paper.pdf", "2/1"), formats=()
    ).notices
    assert notice.text.startswith("pdfium: ")


def test_without_any_page_it_is_refused():
    pytest.importorskip("pypdfium2")
    (notice,) = document(without_pages(1, 2, 3), "paper.pdf").notices
    assert notice.text.startswith("not read as pdf: pdfium")
    slides = {f"ppt/slides/slide{number}.xml": BROKEN for number in (1, 2)}
    sheets = {f"xl/worksheets/sheet{number}.xml": BROKEN for number in (1, 2)}
    for name, members in (("plan.pptx", slides), ("stock.xlsx", sheets)):
        found = document(changed(name, members), name)
        (notice,) = found.notices
        assert (found.kind, found.blocks) == ("file", ())
        assert notice.text.startswith(f"not read as {name[-4:]}: its member")


def test_a_limit_ends_the_document(monkeypatch):
    with zipfile.ZipFile(DOCUMENTS / "stock.xlsx") as given:
        most = max(one.file_size for one in given.infolist())
    monkeypatch.setattr(archives, "MEMBER_LIMIT_BYTES", most)
    large = changed("stock.xlsx", {"xl/worksheets/sheet2.xml": b" " * (most + 1)})
    found = document(large, "stock.xlsx")
    assert (found.kind, [one.kind for one in found.notices]) == ("file", ["limit"])


def test_what_is_unpacked_for_nothing_counts(monkeypatch):
    held = bytearray(changed("stock.xlsx", {"x": b"valve" * 10_000}))
    held[held.index(b"valvevalve")] ^= 1
    monkeypatch.setattr(archives, "ARCHIVE_LIMIT_BYTES", 120_000)
    opened = archives.Archive(BytesReader(bytes(held)))
    for wanted in ("Bad CRC", "Bad CRC", "larger than 20,000 bytes"):
        with pytest.raises(archives.StructureError, match=wanted):
            opened.read("x")


def test_many_damaged_parts_are_counted():
    damage = Damage()
    for number in range(100_000):
        with damage.page(f"sheet {number}"):
            raise archives.StructureError("it is cut")
    told = [one.text for one in damage.notices()]
    assert told[0] == "not read: sheet 0: it is cut"
    assert told[-1] == "99,996 more of its parts are damaged"
    assert len(told) == 5


@pytest.mark.parametrize(
    ("name", "member", "folder"),
    [
        ("plan.pptx", "ppt/slides/slide1.xml", "ppt/media"),
        ("report.docx", "word/_rels/document.xml.rels", "word/media"),
        ("stock.xlsx", "xl/worksheets/_rels/sheet1.xml.rels", "xl/media"),
        ("text.odt", "styles.xml", "Pictures"),
    ],
)
def test_pictures_are_found_beside_a_damaged_part(name, member, folder):
    pytest.importorskip("pdqhash")
    held = changed(name, {member: BROKEN, f"{folder}/one.png": png()})
    found = look(BytesReader(held), name, formats=ENTRIES)
    assert [one.part for one in found.places] == [f"{folder}/one.png"]
    assert len(found.notices) == 1
    assert found.notices[0].text.startswith("not read: ")


def test_pictures_of_a_damaged_slide_are_on_that_slide():
    pytest.importorskip("pdqhash")
    rels = "ppt/slides/_rels/slide2.xml.rels"
    with zipfile.ZipFile(DOCUMENTS / "plan.pptx") as given:
        related = given.read(rels)
    end = b"</Relationships>"
    one = b'<Relationship Id="p" Type="x/image" Target="../media/one.png"/>'
    members = {
        "ppt/slides/slide2.xml": BROKEN,
        rels: related.replace(end, one + end),
        "ppt/media/one.png": png(),
    }
    found = look(BytesReader(changed("plan.pptx", members)), "plan.pptx", formats=ENTRIES)
    assert [(one.part, one.page) for one in found.places] == [("ppt/media/one.png", 2)]


@pytest.mark.parametrize("name", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_text_that_is_cut_inside_a_character(name):
    found = document("The valve leaks.é".encode(name)[:-1], "a.txt")
    assert texts(found) == ["The valve leaks."]
    (notice,) = found.notices
    assert notice.text.endswith("the end is left out")
    (notice,) = document(b"\xff\xfe\x00\xd8a\0b\0", "a.txt").notices
    assert notice.text.startswith("not read as text: its mark says utf-16-le")


def test_a_picture_with_a_large_profile_is_read():
    pytest.importorskip("pdqhash")
    for entry in ENTRIES:
        load(entry)
    profile = chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(3 << 20)))
    comment = chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(3 << 20)))
    found = look(BytesReader(png(profile, comment)), "a.png", formats=ENTRIES)
    assert (found.kind, found.notices) == ("picture", ())
    bomb = chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(20 << 20)))
    assert look(BytesReader(png(bomb)), "a.png", formats=ENTRIES).notices
