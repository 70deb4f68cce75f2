"""Read: tensors as arrays, as bytes and as text, whole files as file-like objects, by name."""

from __future__ import annotations

import io
from collections.abc import Iterator
from itertools import chain
from math import prod
from typing import TYPE_CHECKING, Any

import msgspec

from hartonomous.catalog import manifests
from hartonomous.catalog.manifests import TensorRow
from hartonomous.core.array import numpy_dtype
from hartonomous.errors import UsageError
from hartonomous.packs import arrays
from hartonomous.packs.arrays import Rows, TensorPlace
from hartonomous.packs.files import FileReader
from hartonomous.packs.open_files import OpenFiles, VersionFile, VersionFiles, find_version
from hartonomous.packs.parts import StoreParts
from hartonomous.packs.tensor_names import ambiguous, find_tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BUFFER_BYTES = 64 * 1024


class StoredTensor(msgspec.Struct, frozen=True, kw_only=True):
    """A tensor of a version. ``member`` is the file it lies in, ``digest`` that of its bytes.

    ``logical_bytes`` are what it takes in that file. One that lies coded there (deflated, as
    varints), or not in C order, has no digest.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    member: str
    logical_bytes: int
    digest: str | None


class TensorReader:
    """One stored tensor that was looked up once and can be read any number of times.

    Safe to use from several threads. It reads the version that its name meant when it was made;
    reading raises UsageError once the store is closed.
    """

    def __init__(self, files: OpenFiles, place: TensorPlace) -> None:
        self._files = files
        self._place = place
        self.name = place.name
        self.dtype = place.dtype
        self.shape = place.shape
        self.member = place.member
        self.logical_bytes = place.byte_count

    def __repr__(self) -> str:
        return f"TensorReader({self.name!r}, {self.dtype}, {list(self.shape)})"

    def decode_into(self, buffer: Any, bytes_range: slice | tuple[int, int] | None = None) -> int:
        """Fill ``buffer`` with the tensor's bytes, or ``[start, stop)`` of them; return how many.

        ``buffer`` is anything that gives writable, C-contiguous memory of just that size: a
        bytearray, a numpy array of any type. Bytes are decoded into it without a copy between, and
        checked. Raises UsageError, IntegrityError.
        """
        self._files.check_open()
        start, stop = arrays.bytes_span(self._place, bytes_range)
        out = _writable(buffer)
        if len(out) != stop - start:
            raise UsageError(
                f"the buffer has {len(out)} bytes, and {stop - start} are to be read",
                hint="give a buffer of the size of the range",
            )
        self._place.decode_into(out, start)
        return len(out)

    def array(self, *, rows: Rows | None = None, dequantise: bool = False) -> NDArray[Any]:
        """Return the tensor, or rows of it, as ``Store.tensor`` does."""
        self._files.check_open()
        return arrays.read_array(self._place, rows=rows, dequantised=dequantise)

    def bytes(self, bytes_range: slice | tuple[int, int] | None = None) -> memoryview:
        """Return the tensor's bytes, or ``[start, stop)`` of them, as ``Store.tensor_bytes``."""
        self._files.check_open()
        start, stop = arrays.bytes_span(self._place, bytes_range)
        return self._place.view(start, stop - start)


def _writable(buffer: Any) -> memoryview:
    """Return a buffer's bytes; an array of a type that has no buffer (bfloat16) by its memory."""
    view = getattr(buffer, "view", None)
    if view is not None and getattr(buffer, "flags", None) is not None:
        import numpy as np

        if not buffer.flags.c_contiguous:
            raise UsageError("the array is not C-contiguous", hint="read into a fresh one")
        buffer = buffer.reshape(-1).view(np.uint8)
    out = memoryview(buffer)
    if out.readonly or not out.c_contiguous:
        raise UsageError("the buffer is read-only or has gaps", hint="give a bytearray or an array")
    return out.cast("B") if out.nbytes else memoryview(bytearray())


