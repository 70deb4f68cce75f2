"""Preview: what adding candidates would do, storing nothing.

Names and outcomes are those of the real work. They depend on digests only where something of the
same size is stored or comes with it; such files are read whole, of the others only samples are.
"""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from hartonomous.catalog import candidates as stored
from hartonomous.core.description import Description
from hartonomous.core.digest import DIGEST_BYTES, AtomHasher
from hartonomous.core.tree import tree_digest
from hartonomous.errors import HartonomousError
from hartonomous.packs.decisions import Decision, decide
from hartonomous.packs.external_files import external_files, with_external
from hartonomous.packs.forecast import forecast
from hartonomous.packs.parts import StoreParts
from hartonomous.packs.source_file import SourceFile
from hartonomous.packs.tally import Tally
from hartonomous.ports.progress import Progress
from hartonomous.ports.source import Candidate


@dataclass(frozen=True, slots=True, kw_only=True)
class Sketch:
    """A candidate as ``decide`` wants it; a random digest stands for bytes that were not read."""

    candidate: Candidate
    names: tuple[str, ...]
    digest: bytes
    digest_known: bool
    next_version: bool
    update: bool

    @property
    def source_place(self) -> str:
        """Where it comes from."""
        return self.candidate.source

    @property
    def revisions(self) -> bool:
        """Whether it is one of several states of its source."""
        return self.candidate.revisions


@dataclass(frozen=True, slots=True, kw_only=True)
class Foreseen:
    """What would become of a candidate: a decision and what it takes in packs, or an error.

    ``tally`` is estimated, and empty for what is unchanged; ``files`` are its members' paths, with
    what an add would read of their structure.
    """

    candidate: Candidate
    decision: Decision[Sketch] | None
    tally: Tally = field(default_factory=Tally)
    files: tuple[tuple[str, Description], ...] = ()
    error: str | None = None


def preview(
    parts: StoreParts,
    found: Sequence[Candidate],
    progress: Progress,
    *,
    name: str | None = None,
    update: bool = False,
) -> list[Foreseen]:
    """Return what adding ``found`` would do, in order."""
    told = forecast(parts, found, progress)
    sizes = Counter(member.size for one in found for member in one.members)
    with parts.database.read() as tx:
        alike = set(stored.files_of_sizes(tx, set(sizes), each=1))
    alike.update(size for size, number in sizes.items() if number > 1)
    progress.stage("compare", total_bytes=sum(one.size for one in found))
    sketches: dict[int, Sketch] = {}
    files: dict[int, tuple[tuple[str, Description], ...]] = {}
    errors: dict[int, str] = {}
    for index, one in enumerate(found):
        try:
            sketches[index] = _sketch(one, alike, progress, name=name, update=update)
            files[index] = tuple(_described(parts, one))
        except HartonomousError as error:
            errors[index] = error.message
    decided = dict(zip(sketches, decide(parts, list(sketches.values())), strict=True))
    return [
        Foreseen(
            candidate=one,
            decision=decided.get(index),
            tally=_tally(decided.get(index), told.tallies[index]),
            files=files.get(index, ()),
            error=errors.get(index),
        )
        for index, one in enumerate(found)
    ]


def _tally(decision: Decision[Sketch] | None, estimated: Tally) -> Tally:
    return Tally() if decision is None or decision.outcome == "unchanged" else estimated


def _sketch(
    one: Candidate, alike: set[int], progress: Progress, *, name: str | None, update: bool
) -> Sketch:
    digests = []
    known = True
    for member in one.members:
        digest = None
        if member.size in alike:
            digest = _digest(member.location, progress)
        else:
            SourceFile(member.location).close()  # raises what reading it would raise
            progress.advance(member.size)
        known = known and digest is not None
        digests.append((member.path, digest or os.urandom(DIGEST_BYTES)))
    return Sketch(
        candidate=one,
        names=(name,) if name is not None else one.names,
        digest=tree_digest(digests),
        digest_known=known,
        next_version=name is not None,
        update=update,
    )


def _described(parts: StoreParts, one: Candidate) -> Iterator[tuple[str, Description]]:
    said = external_files(one.members, parts.parser)
    for member in one.members:
        with SourceFile(member.location) as source:
            found = parts.parser.describe(source.descriptor, member.path)
            yield member.path, with_external(found, member.path, source.size, said)


def _digest(location: str, progress: Progress) -> bytes:
    hasher = AtomHasher()
    with SourceFile(location) as source:
        for block in source.blocks():
            hasher.update(block)
            progress.advance(len(block))
    return hasher.digest()
