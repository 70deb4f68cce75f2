"""How results show themselves where Python prints them: a short text, and HTML for notebooks.

HTML is made of texts that files and their authors chose, so every one of them is escaped.
"""

from collections.abc import Iterable, Sequence
from itertools import islice

from hartonomous.core.plain_html import plain_html

ROWS_SHOWN = 50
"""More rows are counted, not shown."""


def html_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return an HTML table: a line above it, headings, at most ``ROWS_SHOWN`` rows."""
    listed = iter(rows)
    shown = [_row("td", row) for row in islice(listed, ROWS_SHOWN)]
    more = sum(1 for _ in listed)
    parts = [f"<p>{_text(title)}</p>", "<table><thead>", _row("th", columns), "</thead><tbody>"]
    parts += [*shown, "</tbody></table>"]
    if more:
        parts.append(f"<p>and {more:,} more</p>")
    return "".join(parts)


def _row(tag: str, cells: Sequence[object]) -> str:
    return f"<tr>{''.join(f'<{tag}>{_text(cell)}</{tag}>' for cell in cells)}</tr>"


def _text(cell: object) -> str:
    return plain_html("" if cell is None else str(cell))
