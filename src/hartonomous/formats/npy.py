"""NumPy's ``.npy``, versions 1, 2 and 3: a magic, a header in Python's literal syntax, one array.

The header is read by a small parser of its own, not evaluated. The file must hold exactly the
bytes that dtype and shape need (numpy itself ignores what follows). Arrays of Python objects are
pickles: no tensor, what loading them would name is listed.

The array is one tensor named ``array``. Its shape is the one that numpy reports; where metadata
says ``fortran_order``, its bytes run column-major, so a reader reshapes with ``order="F"``.
Little-endian plain types get the names of ``core.dtype``; any other type keeps numpy's own text
(``>f4``, ``<U10``, ``[('x', '<i4'), ('y', '<f8')]``) and a notice.
"""

import re
from typing import Final, NoReturn

import msgspec

from hartonomous.core.description import Description, Notice, Tensor
from hartonomous.core.dtype import DTYPES
from hartonomous.errors import LimitError, StructureError
from hartonomous.formats.npy_objects import ObjectNames
from hartonomous.ports.format import Format, RangeReader

HEADER_LIMIT_BYTES = 64 << 10
NESTING_LIMIT = 32
AXIS_LIMIT = 64
SIZE_LIMIT = 2**63 - 1

_MAGIC = b"\x93NUMPY"
_PREFIX_BYTES = len(_MAGIC) + 2
_LENGTH_BYTES = {1: 2, 2: 4, 3: 4}  # of the header's length, by major version
_ENCODING = {1: "latin-1", 2: "latin-1", 3: "utf-8"}
_KEYS = {"descr", "fortran_order", "shape"}

_NAMES = {
    "b1": "BOOL", "i1": "I8", "i2": "I16", "i4": "I32", "i8": "I64",
    "u1": "U8", "u2": "U16", "u4": "U32", "u8": "U64",
    "f2": "F16", "f4": "F32", "f8": "F64", "c8": "C64", "c16": "C128",
}  # fmt: skip
_SIZES = {
    "b": (1,), "i": (1, 2, 4, 8), "u": (1, 2, 4, 8), "f": (2, 4, 8, 12, 16),
    "c": (8, 16, 24, 32), "m": (8,), "M": (8,),
}  # fmt: skip
# ml_dtypes writes its one-byte floats as "<f1": their meaning is not in the file, their size is.
_OPAQUE = {"f1"}
_CODE = re.compile(r"([<>|=]?)([a-zA-Z])([0-9]{0,10})(\[[0-9A-Za-z/]{1,32}\])?", re.ASCII)

_TOKEN = re.compile(
    r"""[ \t\r\n\f\0]*+(?:
        (?P<string>'[^'\\\n]*+(?:\\.[^'\\\n]*+)*+'|"[^"\\\n]*+(?:\\.[^"\\\n]*+)*+")
      | (?P<number>[0-9]{1,19})L?(?![0-9A-Za-z_])
      | (?P<word>True|False|None)(?![0-9A-Za-z_])
      | (?P<mark>[\[\](){},:])
      | (?P<end>\Z)
    )""",
    re.VERBOSE,
)
_WORDS = {"True": True, "False": False, "None": None}
_CLOSING = {"(": ")", "[": "]", "{": "}"}


