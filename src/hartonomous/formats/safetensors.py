"""Safetensors: eight bytes of header length, a JSON header, then the tensors without gaps.

Checked as the safetensors library (0.8) does: offsets begin at 0, follow each other without gap or
overlap and end where the file ends; each range fits dtype and shape. Stricter in this: duplicate
keys are refused, the header is at most 16 MiB with 200,000 tensors, a tensor has at most 64 axes,
integers end at 2^63 - 1, an entry is written as an object, metadata has at most 100,000 strings.
Laxer in this: a dtype that nobody knows is kept as the file says, with a notice, since its byte
range is known all the same.

Tensors are returned by offset, in the header's order where empty ones share an offset.
"""

import re
from collections.abc import Sequence
from typing import Annotated, Final

import msgspec

from hartonomous.core.description import Description, Notice, Tensor
from hartonomous.core.dtype import DTYPES
from hartonomous.errors import LimitError, StructureError
from hartonomous.formats.quoted import quoted
from hartonomous.ports.format import Format, RangeReader

HEADER_LIMIT_BYTES = 16 << 20
TENSOR_LIMIT = 200_000
METADATA_ENTRY_LIMIT = 100_000
METADATA_LIMIT_CHARS = 4 << 20
"""Names and values of ``__metadata__`` up to this sum go into the description."""
AXIS_LIMIT = 64
INTEGER_LIMIT = 2**63 - 1

_LENGTH_BYTES = 8
_METADATA_KEY = "__metadata__"
_KEY_LIMIT = 1 + METADATA_ENTRY_LIMIT + 4 * TENSOR_LIMIT

_Unsigned = Annotated[int, msgspec.Meta(ge=0, le=INTEGER_LIMIT)]


class _Entry(msgspec.Struct, frozen=True, gc=False):
    """What a header says of one tensor; other fields are ignored, as the library does."""

    dtype: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    shape: Annotated[tuple[_Unsigned, ...], msgspec.Meta(max_length=AXIS_LIMIT)]
    data_offsets: tuple[_Unsigned, _Unsigned]


_raw_decoder = msgspec.json.Decoder(msgspec.Raw)
_top_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])
_entry_decoder = msgspec.json.Decoder(_Entry)
_strings_decoder = msgspec.json.Decoder(dict[str, str] | None)

# Both run on text that is known to be valid JSON, where they are linear. The first yields ":" for
# each key and "" for each other string; the second also sees the braces and the strings' text.
_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_KEY_MARKS = re.compile(_STRING + rb"[ \t\r\n]*+(:)?", re.DOTALL)
_TOKENS = re.compile(rb"(" + _STRING + rb")[ \t\r\n]*+(:)?|([{}])", re.DOTALL)


class _Safetensors:
    """The format's parser; see the module's text."""

    name = "safetensors"

    def matches(self, path: str, head: bytes) -> bool:
        """Say yes to ``*.safetensors``, and to a sane length with an opening brace after it."""
        if path.lower().endswith(".safetensors"):
            return True
        length = int.from_bytes(head[:_LENGTH_BYTES], "little")
        # The brace of an empty header is followed by its closing one, else by a string.
        start = b"".join(head[_LENGTH_BYTES : _LENGTH_BYTES + 64].split())
        return 2 <= length <= HEADER_LIMIT_BYTES and start[:2] in (b'{"', b"{}")

    def parse(self, reader: RangeReader) -> Description:
        """Return the tensors by offset; raises StructureError or LimitError."""
        header = _read_header(reader)
        entries, strings = _decode_header(header)
        tensors = _place(entries, _LENGTH_BYTES + len(header), reader.size)
        kept, notices = _bound_metadata(strings or {})
        return Description(
            format=self.name,
            tensors=tensors,
            metadata={} if strings is None else {_METADATA_KEY: kept},
            notices=(*notices, *_dtype_notices(tensors)),
        )


SAFETENSORS: Final[Format] = _Safetensors()
"""The entry for the table of formats."""


def _read_header(reader: RangeReader) -> bytes:
    length = int.from_bytes(reader.read(0, _LENGTH_BYTES), "little")
    if length > reader.size - _LENGTH_BYTES:
        raise StructureError(
            f"the header claims {length} bytes, the file has {reader.size - _LENGTH_BYTES} left"
        )
    if length > HEADER_LIMIT_BYTES:
        raise LimitError(f"the header has {length} bytes, {HEADER_LIMIT_BYTES} are granted")
    return reader.read(_LENGTH_BYTES, length)


