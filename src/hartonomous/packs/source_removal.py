"""Removing sources that were moved into the store, each after its copy was read back."""

import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hartonomous.catalog import manifests
from hartonomous.errors import IntegrityError, NotFoundError, SourceChangedError, UsageError
from hartonomous.packs.atoms import AtomReader
from hartonomous.packs.files import FileReader, load_manifest
from hartonomous.packs.ingest import IngestedFile
from hartonomous.packs.parts import StoreParts
from hartonomous.packs.source_file import SourceFile
from hartonomous.sources.shared_files import SharedFiles, file_key

WAITS = "other artifacts are read from its files, and were not all stored yet"
"""Said of what is decided at the end."""


@dataclass(frozen=True, slots=True)
class _Source:
    """A file or a link that is to go. ``key`` is that of the file it leads to."""

    path: str
    location: str
    digest: bytes
    key: int


_State = tuple[int, ...]
"""What shows that the entry of a folder is the one that was looked at."""


class SourceRemoval:
    """Removes the sources of one add.

    What several artifacts are read from (links, blobs of Ollama) goes at the end, and only when
    everything that is read from it is stored: else the rest would lie there without its bytes.
    """

    def __init__(self, parts: StoreParts, reader: AtomReader, shared: SharedFiles) -> None:
        self._parts, self._reader, self._shared = parts, reader, shared
        self._waiting: list[tuple[int, list[_Source]]] = []

    def remove(self, number: int, files: Sequence[IngestedFile]) -> str | None:
        """Delete the sources of the add's artifact ``number``; none before all were compared.

        None if all are gone, else why they were kept; ``WAITS`` where ``finish`` will say it.
        """
        sources = [
            _Source(one.source.path, one.source.location, one.digest, file_key(one.source.location))
            for one in files
        ]
        if any(self._shared.count(one.key) > 1 for one in sources):
            self._waiting.append((number, sources))
            return WAITS
        states: dict[str, _State] = {}
        return self._compare(sources, states) or self._unlink(sources, states)

    def finish(self) -> Iterator[tuple[int, str | None]]:
        """Remove what waited; yield (number, as ``remove`` returns it)."""
        states: dict[str, _State] = {}
        ready: list[tuple[int, list[_Source]]] = []
        for number, sources in self._waiting:
            kept = self._compare(sources, states)
            if kept is None:
                ready.append((number, sources))
            else:
                yield number, kept
        while True:
            counts = Counter(one.key for _, sources in ready for one in sources)
            needed = {key for key, count in counts.items() if count < self._shared.count(key)}
            staying = [one for one in ready if any(source.key in needed for source in one[1])]
            for number, sources in staying:
                path = next(one.path for one in sources if one.key in needed)
                yield number, f"{path} is read for something else too that was not moved"
            if not staying:
                break
            ready = [one for one in ready if one not in staying]
        for number, sources in ready:
            yield number, self._unlink(sources, states)

    def _compare(self, sources: Sequence[_Source], states: dict[str, _State]) -> str | None:
        """Compare sources with their stored copies; note their states, or say what differs."""
        for one in sources:
            try:
                state = _state(one.location)
            except OSError:
                return f"{one.location} is gone"
            kept = self._differs(one)
            if kept is not None:
                return kept
            states[one.location] = state
        return None

    def _unlink(self, sources: Sequence[_Source], states: dict[str, _State]) -> str | None:
        """Delete sources that are still what was compared; ``states`` loses those that are gone."""
        left = {one.location: one for one in sources if one.location in states}
        # All of them first: of a model that is being written to, nothing goes.
        changed = next((one for one in left.values() if _changed(one, states)), None)
        for one in () if changed else left.values():
            if _changed(one, states):
                changed = one
                break
            try:
                Path(one.location).unlink()
            except OSError as error:
                return f"{one.path} cannot be removed: {error.strerror}"
            del states[one.location]
        return None if changed is None else f"{changed.path} changed after it was read"

    def _differs(self, source: _Source) -> str | None:
        """Say how a source differs from its stored copy; None if it does not."""
        with self._parts.database.read() as tx:
            row = manifests.by_file_digest(tx, source.digest)
        if row is None:
            raise IntegrityError(f"{source.location} was published without its manifest")
        try:
            stored = FileReader(self._reader, load_manifest(self._reader, row))
            with SourceFile(source.location) as file:
                offset = 0
                for block in file.blocks():
                    if offset + len(block) > stored.size or (
                        stored.read(offset, len(block)) != block
                    ):
                        return f"{source.path} changed after it was read"
                    offset += len(block)
                same = offset == stored.size
                return None if same else f"{source.path} changed after it was read"
        except IntegrityError as error:
            return (
                f"the stored copy of {source.path} is damaged ({error.message}); "
                "'hart verify' marks the damage, and adding the file again then mends it"
            )
        except (NotFoundError, UsageError, SourceChangedError) as error:
            return error.message


def _state(location: str) -> _State:
    """Return what tells an entry of a folder from another; links are not followed."""
    facts = Path(location).lstat()
    return (
        facts.st_dev, facts.st_ino, stat.S_IFMT(facts.st_mode), facts.st_size, facts.st_mtime_ns
    )  # fmt: skip


def _changed(source: _Source, states: dict[str, _State]) -> bool:
    try:
        return _state(source.location) != states[source.location]
    except OSError:
        return True
