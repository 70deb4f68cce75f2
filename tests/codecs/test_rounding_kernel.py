"""Scales by fit and rounded codes: the C kernel and numpy give the same bits for anything."""

import numpy as np
import pytest

from hartonomous.codecs import kernel
from hartonomous.codecs.kernel import NUMPY
from hartonomous.codecs.rounding_reference import GROUP_BYTES, TYPES, Grid

NATIVE = [name for name in kernel.available() if name != NUMPY]
REFERENCE = kernel.of_name(NUMPY)
GRIDS = [
    Grid(),
    Grid(columns=384, block_rows=1),
    Grid(columns=384, block_columns=1),
    Grid(columns=384, block_rows=128, block_columns=128),
    Grid(columns=100, block_rows=3, block_columns=7),
    Grid(columns=1, block_rows=2),
    Grid(columns=50_000, block_columns=9),
]
needs_kernel = pytest.mark.skipif(not NATIVE, reason="there is no C kernel here")


def floats(kind, count, seed):
    random = np.random.default_rng(seed)
    if kind == "weights":
        return (random.standard_normal(count) * random.choice([1e-3, 0.05, 4], count)).astype("<f4")
    bits = random.integers(0, 1 << 32, count, dtype=np.uint32)
    special = np.array([0, 1 << 31, 0x7F800000, 0xFF800000, 0x7FC00001, 1, 0x7F7FFFFF], np.uint32)
    chosen = random.random(count) < 0.2
    bits[chosen] = random.choice(special, int(chosen.sum()))
    return bits.view("<f4")


def codes_of(dtype, kind, values, seed):
    """Codes that values were rounded to by some scale, or any."""
    random = np.random.default_rng(seed)
    if kind == "strange":
        return random.integers(0, 256, len(values), dtype=np.uint8)
    table = np.zeros(GROUP_BYTES, np.uint8)
    table[:4] = np.frombuffer(np.float32(0.004).tobytes(), np.uint8)
    table[4] = 0 if dtype.startswith("F8") else 17
    out = np.empty(len(values), np.uint8)
    REFERENCE.round_values(dtype, table, values, 0, Grid(), None, out)
    return out


@needs_kernel
@pytest.mark.parametrize("name", NATIVE)
@pytest.mark.parametrize("dtype", sorted(TYPES))
@pytest.mark.parametrize("kind", ["weights", "strange"])
@pytest.mark.parametrize("grid", GRIDS, ids=lambda one: "-".join(map(str, one.numbers)))
def test_scales_and_codes_are_those_of_numpy(name, dtype, kind, grid):
    chosen = kernel.of_name(name)
    for seed, (position, count) in enumerate([(0, 6000), (777, 4999), (130_000, 2500)]):
        if grid.count(position, count) > count:
            continue
        values = floats(kind, count, seed)
        content = codes_of(dtype, kind, values, seed)
        expected = REFERENCE.fit_rounded(dtype, content, values, position, grid)
        table = chosen.fit_rounded(dtype, content, values, position, grid)
        assert table.tobytes() == expected.tobytes()
        residual = np.random.default_rng(seed).integers(0, 256, count, dtype=np.uint8)
        for scales in (table, np.resize(residual, len(table))):
            for added in (None, residual):
                outs = [np.zeros(count, np.uint8) for _ in range(2)]
                for one, out in zip((REFERENCE, chosen), outs, strict=True):
                    one.round_values(dtype, scales, values, position, grid, added, out)
                assert outs[0].tobytes() == outs[1].tobytes()


@needs_kernel
@pytest.mark.parametrize("name", NATIVE)
def test_arrays_of_other_sizes_are_refused(name):
    native = kernel.of_name(name).native
    values, codes, table = np.zeros(8, "<f4"), np.zeros(8, np.uint8), np.zeros(5, np.uint8)
    native.round_values(1, True, 0, 0, 0, 0, table, values, None, codes)
    for number, columns, arrays in (
        (1, 0, (table[:4], values, None, codes)),
        (1, 0, (table, values[:7], None, codes)),
        (1, 0, (table, values, codes[:7], codes)),
        (1, 1 << 48, (table, values, None, codes)),
        (9, 0, (table, values, None, codes)),
    ):
        with pytest.raises(ValueError, match=r"bytes where|more scales"):
            native.round_values(number, True, 0, columns, 0, 0, *arrays)
    with pytest.raises(
        ValueError, match="more scales"
    ):  # a scale for each of 9 columns, 8 elements
        native.round_values(1, True, 0, 9, 0, 1, np.zeros(45, np.uint8), values, None, codes)
    with pytest.raises(ValueError, match="sizes has"):
        native.fit_rounded(1, True, 0, 0, 0, 0, codes, values, values, values, values, table)
