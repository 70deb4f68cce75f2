"""Plain text tables, sizes and the one text form of a figure."""

from collections.abc import Sequence

MB = 1_000_000


def table(title: str, head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a table with its title; numbers are set to the right."""
    cells = [[_text(cell) for cell in row] for row in rows]
    widths = [max(len(name), *(len(row[i]) for row in cells), 0) for i, name in enumerate(head)]
    right = [all(not isinstance(row[i], str) for row in rows) for i in range(len(head))]
    lines = [title, ""]
    for row in [list(head), ["-" * width for width in widths], *cells]:
        padded = [
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(row, widths, right, strict=True)
        ]
        lines.append("  ".join(padded).rstrip())
    return "\n".join([*lines, ""])


def megabytes(size: float) -> float:
    """Return bytes as megabytes (powers of 1000)."""
    return size / MB


def _text(cell: object) -> str:
    if cell is None:
        return "-"
    if isinstance(cell, float):
        return f"{cell:.3f}" if abs(cell) < 10 else f"{cell:,.1f}"
    return f"{cell:,}" if isinstance(cell, int) and not isinstance(cell, bool) else str(cell)
