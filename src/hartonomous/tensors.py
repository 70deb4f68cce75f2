"""For users of safetensors: ``load_file``, ``save_file`` and ``safe_open`` over a store.

Above the store, beside nothing. Names of artifacts take the place of paths; what is behind a name
may be one safetensors file, a folder of shards, a GGUF or a `.npy`. Everything that comes out is
in memory of its own and may be changed; ``Store.tensor`` gives views without a copy.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from itertools import chain
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hartonomous.core.closing import Closing
from hartonomous.core.dtype import DTYPES
from hartonomous.core.given_tensor import TORCH_TYPES, refuse_mask
from hartonomous.core.name import check_name, escape_path
from hartonomous.errors import HartonomousError, NoStoreError, NotFoundError, UsageError
from hartonomous.opening import open_store
from hartonomous.operations import add as adding
from hartonomous.packs.arrays import TensorPlace, array_form, read_array
from hartonomous.packs.tensor_names import OpenModel, open_model
from hartonomous.store import Store

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hartonomous.core.safetensors_writer import TensorEntry

StorePlace = Store | str | os.PathLike[str] | None
"""An open store, the place of one, or None for the one that is found as `hart` finds it."""

_NUMPY = frozenset({"np", "numpy"})
_TORCH = frozenset({"pt", "torch", "pytorch"})
_SUFFIX = ".safetensors"


def load_file(
    name: str,
    store: StorePlace = None,
    *,
    member: str | None = None,
    dequantise: bool = False,
) -> dict[str, NDArray[Any]]:
    """Return every tensor of ``NAME`` or ``NAME@X`` as {name: numpy array}, as safetensors does.

    ``member`` is one of its files, ``dequantise`` turns ggml's blocks into float32 (else they come
    as uint8). Raises NotFoundError, AmbiguousNameError when files give one name to different
    tensors, IntegrityError when stored bytes are damaged.
    """
    with safe_open(name, "np", store=store, member=member, dequantise=dequantise) as file:
        return file.get_tensors()


def save_file(
    tensors: Mapping[str, NDArray[Any]],
    name: str,
    metadata: Mapping[str, str] | None = None,
    store: StorePlace = None,
) -> adding.Added:
    """Keep numpy arrays as the artifact ``name``; the file's bytes are those of safetensors.

    The file inside is called like the last part of the name, with ``.safetensors`` at its end. A
    name that is taken gets a next version, unless one of its versions has the same bytes. Returns
    what became of it: ``number`` is the version. Raises UsageError for what cannot be written.
    """
    check_name(name)
    content = _Joined(file_pieces(tensors, metadata))
    file_name = name.rsplit("/", 1)[-1]
    file_name = file_name if file_name.endswith(_SUFFIX) else file_name + _SUFFIX
    with ExitStack() as stack:
        report = adding.add_stream(
            _opened(store, stack).parts,
            content,  # type: ignore[arg-type]  # it has what is used of a binary stream: read
            options=adding.AddOptions(name=name),
            path=escape_path(file_name.encode()),
            source="hartonomous.save_file",
        )
    (added,) = report.artifacts
    if added.error is not None:
        raise HartonomousError(f"{name!r} was not saved: {added.error}")
    return added


class safe_open(Closing):  # noqa: N801 - the name that users of safetensors know
    """The tensors of one version, read when they are asked for; use it as a context manager.

    ``framework`` is "np" or "pt" (PyTorch, which is imported then), ``device`` a device of
    PyTorch's. A store that was given open stays open; one that was given by place or found is
    closed at the end. Raises UsageError, NotFoundError.
    """

    def __init__(
        self,
        name: str,
        framework: str = "np",
        device: str = "cpu",
        *,
        store: StorePlace = None,
        member: str | None = None,
        dequantise: bool = False,
    ) -> None:
        self._torch = _framework(framework, device)
        self._device = device
        self._dequantise = dequantise
        opened: Store | None = None
        with ExitStack() as stack:
            try:
                opened = _opened(store, stack)
                self._model: OpenModel = open_model(opened.parts, opened.files, name, member=member)
            except (NoStoreError, NotFoundError, UsageError) as error:
                if not _is_file(name) or (opened is not None and _has(opened, name)):
                    raise
                raise type(error)(
                    f"{error.message}; {name!r} is a file on disk, and names are those of a store",
                    hint=f"store.add({name!r}) keeps it ('hart add'), then load it by the name that"
                    " this gives; safetensors.numpy.load_file reads the file itself",
                ) from error
            self._stack = stack.pop_all()

    def close(self) -> None:
        """Close the store if it was opened for this."""
        self._stack.close()

    def keys(self) -> list[str]:
        """Return the names in order."""
        return sorted(self._model.places)

    def offset_keys(self) -> list[str]:
        """Return the names in the order of the files and of the bytes in them."""
        return list(self._model.places)

    def metadata(self) -> dict[str, str] | None:
        """Return what safetensors files say in ``__metadata__``; None where none has any.

        Of shards, all that they say; where two differ, what the first one says.
        """
        return self._model.metadata()

    def get_tensor(self, name: str) -> Any:
        """Return a whole tensor; raises NotFoundError."""
        return self._given(self._model.place(name), ...)

    def get_tensors(self) -> dict[str, Any]:
        """Return every tensor by name."""
        return {name: self.get_tensor(name) for name in self._model.places}

    def get_slice(self, name: str) -> TensorSlice:
        """Return a tensor of which parts can be read; raises NotFoundError."""
        return TensorSlice(self, self._model.place(name))

    def _given(self, place: TensorPlace, index: Any) -> Any:
        array = _read(place, index, dequantise=self._dequantise)
        return array if self._torch is None else self._as_torch(array, place)

    def _as_torch(self, array: NDArray[Any], place: TensorPlace) -> Any:
        torch = self._torch
        blocks = "float32" if self._dequantise else "uint8"
        wanted = TORCH_TYPES.get(place.dtype, blocks)
        dtype = getattr(torch, wanted, None)
        if dtype is None:
            raise UsageError(
                f"this PyTorch has no type {wanted} (tensor {place.name!r})",
                hint="use a newer one, or framework='np'",
            )
        # PyTorch takes numpy's own types only; what ml_dtypes brings crosses as integers.
        plain = array if array.dtype.isbuiltin == 1 else array.view(f"i{array.itemsize}")
        found = torch.from_numpy(plain).view(dtype)
        return found if self._device == "cpu" else found.to(self._device)


class TensorSlice:
    """A tensor of a ``safe_open`` that is read in part: ``slice[2:5]`` reads three rows."""

    def __init__(self, source: safe_open, place: TensorPlace) -> None:
        self._source = source
        self._place = place

    def get_shape(self) -> list[int]:
        """Return the tensor's shape."""
        return list(self._place.shape)

    def get_dtype(self) -> str:
        """Return the element type's name, such as ``F32``."""
        return self._place.dtype

    def __getitem__(self, index: Any) -> Any:
        """Return a part as numpy indexes it: integers, slices, an ellipsis; raises IndexError.

        Only the rows that the first axis asks for are read.
        """
        return self._source._given(self._place, index)


