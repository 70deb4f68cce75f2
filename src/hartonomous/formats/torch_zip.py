"""PyTorch's checkpoints since 1.6: a zip file of a pickle and one member for each storage.

``ARCHIVE/data.pkl`` says what there is, ``ARCHIVE/data/KEY`` are the storages, and
``ARCHIVE/byteorder`` and ``ARCHIVE/version`` what they say (torch/serialization.py,
caffe2/serialize/inline_container.cc). TorchScript's archives are built alike. The pickle is read by
``formats/inert_pickle.py``, never loaded. Storages are not read: their CRCs are not checked here,
only the pickle's.

PyTorch stores without compressing. A storage that some other tool has deflated stays as it lies:
its tensors have a coding, are shared with nothing, and a notice names them.
"""

from typing import Any, Final

import msgspec

from hartonomous.core.description import Description, Notice
from hartonomous.errors import StructureError
from hartonomous.formats.inert_pickle import PICKLE_LIMIT_BYTES, Pickle, read_pickle
from hartonomous.formats.reader import BytesReader
from hartonomous.formats.torch_description import Place, describe_checkpoint
from hartonomous.formats.zip_directory import (
    MAGIC,
    STORED,
    ZipEntry,
    read_directory,
    read_member,
)
from hartonomous.ports.format import Format, RangeReader

ENDINGS = (".pt", ".pth", ".bin", ".ckpt")
_PICKLE = "/data.pkl"
_SMALL_BYTES = 64
_FIRST_MEMBERS = (b"/data.pkl", b"/version", b"/byteorder", b"/data/0", b"/.format_version")


class Archive(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """An archive's pickle, where its storages lie in the file, and what its small members say."""

    pickle: Pickle
    places: dict[str, Place]
    metadata: dict[str, Any]
    little_endian: bool
    notices: tuple[Notice, ...]


class _TorchZip:
    """The format's parser; see the module's text."""

    name = "torch-zip"

    def matches(self, path: str, head: bytes) -> bool:
        """Say yes to zip files that end as checkpoints do, or begin with one of their members."""
        if not head.startswith(MAGIC):
            return False
        first = head[30 : 30 + int.from_bytes(head[26:28], "little")]
        return path.lower().endswith(ENDINGS) or first.endswith(_FIRST_MEMBERS)

    def parse(self, reader: RangeReader) -> Description:
        """Return the tensors by offset; raises StructureError or LimitError."""
        archive = read_archive(reader)
        return describe_checkpoint(
            self.name,
            archive.pickle,
            archive.places,
            metadata=archive.metadata,
            little_endian=archive.little_endian,
            notices=archive.notices,
        )


TORCH_ZIP: Final[Format] = _TorchZip()
"""The entry for the table of formats."""


def read_archive(reader: RangeReader) -> Archive:
    """Return what an archive holds; raises StructureError or LimitError."""
    entries = read_directory(reader)
    root, entry = _pickle_of(entries)
    content = read_member(reader, entry, limit_bytes=PICKLE_LIMIT_BYTES)
    pickle = read_pickle(BytesReader(content))
    order = _small(reader, entries, f"{root}/byteorder")
    if order not in (None, "little", "big"):
        raise StructureError(f"the byte order {order!a} is unknown")
    metadata: dict[str, Any] = {}
    version = _small(reader, entries, f"{root}/version")
    metadata |= {} if version is None else {"version": version}
    metadata |= {} if order is None else {"byteorder": order}
    scripts = sum(name.startswith(f"{root}/code/") and name.endswith(".py") for name in entries)
    metadata |= {"script_count": scripts} if scripts else {}
    return Archive(
        pickle=pickle,
        places=_places(entries, f"{root}/data/"),
        metadata=metadata,
        little_endian=order != "big",
        notices=_notices(len(content) - pickle.end),
    )


def _pickle_of(entries: dict[str, ZipEntry]) -> tuple[str, ZipEntry]:
    """Return the archive's folder and the member that says what there is."""
    found = [name for name in entries if name.endswith(_PICKLE) and name.count("/") == 1]
    if len(found) != 1:
        raise StructureError(f"the zip file has {len(found)} members *{_PICKLE}, not one")
    return found[0].removesuffix(_PICKLE), entries[found[0]]


def _small(reader: RangeReader, entries: dict[str, ZipEntry], name: str) -> str | None:
    """Return a small member's text; None if it is not there."""
    if name not in entries:
        return None
    content = read_member(reader, entries[name], limit_bytes=_SMALL_BYTES)
    return content.decode("latin-1").strip()


def _places(entries: dict[str, ZipEntry], folder: str) -> dict[str, Place]:
    return {
        name.removeprefix(folder): Place(
            offset=one.offset,
            length=one.length,
            inflated=None if one.method == STORED else one.size,
        )
        for name, one in entries.items()
        if name.startswith(folder)
    }


def _notices(rest_bytes: int) -> tuple[Notice, ...]:
    if not rest_bytes:
        return ()
    return (Notice(kind="structure", text=f"{rest_bytes} bytes follow the pickle in its member"),)