def _decode_header(header: bytes) -> tuple[dict[str, _Entry], dict[str, str] | None]:
    """Return the tensors' entries in the header's order, and the strings of its metadata."""
    try:
        if not header.isascii():
            header.decode()
        _raw_decoder.decode(header)  # syntax only: nothing is allocated for what is inside
        key_count = _KEY_MARKS.findall(header).count(b":")
        if key_count > _KEY_LIMIT:
            raise LimitError(f"the header has {key_count} keys, {_KEY_LIMIT} are granted")
        top = _top_decoder.decode(header)
        raw_strings = top.pop(_METADATA_KEY, None)
        strings = None if raw_strings is None else _strings_decoder.decode(raw_strings)
    except RecursionError as error:
        raise LimitError("the header is nested too deeply") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StructureError(f"the header is not what safetensors writes: {error}") from error
    if len(top) > TENSOR_LIMIT:
        raise LimitError(f"the header lists {len(top)} tensors, {TENSOR_LIMIT} are granted")
    if len(strings or ()) > METADATA_ENTRY_LIMIT:
        raise LimitError(f"the header has {len(strings or ())} strings of metadata")
    entries = {name: _decode_entry(name, raw) for name, raw in top.items()}
    # Decoding keeps the last of equal keys silently, so keys were counted. Equality proves that
    # there are none; a difference may also come from fields that we ignore.
    expected = len(top) * (1 + len(_Entry.__struct_fields__)) + (raw_strings is not None)
    if key_count != expected + len(strings or ()):
        _refuse_duplicates(header)
    return entries, strings


def _decode_entry(name: str, raw: msgspec.Raw) -> _Entry:
    try:
        return _entry_decoder.decode(raw)
    except msgspec.DecodeError as error:
        raise StructureError(f"the header's entry of tensor {quoted(name)}: {error}") from error


def _refuse_duplicates(header: bytes) -> None:
    """Raise StructureError if any object of this valid JSON has a key twice, however escaped."""
    open_objects: list[set[bytes]] = []
    for token in _TOKENS.finditer(header):
        brace = token[3]
        if brace == b"{":
            open_objects.append(set())
        elif brace == b"}":
            open_objects.pop()
        elif token[2]:
            text = token[1]
            key = msgspec.json.decode(text, type=str).encode() if b"\\" in text else text[1:-1]
            if key in open_objects[-1]:
                raise StructureError(f"the header has the key {quoted(key.decode())} twice")
            open_objects[-1].add(key)


def _place(entries: dict[str, _Entry], start: int, size: int) -> tuple[Tensor, ...]:
    """Return the tensors by offset, once their ranges are found to fill the file exactly."""
    tensors = []
    cursor = 0
    for name, entry in sorted(entries.items(), key=lambda item: item[1].data_offsets):
        begin, end = entry.data_offsets
        if begin != cursor or end < begin:
            raise StructureError(
                f"tensor {quoted(name)} lies at {begin}:{end} where {cursor} should begin: "
                "a gap or an overlap"
            )
        _check_extent(name, entry)
        tensors.append(
            Tensor(
                name=name,
                dtype=entry.dtype,
                shape=entry.shape,
                offset=start + begin,
                length=end - begin,
            )
        )
        cursor = end
    if start + cursor != size:
        raise StructureError(
            f"the header describes {cursor} bytes of tensors, the file holds {size - start}"
        )
    return tuple(tensors)


def _check_extent(name: str, entry: _Entry) -> None:
    """Check that the range is as long as dtype and shape say, where the dtype is known."""
    count = 1
    for extent in entry.shape:
        count *= extent
        if count > INTEGER_LIMIT:
            raise StructureError(f"the shape of tensor {quoted(name)} overflows")
    known = DTYPES.get(entry.dtype)
    begin, end = entry.data_offsets
    if known is not None and known.byte_count(count) != end - begin:
        raise StructureError(
            f"tensor {quoted(name)} has {end - begin} bytes, which {count} elements of "
            f"{entry.dtype} do not fill"
        )


def _bound_metadata(strings: dict[str, str]) -> tuple[dict[str, str], tuple[Notice, ...]]:
    """Return the entries, in order, that fit the limit together, and a notice if some do not."""
    kept = {}
    room = METADATA_LIMIT_CHARS
    for key, value in strings.items():
        if len(key) + len(value) <= room:
            kept[key] = value
            room -= len(key) + len(value)
    left_out = len(strings) - len(kept)
    if not left_out:
        return kept, ()
    text = (
        f"{left_out} of {len(strings)} entries of {_METADATA_KEY} are left out of the description: "
        f"together they are over {METADATA_LIMIT_CHARS} characters"
    )
    return kept, (Notice(kind="limit", text=text),)


def _dtype_notices(tensors: Sequence[Tensor]) -> tuple[Notice, ...]:
    unknown: dict[str, int] = {}
    for tensor in tensors:
        if tensor.dtype not in DTYPES or DTYPES[tensor.dtype].kind == "quantised":
            unknown[tensor.dtype] = unknown.get(tensor.dtype, 0) + 1
    if not unknown:
        return ()
    named = ", ".join(f"{quoted(dtype)} of {unknown[dtype]}" for dtype in sorted(unknown)[:8])
    text = f"element types that safetensors does not know: {named} tensors; taken as bytes"
    return (Notice(kind="dtype", text=text),)
