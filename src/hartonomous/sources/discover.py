"""Decides what each argument of ``hart add`` is, and yields the artifacts found there.

The order of looking: a snapshot or repository of a hub cache, Ollama's folder, a model folder, a
tree, a single file. What a folder is gets decided in ``tree``, since all of them also occur inside
trees.
"""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from hartonomous.errors import NotFoundError, UsageError
from hartonomous.ports.source import Candidate, Skipped
from hartonomous.sources import hub_cache, tree
from hartonomous.sources.files import (
    file_candidate,
    onnx_candidate,
    onnx_data,
    split_candidate,
    split_set_of,
)
from hartonomous.sources.listing import (
    EntryKind,
    last_part,
    list_folder,
    skipped,
    text_of,
    unreadable,
)
from hartonomous.sources.pattern import Filter, make_filter


@dataclass(frozen=True, slots=True, kw_only=True)
class _Argument:
    location: str  # absolute path; links in it are kept, since the user's name for it counts
    is_folder: bool


def discover(
    paths: Iterable[str | os.PathLike[str]],
    *,
    include: Iterable[str] = (),
    exclude: Iterable[str] = (),
    hidden: bool = False,
) -> Iterator[Candidate | Skipped]:
    """Yield the artifacts at ``paths``, lazily and always in the same order.

    What is met and not taken (links that leave the argument, devices, folders that may not be
    read …) comes as a ``Skipped`` in between; inside a model folder it is a note of that candidate.
    An argument without anything to add gives a ``Skipped`` of its own. Hidden entries and lock and
    temporary files inside folders are passed over, with one ``Skipped`` for a tree, unless
    ``hidden`` asks for them; an argument is taken whatever its name.
    ``include`` and ``exclude`` are patterns as ``sources.pattern`` describes them.

    Raises NotFoundError and UsageError at once, before anything is yielded, for a path that does
    not exist or is empty, and for an empty pattern.
    """
    wanted = make_filter(include, exclude, hidden=hidden)
    arguments = [_argument_of(os.fspath(path)) for path in paths]
    if not arguments:
        raise UsageError("no path was given", hint="name files or folders to add")
    return _all(arguments, wanted)


def _argument_of(path: str) -> _Argument:
    if not path:
        raise UsageError("a path is empty", hint="write . for the current folder")
    try:
        # abspath would drop ".." by its letters and be wrong behind a link to a folder.
        has_parents = ".." in path.split("/")
        location = os.path.realpath(path) if has_parents else str(Path(path).absolute())
        Path(location).stat()
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        raise NotFoundError(
            f"there is no file or folder {text_of(path)}",
            hint="check the path; quote it if it has spaces",
        ) from error
    except OSError as error:
        raise NotFoundError(
            f"{text_of(path)} cannot be reached: {error.strerror}",
            hint="check the permissions of the folders above it",
        ) from error
    return _Argument(location=location, is_folder=Path(location).is_dir())


def _all(arguments: list[_Argument], wanted: Filter) -> Iterator[Candidate | Skipped]:
    taken: set[str] = set()  # sources of single files, so that the parts of a set give one set
    for argument in arguments:
        found = 0
        for item in _folder(argument, wanted) if argument.is_folder else _file(argument, wanted):
            found += 1
            if not argument.is_folder and isinstance(item, Candidate):
                if item.source in taken:
                    continue
                taken.add(item.source)
            yield item
        if not found:
            yield skipped(
                argument.location,
                "nothing to add: no visible file in it, or the patterns leave none",
            )


def _folder(argument: _Argument, wanted: Filter) -> Iterator[Candidate | Skipped]:
    snapshot = hub_cache.snapshot_place(argument.location)
    if snapshot is not None:
        repository, revision = snapshot
        yield from hub_cache.repository_candidates(repository, wanted=wanted, revision=revision)
        return
    real_path = os.path.realpath(argument.location)
    if last_part(real_path) == "snapshots" and hub_cache.repository_name(
        last_part(real_path.rpartition("/")[0])
    ):
        real_path = real_path.rpartition("/")[0]
        yield from hub_cache.repository_candidates(real_path, wanted=wanted)
        return
    yield from tree.walk(argument.location, wanted=wanted)


def _file(argument: _Argument, wanted: Filter) -> Iterator[Candidate | Skipped]:
    """Yield a single file; a part of a split GGUF set stands for the set, as for llama.cpp.

    An ONNX model comes with the files of its weights.
    """
    name = last_part(argument.location)
    if not wanted.keeps(text_of(name)):
        return
    described = split_set_of(name)
    if described is None and not name.endswith(".onnx"):
        yield file_candidate(argument.location, boundary=None)
        return
    folder = argument.location.rpartition("/")[0] or "/"
    try:
        entries = list_folder(folder)
    except OSError as error:
        yield unreadable(folder, error)
        return
    files = [
        entry.name
        for entry in entries
        if entry.kind in (EntryKind.FILE, EntryKind.LINK) and wanted.keeps(text_of(entry.name))
    ]
    if described is None:
        data = onnx_data([*files, name]).get(name)
        if data is None:
            yield file_candidate(argument.location, boundary=None)
        else:
            yield onnx_candidate(folder, name, data, boundary=None)
        return
    parts = {one for one in files if split_set_of(one) == described}
    parts.add(name)  # which a listing leaves out if it is hidden
    yield split_candidate(folder, sorted(parts, key=os.fsencode), boundary=None)
