"""What a proposed version becomes: a new artifact, a next version, or nothing new.

The rules of names: see ``docs/format.md``. Reads the catalog only; who publishes holds the lock.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from hartonomous.catalog import artifacts, versions
from hartonomous.errors import ConflictError
from hartonomous.packs.parts import StoreParts


class Wanted(Protocol):
    """What is asked of a proposal: see ``packs.publication.Proposal``."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names to try in order."""
        ...

    @property
    def digest(self) -> bytes:
        """Digest of the version."""
        ...

    @property
    def source_place(self) -> str:
        """Where it comes from, on this host."""
        ...

    @property
    def next_version(self) -> bool:
        """Whether a taken name gets a next version."""
        ...

    @property
    def revisions(self) -> bool:
        """Whether it is one of several states of a source."""
        ...

    @property
    def update(self) -> bool:
        """Whether other bytes of a known source are a next version."""
        ...


W = TypeVar("W", bound=Wanted)


@dataclass(slots=True, kw_only=True)
class Decision(Generic[W]):
    """What becomes of a proposal: ``outcome`` is added, updated or unchanged."""

    proposal: W
    outcome: str
    name: str
    artifact_uid: bytes
    number: int
    version_uid: bytes
    sequence: int = 0
    place: tuple[bytes, int] | None = None
    new_artifact: bool = False


def decide(parts: StoreParts, proposals: Sequence[W]) -> list[Decision[W]]:
    """Return what becomes of each proposal, in order; the lock of publication makes it hold."""
    decided: list[Decision[W]] = []
    with parts.database.read() as tx:
        for proposal in proposals:
            decided.append(_decide_one(tx, parts, proposal, decided))
    return decided


def _decide_one(tx: Any, parts: StoreParts, proposal: W, before: list[Decision[W]]) -> Decision[W]:
    digest = proposal.digest
    from_source = versions.same_source(tx, parts.host, proposal.source_place)
    explicit = proposal.next_version or proposal.revisions
    if not explicit:
        # A source that went back to former bytes is an update, if updates are asked for.
        for row in from_source[:1] if proposal.update else from_source:
            if row.digest == digest:
                return _unchanged(proposal, row)
    if proposal.update and from_source:
        return _next_version(tx, proposal, from_source[0].name, digest, before)
    for name in proposal.names:
        taken = artifacts.by_name(tx, name)
        twin = next((one for one in before if one.name == name), None)
        if taken is None and twin is None:
            return _new(proposal, name)
        if explicit:
            return _next_version(tx, proposal, name, digest, before)
        if twin is not None and twin.proposal.digest == digest:
            return _like(proposal, twin)
        if taken is not None:
            same = [one for one in versions.of_artifact(tx, taken.id) if one.digest == digest]
            if same:
                return _unchanged(proposal, same[-1])
    return _numbered_name(tx, proposal, digest, before)


def _numbered_name(tx: Any, proposal: W, digest: bytes, before: list[Decision[W]]) -> Decision[W]:
    """Every path ending is taken by other bytes: append ``~2``, ``~3`` …"""
    for count in range(2, 10_000):
        name = f"{proposal.names[-1]}~{count}"
        taken = artifacts.by_name(tx, name)
        twin = next((one for one in before if one.name == name), None)
        if taken is None and twin is None:
            return _new(proposal, name)
        if taken is not None:
            same = [one for one in versions.of_artifact(tx, taken.id) if one.digest == digest]
            if same:
                return _unchanged(proposal, same[-1])
    raise ConflictError(
        f"{proposal.names[-1]!r} and thousands of numbered names are taken", hint="give --name"
    )


def _new(proposal: W, name: str) -> Decision[W]:
    return Decision(
        proposal=proposal,
        outcome="added",
        name=name,
        artifact_uid=os.urandom(16),
        number=1,
        version_uid=os.urandom(16),
        new_artifact=True,
    )


def _unchanged(proposal: W, row: versions.VersionRow) -> Decision[W]:
    return Decision(
        proposal=proposal,
        outcome="unchanged",
        name=row.name,
        artifact_uid=row.artifact_uid,
        number=row.number,
        version_uid=row.uid,
        sequence=row.sequence,
    )


def _like(proposal: W, twin: Decision[W]) -> Decision[W]:
    return Decision(
        proposal=proposal,
        outcome="unchanged",
        name=twin.name,
        artifact_uid=twin.artifact_uid,
        number=twin.number,
        version_uid=twin.version_uid,
    )


def _next_version(
    tx: Any, proposal: W, name: str, digest: bytes, before: list[Decision[W]]
) -> Decision[W]:
    """A next version of a name, unless its newest (or any, of revisions) has the same bytes."""
    twins = [one for one in before if one.name == name and one.outcome != "unchanged"]
    for twin in twins if proposal.revisions else twins[-1:]:
        if twin.proposal.digest == digest:
            return _like(proposal, twin)
    artifact = artifacts.by_name(tx, name)
    if artifact is not None and (proposal.revisions or not twins):
        rows = versions.of_artifact(tx, artifact.id)
        same = [one for one in (rows if proposal.revisions else rows[-1:]) if one.digest == digest]
        if same:
            return _unchanged(proposal, same[-1])
    number = max([artifact.next_number if artifact else 1, *(twin.number + 1 for twin in twins)])
    uid = artifact.uid if artifact else twins[0].artifact_uid
    return Decision(
        proposal=proposal,
        outcome="updated",
        name=name,
        artifact_uid=uid,
        number=number,
        version_uid=os.urandom(16),
    )
