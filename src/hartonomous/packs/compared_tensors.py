"""The tensors of a file as a comparison reads them: in the order of their elements.

Views that do not lie in C order are put in order before they are hashed or compared, so that a
transposed view equals a copy of it. Those over ``ORDERED_LIMIT_BYTES`` are compared as they lie.
Tensors that lie coded in their file are decoded, so that a deflated one equals a plain one; what
does not decode to what the file says is compared as it lies.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import prod

import numpy as np
from msgspec import structs

from hartonomous.core.array import as_strided_array, numpy_dtype
from hartonomous.core.coding import Coding
from hartonomous.core.comparison import TensorUse
from hartonomous.core.description import Tensor
from hartonomous.core.digest import AtomHasher
from hartonomous.errors import StructureError
from hartonomous.packs.coded_bytes import CodedBytes, View
from hartonomous.packs.files import CHUNK_BYTES

ORDERED_LIMIT_BYTES = 64 << 20
"""What a view and its elements in order may have, as each is held in memory."""
REPEATED_LIMIT = 64
"""How often a broadcast view may repeat its bytes; beyond, putting it in order is endless work."""

ComparedTensor = tuple[TensorUse, View | None]
"""A tensor and ``read(offset, length)`` inside it; None where it cannot be put in order."""


def compared_tensors(
    view: View, tensors: Iterable[Tensor], digests: Iterable[bytes | None], *, member: str
) -> tuple[ComparedTensor, ...]:
    """Return the tensors of a file with the digests that are known, the others computed."""
    return tuple(
        _compared(view, tensor, known, member)
        for tensor, known in zip(tensors, digests, strict=True)
    )


def _compared(view: View, tensor: Tensor, known: bytes | None, member: str) -> ComparedTensor:
    if tensor.coding is not None:
        try:
            return _compared_decoded(view, tensor, tensor.coding, member)
        except StructureError:
            return _use(tensor, _own(view, tensor), tensor.length, member), None
    length: int | None = tensor.length
    read: View | None = None
    if tensor.strides is None:
        read = _part(view, tensor.offset)
        # Not known where tensors overlap partly: such bytes are no atom of their own.
        digest = known or _digest(view, tensor.offset, tensor.length)
    elif (length := _ordered_bytes(tensor)) is None:
        digest = _own(view, tensor)
    else:
        read = _Ordered(view, tensor, length)
        digest = _digest(read, 0, length)
    return _use(tensor, digest, tensor.length if length is None else length, member), read


def _use(tensor: Tensor, digest: bytes, length: int, member: str) -> TensorUse:
    return TensorUse(
        name=tensor.name,
        dtype=tensor.dtype,
        shape=tensor.shape,
        digest=digest,
        length=length,
        member=member,
    )


def _compared_decoded(view: View, tensor: Tensor, coding: Coding, member: str) -> ComparedTensor:
    """Compare what the range decodes to, as if it lay so in a file of its own."""
    reader = CodedBytes(view, tensor.offset, tensor.length, coding=coding, dtype=tensor.dtype)
    plain = structs.replace(tensor, offset=0, length=coding.length, coding=None)
    return _compared(reader.read, plain, None, member)


def _part(view: View, base: int) -> View:
    return lambda offset, length: view(base + offset, length)


def _ordered_bytes(tensor: Tensor) -> int | None:
    """Return the bytes of a view's elements; None if they are too many or of no plain type."""
    dtype = numpy_dtype(tensor.dtype)
    length = prod(tensor.shape) * dtype.itemsize if dtype is not None else None
    if length is None or length > REPEATED_LIMIT * tensor.length:
        return None
    return length if max(length, tensor.length) <= ORDERED_LIMIT_BYTES else None


class _Ordered:
    """Elements in C order; held from the first read of them to the last."""

    __slots__ = ("_content", "_length", "_tensor", "_view")

    def __init__(self, view: View, tensor: Tensor, length: int) -> None:
        self._view = view
        self._tensor = tensor
        self._length = length
        self._content: memoryview | None = None

    def __call__(self, offset: int, length: int) -> memoryview:
        one = self._tensor
        if self._content is None:
            assert one.strides is not None
            held = self._view(one.offset, one.length)
            array = as_strided_array(held, one.dtype, one.shape, one.strides)
            self._content = array.reshape(-1).view(np.uint8).data
        part = self._content[offset : offset + length]
        if offset + length >= self._length:
            self._content = None
        return part


def _own(view: View, tensor: Tensor) -> bytes:
    """Return a digest of the bytes as they lie, and how: equal to no plain tensor's."""
    hasher = AtomHasher()
    how = repr(tensor.strides) if tensor.coding is None else repr((tensor.strides, tensor.coding))
    hasher.update(how.encode())
    _hash(hasher, view, tensor.offset, tensor.length)
    return hasher.digest()


def _digest(view: View, offset: int, length: int) -> bytes:
    hasher = AtomHasher()
    _hash(hasher, view, offset, length)
    return hasher.digest()


def _hash(hasher: AtomHasher, view: View, offset: int, length: int) -> None:
    for start in range(0, length, CHUNK_BYTES):
        hasher.update(view(offset + start, min(CHUNK_BYTES, length - start)))
