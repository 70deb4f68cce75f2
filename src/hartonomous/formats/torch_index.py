"""``.metadata`` of torch.distributed.checkpoint: what there is and where it lies, as one pickle.

A ``Metadata`` object (torch/distributed/checkpoint/metadata.py): ``state_dict_metadata`` has the
element type, size and chunks of every tensor by name, ``storage_data`` the file, offset and length
of every item. The pickle is read by ``formats/inert_pickle.py``; its classes are never imported,
only what they would be given as state is looked at.
"""

from pathlib import PurePosixPath
from typing import Any, Final, NoReturn

from hartonomous.core.description import Description
from hartonomous.core.item_names import INDEX_FORMAT, chunk_name, item_name
from hartonomous.errors import LimitError, StructureError
from hartonomous.formats.inert_pickle import read_pickle
from hartonomous.formats.pickle_values import Call, Global, Mapping, Value
from hartonomous.formats.pickle_verdict import listed
from hartonomous.formats.torch_description import notices_of_names
from hartonomous.formats.torch_dtype import DTYPE_NAMES
from hartonomous.formats.torch_values import extents_of, is_count, items_of, plain, readable
from hartonomous.ports.format import Format, RangeReader

FILE_NAME = ".metadata"
ITEM_LIMIT = 100_000
NAME_LIMIT_CHARS = 4_096
TEXT_LIMIT_CHARS = 16 << 20
"""Of all names together, in the description."""

_GLOBALS_LISTED = 256
_MODULE = "torch.distributed.checkpoint.metadata."


class _TorchIndex:
    """The format's parser; see the module's text."""

    name = INDEX_FORMAT

    def matches(self, path: str, head: bytes) -> bool:
        """Say yes to the file's name and a pickle's first byte."""
        return PurePosixPath(path).name == FILE_NAME and head.startswith(b"\x80")

    def parse(self, reader: RangeReader) -> Description:
        """Return names, types and places; raises StructureError or LimitError."""
        pickle = read_pickle(reader)
        if pickle.end != reader.size:
            raise StructureError(f"{reader.size - pickle.end} bytes follow the pickle")
        held = _state_of(pickle.value, "Metadata")
        tensors, sizes = _tensors(held.get("state_dict_metadata"))
        names = listed(pickle.globals)
        metadata: dict[str, Any] = {
            "protocol": pickle.protocol,
            "globals": names[:_GLOBALS_LISTED],
            "tensor_count": len(sizes),
            "tensors": tensors,
            "items": _items(held.get("storage_data"), sizes),
            **_storage_facts(held),
        }
        return Description(
            format=self.name, metadata=metadata, notices=tuple(notices_of_names(names))
        )


TORCH_INDEX: Final[Format] = _TorchIndex()
"""The entry for the table of formats."""


def _refuse(reason: str) -> NoReturn:
    raise StructureError(f"the checkpoint's index is not well-formed: {reason}")


def _state_of(value: Value, cls: str | None = None) -> dict[str, Value]:
    """Return what an object of the class would be given as attributes."""
    if not isinstance(value, Call) or not isinstance(value.state, Mapping):
        _refuse(f"{cls or 'an item'} is no object with attributes")
    if cls is not None and value.path != _MODULE + cls:
        _refuse(f"it holds {value.path[:80]!a} where {cls} is expected")
    return dict(items_of(value.state.items))


def _entries(value: Value, what: str) -> list[Value]:
    """Return keys and values of a dict in turn."""
    if not isinstance(value, Mapping) or len(value.items) > 2 * ITEM_LIMIT:
        _refuse(f"{what} is no dict, or one of more than {ITEM_LIMIT} entries")
    return value.items


def _text(value: Value, what: str) -> str:
    if not isinstance(value, str) or len(value) > NAME_LIMIT_CHARS:
        _refuse(f"{what} is no text, or too long a one")
    return readable(value)


