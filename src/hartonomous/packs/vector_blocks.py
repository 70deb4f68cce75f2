"""Blocks of vectors as stored files: written, read, replaced, and found again.

A block is an artifact of its own below ``.spaces/``, of the kind ``vectors``. Everything that holds
for stored files holds for it. The catalog's list of blocks is brought up to date from the versions
that are there, so that a catalog that was made anew finds them too.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hartonomous.catalog import manifests, spaces
from hartonomous.catalog.engines.postgres import ForbiddenError
from hartonomous.catalog.spaces import BlockRow, SpaceRow, StoredBlock
from hartonomous.core.name import SPACES_FOLDER
from hartonomous.core.space import Space, is_word
from hartonomous.core.vector_block import (
    MOST_BYTES,
    MOST_ROWS,
    TYPES,
    PlaceTable,
    block_tensors,
    check_arrays,
    checked_vectors,
    described_space,
)
from hartonomous.errors import (
    IntegrityError,
    NotFoundError,
    StructureError,
    UsageError,
)
from hartonomous.packs.arrays import TensorPlace, read_array
from hartonomous.packs.atoms import AtomReader
from hartonomous.packs.ingest import FileIngest
from hartonomous.packs.open_files import OpenFiles
from hartonomous.packs.parts import StoreParts
from hartonomous.packs.proposal import Proposal
from hartonomous.packs.publication import Publication, publication, publish
from hartonomous.packs.session import WriteSession
from hartonomous.packs.tensor_file import TensorFile
from hartonomous.ports.progress import NoProgress
from hartonomous.ports.source import MemberSource

if TYPE_CHECKING:
    from numpy.typing import NDArray

FILE_NAME = "vectors.safetensors"
_MADE_BY = "hart embed"
_CHECKED_BYTES = 16 << 20
_MOST_SPAN = 2**40
"""Ids from a block's first to its last, and the largest that a block brings: no space counts so
far, and one block of somebody's must not take the ids that others need."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NewBlock:
    """What a block is to hold: ids I64 [n] ascending, vectors [n, d], n places."""

    ids: NDArray[np.int64]
    vectors: NDArray[Any]
    places: PlaceTable


class BlockFile:
    """A stored block, open. Its arrays are read when they are asked for; ids are the file's."""

    def __init__(self, parts: StoreParts, files: OpenFiles, file_digest: bytes) -> None:
        """Read what the file is; raises StructureError, and NotFoundError where it is gone."""
        with parts.database.read() as tx:
            row = manifests.by_file_digest(tx, file_digest)
        if row is None:
            raise NotFoundError(f"the block of vectors blake3:{file_digest.hex()} is gone")
        self._file = files.open(row)
        described = self._file.manifest.description
        self.space = described_space(described.metadata)
        self._tensors = {one.name: one for one in described.tensors}
        self.row_count = self._shape("ids", "I64", 1)[0]
        files_of_places = self._shape("digests", "U8", 2)
        shapes = (
            self._shape("vectors", TYPES[self.space.dtype], 2),
            self._shape("places", "I64", 2),
            files_of_places,
        )
        wanted = (
            (self.row_count, self.space.dimension),
            (self.row_count, 10),
            (files_of_places[0], 32),
        )
        if shapes != wanted or not 0 < self.row_count <= MOST_ROWS:
            raise StructureError(f"a block of vectors has the shapes {shapes}, not {wanted}")
        if files_of_places[0] > self.row_count or self.byte_count > MOST_BYTES:
            raise StructureError(
                f"a block of {self.row_count} vectors of {self.space.dimension} numbers about"
                f" {files_of_places[0]} files is larger than any may be"
            )

    @property
    def byte_count(self) -> int:
        """Bytes of its vectors, decoded."""
        return self.row_count * self.space.vector_bytes

    def _shape(self, name: str, dtype: str, axes: int) -> tuple[int, ...]:
        found = self._tensors.get(name)
        if found is None or found.dtype != dtype or len(found.shape) != axes:
            raise StructureError(f"a block of vectors has no {dtype} tensor {name!r}")
        return found.shape

    def _array(self, name: str, rows: tuple[int, int] | None = None) -> NDArray[Any]:
        found = self._tensors[name]
        place = TensorPlace(
            member=FILE_NAME, file=self._file, name=name, dtype=found.dtype, shape=found.shape,
            offset=found.offset, length=found.length,
        )  # fmt: skip
        return read_array(place, rows=rows)

    def vectors(self, rows: tuple[int, int] | None = None) -> NDArray[Any]:
        """Return its vectors, or rows ``[start, stop)``, in the space's type; read-only."""
        return self._array("vectors", rows)

    def ids(self) -> NDArray[np.int64]:
        """Return its ids, ascending."""
        return self._array("ids")

    def places(self) -> PlaceTable:
        """Return its places, checked with the ids; raises StructureError."""
        table = PlaceTable(rows=self._array("places"), digests=self._array("digests"))
        check_arrays(self.ids(), table)
        return table


