"""Codings: how a tensor lies in a file that compresses it or spells its elements as varints.

A coded tensor is no range of plain elements: its bytes stay as they lie, are shared with no other
file, and are decoded when they are read. Pure; every length is bounded before memory is taken.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from hartonomous.core.varint import VarintDecoder
from hartonomous.errors import StructureError

DEFLATE: Final = "deflate"
VARINT: Final = "varint"

PIECE_BYTES = 1 << 20
"""At most so many decoded bytes come at once."""

_LONGEST = {DEFLATE: 1032, VARINT: 8}
"""Decoded bytes that one coded byte gives at most: zlib's own bound, and eight of a varint."""


class Coding(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What a range of a file decodes to: ``length`` bytes, the tensor's, behind ``skip`` others.

    ``method`` is ``deflate`` (RFC 1951, without a header, as zip files have it) or ``varint``
    (base 128, as protobuf packs integers; each becomes one element, cut to the type's width).
    """

    method: str
    length: int
    skip: int = 0


def check_coding(coding: Coding, coded_bytes: int) -> None:
    """Raise StructureError if the method is unknown or so few bytes cannot decode to so many."""
    longest = _LONGEST.get(coding.method)
    if longest is None:
        raise StructureError(
            f"the coding {coding.method[:40]!a} of a tensor is unknown",
            hint="a newer version of the program may read it; the file itself is whole",
        )
    if coding.skip < 0 or not 0 <= coding.length <= longest * coded_bytes - coding.skip:
        raise StructureError(
            f"{coded_bytes} bytes under {coding.method} cannot decode to {coding.skip} and "
            f"{coding.length} more"
        )


def decoded(chunks: Iterable[bytes | memoryview], coding: Coding, dtype: str) -> Iterator[bytes]:
    """Yield the tensor's bytes, ``coding.length`` in all; ``chunks`` are the coded ones in order.

    Stops reading as soon as it has them. Raises StructureError when what the chunks hold is
    something else, or less.
    """
    skip, left = coding.skip, coding.length
    pieces = _inflated(chunks) if coding.method == DEFLATE else _spelled(chunks, dtype, left)
    for piece in pieces:
        if skip >= len(piece):
            skip -= len(piece)
            continue
        part = piece[skip : skip + left]
        skip = 0
        left -= len(part)
        if part:
            yield part
        if not left:
            return
    if left:
        raise StructureError(
            f"what lies under {coding.method} is {left} bytes shorter than the tensor",
            hint="the file is kept as it was; its own program may tell what is wrong with it",
        )


def _inflated(chunks: Iterable[bytes | memoryview]) -> Iterator[bytes]:
    machine = zlib.decompressobj(-zlib.MAX_WBITS)
    for chunk in chunks:
        waiting: bytes | memoryview = chunk
        while not machine.eof:
            try:
                piece = machine.decompress(waiting, PIECE_BYTES)
            except zlib.error as error:
                raise StructureError(f"a tensor cannot be inflated: {error}") from error
            if piece:
                yield piece
            elif not machine.unconsumed_tail:
                break  # a full piece may leave more behind even where all the input is taken
            waiting = machine.unconsumed_tail
        if machine.eof:
            return


def _spelled(chunks: Iterable[bytes | memoryview], dtype: str, length: int) -> Iterator[bytes]:
    decoder = VarintDecoder(dtype)
    for chunk in chunks:
        for start in range(0, len(chunk), PIECE_BYTES // 8):
            piece = decoder.decode(bytes(chunk[start : start + PIECE_BYTES // 8]))
            length -= len(piece)
            if length < 0:
                raise StructureError("a tensor is spelled with more varints than it has elements")
            yield piece
    decoder.finish()
