"""Targets of plans and codecs, each decoded by everything that can: numpy, C, and rescue.py.

What one of them refuses all refuse, and what one decodes all decode to the same bytes.
"""

import contextlib
import json
import os
import struct
from collections.abc import Callable, Iterator
from typing import Final

import numpy as np

from hartonomous.codecs import kernel, quantised, rounding_reference
from hartonomous.codecs.delta import DeltaCodec
from hartonomous.codecs.fields import FieldsCodec
from hartonomous.codecs.prediction import predict
from hartonomous.codecs.quantised_blocks import SHAPES
from hartonomous.core import plan as plans
from hartonomous.errors import DecodeError, HartonomousError
from hartonomous.packs import rescue

FRAME_BYTES = 4096
"""Decoded bytes of a frame at most: an input says how many, in two bytes."""
DELTA_TYPES: Final = ("BF16", "F16", "F32")
QUANTISED_TYPES: Final = (*sorted(SHAPES), *sorted(rounding_reference.TYPES))
PLAN_BYTES = 1 << 18
"""Bytes of bases and of the target that a plan is carried out on, at most."""

Decode = Callable[[memoryview], None]


@contextlib.contextmanager
def path(name: str) -> Iterator[None]:
    """Let one implementation do the work."""
    before = os.environ.get(kernel.VARIABLE)
    os.environ[kernel.VARIABLE] = name
    try:
        yield
    finally:
        if before is None:
            del os.environ[kernel.VARIABLE]
        else:
            os.environ[kernel.VARIABLE] = before


def decoded(size: int, decode: Decode) -> bytes | None:
    """Return what every path makes of a frame, None where every path refuses it."""
    found = []
    for name in kernel.available():
        out = np.zeros(size, np.uint8)
        try:
            with path(name):
                decode(out.data)
        except DecodeError:
            found.append(None)
            continue
        found.append(out.tobytes())
    assert all(one == found[0] for one in found), "the paths differ"
    return found[0]


def by_rescue(decode: Callable[[], bytes]) -> bytes | None:
    """Return what rescue.py makes of a frame, None where it refuses it."""
    try:
        return bytes(decode())
    except rescue.DamageError:
        return None


def fields(content: bytes) -> None:
    """Decode a frame of FIELDS: two bytes of size, then the payload."""
    size, payload = int.from_bytes(content[:2], "little") % (FRAME_BYTES + 1), content[2:]
    found = decoded(size, lambda out: FieldsCodec().decode_into(memoryview(payload), out, b""))

    def rescued() -> bytes:
        (frame,) = rescue.decode_fields([payload], [size])
        if isinstance(frame, rescue.DamageError):
            raise frame
        return bytes(frame)

    assert by_rescue(rescued) == found, "rescue.py differs"


def prediction_of(size: int) -> bytes:
    """Return bytes to take differences from: numbers, large and small, and whatever else."""
    return np.random.default_rng(size).integers(0, 256, size, np.uint8).tobytes()


def delta(content: bytes) -> None:
    """Decode a frame of DELTA: a byte of type, two of size, then the payload."""
    if len(content) < 3:
        return
    dtype = DELTA_TYPES[content[0] % len(DELTA_TYPES)]
    size, payload = int.from_bytes(content[1:3], "little") % (FRAME_BYTES + 1), content[3:]
    base = prediction_of(size)
    work = [memoryview(payload)], [memoryview(base)]
    found = decoded(size, lambda out: DeltaCodec().decode_many(*work, [out]))
    again = by_rescue(lambda: rescue.decode_delta(payload, base, dtype, size))
    # Rescue is told the type by the plan, and refuses a frame of another one.
    assert again is None or again == found, "rescue.py differs"


