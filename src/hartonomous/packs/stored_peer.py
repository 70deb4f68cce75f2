"""A store in a directory as another one sees it: names with their times, records as they lie."""

import contextlib
import shlex
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

from hartonomous.catalog import artifacts, atoms, changes, manifests, replicas, versions
from hartonomous.catalog.replicas import Touches
from hartonomous.core import manifest as manifest_format
from hartonomous.core.digest import Bytes
from hartonomous.core.record import RecordKind
from hartonomous.core.replica import ArtifactState, RelationState, VersionContent
from hartonomous.errors import IntegrityError, NotFoundError
from hartonomous.packs.atoms import AtomReader
from hartonomous.packs.files import MAX_MANIFEST_BYTES
from hartonomous.packs.frames import decode_record_whole
from hartonomous.packs.named_store import naming_store
from hartonomous.packs.parts import StoreParts
from hartonomous.packs.second_copies import check_payload
from hartonomous.ports.peer import PeerRecord

_PAGE = 200
_ATTEMPTS = 8


class StoredPeer:
    """Implements ``ports.peer.Peer`` over the open parts of a store.

    The journal is read when it is first needed; ``fresh`` reads what came since.
    """

    def __init__(self, parts: StoreParts, store_id: str) -> None:
        self._parts = parts
        self._reader = AtomReader(parts)
        self._touched = Touches()
        self._current = False
        self._id = store_id

    @property
    def id(self) -> str:
        """The store's id."""
        return self._id

    @cached_property
    def where(self) -> str:
        """The store's directory."""
        return str(self._parts.directory)

    def close(self) -> None:
        """Close the packs that were opened."""
        self._reader.close()

    def fresh(self) -> None:
        """Read what the journal has got since."""
        self._current = False

    @contextlib.contextmanager
    def _read(self) -> Iterator[Any]:
        with naming_store(self._parts.directory), self._parts.database.read() as tx:
            yield tx

    def _times(self, tx: Any) -> Touches:
        if not self._current:
            replicas.read_touches(tx, self._touched)
            self._current = True
        return self._touched

    # -- names

    def artifacts(self) -> Iterator[ArtifactState]:
        """Yield every artifact, the trash included."""
        after = 0
        while True:
            with self._read() as tx:
                rows = replicas.artifacts_after(tx, after, limit=_PAGE)
                states = [replicas.state(tx, row, self._times(tx)) for row in rows]
            if not rows:
                return
            after = rows[-1].id
            yield from states

    def artifact(self, uid: bytes) -> ArtifactState | None:
        """Return an artifact by uid."""
        with self._read() as tx:
            row = artifacts.by_uid(tx, uid)
            return None if row is None else replicas.state(tx, row, self._times(tx))

    def named(self, name: str) -> ArtifactState | None:
        """Return the artifact in use under a name."""
        with self._read() as tx:
            row = artifacts.by_name(tx, name)
            return None if row is None else replicas.state(tx, row, self._times(tx))

    def holders(self, uids: Sequence[bytes]) -> dict[bytes, bytes]:
        """Return {version uid: artifact uid} of those of these versions that are there."""
        with self._read() as tx:
            return replicas.artifacts_of_versions(tx, uids)

    def relations(self) -> Iterator[RelationState]:
        """Yield stated relations, and those that were taken back."""
        with self._read() as tx:
            yield from replicas.relation_states(tx, self._times(tx))

    def purged(self) -> Mapping[bytes, int]:
        """Return {version uid: time} of what is gone for good."""
        with self._read() as tx:
            return self._times(tx).purged

    # -- content

    def content(self, version_uid: bytes) -> VersionContent:
        """Return what a version's commit says; raises NotFoundError."""
        with self._read() as tx:
            rows = versions.by_uids(tx, [version_uid])
            if not rows:
                raise NotFoundError(f"version {version_uid.hex()} is gone from {self.where}")
            members = versions.members_of(tx, rows[0].id)
            files = manifests.by_ids(tx, [one.manifest_id for one in members])
            model = versions.model_of(tx, rows[0].id)
        return VersionContent(
            uid=version_uid,
            kind=rows[0].kind,
            members=tuple(_member(one, files[one.manifest_id]) for one in members),
            model=model,
            source_host=rows[0].source_host,
            source_place=rows[0].source_place,
            created_us=rows[0].created_us,
        )

    def manifest(self, file_digest: bytes) -> bytes:
        """Return the JSON of a stored file's manifest; raises NotFoundError."""
        for attempt in range(_ATTEMPTS):
            row = self._manifest_row(file_digest)
            if row is None or not row.complete:
                raise NotFoundError(f"file blake3:{file_digest.hex()} is gone from {self.where}")
            try:
                pack, header = self._reader.record(row.pack_key, row.header_offset)
            except NotFoundError:  # a compaction moved it
                if attempt == _ATTEMPTS - 1:
                    raise
                continue
            if header.kind is not RecordKind.MANIFEST or header.digest != row.digest:
                break
            return decode_record_whole(pack, header, limit=MAX_MANIFEST_BYTES)
        raise IntegrityError(
            f"{self.where} has another record than the manifest of blake3:{file_digest.hex()}",
            hint=f"hart --store {shlex.quote(self.where)} verify names everything that is damaged",
        )

    def _manifest_row(self, file_digest: bytes) -> manifests.ManifestRow | None:
        with naming_store(self._parts.directory):
            return self._reader.manifest_row(file_digest)

    def manifest_atoms(self, file_digest: bytes) -> Iterator[list[tuple[bytes, int]]]:
        """Yield pages of (digest, stored bytes) of the atoms that a stored file needs."""
        manifest = manifest_format.decode(self.manifest(file_digest))
        names = sorted({one.digest for one in manifest.segments if one.digest is not None})
        for start in range(0, len(names), _PAGE):
            with self._read() as tx:
                found = atoms.find(tx, names[start : start + _PAGE])
            yield [(name, found[name][1]) for name in sorted(found)]

    def missing(self, digests: Sequence[bytes]) -> set[bytes]:
        """Return those of some atoms that are not stored, or damaged."""
        with self._read() as tx:
            return set(digests) - atoms.find(tx, digests, sound=True).keys()

    def has_file(self, file_digest: bytes) -> bool:
        """Say whether a file is stored whole."""
        row = self._manifest_row(file_digest)
        return row is not None and row.complete

    def atoms(self, digests: Sequence[bytes]) -> dict[bytes, list[PeerRecord]]:
        """Return the records of stored atoms, in order of position."""
        for attempt in range(_ATTEMPTS):
            for name in digests:
                self._reader.forget(name)
            with naming_store(self._parts.directory):
                places = self._reader.locate(digests)
            try:
                return {
                    name: [
                        PeerRecord(
                            header=self._reader.record(one.pack_key, one.header_offset)[1],
                            place=(one.pack_key, one.header_offset),
                        )
                        for one in found
                    ]
                    for name, found in places.items()
                }
            except NotFoundError:  # a compaction moved some
                if attempt == _ATTEMPTS - 1:
                    raise
        return {}

    def payload(self, record: PeerRecord) -> Bytes:
        """Return a record's whole payload, each frame of it compared with its checksum."""
        key, offset = record.place
        try:
            pack, header = self._reader.record(key, offset)
        except NotFoundError:  # a compaction moved it since
            pack, header = self._moved(record)
        check_payload(pack, header)
        return pack.payload(header)

    def _moved(self, record: PeerRecord) -> Any:
        again = self.atoms([record.header.digest]).get(record.header.digest, [])
        for one in again:
            same = one.header.at(0).encode() == record.header.at(0).encode()
            if same:
                return self._reader.record(*one.place)
        raise NotFoundError(
            f"atom blake3:{record.header.digest.hex()} is kept otherwise by now",
            hint="run the same command again",
        )

    def undoable_removals(self, uid: bytes) -> list[changes.ChangeRow]:
        """Return the removals of a version that were not undone, oldest first."""
        with self._read() as tx:
            rows = changes.of_action(tx, "remove", containing=uid.hex())
        return [row for row in rows if uid.hex() in row.content["version_uids"]]


def _member(one: versions.MemberRow, row: manifests.ManifestRow) -> dict[str, Any]:
    member: dict[str, Any] = {
        "path": one.path,
        "manifest": row.digest.hex(),
        "digest": row.file_digest.hex(),
        "size": row.size_bytes,
        "mode": one.mode,
        "modified_us": one.modified_us,
    }
    if one.raw_path is not None:
        member["raw_path"] = one.raw_path
    return member