class StoredFile(io.RawIOBase):
    """One stored file, read as if it lay on disk; seekable, read-only."""

    def __init__(self, files: OpenFiles, file: FileReader, name: str) -> None:
        super().__init__()
        self._files = files
        self._file = file
        self._position = 0
        self.name = name
        self.size = file.size

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position."""
        self._checkClosed()
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move the position, which may lie past the end; raises ValueError before the start."""
        self._checkClosed()
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}.get(whence)
        if base is None or base + offset < 0:
            raise ValueError(f"cannot seek to {offset} from {whence}")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Fill ``buffer`` from the position on and return how many bytes there were."""
        self._checkClosed()
        self._files.check_open()
        out = memoryview(buffer).cast("B")
        out = out[: max(0, self.size - self._position)]
        if out:
            self._file.decode_into(out, self._position)
        self._position += len(out)
        return len(out)

    def readall(self) -> bytes:
        """Return everything from the position on."""
        self._checkClosed()
        self._files.check_open()
        start, self._position = self._position, max(self._position, self.size)
        return self._file.read(start, self.size - start) if start < self.size else b""

    def _checkClosed(self) -> None:  # noqa: N802 - what io calls it
        if self.closed:
            raise ValueError("I/O operation on closed file.")


def list_tensors(
    parts: StoreParts, spec: str, *, member: str | None = None
) -> dict[str, StoredTensor]:
    """Return {name: tensor} of a version, or of one of its files, reading no file.

    Raises AmbiguousNameError when files give one name to different tensors.
    """
    version = find_version(parts, spec)
    found: dict[str, StoredTensor] = {}
    for one in version.chosen(member):
        with parts.database.read() as tx:
            rows = manifests.tensors_of(tx, one.row.id) if one.row.tensor_count else []
        for row in rows:
            stored = _stored_tensor(one, row)
            other = found.setdefault(row.name, stored)
            if not _is_same(other, stored):
                raise ambiguous(version, row.name, (other.member, stored.member))
    return found


def tensor(
    parts: StoreParts,
    files: OpenFiles,
    spec: str,
    name: str,
    *,
    rows: Rows | None = None,
    dequantise: bool = False,
    member: str | None = None,
) -> NDArray[Any]:
    """Return a tensor, or rows of it, as a read-only array; see ``packs.arrays.read_array``."""
    _, place = find_tensor(parts, files, spec, name, member=member)
    return arrays.read_array(place, rows=rows, dequantised=dequantise)


def tensor_bytes(
    parts: StoreParts,
    files: OpenFiles,
    spec: str,
    name: str,
    *,
    bytes_range: slice | tuple[int, int] | None = None,
    member: str | None = None,
) -> memoryview:
    """Return a tensor's bytes as the file has them, or ``[start, stop)`` of them; read-only.

    Where they lie coded in the file (deflated, as varints), they are decoded. Raises UsageError
    when the range is not inside the tensor.
    """
    return tensor_reader(parts, files, spec, name, member=member).bytes(bytes_range)


def tensor_reader(
    parts: StoreParts, files: OpenFiles, spec: str, name: str, *, member: str | None = None
) -> TensorReader:
    """Look a tensor up, to read it more than once; raises NotFoundError, AmbiguousNameError."""
    return TensorReader(files, find_tensor(parts, files, spec, name, member=member)[1])


def open_file(
    parts: StoreParts, files: OpenFiles, spec: str, member: str | None = None
) -> io.BufferedReader:
    """Open a version's file as ``open(path, "rb")`` would; ``member`` may be left out of one.

    Raises NotFoundError, AmbiguousNameError; reading raises UsageError once the store is closed.
    """
    version = find_version(parts, spec)
    one = version.single(member)
    parts.count_read(version.version.uid, [one.row.file_digest])
    # The buffer is for reads of a few bytes; what keeps a frame from being decoded again is the
    # cache of frames. Longer reads go past it, straight into the caller's memory.
    return io.BufferedReader(StoredFile(files, files.open(one.row), one.path), _BUFFER_BYTES)


def raw_chunks(
    place: TensorPlace,
    *,
    rows: Rows | None = None,
    bytes_range: slice | tuple[int, int] | None = None,
) -> Iterator[memoryview]:
    """Yield a tensor's bytes as they lie in the file: all, some rows, or a range; in small pieces.

    Where they lie coded there, they are decoded.
    Raises UsageError when rows or range are not inside the tensor.
    """
    first, length, _ = arrays.row_bytes(place, rows)
    if bytes_range is not None:
        first, stop = arrays.bytes_span(place, bytes_range)
        length = stop - first
    return place.chunks(first, length)


def npy_chunks(
    place: TensorPlace, *, rows: Rows | None = None, dequantise: bool = False
) -> Iterator[bytes | memoryview]:
    """Yield a tensor, or rows of it, as a `.npy` file in C order, in pieces.

    Types that numpy does not have are written as ``numpy.save`` writes them.
    """
    import numpy as np

    start, stop = arrays.row_span(place, rows)
    shape = (stop - start, *place.shape[1:]) if place.shape else ()
    whole = rows is None or shape == place.shape
    strided = place.strides is not None and not place.shares_bytes
    if place.column_major or strided or (dequantise and place.shares_bytes):
        array = arrays.read_array(place, rows=rows, dequantised=dequantise)
        content: Iterator[bytes | memoryview] = iter([array.reshape(-1).view(np.uint8).data])
        dtype, array_shape = array.dtype, array.shape
    else:
        content = raw_chunks(place, rows=None if whole else (start, stop))
        name, array_shape = arrays.array_form(place, shape)
        dtype = numpy_dtype(place.dtype) or np.dtype(name)
    header = io.BytesIO()
    described = {
        "descr": np.lib.format.dtype_to_descr(dtype),
        "fortran_order": False,
        "shape": array_shape,
    }
    np.lib.format.write_array_header_1_0(header, described)
    return chain([header.getvalue()], content)


class TensorText(msgspec.Struct, frozen=True, kw_only=True):
    """A tensor as numpy prints it. ``array_dtype`` and ``array_shape`` are those of the array."""

    name: str
    number: int
    member: str
    tensor: str
    dtype: str
    shape: tuple[int, ...]
    digest: str | None
    logical_bytes: int
    rows: tuple[int, int] | None
    array_dtype: str
    array_shape: tuple[int, ...]
    text: str


def tensor_text(
    version: VersionFiles,
    place: TensorPlace,
    *,
    rows: Rows | None = None,
    dequantise: bool = False,
) -> TensorText:
    """Return a tensor, or rows of it, as numpy prints it; of a long one only what is shown is read.

    ``logical_bytes`` are those of the rows asked for.
    """
    chosen = None if rows is None else arrays.row_span(place, rows)
    shape = place.shape if chosen is None else (chosen[1] - chosen[0], *place.shape[1:])
    array_dtype, array_shape = arrays.array_form(place, shape, dequantised=dequantise)
    return TensorText(
        name=version.version.name,
        number=version.version.number,
        member=place.member,
        tensor=place.name,
        dtype=place.dtype,
        shape=place.shape,
        digest=_shown_digest(place.digest),
        logical_bytes=_bytes_of_rows(place, shape, chosen),
        rows=chosen,
        array_dtype=array_dtype,
        array_shape=array_shape,
        text=arrays.printed(place, rows=rows, dequantised=dequantise),
    )


def _bytes_of_rows(
    place: TensorPlace, shape: tuple[int, ...], chosen: tuple[int, int] | None
) -> int:
    plain = numpy_dtype(place.dtype)
    if place.strides is not None and plain is not None:
        return prod(shape) * plain.itemsize
    whole = place.byte_count
    return whole * shape[0] // max(place.shape[0], 1) if chosen else whole


def _stored_tensor(one: VersionFile, row: TensorRow) -> StoredTensor:
    return StoredTensor(
        name=row.name,
        dtype=row.dtype,
        shape=row.shape,
        member=one.path,
        logical_bytes=row.length,
        digest=_shown_digest(row.digest),
    )


def _shown_digest(digest: bytes | None) -> str | None:
    return None if digest is None else f"blake3:{digest.hex()}"


def _is_same(a: StoredTensor, b: StoredTensor) -> bool:
    same = (a.dtype, a.shape, a.digest) == (b.dtype, b.shape, b.digest)
    return a is b or (same and a.digest is not None)
