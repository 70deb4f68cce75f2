"""The Hugging Face hub's cache: ``hub/models--org--name/{blobs,refs,snapshots/<revision>}``.

Each snapshot is one candidate called ``org/name`` (``datasets/org/name``, ``spaces/org/name``) with
its revision and the refs that point at it as labels. The links in a snapshot are followed inside
its repository's folder only. Snapshots come oldest first, the one that ``main`` points at last.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from hartonomous.core.name import is_label, path_endings
from hartonomous.ports.source import Candidate, CandidateKind, Skipped
from hartonomous.sources.gather import MAX_MEMBERS, gather
from hartonomous.sources.listing import (
    Entry,
    EntryKind,
    has,
    join,
    last_part,
    list_folder,
    skipped,
    text_of,
    unreadable,
)
from hartonomous.sources.pattern import Filter

MAX_REFS = 10_000
MAX_REF_DEPTH = 16
MAX_REF_BYTES = 256

_REPOSITORY = re.compile(r"(models|datasets|spaces)--(.+)", re.DOTALL)

# What the hub's programs keep beside the cache. None of it is a model; the tokens are secrets.
_BESIDE_REPOSITORIES = frozenset({"version.txt", "version_diffusers_cache.txt", "CACHEDIR.TAG"})
_BESIDE_HUB = frozenset({"token", "stored_tokens", "xet", "assets", "accelerate", "modules"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """One repository's folder in the cache."""

    location: str
    boundary: str  # its real path, which no link may leave
    name: str
    kind: CandidateKind


def repository_name(folder_name: str) -> str | None:
    """Return ``org/name`` for ``models--org--name``, or None if the folder is no repository."""
    found = _REPOSITORY.fullmatch(folder_name)
    if not found:
        return None
    parts = found[2].split("--")
    if any(part in ("", ".", "..") for part in parts):
        return None
    if found[1] != "models":
        parts.insert(0, found[1])
    return "/".join(parts)


def is_repository(location: str, entries: list[Entry]) -> bool:
    """Say whether the folder at ``location``, listed as ``entries``, is a cached repository."""
    if repository_name(last_part(location)) is None:
        return False
    return any(has(entries, name, EntryKind.FOLDER) for name in ("snapshots", "blobs"))


def private_entries(location: str, entries: list[Entry]) -> frozenset[str]:
    """Return the names in a folder that the hub's programs keep there for themselves.

    Empty unless the folder holds repositories, or a ``hub`` folder that does.
    """
    if _holds_repositories(entries):
        return _BESIDE_REPOSITORIES
    if has(entries, "hub", EntryKind.FOLDER):
        try:
            if _holds_repositories(list_folder(join(location, "hub"))):
                return _BESIDE_HUB
        except OSError:
            return frozenset()  # the walk meets it again and says so
    return frozenset()


def _holds_repositories(entries: list[Entry]) -> bool:
    return any(
        entry.kind is EntryKind.FOLDER and repository_name(entry.name) is not None
        for entry in entries
    )


def snapshot_place(location: str) -> tuple[str, str] | None:
    """Return (repository's location, revision) if a path is that of a snapshot, else None."""
    real_path = os.path.realpath(location)
    repository, _, tail = real_path.rpartition("/snapshots/")
    if not tail or "/" in tail or repository_name(last_part(repository)) is None:
        return None
    return repository, tail


def repository_candidates(
    location: str, *, wanted: Filter, revision: str | None = None
) -> Iterator[Candidate | Skipped]:
    """Yield the snapshots of a repository's folder, or the one of ``revision``."""
    name = repository_name(last_part(location))
    if name is None:
        raise ValueError(f"{location!a} is no repository of a hub cache")
    is_model = last_part(location).startswith("models--")
    repository = Repository(
        location=location,
        boundary=os.path.realpath(location),
        name=text_of(name),
        kind=CandidateKind.MODEL if is_model else CandidateKind.FILE,
    )
    yield from _unfinished(repository)
    labels: dict[str, list[str]] = {}
    for item in _refs(repository):
        if isinstance(item, Skipped):
            yield item
        else:
            labels.setdefault(item[1], []).append(item[0])
    try:
        entries = list_folder(join(location, "snapshots"))
    except OSError as error:
        yield unreadable(join(location, "snapshots"), error)
        return
    found: list[str] = []
    for entry in entries:
        if entry.kind is EntryKind.FOLDER:
            found.append(entry.name)
        else:
            yield skipped(join(join(location, "snapshots"), entry.name), "no snapshot: no folder")
    for each in _in_order(repository, found, labels):
        if revision in (None, each):
            yield _snapshot(repository, each, labels.get(each, []), wanted=wanted)


