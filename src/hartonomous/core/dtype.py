"""Element types of tensors: one table of names, block sizes and ggml numbers.

Names are those of safetensors (``F32``, ``BF16``, ``F8_E4M3`` …) and of ggml (``Q4_K`` …).
A type stores ``block_elements`` elements in ``block_bytes`` bytes; plain types have blocks of one.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class DType:
    """How one block of elements lies in memory (little-endian)."""

    name: str
    block_elements: int
    block_bytes: int
    kind: str  # float, integer, boolean, complex, quantised

    def byte_count(self, element_count: int) -> int | None:
        """Return the bytes of ``element_count`` elements, or None if they fill no whole block."""
        blocks, rest = divmod(element_count, self.block_elements)
        return None if rest else blocks * self.block_bytes


_PLAIN = [
    ("F64", 8, "float"), ("F32", 4, "float"), ("F16", 2, "float"), ("BF16", 2, "float"),
    ("F8_E4M3", 1, "float"), ("F8_E5M2", 1, "float"), ("F8_E8M0", 1, "float"),
    ("F8_E4M3FNUZ", 1, "float"), ("F8_E5M2FNUZ", 1, "float"),
    ("I64", 8, "integer"), ("I32", 4, "integer"), ("I16", 2, "integer"), ("I8", 1, "integer"),
    ("U64", 8, "integer"), ("U32", 4, "integer"), ("U16", 2, "integer"), ("U8", 1, "integer"),
    ("BOOL", 1, "boolean"), ("C64", 8, "complex"), ("C128", 16, "complex"),
]  # fmt: skip

# F4 and F6 of safetensors are packed: two elements a byte, four elements in three bytes.
_PACKED = [("F4", 2, 1), ("F6_E2M3", 4, 3), ("F6_E3M2", 4, 3)]

# ggml-common.h: (number, name, elements a block, bytes a block)
GGML_TYPES: dict[int, tuple[str, int, int]] = {
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22), 7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34), 9: ("Q8_1", 32, 36),
    10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110), 12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210), 15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66), 17: ("IQ2_XS", 256, 74), 18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50), 20: ("IQ4_NL", 32, 18), 21: ("IQ3_S", 256, 110),
    22: ("IQ2_S", 256, 82), 23: ("IQ4_XS", 256, 136), 24: ("I8", 1, 1), 25: ("I16", 1, 2),
    26: ("I32", 1, 4), 27: ("I64", 1, 8), 28: ("F64", 1, 8), 29: ("IQ1_M", 256, 56),
    30: ("BF16", 1, 2), 34: ("TQ1_0", 256, 54), 35: ("TQ2_0", 256, 66), 39: ("MXFP4", 32, 17),
    40: ("NVFP4", 64, 36), 41: ("Q1_0", 128, 18),
}  # fmt: skip


def _table() -> dict[str, DType]:
    table = {
        name: DType(name=name, block_elements=1, block_bytes=size, kind=kind)
        for name, size, kind in _PLAIN
    }
    for name, elements, size in _PACKED:
        table[name] = DType(name=name, block_elements=elements, block_bytes=size, kind="float")
    for name, elements, size in GGML_TYPES.values():
        if name not in table:
            table[name] = DType(
                name=name, block_elements=elements, block_bytes=size, kind="quantised"
            )
    return table


DTYPES: dict[str, DType] = _table()
"""Every element type that Hartonomous knows the size of, by name."""