def write_block(
    parts: StoreParts,
    row: SpaceRow,
    new: NewBlock,
    *,
    replaced: Sequence[BlockRow] = (),
    beside: Callable[[Any], None] | None = None,
) -> None:
    """Store a block and count it in, in one publication; ``replaced`` go to the trash with it.

    ``beside`` writes rows in the publication's transaction. Raises UsageError for vectors that are
    none; then nothing is stored.
    """
    vectors = checked_vectors(row.space, new.vectors, file=f"space {row.name}")
    check_arrays(new.ids, new.places)
    first, last = int(new.ids[0]), int(new.ids[-1])
    folder = f"{SPACES_FOLDER}{row.space.key}"
    made = TensorFile(folder, *block_tensors(row.space, new.ids, vectors, new.places))
    source = MemberSource(
        path=FILE_NAME, location=folder, size=made.size, mode=0o644, modified_us=parts.clock(),
        made=made,
    )  # fmt: skip
    # Vectors resemble no other tensor, and are read often: they are kept on their own.
    parts = replace(parts, variants=False)
    with WriteSession(parts) as session:
        reader = AtomReader(parts)
        ingest = FileIngest(session, parts.parser, reader, NoProgress())
        try:
            file = ingest.take(source)
        finally:
            ingest.close()
            reader.close()
        # Blocks of several stores that exchange theirs have names of their own.
        name = f"{folder}/{first:012d}-{file.digest.hex()[:12]}"
        proposal = Proposal(
            kind=spaces.KIND, names=(name,), files=(file,), source_place=_MADE_BY,
            tensor_count=len(file.description.tensors),
            metadata={spaces.NAME_KEY: row.name}, next_version=True,
        )  # fmt: skip

        def changing(work: Publication) -> None:
            uids = [one.version_uid.hex() for one in replaced]
            if uids:
                work.change("remove", version_uids=uids, labels=[])

        def count_in(tx: Any, decisions: Any) -> None:
            if spaces.by_id(tx, row.id) is None:
                raise NotFoundError(f"the space {row.name} is gone")  # removed meanwhile
            for one in replaced:
                spaces.drop_block(tx, row.id, one)
            block = BlockRow(
                version_uid=decisions[0].version_uid, file_digest=file.digest, first_id=first,
                last_id=last, id_offset=0, row_count=len(new.ids),
            )  # fmt: skip
            if block.version_uid not in {one.version_uid for one in spaces.blocks(tx, row.id)}:
                spaces.add_block(tx, row.id, block)
            if beside is not None:
                beside(tx)

        publish(session, [proposal], changing=changing, beside=count_in)


