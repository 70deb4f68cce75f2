"""Names of the items in torch.distributed.checkpoint's files, which lie in a file beside them.

``.metadata`` says of every item which file it lies in, where, and which part of which tensor it is;
the ``.distcp`` files hold the bytes. Parsers see one file at a time, so the files' tensors are
first called by place (``item@1705``). ``ItemNames`` is given the descriptions of one artifact in
the order of their paths, in which ``.metadata`` comes first, and puts names in the place of places.

A tensor that lies in one piece has its own name. A chunk of a sharded tensor has the offsets of its
first element behind it: ``model.layers.0.weight[512,0]``.

PyTorch writes chunks into safetensors files too (``SerializationFormat.SAFETENSORS``, and
``HuggingFaceStorageWriter``, whose files are called ``shard-00001-model-00001-of-00001``). Every
such file calls a chunk like the whole tensor; the offsets are in its header, as JSON in the entry
``DCP_SHARDING_INFO`` (torch/distributed/checkpoint/_hf_utils.py).
"""

import re
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import structs

from hartonomous.core.description import Description, Tensor
from hartonomous.core.undecodable import UNDECODABLE

SHARD_FORMAT = "torch-distributed"
INDEX_FORMAT = "torch-distributed-index"

SHARD_ENDING = ".distcp"

_SHARD_FILE = re.compile(r"shard-[0-9]{1,9}-(model-[0-9]{1,9}-of-[0-9]{1,9}\.safetensors)")
_OFFSETS_KEY = "DCP_SHARDING_INFO"
_ITEM = re.compile(r"(item@[0-9]+)(.*)", re.DOTALL)
_CHUNK = re.compile(r"\[[0-9,]*\]$")


def item_name(offset: int) -> str:
    """Return what an item is called by its place."""
    return f"item@{offset}"


def chunk_name(name: str, offsets: tuple[int, ...]) -> str:
    """Return what a chunk of the tensor ``name`` is called that begins at ``offsets``."""
    return f"{name}[{','.join(map(str, offsets))}]"


def whole_name(name: str) -> str:
    """Return the tensor's name of a chunk's name."""
    return _CHUNK.sub("", name)


class _Saved(msgspec.Struct, frozen=True):
    """Where a chunk begins in its tensor, as a safetensors header says it."""

    saved_offsets: tuple[int, ...]


_saved_decoder = msgspec.json.Decoder(dict[str, _Saved])


def whole_file(name: str) -> str | None:
    """Return what all shards called like ``name`` are parts of; None if it is no such name."""
    found = _SHARD_FILE.fullmatch(name)
    return found and found[1]


def has_chunks(name: str) -> bool:
    """Say whether a file of this name holds items or chunks of a distributed checkpoint."""
    return name.lower().endswith(SHARD_ENDING) or whole_file(name) is not None


class ItemNames:
    """The names that the ``.metadata`` files of one artifact give, by folder."""

    __slots__ = ("_files", "_tensors")

    def __init__(self) -> None:
        self._files: dict[str, Mapping[str, Any]] = {}
        self._tensors: dict[str, Mapping[str, Any]] = {}

    def told(self, path: str, description: Description) -> Description:
        """Return the description of the file at ``path`` with the names that are known by now."""
        folder, _, file = path.rpartition("/")
        if description.format == INDEX_FORMAT:
            for key, known in (("items", self._files), ("tensors", self._tensors)):
                found = description.metadata.get(key)
                if isinstance(found, Mapping):
                    known[folder] = found
            return description
        if description.format == "safetensors" and has_chunks(file):
            return _chunked(description, self._tensors.get(folder, {}))
        if description.format != SHARD_FORMAT:
            return description
        names = self._files.get(folder, {}).get(file)
        return _named(description, names) if isinstance(names, Mapping) else description


def _named(description: Description, names: Mapping[str, Any]) -> Description:
    taken: dict[str, int] = {}
    values = description.metadata.get("values")
    held = values if isinstance(values, Mapping) else {}
    return structs.replace(
        description,
        tensors=tuple(_renamed(one, names, taken) for one in description.tensors),
        metadata={
            **description.metadata,
            "values": {_name_of(key, names): value for key, value in held.items()},
        },
    )


def _chunked(description: Description, whole: Mapping[str, Any]) -> Description:
    """Return a safetensors file's description with the offsets of chunks behind their names.

    ``whole`` are the tensors that an index lists: one that has its whole shape here is no chunk.
    """
    strings = description.metadata.get("__metadata__")
    text = strings.get(_OFFSETS_KEY) if isinstance(strings, Mapping) else None
    try:
        saved = _saved_decoder.decode(text) if isinstance(text, str) else {}
    except UNDECODABLE:
        return description  # it says nothing that PyTorch would
    taken: dict[str, int] = {}
    tensors = []
    for one in description.tensors:
        begin = saved[one.name].saved_offsets if one.name in saved else ()
        listed = whole.get(one.name)
        is_whole = isinstance(listed, Mapping) and listed.get("shape") == list(one.shape)
        fits = len(begin) == len(one.shape) and all(0 <= at < 1 << 63 for at in begin)
        is_chunk = bool(begin) and fits and not is_whole
        tensors.append(_called(one, chunk_name(one.name, begin) if is_chunk else one.name, taken))
    return structs.replace(description, tensors=tuple(tensors))


def _renamed(tensor: Tensor, names: Mapping[str, Any], taken: dict[str, int]) -> Tensor:
    return _called(tensor, _name_of(tensor.name, names), taken)


def _called(tensor: Tensor, name: str, taken: dict[str, int]) -> Tensor:
    """Return the tensor under a name; one that comes again gets ``#2`` … behind it."""
    count = taken[name] = taken.get(name, 0) + 1
    return structs.replace(tensor, name=name if count == 1 else f"{name}#{count}")


def _name_of(place: str, names: Mapping[str, Any]) -> str:
    found = _ITEM.fullmatch(place)
    name = names.get(found[1]) if found else None
    return f"{name}{found[2]}" if found and isinstance(name, str) else place
