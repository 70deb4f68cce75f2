"""Small spreadsheets written by hand: cells as the format has them, with or without styles."""

import io
import zipfile
from xml.sax.saxutils import escape

SHEET = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
RELS = "http://schemas.openxmlformats.org/package/2006/relationships"


def column(at):
    """Return the letters of a column, counted from 0."""
    return (column(at // 26 - 1) if at >= 26 else "") + chr(65 + at % 26)


def sheet(rows):
    """Return a spreadsheet of texts; empty ones have no cell."""
    return sheet_of(
        "".join(
            f"<row>{''.join(_cell(at, text) for at, text in enumerate(row) if text)}</row>"
            for row in rows
        )
    )


def _cell(at, text):
    return f'<c r="{column(at)}1" t="inlineStr"><is><t>{escape(text)}</t></is></c>'


def sheet_of(rows, *, styles=None, properties=""):
    """Return a spreadsheet whose rows, styles and properties of the workbook are given as XML."""
    members = {
        "xl/workbook.xml": f'<workbook xmlns="{SHEET}" xmlns:r="{OFFICE}">{properties}<sheets>'
        '<sheet name="s" r:id="r1"/></sheets></workbook>',
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{RELS}">'
        '<Relationship Id="r1" Type="x/worksheet" Target="a.xml"/></Relationships>',
        "xl/a.xml": f'<worksheet xmlns="{SHEET}">{rows}</worksheet>',
    }
    if styles is not None:
        members["xl/styles.xml"] = styles
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as out:
        for name, content in members.items():
            out.writestr(name, content)
    return made.getvalue()
