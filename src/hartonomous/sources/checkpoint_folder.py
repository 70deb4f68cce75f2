"""What makes a folder a checkpoint that several processes wrote, and so one model.

torch.distributed.checkpoint: ``.distcp`` files, with ``.metadata`` beside them, which is taken
although its name is hidden; or shards in safetensors files, such as
``shard-00001-model-00001-of-00001.safetensors``. DeepSpeed: files of ranks, such as
``mp_rank_00_model_states.pt``, in ``global_step100``. Megatron: folders of ranks, such as
``mp_rank_00``, in ``iter_0000100``. Each step's folder is a model of its own; what lies beside the
steps (``latest``) are plain files.
"""

from hartonomous.core.item_names import SHARD_ENDING, has_chunks
from hartonomous.core.rank_files import DEEPSPEED, is_megatron_folder, rank_file
from hartonomous.sources.listing import (
    SHARD_INDEX,
    Entry,
    EntryKind,
    join,
    list_folder,
)

_FILES = (EntryKind.FILE, EntryKind.LINK)


def is_checkpoint_folder(location: str, entries: list[Entry]) -> bool:
    """Say whether the folder at ``location``, listed as ``entries``, is such a checkpoint.

    A single file is none: it is a model by itself, under its own name.
    """
    found = 0
    for entry in entries:
        if entry.kind in _FILES:
            found += entry.name == SHARD_INDEX and _has_shards(entries)
            found += has_chunks(entry.name) or _is_deepspeed(entry.name)
        elif entry.kind is EntryKind.FOLDER and is_megatron_folder(entry.name):
            found += _rank_files(location, entry.name)
        if found > 1:
            return True
    return False


def _has_shards(entries: list[Entry]) -> bool:
    return any(entry.kind in _FILES and entry.name.endswith(SHARD_ENDING) for entry in entries)


def _is_deepspeed(name: str) -> bool:
    found = rank_file(name)
    return found is not None and found.kind == DEEPSPEED


def _rank_files(location: str, folder: str) -> int:
    """Return how many files of a rank lie in a folder that is called like Megatron's."""
    try:
        below = list_folder(join(location, folder))
    except OSError:
        return 0  # the walk meets it again and says so
    return sum(
        entry.kind in _FILES and rank_file(f"{folder}/{entry.name}") is not None for entry in below
    )
