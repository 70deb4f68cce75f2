"""Draws pages on a terminal with rich: tables that fit its width, colour where wanted."""

from collections.abc import Sequence
from itertools import islice
from typing import TextIO

from rich.console import Console
from rich.table import Table as Drawn
from rich.text import Text

from hartonomous.cli.page import BLOCK_ROWS, Cell, Column, Fields, Page, Table, text_of
from hartonomous.cli.text import clean, width

_STYLES = {"strong": "bold", "dim": "dim", "good": "green", "bad": "red", "warn": "yellow"}

_GAP = 2
_FOLDED = 16
"""A column that folds is at least this wide, if its texts are."""


def console_on(stream: TextIO, *, color: bool) -> Console:
    """Return a console that takes text as it is: no markup, no emoji names, no highlighting."""
    return Console(
        file=stream,
        color_system="auto" if color else None,
        highlight=False,
        markup=False,
        emoji=False,
    )


def write_terminal(page: Page, stream: TextIO, *, color: bool) -> None:
    """Draw ``page`` on the terminal behind ``stream``."""
    console = console_on(stream, color=color)
    for block in page:
        match block:
            case Table():
                _draw_table(block, console)
            case Fields():
                console.print(_fields(block))
            case _:
                console.print(_text(block), soft_wrap=True)


def _draw_table(table: Table, console: Console) -> None:
    rows = iter(table.rows)
    kept: Sequence[int] | None = None
    while block := list(islice(rows, BLOCK_ROWS)):
        first, kept = kept is None, _fitting(table, block, console.width) if kept is None else kept
        console.print(_table(table, block, kept, heading=first))


def _fitting(table: Table, rows: Sequence[Sequence[str | Cell]], room: int) -> Sequence[int]:
    """Return the indexes of the columns to draw in ``room`` terminal columns."""
    kept = list(range(len(table.columns)))
    least = [_least_width(column, rows, index) for index, column in enumerate(table.columns)]
    for index in reversed(range(len(table.columns))):
        if sum(least[one] + _GAP for one in kept) - _GAP <= room:
            break
        if table.columns[index].extra:
            kept.remove(index)
    return kept


def _least_width(column: Column, rows: Sequence[Sequence[str | Cell]], index: int) -> int:
    needed = max(width(column.name), *(width(clean(text_of(row[index]))) for row in rows))
    return needed if column.right or column.whole else min(needed, _FOLDED)


def _table(
    table: Table, rows: Sequence[Sequence[str | Cell]], kept: Sequence[int], *, heading: bool
) -> Drawn:
    drawn = Drawn(box=None, show_header=heading, pad_edge=False, padding=(0, _GAP, 0, 0))
    for index in kept:
        column = table.columns[index]
        # Numbers are never cut; a name folds, because half a name names nothing.
        drawn.add_column(
            column.name,
            justify="right" if column.right else "left",
            no_wrap=column.right or column.whole,
            overflow="fold",
            min_width=_least_width(column, rows, index),
        )
    for row in rows:
        drawn.add_row(*(_text(row[index]) for index in kept))
    return drawn


def _fields(fields: Fields) -> Drawn:
    drawn = Drawn.grid(padding=(0, 2))
    drawn.add_column(no_wrap=True, style="bold")
    drawn.add_column(overflow="fold")
    for name, value in fields.rows:
        drawn.add_row(Text(clean(name)), _text(value))
    return drawn


def _text(cell: str | Cell) -> Text:
    if isinstance(cell, Cell):
        return Text(clean(cell.text), style=_STYLES[cell.style])
    return Text(clean(cell))