class NpyHeader(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a header says; ``length`` is its own, that is where the array begins."""

    version: str
    descr: object
    fortran_order: bool
    shape: tuple[int, ...]
    length: int

    @property
    def element_count(self) -> int:
        """Product of the shape; raises StructureError if it is beyond 63 bits."""
        return _element_count(self.shape)


class _Npy:
    """The format's parser; see the module's text."""

    name = "npy"

    def matches(self, path: str, head: bytes) -> bool:
        """Say yes to the magic, and to ``*.npy`` without it (which is then refused and named)."""
        return head.startswith(_MAGIC) or path.lower().endswith(".npy")

    def parse(self, reader: RangeReader) -> Description:
        """Return the one tensor; raises StructureError or LimitError."""
        header = read_header(reader)
        if holds_objects(header.descr):
            return self._objects(reader, header)
        length = header.element_count * item_bytes(header.descr)
        check_length(header, length, reader.size)
        dtype, notices = name_dtype(header.descr)
        tensor = Tensor(
            name="array", dtype=dtype, shape=header.shape, offset=header.length, length=length
        )
        metadata = {"version": header.version, "fortran_order": header.fortran_order}
        return Description(format=self.name, tensors=(tensor,), metadata=metadata, notices=notices)

    def _objects(self, reader: RangeReader, header: NpyHeader) -> Description:
        found = ObjectNames()
        found.add("array", reader, header.length)
        text = "the array holds Python objects: a pickle, which is never loaded"
        return Description(
            format=self.name,
            metadata={"version": header.version, "objects": ["array"], **found.metadata()},
            notices=(Notice(kind="pickle", text=text), *found.notices()),
        )


NPY: Final[Format] = _Npy()
"""The entry for the table of formats."""


def read_header(reader: RangeReader) -> NpyHeader:
    """Return the header at the reader's beginning; raises StructureError or LimitError."""
    version, text, start = _read_header(reader)
    descr, fortran_order, shape = _fields(parse_literal(text))
    return NpyHeader(
        version=version, descr=descr, fortran_order=fortran_order, shape=shape, length=start
    )


def check_length(header: NpyHeader, length: int, size: int) -> None:
    """Raise StructureError unless header and array of ``length`` bytes fill ``size`` exactly."""
    if length != size - header.length:
        raise StructureError(
            f"the array needs {length} bytes, the file holds {size - header.length} after its "
            "header"
        )


def _read_header(reader: RangeReader) -> tuple[str, str, int]:
    """Return the version, the header's text and where the array begins."""
    prefix = reader.read(0, _PREFIX_BYTES)
    if not prefix.startswith(_MAGIC):
        raise StructureError("the file does not begin as .npy files do")
    major, minor = prefix[-2:]
    if major not in _LENGTH_BYTES or minor != 0:
        raise StructureError(f"version {major}.{minor} of .npy is unknown")
    start = _PREFIX_BYTES + _LENGTH_BYTES[major]
    length = int.from_bytes(reader.read(_PREFIX_BYTES, _LENGTH_BYTES[major]), "little")
    if start + length > reader.size:
        raise StructureError(f"the header claims {length} bytes, the file ends before")
    if length > HEADER_LIMIT_BYTES:
        raise LimitError(f"the header has {length} bytes, {HEADER_LIMIT_BYTES} are granted")
    try:
        text = reader.read(start, length).decode(_ENCODING[major])
    except UnicodeDecodeError as error:
        raise StructureError(f"the header is not UTF-8: {error}") from error
    return f"{major}.{minor}", text, start + length


class _Frame:
    """An open bracket of the header (or its outside, "") and the values in it so far."""

    __slots__ = ("items", "marks", "opened")

    def __init__(self, opened: str) -> None:
        self.opened = opened
        self.items: list[object] = []
        self.marks = 0  # commas and colons: as many as items where a value may come next

    def add_value(self, value: object) -> None:
        if len(self.items) != self.marks:
            _refuse("a comma is missing")
        self.items.append(value)

    def add_mark(self, mark: str) -> None:
        after_key = self.opened == "{" and len(self.items) % 2 == 1
        if len(self.items) != self.marks + 1 or mark != (":" if after_key else ","):
            _refuse(f"{mark!r} is out of place")
        self.marks += 1

    def close(self, closing: str) -> object:
        if _CLOSING.get(self.opened) != closing:
            _refuse(f"{closing!r} is out of place")
        if self.opened == "[":
            return self.items
        if self.opened == "(":
            if len(self.items) == 1 and self.marks == 0:
                _refuse("a tuple of one lacks its comma")
            return tuple(self.items)
        keys = self.items[::2]
        if len(self.items) % 2 or not all(isinstance(key, str) for key in keys):
            _refuse("a dict lacks a value or has a key that is no string")
        if len(set(keys)) != len(keys):
            _refuse("a dict has a key twice")
        return dict(zip(keys, self.items[1::2], strict=True))


def parse_literal(text: str) -> object:
    """Read strings, integers, True, False, None, tuples, lists and dicts in Python's syntax.

    Strings keep their escapes as written. No recursion: open brackets lie on a list of their own.
    Raises StructureError on any other syntax and on a key given twice, LimitError past 32 levels.
    """
    frames = [_Frame("")]
    at = 0
    while True:
        match = _TOKEN.match(text, at)
        if match is None:
            _refuse(f"character {at} is not expected")
        at = match.end()
        mark = match["mark"]
        if match["end"] is not None:
            break
        if mark is None:
            frames[-1].add_value(_scalar(match))
        elif mark in _CLOSING:
            if len(frames) > NESTING_LIMIT:
                raise LimitError(f"the header is nested deeper than {NESTING_LIMIT} levels")
            frames.append(_Frame(mark))
        elif mark in ",:":
            frames[-1].add_mark(mark)
        else:
            value = frames.pop().close(mark)
            frames[-1].add_value(value)
    outside = frames[-1]
    if outside.opened or outside.marks or len(outside.items) != 1:
        _refuse("it is no single value")
    return outside.items[0]


def _scalar(match: re.Match[str]) -> object:
    if match["string"] is not None:
        return match["string"][1:-1]
    return int(match["number"]) if match["number"] is not None else _WORDS[match["word"]]


def _refuse(reason: str) -> NoReturn:
    raise StructureError(f"the header is not what numpy writes: {reason}")


def _fields(header: object) -> tuple[object, bool, tuple[int, ...]]:
    """Return descr, fortran_order and shape of a header that has these three and no other."""
    if not isinstance(header, dict) or set(header) != _KEYS:
        _refuse("it is no dict of descr, fortran_order and shape")
    fortran_order = header["fortran_order"]
    if not isinstance(fortran_order, bool):
        _refuse("fortran_order is neither True nor False")
    shape = header["shape"]
    if not isinstance(shape, tuple):
        _refuse("shape is no tuple")
    return header["descr"], fortran_order, _extents(shape)


def _extents(shape: object) -> tuple[int, ...]:
    """Return a shape as a tuple; a bare integer is a shape of one axis."""
    extents = shape if isinstance(shape, tuple) else (shape,)
    if len(extents) > AXIS_LIMIT:
        raise LimitError(f"the shape has {len(extents)} axes, {AXIS_LIMIT} are granted")
    for extent in extents:
        if not isinstance(extent, int) or isinstance(extent, bool):
            _refuse("a shape holds something else than integers")
    return extents


def _element_count(shape: tuple[int, ...]) -> int:
    count = 1
    for extent in shape:
        count *= extent
        if count > SIZE_LIMIT:
            raise StructureError("the shape overflows")
    return count


def item_bytes(descr: object) -> int:
    """Return the bytes of one element; raises StructureError on types that have no fixed size."""
    total = 0
    waiting = [(descr, 1)]
    while waiting:
        part, times = waiting.pop()
        if isinstance(part, str):
            total += times * _code_bytes(part)
        elif isinstance(part, tuple) and len(part) == 2:  # (element type, shape of a subarray)
            waiting.append((part[0], times * _element_count(_extents(part[1]))))
        elif isinstance(part, list) and part:
            waiting += [(kind, times * inner) for kind, inner in map(_field, part)]
        else:
            _refuse("descr is no element type")
        if times > SIZE_LIMIT or total > SIZE_LIMIT:
            raise StructureError("the element type overflows")
    return total


def holds_objects(descr: object) -> bool:
    """Say whether elements, or fields of them, are Python objects: a pickle in place of bytes."""
    waiting = [descr]
    while waiting:
        part = waiting.pop()
        if isinstance(part, str):
            match = _CODE.fullmatch(part)
            if match is not None and match[2] == "O":
                return True
        elif isinstance(part, tuple) and part:
            waiting.append(part[0])
        elif isinstance(part, list):
            waiting += [field[1] for field in part if isinstance(field, tuple) and len(field) > 1]
    return False


def _field(field: object) -> tuple[object, int]:
    """Return the type of a structure's field and how many of it the field holds."""
    if not isinstance(field, tuple) or len(field) not in (2, 3):
        _refuse("a field of descr is no (name, type) or (name, type, shape)")
    return field[1], _element_count(_extents(field[2])) if len(field) == 3 else 1


def _code_bytes(code: str) -> int:
    match = _CODE.fullmatch(code)
    if match is None:
        raise StructureError(f"the element type {code[:40]!a} is unknown")
    _, kind, digits, unit = match.groups()
    if kind == "O":
        raise StructureError("an object array: its values are a pickle, which is never loaded")
    size = int(digits or 0)
    if kind in "SV" and not unit:
        return size
    if kind == "U" and not unit:
        return 4 * size
    known = size in _SIZES.get(kind, ()) or kind + digits in _OPAQUE
    if not known or (unit and kind not in "mM"):
        raise StructureError(f"the element type {code[:40]!a} is unknown")
    return size


def name_dtype(descr: object) -> tuple[str, tuple[Notice, ...]]:
    """Return the dtype's name and, if it is none of ``core.dtype``, a notice."""
    if not isinstance(descr, str):
        return repr(descr), (Notice(kind="dtype", text="structured elements are taken as bytes"),)
    plain = _NAMES.get(descr.lstrip("<>|="))
    if plain is not None and (descr.startswith("<") or DTYPES[plain].block_bytes == 1):
        return plain, ()
    text = f"elements of type {descr!a} are taken as bytes"
    return descr, (Notice(kind="dtype", text=text),)
