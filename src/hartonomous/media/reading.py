"""Which reader takes a file: the table of readers, and ``read`` which asks each of them.

The table holds strings, so that nothing is imported before the first file is read, which happens in
the limited process.
"""

from collections.abc import Sequence

from hartonomous.core.description import Notice
from hartonomous.core.document import Document
from hartonomous.errors import StructureError
from hartonomous.media.decoding import looks_like_text
from hartonomous.media.endings import named_as_document
from hartonomous.ports.document import DocumentReader
from hartonomous.ports.entry import load
from hartonomous.ports.format import RangeReader

READERS: tuple[str, ...] = (
    "hartonomous.media.pdf:PDF",
    "hartonomous.media.office:WORD",
    "hartonomous.media.office:SLIDES",
    "hartonomous.media.office:SHEETS",
    "hartonomous.media.open_document:OPEN_DOCUMENT",
    "hartonomous.media.epub:EPUB",
    "hartonomous.media.notebook:NOTEBOOK",
    "hartonomous.media.json_text:JSON_TEXT",
    "hartonomous.media.tabular:TABULAR",
    "hartonomous.media.html:HTML_PAGE",
    "hartonomous.media.markdown:MARKDOWN_TEXT",
    "hartonomous.media.source_code:SOURCE_CODE",
    "hartonomous.media.plain_text:PLAIN_TEXT",
    "hartonomous.media.plain_text:UNNAMED_TEXT",
)
"""Every reader as ``module:attribute``, in the order in which they are asked."""

RECIPE = "documents-3.3.3.4.5.4.2.3.2.3.2.2.3.1"
"""The recipes of the readers, in their order; what was read by others is read again.

Said here because nothing of a reader is imported outside the limited process.
"""

HEAD_BYTES = 4096


def read(reader: RangeReader, path: str, *, formats: Sequence[str] = READERS) -> Document:
    """Return the text that the first reader takes which matches the file.

    ``path`` is the file's path inside its artifact. A reader that matches and then refuses the file
    leaves a notice, and no other is asked: its bytes would only look like text.
    """
    head = reader.read(0, min(reader.size, HEAD_BYTES))
    candidate: DocumentReader
    for candidate in map(load, formats):
        if not candidate.matches(path, head):
            continue
        try:
            return candidate.read(reader)
        except ModuleNotFoundError:
            extra = candidate.extra
            text = f"its text is not read: pip install 'hartonomous[{extra}]'"
            return Document(kind="file", notices=(Notice(kind="extra", text=text),))
        except StructureError as error:
            text = f"not read as {candidate.name}: {error.message}"
            return Document(kind="file", notices=(Notice(kind=error.kind, text=text),))
    if named_as_document(path) and not looks_like_text(head):
        text = "its text is not read: it is not what its name says"
        return Document(kind="file", notices=(Notice(kind="structure", text=text),))
    return Document(kind="file")
