"""GGUF versions 2 and 3, little-endian: metadata and tensors of llama.cpp's model files.

A file is a head (magic, version, counts), key–value metadata, a list of tensors, padding up to
``general.alignment``, and the tensors' bytes at any multiples of it. What is read here is the
header only. Stricter than gguf-py (tensors are aligned, inside the file and apart), less strict
than llama.cpp, which wants tensors in file order without gaps.

Element types: the numbers of ``core.dtype.GGML_TYPES``, and 31–33 (``Q4_0_4_4`` …, removed from
ggml, found in files of 2024, a reordered Q4_0 of known size). Any other number up to 1,023 (newer
ones; 4 and 5, older than GGUF; 36–38 and from 97 on, which forks of llama.cpp reuse with layouts
of their own) has no size that one could rely on: such a tensor is named ``GGML_<number>``, reaches
to where the next one begins, padding included, and a notice says so. Refusing the whole file would
lose the structure of its other tensors; leaving the tensor out would make it look absent.

Refused: version 1 (32-bit counts, nobody writes it since 2023) and big-endian files, because the
element types of ``core.dtype`` are little-endian and the tensors would be misread.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import msgspec

from hartonomous.core.description import Description, Notice, Tensor
from hartonomous.core.dtype import GGML_TYPES
from hartonomous.core.template import TEXT_LIMIT, examine_template
from hartonomous.errors import LimitError, StructureError
from hartonomous.formats.gguf_values import (
    TYPE_STRING,
    TYPE_UINT32,
    ByteWindow,
    read_text,
    read_value,
    read_value_and_text,
)
from hartonomous.ports.format import RangeReader

MAGIC = b"GGUF"
VERSIONS = (2, 3)
DEFAULT_ALIGNMENT = 32
ALIGNMENT_KEY = "general.alignment"
TEMPLATE_KEY = "tokenizer.chat_template"
RESERVED_KEYS = ("_version", "_alignment", "_chat_templates")
"""Keys of ``Description.metadata`` that say what the head says; a file's own ones give way."""

MAX_KEYS = 65_536
MAX_TENSORS = 200_000
MAX_DIMENSIONS = 8
MAX_KEY_BYTES = 65_535
MAX_NAME_BYTES = 4_096
MAX_TYPE_NUMBER = 1_023
_MAX_INT64 = 2**63 - 1

_LEAST_KEY_BYTES = 8 + 4 + 1
_LEAST_TENSOR_BYTES = 8 + 4 + 4 + 8