def _tensors(value: Value) -> tuple[dict[str, Any], dict[str, tuple[int, ...]]]:
    """Return {name: {dtype, shape, chunk_count}} and the sizes of the tensors by name."""
    entries = _entries(value, "state_dict_metadata")
    told: dict[str, Any] = {}
    sizes: dict[str, tuple[int, ...]] = {}
    budget = _Budget()
    for key, one in zip(entries[::2], entries[1::2], strict=True):
        name = _text(key, "a name")
        budget.charge(len(name))
        if isinstance(one, Call) and one.path == f"{_MODULE}BytesStorageMetadata":
            continue
        held = _state_of(one, "TensorStorageMetadata")
        size = _extents(held.get("size"))
        chunks = held.get("chunks")
        if not isinstance(chunks, list):
            _refuse("a tensor has no list of chunks")
        sizes[name] = size
        told[name] = {
            "dtype": _dtype(held.get("properties")), "shape": list(size),
            "chunk_count": len(chunks),
        }  # fmt: skip
    return told, sizes


def _extents(value: Value) -> tuple[int, ...]:
    found = extents_of(value)
    if found is None:
        _refuse("a size is no list of natural numbers")
    return found


def _dtype(value: Value) -> str | None:
    """Return the element type of ``TensorProperties``: the first of a tuple, or an attribute."""
    state = value.state if isinstance(value, Call) else None
    if isinstance(state, Mapping):
        state = (dict(items_of(state.items)).get("dtype"),)
    first = state[0] if isinstance(state, tuple) and state else None
    return DTYPE_NAMES.get(first.name) if isinstance(first, Global) else None


def _items(value: Value, sizes: dict[str, tuple[int, ...]]) -> dict[str, dict[str, str]]:
    """Return {file: {place: name}}, the places as the files' own descriptions call them."""
    if value is None:
        return {}
    entries = _entries(value, "storage_data")
    found: dict[str, dict[str, str]] = {}
    budget = _Budget()
    chunk_counts: dict[str, int] = {}
    rows = []
    for key, one in zip(entries[::2], entries[1::2], strict=True):
        index, place = _state_of(key, "MetadataIndex"), _state_of(one)
        name = _text(index.get("fqn"), "a name")
        file, offset = _text(place.get("relative_path"), "a file"), place.get("offset")
        if not isinstance(offset, int) or not is_count(offset):
            _refuse("an item has no offset")
        chunk_counts[name] = chunk_counts.get(name, 0) + 1
        rows.append((file, offset, name, index.get("offset")))
    for file, offset, name, begin in rows:
        is_chunk = name in sizes and chunk_counts[name] > 1 and begin is not None
        shown = chunk_name(name, _extents(begin)) if is_chunk else name
        budget.charge(len(file) + len(shown))
        found.setdefault(file, {})[item_name(offset)] = shown
    return found


def _storage_facts(held: dict[str, Value]) -> dict[str, Any]:
    """Return what is said of the whole: the version, and where it was written."""
    facts: dict[str, Any] = {}
    version = held.get("version")
    if isinstance(version, str):
        facts["version"] = plain(version)
    meta = held.get("storage_meta")
    if isinstance(meta, Call) and isinstance(meta.state, Mapping):
        place = dict(items_of(meta.state.items)).get("checkpoint_id")
        parts = place.arguments if isinstance(place, Call) else (place,)
        if isinstance(parts, tuple) and parts and all(isinstance(part, str) for part in parts):
            facts["checkpoint_id"] = plain(str(PurePosixPath(*parts)))
    return facts


class _Budget:
    """Bounds the text that goes into one part of the description."""

    def __init__(self) -> None:
        self._left = TEXT_LIMIT_CHARS

    def charge(self, chars: int) -> None:
        self._left -= chars
        if self._left < 0:
            raise LimitError(f"the names are longer than {TEXT_LIMIT_CHARS} characters together")
