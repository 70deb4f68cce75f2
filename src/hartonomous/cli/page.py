"""What a command shows to people, said without saying how it is drawn.

A page is an iterable of blocks: a line, a table, or a list of named values. ``plain.py`` writes it
for pipes and files, ``terminal.py`` draws it. Cells are text as it came: the writers make it safe.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

Style = Literal["strong", "dim", "good", "bad", "warn"]
"""Emphasis on a terminal; it never carries meaning that the words do not."""


class Cell(NamedTuple):
    """A text with emphasis."""

    text: str
    style: Style


class Column(NamedTuple):
    """A column's heading; numbers stand ``right``.

    ``whole`` texts are short and never folded; ``extra`` columns are left out where a terminal is
    too narrow for all of them, the last one first.
    """

    name: str
    right: bool = False
    whole: bool = False
    extra: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows under headings. ``rows`` may be a stream; it is written in blocks of 1,000."""

    columns: Sequence[Column]
    rows: Iterable[Sequence[str | Cell]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fields:
    """Named values, one a line."""

    rows: Sequence[tuple[str, str | Cell]]


Block = str | Cell | Table | Fields
Page = Iterable[Block]

BLOCK_ROWS = 1000
"""Rows whose widths are computed together; a long table is never held whole."""


def text_of(cell: str | Cell) -> str:
    """Return a cell's text without its emphasis."""
    return cell.text if isinstance(cell, Cell) else cell
