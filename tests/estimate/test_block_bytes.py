"""Values of quantised tensors read by the bytes that they need, beside whole blocks."""

import numpy as np
import pytest

from hartonomous.core.block_bytes import needed_bytes, sparse_values, value_bytes
from hartonomous.core.dtype import DTYPES
from hartonomous.core.elements import element_values, ranges_of, types_with_values

QUANTISED = [one for one in types_with_values() if DTYPES[one].block_elements > 1]
COUNT = 64


@pytest.mark.parametrize("dtype", QUANTISED)
def test_the_needed_bytes_give_the_values_of_whole_blocks(dtype):
    known = DTYPES[dtype]
    content = np.random.default_rng(7).bytes(COUNT * known.block_bytes)
    elements = np.random.default_rng(8).integers(0, COUNT * known.block_elements, 500)
    read = []

    def read_range(offset, length):
        read.append(length)
        return content[offset : offset + length]

    found = sparse_values(read_range, dtype)(elements)
    wanted = element_values(ranges_of(content), dtype, elements)
    assert np.array_equal(found.view(np.uint32), wanted.view(np.uint32))
    assert sum(read) <= 1.2 * len(elements) * value_bytes(dtype)


def test_a_value_needs_its_code_and_its_scales():
    assert needed_bytes("Q8_0")[3].nonzero()[0].tolist() == [0, 1, 5]
    assert value_bytes("Q8_0") == 3
    assert value_bytes("Q4_K") < 12
    assert value_bytes("F32") == 4
