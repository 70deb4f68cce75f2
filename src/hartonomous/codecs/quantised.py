"""Codec of ``Encoding.DERIVED``, recipe 1: quantised tensors from a float source, exactly.

A frame keeps what the prediction from the source does not say: differences of scales, and of the
few codes that come out otherwise. Any source gives the bytes back; a wrong one only costs room. The
format is docs/format-quantised.md; ``quantised_recipes`` and the C kernel predict.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hartonomous.codecs import kernel, quantised_rounding
from hartonomous.codecs.layouts import LAYOUTS
from hartonomous.codecs.quantised_blocks import REFERENCE, SEARCHED, SHAPES, STORED, Shape
from hartonomous.codecs.quantised_payload import (
    BYTES,
    MAX_TABLE_BYTES,
    NOTHING,
    Payload,
    Section,
    decode_payload,
    decode_tables,
    encode_table,
)
from hartonomous.codecs.quantised_rounding import ROUNDED
from hartonomous.codecs.rounding_reference import TYPES, Grid
from hartonomous.core.dtype import DTYPES
from hartonomous.core.record import Encoding
from hartonomous.errors import DecodeError

Floats = NDArray[np.float32]

GROUP_BYTES = 2 << 20
"""Frames decoded at once hold about this many bytes; tables take up to four times as much."""

_PARAM_BYTES = {REFERENCE: 0, STORED: 0, SEARCHED: 0, ROUNDED: quantised_rounding.PARAM_BYTES}


def supported(dtype: str | None, *, smallest: bool = False) -> bool:
    """Say whether tensors of this type can be derived; ``smallest``: by the quantiser's search."""
    if smallest:
        return dtype in SHAPES and SEARCHED in SHAPES[dtype].recipes
    return dtype in SHAPES or dtype in TYPES


@dataclass(frozen=True, slots=True)
class _Cut:
    """Where the whole blocks of a frame lie: bytes before and behind them, number of elements."""

    lead: int
    tail: int
    elements: int


def _cut(dtype: str, position: int, length: int) -> _Cut:
    block = DTYPES[dtype].block_bytes
    lead = min(-position % block, length)
    count, tail = divmod(length - lead, block)
    return _Cut(lead, tail, count * DTYPES[dtype].block_elements)


