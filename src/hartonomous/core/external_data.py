"""External data: files that hold tensors which another file of the artifact describes.

An ONNX model may keep its weights in files beside it. Its description lists them under
``metadata["external"]``: by the path from the model's own folder, names, types, shapes and ranges.
Such a file has no structure of its own, so it is described by what those say of it. Nothing is
opened here, and a path counts only if the artifact has a member there.
"""

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec

from hartonomous.core.description import Description, Notice, Tensor

FORMAT = "onnx-data"
_KEY = "external"


_Size = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class _Listed(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    dtype: str
    shape: tuple[_Size, ...]
    offset: _Size
    length: _Size


def inner_path(location: str) -> str | None:
    """Return a location as a path inside of the folder that it is said from; None if it is none."""
    if not location or "\0" in location or "\\" in location or location.startswith("/"):
        return None
    parts = [part for part in location.split("/") if part != "."]
    if not parts or any(part in ("", "..") for part in parts) or ":" in parts[0]:
        return None
    return "/".join(parts)


def listed_files(path: str, description: Description) -> dict[str, list[Any]]:
    """Return what the member at ``path`` says of other members: their tensors by path."""
    said = description.metadata.get(_KEY)
    if description.format != "onnx" or not isinstance(said, dict):
        return {}
    folder = path.rpartition("/")[0]
    return {f"{folder}/{inner}" if folder else inner: listed for inner, listed in said.items()}


def describe_data(size: int, said: Sequence[tuple[str, list[Any]]]) -> Description:
    """Return the description of a file of ``size`` bytes that others list.

    ``said`` are their paths and lists, in order. What lies outside of the file is left out with a
    notice; a name that is there already is left out too. Raises msgspec.ValidationError for lists
    that are none.
    """
    tensors: dict[str, Tensor] = {}
    outside: list[str] = []
    for _, listed in said:
        for one in msgspec.convert(listed, list[_Listed]):
            if one.offset + one.length > size:
                outside.append(one.name)
            elif one.name not in tensors:
                tensors[one.name] = Tensor(**msgspec.structs.asdict(one))
    notices = []
    if outside:
        text = f"{len(outside)} tensors should lie here and reach behind the end of the file"
        notices.append(Notice(kind="structure", text=f"{text}: {outside[0][:80]!a}"))
    return Description(
        format=FORMAT,
        tensors=tuple(sorted(tensors.values(), key=lambda one: one.offset)),
        metadata={"described_by": [path for path, _ in said]},
        notices=tuple(notices),
    )
