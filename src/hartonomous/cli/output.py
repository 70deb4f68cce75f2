"""Where results go: standard output, as pages for people, as JSON, or as ids.

One ``Output`` a run. Messages and progress never come here; they go to standard error.
"""

import json
import os
import sys
from collections.abc import Callable, Iterable
from typing import TextIO, TypeVar

from hartonomous.cli.as_json import as_json
from hartonomous.cli.failures import naming_standard_output
from hartonomous.cli.options import OutputFormat
from hartonomous.cli.page import Page
from hartonomous.cli.plain import write_plain
from hartonomous.cli.text import clean

T = TypeVar("T")


class Output:
    """Writes results in the format that was asked for."""

    def __init__(
        self, *, format: OutputFormat, color: bool = True, stream: TextIO | None = None
    ) -> None:
        self.format = format
        self.stream = sys.stdout if stream is None else stream
        self.drawn = draws_on(self.stream)
        self.color = color and not os.environ.get("NO_COLOR")

    @property
    def is_for_people(self) -> bool:
        """Say whether results are pages, not JSON and not ids."""
        return self.format in (OutputFormat.AUTO, OutputFormat.HUMAN)

    def emit(
        self, result: T, *, human: Callable[[T], Page], ids: Callable[[T], Iterable[str]] | None
    ) -> None:
        """Write one result: a page, one JSON object, or the ids in it (none where ``ids`` is)."""
        match self.format:
            case OutputFormat.JSON:
                self._write_json(result)
            case OutputFormat.QUIET:
                self._write_ids(ids(result) if ids else ())
            case _:
                self._write_page(human(result))

    def emit_each(
        self,
        results: Iterable[T],
        *,
        human: Callable[[Iterable[T]], Page],
        ids: Callable[[T], str],
    ) -> None:
        """Write a stream of results as it comes: a page, JSON lines, or an id a line."""
        match self.format:
            case OutputFormat.JSON:
                for result in results:
                    self._write_json(result)
                    with naming_standard_output():
                        self.stream.flush()  # who reads along should see each as it is done
            case OutputFormat.QUIET:
                self._write_ids(map(ids, results))
            case _:
                self._write_page(human(results))

    def _write_page(self, page: Page) -> None:
        if not self.drawn:
            with naming_standard_output():
                write_plain(page, self.stream)
            return
        from hartonomous.cli.terminal import write_terminal

        write_terminal(page, self.stream, color=self.color)

    def _write_json(self, result: object) -> None:
        text = json.dumps(as_json(result), ensure_ascii=False, allow_nan=False)
        with naming_standard_output():
            self.stream.write(f"{text}\n")

    def _write_ids(self, ids: Iterable[str]) -> None:
        for name in ids:
            with naming_standard_output():
                self.stream.write(f"{clean(name)}\n")
                self.stream.flush()


def draws_on(stream: TextIO) -> bool:
    """Say whether ``stream`` is a terminal that can be drawn on."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"
