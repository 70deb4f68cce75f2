"""Jupyter notebooks (nbformat 4): Markdown and code cells, and what a cell printed as text.

A cell is a page; positions are characters of its source.
"""

import re
from typing import Any, Final

from hartonomous.core.document import BlockList, Document
from hartonomous.errors import StructureError
from hartonomous.media.decoding import looks_like_text, read_whole_text
from hartonomous.media.endings import NOTEBOOKS, ending
from hartonomous.media.json_text import parsed, read_as_text
from hartonomous.media.markdown import add_markdown
from hartonomous.media.plain_text import as_plain_text
from hartonomous.ports.document import DocumentReader
from hartonomous.ports.format import RangeReader

_OUTPUT_CHARS = 4_000
_PICTURE = re.compile(r"[A-Za-z0-9+/=]{1000,}")


class _Notebook:
    """The reader; see the module's text."""

    name = "notebook"
    recipe = "2"
    extra = ""

    def matches(self, path: str, head: bytes) -> bool:
        """Take files that are named so."""
        return ending(path) in NOTEBOOKS and looks_like_text(head)

    def read(self, reader: RangeReader) -> Document:
        """Return the cells; raises StructureError where it is no notebook."""
        text, notices = read_whole_text(reader)
        try:
            held = parsed(text)
        except ValueError as error:
            # Positions stay; pictures would be words of a thousand letters.
            words = _PICTURE.sub(lambda found: " " * len(found[0]), text)
            return as_plain_text(words, (*notices, read_as_text(error)))
        cells = held.get("cells") if isinstance(held, dict) else None
        if not isinstance(cells, list):
            raise StructureError("no notebook of format 4: it has no list of cells")
        found = BlockList()
        for number, cell in enumerate(cells, 1):
            if isinstance(cell, dict):
                found.page(number)
                _add(found, cell)
        titles = [one.text for one in found.blocks if one.kind == "heading"]
        return Document(
            kind=self.name,
            blocks=tuple(found.blocks),
            title=titles[0] if titles else "",
            pages="cell",
            notices=(*notices, *found.notices()),
        )


NOTEBOOK: Final[DocumentReader] = _Notebook()
"""The entry for the table of readers."""


def _add(found: BlockList, cell: dict[str, Any]) -> None:
    source = _joined(cell.get("source"))
    if cell.get("cell_type") == "markdown":
        add_markdown(found, source)
        return
    found.put(source, 0, "code")
    outputs = cell.get("outputs")
    at = len(source) + 1
    for output in outputs if isinstance(outputs, list) else []:
        if not isinstance(output, dict):
            continue
        shown = _shown(output)
        text = shown[:_OUTPUT_CHARS]
        if len(shown) > len(text):
            found.leave("characters of an output", _OUTPUT_CHARS, len(shown))
        found.put(text, at, "code")
        at += len(text) + 1


def _shown(output: dict[str, Any]) -> str:
    """Return what an output shows as text; of an error what it says, not where it came from."""
    if output.get("output_type") == "error":
        said = (_joined(output.get("ename")), _joined(output.get("evalue")))
        return ": ".join(one for one in said if one)
    data = output.get("data")
    return _joined(data.get("text/plain") if isinstance(data, dict) else output.get("text"))


def _joined(value: Any) -> str:
    """Return a text that the format allows to be a list of lines."""
    if isinstance(value, list):
        return "".join(one for one in value if isinstance(one, str))
    return value if isinstance(value, str) else ""
