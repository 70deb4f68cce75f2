"""From the views of a checkpoint and the places of its storages to a description.

Belongs to ``formats/torch_zip.py`` and ``formats/torch_legacy.py``, which differ in where a storage
lies. A view in C order is a range of the file. Any other one is the range from its first to its
last element, with its strides. Ranges may be equal (tied weights) or overlap (slices of one
storage).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from hartonomous.core.description import Description, Notice, Tensor
from hartonomous.core.dtype import DTYPES
from hartonomous.core.strides import is_c_order, span
from hartonomous.errors import StructureError
from hartonomous.formats.inert_pickle import Pickle
from hartonomous.formats.pickle_verdict import DANGEROUS, UNKNOWN, listed
from hartonomous.formats.torch_dtype import big_endian, element_bytes
from hartonomous.formats.torch_tree import Tree, View, read_tree, storage_bytes

_NAMED = 8
_GLOBALS_LISTED = 256
_NAMES_LISTED = 256

Place = tuple[int, int] | None
"""Offset and length of a storage in the file; None where it lies compressed."""


def describe_checkpoint(
    format_name: str,
    pickle: Pickle,
    places: Mapping[str, Place],
    *,
    metadata: dict[str, Any],
    little_endian: bool = True,
    notices: Sequence[Notice] = (),
) -> Description:
    """Return what a checkpoint holds; raises StructureError where a view leaves its storage."""
    tree = read_tree(pickle.value)
    tensors: list[Tensor] = []
    compressed: list[View] = []
    for view in tree.views:
        tensor = _placed(view, places, little_endian=little_endian)
        if tensor is None:
            compressed.append(view)
        else:
            tensors.append(tensor)
    tensors.sort(key=lambda one: one.offset)
    names = listed(pickle.globals)
    told: dict[str, Any] = {
        **metadata,
        "protocol": pickle.protocol,
        "globals": names[:_GLOBALS_LISTED],
        "values": tree.values,
    }
    if compressed:
        told["compressed"] = [
            {"name": view.name, "dtype": view.dtype, "shape": list(view.shape)}
            for view in compressed[:_NAMES_LISTED]
        ]
    return Description(
        format=format_name,
        tensors=tuple(tensors),
        metadata=told,
        notices=(
            *notices_of_names(names),
            *_notices_of_tensors(tensors, compressed),
            *_notices_of_tree(tree),
            *notices,
        ),
    )


def _placed(view: View, places: Mapping[str, Place], *, little_endian: bool) -> Tensor | None:
    """Return a view as a range of the file; None if its storage is compressed."""
    if view.storage.key not in places:
        raise StructureError(f"the storage {_quoted(view.storage.key)} is not in the file")
    place = places[view.storage.key]
    available = storage_bytes(view.storage)
    if place is not None and available > place[1]:
        raise StructureError(
            f"the storage {_quoted(view.storage.key)} should have {available} bytes, it has "
            f"{place[1]}"
        )
    width = element_bytes(view.dtype)
    length = span(view.shape, view.strides) * width
    if length and view.offset * width + length > available:
        raise StructureError(f"tensor {_quoted(view.name)} reaches outside of its storage")
    if place is None:
        return None
    start = place[0] + view.offset * width if length else place[0]
    plain = is_c_order(view.shape, view.strides)
    return Tensor(
        name=view.name,
        dtype=view.dtype if little_endian else big_endian(view.dtype),
        shape=view.shape,
        offset=start,
        length=length,
        strides=None if plain else view.strides,
    )


# -- notices


def _quoted(name: str) -> str:
    return ascii(name if len(name) <= 80 else name[:77] + "...")


def _named(names: Sequence[str]) -> str:
    """Return the first names, and how many more there are."""
    more = len(names) - _NAMED
    return ", ".join(map(_quoted, names[:_NAMED])) + (f" and {more} more" if more > 0 else "")


def notices_of_names(names: Sequence[dict[str, str]]) -> list[Notice]:
    """Return the notices about a pickle's names that are dangerous or unknown."""
    dangerous = [one["name"] for one in names if one["verdict"] == DANGEROUS]
    unknown = [one["name"] for one in names if one["verdict"] == UNKNOWN]
    found = []
    if dangerous:
        text = f"loading this file with pickle would import or call {_named(dangerous)}"
        found.append(Notice(kind="dangerous-pickle", text=f"{text}: do not load it"))
    if unknown:
        text = "loading this file with pickle would call what is not known to be harmless: "
        found.append(Notice(kind="unknown-pickle", text=text + _named(unknown)))
    return found


def _notices_of_tensors(tensors: Sequence[Tensor], compressed: Sequence[View]) -> list[Notice]:
    found = []
    unknown = sorted({one.dtype for one in tensors if one.dtype not in DTYPES})
    if unknown:
        text = f"elements of type {_named(unknown)} are taken as bytes"
        found.append(Notice(kind="dtype", text=text))
    if compressed:
        named = _named([view.name for view in compressed])
        text = f"{len(compressed)} tensors lie compressed and are kept as they lie: {named}"
        found.append(Notice(kind="compressed", text=text))
    return found


def _notices_of_tree(tree: Tree) -> list[Notice]:
    found = []
    reasons: dict[str, list[str]] = {}
    for name, reason in tree.left_out:
        reasons.setdefault(reason, []).append(name)
    for reason, names in reasons.items():
        text = f"{len(names)} tensors are left out, {reason}: {_named(names)}"
        found.append(Notice(kind="tensor", text=text))
    if tree.renamed:
        text = f"{tree.renamed} tensors have the name of another one and got a number behind it"
        found.append(Notice(kind="name", text=text))
    if tree.left_out_values:
        text = f"{tree.left_out_values} values are left out of the description: it is full"
        found.append(Notice(kind="limit", text=text))
    return found
