"""Port of sources: what `hart add` was pointed at, as candidates for artifacts."""

from dataclasses import dataclass, field
from enum import StrEnum


class CandidateKind(StrEnum):
    """What a candidate looks like from outside, before its bytes are read."""

    MODEL = "model"  # a model folder, or a single model file
    FILE = "file"


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberSource:
    """One file to read: ``path`` inside the artifact, ``location`` on this machine.

    ``path`` is ``core.name.escape_path`` of the name on disk: ``/`` between parts, valid UTF-8, no
    control characters; where it differs from the name on disk, ``raw_path`` holds that one's bytes.
    ``location`` is what ``open`` takes (surrogates stand for raw bytes); it may be a link, which
    was found to stay inside what was pointed at. ``mode`` is the permission bits (``0o7777``) and
    ``modified_us`` microseconds UTC, of the file that a link leads to.
    """

    path: str
    location: str
    size: int
    mode: int
    modified_us: int
    raw_path: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """An artifact to be: its preferred name, the longer names to fall back on, its files.

    ``names`` are tried in order (shortest path ending first) when no name was given; empty where
    the place has none (standard input, the root folder). ``source`` identifies where it came from
    (text form of the absolute path, or URL) together with the host; candidates of one hub
    repository share it, one for each revision, the newest last. ``members`` are sorted by the bytes
    of ``path``; ``notes`` say what of the folder was left out and stay with the artifact.
    """

    kind: CandidateKind
    names: tuple[str, ...]
    members: tuple[MemberSource, ...]
    source: str
    labels: tuple[str, ...] = ()
    # Several states of one thing (a hub repository's revisions): its name gets a next version.
    revisions: bool = False
    notes: tuple[str, ...] = field(default=())

    @property
    def size(self) -> int:
        """Bytes of all members."""
        return sum(member.size for member in self.members)


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """Something that was met and not taken: where (text form of the path) and why."""

    location: str
    reason: str
