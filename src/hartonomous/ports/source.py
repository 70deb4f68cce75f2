"""Port of sources: what `hart add` was pointed at, as candidates for artifacts."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from hartonomous.core.description import Description


class CandidateKind(StrEnum):
    """What a candidate looks like from outside, before its bytes are read."""

    MODEL = "model"  # a model folder, or a single model file
    FILE = "file"


class ReadSource(Protocol):
    """Bytes that are read by range, more than once; whoever reads notices when they change."""

    location: str
    size: int

    def read(self, offset: int, length: int) -> bytes:
        """Return exactly ``length`` bytes."""
        ...

    def read_ahead(self, offset: int, length: int) -> memoryview:
        """Return a small range."""
        ...

    def blocks(self, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Yield the range in pieces of at most 4 MiB."""
        ...

    def check_unchanged(self) -> None:
        """Raise SourceChangedError where the bytes are known to have changed."""
        ...

    def close(self) -> None:
        """Let go of what is held."""
        ...


class MadeSource(ReadSource, Protocol):
    """The bytes of a file that lies on no disk, and what is in it."""

    description: Description


class TensorKeeper(Protocol):
    """Who stores tensors before the file is known that they are in."""

    def keep(self, source: ReadSource, dtype: str, shape: tuple[int, ...]) -> bytes:
        """Store a tensor of more than ``INLINE_BYTES`` bytes and return its digest."""
        ...

    def settle(self) -> None:
        """Make what was kept readable; raises SourceChangedError if some of it changed."""
        ...

    def read_kept(self, digest: bytes, offset: int, length: int) -> bytes:
        """Return bytes of a kept tensor."""
        ...


class MadeFile(Protocol):
    """A file that is made while it is added, such as one of tensors in memory."""

    def open(self, keeper: TensorKeeper) -> MadeSource:
        """Return its bytes; what comes only once is given to ``keeper`` first."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberSource:
    """One file to read: ``path`` inside the artifact, ``location`` on this machine.

    ``path`` is ``core.name.escape_path`` of the name on disk: ``/`` between parts, valid UTF-8, no
    control characters; where it differs from the name on disk, ``raw_path`` holds that one's bytes.
    ``location`` is what ``open`` takes (surrogates stand for raw bytes); it may be a link, which
    was found to stay inside what was pointed at. ``mode`` is the permission bits (``0o7777``) and
    ``modified_us`` microseconds UTC, of the file that a link leads to. Where ``made`` is there, the
    bytes come from it, nothing is opened, and ``size`` may be 0 for what is not known beforehand.
    """

    path: str
    location: str
    size: int
    mode: int
    modified_us: int
    raw_path: bytes | None = None
    made: MadeFile | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """An artifact to be: its preferred name, the longer names to fall back on, its files.

    ``names`` are tried in order (shortest path ending first) when no name was given; empty where
    the place has none (standard input, the root folder). ``source`` identifies where it came from
    (text form of the absolute path, or URL) together with the host; candidates of one hub
    repository share it, one for each revision, the newest last. ``members`` are sorted by the bytes
    of ``path``; ``notes`` say what of the folder was left out and stay with the artifact;
    ``unread_count`` of that was wanted and cannot be read.
    """

    kind: CandidateKind
    names: tuple[str, ...]
    members: tuple[MemberSource, ...]
    source: str
    labels: tuple[str, ...] = ()
    # Several states of one thing (a hub repository's revisions): its name gets a next version.
    revisions: bool = False
    notes: tuple[str, ...] = field(default=())
    unread_count: int = 0

    @property
    def size(self) -> int:
        """Bytes of all members."""
        return sum(member.size for member in self.members)


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """Something that was met and not taken: where (text form of the path) and why.

    ``unread_count`` is not 0 where it was wanted and cannot be read: what lacks it is not whole.
    """

    location: str
    reason: str
    unread_count: int = 0