def drop_blocks(parts: StoreParts, row: SpaceRow, gone: Sequence[BlockRow]) -> None:
    """Put blocks into the trash and count them out."""
    with WriteSession(parts) as session, publication(session) as work:
        work.change("remove", version_uids=[one.version_uid.hex() for one in gone], labels=[])

        def count_out(tx: Any) -> None:
            for one in gone:
                spaces.drop_block(tx, row.id, one)

        work.finish(count_out)


# -- blocks that are stored, and rows that say so


def find_blocks(parts: StoreParts, files: OpenFiles) -> tuple[str, ...]:
    """Bring the list of spaces and blocks up to what is stored; return what was refused, and why.

    Costs one small read where nothing was published since.
    """
    with parts.database.read() as tx:
        sequence = spaces.unseen(tx)
        if sequence is None:
            return ()
        stored = {one.version_uid: one for one in spaces.stored_blocks(tx)}
        rows = spaces.listed(tx)
        counted = {row.id: spaces.blocks(tx, row.id) for row in rows}
    known = {one.version_uid for held in counted.values() for one in held}
    notes: list[str] = []
    found: list[tuple[StoredBlock, BlockFile]] = []
    for one in stored.values():
        if one.version_uid in known:
            continue
        try:
            found.append((one, _sound(parts, files, one)))
        except (StructureError, UsageError, IntegrityError, NotFoundError) as error:
            notes.append(f"{one.name} is no block of vectors: {error.message}")
    gone = [
        (row.id, one) for row in rows for one in counted[row.id] if one.version_uid not in stored
    ]
    # Who only reads sees what the last writer saw.
    with contextlib.suppress(ForbiddenError), parts.database.write() as tx:
        if spaces.unseen(tx) != sequence:
            return tuple(notes)  # somebody was faster, or published: the next look sees it
        for space_id, block in gone:
            spaces.drop_block(tx, space_id, block)
        for stored_one, file in found:
            _count_in(tx, stored_one, file, now_us=parts.clock())
        spaces.set_seen(tx, sequence)
    return tuple(notes)


def _sound(parts: StoreParts, files: OpenFiles, one: StoredBlock) -> BlockFile:
    """Return a block all of whose vectors were looked at; raises what is wrong with them."""
    file = BlockFile(parts, files, one.file_digest)
    file.places()
    ids = file.ids()
    if int(ids[-1]) - int(ids[0]) >= _MOST_SPAN:
        raise StructureError(f"its ids reach from {int(ids[0])} to {int(ids[-1])}")
    step = max(1, _CHECKED_BYTES // file.space.vector_bytes)
    for first in range(0, file.row_count, step):
        rows = (first, min(first + step, file.row_count))
        checked_vectors(file.space, file.vectors(rows), file=one.name, first_row=first)
    return file


def _count_in(tx: Any, one: StoredBlock, file: BlockFile, *, now_us: int) -> None:
    row = spaces.by_key(tx, file.space.key)
    row = row or _found_space(tx, file.space, one.space_name, now_us=now_us)
    ids = file.ids()
    first, last = int(ids[0]), int(ids[-1])
    # A block of another store, or of a catalog that was lost, counts on from here.
    offset = row.next_id - first if first < row.next_id or last >= _MOST_SPAN else 0
    spaces.add_block(
        tx, row.id,
        BlockRow(
            version_uid=one.version_uid, file_digest=one.file_digest, first_id=first + offset,
            last_id=last + offset, id_offset=offset, row_count=file.row_count,
        ),
    )  # fmt: skip


def _found_space(tx: Any, found: Space, name: str | None, *, now_us: int) -> SpaceRow:
    """Keep a space that blocks name, as where they were written; searched where nothing else is."""
    use = spaces.use_of(found)
    state = spaces.CURRENT if spaces.current(tx, found.modality, use) is None else spaces.RETIRED
    if name is None or not is_word(name) or spaces.by_name(tx, name) is not None:
        name = spaces.free_name(tx, found)
    return spaces.add(tx, found, name=name, use=use, state=state, now_us=now_us)
