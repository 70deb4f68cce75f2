"""What makes a folder one model, and the candidate made of it.

A folder is a model if a config (``config.json``, ``adapter_config.json``) or a shard index
(``*.index.json``) lies beside weight files or a folder ``onnx`` with graphs, or if it is composite:
``model_index.json`` (diffusers) or ``modules.json`` (sentence-transformers) with weights beside it
or one folder down. So is a checkpoint that several processes wrote (``checkpoint_folder``). A
folder that holds GGUF files and no config is none: each file in it is a model.

Everything below a model folder belongs to it, except a folder that is a complete model by itself
(config and weights, such as ``checkpoint-500``); in a composite the parts are complete too, so
there only ``checkpoint-<number>`` stands alone.
"""

import re

from hartonomous.core.name import path_endings
from hartonomous.ports.source import Candidate, CandidateKind
from hartonomous.sources.checkpoint_folder import is_checkpoint_folder
from hartonomous.sources.files import is_weight_file
from hartonomous.sources.gather import Gathered
from hartonomous.sources.listing import Entry, EntryKind, join, last_part, list_folder, text_of

_CONFIGS = frozenset({"config.json", "adapter_config.json"})
_COMPOSITES = frozenset({"model_index.json", "modules.json"})
_CHECKPOINT = re.compile(r"checkpoint-[0-9]+")
_GRAPHS = "onnx"
_FILES = (EntryKind.FILE, EntryKind.LINK)


def is_model_folder(location: str, entries: list[Entry]) -> bool:
    """Say whether the folder at ``location``, listed as ``entries``, is one model."""
    if is_composite(entries):
        return _has_weights(entries) or _has_weights_below(location, entries)
    if is_checkpoint_folder(location, entries):
        return True
    return (_has_weights(entries) or _has_graphs_below(location, entries)) and any(
        entry.name in _CONFIGS or entry.name.endswith(".index.json") for entry in _files(entries)
    )


def is_composite(entries: list[Entry]) -> bool:
    """Say whether a model's listing says that it is made of models in its folders."""
    return any(entry.name in _COMPOSITES for entry in _files(entries))


def stands_alone(location: str, entries: list[Entry], *, in_composite: bool) -> bool:
    """Say whether a folder inside a model folder is a model of its own.

    A shard index alone is not enough here: ``fp16/`` with shards belongs to the model around it.
    """
    name = last_part(location)
    if in_composite and not _CHECKPOINT.fullmatch(name):
        return False
    if is_composite(entries):
        return is_model_folder(location, entries)
    return _has_weights(entries) and any(entry.name in _CONFIGS for entry in _files(entries))


def model_candidate(location: str, gathered: Gathered, *, at_least: int = 1) -> Candidate:
    """Return the artifact of a model folder; its shortest name has ``at_least`` parts."""
    return Candidate(
        kind=CandidateKind.MODEL,
        names=path_endings(text_of(location), at_least=at_least),
        members=gathered.members,
        source=text_of(location),
        notes=gathered.notes,
        unread_count=gathered.unread_count,
    )


def _files(entries: list[Entry]) -> list[Entry]:
    return [entry for entry in entries if entry.kind in _FILES]


def _has_weights(entries: list[Entry]) -> bool:
    return any(is_weight_file(entry.name) for entry in _files(entries))


def _has_graphs_below(location: str, entries: list[Entry]) -> bool:
    """Say whether there is a folder ``onnx`` with graphs in it, as exporters lay them out."""
    if not any(one.kind is EntryKind.FOLDER and one.name == _GRAPHS for one in entries):
        return False
    try:
        below = list_folder(join(location, _GRAPHS))
    except OSError:
        return False  # the walk meets it again and says so
    return any(entry.name.endswith(".onnx") for entry in _files(below))


def _has_weights_below(location: str, entries: list[Entry]) -> bool:
    for entry in entries:
        if entry.kind is EntryKind.FOLDER:
            try:
                below = list_folder(join(location, entry.name))
            except OSError:
                continue  # the walk meets it again and says so
            if _has_weights(below):
                return True
    return False
