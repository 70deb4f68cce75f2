"""Tensors in memory as somebody gives them: numpy's, PyTorch's, and what exports DLPack.

PyTorch is never imported here: whoever gives one of its tensors has it loaded already.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from hartonomous.core.array import dtype_name
from hartonomous.core.safetensors_writer import TensorEntry
from hartonomous.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

TORCH_TYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "F8_E8M0": "float8_e8m0fnu",
    "F8_E4M3FNUZ": "float8_e4m3fnuz", "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8",
    "U64": "uint64", "U32": "uint32", "U16": "uint16", "U8": "uint8",
    "BOOL": "bool", "C64": "complex64", "C128": "complex128",
}  # fmt: skip
"""PyTorch's names of the element types of ``core.dtype``."""
_BY_TORCH = {f"torch.{theirs}": ours for ours, theirs in TORCH_TYPES.items()}


class TensorBytes(Protocol):
    """A tensor's bytes in C order, little-endian."""

    def __len__(self) -> int:
        """Return how many there are."""
        ...

    def __getitem__(self, wanted: slice, /) -> bytes | memoryview:
        """Return some of them that follow one another."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenTensor:
    """A tensor in memory: what a header says of it, and its bytes when they are asked for.

    ``view`` returns the memory itself where it lies in C order, else what copies the ranges that
    are asked for, and never the whole.
    """

    entry: TensorEntry
    view: Callable[[], TensorBytes]


def is_torch(value: object) -> bool:
    """Say whether a value is a tensor of PyTorch."""
    # Without the class where somebody else's folder has the name, or while torch is being loaded.
    kind = getattr(sys.modules.get("torch"), "Tensor", None)
    return isinstance(kind, type) and isinstance(value, kind)


def is_tensor(value: object) -> bool:
    """Say whether a value can be given as a tensor: numpy's, PyTorch's, or through DLPack."""
    import numpy as np

    if isinstance(value, np.ndarray | np.generic) or is_torch(value):
        return True
    return hasattr(value, "__dlpack__") and not isinstance(value, type)


def refuse_mask(name: object, value: object) -> None:
    """Raise UsageError for numpy's masked arrays: what is masked would be lost, unsaid."""
    import numpy as np

    if isinstance(value, np.ma.MaskedArray):
        raise UsageError(
            f"tensor {name!r} is a masked array, and safetensors has no masks",
            hint="give its filled(), or its data and its mask as two tensors",
        )


def given_tensor(name: object, value: object) -> GivenTensor:
    """Return a value as a tensor; raises UsageError naming what cannot be written, and why."""
    import numpy as np

    if not isinstance(name, str):
        raise UsageError(f"the tensor name {name!r} is no text")
    if is_torch(value):
        return _torch_tensor(name, value)
    array: NDArray[Any]
    refuse_mask(name, value)
    if isinstance(value, np.ndarray | np.generic):
        array = np.asarray(value)
    elif is_tensor(value):
        array = _imported(name, value)
    else:
        raise UsageError(
            f"tensor {name!r} is a {type(value).__name__}",
            hint="give arrays of numpy, tensors of PyTorch, or what exports DLPack",
        )
    dtype = dtype_name(array.dtype)
    if dtype is None:
        raise UsageError(f"safetensors has no element type for {array.dtype} (tensor {name!r})")
    entry = TensorEntry(name=name, dtype=dtype, shape=array.shape)
    return GivenTensor(entry=entry, view=lambda: _bytes_of(array))


def _imported(name: str, value: Any) -> NDArray[Any]:
    import numpy as np

    try:
        # Arrays of bfloat16 cannot pass DLPack to numpy; their owners know how to become arrays.
        return np.asarray(value) if hasattr(value, "__array__") else np.from_dlpack(value)
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        raise UsageError(
            f"tensor {name!r} ({type(value).__name__}) cannot be read as a numpy array: {error}",
            hint="move it to the processor's memory first",
        ) from error


def _bytes_of(array: NDArray[Any]) -> TensorBytes:
    import numpy as np

    if array.flags.c_contiguous and array.dtype == array.dtype.newbyteorder("<"):
        content: memoryview = array.reshape(-1).view(np.uint8).data
        return content
    return _StridedBytes(array)


class _StridedBytes:
    """The bytes of an array that does not lie in C order, or not little-endian."""

    def __init__(self, array: NDArray[Any]) -> None:
        self._array = array

    def __len__(self) -> int:
        return self._array.nbytes

    def __getitem__(self, wanted: slice, /) -> bytes:
        start, stop, _ = wanted.indices(len(self))
        size = self._array.itemsize
        first, last = start // size, -(-stop // size)
        elements = self._array.flat[first:last]  # a copy of these alone, in C order
        little = elements.astype(elements.dtype.newbyteorder("<"), copy=False)
        return little.tobytes()[start - first * size : stop - first * size]


def _torch_tensor(name: str, tensor: Any) -> GivenTensor:
    """Check a tensor of PyTorch; GPU tensors are refused, so that no copy is made unasked."""
    if tensor.device.type != "cpu":
        raise UsageError(
            f"tensor {name!r} is on {tensor.device}",
            hint="give tensor.cpu(), or use hn.Checkpoints, which copies to memory itself",
        )
    dtype = _BY_TORCH.get(str(tensor.dtype))
    if str(tensor.layout) != "torch.strided" or dtype is None:
        raise UsageError(
            f"tensor {name!r} is {tensor.dtype} ({tensor.layout}), which safetensors does not have",
            hint="turn it into a plain, dense tensor",
        )

    def view() -> TensorBytes:
        import torch

        plain = tensor.detach().resolve_conj().resolve_neg()
        if plain.is_contiguous():
            content: memoryview = plain.reshape(-1).view(torch.uint8).numpy().data
            return content
        # As numbers of the same size, since numpy has not all types: strides stay as they are.
        same = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
        return _bytes_of(plain.view(same.get(plain.element_size(), plain.dtype)).numpy())

    entry = TensorEntry(name=name, dtype=dtype, shape=tuple(tensor.shape))
    return GivenTensor(entry=entry, view=view)
