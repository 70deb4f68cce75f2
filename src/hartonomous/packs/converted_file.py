"""A stored file's tensors as a safetensors file: a header, and ranges of the stored file.

What lies in C order in the stored file is read from there, piece by piece. What does not (views
with strides, `.npy` in Fortran order), and what lies compressed, is made ready in memory, one
tensor at a time.
"""

import bisect
import json
import re
import threading
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from math import prod
from typing import Any

import msgspec

from hartonomous.core.array import REPEATED_LIMIT_BYTES, numpy_dtype
from hartonomous.core.description import Description, Tensor
from hartonomous.core.dtype import DTYPES
from hartonomous.core.safetensors_writer import (
    TensorEntry,
    can_be_written,
    header_bytes,
    in_file_order,
)
from hartonomous.errors import UsageError
from hartonomous.formats.safetensors import HEADER_LIMIT_BYTES
from hartonomous.packs.arrays import TensorPlace, is_column_major, read_array
from hartonomous.packs.files import FileReader
from hartonomous.packs.write_out import PIECE_BYTES

TURNED_LIMIT_BYTES = 192 << 20
"""What a tensor may have whose elements are put in order in memory; so may what it is read from."""
_AXIS_LIMIT = 64  # of arrays in numpy
_TEXT_LIMIT = 64 << 10
_TEXTS_LIMIT = 4 << 20
_NAMED = 3
_CUT_TEXT_CHARS = 4096  # of a value in a checkpoint's description
_LARGE_NUMBER = re.compile("a number of [0-9]+ bits")

# What a parser says of a file's making, not of the model: it means nothing in another format.
_OF_THE_FILE = {
    "protocol", "globals", "compressed", "byteorder", "fortran_order", "format_version", "version",
    "values", "_version", "_alignment",
}  # fmt: skip
_LOST_KINDS = {"tensor", "limit"}
"""Notices that tell of content which the description does not hold."""


class LeftOut(msgspec.Struct, frozen=True, kw_only=True):
    """Something of a file that safetensors cannot carry. ``kind``: tensor, value or notice."""

    file: str
    kind: str
    name: str
    reason: str


def told_together(left_out: Iterable[LeftOut]) -> list[str]:
    """Return a line for each file and reason: ``a.gguf: token_embd.weight and 24 more: …``."""
    together: dict[tuple[str, str], list[str]] = {}
    for one in left_out:
        together.setdefault((one.file, one.reason), []).append(one.name)
    lines = []
    for (file, reason), names in together.items():
        more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
        lines.append(f"{file}: {', '.join(names[:_NAMED])}{more}: {reason}")
    return lines


def convert_file(path: str, stored: FileReader, left_out: list[LeftOut]) -> "ConvertedFile":
    """Return a stored file's tensors as a safetensors file; what it cannot hold is added to a list.

    Raises UsageError where the header would be too long for any reader.
    """
    description = stored.manifest.description
    turned = is_column_major(stored.manifest)
    tensors: dict[str, Tensor] = {}
    for tensor in description.tensors:
        outside = tensor.offset + tensor.length > stored.size
        reason = "it lies outside of the file" if outside else None
        reason = reason or _obstacle(tensor, tensors, column_major=turned)
        if reason is None:
            tensors[tensor.name] = tensor
        else:
            left_out.append(LeftOut(file=path, kind="tensor", name=tensor.name, reason=reason))
    metadata = _texts(path, description, left_out)
    left_out.extend(
        LeftOut(file=path, kind="notice", name=path, reason=one.text)
        for one in description.notices
        if one.kind in _LOST_KINDS
    )
    entries = in_file_order(
        TensorEntry(name=one.name, dtype=one.dtype, shape=one.shape) for one in tensors.values()
    )
    header = header_bytes(entries, metadata)
    if len(header) > HEADER_LIMIT_BYTES:
        raise UsageError(f"{path} would get a header of {len(header)} bytes, which nothing reads")
    return ConvertedFile(stored, path, header, [tensors[one.name] for one in entries])


def _obstacle(tensor: Tensor, others: dict[str, Tensor], *, column_major: bool) -> str | None:
    """Say why a tensor cannot be written, None if it can."""
    if tensor.name in others or tensor.name == "__metadata__":
        return "its name is taken or reserved"
    if tensor.dtype not in DTYPES:
        return f"its elements are of type {tensor.dtype}, which is not known"
    if not can_be_written(tensor.dtype):
        return f"safetensors has no element type {tensor.dtype}"
    size = DTYPES[tensor.dtype].byte_count(prod(tensor.shape))
    if size is None:
        return "its elements do not fill whole bytes"
    in_order = tensor.strides is None and not (column_major and len(tensor.shape) > 1)
    held = tensor.length if tensor.coding is None else tensor.coding.length
    if in_order and size != held:
        return "its bytes do not fit its shape"
    if in_order and tensor.coding is None:
        return None
    if numpy_dtype(tensor.dtype) is None:
        return f"its elements of type {tensor.dtype} cannot be put in order"
    if len(tensor.shape) > _AXIS_LIMIT or size > max(held, REPEATED_LIMIT_BYTES):
        return "it has too many axes, or repeats its bytes too often, to be put in order"
    if max(size, held) > TURNED_LIMIT_BYTES:
        how = "does not lie in C order" if tensor.coding is None else "lies compressed"
        return f"it {how} and has more than {TURNED_LIMIT_BYTES >> 20} MiB"
    return None


