"""Layouts: how the elements of each type are cut into fields, for ``Encoding.FIELDS``.

A layout stands in every frame, so a reader needs none of this; a better cut is no new recipe.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from hartonomous.core.dtype import DTYPES

MAX_FIELDS = 16
MAX_ELEMENT_BYTES = 4096
DESCRIPTION_BYTES = 3

_ROTATED = 0x10


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """``words`` words of ``width`` bytes (1, 2, 4 or 8, little-endian) in a row.

    ``rotated`` words are turned left by one bit first, which makes the exponent of a float stand at
    the top and its sign at the bottom.
    """

    width: int
    words: int = 1
    rotated: bool = False

    @property
    def byte_count(self) -> int:
        """Bytes of the field in one element."""
        return self.width * self.words

    def encode(self) -> bytes:
        """Return the description: a byte of width and turn, two of the number of words."""
        return bytes([self.width | _ROTATED * self.rotated]) + self.words.to_bytes(2, "little")


@dataclass(frozen=True, slots=True)
class Layout:
    """The fields that partition an element, in order."""

    fields: tuple[Field, ...]

    @property
    def element_bytes(self) -> int:
        """Bytes of one element."""
        return sum(field.byte_count for field in self.fields)

    def encode(self) -> bytes:
        """Return the descriptions of all fields."""
        return b"".join(field.encode() for field in self.fields)

    def lead(self, position: int) -> int:
        """Return how many bytes from ``position`` of a tensor on belong to an element before."""
        return -position % self.element_bytes


def decode_layout(descriptions: bytes) -> Layout:
    """Return the layout that a frame declares; raises ValueError where it is none."""
    count, rest = divmod(len(descriptions), DESCRIPTION_BYTES)
    if rest or not 0 < count <= MAX_FIELDS:
        raise ValueError("the field descriptions make no layout")
    layout = Layout(tuple(_field(descriptions[3 * k : 3 * k + 3]) for k in range(count)))
    if layout.element_bytes > MAX_ELEMENT_BYTES:
        raise ValueError("the layout's elements are too large")
    return layout


def _field(description: bytes) -> Field:
    width, words = description[0] & 15, int.from_bytes(description[1:], "little")
    rotated = bool(description[0] & _ROTATED)
    known = description[0] in (width, width | _ROTATED) and width in (1, 2, 4, 8)
    if not known or not words or (rotated and width == 1):
        raise ValueError("a field's description is unknown")
    return Field(width=width, words=words, rotated=rotated)


def _floats(width: int, words: int = 1) -> Field:
    return Field(width=width, words=words, rotated=True)


def _bytes(count: int) -> Field:
    return Field(width=1, words=count)


_WORD = Field(width=2)

_PLAIN: dict[str, Field] = {
    "F64": _floats(8), "F32": _floats(4), "F16": _floats(2), "BF16": _floats(2),
    "C64": _floats(4), "C128": _floats(8),
    "I64": Field(width=8), "U64": Field(width=8), "I32": Field(width=4), "U32": Field(width=4),
    "I16": _WORD, "U16": _WORD,
}  # fmt: skip

# The members of ggml's block structures (ggml-common.h), in order; scales are f16 but for Q8_K's.
_D = _floats(2)
_BLOCKS: dict[str, tuple[Field, ...]] = {
    "Q4_0": (_D, _bytes(16)),
    "Q4_1": (_D, _D, _bytes(16)),
    "Q5_0": (_D, _bytes(4), _bytes(16)),
    "Q5_1": (_D, _D, _bytes(4), _bytes(16)),
    "Q8_0": (_D, _bytes(32)),
    "Q8_1": (_D, _D, _bytes(32)),
    "Q2_K": (_bytes(16), _bytes(64), _D, _D),
    "Q3_K": (_bytes(32), _bytes(64), _bytes(12), _D),
    "Q4_K": (_D, _D, _bytes(12), _bytes(128)),
    "Q5_K": (_D, _D, _bytes(12), _bytes(32), _bytes(128)),
    "Q6_K": (_bytes(128), _bytes(64), _bytes(16), _D),
    "Q8_K": (_floats(4), _bytes(256), Field(width=2, words=16)),
    "IQ2_XXS": (_D, _bytes(64)),
    "IQ2_XS": (_D, _bytes(64), _bytes(8)),
    "IQ2_S": (_D, _bytes(64), _bytes(8), _bytes(8)),
    "IQ3_XXS": (_D, _bytes(64), _bytes(32)),
    "IQ3_S": (_D, _bytes(64), _bytes(8), _bytes(32), _bytes(4)),
    "IQ1_S": (_D, _bytes(32), _bytes(16)),
    "IQ1_M": (_bytes(32), _bytes(16), _bytes(8)),
    "IQ4_NL": (_D, _bytes(16)),
    "IQ4_XS": (_D, _WORD, _bytes(4), _bytes(128)),
    "TQ1_0": (_bytes(48), _bytes(4), _D),
    "TQ2_0": (_bytes(64), _D),
    "MXFP4": (_bytes(1), _bytes(16)),
    "NVFP4": (_bytes(4), _bytes(32)),
    "Q1_0": (_D, _bytes(16)),
}


def _table() -> Iterable[tuple[str, Layout]]:
    for name, dtype in DTYPES.items():
        if name in _PLAIN:
            yield name, Layout((_PLAIN[name],))
        elif name in _BLOCKS:
            yield name, Layout(_BLOCKS[name])
        elif dtype.kind != "quantised":  # one byte, or packed elements that begin at any bit
            yield name, Layout((_bytes(1),))


LAYOUTS: dict[str, Layout] = dict(_table())
"""The layout of each element type that has one, by the type's name."""
