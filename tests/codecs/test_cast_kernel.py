"""Casts between float32 and 16 bits: the C kernel gives the bits of numpy, NaNs too."""

import numpy as np
import pytest

from hartonomous.codecs import kernel
from hartonomous.codecs.kernel import NUMPY
from hartonomous.core.casts import STORED, cast
from hartonomous.core.plan import NAN_RULES

NATIVE = [name for name in kernel.available() if name != NUMPY]
needs_kernel = pytest.mark.skipif(not NATIVE, reason="there is no C kernel here")


def edges():
    """Every float16 and bfloat16 as float32, what lies half between two, and their neighbours."""
    halves = np.arange(1 << 16, dtype=np.uint16).view("<f2").astype("<f4").view("<u4")
    upper = np.arange(1 << 16, dtype=np.uint32) << np.uint32(16)
    found = [halves, halves + np.uint32(1 << 12), upper, upper + np.uint32(1 << 15)]
    subnormal = (np.arange(1 << 12, dtype=np.float32) * np.float32(2.0**-26)).view("<u4")
    found += [subnormal, np.random.default_rng(1).integers(0, 1 << 32, 1 << 18, dtype=np.uint32)]
    base = np.concatenate(found)
    return np.concatenate([base - np.uint32(1), base, base + np.uint32(1)]).view("<f4")


@needs_kernel
@pytest.mark.parametrize("name", [*NATIVE, NUMPY])
@pytest.mark.parametrize("rule", sorted(NAN_RULES))
@pytest.mark.parametrize("target", ["F16", "BF16"])
def test_from_float32(name, rule, target):
    values = edges()
    made = kernel.of_name(name).cast(values, "F32", target, rule)
    assert made.dtype == STORED[target]
    assert made.tobytes() == cast(values, "F32", target, rule).tobytes()


@needs_kernel
@pytest.mark.parametrize("name", [*NATIVE, NUMPY])
@pytest.mark.parametrize("source", ["F16", "BF16"])
def test_to_float32(name, source):
    values = np.arange(1 << 16, dtype=np.uint16).view(STORED[source])
    made = kernel.of_name(name).cast(values, source, "F32")
    assert made.tobytes() == cast(values, source, "F32").tobytes()


@needs_kernel
@pytest.mark.parametrize("name", NATIVE)
def test_any_length_and_place(name):
    chosen, values = kernel.of_name(name), edges()
    for count in range(40):
        for source, target in (("F32", "F16"), ("F32", "BF16"), ("F16", "F32"), ("BF16", "F32")):
            part = values.view(STORED[source])[3 : 3 + count]
            assert (
                chosen.cast(part, source, target).tobytes() == cast(part, source, target).tobytes()
            )


@needs_kernel
@pytest.mark.parametrize("name", NATIVE)
def test_others_are_refused_or_left_to_numpy(name):
    chosen = kernel.of_name(name)
    values = np.arange(8, dtype="<f8")
    assert chosen.cast(values, "F64", "F16").tobytes() == cast(values, "F64", "F16").tobytes()
    out = np.zeros(8, "<u2")
    for number, rule, source in ((4, 0, out), (0, 5, out), (0, 0, np.zeros(9, "<f4"))):
        with pytest.raises(ValueError, match=r"unknown cast|target has"):
            chosen.native.cast_floats(number, rule, True, source, out)
