"""Writes pages for pipes, files and logs: aligned columns, full width, nothing drawn."""

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import TextIO

from hartonomous.cli.page import BLOCK_ROWS, Cell, Column, Fields, Page, Table, text_of
from hartonomous.cli.text import clean, width

_GAP = "  "
_MOST_PADDED = 60
"""No column is padded to more: a longer text moves the rest of its own row, and no other row's."""


def write_plain(page: Page, stream: TextIO) -> None:
    """Write ``page`` to ``stream``, block after block."""
    for block in page:
        match block:
            case Table():
                _write_table(block, stream)
            case Fields():
                _write_fields(block, stream)
            case _:
                _write_line(clean(text_of(block)), stream)


def _write_table(table: Table, stream: TextIO) -> None:
    rows = iter(table.rows)
    header: list[list[str]] = [[column.name for column in table.columns]]
    while block := [_texts(row) for row in islice(rows, BLOCK_ROWS)]:
        _write_rows(table.columns, [*header, *block], stream)
        header = []


def _texts(row: Iterable[str | Cell]) -> list[str]:
    return [clean(text_of(cell)) for cell in row]


def _write_rows(columns: Sequence[Column], rows: list[list[str]], stream: TextIO) -> None:
    widths = [min(_MOST_PADDED, max(map(width, column))) for column in zip(*rows, strict=True)]
    for row in rows:
        padded = [
            " " * (size - width(text)) + text if column.right else text + " " * (size - width(text))
            for column, size, text in zip(columns, widths, row, strict=True)
        ]
        _write_line(_GAP.join(padded), stream)


def _write_fields(fields: Fields, stream: TextIO) -> None:
    names = [f"{clean(name)}:" for name, _ in fields.rows]
    size = max(map(width, names), default=0)
    for name, (_, value) in zip(names, fields.rows, strict=True):
        _write_line(f"{name}{' ' * (size - width(name))}{_GAP}{clean(text_of(value))}", stream)


def _write_line(text: str, stream: TextIO) -> None:
    stream.write(f"{text.rstrip()}\n")
