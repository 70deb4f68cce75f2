"""Bytes of a text file as characters: by its mark, as strict UTF-8, else by a guess."""

import codecs
import re

from hartonomous.core.description import Notice
from hartonomous.core.document import TEXT_LIMIT_CHARS
from hartonomous.errors import LimitError, StructureError
from hartonomous.ports.format import RangeReader

_READ_BYTES = 8 << 20
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
# Control characters that no text has; form feeds and escapes of terminals do occur.
_BINARY = re.compile(rb"[\x00-\x06\x0e-\x1a\x7f]")


def looks_like_text(head: bytes) -> bool:
    """Say whether a file that begins so may be text."""
    if any(head.startswith(mark) for mark, _ in _MARKS):
        return True
    return not _BINARY.search(head)


def read_whole(reader: RangeReader, *, limit: int = TEXT_LIMIT_CHARS) -> bytes:
    """Return all bytes of a file; raises LimitError where there are more than ``limit``."""
    if reader.size > limit:
        raise LimitError(f"it has {reader.size:,} bytes, and {limit:,} are read as text")
    return b"".join(
        reader.read(at, min(_READ_BYTES, reader.size - at))
        for at in range(0, reader.size, _READ_BYTES)
    )


def decode(content: bytes) -> tuple[str, tuple[Notice, ...]]:
    """Return a file's text with single line feeds, and a notice where the encoding was guessed."""
    for mark, name in _MARKS:
        if content.startswith(mark):
            return _lines(_strict(content[len(mark) :], name)), ()
    try:
        return _lines(content.decode("utf-8")), ()
    except UnicodeDecodeError as error:
        text = f"no UTF-8 at byte {error.start}: taken as Windows-1252, a guess"
        guess = content.decode("cp1252", errors="replace")
        return _lines(guess), (Notice(kind="encoding", text=text),)


def _strict(content: bytes, name: str) -> str:
    try:
        return content.decode(name)
    except UnicodeDecodeError as error:
        raise StructureError(f"its mark says {name}, its bytes at {error.start} do not") from error


def _lines(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_text(reader: RangeReader) -> tuple[str, tuple[Notice, ...]]:
    """Return a whole file's text; raises StructureError where it is none, LimitError."""
    content = read_whole(reader)
    text, notices = decode(content)
    if "\0" in text:
        raise StructureError("it is no text: it holds zero bytes")
    return text, notices
