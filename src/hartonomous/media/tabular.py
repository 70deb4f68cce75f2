"""CSV and TSV: a block a row, each value under its column's name.

Positions are of the text that is taken out.
"""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Final

from hartonomous.core.document import TEXT_LIMIT_CHARS, BlockList, Document
from hartonomous.errors import StructureError
from hartonomous.media.decoding import looks_like_text, read_text
from hartonomous.media.endings import TABLES, ending
from hartonomous.ports.document import DocumentReader
from hartonomous.ports.format import RangeReader

_LOOKED_AT_CHARS = 16_384
_LOOKED_AT_LINES = 20
_COLUMNS = 512
_VALUE_CHARS = 2_000


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
            add_rows(found, csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text)))
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


def add_rows(found: BlockList, rows: Iterable[Sequence[object]]) -> None:
    """Add rows, an iterable of lists of texts; the first one names the columns."""
    names: list[str] | None = None
    for row in rows:
        if found.full:
            return
        values = [str(one).strip()[:_VALUE_CHARS] for one in row[:_COLUMNS]]
        if not any(values):
            continue
        if names is None:
            names = values
            found.add(" | ".join(one for one in values if one), "row")
            continue
        pairs = (
            f"{names[at]}: {value}" if at < len(names) and names[at] else value
            for at, value in enumerate(values)
            if value
        )
        found.add("; ".join(pairs), "row")
