"""Numbers and texts of pickles, from their bytes; belongs to ``formats/inert_pickle.py``."""

import codecs
from typing import NoReturn

from hartonomous.errors import LimitError, StructureError

INTEGER_LIMIT_BYTES = 1_024
DECIMAL_LIMIT_CHARS = 64


def refuse(reason: str) -> NoReturn:
    """Raise StructureError: the opcodes contradict each other."""
    raise StructureError(f"the pickle is not well-formed: {reason}")


def utf8(content: bytes) -> str:
    """Return UTF-8 as text; lone surrogates pass, as Python writes them."""
    try:
        return content.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError as error:
        raise StructureError("a text of the pickle is not UTF-8") from error


def binary_integer(content: bytes) -> int:
    """Return a little-endian two's complement integer of any length up to the limit."""
    if len(content) > INTEGER_LIMIT_BYTES:
        raise LimitError(f"an integer of {len(content)} bytes in the pickle")
    return int.from_bytes(content, "little", signed=True)


def decimal_integer(line: bytes) -> int:
    """Return the integer of a line of text."""
    text = line.removesuffix(b"L")
    if len(text) > DECIMAL_LIMIT_CHARS:
        raise LimitError(f"an integer of the pickle has more than {DECIMAL_LIMIT_CHARS} digits")
    try:
        return int(text, 0)
    except ValueError as error:
        raise StructureError("an integer of the pickle cannot be read") from error


def decimal_or_bool(line: bytes) -> int:
    """Return the integer of a line; 00 and 01 are protocol 0's booleans."""
    return line == b"01" if line in (b"00", b"01") else decimal_integer(line)


def decimal_float(line: bytes) -> float:
    """Return the number of a line of text."""
    try:
        return float(line)
    except ValueError as error:
        raise StructureError("a number of the pickle cannot be read") from error


def memo_index(line: bytes) -> int:
    """Return the number of a memo's entry."""
    found = decimal_integer(line)
    if found < 0:
        refuse("an index of the memo is negative")
    return found


def quoted_text(line: bytes) -> str:
    """Return a string in Python 2's quotes and escapes."""
    if len(line) < 2 or line[:1] != line[-1:] or line[:1] not in (b"'", b'"'):
        refuse("a string lacks its quotes")
    try:
        found = codecs.escape_decode(line[1:-1])[0]
    except ValueError as error:
        raise StructureError("a string of the pickle has a wrong escape") from error
    return old_text(found)


def old_text(content: bytes) -> str:
    """Return Python 2's str as text: ASCII, or bytes that Latin-1 gives back."""
    return content.decode("latin-1")


def escaped_text(line: bytes) -> str:
    """Return text in raw-unicode-escape."""
    try:
        # The C function itself: looking the codec up by name would import a module.
        return codecs.raw_unicode_escape_decode(line)[0]
    except UnicodeDecodeError as error:
        raise StructureError("a text of the pickle has a wrong escape") from error
