"""What a collection does to spaces: vectors of files that are no longer stored go."""

from hartonomous import locks
from hartonomous.catalog import spaces, texts
from hartonomous.errors import IntegrityError, LockedError, NotFoundError, StructureError
from hartonomous.packs.open_files import OpenFiles
from hartonomous.packs.parts import StoreParts
from hartonomous.packs.space_writer import SpaceWriter
from hartonomous.packs.vector_blocks import find_blocks
from hartonomous.packs.vector_search import drop_stray_indexes
from hartonomous.packs.vector_truth import SpaceTruth


def prune_spaces(parts: StoreParts) -> int:
    """Remove vectors whose file is gone, and write blocks anew that are mostly dead.

    A space that is being written to, or whose blocks are damaged, is left as it is; the next
    collection does it. Returns how many vectors went.
    """
    with parts.database.read() as tx:
        rows = spaces.listed(tx)
    drop_stray_indexes(parts, rows)
    if not rows:
        return 0
    count = 0
    files = OpenFiles(parts)
    try:
        find_blocks(parts, files)
        for row in rows:
            try:
                count += _prune(parts, files, row)
            except (LockedError, IntegrityError, NotFoundError, StructureError):
                continue
    finally:
        files.close()
    return count


def _prune(parts: StoreParts, files: OpenFiles, row: spaces.SpaceRow) -> int:
    path = parts.lock_path(f"space-{row.space.key}")
    with locks.held(path, what=f"the lock of the space {row.name}", timeout_s=0):
        truth = SpaceTruth(parts, files, row)
        _, places = truth.every_place()
        about = set(places.files())
        with parts.database.read() as tx:
            gone = about - texts.kept(tx, about)
        if not gone:
            return 0
        writer = SpaceWriter(parts, truth)
        count = writer.bury(truth.ids_in(gone))
        writer.merge()
        return count
