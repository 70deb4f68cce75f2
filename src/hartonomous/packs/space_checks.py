"""Compares what the catalog says of vectors with sums and blocks: the tail, lists, the dead.

The bytes of blocks are those of stored files, and are compared where those are.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from hartonomous.catalog import spaces
from hartonomous.catalog.spaces import SpaceRow
from hartonomous.errors import HartonomousError, IntegrityError
from hartonomous.packs.open_files import OpenFiles
from hartonomous.packs.parts import StoreParts
from hartonomous.packs.vector_blocks import BlockFile
from hartonomous.vectors.opening import ENGINES

Tell = Callable[[str, str, tuple[str, ...]], None]
_TOLD = 3
_ATTEMPTS = 5
_HINT = "hart repair makes its list anew"


def check_spaces(parts: StoreParts, tell: Tell, mended: Callable[[str], None] | None) -> None:
    """Tell of what is damaged in spaces, or remove what ``hart embed`` makes anew; tell ``mended``.

    Vectors that somebody brought are never removed: nothing here could make them anew.
    """
    try:
        with parts.database.read() as tx:
            rows = spaces.listed(tx)
    except IntegrityError as error:
        tell("catalog", error.message, ())
        return
    files = OpenFiles(parts)
    try:
        for row in rows:
            try:
                found, damaged_ids = _looked_at(parts, files, row)
            except IntegrityError as error:
                tell("catalog", error.message, ())
                continue
            for what in found:
                tell(f"space {row.name}", what, ())
            if damaged_ids:
                _tell_tail(parts, row, damaged_ids, tell, mended)
    finally:
        files.close()


def _looked_at(parts: StoreParts, files: OpenFiles, row: SpaceRow) -> tuple[list[str], list[Any]]:
    """Return what is wrong with a space, and which rows of its tail are damaged."""
    for _ in range(_ATTEMPTS):
        with parts.database.read() as tx:
            now = spaces.by_id(tx, row.id)
            if now is None:
                break  # removed meanwhile
            tail, damaged_ids = spaces.sound_and_damaged_tail(tx, now)
            found = list(_found(tx, parts, files, now, tail))
        with parts.database.read() as tx:
            if not found or spaces.epoch(tx, row.id) == now.epoch:
                return found, damaged_ids
    return [], []  # each time its blocks were replaced while they were looked at


def _tell_tail(
    parts: StoreParts,
    row: SpaceRow,
    ids: list[Any],
    tell: Tell,
    mended: Callable[[str], None] | None,
) -> None:
    some = ", ".join(f"{one!r:.40}" for one in ids[:_TOLD]) + (", …" if len(ids) > _TOLD else "")
    if row.use == spaces.OWN:
        hint = "hart spaces import brings them again"
        tell(f"space {row.name}", f"its vectors {some} are not what was written; {hint}", ())
    elif mended is None:
        hint = "hart verify --repair removes them, and hart embed makes them anew"
        tell(f"space {row.name}", f"its vectors {some} are not what was written; {hint}", ())
    else:
        parts.database.run(lambda tx: spaces.drop_tail(tx, row.id, ids))
        mended(f"vectors {some} of the space {row.name} (removed; hart embed makes them anew)")


def _found(
    tx: Any, parts: StoreParts, files: OpenFiles, row: SpaceRow, tail: Sequence[int]
) -> Iterator[str]:
    """Compare the space's row, its list of blocks and its dead with each other and the blocks.

    ``tail`` are the ids of the tail's rows that are sound.
    """
    if row.engine not in ENGINES or spaces.use_of(row.space) != row.use:
        yield f"the catalog says something else of it than it is; {_HINT}"
    blocks = spaces.blocks(tx, row.id)
    last = max([0, *(one.last_id for one in blocks), *tail])
    if row.next_id <= last:
        yield f"its next number is {row.next_id}, and {last} is taken; {_HINT}"
    dead = np.asarray(spaces.dead(tx, row.id), np.int64)
    is_known = np.zeros(dead.shape, bool)
    stored = {one.version_uid: one.file_digest for one in spaces.stored_blocks(tx)}
    for block in blocks:
        is_listed = stored.get(block.version_uid) == block.file_digest
        if not is_listed and (block.version_uid in stored or spaces.unseen(tx) is None):
            yield f"lists a block that is not there; {_HINT}"
        try:
            ids = BlockFile(parts, files, block.file_digest).ids() + np.int64(block.id_offset)
        except HartonomousError as error:  # told of where files are compared
            parts.database.refuse_lost(error)
            is_known |= (dead >= block.first_id) & (dead <= block.last_id)
            continue
        there = (len(ids), int(ids[0]), int(ids[-1]))
        if there != (block.row_count, block.first_id, block.last_id):
            yield f"its list says something else of a block than is in it; {_HINT}"
        is_known |= np.isin(dead, ids)
    if not is_known.all():
        yield f"counts vectors out that it does not have; {_HINT}"