def _is_file(name: str) -> bool:
    try:
        return Path(name).exists()
    except (OSError, ValueError):  # too long, or with a zero byte: no file's name
        return False


def _has(store: Store, name: str) -> bool:
    try:
        store.show(name, tensors=False)
    except (NotFoundError, UsageError):
        return False
    return True


def _opened(store: StorePlace, stack: ExitStack) -> Store:
    if isinstance(store, Store):
        return store
    return stack.enter_context(open_store(store))


def _framework(framework: str, device: str) -> Any:
    """Return the torch module, or None for numpy; raises UsageError."""
    if framework in _NUMPY:
        if device != "cpu":
            raise UsageError(
                f"numpy arrays cannot be on device {device!r}",
                hint="use device='cpu', or framework='pt'",
            )
        return None
    if framework not in _TORCH:
        raise UsageError(f"framework {framework!r} is unknown", hint="use 'np' or 'pt'")
    try:
        import torch
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise UsageError(
            f"framework {framework!r} needs PyTorch, which is not installed",
            hint="pip install torch, or use framework='np'",
        ) from error
    return torch


def _read(place: TensorPlace, index: Any, *, dequantise: bool) -> NDArray[Any]:
    """Return a part of a tensor in memory of its own; reads the rows that ``index`` asks for."""
    import numpy as np

    parts = index if isinstance(index, tuple) else (index,)
    for part in parts:
        known = isinstance(part, slice | int | np.integer) and not isinstance(part, bool)
        if part is not Ellipsis and not known:
            raise UsageError(
                f"a tensor cannot be cut by {type(part).__name__}",
                hint="use integers, slices and an ellipsis",
            )
    _, shape = array_form(place, place.shape, dequantised=dequantise)
    start, stop, first = _rows(parts, shape)
    if first is None or not _has_rows(place, shape):
        found = read_array(place, dequantised=dequantise, owned=True)
    else:
        found = read_array(place, rows=(start, stop), dequantised=dequantise, owned=True)
        index = (first, *parts[1:])
    part = found[index]
    # Nothing left out and nothing moved: what was read is the result, without another copy.
    if isinstance(part, np.ndarray) and part.size == found.size and part.flags.c_contiguous:
        return part
    return np.array(part, order="C")


