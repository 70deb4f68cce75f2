"""Bytes of a text file as characters: by its mark, as strict UTF-8, else by a guess.

Of a file that is too long the beginning is read, and a notice says so.
"""

import codecs
import contextlib
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


def read_beginning(reader: RangeReader) -> tuple[bytes, tuple[Notice, ...]]:
    """Return the bytes of a file, or the first 32 MiB of it and a notice that says so."""
    size = min(reader.size, TEXT_LIMIT_CHARS)
    content = b"".join(
        reader.read(at, min(_READ_BYTES, size - at)) for at in range(0, size, _READ_BYTES)
    )
    if size == reader.size:
        return content, ()
    text = f"of its {reader.size:,} bytes only the first {size:,} are searched"
    return content, (Notice(kind="limit", text=text),)


def decode(content: bytes, *, whole: bool = True) -> tuple[str, tuple[Notice, ...]]:
    """Return a file's text with single line feeds, and a notice where the encoding was guessed.

    Unless ``whole`` the last character may be there in part, and is left out then; of a file that
    has a mark, is left out with a notice otherwise.
    """
    for mark, name in _MARKS:
        if content.startswith(mark):
            text, notices = _marked(content, len(mark), name, whole=whole)
            return with_line_feeds(text), notices
    try:
        return with_line_feeds(decode_as(content, "utf-8", whole=whole)), ()
    except UnicodeDecodeError as error:
        text = f"no UTF-8 at byte {error.start}: taken as Windows-1252, a guess"
        guess = content.decode("cp1252", errors="replace")
        return with_line_feeds(guess), (Notice(kind="encoding", text=text),)


def decode_as(content: bytes, name: str, *, whole: bool) -> str:
    """Return bytes as characters of an encoding; raises UnicodeError, LookupError."""
    if whole:
        return content.decode(name)
    "".encode(name)  # refuses what is no encoding of text, such as zlib; the next line does not
    return codecs.getincrementaldecoder(name)().decode(content)


def _marked(content: bytes, mark: int, name: str, *, whole: bool) -> tuple[str, tuple[Notice, ...]]:
    """Return what stands behind a mark of ``mark`` bytes; raises StructureError."""
    content = content[mark:]
    try:
        return decode_as(content, name, whole=whole), ()
    except UnicodeDecodeError as error:
        with contextlib.suppress(UnicodeDecodeError):
            if text := decode_as(content, name, whole=False):
                told = f"no whole {name} at byte {mark + error.start}: the end is left out"
                return text, (Notice(kind=StructureError.kind, text=told),)
        raise StructureError(f"its mark says {name}, its bytes at {error.start} do not") from error


def with_line_feeds(text: str) -> str:
    """Return a text whose lines end alike."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_text(reader: RangeReader) -> tuple[str, tuple[Notice, ...]]:
    """Return a file's text, or its beginning; raises StructureError where it is none."""
    content, cut = read_beginning(reader)
    text, notices = decode(content, whole=not cut)
    if "\0" in text:
        raise StructureError("it is no text: it holds zero bytes")
    return text, (*cut, *notices)


def read_whole_text(reader: RangeReader) -> tuple[str, tuple[Notice, ...]]:
    """Return a file's text, of which a part is worth nothing; raises StructureError, LimitError."""
    if reader.size > TEXT_LIMIT_CHARS:
        raise LimitError(f"it has {reader.size:,} bytes, and {TEXT_LIMIT_CHARS:,} are read as one")
    return read_text(reader)