def source_of(count: int) -> "np.ndarray[tuple[int], np.dtype[np.float32]]":
    """Return the float32 source of a quantised frame."""
    i = np.arange(count)
    return (((7919 * i + 13) % 1021 - 510) * (1 + i // 16 % 5) / 4096).astype(np.float32)


def derived(content: bytes) -> None:
    """Decode a frame of DERIVED: a byte of type, two each of position and size, the payload."""
    if len(content) < 5:
        return
    dtype = QUANTISED_TYPES[content[0] % len(QUANTISED_TYPES)]
    position, size = struct.unpack_from("<HH", content, 1)
    size, payload = size % (FRAME_BYTES + 1), content[5:]
    codec = quantised.QuantisedCodec()
    first, stop = codec.window(dtype, position, size)
    source = source_of(stop - first)
    found = decoded(
        size,
        lambda out: codec.decode_many(
            [memoryview(payload)], [source], [out], dtype, positions=[position]
        ),
    )
    again = by_rescue(lambda: rescue.decode_quantised(payload, source, dtype, position, size))
    assert again == found, "rescue.py differs"


def plan(content: bytes) -> None:
    """Decode a plan and carry it out on bases of a few bytes, as rescue.py does."""
    try:
        found = plans.decode(content)
    except HartonomousError:
        _refused_by_rescue(content)
        return
    assert plans.decode(plans.encode(found)) == found
    size, needed = plans.target_bytes(found), plans.base_bytes(found)
    if size + sum(needed) > PLAN_BYTES:
        plans.windows(found, size // 3, size // 2)
        return
    bases = [prediction_of(count) for count in needed]
    for start, stop in ((0, size), (size // 3, size - size // 4), (size, size)):
        _predicted_alike(found, bases, start, stop)


def plan_made(content: bytes) -> None:
    """Carry out the plan that the bytes choose the parts of: most of them are nearly sound."""
    chosen = iter(content)

    def number(below: int) -> int:
        return next(chosen, 0) % below

    def shape() -> list[int]:
        return [number(9) for _ in range(number(4))]

    operands = [
        {"dtype": _TYPES[number(len(_TYPES))], "shape": shape(), "first": number(3) * number(40)}
        for _ in range(number(4))
    ]
    steps = []
    for _ in range(number(4)):
        name, fields_of = _STEPS[number(len(_STEPS))]
        steps.append({"step": name, **fields_of(number)})
    target = {"dtype": _TYPES[number(len(_TYPES))], "shape": shape()}
    plan(json.dumps({**target, "operands": operands, "steps": steps}).encode())


def _weights(number: Callable[[int], int]) -> list[float]:
    return [(number(256) - 128) / 16 for _ in range(number(4))]


_TYPES: Final = (*sorted(plans.COMPUTED | plans.WIDENED), *sorted(plans.DEQUANTISED), "I8", "X")
_FLOATS: Final = sorted(plans.COMPUTED)
_RULES: Final = sorted(plans.NAN_RULES)
_STEPS: Final[tuple[tuple[str, Callable[[Callable[[int], int]], dict[str, object]]], ...]] = (
    ("cast", lambda n: {"dtype": _FLOATS[n(4)], "nan": _RULES[n(len(_RULES))]}),
    ("transpose", lambda n: {"axes": [n(4) for _ in range(n(4))]}),
    ("permute_heads", lambda n: {"heads": n(5), "inverse": n(2) == 1}),
    ("rows", lambda n: {"first": n(5), "stop": n(9)}),
    ("append", lambda n: {"rows": n(5)}),
    ("dequantise", lambda _: {}),
    ("concatenate", lambda _: {}),
    (
        "linear",
        lambda n: {"weights": _weights(n), "dtype": _FLOATS[n(4)], "divisor": n(5) / 2},
    ),
    (
        "task_vectors",
        lambda n: {"weights": _weights(n), "dtype": _FLOATS[n(4)], "scale": n(5) / 2},
    ),
    (
        "low_rank",
        lambda n: {"scale": n(5) / 2, "dtype": _FLOATS[n(4)], "product": ("F64", "F32")[n(2)]},
    ),
)


def _predicted_alike(found: plans.Plan, bases: list[bytes], start: int, stop: int) -> None:
    windows = plans.windows(found, start, stop)
    parts = [memoryview(bases[one.operand])[one.start : one.stop] for one in windows]
    made = predict(found, start, stop, parts)
    told = rescue.Prediction(
        json.loads(plans.encode(found)), lambda k, low, high: bases[k][low:high]
    )
    if found.dtype in plans.FLOAT_TARGETS:
        assert made.nbytes == stop - start
        assert told.bytes_of(start, stop) == made.tobytes(), "rescue.py differs"
    elif start < stop:
        elements = plans.target_range(found, start, stop)
        assert told.elements(*elements).tobytes() == made.tobytes(), "rescue.py differs"


def _refused_by_rescue(content: bytes) -> None:
    """Let rescue.py open a plan that is unsound; it may find nothing wrong before it reads."""
    try:
        held = json.loads(content)
        str(held["dtype"]), len(held["operands"])
    except (ValueError, LookupError, TypeError, RecursionError):
        return
    with contextlib.suppress(rescue.DamageError):
        rescue.Prediction(held, lambda *_: b"")
