"""Which versions and passages count in a search: names, tags, times, conditions, as of a time."""

import fnmatch
from collections.abc import Iterable, Sequence
from functools import cached_property

import msgspec

from hartonomous.catalog import texts
from hartonomous.catalog.texts import Moment, TextUse, VersionWords
from hartonomous.core.condition import Condition, fields_of, holds
from hartonomous.core.indexed_text import IndexedSource
from hartonomous.errors import UsageError
from hartonomous.packs.kept_uses import Uses
from hartonomous.packs.model_views import said_of_versions
from hartonomous.packs.parts import StoreParts
from hartonomous.packs.unmet_conditions import (
    told_near,
    unmet_format,
    unmet_kind,
    unmet_name,
    unmet_tag,
)
from hartonomous.ports.text_index import TextIndex

KINDS = ("passage", "picture", "model", "tensor")
"""Kinds of hits."""

_LAST_US = 2**62
_OF_DOCUMENTS = {"format", "kind", "title"}


class SearchFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which hits count. Times are microseconds UTC of when a version was added.

    ``metadata`` are keys of a version's metadata with shell patterns, ``condition`` is what
    ``core.condition`` makes of a text. With ``as_of_us`` that is searched which was in use then,
    under the names that it has now.
    """

    kinds: tuple[str, ...] = KINDS
    name: str | None = None
    tag: str | None = None
    after_us: int | None = None
    before_us: int | None = None
    metadata: tuple[tuple[str, str], ...] = ()
    condition: Condition | None = None
    as_of_us: int | None = None


class Chosen:
    """What passes a filter, looked up in the catalog as it is asked for."""

    def __init__(
        self, parts: StoreParts, index: TextIndex, wanted: SearchFilter, known: Uses
    ) -> None:
        for one in wanted.kinds:
            if one not in KINDS:
                hint = f"there are {', '.join(KINDS)}"
                raise UsageError(f"{one!r} is no kind of hit", hint=hint)
        self.wanted = wanted
        self._database = parts.database
        self._index = index
        self._known = known if wanted.as_of_us is None else Uses(known.number)
        self._uses: dict[bytes, list[TextUse]] = {}
        self._any_passed = False
        asked = fields_of(wanted.condition) if wanted.condition is not None else set()
        self._asked_keys = sorted(field[5:] for field in asked if field.startswith("meta."))
        self._asks_annotations = bool(
            wanted.tag or wanted.metadata or any(f == "tag" or f[:5] == "meta." for f in asked)
        )
        self._asks_documents = any(f in _OF_DOCUMENTS or f[:5] == "meta." for f in asked)

    @cached_property
    def moment(self) -> Moment | None:
        """What was in use at the time that is asked for, None for now."""
        if self.wanted.as_of_us is None:
            return None
        with self._database.read() as tx:
            return texts.moment(tx, min(max(self.wanted.as_of_us, 0), _LAST_US))

    @cached_property
    def _annotations(self) -> dict[int, tuple[set[str], dict[str, str]]]:
        """Tags and metadata by version, read once where a condition asks for them."""
        with self._database.read() as tx:
            return texts.tags_and_metadata(tx)

    def passage_count(self) -> int:
        """Return how many passages were read, whatever counts."""
        return self._index.passage_count()

    def learn(self, digests: Iterable[bytes]) -> None:
        """Look up which versions in use have some files."""
        new = set(digests) - self._uses.keys()
        if not new:
            return
        files = self._known.files
        found = {digest: files[digest] for digest in new if digest in files}
        asked = new - found.keys()
        if asked:
            moment = self.moment
            with self._database.read() as tx:
                read = texts.uses(tx, asked, moment)
            found |= {digest: read.get(digest, ()) for digest in asked}
            files.update((digest, found[digest]) for digest in asked)
        sources = self._index.sources(new) if self._asks_documents else {}
        for digest in new:
            self._uses[digest] = [
                one for one in found[digest] if self._passes(one, sources.get(digest))
            ]

    def notes(self) -> list[str]:
        """Return of what is asked for and nothing has, that it is so.

        Keys of metadata; names, tags and kinds where nothing has passed so far.
        """
        found = self._unmet_keys()
        if self._any_passed:
            return found
        wanted = self.wanted
        if wanted.condition is not None:
            kinds = self._index.totals()
            found += unmet_kind(self._database, wanted.condition, kinds)
            found += unmet_format(self._database, wanted.condition, kinds)
        if wanted.as_of_us is None:  # what had it then may be gone
            if wanted.name is not None:
                found += unmet_name(self._database, wanted.name)
            if wanted.tag is not None:
                found += unmet_tag(self._database, wanted.tag)
        return found

    def _unmet_keys(self) -> list[str]:
        if not self._asked_keys:
            return []
        known = {key for _, metadata in self._annotations.values() for key in metadata}
        if known.issuperset(self._asked_keys):
            return []
        known |= self._index.metadata_keys()
        return [
            f"no artifact and no document has the metadata key {key!r}"
            f"{told_near(key, known, 'meta.')}"
            for key in self._asked_keys
            if key not in known
        ]

    def uses(self, digest: bytes) -> list[TextUse]:
        """Return the versions that count and have a file that was learned of."""
        return self._uses.get(digest, [])

    def counts(self, use: TextUse, uid: bytes) -> bool:
        """Say whether a file of a version counts, where neither is in a document's index."""
        if self.moment is not None and uid in self.moment.removed_uids:
            return False
        return self._passes(use, None)

    def versions(self, uids: Sequence[bytes]) -> dict[bytes, VersionWords]:
        """Return {uid: version} of those that count."""
        known = self._known.versions
        found = {uid: known[uid] for uid in uids if uid in known}
        asked = [uid for uid in uids if uid not in found]
        if asked:
            moment = self.moment
            with self._database.read() as tx:
                read = texts.versions_of(tx, asked, moment)
            found |= {uid: read.get(uid) for uid in asked}
            known.update((uid, found[uid]) for uid in asked)
        return {
            uid: one for uid, one in found.items() if one is not None and self._passes(one, None)
        }

    def said(self, shown: Sequence[VersionWords]) -> dict[int, str]:
        """Return {version id: what is said of it now}."""
        known = self._known.said
        found = {one.version_id: known[one.version_id] for one in shown if one.version_id in known}
        asked = [one for one in shown if one.version_id not in found]
        if asked:
            found |= said_of_versions(self._database, asked)
            known.update((one.version_id, found[one.version_id]) for one in asked)
        return found

    def _passes(self, use: TextUse | VersionWords, source: IndexedSource | None) -> bool:
        passes = self._fits(use, source)
        self._any_passed = self._any_passed or passes
        return passes

    def _fits(self, use: TextUse | VersionWords, source: IndexedSource | None) -> bool:
        wanted = self.wanted
        if wanted.name is not None and not fnmatch.fnmatchcase(use.name, wanted.name):
            return False
        if wanted.after_us is not None and use.created_us < wanted.after_us:
            return False
        if wanted.before_us is not None and use.created_us >= wanted.before_us:
            return False
        tags: set[str] = set()
        metadata: dict[str, str] = {}
        if self._asks_annotations:
            tags, metadata = self._annotations.get(use.version_id, (tags, metadata))
        if wanted.tag is not None and wanted.tag not in tags:
            return False
        if not all(key in metadata and fnmatch.fnmatchcase(metadata[key], pattern)
                   for key, pattern in wanted.metadata):  # fmt: skip
            return False
        if wanted.condition is None:
            return True
        return holds(wanted.condition, lambda field: _values(field, use, source, tags, metadata))


def _values(
    field: str, use: TextUse | VersionWords, source: IndexedSource | None,
    tags: set[str], metadata: dict[str, str],
) -> list[str]:  # fmt: skip
    """Return what something has in a field of a condition."""
    if field.startswith("meta."):
        key = field[5:]
        told = [metadata] if source is None else [metadata, source.metadata]
        return [one[key] for one in told if key in one]
    if field == "tag":
        return sorted(tags)
    found: dict[str, str] = {
        "name": use.name, "number": str(use.number), "size": str(use.size_bytes),
    }  # fmt: skip
    if isinstance(use, TextUse):
        found |= {"file": use.path, "format": use.format}
    else:
        found["kind"] = use.kind
    if source is not None:
        found |= {"kind": source.kind, "title": source.title}
    values = [found[field]] if found.get(field) else []
    return [*values, source.kind] if field == "format" and source is not None else values