def _unfinished(repository: Repository) -> Iterator[Skipped]:
    blobs = join(repository.location, "blobs")
    try:
        # Listed here and not by list_folder, which passes unfinished files over without a word.
        with os.scandir(blobs) as found:
            names = sorted(item.name for item in found if item.name.endswith(".incomplete"))
    except FileNotFoundError:
        return  # a cache without links has no blobs
    except OSError as error:
        yield unreadable(blobs, error)
        return
    for name in names:
        yield skipped(join(blobs, name), "an unfinished download")


def _refs(repository: Repository) -> Iterator[tuple[str, str] | Skipped]:
    """Yield (ref, revision); a ref's name is its path below ``refs``."""
    top = join(repository.location, "refs")
    waiting = [""]
    count = 0
    while waiting:
        folder = waiting.pop()
        try:
            entries = list_folder(join(top, folder))
        except FileNotFoundError:
            continue  # no refs: the revision is the only label
        except OSError as error:
            yield unreadable(join(top, folder), error)
            continue
        for entry in entries:
            path = join(folder, entry.name)
            count += 1
            if count > MAX_REFS:
                yield skipped(top, f"has more than {MAX_REFS} refs; the rest is left out")
                return
            if entry.kind is EntryKind.FOLDER and path.count("/") < MAX_REF_DEPTH:
                waiting.append(path)
            elif entry.kind is EntryKind.FILE:
                yield _read_ref(top, path)
            else:
                yield skipped(join(top, path), "no ref: not a plain file, or too deep")


def _read_ref(top: str, path: str) -> tuple[str, str] | Skipped:
    location = join(top, path)
    if not is_label(path):
        return skipped(location, "this ref's name cannot be a label")
    try:
        with Path(location).open("rb") as file:
            content = file.read(MAX_REF_BYTES + 1)
    except OSError as error:
        return unreadable(location, error)
    if len(content) > MAX_REF_BYTES:
        return skipped(location, "no ref: too long")
    return path, os.fsdecode(content.strip())


def _in_order(
    repository: Repository, revisions: list[str], labels: dict[str, list[str]]
) -> list[str]:
    """Sort revisions: those without a ref, those with one, then main; inside by time, then name."""

    def key(revision: str) -> tuple[int, int, bytes]:
        refs = labels.get(revision, [])
        rank = 2 if "main" in refs else 1 if refs else 0
        try:
            age = Path(join(join(repository.location, "snapshots"), revision)).stat().st_mtime_ns
        except OSError:
            age = 0  # gone meanwhile; reading it will say so
        return rank, age, os.fsencode(revision)

    return sorted(revisions, key=key)


def _snapshot(
    repository: Repository, revision: str, refs: list[str], *, wanted: Filter
) -> Candidate | Skipped:
    location = join(join(repository.location, "snapshots"), revision)
    gathered = gather(
        location,
        boundary=repository.boundary,
        wanted=wanted,
        prefix=repository.name,
        stands_alone=lambda _location, _entries: False,
    )
    if gathered is None:
        return skipped(location, f"a snapshot of more than {MAX_MEMBERS} files")
    if not gathered.members:
        reasons = "; ".join(gathered.notes[:3]) or "it is empty, or no file in it is wanted"
        without = skipped(location, f"a snapshot without files to add: {reasons}")
        return replace(without, unread_count=gathered.unread_count)
    notes = gathered.notes
    labels = sorted(set(refs))
    if is_label(revision):
        labels.append(revision)
    else:
        notes = (*notes, f"the revision {text_of(revision)} cannot be a label")
    parts = repository.name.count("/") + 1
    above = text_of(repository.location.rpartition("/")[0])
    return Candidate(
        kind=repository.kind,
        names=path_endings(f"{above}/{repository.name}", at_least=parts),
        members=gathered.members,
        source=text_of(repository.location),
        labels=tuple(dict.fromkeys(labels)),
        revisions=True,
        notes=notes,
        unread_count=gathered.unread_count,
    )
