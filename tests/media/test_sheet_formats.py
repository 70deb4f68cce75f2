"""Dates, times, per cent and truth values of XLSX, as people see and search them."""

import pytest
from sheet_files import SHEET, sheet_of

import hartonomous as hn
from hartonomous.formats.reader import BytesReader
from hartonomous.media.reading import read


def styles(*codes):
    """Return styles.xml with a style for each: a number of a format, or a code."""
    own = {one: 164 + at for at, one in enumerate(codes) if isinstance(one, str)}
    formats = "".join(
        f'<numFmt numFmtId="{number}" formatCode="{code.replace(chr(34), "&quot;")}"/>'
        for code, number in own.items()
    )
    cells = "".join(f'<xf numFmtId="{own.get(one, one)}"/>' for one in codes)
    return (
        f'<styleSheet xmlns="{SHEET}"><numFmts>{formats}</numFmts>'
        f'<cellStyleXfs><xf numFmtId="9"/></cellStyleXfs><cellXfs>{cells}</cellXfs></styleSheet>'
    )


def shown(value, style, *, properties="", kind="", told=None):
    cell = f'<c s="0"{kind}><v>{value}</v></c>'
    made = sheet_of(f"<row>{cell}</row>", styles=told or styles(style), properties=properties)
    found = read(BytesReader(made), "a.xlsx")
    assert all("how its numbers are shown" in one.text for one in found.notices)
    return found.blocks[-1].text


@pytest.mark.parametrize(
    ("value", "style", "text"),
    [
        ("45730", 14, "2025-03-14"),
        ("45730.5208333333", 22, "2025-03-14 12:30:00"),
        ("45730.5208333333", 14, "2025-03-14 12:30:00"),
        ("45730", "dd/mm/yyyy", "2025-03-14"),
        ("45730", "yyyy\\-mm\\-dd;@", "2025-03-14"),
        ("45730", "[$-409]mmmm\\ d\\,\\ yyyy", "2025-03-14"),
        ("45730", 'd". "mmm', "2025-03-14"),
        ("45730", "mmm", "2025-03-14"),
        ("45730.75", "yyyy-mm-dd hh:mm", "2025-03-14 18:00:00"),
        ("0.520833333333333", 20, "12:30:00"),
        ("0.520833333333333", "h:mm AM/PM", "12:30:00"),
        ("0.0104", "mm:ss.00", "00:14:59"),
        ("1.5", 46, "36:00:00"),
        ("1.5", "[h]:mm", "36:00:00"),
        ("45730.9999999", "yyyy-mm-dd hh:mm:ss", "2025-03-15 00:00:00"),
        ("1", 14, "1900-01-01"),
        ("60", 14, "1900-02-29"),
        ("61", 14, "1900-03-01"),
        ("2958465", 14, "9999-12-31"),
        ("2958465.9999999", 14, "2958465.9999999"),
        (".125", 10, "12.5%"),
        ("0.07", "0%", "7%"),
        ("-0.5", "0.00%;[Red]-0.00%", "-50%"),
        ("45730", 0, "45730"),
        ("45730", "#,##0.00", "45730"),
        ("45730", '0" days"', "45730"),
        ("45730", "[Red]0.0\\d", "45730"),
        ("45730", "General", "45730"),
        ("45730", '"due "', "45730"),
        ("-5", 14, "-5"),
        ("1e300", 14, "1e300"),
        ("nan", 14, "nan"),
        ("inf", 14, "inf"),
        ("x", 14, "x"),
    ],
)
def test_numbers_are_read_as_their_format_says(value, style, text):
    assert shown(value, style) == text


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        ("1", ' t="b"', "TRUE"),
        ("0", ' t="b"', "FALSE"),
        ("2025-03-14T12:30:00", ' t="d"', "2025-03-14 12:30:00"),
        ("45730", ' t="str"', "45730"),
        ("#N/A", ' t="e"', "#N/A"),
    ],
)
def test_values_that_are_no_numbers(value, kind, text):
    assert shown(value, 14, kind=kind) == text


def test_days_are_counted_from_1904_where_the_workbook_says_so():
    assert shown("44268", 14, properties='<workbookPr date1904="1"/>') == "2025-03-14"
    assert shown("2957003", 14, properties='<workbookPr date1904="1"/>') == "9999-12-31"
    assert shown("2957004", 14, properties='<workbookPr date1904="1"/>') == "2957004"


@pytest.mark.parametrize("told", ["<a>", "<!DOCTYPE a><a/>", f'<styleSheet xmlns="{SHEET}"/>'])
def test_styles_that_are_damaged_cost_the_formats_alone(told):
    assert shown("45730", 14, told=told) == "45730"


def test_a_date_in_a_cell_is_found(tmp_path):
    row = '<row><c t="inlineStr"><is><t>gasket</t></is></c><c s="0"><v>45730.5</v></c></row>'
    (tmp_path / "a.xlsx").write_bytes(sheet_of(row, styles=styles(14)))
    other = row.replace("45730.5", "45731.5")
    (tmp_path / "b.xlsx").write_bytes(sheet_of(other, styles=styles(14)))
    with hn.init(tmp_path / "store") as store:
        store.add(tmp_path / "a.xlsx")
        store.add(tmp_path / "b.xlsx")
        assert store.search("2025-03-14").hits[0].name == "a.xlsx"
        assert [one.name for one in store.search('"2025-03-14"').hits] == ["a.xlsx"]
