"""A folder walked: every model in it is found, every other file is kept as a file.

Also the one place that decides what a folder is: a store (left out), a repository of a hub cache,
Ollama's folder, a model folder, or a plain folder. Folders are listed one at a time, lazily and in
the order of their names' bytes; memory grows with the widest folder and the largest model, not with
the tree.

The name of everything that is found begins with that of the folder: what was added together can be
listed, removed and written out together (``NAME/*``), as the tree that it was, and no name depends
on what other trees hold. Caches name their models themselves.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field

from hartonomous.ports.source import Candidate, Skipped
from hartonomous.sources import hub_cache, ollama
from hartonomous.sources.files import (
    file_candidate,
    onnx_candidate,
    onnx_data,
    split_candidate,
    split_set_of,
)
from hartonomous.sources.gather import MAX_MEMBERS, gather, some_of
from hartonomous.sources.listing import (
    Entry,
    EntryKind,
    is_backup,
    is_store,
    join,
    list_folder,
    skipped,
    text_of,
    unreadable,
)
from hartonomous.sources.model_folder import (
    is_composite,
    is_model_folder,
    model_candidate,
    stands_alone,
)
from hartonomous.sources.pattern import Filter


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tree:
    """The folder that was named: its absolute path, its real path, what is wanted of it."""

    top: str
    boundary: str
    wanted: Filter
    passed_over: list[str] = field(default_factory=list)  # outside of models, which note their own

    def relative(self, location: str) -> str:
        return location[len(self.top) :].lstrip("/")


@dataclass(frozen=True, slots=True)
class _Folder:
    """A folder still to be visited."""

    location: str


def walk(top: str, *, wanted: Filter) -> Iterator[Candidate | Skipped]:
    """Yield what is in the folder ``top`` (an absolute path), which may be a model itself.

    Names are paths inside ``top`` with its own name in front.
    """
    tree = _Tree(top=top, boundary=os.path.realpath(top), wanted=wanted)
    levels = [_visit(tree, top)]
    while levels:
        for item in levels[-1]:
            if isinstance(item, _Folder):
                levels.append(_visit(tree, item.location))
                break
            yield item
        else:
            levels.pop()
    if tree.passed_over:
        names = some_of(tree.passed_over)
        yield skipped(top, f"only what is hidden or temporary: {names} (--hidden takes them)")


def _visit(tree: _Tree, location: str) -> Iterator[Candidate | Skipped | _Folder]:
    try:
        passed_over: list[str] = []
        entries = list_folder(location, passed_over=passed_over, hidden=tree.wanted.hidden)
    except OSError as error:
        yield unreadable(location, error)
        return
    if is_store(entries):
        yield skipped(location, "a store: copy its models with its own get or export")
    elif is_backup(entries):
        yield skipped(location, "snapshots of a store: hart restore makes a store of them")
    elif hub_cache.is_repository(location, entries):
        yield from hub_cache.repository_candidates(location, wanted=tree.wanted)
    elif ollama.is_models_folder(entries):
        yield from ollama.models(location, wanted=tree.wanted)
    elif is_model_folder(location, entries):
        yield from _model(tree, location, entries)
    else:
        tree.passed_over.extend(join(tree.relative(location), name) for name in passed_over)
        yield from _loose(tree, location, entries)


def _model(
    tree: _Tree, folder: str, entries: list[Entry]
) -> Iterator[Candidate | Skipped | _Folder]:
    in_composite = is_composite(entries)

    def leaves(location: str, below: list[Entry]) -> bool:
        return _is_foreign(location, below) or stands_alone(
            location, below, in_composite=in_composite
        )

    relative = tree.relative(folder)
    gathered = gather(
        folder,
        boundary=tree.boundary,
        wanted=tree.wanted,
        prefix=text_of(relative),
        stands_alone=leaves,
    )
    if gathered is None:
        reason = f"has more than {MAX_MEMBERS} files: taken as a tree, not as one model"
        yield skipped(folder, reason)
        yield from _loose(tree, folder, entries)
        return
    if gathered.members:
        yield model_candidate(folder, gathered, at_least=_part_count(relative) + 1)
    else:
        yield from gathered.skipped
    for location in gathered.nested:
        yield _Folder(location)


def _is_foreign(location: str, entries: list[Entry]) -> bool:
    return (
        is_store(entries)
        or is_backup(entries)
        or hub_cache.is_repository(location, entries)
        or ollama.is_models_folder(entries)
    )


def _loose(
    tree: _Tree, folder: str, entries: list[Entry]
) -> Iterator[Candidate | Skipped | _Folder]:
    """Yield the files and folders of a folder that is no model."""
    private = hub_cache.private_entries(folder, entries)
    private |= ollama.private_entries(folder, entries)
    relative = tree.relative(folder)
    at_least = _part_count(relative) + 2
    sets = _split_sets(tree, relative, entries)
    weights = _onnx_data(tree, relative, entries)
    beside = {name for names in weights.values() for name in names}
    for entry in entries:
        location = join(folder, entry.name)
        shown = text_of(join(relative, entry.name))
        if entry.name in private:
            yield skipped(location, "kept there by another program for itself")
        elif entry.kind is EntryKind.FOLDER:
            if tree.wanted.enters(shown):
                yield _Folder(location)
        elif not tree.wanted.keeps(shown):
            continue
        elif entry.kind is EntryKind.OTHER:
            yield skipped(location, "a socket, device or pipe")
        elif entry.name in beside:
            continue  # it comes with its model
        elif (data := weights.get(entry.name)) is not None:
            yield onnx_candidate(
                folder, entry.name, data, boundary=tree.boundary, at_least=at_least
            )
        elif (described := split_set_of(entry.name)) is None:
            yield file_candidate(location, boundary=tree.boundary, at_least=at_least)
        elif names := sets.pop(described, None):  # at its first part, the others follow silently
            yield split_candidate(folder, names, boundary=tree.boundary, at_least=at_least)


def _split_sets(
    tree: _Tree, relative: str, entries: list[Entry]
) -> dict[tuple[str, int], list[str]]:
    """Return the wanted parts of the split GGUF sets of a folder, by stem and number of parts."""
    sets: dict[tuple[str, int], list[str]] = {}
    for entry in entries:
        if entry.kind in (EntryKind.FILE, EntryKind.LINK):
            described = split_set_of(entry.name)
            if described and tree.wanted.keeps(text_of(join(relative, entry.name))):
                sets.setdefault(described, []).append(entry.name)
    return sets


def _onnx_data(tree: _Tree, relative: str, entries: list[Entry]) -> dict[str, list[str]]:
    """Return the wanted ONNX models of a folder that have weights beside them, with those files."""
    return onnx_data(
        [
            entry.name
            for entry in entries
            if entry.kind in (EntryKind.FILE, EntryKind.LINK)
            and tree.wanted.keeps(text_of(join(relative, entry.name)))
        ]
    )


def _part_count(relative: str) -> int:
    return relative.count("/") + 1 if relative else 0