# Rows of Q4_0 blocks interleaved by 4 or 8: the bytes of Q4_0 in another order.
_REMOVED_TYPES = {
    31: ("Q4_0_4_4", 32, 18),
    32: ("Q4_0_4_8", 32, 18),
    33: ("Q4_0_8_8", 32, 18),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Info:
    """A line of the tensor list; ``length`` is None where the type's size is unknown."""

    name: str
    kind: int
    shape: tuple[int, ...]
    offset: int
    length: int | None


class GgufFormat:
    """GGUF as a ``ports.format.Format``; without state."""

    name = "gguf"

    def matches(self, path: str, head: bytes) -> bool:  # noqa: ARG002 — the port's signature
        """Say whether ``head`` begins with GGUF's magic; the name of the file is not asked."""
        return head.startswith(MAGIC)

    def parse(self, reader: RangeReader) -> Description:
        """Return the tensors and the metadata; see the module for what is refused.

        ``metadata`` has every key of the file and the reserved ``_version`` and ``_alignment``, and
        ``_chat_templates``, what each of its chat templates would call, where it has any.
        """
        window = ByteWindow(reader)
        version, tensor_count, key_count = _read_head(window)
        metadata, notices = _read_metadata(window, key_count)
        alignment = int(metadata.get(ALIGNMENT_KEY, DEFAULT_ALIGNMENT))
        if alignment == 0 or alignment & (alignment - 1):
            raise StructureError(f"{ALIGNMENT_KEY} is {alignment}, it must be a power of two")
        infos = _read_infos(window, tensor_count)
        start = -(-window.position // alignment) * alignment
        metadata |= {"_version": version, "_alignment": alignment}
        return Description(
            format=self.name,
            tensors=_place(infos, start=start, alignment=alignment, size=reader.size),
            metadata=metadata,
            notices=(*notices, *_type_notices(infos)),
        )


GGUF = GgufFormat()
"""The format object that the table of formats names."""


def _read_head(window: ByteWindow) -> tuple[int, int, int]:
    """Return version, tensor count and key count, all checked."""
    if window.take(4) != MAGIC:
        raise StructureError("the file does not begin with GGUF's magic")
    version = window.u32()
    if version & 0xFFFF == 0 and version:
        raise StructureError("this is a big-endian GGUF file; only little-endian ones are read")
    if version not in VERSIONS:
        raise StructureError(f"GGUF version {version} is not read, only versions 2 and 3 are")
    tensor_count, key_count = window.u64(), window.u64()
    # The counts are held against what is left of the file before anything is made of them.
    least = tensor_count * _LEAST_TENSOR_BYTES + key_count * _LEAST_KEY_BYTES
    if least > window.remaining:
        raise StructureError(
            f"the head claims {tensor_count:,} tensors and {key_count:,} keys, which need at "
            f"least {least:,} bytes; {window.remaining:,} are left"
        )
    if tensor_count > MAX_TENSORS:
        raise LimitError(f"{tensor_count:,} tensors; at most {MAX_TENSORS:,} are read")
    if key_count > MAX_KEYS:
        raise LimitError(f"{key_count:,} metadata keys; at most {MAX_KEYS:,} are read")
    return version, tensor_count, key_count


def _read_metadata(window: ByteWindow, count: int) -> tuple[dict[str, Any], list[Notice]]:
    metadata: dict[str, Any] = {}
    notices: list[Notice] = []
    templates: list[dict[str, Any]] = []
    for index in range(count):
        window.where = f"metadata key {index}"
        key = read_text(window, limit=MAX_KEY_BYTES, what="a metadata key")
        if key in metadata:
            raise StructureError(f"the metadata has the key {key[:200]!r} twice")
        window.where = f"metadata key {key[:200]!r}"
        kind = window.u32()
        if key == ALIGNMENT_KEY and kind != TYPE_UINT32:
            raise StructureError(f"{ALIGNMENT_KEY} must be a uint32, its type number is {kind}")
        if kind == TYPE_STRING and (key == TEMPLATE_KEY or key.startswith(f"{TEMPLATE_KEY}.")):
            metadata[key], text = read_value_and_text(window, limit=TEXT_LIMIT)
            name = key.removeprefix(TEMPLATE_KEY).removeprefix(".") or "default"
            templates.append({"name": name, **msgspec.to_builtins(examine_template(text))})
        else:
            metadata[key] = read_value(window, kind)
        if key in RESERVED_KEYS:
            notices.append(
                Notice(kind="reserved-key", text=f"the file's own key {key!r} is not shown")
            )
    metadata.pop("_chat_templates", None)
    return {**metadata, **({"_chat_templates": templates} if templates else {})}, notices


def _read_infos(window: ByteWindow, count: int) -> list[_Info]:
    infos: list[_Info] = []
    names: set[str] = set()
    for index in range(count):
        window.where = f"tensor {index}"
        info = _read_info(window)
        if info.name in names:
            raise StructureError(f"two tensors are named {info.name[:200]!r}")
        names.add(info.name)
        infos.append(info)
    return infos


def _read_info(window: ByteWindow) -> _Info:
    name = read_text(window, limit=MAX_NAME_BYTES, what="a tensor's name")
    dimensions = window.u32()
    if dimensions > MAX_DIMENSIONS:
        raise StructureError(
            f"tensor {name[:200]!r} has {dimensions:,} dimensions; at most {MAX_DIMENSIONS} are "
            "read"
        )
    extents = tuple(window.u64() for _ in range(dimensions))
    kind, offset = window.u32(), window.u64()
    return _Info(
        name=name,
        kind=kind,
        shape=extents[::-1],  # ggml writes the fastest axis first
        offset=offset,
        length=_byte_count(name, kind, extents),
    )


def _byte_count(name: str, kind: int, extents: Sequence[int]) -> int | None:
    """Return a tensor's bytes, None for a type of unknown size; checks that it can exist."""
    if kind > MAX_TYPE_NUMBER:
        raise StructureError(f"tensor {name[:200]!r}: {kind} is no ggml type")
    span = 1  # without the zeros, so that (0, 2**62, 2**62) is refused like numpy does
    for extent in extents:
        span *= extent or 1
        if span > _MAX_INT64:
            raise StructureError(f"tensor {name[:200]!r} has more than 2**63 elements")
    if 0 in extents:
        return 0
    known = GGML_TYPES.get(kind) or _REMOVED_TYPES.get(kind)
    if known is None:
        return None
    dtype, block_elements, block_bytes = known
    row = extents[0] if extents else 1
    if row % block_elements:
        raise StructureError(
            f"tensor {name[:200]!r} has rows of {row:,} elements, which fill no whole blocks of "
            f"{dtype} ({block_elements} elements)"
        )
    return span // block_elements * block_bytes


def _place(infos: Sequence[_Info], *, start: int, alignment: int, size: int) -> tuple[Tensor, ...]:
    """Return the tensors in the file's order of listing, at absolute offsets.

    Raises StructureError unless all are aligned, inside the file, and apart from each other.
    """
    for info in infos:
        if info.offset % alignment:
            raise StructureError(
                f"tensor {info.name[:200]!r} begins at {info.offset:,}, which is no multiple of "
                f"the alignment {alignment:,}"
            )
        end = start + info.offset + (info.length or 0)
        if end > size:
            raise StructureError(
                f"tensor {info.name[:200]!r} ends at {end:,}, the file has {size:,} bytes",
                hint="the file may be cut off: compare its size with the source's",
            )
    lengths = _lengths(infos, data_bytes=size - start)
    return tuple(
        Tensor(
            name=info.name,
            dtype=_dtype_name(info.kind),
            shape=info.shape,
            offset=start + info.offset,
            length=length,
        )
        for info, length in zip(infos, lengths, strict=True)
    )


def _lengths(infos: Sequence[_Info], *, data_bytes: int) -> list[int]:
    """Return each tensor's bytes; one of unknown size reaches to the next, or to the end."""
    lengths = [info.length or 0 for info in infos]
    filled = [index for index, info in enumerate(infos) if info.length != 0]
    filled.sort(key=lambda index: infos[index].offset)
    for index, following in pairwise([*filled, None]):
        assert index is not None
        info = infos[index]
        limit = data_bytes if following is None else infos[following].offset
        if info.length is None:
            lengths[index] = limit - info.offset
        if lengths[index] == 0 or info.offset + lengths[index] > limit:
            other = "the file's end" if following is None else repr(infos[following].name[:200])
            raise StructureError(
                f"tensor {info.name[:200]!r} has no room before {other}: they overlap"
            )
    return lengths


def _dtype_name(kind: int) -> str:
    known = GGML_TYPES.get(kind) or _REMOVED_TYPES.get(kind)
    return known[0] if known else f"GGML_{kind}"


def _type_notices(infos: Sequence[_Info]) -> list[Notice]:
    """Say once a kind which element types are not ggml's of today."""
    removed = [info for info in infos if info.kind in _REMOVED_TYPES]
    unknown = [
        info for info in infos if info.kind not in GGML_TYPES and info.kind not in _REMOVED_TYPES
    ]
    notices = []
    if removed:
        notices.append(
            Notice(
                kind="removed-dtype",
                text=f"{_listing(removed)}: removed from ggml, current programs do not read it",
            )
        )
    if unknown:
        notices.append(
            Notice(
                kind="unknown-dtype",
                text=f"{_listing(unknown)}: size not known, so each such tensor is taken to reach "
                "to where the next one begins, padding included",
            )
        )
    return notices


def _listing(infos: Sequence[_Info]) -> str:
    names = sorted({_dtype_name(info.kind) for info in infos})
    shown = ", ".join(names[:8]) + (", …" if len(names) > 8 else "")
    return f"{len(infos):,} tensors of type {shown}"
