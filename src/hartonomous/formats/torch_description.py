"""From the views of a checkpoint and the places of its storages to a description.

Belongs to ``formats/torch_zip.py`` and ``formats/torch_legacy.py``, which differ in where a storage
lies. A view in C order is a range of the file. Any other one is the range from its first to its
last element, with its strides. Ranges may be equal (tied weights) or overlap (slices of one
storage). A view of a deflated storage has all of that as its range, and a coding that says which of
the inflated bytes are its own.

Each of these is read from the storage's beginning. A file may therefore have so many of them that
reading all would inflate ``INFLATED_LIMIT`` times what the storages hold; further ones are named in
``metadata["compressed"]`` only.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from hartonomous.core.coding import DEFLATE, Coding, check_coding
from hartonomous.core.description import Description, Notice, Tensor
from hartonomous.core.dtype import DTYPES
from hartonomous.core.strides import is_c_order, span
from hartonomous.errors import StructureError
from hartonomous.formats.inert_pickle import Pickle
from hartonomous.formats.pickle_verdict import DANGEROUS, UNKNOWN, listed
from hartonomous.formats.quoted import quoted, quoted_names
from hartonomous.formats.torch_dtype import big_endian, element_bytes
from hartonomous.formats.torch_tree import Tree, View, read_tree, storage_bytes

_GLOBALS_LISTED = 256
_NAMES_LISTED = 256

INFLATED_LIMIT = 16
"""How often views of deflated storages may inflate them, all views of all storages together."""


class Place(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Where a storage lies in the file; ``inflated`` is its size where it lies deflated."""

    offset: int
    length: int
    inflated: int | None = None

    @property
    def size(self) -> int:
        """Bytes that the storage has."""
        return self.length if self.inflated is None else self.inflated


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
    left_out: list[View] = []
    room = INFLATED_LIMIT * sum(one.inflated or 0 for one in places.values())
    for view in tree.views:
        tensor = _placed(view, places, little_endian=little_endian)
        if tensor.coding is not None:
            room -= tensor.coding.skip + tensor.coding.length
        if tensor.coding is not None and room < 0:
            left_out.append(view)
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
    if left_out:
        told["compressed"] = [
            {"name": view.name, "dtype": view.dtype, "shape": list(view.shape)}
            for view in left_out[:_NAMES_LISTED]
        ]
    return Description(
        format=format_name,
        tensors=tuple(tensors),
        metadata=told,
        notices=(
            *notices_of_names(names),
            *_notices_of_tensors(tensors, left_out),
            *_notices_of_tree(tree),
            *notices,
        ),
    )


def _placed(view: View, places: Mapping[str, Place], *, little_endian: bool) -> Tensor:
    """Return a view as a range of the file, or of what a range inflates to."""
    if view.storage.key not in places:
        raise StructureError(f"the storage {quoted(view.storage.key)} is not in the file")
    place = places[view.storage.key]
    available = storage_bytes(view.storage)
    if available > place.size:
        raise StructureError(
            f"the storage {quoted(view.storage.key)} should have {available} bytes, it has "
            f"{place.size}"
        )
    width = element_bytes(view.dtype)
    length = span(view.shape, view.strides) * width
    if length and view.offset * width + length > available:
        raise StructureError(f"tensor {quoted(view.name)} reaches outside of its storage")
    start = view.offset * width if length else 0
    plain = is_c_order(view.shape, view.strides)
    coding = None
    if place.inflated is not None:
        coding = Coding(method=DEFLATE, skip=start, length=length)
        check_coding(coding, place.length)
    return Tensor(
        name=view.name,
        dtype=view.dtype if little_endian else big_endian(view.dtype),
        shape=view.shape,
        offset=place.offset + (start if coding is None else 0),
        length=length if coding is None else place.length,
        strides=None if plain else view.strides,
        coding=coding,
    )


# -- notices


def notices_of_names(names: Sequence[dict[str, str]]) -> list[Notice]:
    """Return the notices about a pickle's names that are dangerous or unknown."""
    dangerous = [one["name"] for one in names if one["verdict"] == DANGEROUS]
    unknown = [one["name"] for one in names if one["verdict"] == UNKNOWN]
    found = []
    if dangerous:
        text = f"loading this file with pickle would import or call {quoted_names(dangerous)}"
        found.append(Notice(kind="dangerous-pickle", text=f"{text}: do not load it"))
    if unknown:
        text = "loading this file with pickle would call what is not known to be harmless: "
        found.append(Notice(kind="unknown-pickle", text=text + quoted_names(unknown)))
    return found


def _notices_of_tensors(tensors: Sequence[Tensor], left_out: Sequence[View]) -> list[Notice]:
    found = []
    unknown = sorted({one.dtype for one in tensors if one.dtype not in DTYPES})
    if unknown:
        text = f"elements of type {quoted_names(unknown)} are taken as bytes"
        found.append(Notice(kind="dtype", text=text))
    coded = [one.name for one in tensors if one.coding is not None]
    if coded:
        text = f"{len(coded)} tensors lie compressed, are kept as they lie and shared with nothing"
        found.append(Notice(kind="compressed", text=f"{text}: {quoted_names(coded)}"))
    if left_out:
        text = f"{len(left_out)} tensors cannot be read, too many share a compressed storage"
        named = quoted_names([view.name for view in left_out])
        found.append(Notice(kind="limit", text=f"{text}: {named}"))
    return found


def _notices_of_tree(tree: Tree) -> list[Notice]:
    found = []
    reasons: dict[str, list[str]] = {}
    for name, reason in tree.left_out:
        reasons.setdefault(reason, []).append(name)
    for reason, names in reasons.items():
        text = f"{len(names)} tensors are left out, {reason}: {quoted_names(names)}"
        found.append(Notice(kind="tensor", text=text))
    if tree.renamed:
        text = f"{tree.renamed} tensors have the name of another one and got a number behind it"
        found.append(Notice(kind="name", text=text))
    if tree.left_out_values:
        text = f"{tree.left_out_values} values are left out of the description: it is full"
        found.append(Notice(kind="limit", text=text))
    return found