def _texts(path: str, description: Description, left_out: list[LeftOut]) -> dict[str, str]:
    """Return the metadata as texts: what is none as JSON; what is too long is left out."""
    found: dict[str, Any] = {
        key: value for key, value in description.metadata.items() if key not in _OF_THE_FILE
    }
    if description.format == "gguf":
        for key in [key for key, value in found.items() if _is_summary(value)]:
            del found[key]
            reason = "it is a long list or text, of which the description has the beginning alone"
            left_out.append(LeftOut(file=path, kind="value", name=key, reason=reason))
    values = description.metadata.get("values")
    for key, value in values.items() if isinstance(values, dict) else ():
        if _is_abridged(value):
            reason = "the description has its kind and extent alone"
            left_out.append(LeftOut(file=path, kind="value", name=key, reason=reason))
        else:
            found[key] = value
    texts: dict[str, str] = {}
    if description.format.startswith("torch-"):
        texts["format"] = "pt"
    total = 0
    for key, value in found.items():
        text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
        total += len(key) + len(text)
        if len(text) > _TEXT_LIMIT or total > _TEXTS_LIMIT:
            total -= len(key) + len(text)
            reason = f"its text has {len(text)} characters, too many for a header"
            left_out.append(LeftOut(file=path, kind="value", name=key, reason=reason))
        else:
            texts.setdefault(key, text)
    return texts


def _is_abridged(value: Any) -> bool:
    """Say whether a checkpoint's value is there in part only (``formats.torch_values.plain``).

    Arrays of numpy, bytes and long lists are dicts that tell of them; long texts are cut.
    """
    if isinstance(value, list):
        return any(map(_is_abridged, value))
    if isinstance(value, str):
        return len(value) >= _CUT_TEXT_CHARS or _LARGE_NUMBER.fullmatch(value) is not None
    return isinstance(value, dict)


def _is_summary(value: Any) -> bool:
    """Say whether a value of a GGUF file is there in part only (``formats.gguf_values``).

    The format itself has no values that become dicts.
    """
    return isinstance(value, dict) or (isinstance(value, list) and any(map(_is_summary, value)))


class ConvertedFile:
    """The bytes of a converted file by range; safe to use from several threads."""

    def __init__(
        self, stored: FileReader, path: str, header: bytes, tensors: Sequence[Tensor]
    ) -> None:
        self._stored = stored
        self._path = path
        self._header = memoryview(header)
        self._tensors = [one for one in tensors if prod(one.shape)]
        self._column_major = is_column_major(stored.manifest)
        lengths = [DTYPES[one.dtype].byte_count(prod(one.shape)) or 0 for one in self._tensors]
        self._starts = [0, *accumulate([len(header), *lengths])]
        self.size = self._starts[-1]
        self._guard = threading.Lock()
        self._turned: tuple[int, memoryview] = (-1, memoryview(b""))

    def pieces(
        self, offset: int = 0, length: int | None = None, size: int = PIECE_BYTES
    ) -> Iterator[tuple[int, int]]:
        """Yield (offset, length) of at most ``size`` bytes that partition a range, in order."""
        end = self.size if length is None else offset + length
        while offset < end:
            count = min(size, end - offset)
            yield offset, count
            offset += count

    def raw_view(self, offset: int, length: int) -> memoryview | None:
        """Return a checked view of the pack where the range is a part of one raw tensor."""
        index = bisect.bisect_right(self._starts, offset) - 1
        if index == 0 or offset + length > self._starts[index + 1]:
            return None
        tensor = self._tensors[index - 1]
        if not self._in_order(tensor):
            return None
        return self._stored.raw_view(tensor.offset + offset - self._starts[index], length)

    def decode_into(self, out: memoryview, start: int = 0) -> None:
        """Fill ``out`` with the file's bytes from ``start``; raises IntegrityError."""
        index = bisect.bisect_right(self._starts, start) - 1
        while out:
            base, end = self._starts[index], self._starts[index + 1]
            count = min(len(out), end - start)
            if count:
                self._fill(out[:count], index, start - base)
            out, start, index = out[count:], start + count, index + 1

    def _fill(self, out: memoryview, index: int, start: int) -> None:
        if index == 0:
            out[:] = self._header[start : start + len(out)]
            return
        tensor = self._tensors[index - 1]
        if self._in_order(tensor):
            self._stored.decode_into(out, tensor.offset + start)
        else:
            out[:] = self._in_c_order(index, tensor)[start : start + len(out)]

    def _in_order(self, tensor: Tensor) -> bool:
        if tensor.coding is not None or tensor.strides is not None:
            return False
        return not (self._column_major and len(tensor.shape) > 1)

    def _in_c_order(self, index: int, tensor: Tensor) -> memoryview:
        """Return a tensor put in order; the last one is kept, as its pieces come one by one."""
        import numpy as np

        with self._guard:
            if self._turned[0] != index:
                self._turned = (-1, memoryview(b""))
                place = TensorPlace(
                    member=self._path, file=self._stored, name=tensor.name, dtype=tensor.dtype,
                    shape=tensor.shape, offset=tensor.offset, length=tensor.length,
                    strides=tensor.strides, coding=tensor.coding,
                )  # fmt: skip
                array = read_array(place)
                self._turned = (index, array.reshape(-1).view(np.uint8).data)
            return self._turned[1]