class QuantisedCodec:
    """Frames of quantised tensors beside their source; holds no state."""

    encoding = Encoding.DERIVED
    recipe = 1

    def window(self, dtype: str, position: int, length: int) -> tuple[int, int]:
        """Return the elements [first, stop) of the source that a frame of a tensor needs.

        They are those of blocks that lie whole in the frame; ``position`` and ``length`` are bytes.
        """
        known = DTYPES[dtype]
        first = -(-position // known.block_bytes) * known.block_elements
        return first, first + _cut(dtype, position, length).elements

    def encode_many(
        self, frames: Sequence[memoryview], sources: Sequence[Floats], dtype: str, *,
        positions: Sequence[int], smallest: bool = False, grid: Grid | None = None,
    ) -> list[bytes | None]:  # fmt: skip
        """Return the payload of each frame, None where it is not under 0.8 of what FIELDS gives.

        ``sources`` are float32 of exactly the frames' windows. ``smallest`` also tries ggml's
        search, which is slow again when decoded. ``grid`` says which elements of an
        8-bit tensor share a scale; by default all of a frame. Raises ValueError where a source has
        another size.
        """
        return [
            self._encode(frame, source, dtype, position, smallest, grid)
            for frame, source, position in zip(frames, sources, positions, strict=True)
        ]

    def _encode(  # noqa: PLR0917 - arrays, as C takes them
        self, frame: memoryview, source: Floats, dtype: str, position: int,
        smallest: bool, grid: Grid | None,
    ) -> bytes | None:  # fmt: skip
        if not supported(dtype):
            return None
        where = _cut(dtype, position, frame.nbytes)
        values = _checked(source, where)
        if not 0 < where.elements <= MAX_TABLE_BYTES:
            return None
        content = np.frombuffer(frame, np.uint8)
        middle = content[where.lead : len(content) - where.tail]
        if dtype in SHAPES:
            made = _derive(SHAPES[dtype], middle, values, smallest)
        else:
            made = quantised_rounding.derive(dtype, middle, values, position, grid or Grid())
        payload = Payload(
            kind=made.kind, number=made.number, elements=where.elements, params=made.params,
            lead=content[: where.lead].tobytes(),
            tail=content[len(content) - where.tail :].tobytes(),
            header=made.header, residual=made.residual,
        ).encode()  # fmt: skip
        return payload if _pays(payload, frame, dtype, position) else None

    def decode_many(
        self, payloads: Sequence[memoryview], sources: Sequence[Floats],
        outs: Sequence[memoryview], dtype: str, *, positions: Sequence[int],
    ) -> None:  # fmt: skip
        """Fill each of ``outs``; all arguments as they were when the payloads were made.

        Raises DecodeError for the first damaged one; what its output holds is undefined. Raises
        ValueError where a source has another size than its frame's window.
        """
        if not supported(dtype):
            raise DecodeError(f"tensors of the type {dtype} are not derived")
        faults: list[str] = []
        work = list(zip(payloads, sources, outs, positions, strict=True))
        while work:
            size, count = work[0][2].nbytes, 1
            while count < len(work) and size + work[count][2].nbytes <= GROUP_BYTES:
                size, count = size + work[count][2].nbytes, count + 1
            faults += _decode_group(dtype, work[:count])
            del work[:count]
        if faults:
            raise DecodeError(f"a derived payload is damaged: {faults[0]}")

    def decode_part(  # noqa: PLR0917 - arrays, as C takes them
        self, payload: memoryview, source: Floats, out: memoryview, dtype: str,
        position: int, length: int, low: int,
    ) -> None:  # fmt: skip
        """Fill ``out`` with bytes of a frame of ggml's blocks from its byte ``low`` on.

        ``position`` and ``length`` are the frame's, ``source`` is of exactly the window of the
        blocks that ``part_blocks`` tells. Raises DecodeError, ValueError as ``decode_many`` does.
        """
        shape = SHAPES[dtype]
        where = _cut(dtype, position, length)
        first, stop = self.part_blocks(dtype, position, length, low, low + out.nbytes)
        values = _aligned(source)
        if len(values) != (stop - first) * shape.elements:
            raise ValueError(f"a source has {len(values)} elements for {stop - first} blocks")
        try:
            kept = _open(dtype, memoryview(payload).cast("B"), where)
            sizes = _table_sizes(dtype, kept, position)
        except ValueError as error:
            raise DecodeError(f"a derived payload is damaged: {error}") from error
        header, residual = decode_tables(
            list(zip((kept.header, kept.residual), sizes, strict=True))
        )
        if isinstance(header, str) or isinstance(residual, str):
            raise DecodeError(
                f"a derived payload is damaged: {header if isinstance(header, str) else residual}"
            )
        width = shape.layout.element_bytes
        blocks = np.empty((stop - first) * shape.byte_count, np.uint8)
        codes = residual[first * shape.elements : stop * shape.elements]
        kernel.active().join_blocks(
            shape, kept.kind, header[first * width : stop * width], values,
            None if kept.residual.kind == NOTHING else codes, blocks,
        )  # fmt: skip
        # What there is of the frame: its lead where the first block is wanted, blocks, its tail.
        begin = 0 if not first else where.lead + first * shape.byte_count
        ends = stop * shape.elements == where.elements
        head, tail = b"" if first else bytes(kept.lead), bytes(kept.tail) if ends else b""
        whole = head + blocks.tobytes() + tail
        out[:] = memoryview(whole)[low - begin : low - begin + out.nbytes]

    def part_blocks(
        self, dtype: str, position: int, length: int, low: int, high: int
    ) -> tuple[int, int]:
        """Return which of the blocks [first, stop) whole in a frame its bytes [low, high) touch."""
        size, where = DTYPES[dtype].block_bytes, _cut(dtype, position, length)
        count = where.elements // DTYPES[dtype].block_elements
        first = min(max(low - where.lead, 0) // size, count)
        return first, max(first, min(-(-max(high - where.lead, 0) // size), count))


def _aligned(source: Floats) -> Floats:
    """Return the values as C reads them; an operand may lie anywhere in a mapped pack."""
    values: Floats = np.require(source, np.float32, ("C", "A")).reshape(-1)
    return values


def _checked(source: Floats, where: _Cut) -> Floats:
    values = _aligned(source)
    if len(values) != where.elements:
        raise ValueError(f"a source has {len(values)} elements where {where.elements} are needed")
    return values


def _pays(payload: bytes, frame: memoryview, dtype: str, position: int) -> bool:
    """Compare with FIELDS; what is under a quarter of the frame is taken without."""
    if 4 * len(payload) < frame.nbytes:
        return True
    layout = LAYOUTS[dtype]
    (fields,) = kernel.active().encode_many([frame], [layout.lead(position)], layout)
    return 10 * len(payload) < 8 * (frame.nbytes if fields is None else len(fields))


def _derive(shape: Shape, blocks: NDArray[np.uint8], values: Floats, smallest: bool) -> Payload:
    """Return the smallest of what the recipes give."""
    plan = [recipe for recipe in shape.recipes if smallest or recipe != SEARCHED]
    plan.sort(key=lambda recipe: (recipe != SEARCHED, recipe))
    found: list[Payload] = []
    count = len(blocks) // shape.byte_count
    for recipe in plan:
        header = np.empty(count * shape.layout.element_bytes, np.uint8)
        residual = np.empty(count * shape.elements, np.uint8)
        wrong = kernel.active().split_blocks(shape, recipe, blocks, values, header, residual)
        made = Payload(
            kind=recipe, number=shape.number, elements=len(values),
            header=encode_table(header, shape.layout),
            residual=encode_table(residual, BYTES, wrong=wrong),
        )  # fmt: skip
        found.append(made)
        if made.header.kind == NOTHING and made.residual.kind == NOTHING:
            break
    return min(found, key=lambda one: one.header.byte_count + one.residual.byte_count)


def _decode_group(
    dtype: str, work: Sequence[tuple[memoryview, Floats, memoryview, int]]
) -> list[str]:
    faults: list[str] = []
    opened: list[tuple[Payload, Floats, memoryview, int]] = []
    wanted: list[tuple[Section, int]] = []
    for content, source, out, position in work:
        where = _cut(dtype, position, out.nbytes)
        values = _checked(source, where)
        try:
            payload = _open(dtype, memoryview(content).cast("B"), where)
            sizes = _table_sizes(dtype, payload, position)
        except ValueError as error:
            faults.append(str(error))
            continue
        opened.append((payload, values, out, position))
        wanted += zip((payload.header, payload.residual), sizes, strict=True)
    tables = iter(decode_tables(wanted))
    for payload, values, out, position in opened:
        header, residual = next(tables), next(tables)
        if isinstance(header, str) or isinstance(residual, str):
            faults.append(header if isinstance(header, str) else str(residual))
            continue
        kept = None if payload.residual.kind == NOTHING else residual
        _close(dtype, payload, values, out, position, header, kept)
    return faults


def _open(dtype: str, content: memoryview, where: _Cut) -> Payload:
    payload = decode_payload(content, _PARAM_BYTES)
    if (len(payload.lead), len(payload.tail), payload.elements) != (
        where.lead, where.tail, where.elements,
    ):  # fmt: skip
        raise ValueError("it is of another frame")
    number = SHAPES[dtype].number if dtype in SHAPES else TYPES[dtype]
    if payload.number != number:
        raise ValueError("it is of another type")
    if payload.kind not in (SHAPES[dtype].recipes if dtype in SHAPES else (ROUNDED,)):
        raise ValueError(f"its kind {payload.kind} is none of this type")
    return payload


def _table_sizes(dtype: str, payload: Payload, position: int) -> tuple[int, int]:
    if dtype not in SHAPES:
        return quantised_rounding.header_bytes(payload, position), payload.elements
    shape = SHAPES[dtype]
    blocks = payload.elements // shape.elements
    return blocks * shape.layout.element_bytes, payload.elements


def _close(  # noqa: PLR0917 - arrays, as C takes them
    dtype: str, payload: Payload, values: Floats, out: memoryview, position: int,
    header: NDArray[np.uint8], residual: NDArray[np.uint8] | None,
) -> None:  # fmt: skip
    content = np.frombuffer(out, np.uint8)
    end = len(content) - len(payload.tail)
    content[: len(payload.lead)] = np.frombuffer(payload.lead, np.uint8)
    content[end:] = np.frombuffer(payload.tail, np.uint8)
    middle = content[len(payload.lead) : end]
    if dtype in SHAPES:
        shape = SHAPES[dtype]
        kernel.active().join_blocks(shape, payload.kind, header, values, residual, middle)
    else:
        quantised_rounding.restore(dtype, payload, values, position, header, residual, middle)
