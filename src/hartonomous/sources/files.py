"""Single files, and models in several: split GGUF sets, ONNX with the files of its weights.

An ONNX model that is too large for one file has its weights in files beside it. What these are
called is said in the model, which no source reads; those that exporters write are known by their
names (``x.onnx_data``, ``x.onnx_data_1``, ``x.onnx.data``). Others come along in a model folder.
"""

import os
import re
from collections.abc import Sequence

from hartonomous.core.name import path_endings
from hartonomous.ports.source import Candidate, CandidateKind, MemberSource, Skipped
from hartonomous.sources.listing import join, last_part, read_member, text_of

MODEL_ENDINGS = (
    ".safetensors", ".gguf", ".ggml", ".onnx", ".pt", ".pth", ".ckpt", ".keras", ".tflite",
    ".distcp",
)  # fmt: skip
"""A file of such an ending is taken for a model by its name alone."""
WEIGHT_ENDINGS = (*MODEL_ENDINGS, ".bin", ".h5", ".msgpack", ".npz")
"""Beside a config.json, a file of such an ending holds weights."""

# Written beside weights by training loops; they are state, not a model.
_NOT_WEIGHTS = re.compile(
    r"(training_args|optimizer|scheduler|scaler|rng_state|random_states)[^/]*\.(bin|pt|pth|ckpt)"
)
_MODEL_BIN = re.compile(r"(pytorch_model|adapter_model|diffusion_pytorch_model|model)[^/]*\.bin")
_SPLIT_GGUF = re.compile(r"(?P<stem>.+)-(?P<part>[0-9]{5})-of-(?P<total>[0-9]{5})\.gguf", re.DOTALL)

_ONNX_DATA = re.compile(r"(?P<model>.+\.onnx)[._]data(?:[._-].*)?", re.DOTALL)


def is_weight_file(name: str) -> bool:
    """Say whether a file of this name would hold a model's weights."""
    return name.endswith(WEIGHT_ENDINGS) and not _NOT_WEIGHTS.fullmatch(name)


def kind_of_file(name: str) -> CandidateKind:
    """Return what a file looks like by its name."""
    is_model = name.endswith(MODEL_ENDINGS) and not _NOT_WEIGHTS.fullmatch(name)
    return CandidateKind.MODEL if is_model or _MODEL_BIN.fullmatch(name) else CandidateKind.FILE


def split_set_of(name: str) -> tuple[str, int] | None:
    """Return stem and number of parts if ``name`` is a part of a split GGUF set, else None."""
    found = _SPLIT_GGUF.fullmatch(name)
    if not found or not 1 <= int(found["part"]) <= int(found["total"]):
        return None
    return found["stem"], int(found["total"])


def onnx_data(names: Sequence[str]) -> dict[str, list[str]]:
    """Return the ONNX models among ``names`` that have weights beside them, with those files."""
    found: dict[str, list[str]] = {}
    models = {name for name in names if name.endswith(".onnx")}
    for name in names:
        match = _ONNX_DATA.fullmatch(name)
        if match is not None and match["model"] in models:
            found.setdefault(match["model"], []).append(name)
    return found


def are_one_set(name: str, names: Sequence[str]) -> bool:
    """Say whether files of these ``names`` are taken from a tree together, as ``name``.

    An ONNX model that is called so with its weights, or the parts of a split GGUF set.
    """
    if len(names) < 2:
        return False
    if (data := onnx_data(names).get(name)) is not None:
        return len(data) == len(names) - 1
    found = {split_set_of(one) for one in names}
    return all(one is not None and one[0] == name for one in found)


def onnx_candidate(
    folder: str, model: str, data: Sequence[str], *, boundary: str | None, at_least: int = 1
) -> Candidate | Skipped:
    """Return an ONNX model and the files ``data`` of its weights as one artifact.

    Name and source are those of the model alone. Weights that cannot be read are told in the notes.
    """
    members: list[MemberSource] = []
    notes: list[str] = []
    unread_count = 0
    for name in (model, *sorted(data, key=os.fsencode)):
        member = read_member(join(folder, name), name, boundary=boundary)
        if isinstance(member, MemberSource):
            members.append(member)
        elif name == model:
            return member
        else:
            notes.append(f"left out {member.location}: {member.reason}")
            unread_count += member.unread_count
    location = text_of(join(folder, model))
    return Candidate(
        kind=CandidateKind.MODEL,
        names=path_endings(location, at_least=at_least),
        members=tuple(members),
        source=location,
        notes=tuple(notes),
        unread_count=unread_count,
    )


def file_candidate(
    location: str, *, boundary: str | None, at_least: int = 1
) -> Candidate | Skipped:
    """Return one file as an artifact with one member under its own file name.

    ``at_least`` is how many parts of the path the shortest name has.
    """
    name = last_part(location)
    member = read_member(location, name, boundary=boundary)
    if isinstance(member, Skipped):
        return member
    return Candidate(
        kind=kind_of_file(name),
        names=path_endings(text_of(location), at_least=at_least),
        members=(member,),
        source=text_of(location),
    )


def split_candidate(
    folder: str, names: Sequence[str], *, boundary: str | None, at_least: int = 1
) -> Candidate | Skipped:
    """Return the parts ``names`` of one split GGUF set as one artifact.

    Its name is the part's without ``-00001-of-00003.gguf``, as a folder's would be; its source is
    the first part there is. Parts that are missing or cannot be read are told in the notes.
    """
    members: list[MemberSource] = []
    notes: list[str] = []
    unread_count = 0
    for name in sorted(names, key=os.fsencode):
        member = read_member(join(folder, name), name, boundary=boundary)
        if isinstance(member, Skipped):
            notes.append(f"left out {member.location}: {member.reason}")
            unread_count += member.unread_count
        else:
            members.append(member)
    first = join(folder, names[0])
    described = split_set_of(names[0])
    if described is None:
        raise ValueError(f"{names[0]!a} is no part of a split GGUF set")
    if not members:
        reason = "no part of this split GGUF can be read"
        return Skipped(location=text_of(first), reason=reason, unread_count=unread_count)
    stem, total = described
    if len(members) < total:
        notes.append(f"{total - len(members)} of {total} parts of the split GGUF are missing")
    location = text_of(join(folder, stem))
    return Candidate(
        kind=CandidateKind.MODEL,
        names=path_endings(location, at_least=at_least),
        members=tuple(members),
        source=text_of(first),
        notes=tuple(notes),
        unread_count=unread_count,
    )
