"""PyTorch's checkpoints before 1.6: pickles one after the other, then the storages.

In this order (torch/serialization.py, ``_legacy_save``): a magic number, the protocol's version,
what machine wrote it, the object itself, the keys of its storages, each a pickle; then for each
key the number of elements in 8 little-endian bytes and the elements, little-endian on every
machine. The pickles are read by ``formats/inert_pickle.py``, never loaded.

Refused: the tar files of PyTorch before 0.1.10, storages that are parts of other ones (PyTorch
0.3), and files that end like a checkpoint and are none.
"""

from typing import Final

import msgspec

from hartonomous.core.description import Description, Notice
from hartonomous.errors import StructureError
from hartonomous.formats.inert_pickle import Pickle, read_pickle
from hartonomous.formats.torch_description import Place, describe_checkpoint
from hartonomous.formats.torch_dtype import element_bytes
from hartonomous.formats.torch_tree import Storage, storage_of
from hartonomous.formats.zip_directory import MAGIC as ZIP_MAGIC
from hartonomous.ports.format import Format, RangeReader

MAGIC_NUMBER: Final = 0x1950A86A20F9469CFC6C
PROTOCOL_VERSION: Final = 1001
ENDINGS = (".pt", ".pth", ".ckpt")

_MAGIC_BYTES = b"\x8a\x0a" + MAGIC_NUMBER.to_bytes(10, "little") + b"."
_MAGIC_WITHIN = 16  # a PROTO and perhaps a FRAME come before it
_TAR_MAGIC = (257, b"ustar")
_TAR_MEMBERS = (b"sys_info\0", b"pickle\0", b"storages\0", b"tensors\0")
_COUNT_BYTES = 8


class _TorchLegacy:
    """The format's parser; see the module's text."""

    name = "torch-legacy"

    def matches(self, path: str, head: bytes) -> bool:
        """Say yes to the magic number, and to what ends as checkpoints do and is no zip file."""
        if _begins_with_magic(head) or _is_tar(head):
            return True
        return path.lower().endswith(ENDINGS) and not head.startswith(ZIP_MAGIC)

    def parse(self, reader: RangeReader) -> Description:
        """Return the tensors by offset; raises StructureError or LimitError."""
        head = reader.read(0, min(reader.size, 512))
        if _is_tar(head):
            raise StructureError("a tar file of PyTorch before 0.1.10, which is not read")
        if not _begins_with_magic(head):
            raise StructureError("it is no zip file and does not begin with PyTorch's magic number")
        at = read_pickle(reader).end
        version = read_pickle(reader, at)
        if version.value != PROTOCOL_VERSION:
            raise StructureError("the version of the format is not 1001, the only one there is")
        machine = read_pickle(reader, version.end)
        content = read_pickle(reader, machine.end)
        keys = read_pickle(reader, content.end)
        places, end = _find_storages(reader, keys, _storages_of(content))
        names = [*machine.globals, *content.globals, *keys.globals]
        return describe_checkpoint(
            self.name,
            msgspec.structs.replace(content, globals=tuple(names)),
            places,
            metadata={},
            notices=_notices(reader.size - end),
        )


TORCH_LEGACY: Final[Format] = _TorchLegacy()
"""The entry for the table of formats."""


def _begins_with_magic(head: bytes) -> bool:
    return _MAGIC_BYTES in head[: _MAGIC_WITHIN + len(_MAGIC_BYTES)]


def _is_tar(head: bytes) -> bool:
    at, magic = _TAR_MAGIC
    return head[at : at + len(magic)] == magic and head.startswith(_TAR_MEMBERS)


def _storages_of(pickle: Pickle) -> dict[str, Storage]:
    """Return the storages that a pickle refers to; the first reference says what one is."""
    found: dict[str, Storage] = {}
    for one in pickle.persistent:
        if isinstance(one.id, tuple) and one.id[:1] == ("module",):
            continue  # a class with its source
        storage = storage_of(one)
        found.setdefault(storage.key, storage)
    return found


def _find_storages(
    reader: RangeReader, keys: Pickle, storages: dict[str, Storage]
) -> tuple[dict[str, Place], int]:
    """Return where each storage lies, and where the last one ends."""
    listed = keys.value
    if not isinstance(listed, list) or not all(isinstance(key, str) for key in listed):
        raise StructureError("the list of storages is no list of keys")
    places: dict[str, Place] = {}
    at = keys.end
    for key in listed:
        if key in places or key not in storages:
            raise StructureError("the list of storages names one twice, or one that nothing uses")
        known = storages[key]
        count = int.from_bytes(reader.read(at, _COUNT_BYTES), "little", signed=True)
        if count != known.element_count:
            raise StructureError(
                f"storage {key[:40]!a} has {count} elements where it lies, "
                f"{known.element_count} where it is used"
            )
        at += _COUNT_BYTES
        length = count * element_bytes(known.dtype)
        if length > reader.size - at:
            raise StructureError(f"the file ends inside of storage {key[:40]!a}")
        places[key] = Place(offset=at, length=length)
        at += length
    return places, at


def _notices(rest_bytes: int) -> tuple[Notice, ...]:
    if not rest_bytes:
        return ()
    return (Notice(kind="structure", text=f"{rest_bytes} bytes follow the last storage"),)
