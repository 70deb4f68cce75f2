"""The store as plain dictionaries: what names, versions, labels, trash and undo mean, and nothing
of how bytes are kept. A stateful test runs it beside a real store and compares.

The methods have the names and raise the errors of ``hartonomous.store.Store``.
"""

from dataclasses import dataclass, field
from typing import Literal

from hartonomous.errors import ConflictError, NotFoundError, UsageError

Files = dict[str, bytes]
"""Content by path inside the artifact; one file is a dictionary of one."""

Action = Literal["label", "unlabel", "rename", "remove", "drop"]


@dataclass(slots=True, kw_only=True, eq=False)
class Version:
    """One state of an artifact."""

    artifact: "Artifact"
    number: int
    files: Files
    source: str
    order: int
    removed: bool = False
    tags: set[str] = field(default_factory=set)


@dataclass(slots=True, kw_only=True, eq=False)
class Artifact:
    """A name with its versions; ``labels`` hold version numbers."""

    name: str
    versions: list[Version] = field(default_factory=list)
    labels: dict[str, Version] = field(default_factory=dict)
    next_number: int = 1

    def live(self) -> list[Version]:
        """Return the versions in use, oldest first."""
        return [one for one in self.versions if not one.removed]


@dataclass(slots=True, kw_only=True, eq=False)
class _Change:
    action: Action
    artifact: Artifact
    versions: list[Version]  # that it speaks of; it is pointless once all are gone
    label: str = ""
    previous: Version | None = None
    previous_name: str = ""
    labels: list[tuple[Artifact, str, Version]] = field(default_factory=list)
    files: Files = field(default_factory=dict)  # that were dropped
    undone: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of an add: added, updated or unchanged; under which name and number."""

    outcome: str
    name: str
    number: int


class DictionaryStore:
    """A store in memory, for comparison. Not for several threads."""

    def __init__(self) -> None:
        self.artifacts: list[Artifact] = []
        self._changes: list[_Change] = []
        self._order = 0
        self._stored: set[bytes] = set()  # what undoing can bring back

    # -- what is there

    def named(self, name: str) -> Artifact | None:
        """Return the artifact in use under a name."""
        for one in self.artifacts:
            if one.name == name and one.live():
                return one
        return None

    def live(self) -> list[Version]:
        """Return every version in use, by name and number."""
        found = [version for one in self.artifacts for version in one.live()]
        return sorted(found, key=lambda one: (one.artifact.name, one.number))

    def trash(self) -> list[Version]:
        """Return every removed version, by name and number."""
        found = [version for one in self.artifacts for version in one.versions if version.removed]
        return sorted(found, key=lambda one: (one.artifact.name, one.number))

    def labels_of(self, version: Version) -> tuple[str, ...]:
        """Return the labels that point to a version."""
        held = version.artifact.labels
        return tuple(sorted(name for name, one in held.items() if one is version))

    def version(self, name: str, selector: int | str | None = None) -> Version:
        """Return the newest version of a name, or the one with that number or label."""
        artifact = self._artifact(name)
        found = artifact.live()
        if selector is None:
            return found[-1]
        for one in found:
            if one.number == selector or artifact.labels.get(str(selector)) is one:
                return one
        raise NotFoundError(f"{name} has no version {selector}")

    def _artifact(self, name: str) -> Artifact:
        found = self.named(name)
        if found is None:
            raise NotFoundError(f"no artifact is named {name}")
        return found

    # -- in

    def add(
        self,
        files: Files,
        source: str,
        names: tuple[str, ...],
        *,
        name: str | None = None,
        update: bool = False,
        labels: tuple[str, ...] = (),
        tags: tuple[str, ...] = (),
    ) -> Outcome:
        """Add one artifact; ``names`` are the endings of its path, the shortest first."""
        there, artifact = self._decide(files, source, names, name=name, update=update)
        if there is not None:
            there.tags.update(tags)
            for label in labels:
                self._point(there, label)
            return Outcome(outcome="unchanged", name=there.artifact.name, number=there.number)
        outcome = "updated" if artifact.versions else "added"
        if artifact not in self.artifacts:
            self.artifacts.append(artifact)
        self._order += 1
        version = Version(
            artifact=artifact, number=artifact.next_number, files=dict(files), source=source,
            order=self._order, tags=set(tags),
        )  # fmt: skip
        self._stored.update(files.values())
        artifact.next_number += 1
        artifact.versions.append(version)
        artifact.labels.update(dict.fromkeys(labels, version))
        return Outcome(outcome=outcome, name=artifact.name, number=version.number)

    def _decide(
        self, files: Files, source: str, names: tuple[str, ...], *, name: str | None, update: bool
    ) -> tuple[Version | None, Artifact]:
        """Return the version that is there already, and the artifact that gets one otherwise."""
        if name is not None:
            artifact = self.named(name) or Artifact(name=name)
            return _newest_if_like(artifact, files), artifact
        same_source = [one for one in self.live() if one.source == source]
        same_source.sort(key=lambda one: one.order, reverse=True)
        for one in same_source[:1] if update else same_source:
            if one.files == files:
                return one, one.artifact
        if update and same_source:
            artifact = same_source[0].artifact
            return _newest_if_like(artifact, files), artifact
        numbered = (f"{names[-1]}~{count}" for count in range(2, 1000))
        for wanted in (*names, *numbered):
            taken = self.named(wanted)
            if taken is None:
                return None, Artifact(name=wanted)
            like = _newest_like(taken, files)
            if like is not None:
                return like, taken
        raise ConflictError(f"{names[-1]} and its numbered names are taken")

    # -- changes

    def label(self, name: str, selector: int | str | None, label: str) -> None:
        """Point a label to a version."""
        self._point(self.version(name, selector), label)

    def _point(self, version: Version, label: str) -> None:
        artifact = version.artifact
        before = artifact.labels.get(label)
        if before is version:
            return
        artifact.labels[label] = version
        named = [version] if before is None else [version, before]
        self._changes.append(
            _Change(action="label", artifact=artifact, versions=named, label=label, previous=before)
        )

    def unlabel(self, name: str, label: str) -> None:
        """Forget a label."""
        artifact = self._artifact(name)
        if label not in artifact.labels:
            raise NotFoundError(f"{name} has no label {label}")
        before = artifact.labels.pop(label)
        self._changes.append(
            _Change(
                action="unlabel", artifact=artifact, versions=[before], label=label, previous=before
            )
        )

    def mv(self, name: str, new_name: str) -> None:
        """Give an artifact another name."""
        artifact = self._artifact(name)
        if name == new_name:
            return
        if self.named(new_name) is not None:
            raise ConflictError(f"{new_name} is taken")
        self._changes.append(
            _Change(action="rename", artifact=artifact, versions=[], previous_name=name)
        )
        artifact.name = new_name

    def rm(
        self, name: str, selector: int | str | None = None, *, keep_last: int | None = None
    ) -> None:
        """Put versions into the trash: all of a name, one, or all but the last few."""
        artifact = self._artifact(name)
        if selector is not None:
            chosen = [self.version(name, selector)]
        elif keep_last is None:
            chosen = artifact.live()
        else:
            held = list(artifact.labels.values())
            chosen = [one for one in artifact.live()[:-keep_last] if one not in held]
        if not chosen:
            return
        labels = [(artifact, label, one) for label, one in artifact.labels.items() if one in chosen]
        for _, label, _ in labels:
            del artifact.labels[label]
        for one in chosen:
            one.removed = True
        self._changes.append(
            _Change(action="remove", artifact=artifact, versions=chosen, labels=labels)
        )

    def drop(self, name: str, selector: int | str | None, paths: set[str]) -> None:
        """Drop those of ``paths`` that a version has: what the store takes for the part."""
        version = self.version(name, selector)
        chosen = {path: version.files[path] for path in paths & version.files.keys()}
        if not chosen:
            if not self.dropped_from(version):
                raise NotFoundError(f"{name} has no such part")
            return
        if len(chosen) == len(version.files):
            raise UsageError(f"{name} has nothing else")
        version.files = {key: one for key, one in version.files.items() if key not in chosen}
        self._changes.append(
            _Change(action="drop", artifact=version.artifact, versions=[version], files=chosen)
        )

    def dropped_from(self, version: Version) -> Files:
        """Return the files that were dropped from a version."""
        changes = [one for one in self._changes if one.action == "drop" and not one.undone]
        return {
            path: content
            for one in changes
            if one.versions == [version]
            for path, content in one.files.items()
        }

    def undo(self) -> None:
        """Take back the newest change that was not taken back, and can be."""
        waiting = [
            one
            for one in self._changes
            if not one.undone and self._stored.issuperset(one.files.values())
        ]
        if not waiting:
            raise NotFoundError("nothing to undo")
        change = waiting[-1]
        artifact = change.artifact
        if change.action == "rename":
            self._refuse_taken(change.previous_name, artifact)
            artifact.name = change.previous_name
        elif change.action == "remove":
            self._refuse_taken(artifact.name, artifact)
            for one in change.versions:
                one.removed = False
            for owner, label, version in change.labels:
                owner.labels.setdefault(label, version)
        elif change.action == "drop":
            version = change.versions[0]
            version.files = dict(sorted({**version.files, **change.files}.items()))
        else:
            artifact.labels.pop(change.label, None)
            before = change.previous
            if before is not None and before in artifact.live():
                artifact.labels[change.label] = before
        change.undone = True

    def _refuse_taken(self, name: str, owner: Artifact) -> None:
        taken = self.named(name)
        if taken is not None and taken is not owner:
            raise ConflictError(f"{name} is taken by now")

    def gc(self, *, empty_trash: bool) -> list[Version]:
        """Forget the trash if asked to, and changes that speak of nothing any more."""
        gone = self.trash() if empty_trash else []
        for version in gone:
            version.artifact.versions.remove(version)
        self.artifacts = [one for one in self.artifacts if one.versions]
        self._changes = [one for one in self._changes if self._has_a_point(one)]
        held = {content for one in self.all_versions() for content in one.files.values()}
        if not empty_trash:
            held |= {
                content
                for one in self._changes
                if one.action == "drop" and not one.undone
                for content in one.files.values()
            }
        self._stored &= held
        return gone

    def all_versions(self) -> list[Version]:
        """Return the versions in use and those in the trash."""
        return [*self.live(), *self.trash()]

    def _has_a_point(self, change: _Change) -> bool:
        if change.action == "rename":
            return change.artifact in self.artifacts
        return any(one in one.artifact.versions for one in change.versions)


def _newest_if_like(artifact: Artifact, files: Files) -> Version | None:
    """Return the newest version in use if it has these files."""
    return artifact.live()[-1] if artifact.live() and artifact.live()[-1].files == files else None


def _newest_like(artifact: Artifact, files: Files) -> Version | None:
    found = [one for one in artifact.live() if one.files == files]
    return found[-1] if found else None
