"""Weight sets: which files together hold one copy of a model's weights, and which copies count.

A folder may hold the same weights several times (safetensors beside GGUF, a half-precision
variant, checkpoints of one training run). The rule:

1. Files of one folder and format are one set when they are shards of one name
   (``x-00001-of-00003``) or when an index file lists them; all ``.npy`` files of a folder are one
   set, and all ``.distcp`` files; so are all shards that processes wrote of one model
   (``shard-00002-model-00001-of-00001``), and the files of all ranks of a DeepSpeed or Megatron
   checkpoint, in which equal names are different parts; an ONNX model and the files of its weights
   (``x.onnx``, ``x.onnx_data``) are one. Any other file is a set of its own. A tensor name that
   comes twice in a set counts once.
2. Folders that hold other forms or states of the model above them (``checkpoint-500``, ``onnx``,
   ``original`` …) belong to the folder above; every other folder is a component of its own (a text
   encoder, a U-Net), and all components count.
3. In a component the set nearest to the top counts first; then safetensors before other formats,
   later checkpoints before earlier ones, the larger set before the smaller. Another set counts as
   well only if it has the same format and shares no tensor name with those that count, and is not
   Mistral's and Meta's second copy named ``consolidated``.
4. Optimizer state never counts. Of tensors that are the same bytes of a file (tied weights) the
   first counts.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec
from msgspec import structs

from hartonomous.core.claims import clean
from hartonomous.core.coding import Coding
from hartonomous.core.description import Description, Tensor
from hartonomous.core.item_names import SHARD_ENDING, SHARD_FORMAT, whole_file
from hartonomous.core.packed_weight import count_packed
from hartonomous.core.rank_files import rank_file
from hartonomous.core.role import Role
from hartonomous.core.weight import Weight, bounded_sum, weigh

_SHARD = re.compile(r"(?P<stem>.*)-\d{1,6}-of-\d{1,6}", re.DOTALL)
_OTHER_FORM = re.compile(
    r"(?:checkpoint[-_]|global_step|iter_|step[-_]?)(?P<step>\d{1,12})|pytorch_model_fsdp_\d+"
    r"|optimizer_\d+|original|onnx|openvino|coreml|gguf|mlx|metal|fp16|bf16|int8"
)
_FORMAT_RANK = {"safetensors": 0, "gguf": 1}
_SHARING = frozenset({"torch-zip", "torch-legacy", "onnx", "onnx-data", SHARD_FORMAT})
"""Formats whose tensors may be the same bytes."""
_FOLDER_FORMATS = {"npy": "*.npy", SHARD_FORMAT: "*.distcp"}
"""Formats of which all files of a folder are one set."""
_ALL_RANKS = "mp_rank_*"
_SECOND_COPY = "consolidated"
_ONNX_FORMATS = ("onnx", "onnx-data")
_ONNX_ENDING = re.compile(r"\.onnx.*", re.DOTALL)
_INDEX_ENDING = ".index.json"

Member = tuple[str, Description]
"""Path inside the artifact, and what its parser found."""


class WeightSet(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One copy of weights: its format, its files, its sums; ``counted`` in the model's or not."""

    name: str
    format: str
    file_count: int
    tensor_count: int
    parameter_count: int
    tensor_bytes: int
    counted: bool


@dataclass(slots=True, kw_only=True)
class Copy:
    """A weight set with its weights, before anything is summed up."""

    folder: str
    stem: str
    format: str
    members: list[Member] = field(default_factory=list)
    weights: list[Weight] = field(default_factory=list)

    @property
    def parameter_count(self) -> int:
        """Elements of the set's weights."""
        return bounded_sum(weight.parameter_count for weight in self.weights)

    def names(self) -> set[str]:
        """Names of the set's tensors."""
        return {weight.name for weight in self.weights}

    def summed(self, *, counted: bool) -> WeightSet:
        """Return the set's sums."""
        return WeightSet(
            name=clean(f"{self.folder}/{self.stem}" if self.folder else self.stem),
            format=clean(self.format, 64),
            file_count=len(self.members),
            tensor_count=len(self.weights),
            parameter_count=self.parameter_count,
            tensor_bytes=bounded_sum(weight.size_bytes for weight in self.weights),
            counted=counted,
        )


