"""Documents made to harm: each is a notice within the limits, never an error or a wait."""

import io
import json
import os
import zipfile
from pathlib import Path

import pytest
from looked import looked

from hartonomous.packs.text_views import document_process

DOCUMENTS = Path(__file__).parents[1] / "fixtures" / "documents"
W = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"


def archive(members: dict[str, bytes | str]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in members.items():
            made.writestr(name, content)
    return out.getvalue()


def word(body: str) -> bytes:
    text = f'<w:document xmlns:w="{W}"><w:body>{body}</w:body></w:document>'
    return archive({"word/document.xml": text})


def laughs() -> str:
    lines = ['<!ENTITY a0 "ha">']
    lines += [f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 12)]
    return f"<!DOCTYPE x [{''.join(lines)}]><x>&a11;</x>"


SHEET = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
RELS = "http://schemas.openxmlformats.org/package/2006/relationships"


def wide_sheet() -> bytes:
    return archive(
        {
            "xl/workbook.xml": f'<workbook xmlns="{SHEET}" xmlns:r="{OFFICE}"><sheets>'
            '<sheet name="s" r:id="r1"/></sheets></workbook>',
            "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{RELS}">'
            '<Relationship Id="r1" Type="x/worksheet" Target="../../../../etc/passwd"/>'
            "</Relationships>",
        }
    )


NINES = "9" * 5_000  # more digits than Python reads as one number
TEXT = "urn:oasis:names:tc:opendocument:xmlns:text:1.0"
TABLE = "urn:oasis:names:tc:opendocument:xmlns:table:1.0"


def sheet_of(cells: str) -> bytes:
    return archive(
        {
            "xl/workbook.xml": f'<workbook xmlns="{SHEET}" xmlns:r="{OFFICE}"><sheets>'
            '<sheet name="s" r:id="r1"/></sheets></workbook>',
            "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{RELS}">'
            '<Relationship Id="r1" Type="x/worksheet" Target="a.xml"/></Relationships>',
            "xl/a.xml": f'<worksheet xmlns="{SHEET}"><row>{cells}</row></worksheet>',
        }
    )


def open_text(body: str) -> bytes:
    return archive({"content.xml": f'<x xmlns:t="{TEXT}" xmlns:b="{TABLE}">{body}</x>'})


def strangely_packed() -> bytes:
    """Return a document whose text is said to be LZMA, and is not."""
    made = bytearray(word("<w:p/>"))
    for mark, at in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        start = made.index(mark) + at
        made[start : start + 2] = b"\x0e\x00"
    return bytes(made)


REFUSED = {
    "lzma.docx": strangely_packed(),
    "cut.docx": (DOCUMENTS / "report.docx").read_bytes()[:20_000],
    "cut.pptx": (DOCUMENTS / "plan.pptx").read_bytes()[:-30],
    "no parts.docx": archive({"x": "y"}),
    "bomb.docx": archive({"word/document.xml": b" " * (300 << 20)}),
    "laughs.docx": archive({"word/document.xml": laughs()}),
    "laughs.odt": archive({"content.xml": laughs()}),
    "wide laughs.docx": archive(
        {"word/document.xml": f'<?xml version="1.0" encoding="utf-16"?>{laughs()}'.encode("utf-16")}
    ),
    "utf-7.docx": archive({"word/document.xml": '<?xml version="1.0" encoding="utf-7"?><a/>'}),
    "no encoding.docx": archive({"word/document.xml": '<?xml version="1.0" encoding="x"?><a/>'}),
    "no xml.odt": archive({"content.xml": "<a><b>"}),
    "no book.epub": archive({"META-INF/container.xml": "<container/>"}),
    "cut.pdf": (DOCUMENTS / "paper.pdf").read_bytes()[:300],
    "rubbish.pdf": b"%PDF-1.7\n" + os.urandom(1000),
    "deep.json": b"[" * 200_000,
    "deep.ipynb": b'{"cells":' + b"[" * 200_000,
    "no cells.ipynb": b"{}",
    "zeros.txt": b"\xff\xfe" + b"\0" * 100,
}
KEPT = {
    "nines.xlsx": sheet_of(f'<c t="s"><v>{NINES}</v></c><c><v>7</v></c>'),
    "nines.docx": word(f'<w:p><w:pPr><w:outlineLvl w:val="{NINES}"/></w:pPr></w:p>'),
    "nines.odt": open_text(
        f'<t:h t:outline-level="{NINES}">a</t:h><t:h t:outline-level="{"9" * 20}">b</t:h>'
        f'<b:table><b:table-row><b:table-cell b:number-columns-repeated="{NINES}"><t:p>c</t:p>'
        "</b:table-cell></b:table-row></b:table>"
    ),
    **{
        f"{charset}.html": f"<meta charset={charset}><title>\\ud800 +2AA-</title><p>x.y".encode()
        for charset in ("idna", "punycode", "undefined", "unicode_escape", "utf-7", "hex", "oem")
    },
    "escaping.xlsx": wide_sheet(),
    "deep.html": b"<div>" * 200_000 + b"text",
    "many.html": b"<p>x" * 250_000,
    "deep.docx": word("<w:sdt>" * 2_000 + "<w:p/>" + "</w:sdt>" * 2_000),
    "no blanks.txt": b"x" * (4 << 20),
    "large.txt": b"word " * (8 << 20),
    "large.html": b"<meta charset=zlib><p>" + b"word " * (8 << 20),
    "no words.md": b"#" * 100_000 + b"\n" + b"-" * 100_000,
    "fences.md": b"```\n" * 100_000,
    "wide.csv": b"," * 1_000_000 + b"\n",
    "quotes.csv": b'"' * 99_999,
    "long cell.csv": b'a,b\n"' + b"x" * 500_000 + b'",y\n',
    "half.json": b'{"a": "\\ud800 valve"}',
    "keys.json": json.dumps({"k" * 1000 + str(n): "v" for n in range(3000)}).encode(),
}


@pytest.fixture(scope="module")
def process():
    with document_process() as opened:
        yield opened


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_leaves_a_notice(process, tmp_path, name):
    found = looked(process, tmp_path, name, REFUSED[name])
    assert (found.kind, found.blocks) == ("file", ())
    assert found.notices
    assert all(one.kind in ("structure", "limit") for one in found.notices)
    assert not any("ended with status" in one.text for one in found.notices)


@pytest.mark.parametrize("name", KEPT)
def test_what_is_odd_is_read_as_far_as_it_goes(process, tmp_path, name):
    found = looked(process, tmp_path, name, KEPT[name])
    assert all(one.text.strip() for one in found.blocks)
    assert not any("ended with status" in one.text for one in found.notices)


def test_the_process_lives_after_all_of_them(process, tmp_path):
    for name, content in [*REFUSED.items(), *KEPT.items()]:
        looked(process, tmp_path, name, content)
    found = looked(process, tmp_path, "a.txt", b"still there")
    assert [one.text for one in found.blocks] == ["still there"]
