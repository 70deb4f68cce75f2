"""What was tried so far, in a file that grows by a line for each piece, so that a run can go on."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from tests.torture.bench import Tally
from tests.torture.plan import Asked, Piece


class Progress:
    """Figures by row and piece, kept in a ``file`` where there is one."""

    def __init__(self, asked: Asked, file: Path | None) -> None:
        self.rows: dict[str, dict[str, Tally]] = {}
        self._file = None
        said = json.dumps({"asked": {**asdict(asked), "what": ""}})  # parts are told by their names
        if file is not None:
            self._read(file, said)
            self._file = file.open("a")
            if file.stat().st_size == 0:
                self._write(said)

    def _read(self, file: Path, said: str) -> None:
        if not file.exists() or not file.read_text():
            return
        head, *lines = file.read_text().splitlines()
        assert json.loads(head) == json.loads(said), f"{file} is of another run: {head}"
        for line in lines:
            try:
                row, name, tally, _ = json.loads(line)
            except ValueError:
                continue  # the last one, cut short
            self.rows.setdefault(row, {})[name] = Tally(**tally)

    def _write(self, line: str) -> None:
        assert self._file is not None
        self._file.write(line + "\n")
        self._file.flush()

    def has(self, piece: Piece) -> bool:
        """Say whether a piece is done."""
        return piece.name in self.rows.get(piece.row, {})

    def take(self, piece: Piece, tallies: list[Tally], seconds: float) -> Tally:
        """Take the figures of a piece; return their sum."""
        mine = Tally()
        for one in tallies:
            mine.add(one)
        self.rows.setdefault(piece.row, {})[piece.name] = mine
        if self._file is not None:
            self._write(json.dumps([piece.row, piece.name, asdict(mine), round(seconds, 3)]))
        return mine

    def total(self) -> Tally:
        """Return the sum of all."""
        total = Tally()
        for pieces in self.rows.values():
            for one in pieces.values():
                total.add(one)
        return total

    def table(self) -> Iterator[str]:
        """Yield the lines of a table in Markdown, as in docs/faults.md."""
        yield "| part | tried | hit | states | acknowledged | left | lost | wrong |"
        yield "|---|---:|---:|---:|---:|---:|---:|---:|"
        for row, pieces in self.rows.items():
            mine = Tally()
            for one in pieces.values():
                mine.add(one)
            yield _line(row, mine)
        yield _line("**all**", self.total())

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


def _line(name: str, one: Tally) -> str:
    numbers = (one.tried, one.hit, one.states, one.acknowledged, one.left, one.lost, len(one.wrong))
    return f"| {name} | {' | '.join(f'{number:,}' for number in numbers)} |"