def copies_of(members: Sequence[Member]) -> list[Copy]:
    """Return the weight sets of an artifact's members, in the order of the paths."""
    listed = _listed_files(members)
    copies: dict[tuple[str, str, str], Copy] = {}
    for path, description in sorted(members, key=lambda member: member[0]):
        if not description.tensors:
            continue
        folder, _, file = path.rpartition("/")
        name = "onnx" if description.format in _ONNX_FORMATS else description.format
        rank = rank_file(path)
        if rank is not None:
            folder, stem = rank.home, _ALL_RANKS
        else:
            stem = listed.get(path) or _stem(file, description.format)
        key = (folder, name, stem)
        copy = copies.setdefault(key, Copy(folder=folder, stem=stem, format=name))
        copy.members.append((path, description))
    for copy in copies.values():
        copy.weights = _weights(copy)
    return list(copies.values())


def counted_copies(copies: Iterable[Copy]) -> list[Copy]:
    """Return the sets that make up the model, the largest first (see the module for the rule)."""
    components: dict[str, list[Copy]] = {}
    for copy in copies:
        if any(weight.role is not Role.OPTIMIZER_STATE for weight in copy.weights):
            components.setdefault(_component(copy.folder), []).append(copy)
    counted = [copy for group in components.values() for copy in _counted_in(group)]
    return sorted(counted, key=lambda copy: (-copy.parameter_count, copy.folder, copy.stem))


def _counted_in(group: list[Copy]) -> list[Copy]:
    first, *others = sorted(group, key=_precedence)
    counted, names = [first], first.names()
    for copy in others:
        its_names = copy.names()
        if (
            copy.format != first.format
            or copy.stem == _SECOND_COPY
            or not names.isdisjoint(its_names)
        ):
            continue
        counted.append(copy)
        names |= its_names
    return counted


def _precedence(copy: Copy) -> tuple[int, bool, int, int, int, str, str]:
    depth = copy.folder.count("/") + 1 if copy.folder else 0
    checkpoint = _OTHER_FORM.fullmatch(copy.folder.rpartition("/")[2])
    step = int(checkpoint["step"] or 0) if checkpoint else 0
    return (
        depth,
        copy.stem == _SECOND_COPY,
        _FORMAT_RANK.get(copy.format, 2),
        -step,
        -copy.parameter_count,
        copy.folder,
        copy.stem,
    )


def _component(folder: str) -> str:
    return "/".join(part for part in folder.split("/") if not _OTHER_FORM.fullmatch(part))


def _stem(file: str, format_name: str) -> str:
    if format_name in _FOLDER_FORMATS:
        return _FOLDER_FORMATS[format_name]
    if file.lower().endswith(SHARD_ENDING):  # safetensors inside
        return _FOLDER_FORMATS[SHARD_FORMAT]
    file = whole_file(file) or file
    if format_name in _ONNX_FORMATS:
        return _ONNX_ENDING.sub("", file) or file
    stem = file.rpartition(".")[0] or file
    shard = _SHARD.fullmatch(stem)
    if shard is not None:
        return shard["stem"]
    return _SECOND_COPY if stem.startswith(f"{_SECOND_COPY}.") else stem


def _listed_files(members: Sequence[Member]) -> dict[str, str]:
    """Return the paths that index files list, with the stem of their index."""
    listed: dict[str, str] = {}
    for path, description in members:
        if not path.endswith(_INDEX_ENDING):
            continue
        folder, _, file = path.rpartition("/")
        stem = file.removesuffix(_INDEX_ENDING).rpartition(".")[0]
        for name in _files_of_index(description.metadata):
            listed[f"{folder}/{name}" if folder else name] = stem or file
    return listed


def _files_of_index(metadata: Mapping[str, object]) -> set[str]:
    """Return the shards that an index's description names: ``{"shards": {file: tensors}}``."""
    shards = metadata.get("shards")
    if not isinstance(shards, Mapping):
        return set()
    return {name for name in shards if isinstance(name, str) and "/" not in name}


def _weights(copy: Copy) -> list[Weight]:
    """Return the set's weights, each name once; tied ones count their parameters once."""
    found: dict[str, Weight] = {}
    by_file = copy.format == "npy" or copy.stem == _ALL_RANKS
    for path, description in copy.members:
        ranges: set[tuple[int, int, Coding | None]] = set()
        for weight in weigh(path, description.tensors):
            key = f"{path}\0{weight.name}" if by_file else weight.name
            tensor = weight.tensor
            place = (tensor.offset, tensor.length, tensor.coding)
            tied = copy.format in _SHARING and tensor.length > 0 and place in ranges
            ranges.add(place)
            found.setdefault(key, structs.replace(weight, parameter_count=0) if tied else weight)
    return count_packed(list(found.values()))


def optimizer_tensors(copies: Iterable[Copy]) -> list[Tensor]:
    """Return the optimizer state in all sets, counted or not."""
    return [
        weight.tensor
        for copy in copies
        for weight in copy.weights
        if weight.role is Role.OPTIMIZER_STATE
    ]
