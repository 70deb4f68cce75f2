"""A checkpoint that several processes wrote: its kind, its step, and how the model was split.

Read from the paths and descriptions of its files: torch.distributed.checkpoint's index,
DeepSpeed's and Megatron's ranks (`core.rank_files`) and the plain values in their pickles. Every
value goes through `core.claims`.
"""

import re
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from hartonomous.core.claims import MAX_NUMBER, Claims, NoticeLog
from hartonomous.core.item_names import INDEX_FORMAT, SHARD_FORMAT, has_chunks, whole_name
from hartonomous.core.rank_files import DEEPSPEED, RankFile, rank_file
from hartonomous.core.weight_set import Member

_STEP_KEYS = (
    "global_steps", "iteration", "global_step", "step", "train_state.step", "trainer.global_step",
    "app.step", "train_state.global_step",
)  # fmt: skip
_SIZES = {
    "tensor": ("mp_world_size", "args.tensor_model_parallel_size"),
    "pipeline": ("args.pipeline_model_parallel_size",),
    "data": ("dp_world_size", "args.data_parallel_size"),
    "expert": ("args.expert_model_parallel_size",),
}
_STEP_AT_END = re.compile(r"(?:step|checkpoint|ckpt|iter|epoch)s?[-_]?(\d{1,15})$")
_LOOKED_AT = 64
"""Files whose values are asked: every rank says the same."""


class ParallelRanks(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Into how many ranks a model was split, each way; absent where nothing tells."""

    tensor: int | None = None
    pipeline: int | None = None
    data: int | None = None
    expert: int | None = None


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a training run's processes wrote the model.

    ``kind`` is ``torch-distributed``, ``deepspeed`` or ``megatron``; ``file_count`` are the files
    with parts of it, ``tensor_count`` the whole tensors that they make, as an index or the files
    themselves say; ``written_to`` is the place that the index names.
    """

    kind: str
    file_count: int
    step: int | None = None
    ranks: ParallelRanks | None = None
    tensor_count: int | None = None
    written_to: str | None = None


def find_checkpoint(members: Sequence[Member], log: NoticeLog) -> Checkpoint | None:
    """Return what the files tell of a checkpoint of several processes; None if there is none."""
    shards = [member for member in members if _is_shard(member)]
    if shards:
        return _distributed(members, shards, log)
    ranked = [(rank, member) for member in members if (rank := rank_file(member[0])) is not None]
    if not ranked:
        return None
    kind = ranked[0][0].kind
    files = [member for rank, member in ranked if rank.kind == kind]
    seen = _seen([rank for rank, _ in ranked if rank.kind == kind])
    claims = list(_values(files, log))
    declared = {key: _first_count(claims, keys) for key, keys in _SIZES.items()}
    _tell_missing(seen, declared, log)
    sizes = {key: declared[key] or seen.get(key) for key in _SIZES}
    return Checkpoint(
        kind=kind,
        file_count=len(files),
        step=_first_count(claims, _STEP_KEYS),
        ranks=ParallelRanks(**sizes) if any(sizes.values()) else None,
    )


def _is_shard(member: Member) -> bool:
    path, description = member
    file = path.rpartition("/")[2]
    named = description.format == "safetensors" and has_chunks(file)
    return named or description.format == SHARD_FORMAT


def _distributed(members: Sequence[Member], shards: Sequence[Member], log: NoticeLog) -> Checkpoint:
    index = next((member for member in members if member[1].format == INDEX_FORMAT), None)
    count: int | None = None
    if index is None:
        if any(member[1].format == SHARD_FORMAT for member in shards):
            text = "the checkpoint's .metadata is missing: its tensors have no names"
            log.add("checkpoint", text)
        else:  # safetensors files say it themselves
            count = len({whole_name(one.name) for _, held in shards for one in held.tensors})
        told = Claims(None, origin=".metadata", log=log)
    else:
        told = Claims(index[1].metadata, origin=index[0], log=log)
        _tell_missing_files(index, members, log)
    place = told.text("checkpoint_id")
    step = _first_count(_values(shards, log), _STEP_KEYS)
    if step is None and place is not None:
        found = _STEP_AT_END.search(place.rpartition("/")[2])
        step = int(found[1]) if found is not None else None
    return Checkpoint(
        kind="torch-distributed",
        file_count=len(shards),
        step=step,
        tensor_count=count if index is None else told.count("tensor_count"),
        written_to=place,
    )


def _tell_missing_files(index: Member, members: Sequence[Member], log: NoticeLog) -> None:
    """Note how many of the files that the index names are not there."""
    folder = index[0].rpartition("/")[0]
    listed = index[1].metadata.get("items")
    there = {path for path, _ in members}
    names = (
        [name for name in listed if isinstance(name, str)] if isinstance(listed, Mapping) else []
    )
    missing = sum((f"{folder}/{name}" if folder else name) not in there for name in names)
    if missing:
        log.add("checkpoint", f"{missing} of {len(names)} files of the checkpoint are missing")


def _values(files: Iterable[Member], log: NoticeLog) -> Iterable[Claims]:
    for path, description in list(files)[:_LOOKED_AT]:
        values = description.metadata.get("values")
        if isinstance(values, Mapping):
            yield Claims(values, origin=path, log=log)


def _first_count(claims: Iterable[Claims], keys: Sequence[str]) -> int | None:
    """Return the first whole number that one of the keys holds in one of the files."""
    for one in claims:
        for key in keys:
            value = one.scalar(key)
            if type(value) is int and 0 <= value <= MAX_NUMBER:
                return value
    return None


def _seen(ranks: Sequence[RankFile]) -> dict[str, int]:
    """Return how many different ranks the paths name, each way."""
    counts = {}
    for key in _SIZES:
        numbers = {value for one in ranks if (value := getattr(one, key)) is not None}
        if numbers and not (key == "expert" and ranks[0].kind == DEEPSPEED):
            counts[key] = len(numbers)
    return counts


def _tell_missing(
    seen: Mapping[str, int], declared: Mapping[str, int | None], log: NoticeLog
) -> None:
    for key, count in seen.items():
        wanted = declared[key]
        if wanted is not None and wanted > count:
            log.add("checkpoint", f"files of {count} of {wanted} {key} ranks are there")
