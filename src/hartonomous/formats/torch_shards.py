"""Files of torch.distributed.checkpoint: ``__RANK_N.distcp``, one zip archive of PyTorch behind
the other.

Each archive is what ``torch.save`` writes of one item of the state dict: a tensor, a chunk of a
sharded tensor, or any other object (torch/distributed/checkpoint/filesystem.py). The file itself
does not say what they are called; ``.metadata`` does (``formats/torch_index.py``). So a tensor is
called by where its item begins, ``item@1705``, and ``core.item_names`` puts its name there once
both are known.

PyTorch's archives give their members' sizes behind the members, so they are found from the end of
the file: an end record says where its archive begins, which is where the one before it ends.
Files whose items went through a compressing extension are no archives and are refused.
"""

from typing import Any, Final

import msgspec

from hartonomous.core.description import Description, Notice, Tensor
from hartonomous.core.item_names import SHARD_ENDING, SHARD_FORMAT, item_name
from hartonomous.errors import LimitError
from hartonomous.formats.pickle_values import Global
from hartonomous.formats.pickle_verdict import listed
from hartonomous.formats.reader import PartReader
from hartonomous.formats.torch_description import describe_checkpoint
from hartonomous.formats.torch_tree import TENSOR_LIMIT, VALUE_LIMIT
from hartonomous.formats.torch_values import is_plain, plain
from hartonomous.formats.torch_zip import read_archive
from hartonomous.formats.zip_directory import archive_start
from hartonomous.ports.format import Format, RangeReader

ITEM_LIMIT = 20_000
"""Items of one file; a larger one is kept as bytes."""
NOTICE_LIMIT = 64
_GLOBALS_LISTED = 256


class _TorchShards:
    """The format's parser; see the module's text."""

    name = SHARD_FORMAT

    def matches(self, path: str, head: bytes) -> bool:
        """Say yes to the ending; what lies at the end of the file decides."""
        return path.lower().endswith(SHARD_ENDING) and bool(head)

    def parse(self, reader: RangeReader) -> Description:
        """Return the tensors by offset; raises StructureError or LimitError."""
        found = _Items()
        for start, end in _archives(reader):
            found.take(PartReader(reader, start, end - start), start)
        found.tensors.sort(key=lambda one: one.offset)
        return Description(
            format=self.name,
            tensors=tuple(found.tensors),
            metadata={
                "item_count": found.count,
                "globals": listed(found.globals.values())[:_GLOBALS_LISTED],
                "values": found.values,
            },
            notices=tuple(found.notices),
        )


TORCH_SHARDS: Final[Format] = _TorchShards()
"""The entry for the table of formats."""


def _archives(reader: RangeReader) -> list[tuple[int, int]]:
    """Return where each archive begins and ends, in the order of the file."""
    found: list[tuple[int, int]] = []
    end = reader.size
    while end:
        if len(found) >= ITEM_LIMIT:
            raise LimitError(f"the file has more than {ITEM_LIMIT} items")
        start = archive_start(reader, end)
        found.append((start, end))
        end = start
    return found[::-1]


class _Items:
    """What the items of one file add up to."""

    def __init__(self) -> None:
        self.count = 0
        self.tensors: list[Tensor] = []
        self.values: dict[str, Any] = {}
        self.globals: dict[tuple[str, str], Global] = {}
        self.notices: dict[Notice, None] = {}

    def take(self, part: RangeReader, start: int) -> None:
        """Add the item whose archive begins at ``start``."""
        archive = read_archive(part)
        told = describe_checkpoint(
            SHARD_FORMAT,
            archive.pickle,
            archive.places,
            metadata={},
            little_endian=archive.little_endian,
            notices=archive.notices,
        )
        self.count += 1
        name = item_name(start)
        alone = len(told.tensors) == 1 and told.tensors[0].name == "tensor"
        for one in told.tensors:
            self.tensors.append(
                msgspec.structs.replace(
                    one,
                    name=name if alone else f"{name}.{one.name}",
                    offset=start + one.offset,
                )
            )
        if len(self.tensors) > TENSOR_LIMIT:
            raise LimitError(f"the file has more than {TENSOR_LIMIT} tensors")
        self._take_values(name, archive.pickle.value, told.metadata["values"])
        for known in archive.pickle.globals:
            self.globals.setdefault((known.module, known.name), known)
        if len(self.notices) < NOTICE_LIMIT:
            self.notices.update(dict.fromkeys(told.notices))

    def _take_values(self, name: str, root: Any, values: dict[str, Any]) -> None:
        if is_plain(root):
            values = {"": plain(root)}
        for key, value in values.items():
            if len(self.values) >= VALUE_LIMIT:
                return
            self.values[f"{name}.{key}" if key else name] = value
