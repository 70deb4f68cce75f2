"""Strides: how far apart in memory the neighbours along each axis of a tensor lie, in elements.

A tensor in C order needs none: its last axis has stride 1 and each other one steps over all that
is inside it. Transposed, sliced and broadcast views have others.
"""

from collections.abc import Sequence


def c_order(shape: Sequence[int]) -> tuple[int, ...]:
    """Return the strides of a tensor of this shape whose elements lie in C order."""
    strides = []
    step = 1
    for extent in reversed(shape):
        strides.append(step)
        step *= max(extent, 1)
    return tuple(reversed(strides))


def is_c_order(shape: Sequence[int], strides: Sequence[int]) -> bool:
    """Say whether elements lie in C order without gaps; axes of one element may say anything."""
    if 0 in shape:
        return True
    step = 1
    for extent, stride in zip(reversed(shape), reversed(strides), strict=True):
        if extent != 1:
            if stride != step:
                return False
            step *= extent
    return True


def span(shape: Sequence[int], strides: Sequence[int]) -> int:
    """Return how many elements lie from the first to the last one, both included; 0 if empty."""
    if 0 in shape:
        return 0
    return 1 + sum((extent - 1) * stride for extent, stride in zip(shape, strides, strict=True))
