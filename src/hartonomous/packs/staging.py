"""Staging a manifest's rows, whoever else is doing the same.

A small manifest is staged in one transaction, a large one in several under ``complete = 0``. If
another session stages the same file at the same time, one of the two wins and the other uses it.
"""

import time

from hartonomous import locks
from hartonomous.catalog import manifests, writers
from hartonomous.catalog.batches import batches
from hartonomous.catalog.database import ROWS_PER_TRANSACTION
from hartonomous.core.record import decode_pack_header
from hartonomous.errors import LockedError
from hartonomous.packs.parts import StoreParts, pack_object_key
from hartonomous.packs.steps import in_turn, remove_manifest

_WAIT_S = 600.0
_POLL_S = 0.05


def stage_manifest(
    parts: StoreParts, writer_id: int, new: manifests.NewManifest, *, mends: bool = False
) -> int:
    """Insert a manifest's rows, or find another session's; return its id, pinned.

    With ``mends`` the record takes the place of a damaged one of the same content.
    """
    deadline = time.monotonic() + _WAIT_S
    waiting = locks.Waiting("the rows of a file", lambda: "another process that adds it too")
    rows = len(new.references) + len(new.tensors) + 2
    while True:
        with parts.database.write(durable=False) as tx:
            there = manifests.by_file_digest(tx, new.file_digest)
            if there is None:
                manifest_id = manifests.begin(tx, new, now_us=parts.clock())
                writers.pin_manifest(tx, writer_id, manifest_id)
                if rows <= ROWS_PER_TRANSACTION:
                    manifests.add_references(tx, manifest_id, list(new.references.items()))
                    manifests.add_tensors(tx, manifest_id, 0, new.tensors)
                    manifests.finish(tx, manifest_id)
                    return manifest_id
            elif there.complete:
                writers.pin_manifest(tx, writer_id, there.id)
                if mends and there.digest == new.digest:
                    manifests.move(
                        tx, there.id, pack_id=new.pack_id, header_offset=new.header_offset,
                        stored_bytes=new.stored_bytes,
                    )  # fmt: skip
                return there.id
        if there is None:
            _stage_large(parts, manifest_id, new)
            return manifest_id
        _wait_or_clear(parts, there, deadline, waiting)


def _stage_large(parts: StoreParts, manifest_id: int, new: manifests.NewManifest) -> None:
    for references in batches(sorted(new.references.items())):
        with parts.database.write(durable=False) as tx:
            manifests.add_references(tx, manifest_id, references)
    first = 0
    for tensors in batches(new.tensors):
        with parts.database.write(durable=False) as tx:
            manifests.add_tensors(tx, manifest_id, first, tensors)
        first += len(tensors)
    with parts.database.write(durable=False) as tx:
        manifests.finish(tx, manifest_id)


def _wait_or_clear(
    parts: StoreParts, there: manifests.ManifestRow, deadline: float, waiting: locks.Waiting
) -> None:
    """Wait for a live session that is staging the manifest; clear a dead one's rows."""
    with parts.database.read() as tx:
        alive = [key for _, key in writers.keys(tx) if parts.writer_alive(key)]
    reader = parts.objects.open(pack_object_key(there.pack_key))
    try:
        owner = decode_pack_header(reader.read(0, 64)).writer
    finally:
        reader.close()
    if owner in alive:
        if time.monotonic() >= deadline:
            raise LockedError(
                f"another process has been adding the same file for {_WAIT_S:g} s",
                hint="end that process, or wait, and add the file again",
            )
        waiting.tell_in_time()
        time.sleep(_POLL_S)
        return
    remove_manifest(in_turn(parts.database), there.id)
