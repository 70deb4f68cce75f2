"""Strides against numpy's own, and views that reach outside of their bytes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hartonomous.core.array import as_strided_array
from hartonomous.core.strides import c_order, is_c_order, span
from hartonomous.errors import LimitError, StructureError

SHAPES = st.lists(st.integers(0, 4), max_size=4).map(tuple)
STRIDED = SHAPES.flatmap(
    lambda shape: st.tuples(
        st.just(shape), st.tuples(*(st.integers(0, 20) for _ in shape)) | st.just(c_order(shape))
    )
)


@given(SHAPES)
def test_c_order_is_numpys(shape):
    strides = c_order(shape)
    array = np.empty(shape, np.uint8)
    assert is_c_order(shape, strides)
    assert span(shape, strides) == array.size
    if array.size:
        assert strides == tuple(array.strides)


@given(STRIDED)
def test_views_are_numpys(strided):
    shape, strides = strided
    content = np.arange(300, dtype="<i4")
    view = np.lib.stride_tricks.as_strided(content, shape, [4 * step for step in strides])
    assert is_c_order(shape, strides) == view.flags.c_contiguous
    found = as_strided_array(content.tobytes(), "I32", shape, strides)
    assert np.array_equal(found, view)
    assert found.flags.c_contiguous
    if view.size:
        assert span(shape, strides) == view.max() + 1
        cut = content.tobytes()[: 4 * span(shape, strides)]
        assert np.array_equal(as_strided_array(cut, "I32", shape, strides), view)
        with pytest.raises(StructureError):
            as_strided_array(cut[:-1], "I32", shape, strides)


@pytest.mark.parametrize(
    ("shape", "strides"),
    [((2,), (-1,)), ((2,), ()), ((2,), (2**62,)), ((2**62,), (1,)), ((3,), (5,))],
)
def test_views_that_leave_their_bytes_are_refused(shape, strides):
    with pytest.raises(StructureError):
        as_strided_array(bytes(40), "F32", shape, strides)


def test_types_without_elements_and_endless_repetition_are_refused():
    with pytest.raises(StructureError):
        as_strided_array(bytes(40), "Q8_0", (2,), (1,))
    with pytest.raises(LimitError):
        as_strided_array(bytes(40), "F32", (2**60,), (0,))
