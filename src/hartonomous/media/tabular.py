"""CSV and TSV: a block a row, each value under its column's name.

Positions are of the text that is taken out.
"""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from hartonomous.core.document import TEXT_LIMIT_CHARS, BlockList, Document
from hartonomous.errors import StructureError
from hartonomous.media.decoding import looks_like_text, read_text
from hartonomous.media.endings import TABLES, ending
from hartonomous.ports.document import DocumentReader
from hartonomous.ports.format import RangeReader

_LOOKED_AT_CHARS = 16_384
_LOOKED_AT_LINES = 20
COLUMNS_LIMIT = 16_384
"""What XLSX allows; of a wider row the beginning is taken, which a notice says."""
_NAMES_CHARS = 20_000  # of a row; else names alone would fill what is read of a wide table
_NAME_CHARS = 200  # of a column: it stands before each of its values; the first row has it whole


class _Tabular:
    """The reader; see the module's text."""

    name = "table"
    recipe = "2"
    extra = ""

    def matches(self, path: str, head: bytes) -> bool:
        """Take files that are named so."""
        return ending(path) in TABLES and looks_like_text(head)

    def read(self, reader: RangeReader) -> Document:
        """Return its rows."""
        text, notices = read_text(reader)
        found = BlockList()
        csv.field_size_limit(TEXT_LIMIT_CHARS)  # of this process, which only reads documents
        try:
            rows = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text))
            add_rows(found, map(enumerate, rows))
        except csv.Error as error:
            raise StructureError(f"no table: {error}") from error
        return Document(
            kind=self.name, blocks=tuple(found.blocks), notices=(*notices, *found.notices())
        )


TABULAR: Final[DocumentReader] = _Tabular()
"""The entry for the table of readers."""


def _delimiter(text: str) -> str:
    """Return what stands between values: what occurs as often in most of the first lines."""
    lines = [
        line for line in text[:_LOOKED_AT_CHARS].split("\n")[:_LOOKED_AT_LINES] if line.strip()
    ]
    best, delimiter = (0, 0), ","
    for one in ",;\t|":
        first = lines[0].count(one) if lines else 0
        agreeing = sum(line.count(one) >= first for line in lines) if first else 0
        if (agreeing, first) > best:
            best, delimiter = (agreeing, first), one
    return delimiter


def add_rows(found: BlockList, rows: Iterable[Iterable[tuple[int, str]]]) -> None:
    """Add rows, each (column from 0, text) of what is in it; the first one names the columns.

    Cells without text may be left out, so that a wide row with a few costs these alone.
    """
    names: dict[int, str] | None = None
    for row in rows:
        if found.full:
            return
        values = [(at, text) for at, one in row if (text := one.strip())]
        if values and (width := values[-1][0] + 1) > COLUMNS_LIMIT:
            found.leave("columns", COLUMNS_LIMIT, width)
            values = [(at, text) for at, text in values if at < COLUMNS_LIMIT]
        if not values:
            continue
        if names is None:
            names = {at: text[:_NAME_CHARS] for at, text in values}
            found.add(" | ".join(text for _, text in values), "row")
            continue
        found.add("; ".join(_named(values, names)), "row")


def _named(values: Iterable[tuple[int, str]], names: Mapping[int, str]) -> Iterator[str]:
    """Yield values under their columns' names, of a wide row as long as those have room."""
    room = _NAMES_CHARS
    for at, text in values:
        name = names.get(at, "")
        room -= len(name)
        yield f"{name}: {text}" if name and room >= 0 else text
