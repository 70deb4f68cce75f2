"""What makes a folder a checkpoint that several processes wrote, and so one model.

torch.distributed.checkpoint: ``.distcp`` files, with ``.metadata`` beside them, which is taken
although its name is hidden. DeepSpeed: files of ranks, such as ``mp_rank_00_model_states.pt``, in
``global_step100``. Megatron: folders of ranks, such as ``mp_rank_00``, in ``iter_0000100``. Each
step's folder is a model of its own; what lies beside the steps (``latest``) are plain files.
"""

from hartonomous.core.rank_files import DEEPSPEED, is_megatron_folder, rank_file
from hartonomous.sources.listing import SHARD_ENDING, Entry, EntryKind, join, list_folder

_FILES = (EntryKind.FILE, EntryKind.LINK)


def is_checkpoint_folder(location: str, entries: list[Entry]) -> bool:
    """Say whether the folder at ``location``, listed as ``entries``, is such a checkpoint."""
    names = [entry.name for entry in entries if entry.kind in _FILES]
    if any(name.endswith(SHARD_ENDING) or _is_deepspeed(name) for name in names):
        return True
    return any(
        entry.kind is EntryKind.FOLDER
        and is_megatron_folder(entry.name)
        and _holds_rank(location, entry.name)
        for entry in entries
    )


def _is_deepspeed(name: str) -> bool:
    found = rank_file(name)
    return found is not None and found.kind == DEEPSPEED


def _holds_rank(location: str, folder: str) -> bool:
    try:
        below = list_folder(join(location, folder))
    except OSError:
        return False  # the walk meets it again and says so
    return any(
        entry.kind in _FILES and rank_file(f"{folder}/{entry.name}") is not None for entry in below
    )
