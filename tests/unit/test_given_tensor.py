"""Tensors that people give: their bytes in C order, little-endian, however they lie in memory."""

import tracemalloc

import ml_dtypes
import numpy as np
import pytest

from hartonomous.core.given_tensor import given_tensor

NUMBERS = np.arange(7 * 5 * 3)


@pytest.mark.parametrize("dtype", ["<f4", ">f4", ">i2", "u1", "<c16", ml_dtypes.bfloat16])
@pytest.mark.parametrize(
    "laid",
    [
        lambda array: array,
        lambda array: array.T,
        lambda array: array[::2, ::-1],
        lambda array: array[:, 1:3],
        lambda array: np.broadcast_to(array[:1], array.shape),
        lambda array: array[3, 2, 1],
        lambda array: array[:0].T,
    ],
)
def test_any_range_of_any_layout(dtype, laid):
    array = np.asarray(laid(NUMBERS.astype(dtype).reshape(7, 5, 3)))
    expected = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<")).tobytes()
    found = given_tensor("x", array).view()
    assert len(found) == len(expected) == array.nbytes
    for start, stop in ((0, len(expected)), (1, 2), (3, 41), (7, 8), (5, 5)):
        assert bytes(found[start:stop]) == expected[start:stop]


@pytest.mark.parametrize("laid", [lambda array: array.T, lambda array: array.astype(">f4")])
def test_what_does_not_lie_in_order_is_never_copied_whole(laid):
    given = given_tensor("x", laid(np.zeros((1500, 1000), np.float32)))
    tracemalloc.start()
    try:
        view = given.view()
        for start in range(0, len(view), 1 << 16):
            assert not any(view[start : start + (1 << 16)])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < len(view) // 8
