"""Port of peers: a store that another one receives from, whatever lies between the two.

What a peer tells is somebody else's input. Who receives checks every name, number and byte of it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from hartonomous.core.digest import Bytes
from hartonomous.core.record import RecordHeader
from hartonomous.core.replica import ArtifactState, RelationState, VersionContent


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerRecord:
    """A record of an atom, whole or in part, as it lies encoded; ``place`` is the peer's affair."""

    header: RecordHeader
    place: tuple[bytes, int]


class Peer(Protocol):
    """A store that is received from. Every method may raise IntegrityError."""

    @property
    def id(self) -> str:
        """The store's id."""
        ...

    @property
    def where(self) -> str:
        """What people call it, such as its path."""
        ...

    def artifacts(self) -> Iterator[ArtifactState]:
        """Yield every artifact, the trash included."""
        ...

    def artifact(self, uid: bytes) -> ArtifactState | None:
        """Return an artifact by uid."""
        ...

    def relations(self) -> Iterator[RelationState]:
        """Yield stated relations, and those that were taken back."""
        ...

    def purged(self) -> Mapping[bytes, int]:
        """Return {version uid: time} of what is gone for good."""
        ...

    def content(self, version_uid: bytes) -> VersionContent:
        """Return what a version's commit says; raises NotFoundError."""
        ...

    def manifest(self, file_digest: bytes) -> bytes:
        """Return the JSON of a stored file's manifest; raises NotFoundError."""
        ...

    def manifest_atoms(self, file_digest: bytes) -> Iterator[list[tuple[bytes, int]]]:
        """Yield pages of (digest, stored bytes) of the atoms that a stored file needs."""
        ...

    def atoms(self, digests: Sequence[bytes]) -> Mapping[bytes, Sequence[PeerRecord]]:
        """Return the records of stored atoms, in order of position; at most some hundred at once.

        What is missing in the answer is not stored.
        """
        ...

    def payload(self, record: PeerRecord) -> Bytes:
        """Return a record's whole payload, each frame of it compared with its checksum."""
        ...
