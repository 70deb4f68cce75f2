"""Names of the items in torch.distributed.checkpoint's files, which lie in a file beside them.

``.metadata`` says of every item which file it lies in, where, and which part of which tensor it is;
the ``.distcp`` files hold the bytes. Parsers see one file at a time, so the files' tensors are
first called by place (``item@1705``). ``ItemNames`` is given the descriptions of one artifact in
the order of their paths, in which ``.metadata`` comes first, and puts names in the place of places.

A tensor that lies in one piece has its own name. A chunk of a sharded tensor has the offsets of its
first element behind it: ``model.layers.0.weight[512,0]``.
"""

import re
from collections.abc import Mapping
from typing import Any

from msgspec import structs

from hartonomous.core.description import Description, Tensor

SHARD_FORMAT = "torch-distributed"
INDEX_FORMAT = "torch-distributed-index"

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


class ItemNames:
    """The names that the ``.metadata`` files of one artifact give, by folder."""

    __slots__ = ("_files",)

    def __init__(self) -> None:
        self._files: dict[str, Mapping[str, Any]] = {}

    def told(self, path: str, description: Description) -> Description:
        """Return the description of the file at ``path`` with the names that are known by now."""
        folder, _, file = path.rpartition("/")
        if description.format == INDEX_FORMAT:
            items = description.metadata.get("items")
            if isinstance(items, Mapping):
                self._files[folder] = items
            return description
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


def _renamed(tensor: Tensor, names: Mapping[str, Any], taken: dict[str, int]) -> Tensor:
    """Return the tensor under its name; a name that comes again gets ``#2`` … behind it."""
    name = _name_of(tensor.name, names)
    count = taken[name] = taken.get(name, 0) + 1
    return structs.replace(tensor, name=name if count == 1 else f"{name}#{count}")


def _name_of(place: str, names: Mapping[str, Any]) -> str:
    found = _ITEM.fullmatch(place)
    name = names.get(found[1]) if found else None
    return f"{name}{found[2]}" if found and isinstance(name, str) else place