def _has_rows(place: TensorPlace, shape: tuple[int, ...]) -> bool:
    """Say whether rows of the array are rows of the tensor and can be read by themselves."""
    known = DTYPES.get(place.dtype)
    if known is None or shape[:1] != place.shape[:1]:
        return False
    return prod(place.shape[1:]) % known.block_elements == 0


def _rows(parts: tuple[Any, ...], shape: tuple[int, ...]) -> tuple[int, int, Any]:
    """Return the rows that the first index needs, and what to apply to them in its place.

    None in the last place means that all of the tensor is needed.
    """
    if not shape or not parts or parts[0] is Ellipsis:
        return 0, 0, None
    if isinstance(parts[0], slice):
        chosen = range(*parts[0].indices(shape[0]))
        if not chosen:
            return 0, 0, slice(0, 0)
        start = min(chosen[0], chosen[-1])
        # The same rows in the same order, counted from the first that is read.
        last = chosen[-1] - start + (1 if chosen.step > 0 else -1)
        end = last if last >= 0 else None
        return start, max(chosen[0], chosen[-1]) + 1, slice(chosen[0] - start, end, chosen.step)
    row = int(parts[0]) + (shape[0] if parts[0] < 0 else 0)
    if not 0 <= row < shape[0]:
        raise IndexError(f"row {parts[0]} is outside the tensor's {shape[0]}")
    return row, row + 1, 0


# -- writing


class _Joined(io.RawIOBase):
    """Pieces of memory, read one after the other; nothing is joined before it is read."""

    def __init__(self, pieces: Iterable[memoryview]) -> None:
        super().__init__()
        self._pieces = iter(pieces)
        self._piece = memoryview(b"")

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill ``buffer``, perhaps in part; 0 at the end."""
        while not self._piece:
            following = next(self._pieces, None)
            if following is None:
                return 0
            self._piece = following
        out = memoryview(buffer).cast("B")
        count = min(len(out), len(self._piece))
        out[:count] = self._piece[:count]
        self._piece = self._piece[count:]
        return count


def file_pieces(
    tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, str] | None
) -> Iterator[memoryview]:
    """Return the pieces of a safetensors file; raises UsageError for what cannot be written.

    An array that does not lie as it is written is copied when its turn comes, one at a time.
    """
    from hartonomous.core.safetensors_writer import header_bytes, in_file_order

    texts: list[object] = [one for pair in (metadata or {}).items() for one in pair]
    for text in texts:
        if not isinstance(text, str):
            raise UsageError(
                f"{text!r} in the metadata is no text",
                hint="safetensors keeps text only: use str(value)",
            )
    entries = in_file_order(_entry(name, array) for name, array in tensors.items())
    header = header_bytes(entries, metadata)
    return chain([memoryview(header)], (_bytes_of(tensors[entry.name]) for entry in entries))


def _entry(name: str, array: NDArray[Any]) -> TensorEntry:
    import numpy as np

    from hartonomous.core.array import dtype_name
    from hartonomous.core.safetensors_writer import TensorEntry

    if not isinstance(name, str):
        raise UsageError(f"the tensor name {name!r} is no text")
    if not isinstance(array, np.ndarray | np.generic):
        raise UsageError(
            f"tensor {name!r} is a {type(array).__name__}, not a numpy array",
            hint="give numpy arrays",
        )
    refuse_mask(name, array)
    dtype = dtype_name(array.dtype)
    if dtype is None:
        raise UsageError(f"safetensors has no element type for {array.dtype} (tensor {name!r})")
    return TensorEntry(name=name, dtype=dtype, shape=array.shape)


def _bytes_of(array: NDArray[Any]) -> memoryview:
    """Return an array's bytes in C order, little-endian; a view where they lie so already."""
    import numpy as np

    little = np.asarray(array, dtype=array.dtype.newbyteorder("<"), order="C")
    return little.reshape(-1).view(np.uint8).data
